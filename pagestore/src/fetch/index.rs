//! Tails, index blocks and commit blocks of files: from the cache, or in as few requests as the
//! way of reading allows.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::read_checked;
use crate::blob::{BlobStore, ObjectName};
use crate::cache::{IndexCache, SingleFlight};
use crate::error::{Error, Result};
use crate::file::{
    BlockHandle, CommitBlockHandle, CommitRecord, FileEntry, FileTail, IndexBlock, decode_commits,
};
use crate::types::{FileId, PageSize, VolumeId};

/// An index up to this size is fetched whole: one request, and lookups never wait again.
const WHOLE_INDEX_BYTES: u64 = 1 << 20;
/// Blocks fetched together for a lone lookup: some 100 KiB cost no more than one block.
const GROUP_BLOCKS: usize = 16;
/// Bytes of blocks fetched together when they are wanted one after the other.
pub(super) const SEQUENTIAL_BYTES: u64 = 1 << 20;
/// A commit block is some 30 KiB; this many are fetched together to look through all.
const COMMIT_RUN_BYTES: u64 = 1 << 20;

/// How the caller goes through an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Here and there.
    Random,
    /// One block after the other.
    Sequential,
}

/// Reads indexes of one volume's files.
#[derive(Clone, Debug)]
pub(super) struct Indexes {
    pub(super) volume: VolumeId,
    pub(super) page_size: PageSize,
    pub(super) blobs: BlobStore,
    pub(super) cache: IndexCache,
    /// Fetches of tails, and of groups of blocks, by the offset where they begin.
    tails: SingleFlight<(FileId, u64), Arc<FileTail>>,
    groups: SingleFlight<(FileId, u64), ()>,
}

impl Indexes {
    pub(super) fn new(
        volume: VolumeId,
        page_size: PageSize,
        blobs: BlobStore,
        cache: IndexCache,
    ) -> Indexes {
        let (tails, groups) = (SingleFlight::new(), SingleFlight::new());
        Indexes { volume, page_size, blobs, cache, tails, groups }
    }

    pub(super) fn name(&self, entry: &FileEntry) -> ObjectName {
        ObjectName { volume: self.volume, named_at: entry.named_at, file: entry.id }
    }

    /// The tail of a file.
    ///
    /// # Errors
    /// `Corrupt` when it is not that of the entry's file; those of [`BlobStore::get_range`].
    pub(super) async fn tail(&self, entry: &FileEntry) -> Result<Arc<FileTail>> {
        let (file, offset) = (entry.id, entry.tail_offset);
        let cached = || self.cache.tail(file, offset);
        if let Some(tail) = cached() {
            return Ok(tail);
        }
        self.tails
            .run((file, offset), cached, || async {
                let decode = |bytes: &_| {
                    let tail = FileTail::decode(entry, bytes).map_err(|error| error.of(file))?;
                    self.check_identity(entry, &tail).map(|()| Arc::new(tail))
                };
                let range = entry.tail_range();
                let tail = read_checked(&self.blobs, &self.name(entry), range, decode).await?;
                self.cache.insert_tail(file, offset, Arc::clone(&tail));
                Ok(tail)
            })
            .await
    }

    fn check_identity(&self, entry: &FileEntry, tail: &FileTail) -> Result<()> {
        let identity = tail.identity();
        let is_it = identity.id == entry.id
            && identity.named_at == entry.named_at
            && identity.volume == self.volume
            && identity.page_size == self.page_size;
        if is_it {
            return Ok(());
        }
        Err(Error::corrupt(
            format_args!("file {} at offset {}", entry.id, entry.tail_offset),
            format_args!(
                "says that it is file {} of volume {} with pages of {} bytes",
                identity.id, identity.volume, identity.page_size
            ),
        ))
    }

    /// The block at place `at` of the tail's directory.
    ///
    /// # Errors
    /// `Corrupt` when its bytes are not that block; those of [`BlobStore::get_range`].
    pub(super) async fn block(
        &self,
        entry: &FileEntry,
        tail: &FileTail,
        handle: &BlockHandle,
        access: Access,
    ) -> Result<Arc<IndexBlock>> {
        if let Some(block) = self.cache.block(entry.id, handle.offset) {
            return Ok(block);
        }
        let group = self.group(entry, tail, handle, access);
        let start = group.first().map_or(handle.offset, |first| first.offset);
        let cached = || self.cache.contains(entry.id, handle.offset).then_some(());
        let fetch = || self.fetch_group(entry, tail, group);
        self.groups.run((entry.id, start), cached, fetch).await?;
        if let Some(block) = self.cache.block(entry.id, handle.offset) {
            return Ok(block);
        }
        // The cache is too small to keep what was just fetched, or the group that another fetched
        // ended before this block.
        let block = self.fetch_blocks(entry, tail, std::slice::from_ref(handle)).await?.pop();
        let block = block.ok_or_else(|| Error::invalid("BUG: one block was asked for"))?;
        self.cache.insert_block(entry.id, handle.offset, Arc::clone(&block));
        Ok(block)
    }

    async fn fetch_group(
        &self,
        entry: &FileEntry,
        tail: &FileTail,
        group: &[BlockHandle],
    ) -> Result<()> {
        let blocks = self.fetch_blocks(entry, tail, group).await?;
        for (handle, block) in group.iter().zip(blocks) {
            self.cache.insert_block(entry.id, handle.offset, block);
        }
        Ok(())
    }

