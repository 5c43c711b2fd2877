//! One volume: what it holds at each revision, and whether a commit may be.

use std::collections::{BTreeMap, BTreeSet};

use pagestore::internal::levels::Levels;
use pagestore::internal::meta::keys::VolumeKeys;
use pagestore::internal::meta::records::Commit;

use super::{Part, VolumeModel};

pub(super) fn at<T: Copy + Default>(changes: &[(u64, T)], revision: u64) -> T {
    let count = changes.partition_point(|(at, _)| *at <= revision);
    count.checked_sub(1).map_or_else(T::default, |last| changes[last].1)
}

impl VolumeModel {
    pub(super) fn new(keys: VolumeKeys, created: u64) -> VolumeModel {
        VolumeModel {
            keys,
            created,
            deleted: false,
            head: created,
            pages: BTreeMap::new(),
            touched: BTreeMap::new(),
            truncations: Vec::new(),
            counts: vec![(created, 0)],
            count_put: created,
            oldest: 0,
            levels: Levels::default(),
            dropped: BTreeSet::new(),
            needed_until: BTreeMap::new(),
            level_lists: BTreeMap::new(),
            holds: BTreeSet::new(),
            floor: 0,
            commits: 0,
        }
    }

    pub(super) fn digest_at(&self, page: u64, revision: u64) -> u64 {
        self.pages.get(&page).map_or(0, |changes| at(changes, revision))
    }

    fn changed(&self, page: u64) -> u64 {
        self.pages.get(&page).and_then(|changes| changes.last()).map_or(0, |(at, _)| *at)
    }

    /// Why this commit must not have happened.
    pub(super) fn objection(&self, part: &Part, commit: &Commit) -> Option<String> {
        if commit.base.0 < part.base {
            return Some(format!("on {}, but it read {}", commit.base, part.base));
        }
        let written = part.writes.keys().map(|page| (*page, 0));
        for (page, tolerated) in part.reads.iter().map(|(page, at)| (*page, *at)).chain(written) {
            let changed = self.changed(page);
            if changed > part.base.max(tolerated) {
                return Some(format!(
                    "page {page} changed at {changed}, after its base {}",
                    part.base
                ));
            }
        }
        let counted = self.counts.last().map_or(0, |(at, _)| *at);
        if (part.asks_count || part.last_count.is_some()) && counted > part.base {
            return Some(format!("the page count changed at {counted}, after {}", part.base));
        }
        let size = commit.size.map(|size| (size.lowest.map(|count| count.0), size.last.0));
        // A count that grew and is as it was again may count as left alone.
        let as_before = part.lowest.is_none() && part.last_count == Some(part.base_count);
        let is_right = size == part.last_count.map(|last| (part.lowest, last));
        if !(is_right || as_before && size.is_none()) {
            return Some(format!("its page count is {size:?}, not {:?}", part.last_count));
        }
        if commit.files.is_empty() {
            let staged: BTreeSet<u64> = commit.pages.iter().map(|change| change.page.0).collect();
            if let Some(page) = staged.iter().find(|page| !part.writes.contains_key(*page)) {
                return Some(format!("it wrote page {page}, which it was not asked to"));
            }
            for (page, digest) in &part.writes {
                let cut = part.lowest.is_some_and(|lowest| *page >= lowest);
                let before = if cut { 0 } else { self.digest_at(*page, u64::MAX) };
                if before != *digest && !staged.contains(page) {
                    return Some(format!("page {page} is missing from it"));
                }
            }
        } else if commit.bulk_page_count != part.writes.len() as u64 {
            return Some(format!("its files have {} pages", commit.bulk_page_count));
        }
        None
    }

    /// Does neither write what the other reads or writes?
    pub(super) fn is_disjoint(&self, a: &Part, b: &Part) -> bool {
        let one_way = |a: &Part, b: &Part| {
            let count = |part: &Part| part.asks_count || part.last_count.is_some();
            let changes = |page: &u64, digest: &u64| self.digest_at(*page, u64::MAX) != *digest;
            (a.last_count.is_some() && count(b))
                || a.writes.iter().any(|(page, digest)| {
                    changes(page, digest)
                        && (b.reads.contains_key(page) || b.writes.contains_key(page))
                })
        };
        !one_way(a, b) && !one_way(b, a)
    }

    pub(super) fn apply(&mut self, revision: u64, part: &Part, bulk: bool) {
        self.head = revision;
        self.commits += 1;
        if let Some(lowest) = part.lowest {
            self.truncations.push((revision, lowest));
            for (_, changes) in self.pages.range_mut(lowest..) {
                set(changes, revision, 0);
            }
        }
        for (page, digest) in &part.writes {
            let changes = self.pages.entry(*page).or_default();
            let before = changes.last().map_or(0, |(_, digest)| *digest);
            set(changes, revision, *digest);
            if bulk || before != *digest {
                self.touched.insert(*page, revision);
            }
        }
        if let Some(last) = part.last_count {
            self.count_put = revision;
            if self.counts.last().is_some_and(|(_, count)| *count != last) {
                self.counts.push((revision, last));
            }
        }
    }
}

/// Notes a page's content from `revision` on, if it is another one.
fn set(changes: &mut Vec<(u64, u64)>, revision: u64, digest: u64) {
    if changes.last().is_some_and(|(at, _)| *at == revision) {
        changes.pop();
    }
    if changes.last().map_or(0, |(_, digest)| *digest) != digest {
        changes.push((revision, digest));
    }
}
