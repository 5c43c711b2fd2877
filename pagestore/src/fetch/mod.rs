//! Reading files: tails, indexes and pages through the caches, as few requests as the way of reading
//! allows.
//!
//! Owns when and how much is fetched. It never decides which file holds a page (that is the levels'
//! work), and never hands out a page whose bytes do not have the hash that the index names.
//!
//! One lookup costs at most one request for the file's tail, one for index blocks and one for the
//! frame; what is fetched is cached. A reader that comes forward page after page is noticed: index
//! blocks are then fetched by the MiB, and frames some MiB ahead of it by several requests at once.

mod ahead;
mod frames;
mod index;
mod streams;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::blob::{BlobStore, ObjectName};
use crate::cache::{Caches, SingleFlight};
use crate::error::{Error, ErrorKind, Result};
use crate::file::{
    BlockHandle, BodyAt, CommitBlockHandle, CommitRecord, FileEntry, FileTail, IndexBlock,
    IndexEntry, Location,
};
use crate::meta::records::VolumeRecord;
use crate::types::{CommitId, ContentHash, PageNo, Revision, VolumeId};
use ahead::ReadAhead;
use frames::Frames;
use index::{Access, Indexes, SEQUENTIAL_BYTES, runs};
use streams::Streams;

/// Requests under way for one who reads a whole index.
const INDEX_SCAN_REQUESTS: usize = 2;

/// Reads the files of one volume.
#[derive(Debug)]
pub struct FileFetcher {
    indexes: Indexes,
    frames: Frames,
    ahead: ReadAhead,
    zeros: Bytes,
}

impl FileFetcher {
    /// For the files of `volume` in `blobs`.
    #[must_use]
    pub fn new(
        volume: VolumeId,
        record: &VolumeRecord,
        blobs: BlobStore,
        caches: Caches,
    ) -> FileFetcher {
        let page_size = record.page_size;
        let streams = Streams::new(page_size, caches.pages.max_bytes());
        let ahead = ReadAhead::new(streams, blobs.env().clone());
        FileFetcher {
            indexes: Indexes::new(volume, page_size, blobs.clone(), caches.indexes),
            frames: Frames {
                volume,
                page_size,
                secret: record.secret.clone(),
                blobs,
                pages: caches.pages,
                disk: caches.disk,
                flights: SingleFlight::new(),
            },
            ahead,
            zeros: Bytes::from(vec![0; page_size.bytes()]),
        }
    }

    /// What a reader holds of an open file: filter, directory, size history.
    ///
    /// # Errors
    /// `NotFound` when the object is gone, `Corrupt` when it is not the entry's file, `Unavailable`.
    pub async fn tail(&self, entry: &FileEntry) -> Result<Arc<FileTail>> {
        self.indexes.tail(entry).await
    }

    /// The newest version of `page` at or below `revision` that the file has.
    ///
    /// # Errors
    /// As [`FileFetcher::tail`].
    pub async fn find(
        &self,
        entry: &FileEntry,
        page: PageNo,
        revision: Revision,
    ) -> Result<Option<IndexEntry>> {
        if !entry.may_hold(page) {
            return Ok(None);
        }
        let access = self.ahead.note(page, revision);
        let tail = self.tail(entry).await?;
        let Some(handle) = tail.block_for(page, revision) else { return Ok(None) };
        let block = self.indexes.block(entry, &tail, handle, access).await?;
        Ok(block.find(page, revision).copied())
    }

    /// The newest version of `page` that the file has with content of `hash`.
    ///
    /// # Errors
    /// As [`FileFetcher::tail`].
    pub async fn find_by_hash(
        &self,
        entry: &FileEntry,
        page: PageNo,
        hash: ContentHash,
    ) -> Result<Option<IndexEntry>> {
        let mut found = None;
        self.look_through(entry, page, |block| {
            found = block.find_hash(page, hash).copied();
            found.is_some()
        })
        .await?;
        Ok(found)
    }

    /// All versions of `page` that the file has, newest first.
    ///
    /// # Errors
    /// As [`FileFetcher::tail`].
    pub async fn versions(&self, entry: &FileEntry, page: PageNo) -> Result<Vec<IndexEntry>> {
        let mut versions = Vec::new();
        self.look_through(entry, page, |block| {
            versions.extend_from_slice(block.versions(page));
            false
        })
        .await?;
        Ok(versions)
    }

    /// Shows `look` the blocks where versions of `page` are, until it has seen enough.
    async fn look_through(
        &self,
        entry: &FileEntry,
        page: PageNo,
        mut look: impl FnMut(&IndexBlock) -> bool,
    ) -> Result<()> {
        if !entry.may_hold(page) {
            return Ok(());
        }
        let tail = self.tail(entry).await?;
        if !tail.holds(page) {
            return Ok(());
        }
        for handle in tail.blocks_of(page..=page) {
            if look(&*self.indexes.block(entry, &tail, handle, Access::Random).await?) {
                break;
            }
        }
        Ok(())
    }

