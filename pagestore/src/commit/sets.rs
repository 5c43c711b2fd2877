use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::meta::txn::{Guards, LockGuard, plan_ranges};
use crate::types::{PageCount, PageNo, Revision};

/// What a transaction read: page by page, each as of the base unless a newer revision is beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadSet {
    pages: BTreeMap<PageNo, Revision>,
    /// True when the outcome depends on the page count.
    pub(super) page_count: bool,
}

impl ReadSet {
    /// `page` was read: as of the base from here on, whatever was tolerated before.
    pub(super) fn insert(&mut self, page: PageNo) {
        self.pages.insert(page, Revision::ZERO);
    }

    /// `page` was read, and what changed it up to `revision` makes no difference: unless it was also
    /// read as of the base, which is stricter. Of two tolerant reads the later revision counts.
    pub(super) fn insert_newer(&mut self, page: PageNo, revision: Revision) {
        match self.pages.entry(page) {
            Entry::Vacant(entry) => {
                entry.insert(revision);
            }
            Entry::Occupied(mut entry)
                if *entry.get() > Revision::ZERO || planted!(ToleranceWins) =>
            {
                let newest = revision.max(*entry.get());
                entry.insert(newest);
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// What a transaction did to the page count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeUse {
    /// The count at the base.
    pub(super) base: PageCount,
    /// The lowest count that it went through.
    pub(super) lowest: PageCount,
    /// The count now.
    pub(super) last: PageCount,
    /// True once a write or a truncation changed the count, even if it is as before again.
    pub(super) changed: bool,
}

impl SizeUse {
    /// Nothing done yet.
    #[must_use]
    pub(super) fn new(base: PageCount) -> SizeUse {
        SizeUse { base, lowest: base, last: base, changed: false }
    }

    /// Sets the count.
    pub(super) fn set(&mut self, count: PageCount) {
        if count != self.last {
            self.lowest = self.lowest.min(count);
            self.last = count;
            self.changed = true;
        }
    }

    /// Forgets that the count grew and shrank again to what it was.
    pub(super) fn forget_unchanged(&mut self) {
        if self.last == self.base && !self.truncates() {
            self.changed = false;
        }
    }

    /// True when pages were truncated away.
    #[must_use]
    pub(super) fn truncates(&self) -> bool {
        self.lowest < self.base
    }
}

/// The pages that a transaction must find unchanged, its reads and writes together.
#[derive(Clone, Debug, Default)]
pub(super) struct Footprint {
    /// Pages read or written, with the revision up to which a change makes no difference.
    pages: BTreeMap<PageNo, Revision>,
    /// Pages written; sorted.
    writes: Vec<PageNo>,
    /// True when the page count was read or changes.
    pub(super) page_count: bool,
    /// True when the page count changes.
    pub(super) resizes: bool,
    /// What the commit wants of the volume's write lock.
    pub(super) lock: LockGuard,
}

impl Footprint {
    /// What `reads` and `writes` depend on. A written page counts as read at the base: if it
    /// changed since, the write would hide the change.
    #[must_use]
    pub(super) fn new(
        reads: &ReadSet,
        writes: impl Iterator<Item = PageNo>,
        size: &SizeUse,
    ) -> Footprint {
        let mut pages = reads.pages.clone();
        let writes: Vec<PageNo> = writes.collect();
        if !planted!(WritesNotCompared) {
            pages.extend(writes.iter().map(|page| (*page, Revision::ZERO)));
        }
        let page_count = reads.page_count || size.changed;
        Footprint { pages, writes, page_count, resizes: size.changed, lock: LockGuard::None }
    }

    /// True when the transaction writes `page`.
    #[must_use]
    pub(super) fn writes(&self, page: PageNo) -> bool {
        self.writes.binary_search(&page).is_ok()
    }

    /// The same, but changes of `page` up to `revision` make no difference.
    #[must_use]
    pub(super) fn tolerating(&self, page: PageNo, revision: Revision) -> Footprint {
        let mut tolerant = self.clone();
        tolerant.pages.entry(page).and_modify(|newer| *newer = revision.max(*newer));
        tolerant
    }

    /// True when a change of `page` at `revision` conflicts with a transaction on `base`.
    #[must_use]
    pub(super) fn conflicts(&self, page: PageNo, revision: Revision, base: Revision) -> bool {
        self.pages.get(&page).is_some_and(|newer| revision > base.max(*newer))
    }

    /// The pages from `first` on that conflict with a change of all these at `revision`.
    pub(super) fn conflicting_from(
        &self,
        first: PageNo,
        revision: Revision,
        base: Revision,
    ) -> impl Iterator<Item = PageNo> {
        let from = self.pages.range(first..);
        from.filter(move |(_, newer)| revision > base.max(**newer)).map(|(page, _)| *page)
    }

    /// All pages, with the revision up to which a change makes no difference on `base`.
    pub(super) fn pages(&self, base: Revision) -> impl Iterator<Item = (PageNo, Revision)> {
        self.pages.iter().map(move |(page, newer)| (*page, base.max(*newer)))
    }

    /// True when the two may share a transaction of the meta tier, whose compares all see the state
    /// before it: neither writes what the other reads or writes.
    #[must_use]
    pub(super) fn is_disjoint(&self, other: &Footprint) -> bool {
        if planted!(OverlapInAGroup) {
            // As far as the meta tier would let it pass: no key is put twice.
            return !(self.resizes && other.resizes
                || self.writes.iter().any(|p| other.writes(*p)));
        }
        let writes_what = |a: &Footprint, b: &Footprint| {
            (a.resizes && b.page_count) || a.writes.iter().any(|page| b.pages.contains_key(page))
        };
        !writes_what(self, other) && !writes_what(other, self)
    }

    /// The compares for a transaction on `base`, at most `max` of them.
    #[must_use]
    pub(super) fn guards(&self, base: Revision, max: usize) -> Guards {
        let (newer, at_base): (Vec<_>, Vec<_>) = self.pages(base).partition(|(_, at)| *at > base);
        // Each page with a revision of its own needs a compare of its own; beyond a few, the base
        // has to do, and a rebase answers what it refuses too much.
        let (newer, coarse) = newer.split_at(newer.len().min(MAX_OWN_REVISIONS).min(max / 4));
        let mut pages: Vec<PageNo> = at_base.iter().chain(coarse).map(|(page, _)| *page).collect();
        pages.sort_unstable();
        // A joined range may not cover a page that has its own compare: it would undo it. So each
        // may cut a range in two.
        let ranges = plan_ranges(&pages, max - 2 * newer.len());
        let newer = newer.to_vec();
        let ranges = newer.iter().fold(ranges, |ranges, (page, _)| cut(&ranges, *page));
        Guards { ranges, newer, page_count: self.page_count, lock: self.lock.clone() }
    }
}

/// Pages that get a compare with a revision of their own.
const MAX_OWN_REVISIONS: usize = 8;

/// Leaves `page` out of `ranges`.
fn cut(ranges: &[(PageNo, PageNo)], page: PageNo) -> Vec<(PageNo, PageNo)> {
    let mut out = Vec::with_capacity(ranges.len() + 1);
    for &(first, last) in ranges {
        if first <= page && page <= last {
            if first < page {
                out.push((first, PageNo(page.0 - 1)));
            }
            if page < last {
                out.push((PageNo(page.0 + 1), last));
            }
        } else {
            out.push((first, last));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(reads: &[u64], writes: &[u64], resizes: bool) -> Footprint {
        let mut set = ReadSet::default();
        reads.iter().for_each(|page| set.insert(PageNo(*page)));
        let mut size = SizeUse::new(PageCount(100));
        if resizes {
            size.set(PageCount(101));
        }
        Footprint::new(&set, writes.iter().map(|page| PageNo(*page)), &size)
    }

    #[test]
    fn only_what_neither_writes_may_be_shared() {
        let a = footprint(&[1, 2], &[3], false);
        assert!(a.is_disjoint(&footprint(&[1, 2], &[4], false)));
        assert!(!a.is_disjoint(&footprint(&[3], &[4], false)));
        assert!(!a.is_disjoint(&footprint(&[], &[1], false)));
        assert!(!a.is_disjoint(&footprint(&[], &[3], false)));
        let grows = footprint(&[], &[9], true);
        assert!(a.is_disjoint(&grows));
        assert!(!grows.is_disjoint(&footprint(&[], &[10], true)));
    }

    #[test]
    fn a_page_of_its_own_revision_is_compared_alone() {
        let mut reads = ReadSet::default();
        [1, 2, 4, 5].into_iter().for_each(|page| reads.insert(PageNo(page)));
        reads.insert_newer(PageNo(3), Revision(20));
        let footprint = Footprint::new(&reads, std::iter::empty(), &SizeUse::new(PageCount(9)));
        let guards = footprint.guards(Revision(10), 56);
        assert_eq!(guards.newer, [(PageNo(3), Revision(20))]);
        assert_eq!(guards.ranges, [(PageNo(1), PageNo(2)), (PageNo(4), PageNo(5))]);
        assert!(!footprint.conflicts(PageNo(3), Revision(20), Revision(10)));
        assert!(footprint.conflicts(PageNo(3), Revision(21), Revision(10)));
        assert!(footprint.conflicts(PageNo(4), Revision(11), Revision(10)));
        // A rebase beyond its own revision leaves nothing special.
        assert_eq!(footprint.guards(Revision(30), 56).newer, []);
    }

    #[test]
    fn a_read_as_of_the_base_is_stricter_than_a_tolerant_one_whichever_came_first() {
        let conflicts = |calls: &[Option<u64>]| {
            let mut reads = ReadSet::default();
            for call in calls {
                match call {
                    None => reads.insert(PageNo(3)),
                    Some(revision) => reads.insert_newer(PageNo(3), Revision(*revision)),
                }
            }
            let footprint = Footprint::new(&reads, std::iter::empty(), &SizeUse::new(PageCount(9)));
            (11..=31).find(|at| footprint.conflicts(PageNo(3), Revision(*at), Revision(10)))
        };
        assert_eq!(conflicts(&[None, Some(20)]), Some(11));
        assert_eq!(conflicts(&[Some(20), None]), Some(11));
        assert_eq!(conflicts(&[Some(20), None, Some(30)]), Some(11));
        // What is tolerated may grow, as the caller learns that newer versions change nothing for it.
        assert_eq!(conflicts(&[Some(20)]), Some(21));
        assert_eq!(conflicts(&[Some(10), Some(30), Some(20)]), Some(31));
    }

    #[test]
    fn writing_a_page_read_at_a_newer_revision_guards_it_at_the_base() {
        let mut reads = ReadSet::default();
        reads.insert_newer(PageNo(3), Revision(20));
        let footprint =
            Footprint::new(&reads, std::iter::once(PageNo(3)), &SizeUse::new(PageCount(9)));
        assert!(footprint.conflicts(PageNo(3), Revision(11), Revision(10)));
    }
}
