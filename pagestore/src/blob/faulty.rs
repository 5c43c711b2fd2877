//! For tests: an object store in memory that fails as told.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing: lets a request through.
    None,
    /// A 500: nothing happens.
    ServerError,
    /// A 403.
    Denied,
    /// A 404.
    NotFound,
    /// A 404 that blames the bucket.
    NoBucket,
    /// The request is carried out, then answered with a 500.
    LostAnswer,
    /// No answer, ever.
    Hang,
    /// Nothing, once [`Faulty::go_on`] says so.
    Wait,
    /// The body ends after so many bytes.
    ShortBody(usize),
    /// One byte of the body, at this index, is another.
    WrongByte(usize),
}

/// Faults hit requests (reads, creations, deletions, listings) in the order they were planned.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    pub(crate) inner: InMemory,
    plan: Mutex<VecDeque<Fault>>,
    /// Lets one request that waits go on.
    pub(crate) go_on: tokio::sync::Notify,
    latency: Duration,
    ignores_create: bool,
}

impl Faulty {
    /// Every read and creation takes this long.
    pub(crate) fn slow(latency: Duration) -> Faulty {
        Faulty { latency, ..Faulty::default() }
    }

    /// Creates overwrite, as on a store that does not know the condition.
    pub(crate) fn careless() -> Faulty {
        Faulty { ignores_create: true, ..Faulty::default() }
    }

    /// What the next requests get, in place of what was planned before.
    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.plan.lock().unwrap() = faults.into_iter().collect();
    }

    async fn next(&self) -> Result<Fault> {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let fault = self.plan.lock().unwrap().pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::ServerError => Err(generic()),
            Fault::Denied => {
                Err(Error::PermissionDenied { path: String::new(), source: "403".into() })
            }
            Fault::NotFound => Err(Error::NotFound { path: String::new(), source: "404".into() }),
            Fault::NoBucket => {
                Err(Error::NotFound { path: String::new(), source: "404: NoSuchBucket".into() })
            }
            Fault::Hang => std::future::pending().await,
            Fault::Wait => {
                self.go_on.notified().await;
                Ok(Fault::None)
            }
            other => Ok(other),
        }
    }
}

fn generic() -> Error {
    Error::Generic { store: "faulty", source: "500".into() }
}

fn lose<T>(fault: Fault, answer: T) -> Result<T> {
    if matches!(fault, Fault::LostAnswer) { Err(generic()) } else { Ok(answer) }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.next().await?;
        if self.ignores_create {
            options.mode = PutMode::Overwrite;
        }
        lose(fault, self.inner.put_opts(location, payload, options).await?)
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: "Faulty".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.next().await?;
        let answer = self.inner.get_opts(location, options).await?;
        let (meta, range, attributes) =
            (answer.meta.clone(), answer.range.clone(), answer.attributes.clone());
        let extensions = answer.extensions.clone();
        let mut body = answer.bytes().await?.to_vec();
        match fault {
            Fault::ShortBody(len) => body.truncate(len),
            Fault::WrongByte(at) => body[at] ^= 0x40,
            _ => {}
        }
        let body = stream::iter([Ok(Bytes::from(body))]).boxed();
        let payload = GetResultPayload::Stream(body);
        lose(fault, GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let fault = self.plan.lock().unwrap().pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => self.inner.delete_stream(locations),
            _ => stream::iter([Err(generic())]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let fault = self.plan.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let all = self.inner.list(prefix);
        match fault {
            Fault::None => all,
            // Half of it, then the failure.
            _ => all.take(1).chain(stream::iter([Err(generic())])).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.next().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// So that a test keeps a hand on the store it gave away.
pub(crate) fn store(faulty: &Arc<Faulty>) -> super::BlobStore {
    super::BlobStore::new(faulty.clone(), "memory:", crate::env::Env::seeded(1))
}
