use imbl::OrdMap;

use super::retention::Readable;
use crate::file::SizeChange;
use crate::types::{PageCount, PageNo, Revision};

/// How a volume's page count changed. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct SizeHistory {
    changes: OrdMap<Revision, SizeChange>,
    /// Those that truncated: the lowest count.
    truncations: OrdMap<Revision, PageCount>,
    /// The lowest of all: most pages were never truncated away.
    lowest: Option<PageCount>,
}

impl SizeHistory {
    /// Adds a change; one that is known already changes nothing.
    pub fn insert(&mut self, change: SizeChange) {
        self.changes.insert(change.revision, change);
        if let Some(lowest) = change.lowest {
            self.truncations.insert(change.revision, lowest);
            self.lowest = Some(self.lowest.map_or(lowest, |known| known.min(lowest)));
        }
    }

    /// The page count that `revision` sees; 0 before the first change.
    #[must_use]
    pub fn page_count_at(&self, revision: Revision) -> PageCount {
        self.changes.get_prev(&revision).map_or(PageCount(0), |(_, change)| change.last)
    }

    /// True when a version of `page` of revision `version` is truncated away as `at` sees it, so that
    /// the page reads as zeros. A write of the truncation's own revision is not.
    #[must_use]
    pub fn truncated_since(&self, page: PageNo, version: Revision, at: Revision) -> bool {
        if self.lowest.is_none_or(|lowest| lowest.contains(page)) || at <= version {
            return false;
        }
        self.truncations.range(version.next()..=at).any(|(_, lowest)| !lowest.contains(page))
    }

    /// All changes, oldest first.
    pub fn changes(&self) -> impl Iterator<Item = &SizeChange> {
        self.changes.values()
    }

    /// True when there are no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes that matter to readable revisions, oldest first: between two of them the last one,
    /// and every truncation that none later goes as low as.
    #[must_use]
    pub fn coalesced(&self, readable: &Readable) -> Vec<SizeChange> {
        let mut kept = Vec::new();
        let mut seen_by = None;
        let mut lowest: Option<PageCount> = None;
        for change in self.changes.values().rev() {
            let first_reader = readable.first_from(change.revision);
            let last_before_it = seen_by != Some(first_reader);
            if last_before_it {
                seen_by = Some(first_reader);
                lowest = None;
            }
            let goes_lower = match (change.lowest, lowest) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(mine), Some(later)) => mine < later,
            };
            if goes_lower {
                lowest = change.lowest;
            }
            if last_before_it || goes_lower {
                kept.push(*change);
            }
        }
        kept.reverse();
        kept
    }
}

impl FromIterator<SizeChange> for SizeHistory {
    fn from_iter<I: IntoIterator<Item = SizeChange>>(changes: I) -> SizeHistory {
        let mut history = SizeHistory::default();
        changes.into_iter().for_each(|change| history.insert(change));
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(changes: &[(u64, Option<u64>, u64)]) -> SizeHistory {
        let change = |(revision, lowest, last): &(u64, Option<u64>, u64)| SizeChange {
            revision: Revision(*revision),
            lowest: lowest.map(PageCount),
            last: PageCount(*last),
        };
        changes.iter().map(change).collect()
    }

    fn revisions(kept: &[SizeChange]) -> Vec<u64> {
        kept.iter().map(|change| change.revision.0).collect()
    }

    #[test]
    fn the_count_is_that_of_the_last_change_up_to_the_revision() {
        let sizes = history(&[(3, None, 10), (5, Some(2), 8), (9, None, 20)]);
        let at = |revision| sizes.page_count_at(Revision(revision)).0;
        assert_eq!(
            [at(2), at(3), at(4), at(5), at(8), at(9), at(u64::MAX)],
            [0, 10, 10, 8, 8, 20, 20]
        );
    }

    #[test]
    fn a_truncation_hides_older_versions_from_its_lowest_count_on() {
        let sizes = history(&[(3, None, 10), (5, Some(2), 8), (9, None, 20)]);
        let hidden = |page, version, at| {
            sizes.truncated_since(PageNo(page), Revision(version), Revision(at))
        };
        assert!(hidden(2, 4, 5));
        assert!(hidden(7, 4, 100));
        assert!(!hidden(1, 4, 100), "below the lowest count");
        assert!(!hidden(2, 4, 4), "before the truncation");
        assert!(!hidden(2, 5, 100), "writes of the same revision win");
        assert!(!hidden(15, 6, 100), "growth hides nothing");
        assert!(!hidden(2, u64::MAX, u64::MAX));
    }

    #[test]
    fn coalescing_keeps_what_a_readable_revision_can_tell_apart() {
        let sizes = history(&[
            (1, None, 100),
            (2, Some(50), 50),
            (3, None, 60),
            (4, Some(40), 40),
            (5, None, 90),
            (6, Some(70), 70),
            (7, None, 80),
            (9, None, 85),
            (10, None, 86),
        ]);
        let kept = |oldest, points: &[u64]| {
            let readable =
                Readable::new(Revision(oldest), points.iter().copied().map(Revision).collect());
            revisions(&sizes.coalesced(&readable))
        };
        assert_eq!(kept(0, &[]), [1, 2, 3, 4, 5, 6, 7, 9, 10]);
        assert_eq!(kept(8, &[]), [4, 6, 7, 9, 10]);
        assert_eq!(kept(100, &[]), [4, 6, 10]);
        assert_eq!(kept(100, &[3]), [2, 3, 4, 6, 10]);
        assert_eq!(kept(100, &[1, 5]), [1, 4, 5, 6, 10]);
    }

    #[test]
    fn coalescing_changes_nothing_that_is_readable() {
        let mut seed = 7u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % n
        };
        for _ in 0..300 {
            let mut changes: Vec<(u64, Option<u64>, u64)> = Vec::new();
            for revision in 1..30 {
                match random(4) {
                    0 => changes.push((revision, None, random(20) + 1)),
                    1 => {
                        let lowest = random(20);
                        changes.push((revision, Some(lowest), lowest + random(3)));
                    }
                    _ => {}
                }
            }
            let sizes = history(&changes);
            let points: Vec<Revision> = (0..random(3)).map(|_| Revision(random(30))).collect();
            let readable = Readable::new(Revision(random(35)), points);
            let coalesced: SizeHistory = sizes.coalesced(&readable).into_iter().collect();
            for at in (0..40).map(Revision).filter(|at| readable.contains(*at)) {
                assert_eq!(sizes.page_count_at(at), coalesced.page_count_at(at));
                for (page, version) in (0..25).flat_map(|page| (0..40).map(move |v| (page, v))) {
                    let (page, version) = (PageNo(page), Revision(version));
                    assert_eq!(
                        sizes.truncated_since(page, version, at),
                        coalesced.truncated_since(page, version, at),
                        "{changes:?} {readable:?} page {page} version {version} at {at}"
                    );
                }
            }
        }
    }
}
