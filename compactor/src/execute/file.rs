//! Reads files whole and in order, past the caches: what a merge reads is of no use to a reader.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use pagestore::internal::file::{
    BlockHandle, BodyAt, CommitBlockHandle, CommitRecord, FileEntry, FileTail, IndexBlock,
    IndexEntry, decode_commits,
};
use pagestore::internal::types::{ContentHash, PageNo};

use crate::interrupt::Work;
use crate::volume::Volume;

/// Bytes of an index fetched by one request.
const INDEX_READ_BYTES: u64 = 1 << 20;

/// A listed file, with what a reader holds of it.
#[derive(Clone, Debug)]
pub(crate) struct OpenFile {
    volume: Volume,
    entry: Arc<FileEntry>,
    tail: Arc<FileTail>,
}

/// One version of a page in some file, wherever its body is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    pub(crate) entry: IndexEntry,
    pub(crate) at: Option<BodyAt>,
}

impl OpenFile {
    pub(crate) async fn open(volume: &Volume, entry: &Arc<FileEntry>) -> Work<OpenFile> {
        let name = volume.object(entry.id, entry.named_at);
        let bytes = volume.blobs.get_range(&name, entry.tail_range()).await?;
        let tail = FileTail::decode(entry, &bytes).map_err(|error| error.of(entry.id))?;
        Ok(OpenFile { volume: volume.clone(), entry: entry.clone(), tail: Arc::new(tail) })
    }

    pub(crate) fn tail(&self) -> &FileTail {
        &self.tail
    }

    async fn fetch(&self, range: Range<u64>) -> Work<Bytes> {
        let name = self.volume.object(self.entry.id, self.entry.named_at);
        Ok(self.volume.blobs.get_range(&name, range).await?)
    }

    /// All commits that the file remembers.
    pub(crate) async fn commits(&self) -> Work<Vec<CommitRecord>> {
        let mut commits = Vec::new();
        for handle in self.tail.commit_blocks() {
            commits.extend(self.commit_block(handle).await?);
        }
        Ok(commits)
    }

    /// The commits of one block.
    pub(crate) async fn commit_block(&self, handle: &CommitBlockHandle) -> Work<Vec<CommitRecord>> {
        let bytes = match self.tail.commit_block_bytes(handle) {
            Some(bytes) => bytes,
            None => self.fetch(handle.range()).await?,
        };
        let commits = decode_commits(handle, self.tail.published(), &bytes);
        Ok(commits.map_err(|error| error.of(self.entry.id))?)
    }

    fn decode(&self, handle: &BlockHandle, bytes: &[u8]) -> Work<IndexBlock> {
        let block = IndexBlock::decode(handle, self.tail.published(), bytes);
        Ok(block.map_err(|error| error.of(self.entry.id))?)
    }

    /// Of contents of pages, those that one index block lists.
    pub(crate) async fn find_in_block(
        &self,
        handle: &BlockHandle,
        wanted: &[(PageNo, ContentHash)],
    ) -> Work<Vec<Version>> {
        let block = self.decode(handle, &self.fetch(handle.range()).await?)?;
        let found = wanted.iter().filter_map(|(page, hash)| block.find_hash(*page, *hash));
        found.map(|entry| self.locate(*entry)).collect()
    }

    /// The entry with its place said in full.
    pub(crate) fn locate(&self, entry: IndexEntry) -> Work<Version> {
        let at = entry.location.map(|location| self.tail.resolve(location)).transpose();
        Ok(Version { entry, at: at.map_err(|error| error.of(self.entry.id))? })
    }
}

/// A file's index blocks in order, an MiB at a time.
#[derive(Debug)]
pub(crate) struct BlockStream {
    file: OpenFile,
    next: usize,
    fetched: VecDeque<Arc<IndexBlock>>,
}

impl BlockStream {
    pub(crate) fn new(file: OpenFile) -> BlockStream {
        BlockStream { file, next: 0, fetched: VecDeque::new() }
    }

    pub(crate) fn file(&self) -> &OpenFile {
        &self.file
    }

    /// The next block; `None` after the last.
    pub(crate) async fn next(&mut self) -> Work<Option<Arc<IndexBlock>>> {
        if self.fetched.is_empty() {
            self.fetch().await?;
        }
        Ok(self.fetched.pop_front())
    }

    async fn fetch(&mut self) -> Work<()> {
        let blocks = self.file.tail.blocks().get(self.next..).unwrap_or_default();
        let (mut count, mut bytes) = (0, 0u64);
        while let Some(block) = blocks.get(count).filter(|_| bytes < INDEX_READ_BYTES) {
            bytes += block.bytes;
            count += 1;
        }
        let blocks = blocks.get(..count).unwrap_or_default();
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(()) };
        let start = first.offset;
        let fetched = self.file.fetch(start..last.range().end).await?;
        for handle in blocks {
            let range = handle.range();
            let part = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
            let bytes = fetched.get(part(range.start)..part(range.end)).unwrap_or_default();
            self.fetched.push_back(Arc::new(self.file.decode(handle, bytes)?));
        }
        self.next += count;
        Ok(())
    }
}
