//! The simulated etcd does what the trait promises, and what the embedded backend does.

use std::sync::Arc;

use pagestore::Env;
use pagestore::internal::meta::MetaStore;
use pagestore::internal::meta::embedded::EmbeddedStore;
use pagestore_sim::etcd::Etcd;
use pagestore_tests::differential::Pair;
use pagestore_tests::harness::seed;
use pagestore_tests::{conformance, for_each_case};

/// Requests sent to both.
const REQUESTS: usize = 30_000;

macro_rules! on_simulated {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod conforms {
            $(
                #[tokio::test]
                async fn $case() {
                    let etcd = super::Etcd::new(pagestore::Env::seeded(1));
                    super::conformance::$module::$case(etcd.client(None)).await;
                }
            )*
        }
    };
}

for_each_case!(on_simulated);

#[tokio::test(flavor = "multi_thread")]
async fn simulated_and_embedded_answer_alike() {
    let seed = seed();
    let dir = tempfile::TempDir::new().unwrap();
    let simulated: Arc<dyn MetaStore> = Etcd::new(Env::system()).client(None);
    let embedded = EmbeddedStore::open(dir.path(), &Env::system()).unwrap();
    Pair::new([simulated, embedded], seed).run(REQUESTS).await;
}
