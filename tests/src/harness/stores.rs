//! Stores to run a test on: embedded, and etcd with an S3-compatible server.

use pagestore::internal::connect::{self, Tiers};
use pagestore::internal::env::Env;
use pagestore::{Store, StoreOptions};
use tempfile::TempDir;

use super::{EtcdServer, MotoServer};

/// Where a store under test lives; its servers stop when this is dropped.
#[derive(Debug)]
pub enum TestStore {
    /// One directory.
    Embedded(TempDir),
    /// A real etcd, and a real S3-compatible server.
    Servers(Box<(EtcdServer, MotoServer)>),
}

impl TestStore {
    /// An embedded store.
    #[must_use]
    pub fn embedded() -> TestStore {
        TestStore::Embedded(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A store on servers of its own.
    #[must_use]
    pub fn servers() -> TestStore {
        TestStore::Servers(Box::new((EtcdServer::start(), MotoServer::start())))
    }

    /// The two tiers, connected anew, as another process would have them.
    pub async fn tiers(&self) -> Tiers {
        let env = Env::system();
        match self {
            TestStore::Embedded(directory) => {
                let url = directory.path().to_str().expect("a path of text");
                connect::connect(url, &env).await.expect("an embedded store")
            }
            TestStore::Servers(servers) => {
                let (etcd, moto) = servers.as_ref();
                let local = tempfile::tempdir().expect("a temporary directory");
                let url = format!(
                    "etcd://{}/test?blobs=file://{}",
                    etcd.address(),
                    local.path().display()
                );
                let tiers = connect::connect(&url, &env).await.expect("a store on servers");
                Tiers { blobs: moto.s3().blobs("test"), ..tiers }
            }
        }
    }

    /// The store, opened anew, as another process would have it.
    pub async fn open(&self) -> Store {
        self.open_with(StoreOptions::default()).await
    }

    /// As [`TestStore::open`], with options.
    pub async fn open_with(&self, options: StoreOptions) -> Store {
        Store::over(self.tiers().await, options, Env::system()).await.expect("a store")
    }
}
