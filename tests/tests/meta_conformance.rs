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

macro_rules! on_embedded {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod embedded {
            use pagestore::internal::meta::embedded::EmbeddedStore;

            $(
                #[tokio::test]
                async fn $case() {
                    let dir = tempfile::tempdir().unwrap();
                    let env = pagestore::Env::system();
                    let store = EmbeddedStore::open(dir.path(), &env).unwrap();
                    super::conformance::$module::$case(store).await;
                }
            )*
        }
    };
}

for_each_case!(on_embedded);
