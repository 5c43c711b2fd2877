//! Listings: what is there, or an error; never a failure disguised as an empty list.

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::failure::Failure;
use super::{BlobStore, ObjectName, READ_TIMEOUT, RETRY_SPAN};
use crate::error::{Error, Result};
use crate::types::VolumeId;

/// Names that a store gives in one answer.
const NAMES_A_REQUEST: u64 = 1000;

/// One object of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its length.
    pub bytes: u64,
}

struct Listing {
    store: BlobStore,
    volume: VolumeId,
    objects: BoxStream<'static, object_store::Result<ObjectMeta>>,
    seen: u64,
}

impl BlobStore {
    /// The objects of a volume, in no order, a page of names in memory at a time. Whatever does
    /// not bear the name of a file is passed over.
    ///
    /// An `Err` ends the listing; what came before it is not the whole.
    pub fn list(&self, volume: VolumeId) -> BoxStream<'static, Result<Listed>> {
        let listing = Listing {
            store: self.clone(),
            volume,
            objects: self.objects.list(Some(&Path::from(volume.to_string()))),
            seen: 0,
        };
        stream::once(async move {
            listing.store.check_directory().await?;
            Ok::<_, Error>(stream::try_unfold(listing, |mut listing| async move {
                Ok(listing.next().await?.map(|listed| (listed, listing)))
            }))
        })
        .try_flatten()
        .boxed()
    }

    /// The volumes that have objects, or had: of a directory, emptied folders are named too.
    ///
    /// # Errors
    /// `NotFound` when the bucket or directory is not there, `Unavailable` when the store does not
    /// answer.
    pub async fn list_volumes(&self) -> Result<Vec<VolumeId>> {
        self.check_directory().await?;
        let listed = self
            .retry(READ_TIMEOUT, || async {
                self.counters.lists.add(1);
                Ok(self.objects.list_with_delimiter(None).await?)
            })
            .await
            .map_err(|failure| failure.into_error(&self.doing("listing", "the volumes")))?;
        let is_volume =
            |name: &str| name.parse::<VolumeId>().ok().filter(|volume| volume.to_string() == name);
        Ok(listed.common_prefixes.iter().filter_map(|prefix| is_volume(prefix.as_ref())).collect())
    }

    /// A directory that is gone, or not mounted, would list as empty.
    async fn check_directory(&self) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        match tokio::fs::metadata(directory).await {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(Error::not_found(format!("not a directory: {}", directory.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("no such directory: {}", directory.display())))
            }
            Err(error) => Err(Error::unavailable(format!(
                "the directory for blobs cannot be read: {}",
                directory.display()
            ))
            .with_source(error)),
        }
    }
}

impl Listing {
    async fn next(&mut self) -> Result<Option<Listed>> {
        // The client repeats a failed page by itself, for as long as RETRY_SPAN.
        let limit = READ_TIMEOUT + RETRY_SPAN;
        loop {
            let found = self.store.env.within(limit, self.objects.next()).await;
            if self.seen.is_multiple_of(NAMES_A_REQUEST) {
                self.store.counters.lists.add(1);
            }
            let meta = match found {
                Some(None) => return Ok(None),
                Some(Some(Ok(meta))) => meta,
                Some(Some(Err(_))) if planted!(BrokenListing) => return Ok(None),
                Some(Some(Err(error))) => return Err(self.failed(error.into())),
                None => return Err(self.failed(Failure::TimedOut(limit))),
            };
            self.seen += 1;
            match meta.location.as_ref().parse() {
                Ok(name) => return Ok(Some(Listed { name, bytes: meta.size })),
                Err(_) => tracing::debug!(name = %meta.location, "passed over: not a file's name"),
            }
        }
    }

    fn failed(&self, failure: Failure) -> Error {
        failure.into_error(&self.store.doing("listing", format_args!("volume {}", self.volume)))
    }
}
