//! What a reader holds of an open file: where the blocks are, which pages there are, which files are
//! pointed into, how the size changed. Each part is sealed and packed.
//!
//! ```text
//! directory   index block count varint; per block: page of its last entry, difference to the one
//!             before; revision of its last entry, zigzag difference to the one before; bytes varint.
//!             commit block count varint; per block: bytes varint, commit count varint, revision of
//!             the first and of the last commit varint, smallest and largest id 16 bytes each
//! filter      a 64-bit roaring bitmap in its portable form
//! references  count varint; per file: id 16 bytes, revision in its name varint
//! sizes       count varint; per change: revision varint, lowest count + 1 or 0 varint, last count varint
//! ```

use std::ops::Range;

use roaring::RoaringTreemap;

use super::index::{unzigzag, zigzag};
use super::types::{EntryKey, SizeChange, resolve};
use crate::types::{CommitId, FileId, PageCount, PageNo, Revision};
use crate::wire::{Cursor, Malformed, put_varint};

/// Where an index block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHandle {
    /// First byte.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
    /// Its last entry.
    pub last: EntryKey,
}

impl BlockHandle {
    /// The byte range to fetch.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.bytes)
    }
}

/// Where a block of commit records is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitBlockHandle {
    /// First byte.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
    /// Commits in it.
    pub commit_count: u64,
    /// Revision of its first commit.
    pub first: Revision,
    /// Revision of its last commit.
    pub last: Revision,
    /// Smallest commit id.
    pub min_id: CommitId,
    /// Largest commit id.
    pub max_id: CommitId,
}

impl CommitBlockHandle {
    /// The byte range to fetch.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.bytes)
    }

    /// True when `commit` may be in it.
    #[must_use]
    pub fn may_hold(&self, commit: CommitId) -> bool {
        (self.min_id..=self.max_id).contains(&commit)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) blocks: Vec<BlockHandle>,
    pub(super) commit_blocks: Vec<CommitBlockHandle>,
}

impl Directory {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.blocks.len() as u64);
        let (mut page, mut revision) = (0, 0);
        for block in &self.blocks {
            let (last_page, last_revision) = (block.last.page.0, block.last.revision().0);
            put_varint(&mut out, last_page - page);
            put_varint(&mut out, zigzag(last_revision.wrapping_sub(revision)));
            put_varint(&mut out, block.bytes);
            (page, revision) = (last_page, last_revision);
        }
        put_varint(&mut out, self.commit_blocks.len() as u64);
        for block in &self.commit_blocks {
            for field in [block.bytes, block.commit_count, block.first.0, block.last.0] {
                put_varint(&mut out, field);
            }
            out.extend_from_slice(&block.min_id.bytes());
            out.extend_from_slice(&block.max_id.bytes());
        }
        out
    }

    pub(super) fn decode(
        raw: &[u8],
        index: Range<u64>,
        commits: Range<u64>,
        published: Revision,
    ) -> Result<Directory, Malformed> {
        let mut cursor = Cursor::new(raw);
        let count = cursor.count(3)?;
        let mut directory = Directory::default();
        directory.blocks.reserve_exact(count);
        let (mut page, mut revision, mut offset) = (0u64, 0u64, index.start);
        for _ in 0..count {
            page = page
                .checked_add(cursor.varint()?)
                .ok_or(cursor.malformed("names a page past the last"))?;
            revision = revision.wrapping_add(unzigzag(cursor.varint()?));
            let bytes = cursor.varint()?;
            let last = EntryKey::new(PageNo(page), resolve(Revision(revision), published));
            directory.blocks.push(BlockHandle { offset, bytes, last });
            offset = offset.saturating_add(bytes);
        }
        if offset != index.end || !directory.blocks.is_sorted_by(|a, b| a.last < b.last) {
            return Err(cursor.malformed("has its blocks out of place"));
        }
        offset = commits.start;
        for _ in 0..cursor.count(36)? {
            let bytes = cursor.varint()?;
            directory.commit_blocks.push(CommitBlockHandle {
                offset,
                bytes,
                commit_count: cursor.varint()?,
                first: resolve(Revision(cursor.varint()?), published),
                last: resolve(Revision(cursor.varint()?), published),
                min_id: CommitId::from_bytes(cursor.array()?),
                max_id: CommitId::from_bytes(cursor.array()?),
            });
            offset = offset.saturating_add(bytes);
        }
        if offset != commits.end {
            return Err(cursor.malformed("has its commit blocks out of place"));
        }
        cursor.finish()?;
        Ok(directory)
    }
}

pub(super) fn encode_filter(pages: &RoaringTreemap) -> Vec<u8> {
    let compact = RoaringTreemap::from_bitmaps(pages.bitmaps().map(|(high, bitmap)| {
        let mut bitmap = bitmap.clone();
        bitmap.optimize();
        (high, bitmap)
    }));
    let mut out = Vec::with_capacity(compact.serialized_size());
    compact.serialize_into(&mut out).expect("BUG: writing to memory failed");
    out
}

pub(super) fn decode_filter(raw: &[u8]) -> Result<RoaringTreemap, Malformed> {
    let malformed = Malformed { offset: 0, why: "is not a set of pages" };
    let mut rest = raw;
    let pages = RoaringTreemap::deserialize_from(&mut rest).map_err(|_| malformed)?;
    if rest.is_empty() { Ok(pages) } else { Err(malformed) }
}

pub(super) fn encode_references(files: &[(FileId, Revision)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, files.len() as u64);
    for (file, named_at) in files {
        out.extend_from_slice(&file.bytes());
        put_varint(&mut out, named_at.0);
    }
    out
}

pub(super) fn decode_references(raw: &[u8]) -> Result<Vec<(FileId, Revision)>, Malformed> {
    let mut cursor = Cursor::new(raw);
    let count = cursor.count(17)?;
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        files.push((FileId::from_bytes(cursor.array()?), Revision(cursor.varint()?)));
    }
    cursor.finish()?;
    Ok(files)
}

pub(super) fn encode_sizes(sizes: &[SizeChange]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, sizes.len() as u64);
    for change in sizes {
        put_varint(&mut out, change.revision.0);
        put_varint(&mut out, change.lowest.map_or(0, |lowest| lowest.0.saturating_add(1)));
        put_varint(&mut out, change.last.0);
    }
    out
}

pub(super) fn decode_sizes(raw: &[u8], published: Revision) -> Result<Vec<SizeChange>, Malformed> {
    let mut cursor = Cursor::new(raw);
    let count = cursor.count(3)?;
    let mut sizes = Vec::with_capacity(count);
    for _ in 0..count {
        sizes.push(SizeChange {
            revision: resolve(Revision(cursor.varint()?), published),
            lowest: cursor.varint()?.checked_sub(1).map(PageCount),
            last: PageCount(cursor.varint()?),
        });
    }
    if !sizes.is_sorted_by(|a, b| a.revision < b.revision) {
        return Err(cursor.malformed("is out of order"));
    }
    cursor.finish()?;
    Ok(sizes)
}
