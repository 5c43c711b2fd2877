//! What is in one file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::levels::FileInfo;
use super::objects::Objects;
use super::{CONCURRENCY, Inspector, Levels};
use crate::error::{Error, Result};
use crate::file::{FileEntry, FileTail, FrameHandle, IndexBlock, IndexEntry};
use crate::mirror::VolumeState;
use crate::types::{FileId, PageNo, Revision};

/// What is in one listed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDetail {
    /// The file, as `levels` shows it.
    pub info: FileInfo,
    /// The name of its object in the blob tier.
    pub object: String,
    /// Revision of its first publication.
    pub published: Revision,
    /// Commits that it remembers.
    pub commit_count: u64,
    /// Changes of the volume's size that it remembers.
    pub size_change_count: u64,
    /// Bytes of its own frames.
    pub own_frame_bytes: u64,
    /// Bytes of the pages in them before compression.
    pub raw_bytes: u64,
    /// Bytes of its tail, which is fetched when it is opened.
    pub tail_bytes: u64,
    /// The blocks of its index, in page order.
    pub blocks: Vec<BlockInfo>,
    /// Its own frames, in the order of their offsets.
    pub frames: Vec<FrameInfo>,
    /// The other files that its index points into.
    pub references: Vec<ReferenceInfo>,
}

/// One block of a file's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Versions that it lists.
    pub version_count: u64,
    /// The first page.
    pub first: PageNo,
    /// The last page.
    pub last: PageNo,
}

/// One frame of a file: neighbouring pages, compressed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Versions in it that the file's index lists.
    pub version_count: u64,
    /// Those that are the newest of their page in this file.
    pub newest_count: u64,
    /// The lowest page.
    pub first: PageNo,
    /// The highest page.
    pub last: PageNo,
}

/// A file that another's index points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceInfo {
    /// The file.
    pub id: FileId,
    /// Frames pointed to.
    pub frame_count: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// Index entries that point there.
    pub version_count: u64,
}

impl Inspector {
    /// What is in a listed file.
    ///
    /// # Errors
    /// `NotFound` when no level lists the file, `Unavailable`, `Corrupt`.
    pub async fn file(&self, id: FileId) -> Result<FileDetail> {
        let Levels { files, dropped, .. } = self.levels().await?;
        let Some(info) = files.into_iter().find(|file| file.id == id) else {
            let why = match dropped.iter().any(|file| file.id == id) {
                true => {
                    "the file is dropped: no level lists it any more, only its pages are still in use"
                }
                false => "no level lists such a file",
            };
            return Err(Error::not_found(format!("{why}: {id}")));
        };
        self.look(|state| self.try_file(state, info)).await
    }

    async fn try_file(&self, state: Arc<VolumeState>, info: FileInfo) -> Result<FileDetail> {
        let entry = state
            .levels
            .get(info.id)
            .ok_or_else(|| Error::not_found(format!("no level lists such a file: {}", info.id)))?;
        let objects = Objects::of(&self.core);
        let tail = objects.tail(entry).await?;
        let blocks = self.blocks(entry, &tail).await?;
        Ok(FileDetail {
            info,
            object: objects.name(entry.id, entry.named_at).to_string(),
            published: tail.published(),
            commit_count: entry.commit_count,
            size_change_count: entry.size_change_count,
            own_frame_bytes: entry.own_frame_bytes,
            raw_bytes: entry.raw_bytes,
            tail_bytes: entry.bytes.saturating_sub(entry.tail_offset),
            blocks: tail
                .blocks()
                .iter()
                .zip(&blocks)
                .map(|(handle, block)| block_info(handle, block))
                .collect(),
            frames: frames(blocks.iter().flat_map(IndexBlock::entries)),
            references: entry
                .refs
                .iter()
                .map(|reference| ReferenceInfo {
                    id: reference.id,
                    frame_count: reference.frame_count,
                    frame_bytes: reference.frame_bytes,
                    version_count: reference.page_count,
                })
                .collect(),
        })
    }

    async fn blocks(&self, entry: &FileEntry, tail: &FileTail) -> Result<Vec<IndexBlock>> {
        use futures::{StreamExt, TryStreamExt, stream};

        let objects = Objects::of(&self.core);
        let blocks = stream::iter(tail.blocks()).map(|block| objects.block(entry, tail, block));
        blocks.buffered(CONCURRENCY).try_collect().await
    }
}

fn block_info(handle: &crate::file::BlockHandle, block: &IndexBlock) -> BlockInfo {
    let page = |entry: Option<&IndexEntry>| entry.map(|entry| entry.page).unwrap_or_default();
    BlockInfo {
        offset: handle.offset,
        bytes: handle.bytes,
        version_count: block.entries().len() as u64,
        first: page(block.entries().first()),
        last: page(block.entries().last()),
    }
}

/// The file's own frames, by what its index, in order, says of them.
fn frames<'a>(entries: impl Iterator<Item = &'a IndexEntry>) -> Vec<FrameInfo> {
    let mut frames: BTreeMap<FrameHandle, FrameInfo> = BTreeMap::new();
    let mut page_before = None;
    for entry in entries {
        let is_newest = page_before != Some(entry.page);
        page_before = Some(entry.page);
        let Some(location) = entry.location.filter(|location| location.file == 0) else { continue };
        let info = frames.entry(location.frame).or_insert(FrameInfo {
            offset: location.frame.offset,
            bytes: location.frame.bytes.get().into(),
            version_count: 0,
            newest_count: 0,
            first: entry.page,
            last: entry.page,
        });
        info.version_count += 1;
        info.newest_count += u64::from(is_newest);
        info.first = info.first.min(entry.page);
        info.last = info.last.max(entry.page);
    }
    frames.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::file::Location;
    use crate::types::ContentHash;

    fn entry(page: u64, revision: u64, file: u16, offset: u64) -> IndexEntry {
        let frame = FrameHandle { offset, bytes: NonZeroU32::new(100).unwrap() };
        IndexEntry {
            page: PageNo(page),
            revision: Revision(revision),
            hash: ContentHash([1; 16]),
            location: Some(Location { frame, file, slot: 0 }),
        }
    }

    #[test]
    fn frames_are_counted_from_the_index() {
        let entries =
            [entry(1, 9, 0, 16), entry(1, 5, 0, 116), entry(2, 5, 0, 16), entry(3, 5, 1, 16)];
        let frames = frames(entries.iter());
        let counted: Vec<_> =
            frames.iter().map(|f| (f.offset, f.version_count, f.newest_count, f.last.0)).collect();
        assert_eq!(counted, [(16, 2, 2, 2), (116, 1, 0, 1)]);
    }
}
