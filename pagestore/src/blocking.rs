//! The same for callers without async: every call blocks its thread.
//!
//! A [`Store`] owns a small runtime that its watches and leases run on. Must not be called from
//! within an async runtime: it would block one of its threads, and tokio refuses that by panicking.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Runtime;

use crate::commit::{Committed, Resolution};
use crate::config::StoreOptions;
use crate::error::{CommitToken, Error, Result};
use crate::store::{VolumeInfo, VolumeOptions};
use crate::types::{PageCount, PageNo, PageSize, Revision};

/// Threads of a store's runtime: its own tasks wait far more than they work.
const THREADS: usize = 2;

/// [`crate::Store`], blocking.
#[derive(Clone, Debug)]
pub struct Store {
    runtime: Arc<Runtime>,
    inner: crate::Store,
}

impl Store {
    /// See [`crate::Store::open`].
    ///
    /// # Errors
    /// As there; `Unavailable` when no thread can be made.
    pub fn open(url: &str) -> Result<Store> {
        Store::open_with(url, StoreOptions::default())
    }

    /// See [`crate::Store::open_with`].
    ///
    /// # Errors
    /// As there; `Unavailable` when no thread can be made.
    pub fn open_with(url: &str, options: StoreOptions) -> Result<Store> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("pagestore")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::unavailable("cannot start the threads of a store").with_source(error)
            })?;
        let inner = runtime.block_on(crate::Store::open_with(url, options))?;
        Ok(Store { runtime: Arc::new(runtime), inner })
    }

    /// See [`crate::Store::create_volume`].
    ///
    /// # Errors
    /// As there.
    pub fn create_volume(&self, name: &str, options: VolumeOptions) -> Result<Volume> {
        let inner = self.runtime.block_on(self.inner.create_volume(name, options))?;
        Ok(Volume { runtime: self.runtime.clone(), inner })
    }

    /// See [`crate::Store::open_volume`].
    ///
    /// # Errors
    /// As there.
    pub fn open_volume(&self, name: &str) -> Result<Volume> {
        let inner = self.runtime.block_on(self.inner.open_volume(name))?;
        Ok(Volume { runtime: self.runtime.clone(), inner })
    }

    /// See [`crate::Store::open_or_create_volume`].
    ///
    /// # Errors
    /// As there.
    pub fn open_or_create_volume(&self, name: &str, options: VolumeOptions) -> Result<Volume> {
        let inner = self.runtime.block_on(self.inner.open_or_create_volume(name, options))?;
        Ok(Volume { runtime: self.runtime.clone(), inner })
    }

    /// See [`crate::Store::volumes`].
    ///
    /// # Errors
    /// As there.
    pub fn volumes(&self) -> Result<Vec<VolumeInfo>> {
        self.runtime.block_on(self.inner.volumes())
    }

    /// See [`crate::Store::delete_volume`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_volume(&self, name: &str) -> Result<()> {
        self.runtime.block_on(self.inner.delete_volume(name))
    }
}

/// [`crate::Volume`], blocking.
#[derive(Clone, Debug)]
pub struct Volume {
    runtime: Arc<Runtime>,
    inner: crate::Volume,
}

impl Volume {
    /// See [`crate::Volume::page_size`].
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }

    /// See [`crate::Volume::snapshot`].
    ///
    /// # Errors
    /// As there.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let inner = self.runtime.block_on(self.inner.snapshot())?;
        Ok(Snapshot { runtime: self.runtime.clone(), inner })
    }

    /// See [`crate::Volume::snapshot_stale`].
    ///
    /// # Errors
    /// As there.
    pub fn snapshot_stale(&self) -> Result<Snapshot> {
        let inner = self.runtime.block_on(self.inner.snapshot_stale())?;
        Ok(Snapshot { runtime: self.runtime.clone(), inner })
    }

    /// See [`crate::Volume::snapshot_at`].
    ///
    /// # Errors
    /// As there.
    pub fn snapshot_at(&self, revision: Revision) -> Result<Snapshot> {
        let inner = self.runtime.block_on(self.inner.snapshot_at(revision))?;
        Ok(Snapshot { runtime: self.runtime.clone(), inner })
    }

    /// See [`crate::Volume::begin`].
    ///
    /// # Errors
    /// As there.
    pub fn begin(&self) -> Result<Transaction> {
        let inner = self.runtime.block_on(self.inner.begin())?;
        Ok(Transaction { runtime: self.runtime.clone(), inner })
    }

    /// See [`crate::Volume::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, token: CommitToken) -> Result<Resolution> {
        self.runtime.block_on(self.inner.resolve(token))
    }
}

/// [`crate::Snapshot`], blocking.
#[derive(Clone, Debug)]
pub struct Snapshot {
    runtime: Arc<Runtime>,
    inner: crate::Snapshot,
}

impl Snapshot {
    /// See [`crate::Snapshot::revision`].
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.inner.revision()
    }

    /// See [`crate::Snapshot::page_count`].
    #[must_use]
    pub fn page_count(&self) -> PageCount {
        self.inner.page_count()
    }

    /// See [`crate::Snapshot::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, page: PageNo) -> Result<Bytes> {
        self.runtime.block_on(self.inner.read(page))
    }
}

/// [`crate::Transaction`], blocking.
#[derive(Debug)]
pub struct Transaction {
    runtime: Arc<Runtime>,
    inner: crate::Transaction,
}

impl Transaction {
    /// See [`crate::Transaction::revision`].
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.inner.revision()
    }

    /// See [`crate::Transaction::page_count`].
    pub fn page_count(&mut self) -> PageCount {
        self.inner.page_count()
    }

    /// See [`crate::Transaction::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&mut self, page: PageNo) -> Result<Bytes> {
        self.runtime.block_on(self.inner.read(page))
    }

    /// See [`crate::Transaction::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&mut self, page: PageNo, content: impl Into<Bytes>) -> Result<()> {
        self.inner.write(page, content)
    }

    /// See [`crate::Transaction::truncate`].
    pub fn truncate(&mut self, count: PageCount) {
        self.inner.truncate(count);
    }

    /// See [`crate::Transaction::commit`].
    ///
    /// # Errors
    /// As there.
    pub fn commit(self) -> Result<Committed> {
        self.runtime.block_on(self.inner.commit())
    }
}

/// See [`crate::begin_all`].
///
/// # Errors
/// As there.
pub fn begin_all(volumes: &[Volume]) -> Result<Vec<Transaction>> {
    let Some(first) = volumes.first() else {
        return Err(Error::invalid("no volume to begin a transaction on"));
    };
    let inner: Vec<crate::Volume> = volumes.iter().map(|volume| volume.inner.clone()).collect();
    let begun = first.runtime.block_on(crate::begin_all(&inner))?;
    Ok(begun
        .into_iter()
        .map(|inner| Transaction { runtime: first.runtime.clone(), inner })
        .collect())
}

/// See [`crate::commit_all`].
///
/// # Errors
/// As there.
pub fn commit_all(transactions: Vec<Transaction>) -> Result<Committed> {
    let Some(runtime) = transactions.first().map(|first| first.runtime.clone()) else {
        return Err(Error::invalid("no transaction to commit"));
    };
    runtime.block_on(crate::commit_all(
        transactions.into_iter().map(|transaction| transaction.inner).collect(),
    ))
}
