//! Real servers for tests, on loopback and free ports, gone when their value is dropped.
//!
//! Must never outlive the test process, even when that is killed, nor touch a process it did not start.

mod etcd;
mod http;
mod http_proxy;
mod moto;
mod port;
mod process;
mod proxy;
mod rgw;
mod s3;
mod seed;
mod spawner;
mod stores;
mod tls;

pub use etcd::{EtcdCluster, EtcdServer};
pub use http_proxy::{HttpFault, HttpProxy};
pub use moto::MotoServer;
pub use process::{Process, StartError};
pub use proxy::{Fault, Proxy};
pub use rgw::RgwServer;
pub use s3::S3;
pub use seed::{Seed, seed};
pub use stores::{TestStore, Way};
pub use tls::TlsFiles;

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a server may take to be ready: many times what it takes on a quiet machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at whether something has come true.
const POLL: Duration = Duration::from_millis(20);
/// So many times a server is started on other ports when somebody took the ones chosen.
const START_ATTEMPTS: usize = 5;

/// Waits until `done` gives something, looking again and again; `None` when `limit` has passed.
pub fn wait_for<T>(limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = done() {
            return Some(found);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// The program `name` where `./dev.sh setup` puts what the system lacks, or else wherever it is.
fn installed(name: &str) -> OsString {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin").join(name);
    if own.exists() { own.into() } else { name.into() }
}

/// Starts a server with `start`, again on other ports when those chosen were taken meanwhile.
fn start_on_free_ports<T>(start: impl Fn() -> Result<T, StartError>) -> T {
    for _ in 1..START_ATTEMPTS {
        match start() {
            Ok(server) => return server,
            Err(error) if error.port_was_taken() => {}
            Err(error) => panic!("{error}"),
        }
    }
    start().unwrap_or_else(|error| panic!("{error}"))
}
