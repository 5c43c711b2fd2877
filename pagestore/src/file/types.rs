use std::num::NonZeroU32;
use std::ops::Range;

use crate::types::{CommitId, ContentHash, FileId, PageCount, PageNo, Revision};

/// Where a file's frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameHandle {
    /// First byte, from the start of its file.
    pub offset: u64,
    /// Its length.
    pub bytes: NonZeroU32,
}

impl FrameHandle {
    /// The byte range to fetch.
    #[must_use]
    pub fn range(self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.bytes.get().into())
    }
}

/// Where a page's content is: relative to the file whose index says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The frame.
    pub frame: FrameHandle,
    /// 0 for the file itself, else the place in its references, from 1.
    pub file: u16,
    /// Which page of the frame.
    pub slot: u16,
}

/// Where a page's content is, said without a file's references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyAt {
    /// The file.
    pub file: FileId,
    /// The revision in that file's name.
    pub named_at: Revision,
    /// The frame.
    pub frame: FrameHandle,
    /// Which page of the frame.
    pub slot: u16,
}

/// One version of one page. Sorted by page, the newest version of a page first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The page.
    pub page: PageNo,
    /// The revision that made the version. Decoding has put the publication's for the
    /// [`Revision::ZERO`] that stands in a bulk file.
    pub revision: Revision,
    /// The content's hash.
    pub hash: ContentHash,
    /// Where the content is; `None` exactly when the hash is [`ContentHash::ZERO_PAGE`].
    pub location: Option<Location>,
}

impl IndexEntry {
    /// What entries are sorted by.
    #[must_use]
    pub fn key(&self) -> EntryKey {
        EntryKey::new(self.page, self.revision)
    }
}

/// The order of index entries: page ascending, then revision descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// The page.
    pub page: PageNo,
    age: std::cmp::Reverse<Revision>,
}

impl EntryKey {
    /// The place of (page, revision). The first entry at or after it is the newest version of `page`
    /// at or below `revision`, if that entry is of `page`.
    #[must_use]
    pub fn new(page: PageNo, revision: Revision) -> EntryKey {
        EntryKey { page, age: std::cmp::Reverse(revision) }
    }

    /// The revision.
    #[must_use]
    pub fn revision(self) -> Revision {
        self.age.0
    }
}

/// How a commit's pages reached the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommitKind {
    /// Staged in the meta tier.
    Staged,
    /// As a file.
    Bulk,
}

/// A commit, as files remember it once the changelog has been flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRecord {
    /// Its revision. Decoding has put the publication's for [`Revision::ZERO`].
    pub revision: Revision,
    /// Its id.
    pub commit: CommitId,
    /// The revision of the snapshot that it was validated against.
    pub base: Revision,
    /// How many pages it wrote.
    pub written_count: u64,
    /// How its pages reached the store.
    pub kind: CommitKind,
}

/// What the commits of one revision did to the page count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeChange {
    /// The revision. Decoding has put the publication's for [`Revision::ZERO`].
    pub revision: Revision,
    /// When it truncated: the lowest page count it went through. Older versions of pages from there
    /// on read as zeros.
    pub lowest: Option<PageCount>,
    /// The page count afterwards.
    pub last: PageCount,
}

/// The revision that an entry stands for in a file published at `published`.
pub(super) fn resolve(revision: Revision, published: Revision) -> Revision {
    if revision == Revision::ZERO { published } else { revision }
}
