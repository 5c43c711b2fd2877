//! Stores to run a test on: embedded, and etcd with an S3-compatible server.

use std::net::SocketAddr;

use pagestore::internal::connect::{self, Tiers};
use pagestore::internal::env::Env;
use pagestore::{Store, StoreOptions};
use tempfile::TempDir;

use super::{EtcdServer, MotoServer, RgwServer, S3};

/// Root in the meta tier, and prefix in the bucket.
const ROOT: &str = "test";

/// Where a store under test lives; its servers stop when this is dropped.
#[derive(Debug)]
pub enum TestStore {
    /// One directory.
    Embedded(TempDir),
    /// A real etcd, and a real S3-compatible server that is quick to start.
    Servers(Box<(EtcdServer, MotoServer)>),
    /// A real etcd, and an S3-compatible server that outlives a crash.
    Gateway(Box<(EtcdServer, RgwServer)>),
    /// A real etcd, and blobs in a directory.
    Files(Box<(EtcdServer, TempDir)>),
}

impl TestStore {
    /// An embedded store.
    #[must_use]
    pub fn embedded() -> TestStore {
        TestStore::Embedded(directory())
    }

    /// A store on servers of its own.
    #[must_use]
    pub fn servers() -> TestStore {
        TestStore::Servers(Box::new((EtcdServer::start(), MotoServer::start())))
    }

    /// A store on servers of its own, of which none forgets anything.
    #[must_use]
    pub fn gateway() -> TestStore {
        TestStore::Gateway(Box::new((EtcdServer::start(), RgwServer::start_durable())))
    }

    /// A store on an etcd of its own, with blobs in a directory.
    #[must_use]
    pub fn files() -> TestStore {
        TestStore::Files(Box::new((EtcdServer::start(), directory())))
    }

    /// What other processes open it by, with the variables of [`TestStore::vars`].
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            TestStore::Embedded(dir) => text(dir),
            TestStore::Servers(servers) => etcd_url(&servers.0, &servers.1.s3().url(ROOT)),
            TestStore::Gateway(servers) => etcd_url(&servers.0, &servers.1.s3().url(ROOT)),
            TestStore::Files(servers) => etcd_url(&servers.0, &file_url(&servers.1)),
        }
    }

    /// The variables by which other processes find it.
    #[must_use]
    pub fn vars(&self) -> Vec<(&'static str, String)> {
        self.s3().map(|s3| s3.env().to_vec()).unwrap_or_default()
    }

    /// The S3 server, if there is one.
    #[must_use]
    pub fn s3(&self) -> Option<&S3> {
        match self {
            TestStore::Servers(servers) => Some(servers.1.s3()),
            TestStore::Gateway(servers) => Some(servers.1.s3()),
            TestStore::Embedded(_) | TestStore::Files(_) => None,
        }
    }

    /// Where its etcd is, if there is one.
    #[must_use]
    pub fn etcd_address(&self) -> Option<SocketAddr> {
        match self {
            TestStore::Embedded(_) => None,
            TestStore::Servers(servers) => Some(servers.0.address()),
            TestStore::Gateway(servers) => Some(servers.0.address()),
            TestStore::Files(servers) => Some(servers.0.address()),
        }
    }

    /// The gateway, if there is one.
    pub fn gateway_server(&mut self) -> Option<&mut RgwServer> {
        match self {
            TestStore::Gateway(servers) => Some(&mut servers.1),
            _ => None,
        }
    }

    /// The etcd, if there is one.
    pub fn etcd(&mut self) -> Option<&mut EtcdServer> {
        match self {
            TestStore::Embedded(_) => None,
            TestStore::Servers(servers) => Some(&mut servers.0),
            TestStore::Gateway(servers) => Some(&mut servers.0),
            TestStore::Files(servers) => Some(&mut servers.0),
        }
    }

    /// The two tiers, connected anew, as another process would have them.
    pub async fn tiers(&self) -> Tiers {
        self.tiers_through(Way::default()).await.expect("a store")
    }

    /// As [`TestStore::tiers`], by another way.
    ///
    /// # Errors
    /// As of [`connect::connect`].
    pub async fn tiers_through(&self, way: Way) -> pagestore::Result<Tiers> {
        let env = Env::system();
        let mut url = self.url();
        if let (Some(etcd), Some(other)) = (self.etcd_address(), way.etcd) {
            url = url.replace(&etcd.to_string(), &other.to_string());
        }
        let Some(s3) = self.s3() else {
            return connect::connect(&url, &env).await;
        };
        // A test has no variables of its own for the S3 server, as a process has.
        let unused = directory();
        let (etcd, _) = url.rsplit_once("blobs=").expect("it names its blobs");
        let url = format!("{etcd}blobs={}", file_url(&unused));
        let tiers = connect::connect(&url, &env).await?;
        let s3 = s3.through(way.s3.unwrap_or(s3.address));
        Ok(Tiers { blobs: s3.blobs(ROOT), ..tiers })
    }

    /// The store, opened anew, as another process would have it.
    pub async fn open(&self) -> Store {
        self.open_with(StoreOptions::default()).await
    }

    /// As [`TestStore::open`], with options.
    pub async fn open_with(&self, options: StoreOptions) -> Store {
        Store::over(self.tiers().await, options, Env::system()).await.expect("a store")
    }

    /// As [`TestStore::open`], by another way.
    ///
    /// # Errors
    /// As of `Store::open`.
    pub async fn open_through(&self, way: Way) -> pagestore::Result<Store> {
        let tiers = self.tiers_through(way).await?;
        Store::over(tiers, StoreOptions::default(), Env::system()).await
    }
}

/// A way to a store's servers that is not the direct one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// What stands in front of etcd.
    pub etcd: Option<SocketAddr>,
    /// What stands in front of the S3 server.
    pub s3: Option<SocketAddr>,
}

fn etcd_url(etcd: &EtcdServer, blobs: &str) -> String {
    format!("etcd://{}/{ROOT}?blobs={blobs}", etcd.address())
}

fn file_url(dir: &TempDir) -> String {
    format!("file://{}", text(dir))
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn text(dir: &TempDir) -> String {
    dir.path().to_str().expect("a path of text").to_owned()
}