    /// The content of the version `found` in the index of `entry`'s file, wherever that says it is.
    ///
    /// # Errors
    /// As [`FileFetcher::tail`], for the file that holds the content.
    pub async fn page(&self, entry: &Arc<FileEntry>, found: &IndexEntry) -> Result<Bytes> {
        let Some(location) = found.location else { return Ok(self.zeros.clone()) };
        let cached = self.frames.pages.get(&found.hash);
        self.ahead.advance(entry, found.page, cached.is_none(), (&self.indexes, &self.frames));
        if let Some(page) = cached {
            return Ok(page);
        }
        self.frames.page(found, body(entry, location)?).await
    }

    /// All index blocks of a file in order, fetched by the MiB and not kept: for merges.
    pub fn blocks(&self, entry: Arc<FileEntry>) -> BoxStream<'static, Result<Arc<IndexBlock>>> {
        let indexes = self.indexes.clone();
        let groups = async move {
            let tail = indexes.tail(&entry).await?;
            let groups: Vec<Vec<BlockHandle>> =
                runs(tail.blocks(), SEQUENTIAL_BYTES, BlockHandle::range)
                    .map(<[_]>::to_vec)
                    .collect();
            let fetch = move |group: Vec<BlockHandle>| {
                let (indexes, entry, tail) = (indexes.clone(), entry.clone(), tail.clone());
                async move { indexes.fetch_blocks(&entry, &tail, &group).await }
            };
            let fetched = stream::iter(groups).map(fetch).buffered(INDEX_SCAN_REQUESTS);
            Ok::<_, Error>(fetched.map_ok(|blocks| stream::iter(blocks).map(Ok)).try_flatten())
        };
        stream::once(groups).try_flatten().boxed()
    }

    /// The commits of one block of [`FileTail::commit_blocks`].
    ///
    /// # Errors
    /// As [`FileFetcher::tail`].
    pub async fn commit_block(
        &self,
        entry: &FileEntry,
        handle: &CommitBlockHandle,
    ) -> Result<Arc<[CommitRecord]>> {
        let tail = self.tail(entry).await?;
        self.indexes.commit_block(entry, &tail, handle).await
    }

    /// All commits that the file remembers, oldest first; fetched by the MiB and not kept.
    ///
    /// # Errors
    /// As [`FileFetcher::tail`].
    pub async fn commits(&self, entry: &FileEntry) -> Result<Vec<CommitRecord>> {
        if entry.commit_count == 0 {
            return Ok(Vec::new());
        }
        self.indexes.commits(entry).await
    }

    /// The commit `id`, if the file remembers it.
    ///
    /// # Errors
    /// As [`FileFetcher::tail`].
    pub async fn find_commit(
        &self,
        entry: &FileEntry,
        id: CommitId,
    ) -> Result<Option<CommitRecord>> {
        if entry.commit_count == 0 {
            return Ok(None);
        }
        let tail = self.tail(entry).await?;
        for handle in tail.commit_blocks().iter().filter(|handle| handle.may_hold(id)) {
            let commits = self.indexes.commit_block(entry, &tail, handle).await?;
            if let Some(found) = commits.iter().find(|record| record.commit == id) {
                return Ok(Some(*found));
            }
        }
        Ok(None)
    }
}

/// Where the content is that a location in the index of `entry`'s file means.
///
/// # Errors
/// `Corrupt` when it names a file that the entry does not list.
pub fn body(entry: &FileEntry, location: Location) -> Result<BodyAt> {
    find_body(entry, location).ok_or_else(|| {
        Error::corrupt(
            format_args!("file {}", entry.id),
            format_args!("the index points into file {} of {}", location.file, entry.refs.len()),
        )
    })
}

fn find_body(entry: &FileEntry, location: Location) -> Option<BodyAt> {
    let (file, named_at) = match usize::from(location.file).checked_sub(1) {
        None => (entry.id, entry.named_at),
        Some(at) => entry.refs.get(at).map(|file| (file.id, file.named_at))?,
    };
    Some(BodyAt { file, named_at, frame: location.frame, slot: location.slot })
}

/// Reads `range` and decodes it; what fails its checks is read once more, for the bytes may have been
/// damaged on the way.
async fn read_checked<T>(
    blobs: &BlobStore,
    name: &ObjectName,
    range: Range<u64>,
    decode: impl Fn(&Bytes) -> Result<T>,
) -> Result<T> {
    let bytes = blobs.get_range(name, range.clone()).await?;
    match decode(&bytes) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, %name, "read again what failed its checks");
        }
        result => return result,
    }
    decode(&blobs.get_range(name, range).await?)
}
