//! Every backend of the meta tier does what the trait promises.

use pagestore_tests::{conformance, for_each_case};

macro_rules! on_etcd {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod etcd {
            $(
                #[tokio::test]
                async fn $case() {
                    let server = pagestore_tests::harness::EtcdServer::start();
                    super::conformance::$module::$case(server.connect().await).await;
                }
            )*
        }
    };
}
for_each_case!(on_etcd);
