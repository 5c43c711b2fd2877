use bytes::Bytes;

use crate::blob::{BlobStore, ObjectName};
use crate::commit::Core;
use crate::error::{Error, Result};
use crate::file::{
    BlockHandle, CommitBlockHandle, CommitRecord, FileEntry, FileTail, IndexBlock, decode_commits,
};
use crate::types::{FileId, Revision, VolumeId};

/// The files of a volume as they are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objects<'a> {
    volume: VolumeId,
    blobs: &'a BlobStore,
}

impl<'a> Objects<'a> {
    pub(super) fn of(core: &'a Core) -> Objects<'a> {
        Objects { volume: core.keys.id(), blobs: &core.blobs }
    }

    pub(super) fn name(&self, file: FileId, named_at: Revision) -> ObjectName {
        ObjectName { volume: self.volume, named_at, file }
    }

    pub(super) async fn get(
        &self,
        file: FileId,
        named_at: Revision,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes> {
        self.blobs.get_range(&self.name(file, named_at), range).await
    }

    /// The tail of a listed file.
    pub(super) async fn tail(&self, entry: &FileEntry) -> Result<FileTail> {
        let bytes = self.get(entry.id, entry.named_at, entry.tail_range()).await?;
        let tail = FileTail::decode(entry, &bytes).map_err(|error| error.of(entry.id))?;
        if tail.identity().volume != self.volume {
            let why = format!("footer names another volume, {}", tail.identity().volume);
            return Err(Error::corrupt(
                format_args!("file {} at offset {}", entry.id, entry.tail_offset),
                why,
            ));
        }
        Ok(tail)
    }

    /// One index block.
    pub(super) async fn block(
        &self,
        entry: &FileEntry,
        tail: &FileTail,
        block: &BlockHandle,
    ) -> Result<IndexBlock> {
        let bytes = self.get(entry.id, entry.named_at, block.range()).await?;
        IndexBlock::decode(block, tail.published(), &bytes).map_err(|error| error.of(entry.id))
    }

    /// One block of commit records.
    pub(super) async fn commits(
        &self,
        entry: &FileEntry,
        tail: &FileTail,
        block: &CommitBlockHandle,
    ) -> Result<Vec<CommitRecord>> {
        let bytes = match tail.commit_block_bytes(block) {
            Some(bytes) => bytes,
            None => self.get(entry.id, entry.named_at, block.range()).await?,
        };
        decode_commits(block, tail.published(), &bytes).map_err(|error| error.of(entry.id))
    }
}
