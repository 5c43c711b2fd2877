//! Entries for the tests of this module.

use std::ops::RangeInclusive;

use crate::file::{FileEntry, Origin};
use crate::types::{FileId, PageNo, Revision};

pub(super) fn id(n: u8) -> FileId {
    FileId::from_bytes([n; 16])
}

pub(super) fn entry(
    n: u8,
    level: u8,
    pages: RangeInclusive<u64>,
    revisions: RangeInclusive<u64>,
) -> FileEntry {
    FileEntry {
        id: id(n),
        named_at: Revision(1),
        level,
        first: PageNo(*pages.start()),
        last: PageNo(*pages.end()),
        published: Some(Revision(1)),
        origin: Origin::Flush,
        bytes: 1000,
        tail_offset: 900,
        tail_checksum: 0,
        version_count: 1,
        page_count: 1,
        oldest: Revision(*revisions.start()),
        newest: Revision(*revisions.end()),
        commit_count: 0,
        newest_commit_ms: 0,
        size_change_count: 0,
        truncation: None,
        refs: Vec::new(),
        own_frame_bytes: 0,
        raw_bytes: 0,
    }
}
