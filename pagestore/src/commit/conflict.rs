use crate::mirror::VolumeState;
use crate::types::{FileId, PageNo, Revision};

use super::sets::Footprint;

/// What the changelog says of a transaction that was overtaken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overtaken {
    /// These pages changed since the base; none named when only the page count did.
    Conflict(Vec<PageNo>),
    /// Nothing in the changelog; what these bulk files hold is still to be looked at.
    Files(Vec<(Revision, FileId)>),
    /// The changelog does not reach back to the base: every page is to be looked up.
    Lookup,
}

/// Holds `footprint` on `base` against everything that `state` knows to have happened since.
///
/// A truncation counts as a change of every page from its lowest count on, and a change of the page
/// count as a change of a page that every commit reads that depends on the count.
pub(super) fn check_changelog(
    state: &VolumeState,
    footprint: &Footprint,
    base: Revision,
) -> Overtaken {
    if footprint.page_count && state.page_count_modified > base {
        return Overtaken::Conflict(vec![]);
    }
    if base < state.changelog_from {
        return Overtaken::Lookup;
    }
    let (mut pages, mut files) = (Vec::new(), Vec::new());
    for ((revision, _), commit) in state.since(base) {
        let size = commit.size.filter(|_| !planted!(RebaseSkipsTruncations));
        if let Some(lowest) = size.and_then(|size| size.lowest) {
            pages.extend(footprint.conflicting_from(PageNo(lowest.0), *revision, base));
        }
        let changed = commit.pages.iter().map(|change| change.page);
        pages.extend(changed.filter(|page| footprint.conflicts(*page, *revision, base)));
        if !planted!(RebaseSkipsFiles) {
            files.extend(commit.files.iter().map(|file| (*revision, *file)));
        }
    }
    if pages.is_empty() { Overtaken::Files(files) } else { Overtaken::Conflict(pages) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::sets::{ReadSet, SizeUse};
    use super::*;
    use crate::meta::keys::{StoreKeys, VolumeKeys};
    use crate::meta::records::{
        ChangelogEntry, Commit, Floor, PageChange, PageCountRecord, Record, SizeChange,
        VolumeRecord,
    };
    use crate::meta::{Event, KeyValue, LeaseId, WatchBatch};
    use crate::types::{CommitId, ContentHash, HashSecret, Keep, PageCount, PageSize, VolumeId};

    fn keys() -> VolumeKeys {
        StoreKeys::new("").volume(VolumeId(1))
    }

    fn kv(key: Bytes, record: &impl Record, revision: u64) -> KeyValue {
        let value = record.encode(keys().suffix(&key));
        let at = Revision(revision);
        KeyValue {
            key,
            value,
            create_revision: at,
            mod_revision: at,
            version: 1,
            lease: LeaseId(0),
        }
    }

    fn new_volume() -> VolumeState {
        let record =
            VolumeRecord::new(PageSize::DEFAULT, Keep::Forever, 0, HashSecret::new([1; 192]));
        let kvs = [
            kv(keys().metadata(), &record, 2),
            kv(keys().page_count(), &PageCountRecord(PageCount(9)), 2),
        ];
        VolumeState::load(&keys(), &kvs, Revision(2)).unwrap()
    }

    fn apply(state: &VolumeState, revision: u64, events: Vec<Event>) -> VolumeState {
        state.apply(&keys(), &WatchBatch { revision: Revision(revision), events }).unwrap()
    }

    fn commit(state: &VolumeState, revision: u64, commit: Commit) -> VolumeState {
        let id = CommitId::from_bytes([revision.to_le_bytes()[0]; 16]);
        let mut events = Vec::new();
        if let Some(size) = commit.size {
            events.push(Event::Put(kv(keys().page_count(), &PageCountRecord(size.last), revision)));
        }
        let entry = ChangelogEntry::Committed(commit);
        events.push(Event::Put(kv(keys().commit(id), &entry, revision)));
        apply(state, revision, events)
    }

    fn changes(pages: &[u64]) -> Commit {
        let page = |page: &u64| PageChange {
            page: PageNo(*page),
            hash: ContentHash::ZERO_PAGE,
            staged: None,
        };
        let pages = pages.iter().map(page).collect();
        Commit { base: Revision(2), pages, files: vec![], bulk_page_count: 0, size: None }
    }

    fn resizes(lowest: Option<u64>, last: u64) -> Commit {
        let size = SizeChange { lowest: lowest.map(PageCount), last: PageCount(last) };
        Commit { size: Some(size), ..changes(&[]) }
    }

    fn reads(pages: &[u64]) -> Footprint {
        let mut reads = ReadSet::default();
        pages.iter().for_each(|page| reads.insert(PageNo(*page)));
        Footprint::new(&reads, std::iter::empty(), &SizeUse::new(PageCount(9)))
    }

    #[test]
    fn only_changes_after_the_base_conflict() {
        let state = commit(&commit(&new_volume(), 5, changes(&[1, 3])), 7, changes(&[4]));
        let check = |pages: &[u64], base| check_changelog(&state, &reads(pages), Revision(base));
        assert_eq!(check(&[1, 2], 5), Overtaken::Files(vec![]));
        assert_eq!(check(&[1, 2, 3], 4), Overtaken::Conflict(vec![PageNo(1), PageNo(3)]));
        assert_eq!(check(&[4], 6), Overtaken::Conflict(vec![PageNo(4)]));
        assert_eq!(check(&[4], 7), Overtaken::Files(vec![]));
    }

    #[test]
    fn a_truncation_changes_every_page_from_its_lowest_count_on() {
        let state = commit(&new_volume(), 5, resizes(Some(4), 9));
        let check = |footprint: &Footprint| check_changelog(&state, footprint, Revision(4));
        assert_eq!(check(&reads(&[3])), Overtaken::Files(vec![]));
        assert_eq!(check(&reads(&[3, 4, 8])), Overtaken::Conflict(vec![PageNo(4), PageNo(8)]));
    }

    #[test]
    fn the_page_count_is_one_more_page() {
        let state = commit(&new_volume(), 5, resizes(None, 12));
        let mut set = ReadSet::default();
        set.page_count = true;
        let counts = Footprint::new(&set, std::iter::empty(), &SizeUse::new(PageCount(9)));
        assert_eq!(check_changelog(&state, &counts, Revision(4)), Overtaken::Conflict(vec![]));
        assert_eq!(check_changelog(&state, &counts, Revision(5)), Overtaken::Files(vec![]));
        assert_eq!(check_changelog(&state, &reads(&[8]), Revision(4)), Overtaken::Files(vec![]));
    }

    #[test]
    fn bulk_files_are_named_and_what_is_forgotten_is_looked_up() {
        let file = FileId::from_bytes([9; 16]);
        let bulk = Commit { files: vec![file], bulk_page_count: 1, ..changes(&[]) };
        let state = commit(&new_volume(), 5, bulk);
        let found = check_changelog(&state, &reads(&[1]), Revision(4));
        assert_eq!(found, Overtaken::Files(vec![(Revision(5), file)]));
        // A state loaded after a flush knows nothing from before the floor.
        let kvs = [
            kv(keys().metadata(), state.record.as_ref(), 2),
            kv(keys().floor(), &Floor { up_to: Revision(5) }, 6),
        ];
        let loaded = VolumeState::load(&keys(), &kvs, Revision(6)).unwrap();
        assert_eq!(check_changelog(&loaded, &reads(&[1]), Revision(4)), Overtaken::Lookup);
        assert_eq!(check_changelog(&loaded, &reads(&[1]), Revision(5)), Overtaken::Files(vec![]));
    }

    #[test]
    fn a_flush_leaves_what_was_committed_known() {
        let state = commit(&new_volume(), 5, changes(&[1]));
        let floor = Event::Put(kv(keys().floor(), &Floor { up_to: Revision(5) }, 6));
        let flushed = apply(&state, 6, vec![floor]);
        assert!(flushed.staged.is_empty());
        let found = check_changelog(&flushed, &reads(&[1]), Revision(4));
        assert_eq!(found, Overtaken::Conflict(vec![PageNo(1)]));
    }
}
