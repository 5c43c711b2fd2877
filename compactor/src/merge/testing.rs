//! File entries for tests.

use std::ops::RangeInclusive;

use pagestore::internal::file::{FileEntry, FileRef, Origin};
use pagestore::internal::types::{FileId, PageNo, Revision};

/// Versions of an [`entry`].
pub(crate) const VERSIONS: u64 = 10_000;

pub(crate) fn file(n: u8) -> FileId {
    FileId::from_bytes([n; 16])
}

/// A file of a level over `pages`, with one version of each of as many pages, of revisions 1 to 10.
pub(crate) fn entry(n: u8, level: u8, pages: RangeInclusive<u64>) -> FileEntry {
    FileEntry {
        id: file(n),
        named_at: Revision(10),
        level,
        first: PageNo(*pages.start()),
        last: PageNo(*pages.end()),
        published: Some(Revision(10)),
        origin: Origin::Merge,
        bytes: 1000,
        tail_offset: 0,
        tail_checksum: 0,
        version_count: VERSIONS,
        page_count: VERSIONS,
        oldest: Revision(1),
        newest: Revision(10),
        commit_count: 0,
        newest_commit_ms: 0,
        size_change_count: 0,
        truncation: None,
        refs: Vec::new(),
        own_frame_bytes: 0,
        raw_bytes: 0,
    }
}

/// `entry` with an index that points into objects: each with how many pages; a page takes 1000 bytes.
pub(crate) fn pointing(mut entry: FileEntry, objects: &[(u8, u64)]) -> FileEntry {
    entry.refs = objects
        .iter()
        .map(|(n, page_count)| FileRef {
            id: file(*n),
            named_at: Revision(1),
            frame_bytes: page_count * 1000,
            frame_count: *page_count,
            page_count: *page_count,
        })
        .collect();
    entry
}

/// `entry` with revisions.
pub(crate) fn of_revisions(mut entry: FileEntry, revisions: RangeInclusive<u64>) -> FileEntry {
    (entry.oldest, entry.newest) = (Revision(*revisions.start()), Revision(*revisions.end()));
    entry
}

/// `entry` with a number of versions, each of its own page.
pub(crate) fn with_versions(mut entry: FileEntry, count: u64) -> FileEntry {
    (entry.version_count, entry.page_count) = (count, count);
    entry
}

/// A file that remembers commits only.
pub(crate) fn log(n: u8, level: u8, revisions: RangeInclusive<u64>) -> FileEntry {
    let mut log = of_revisions(entry(n, level, u64::MAX..=u64::MAX), revisions);
    (log.version_count, log.page_count, log.commit_count) = (0, 0, 5);
    log
}
