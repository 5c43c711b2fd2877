//! Tiers that count their calls and die at one of them (from then on every call fails), or stall there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use tokio::sync::Semaphore;

use pagestore::internal::meta::{
    KeyRange, LeaseId, MetaError, MetaResult, MetaStatus, MetaStore, RangeRequest, RangeResponse,
    Txn, TxnResponse, WatchStream,
};
use pagestore::internal::types::Revision;

/// What becomes of the process at its last call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It dies after the call.
    Happens,
    /// It dies before.
    DoesNot,
    /// It stalls before the call until it is told to go on.
    Stalls,
}

/// Counts down to a process's death.
#[derive(Debug)]
pub struct Life {
    calls: AtomicU64,
    dies_at: u64,
    last: Last,
    stalled: Semaphore,
    go_on: Semaphore,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    Stalls,
    DiesAfter,
    Dead,
}

impl Life {
    pub fn until(dies_at: u64, last: Last) -> Arc<Life> {
        let (stalled, go_on) = (Semaphore::new(0), Semaphore::new(0));
        Arc::new(Life { calls: AtomicU64::new(0), dies_at, last, stalled, go_on })
    }

    pub fn endless() -> Arc<Life> {
        Life::until(u64::MAX, Last::Happens)
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Waits until the process stalls.
    pub async fn stalled(&self) {
        self.stalled.acquire().await.unwrap().forget();
    }

    /// Lets the stalled process go on.
    pub fn go_on(&self) {
        self.go_on.add_permits(1);
    }

    fn is_over(&self) -> bool {
        self.last != Last::Stalls && self.calls() >= self.dies_at
    }

    async fn stall(&self) {
        self.stalled.add_permits(1);
        self.go_on.acquire().await.unwrap().forget();
    }

    fn next(&self) -> Fate {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        match call.cmp(&self.dies_at) {
            std::cmp::Ordering::Less => Fate::Lives,
            std::cmp::Ordering::Equal if self.last == Last::Stalls => Fate::Stalls,
            std::cmp::Ordering::Greater if self.last == Last::Stalls => Fate::Lives,
            std::cmp::Ordering::Equal if self.last == Last::Happens => Fate::DiesAfter,
            _ => Fate::Dead,
        }
    }
}

#[derive(Debug)]
pub struct DyingMeta {
    pub inner: Arc<dyn MetaStore>,
    pub life: Arc<Life>,
}

fn dead<T>(maybe_applied: bool) -> MetaResult<T> {
    Err(MetaError::Unavailable { message: "the process is dead".into(), maybe_applied })
}

impl DyingMeta {
    async fn call<T>(&self, call: impl Future<Output = MetaResult<T>> + Send) -> MetaResult<T> {
        match self.life.next() {
            Fate::Lives => call.await,
            Fate::Stalls => {
                self.life.stall().await;
                call.await
            }
            Fate::DiesAfter => {
                let _ = call.await;
                dead(true)
            }
            Fate::Dead => dead(false),
        }
    }
}

#[async_trait]
impl MetaStore for DyingMeta {
    async fn range(&self, request: RangeRequest) -> MetaResult<RangeResponse> {
        self.call(self.inner.range(request)).await
    }
    async fn txn(&self, txn: Txn) -> MetaResult<TxnResponse> {
        self.call(self.inner.txn(txn)).await
    }
    async fn watch(&self, keys: KeyRange, from: Revision) -> MetaResult<WatchStream> {
        if self.life.is_over() { dead(false) } else { self.inner.watch(keys, from).await }
    }
    async fn lease_grant(&self, ttl: Duration) -> MetaResult<LeaseId> {
        self.call(self.inner.lease_grant(ttl)).await
    }
    async fn lease_keep_alive(&self, lease: LeaseId) -> MetaResult<Duration> {
        // By the clock, so not counted.
        if self.life.is_over() { dead(false) } else { self.inner.lease_keep_alive(lease).await }
    }
    async fn lease_revoke(&self, lease: LeaseId) -> MetaResult<()> {
        self.call(self.inner.lease_revoke(lease)).await
    }
    async fn compact(&self, revision: Revision) -> MetaResult<()> {
        self.call(self.inner.compact(revision)).await
    }
    async fn status(&self) -> MetaResult<MetaStatus> {
        self.call(self.inner.status()).await
    }
    fn owns_history(&self) -> bool {
        self.inner.owns_history()
    }
}

#[derive(Debug)]
pub struct DyingObjects {
    pub inner: Arc<dyn ObjectStore>,
    pub life: Arc<Life>,
}

/// An error that nobody repeats the request for.
fn gone<T>() -> object_store::Result<T> {
    Err(object_store::Error::PermissionDenied { path: String::new(), source: "dead".into() })
}

impl DyingObjects {
    async fn call<T>(
        &self,
        call: impl Future<Output = object_store::Result<T>> + Send,
    ) -> object_store::Result<T> {
        match self.life.next() {
            Fate::Lives => call.await,
            Fate::Stalls => {
                self.life.stall().await;
                call.await
            }
            Fate::DiesAfter => {
                let _ = call.await;
                gone()
            }
            Fate::Dead => gone(),
        }
    }
}

impl fmt::Display for DyingObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DyingObjects")
    }
}

#[async_trait]
impl ObjectStore for DyingObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.call(self.inner.put_opts(location, payload, options)).await
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }
    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.call(self.inner.get_opts(location, options)).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        match self.life.next() {
            Fate::Lives => self.inner.delete_stream(locations),
            Fate::Stalls => {
                let (life, inner) = (self.life.clone(), self.inner.clone());
                let deletes = async move {
                    life.stall().await;
                    inner.delete_stream(locations)
                };
                stream::once(deletes).flatten().boxed()
            }
            Fate::DiesAfter => {
                let deletes = self.inner.delete_stream(locations);
                deletes.map(|_| gone()).boxed()
            }
            Fate::Dead => stream::iter([gone()]).boxed(),
        }
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.life.next() {
            Fate::Lives => self.inner.list(prefix),
            Fate::Stalls => {
                let (life, inner) = (self.life.clone(), self.inner.clone());
                let prefix = prefix.cloned();
                let list = async move {
                    life.stall().await;
                    inner.list(prefix.as_ref())
                };
                stream::once(list).flatten().boxed()
            }
            // Half of it, then the failure.
            _ => self.inner.list(prefix).take(1).chain(stream::iter([gone()])).boxed(),
        }
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.call(self.inner.list_with_delimiter(prefix)).await
    }
    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.call(self.inner.copy_opts(from, to, options)).await
    }
}
