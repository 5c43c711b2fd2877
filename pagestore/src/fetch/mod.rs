//! Reading files: tails, index blocks and frames, by way of the caches.

use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;

use crate::blob::{BlobStore, ObjectName};
use crate::cache::PageCache;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::file::{
    BodyAt, CommitRecord, FileEntry, FileTail, Frame, IndexBlock, IndexEntry, SizeChange,
    decode_commits,
};
use crate::meta::records::VolumeRecord;
use crate::types::{ContentHash, FileId, HashSecret, PageNo, PageSize, Revision, VolumeId};

/// Tails and index blocks of the files of all volumes of a store.
#[derive(Clone, Debug)]
pub struct IndexCache(Cache<(FileId, u64), Cached>);

#[derive(Clone, Debug)]
enum Cached {
    Tail(Arc<FileTail>),
    Block(Arc<IndexBlock>),
}

impl IndexCache {
    /// A cache of at most `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> IndexCache {
        let weigh = |_: &(FileId, u64), cached: &Cached| {
            let weight = match cached {
                Cached::Tail(tail) => tail.weight(),
                Cached::Block(block) => block.weight(),
            };
            u32::try_from(weight).unwrap_or(u32::MAX)
        };
        IndexCache(Cache::builder().max_capacity(bytes).weigher(weigh).build())
    }
}

/// Reads the files of one volume.
#[derive(Debug)]
pub struct FileFetcher {
    volume: VolumeId,
    secret: HashSecret,
    page_size: PageSize,
    blobs: BlobStore,
    pages: PageCache,
    indexes: IndexCache,
}

impl FileFetcher {
    /// For the files of `volume`.
    #[must_use]
    pub fn new(
        volume: VolumeId,
        record: &VolumeRecord,
        blobs: BlobStore,
        pages: PageCache,
        indexes: IndexCache,
        _env: Env,
    ) -> FileFetcher {
        let (secret, page_size) = (record.secret.clone(), record.page_size);
        FileFetcher { volume, secret, page_size, blobs, pages, indexes }
    }

    fn name(&self, named_at: Revision, file: FileId) -> ObjectName {
        ObjectName { volume: self.volume, named_at, file }
    }

    async fn tail(&self, entry: &FileEntry) -> Result<Arc<FileTail>> {
        let key = (entry.id, entry.tail_offset);
        if let Some(Cached::Tail(tail)) = self.indexes.0.get(&key) {
            return Ok(tail);
        }
        let bytes =
            self.blobs.get_range(&self.name(entry.named_at, entry.id), entry.tail_range()).await?;
        let tail = FileTail::decode(entry, &bytes).map_err(|error| error.of(entry.id))?;
        let identity = tail.identity();
        if identity.volume != self.volume || identity.page_size != self.page_size {
            return Err(Error::corrupt(
                format!("file {}", entry.id),
                "is another volume's, or of another page size",
            ));
        }
        let tail = Arc::new(tail);
        self.indexes.0.insert(key, Cached::Tail(tail.clone()));
        Ok(tail)
    }

    async fn block(
        &self,
        entry: &FileEntry,
        page: PageNo,
        revision: Revision,
    ) -> Result<Option<Arc<IndexBlock>>> {
        let tail = self.tail(entry).await?;
        if !tail.holds(page) {
            return Ok(None);
        }
        let Some(handle) = tail.block_for(page, revision) else { return Ok(None) };
        let key = (entry.id, handle.range().start);
        if let Some(Cached::Block(block)) = self.indexes.0.get(&key) {
            return Ok(Some(block));
        }
        let bytes =
            self.blobs.get_range(&self.name(entry.named_at, entry.id), handle.range()).await?;
        let block = IndexBlock::decode(handle, tail.published(), &bytes)
            .map_err(|error| error.of(entry.id))?;
        let block = Arc::new(block);
        self.indexes.0.insert(key, Cached::Block(block.clone()));
        Ok(Some(block))
    }

    /// The newest version of `page` in the file at or below `revision`.
    pub async fn find(
        &self,
        entry: &FileEntry,
        page: PageNo,
        revision: Revision,
    ) -> Result<Option<IndexEntry>> {
        let block = self.block(entry, page, revision).await?;
        Ok(block.and_then(|block| block.find(page, revision).copied()))
    }

    /// The version of `page` in the file with this content.
    pub async fn find_by_hash(
        &self,
        entry: &FileEntry,
        page: PageNo,
        hash: ContentHash,
    ) -> Result<Option<IndexEntry>> {
        let tail = self.tail(entry).await?;
        for handle in tail.blocks_of(page..=page) {
            let bytes =
                self.blobs.get_range(&self.name(entry.named_at, entry.id), handle.range()).await?;
            let block = IndexBlock::decode(handle, tail.published(), &bytes)
                .map_err(|error| error.of(entry.id))?;
            if let Some(found) = block.find_hash(page, hash) {
                return Ok(Some(*found));
            }
        }
        Ok(None)
    }

    /// The content of a version found in `entry`'s index.
    pub async fn page(&self, entry: &FileEntry, found: &IndexEntry) -> Result<Bytes> {
        if let Some(content) = self.pages.get(&found.hash) {
            return Ok(content);
        }
        let Some(location) = found.location else {
            return Ok(vec![0; self.page_size.bytes()].into());
        };
        let tail = self.tail(entry).await?;
        let BodyAt { file, named_at, frame, slot } =
            tail.resolve(location).map_err(|error| error.of(entry.id))?;
        let bytes = self.blobs.get_range(&self.name(named_at, file), frame.range()).await?;
        let decoded =
            Frame::decode(frame, self.page_size, &bytes).map_err(|error| error.of(file))?;
        let content =
            decoded.verified(found, slot, &self.secret).map_err(|error| error.of(file))?;
        for (page, content) in decoded.pages() {
            self.pages.insert(self.secret.hash(page, &content), Bytes::copy_from_slice(&content));
        }
        Ok(Bytes::copy_from_slice(&content))
    }

    /// What the file remembers of the page count.
    pub async fn sizes(&self, entry: &FileEntry) -> Result<Vec<SizeChange>> {
        Ok(self.tail(entry).await?.sizes().to_vec())
    }

    /// The commits that the file remembers.
    pub async fn commits(&self, entry: &FileEntry) -> Result<Vec<CommitRecord>> {
        let tail = self.tail(entry).await?;
        let mut commits = Vec::new();
        for handle in tail.commit_blocks() {
            let bytes = match tail.commit_block_bytes(handle) {
                Some(bytes) => bytes,
                None => {
                    self.blobs
                        .get_range(&self.name(entry.named_at, entry.id), handle.range())
                        .await?
                }
            };
            let decoded = decode_commits(handle, tail.published(), &bytes)
                .map_err(|error| error.of(entry.id))?;
            commits.extend(decoded);
        }
        Ok(commits)
    }
}
