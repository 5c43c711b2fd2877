//! Create-only PUTs, and the probe that a store honours them.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutPayload};

use super::failure::Failure;
use super::{BlobStore, ObjectName, READ_TIMEOUT, WRITE_TIMEOUT};
use crate::error::{Error, ErrorKind, Result};

/// Bytes read back at a time when a create finds its name taken.
const COMPARE_BYTES: usize = 8 << 20;
/// Rounds of "the name is taken, yet nothing is there": a store that is still settling two
/// attempts at one create.
pub(super) const CREATE_ROUNDS: usize = 3;

impl BlobStore {
    /// Creates an object of `chunks`, one after the other. Complete when this returns; never seen
    /// in part.
    ///
    /// The S3 client repeats a request after a lost answer, so a create that landed may be refused
    /// as taken. Then the object is read back, and counts as created when it has this content.
    ///
    /// # Errors
    /// `AlreadyExists` when another object has the name, `NotFound` when the bucket is not there,
    /// `Unavailable` when the store does not answer: then the object may or may not be there, or
    /// come to be there later.
    pub async fn put_create(&self, name: &ObjectName, chunks: Vec<Bytes>) -> Result<()> {
        let path = name.path();
        let payload = PutPayload::from_iter(chunks.iter().cloned());
        for round in 1.. {
            let created = self.retry(WRITE_TIMEOUT, || self.try_create(&path, &payload)).await;
            let failure = match created {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if failure.is_taken() {
                match self.holds(name, &chunks).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound && round < CREATE_ROUNDS => {
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        let why = "the name is taken, yet nothing is found there";
                        return Err(Error::unavailable(why).context(self.doing("creating", name)));
                    }
                    // It may well be this one.
                    Err(error) => return Err(error),
                }
            }
            return Err(failure.into_error(&self.doing("creating", name)));
        }
        unreachable!("BUG: the last round returns")
    }

    async fn try_create(&self, path: &Path, payload: &PutPayload) -> Result<(), Failure> {
        self.counters.puts.add(1);
        self.counters.bytes_out.add(payload.content_length() as u64);
        self.objects.put_opts(path, payload.clone(), PutMode::Create.into()).await?;
        Ok(())
    }

    /// True when the object `name` consists of exactly `chunks`.
    async fn holds(&self, name: &ObjectName, chunks: &[Bytes]) -> Result<bool> {
        let total: usize = chunks.iter().map(Bytes::len).sum();
        if self.head(name).await? != total as u64 {
            return Ok(false);
        }
        let mut offset = 0u64;
        for chunk in chunks {
            for expected in chunk.chunks(COMPARE_BYTES) {
                let end = offset + expected.len() as u64;
                if self.get_range(name, offset..end).await? != expected {
                    return Ok(false);
                }
                offset = end;
            }
        }
        Ok(true)
    }

    /// Checks that the store refuses a second creation of one name. To be asked once before
    /// writing: on a store that does not, a delayed attempt could replace a file in use.
    ///
    /// # Errors
    /// `Invalid` when the store ignores the condition, `NotFound` when the bucket is not there,
    /// `Unavailable` when it does not answer.
    pub async fn probe_create_only(&self) -> Result<()> {
        let path = Path::from(format!("probe-{}", self.env.file_id()));
        let result = self.probe(&path).await;
        // Left behind when this fails: a few bytes outside every volume.
        self.counters.deletes.add(1);
        let deleted = self.env.within(READ_TIMEOUT, self.objects.delete(&path)).await;
        if !matches!(deleted, Some(Ok(()))) {
            tracing::debug!(%path, place = &*self.place, "the probe's object stays behind");
        }
        result
    }

    async fn probe(&self, path: &Path) -> Result<()> {
        let create = |content: &'static [u8]| async move {
            let payload = PutPayload::from_static(content);
            self.retry(READ_TIMEOUT, || self.try_create(path, &payload)).await
        };
        match create(b"first").await {
            Ok(()) => {}
            // A name used once: only an earlier attempt of this very request can have taken it.
            Err(failure) if failure.is_taken() => return Ok(()),
            Err(failure) => {
                return Err(failure.into_error(&self.doing("creating", format!("probe {path}"))));
            }
        }
        match create(b"second").await {
            Err(failure) if failure.is_taken() => Ok(()),
            Ok(()) => Err(Error::invalid(format!(
                "the blob store ignores the condition of a create-only PUT (If-None-Match: *), so a \
                 file in use could be overwritten; use a store that honours it: {}",
                self.place
            ))),
            Err(failure) => {
                Err(failure.into_error(&self.doing("creating again", format!("probe {path}"))))
            }
        }
    }
}
