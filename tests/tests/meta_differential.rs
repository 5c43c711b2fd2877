//! Nothing tells the embedded meta tier from a real etcd.

use std::sync::Arc;

use pagestore::internal::env::Env;
use pagestore::internal::meta::MetaStore;
use pagestore::internal::meta::embedded::EmbeddedStore;
use pagestore_tests::differential::Pair;
use pagestore_tests::harness::{EtcdServer, seed};

/// Requests sent to both.
const REQUESTS: usize = 50_000;

#[tokio::test(flavor = "multi_thread")]
async fn embedded_and_etcd_answer_alike() {
    let seed = seed();
    let server = EtcdServer::start();
    let dir = tempfile::TempDir::new().unwrap();
    let etcd: Arc<dyn MetaStore> = server.connect().await;
    let embedded = EmbeddedStore::open(dir.path(), &Env::system()).unwrap();
    Pair::new([etcd, embedded], seed).run(REQUESTS).await;
}
