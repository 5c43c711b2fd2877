//! The blob tier: immutable objects, created once, read in ranges, listed and deleted.
//!
//! Owns the names of objects, the retries and time limits of requests, and the wording of their
//! failures. It never looks into an object, never overwrites one, and never takes a failure for an
//! absence: an object is missing, or a listing ended, only when the store said so.

mod connect;
mod counters;
mod failure;
#[cfg(test)]
pub(crate) mod faulty;
mod list;
mod name;
mod put;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use crate::env::Env;
use crate::error::Result;
use failure::{Doing, Failure, Part};

pub use counters::BlobCounts;
pub use list::Listed;
pub use name::{InvalidObjectName, ObjectName};

/// No request is begun again once this has passed since its first attempt. Long enough for a
/// server's restart, short enough for a caller to wait.
const RETRY_SPAN: Duration = Duration::from_secs(30);
/// Attempts at one request, on top of what the S3 client repeats by itself.
const ATTEMPTS: u32 = 4;
/// Pause after the first failed attempt; each further one is three times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// One attempt at anything but a creation: at most a few MiB move.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// One attempt at a creation: a file of 256 MiB passes at 2 MiB/s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(128);

/// A place for immutable objects; clone it freely.
#[derive(Clone)]
pub struct BlobStore {
    objects: Arc<dyn ObjectStore>,
    place: Arc<str>,
    /// Where the objects are files, for a directory that vanishes lists as empty.
    directory: Option<Arc<FilePath>>,
    env: Env,
    counters: Arc<counters::Counters>,
}

impl BlobStore {
    /// Over `objects`; `place` says in errors where they are.
    pub fn new(objects: Arc<dyn ObjectStore>, place: impl Into<Arc<str>>, env: Env) -> BlobStore {
        BlobStore { objects, place: place.into(), directory: None, env, counters: Arc::default() }
    }

    fn in_directory(mut self, path: PathBuf) -> BlobStore {
        self.directory = Some(path.into());
        self
    }

    /// True when the objects are files of a directory, whose writes end with who made them.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.directory.is_some()
    }

    /// The URL it was connected with.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Clock and tasks of whoever reads from it.
    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    /// What has been asked of it so far, by all clones of this store.
    #[must_use]
    pub fn counts(&self) -> BlobCounts {
        self.counters.snapshot()
    }

    /// The bytes `range` of an object: all of them, or an error.
    ///
    /// # Errors
    /// `NotFound` when the object is not there, `Corrupt` when it ends before the range does,
    /// `Unavailable` when the store does not answer, or answers in part.
    pub async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let result = self.retry(READ_TIMEOUT, || self.try_get(name, range.clone())).await;
        let failure = match result {
            Ok(bytes) => return Ok(bytes),
            Err(failure) => failure,
        };
        let failure = self.explained_by_length(name, &range, failure).await;
        Err(failure.into_error(&self.doing("reading", Part(name, range))))
    }

    async fn try_get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Failure> {
        self.counters.gets.add(1);
        let wanted = range.end - range.start;
        let options =
            GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let answer = self.objects.get_opts(&name.path(), options).await?;
        let object_bytes = answer.meta.size;
        if object_bytes < range.end {
            return Err(Failure::ShortObject { bytes: object_bytes });
        }
        let bytes = answer.bytes().await?;
        let got = bytes.len() as u64;
        self.counters.bytes_in.add(got);
        if got == wanted { Ok(bytes) } else { Err(Failure::ShortBody { wanted, got }) }
    }

    /// A range that begins past the end of an object is refused like any bad request; only the
    /// object's length tells.
    async fn explained_by_length(
        &self,
        name: &ObjectName,
        range: &Range<u64>,
        failure: Failure,
    ) -> Failure {
        if !matches!(failure, Failure::Store(object_store::Error::Generic { .. })) {
            return failure;
        }
        match self.env.within(READ_TIMEOUT, self.try_head(name)).await {
            Some(Ok(bytes)) if bytes < range.end => Failure::ShortObject { bytes },
            _ => failure,
        }
    }

    /// The length of an object in bytes.
    ///
    /// # Errors
    /// `NotFound` when it is not there, `Unavailable` when the store does not answer.
    pub async fn head(&self, name: &ObjectName) -> Result<u64> {
        self.retry(READ_TIMEOUT, || self.try_head(name))
            .await
            .map_err(|failure| failure.into_error(&self.doing("looking up", name)))
    }

    async fn try_head(&self, name: &ObjectName) -> Result<u64, Failure> {
        self.counters.heads.add(1);
        Ok(self.objects.head(&name.path()).await?.size)
    }

    /// Deletes an object; one that is not there counts as deleted.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer or does not allow it.
    pub async fn delete(&self, name: &ObjectName) -> Result<()> {
        let result = self
            .retry(READ_TIMEOUT, || async {
                self.counters.deletes.add(1);
                Ok(self.objects.delete(&name.path()).await?)
            })
            .await;
        match result {
            Err(failure) if failure.is_missing_object() => Ok(()),
            result => result.map_err(|failure| failure.into_error(&self.doing("deleting", name))),
        }
    }

    fn doing<T>(&self, verb: &'static str, object: T) -> Doing<'_, T> {
        Doing { verb, place: &self.place, object }
    }

    /// Runs `attempt` until it succeeds, fails for good, or runs out of attempts or time.
    async fn retry<T, F>(
        &self,
        limit: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let start = self.env.now();
        let mut pause = FIRST_PAUSE;
        let mut made = 1;
        loop {
            let result = self.env.within(limit, attempt()).await;
            let result = result.unwrap_or(Err(Failure::TimedOut(limit)));
            match result {
                Err(failure)
                    if failure.is_transient()
                        && made < ATTEMPTS
                        && self.env.now() - start < RETRY_SPAN =>
                {
                    tracing::debug!(?failure, made, place = &*self.place, "blob request failed");
                    self.env.sleep(self.env.jittered(pause)).await;
                    pause *= 3;
                    made += 1;
                }
                result => return result,
            }
        }
    }
}

impl fmt::Debug for BlobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStore").field("place", &self.place).finish_non_exhaustive()
    }
}