    /// The blocks to fetch for the one of `handle`.
    fn group<'a>(
        &self,
        entry: &FileEntry,
        tail: &'a FileTail,
        handle: &BlockHandle,
        access: Access,
    ) -> &'a [BlockHandle] {
        let blocks = tail.blocks();
        let whole = span(blocks);
        if whole.end - whole.start <= WHOLE_INDEX_BYTES {
            return blocks;
        }
        let at = blocks.partition_point(|block| block.offset < handle.offset);
        let start = at - at % GROUP_BLOCKS;
        let from = blocks.get(start..).unwrap_or_default();
        let len = match access {
            Access::Random => GROUP_BLOCKS,
            Access::Sequential => {
                let ahead = |block: &BlockHandle| {
                    block.offset < handle.offset.saturating_add(SEQUENTIAL_BYTES)
                        && (block.offset <= handle.offset
                            || !self.cache.contains(entry.id, block.offset))
                };
                from.iter().take_while(|block| ahead(block)).count()
            }
        };
        from.get(..len.min(from.len())).unwrap_or_default()
    }

    /// Neighbouring blocks in one request; not through the cache.
    pub(super) async fn fetch_blocks(
        &self,
        entry: &FileEntry,
        tail: &FileTail,
        blocks: &[BlockHandle],
    ) -> Result<Vec<Arc<IndexBlock>>> {
        let range = span(blocks);
        let decode = |bytes: &Bytes| {
            let decode = |handle: &BlockHandle| {
                let part = within(bytes, &range, &handle.range());
                IndexBlock::decode(handle, tail.published(), part)
                    .map(Arc::new)
                    .map_err(|error| error.of(entry.id))
            };
            blocks.iter().map(decode).collect()
        };
        read_checked(&self.blobs, &self.name(entry), range.clone(), decode).await
    }

    /// The commits of one block.
    ///
    /// # Errors
    /// `Corrupt` when its bytes are not that block; those of [`BlobStore::get_range`].
    pub(super) async fn commit_block(
        &self,
        entry: &FileEntry,
        tail: &FileTail,
        handle: &CommitBlockHandle,
    ) -> Result<Arc<[CommitRecord]>> {
        // What travels with the tail lies at its offset and is cached as part of it.
        if let Some(bytes) = tail.commit_block_bytes(handle) {
            return decode_block(entry, tail, handle, &bytes);
        }
        if let Some(commits) = self.cache.commits(entry.id, handle.offset) {
            return Ok(commits);
        }
        let decode = |bytes: &Bytes| decode_block(entry, tail, handle, bytes);
        let commits = read_checked(&self.blobs, &self.name(entry), handle.range(), decode).await?;
        self.cache.insert_commits(entry.id, handle.offset, Arc::clone(&commits));
        Ok(commits)
    }

    /// All commits of a file, oldest first; not through the cache.
    ///
    /// # Errors
    /// As [`Indexes::commit_block`].
    pub(super) async fn commits(&self, entry: &FileEntry) -> Result<Vec<CommitRecord>> {
        let tail = self.tail(entry).await?;
        let mut commits = Vec::new();
        for run in runs(tail.commit_blocks(), COMMIT_RUN_BYTES, CommitBlockHandle::range) {
            let range = span_of(run, CommitBlockHandle::range);
            let decode = |bytes: &Bytes| {
                let decode = |handle: &CommitBlockHandle| {
                    let part = within(bytes, &range, &handle.range());
                    decode_block(entry, &tail, handle, part)
                };
                run.iter().map(decode).collect::<Result<Vec<_>>>()
            };
            let in_tail = run.iter().map(|handle| Some((handle, tail.commit_block_bytes(handle)?)));
            let blocks = match in_tail.collect::<Option<Vec<_>>>() {
                Some(parts) => parts
                    .into_iter()
                    .map(|(handle, bytes)| decode_block(entry, &tail, handle, &bytes))
                    .collect::<Result<Vec<_>>>()?,
                None => read_checked(&self.blobs, &self.name(entry), range.clone(), decode).await?,
            };
            blocks.iter().for_each(|block| commits.extend_from_slice(block));
        }
        Ok(commits)
    }
}

fn decode_block(
    entry: &FileEntry,
    tail: &FileTail,
    handle: &CommitBlockHandle,
    bytes: &[u8],
) -> Result<Arc<[CommitRecord]>> {
    decode_commits(handle, tail.published(), bytes)
        .map(Arc::from)
        .map_err(|error| error.of(entry.id))
}

/// From the first byte of neighbouring blocks to the last.
fn span(blocks: &[BlockHandle]) -> Range<u64> {
    span_of(blocks, BlockHandle::range)
}

fn span_of<T>(parts: &[T], range: impl Fn(&T) -> Range<u64>) -> Range<u64> {
    let start = parts.first().map_or(0, |first| range(first).start);
    let end = parts.last().map_or(start, |last| range(last).end);
    start..end.max(start)
}

/// Splits neighbouring parts into runs of at least one and about `max_bytes`.
pub(super) fn runs<T>(
    parts: &[T],
    max_bytes: u64,
    range: impl Fn(&T) -> Range<u64>,
) -> impl Iterator<Item = &[T]> {
    let mut rest = parts;
    std::iter::from_fn(move || {
        let start = range(rest.first()?).start;
        let fits = |part: &&T| range(part).end <= start.saturating_add(max_bytes);
        let len = rest.iter().take_while(fits).count().max(1);
        let (run, after) = rest.split_at_checked(len)?;
        rest = after;
        Some(run)
    })
}

/// The bytes of `part` within the bytes fetched from `whole`; none when it lies outside, which fails
/// the part's checksum.
pub(super) fn within<'a>(bytes: &'a [u8], whole: &Range<u64>, part: &Range<u64>) -> &'a [u8] {
    let offset = |at: u64| usize::try_from(at.checked_sub(whole.start)?).ok();
    let found = offset(part.start).zip(offset(part.end));
    found.and_then(|(start, end)| bytes.get(start..end)).unwrap_or_default()
}
