//! What tests run as processes of their own, so that they can be killed, frozen and measured. The one
//! argument says what to do, in JSON.

use pagestore_tests::worker::{Role, run};

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let argument = std::env::args().nth(1).expect("a role");
    let role: Role = serde_json::from_str(&argument).expect("a role in JSON");
    run(role).await;
}
