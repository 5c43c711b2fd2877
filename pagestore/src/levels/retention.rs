use std::collections::HashSet;

use super::sizes::SizeHistory;
use crate::types::{ContentHash, PageNo, Revision};

/// The revisions that can still be read: all from the oldest on, and some points below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    oldest: Revision,
    points: Vec<Revision>,
}

impl Readable {
    /// Everything from `oldest` on, and the `points`.
    #[must_use]
    pub fn new(oldest: Revision, mut points: Vec<Revision>) -> Readable {
        points.sort_unstable();
        points.dedup();
        Readable { oldest, points }
    }

    /// The first readable revision at or after `revision`.
    #[must_use]
    pub fn first_from(&self, revision: Revision) -> Revision {
        if revision >= self.oldest {
            return revision;
        }
        let at = self.points.partition_point(|point| *point < revision);
        self.points.get(at).map_or(self.oldest, |point| (*point).min(self.oldest))
    }

    /// True when `revision` can be read.
    #[must_use]
    pub fn contains(&self, revision: Revision) -> bool {
        self.first_from(revision) == revision
    }
}

/// One version of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its revision.
    pub revision: Revision,
    /// Its content.
    pub hash: ContentHash,
}

/// Decides which versions of pages must be kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention<'a> {
    /// What can be read.
    pub readable: &'a Readable,
    /// The volume's truncations.
    pub sizes: &'a SizeHistory,
    /// The bases of staged deltas that are not yet flushed.
    pub needed_bases: &'a HashSet<ContentHash>,
    /// True when nothing older than the versions at hand is anywhere below them, so that nothing
    /// could surface where one is left out.
    pub bottom: bool,
}

impl Retention<'_> {
    /// For each of the `versions` of `page`, newest first, whether it must be kept: because a readable
    /// revision sees it, because an unflushed delta needs it, or because an older one would surface.
    #[must_use]
    pub fn keep(&self, page: PageNo, versions: &[Version]) -> Vec<bool> {
        let mut kept = Vec::with_capacity(versions.len());
        let mut newer: Option<Revision> = None;
        for version in versions {
            assert!(
                newer.is_none_or(|newer| version.revision < newer),
                "BUG: versions come newest first"
            );
            let seen = self.is_seen(page, version.revision, newer);
            let needed =
                || !version.hash.is_zero_page() && self.needed_bases.contains(&version.hash);
            kept.push(seen || needed());
            newer = Some(version.revision);
        }
        if self.bottom {
            leave_out_lowest_zeros(versions, &mut kept);
        }
        kept
    }

    /// True when a readable revision sees the version that `newer` supersedes.
    fn is_seen(&self, page: PageNo, revision: Revision, newer: Option<Revision>) -> bool {
        // The first reader sees whatever any later one does: truncations only add up.
        let reader = self.readable.first_from(revision);
        newer.is_none_or(|newer| reader < newer)
            && !self.sizes.truncated_since(page, revision, reader)
    }
}

/// A page of zeros with nothing below it says what no entry says too.
fn leave_out_lowest_zeros(versions: &[Version], kept: &mut [bool]) {
    for (version, kept) in versions.iter().zip(kept).rev().filter(|(_, kept)| **kept) {
        if !version.hash.is_zero_page() {
            return;
        }
        *kept = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::SizeChange;
    use crate::types::PageCount;

    const PAGE: PageNo = PageNo(5);

    fn hash(revision: u64) -> ContentHash {
        ContentHash((u128::from(revision) + 1).to_be_bytes())
    }

    /// Versions by revision; a negative one is a page of zeros.
    fn versions(revisions: &[i64]) -> Vec<Version> {
        let version = |revision: &i64| {
            let zero = *revision < 0;
            let revision = revision.unsigned_abs();
            let hash = if zero { ContentHash::ZERO_PAGE } else { hash(revision) };
            Version { revision: Revision(revision), hash }
        };
        revisions.iter().map(version).collect()
    }

    struct Case<'a> {
        oldest: u64,
        points: &'a [u64],
        truncations: &'a [(u64, u64)],
        bases: &'a [u64],
        bottom: bool,
    }

    const CASE: Case<'_> =
        Case { oldest: 0, points: &[], truncations: &[], bases: &[], bottom: false };

    fn kept(case: &Case<'_>, revisions: &[i64]) -> Vec<i64> {
        let points = case.points.iter().copied().map(Revision).collect();
        let sizes: SizeHistory = case
            .truncations
            .iter()
            .map(|(revision, lowest)| SizeChange {
                revision: Revision(*revision),
                lowest: Some(PageCount(*lowest)),
                last: PageCount(*lowest),
            })
            .collect();
        let retention = Retention {
            readable: &Readable::new(Revision(case.oldest), points),
            sizes: &sizes,
            needed_bases: &case.bases.iter().copied().map(hash).collect(),
            bottom: case.bottom,
        };
        let keep = retention.keep(PAGE, &versions(revisions));
        revisions.iter().zip(keep).filter(|(_, keep)| *keep).map(|(version, _)| *version).collect()
    }

    #[test]
    fn what_a_readable_revision_sees_is_kept() {
        let all = [9, 7, 5, 3, 1];
        assert_eq!(kept(&CASE, &all), all);
        assert_eq!(kept(&Case { oldest: 8, ..CASE }, &all), [9, 7]);
        assert_eq!(kept(&Case { oldest: 7, ..CASE }, &all), [9, 7]);
        assert_eq!(kept(&Case { oldest: 100, ..CASE }, &all), [9]);
        assert_eq!(kept(&Case { oldest: 100, points: &[4, 5], ..CASE }, &all), [9, 5, 3]);
        assert_eq!(kept(&Case { oldest: 8, points: &[0, 8, 20], ..CASE }, &all), [9, 7]);
    }

    #[test]
    fn a_base_that_an_unflushed_delta_needs_is_kept() {
        assert_eq!(kept(&Case { oldest: 100, bases: &[3], ..CASE }, &[9, 7, 3, 1]), [9, 3]);
    }

    #[test]
    fn what_every_reader_sees_truncated_is_left_out() {
        let case = Case { oldest: 8, truncations: &[(8, 5)], ..CASE };
        assert_eq!(kept(&case, &[7, 5]), Vec::<i64>::new());
        assert_eq!(kept(&case, &[9, 7, 5]), [9]);
        assert_eq!(kept(&case, &[8, 7]), [8], "writes of the same revision win");
        assert_eq!(kept(&Case { oldest: 7, ..case }, &[7, 5]), [7]);
        assert_eq!(kept(&Case { points: &[6], ..case }, &[7, 5]), [5]);
        assert_eq!(kept(&Case { truncations: &[(8, 6)], ..case }, &[7, 5]), [7]);
    }

    #[test]
    fn zeros_are_left_out_only_where_nothing_would_surface() {
        assert_eq!(kept(&Case { oldest: 10, ..CASE }, &[-9, 5]), [-9]);
        let bottom = Case { oldest: 10, bottom: true, ..CASE };
        assert_eq!(kept(&bottom, &[-9, 5]), Vec::<i64>::new());
        assert_eq!(kept(&bottom, &[12, -9, 5]), [12]);
        assert_eq!(kept(&Case { points: &[6], ..bottom }, &[-9, 5]), [-9, 5]);
        assert_eq!(kept(&Case { points: &[6, 8], ..bottom }, &[-9, 7, -5]), [-9, 7]);
        assert_eq!(kept(&Case { bases: &[5], ..bottom }, &[-9, 5]), [-9, 5]);
    }

    /// Reading after the decision gives what it gave before, at every readable revision, whatever lies
    /// below.
    #[test]
    fn no_reader_notices() {
        let mut seed = 3u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % n
        };
        for _ in 0..3000 {
            let mut all: Vec<Version> = Vec::new();
            for revision in (1..20).rev().filter(|_| random(3) == 0).collect::<Vec<_>>() {
                let hash = if random(4) == 0 { ContentHash::ZERO_PAGE } else { hash(revision) };
                all.push(Version { revision: Revision(revision), hash });
            }
            let sizes: SizeHistory = (0..random(4))
                .map(|_| (Revision(1 + random(20)), PageCount(3 + random(6))))
                .map(|(revision, lowest)| SizeChange {
                    revision,
                    lowest: Some(lowest),
                    last: lowest,
                })
                .collect();
            let points = (0..random(3)).map(|_| Revision(random(20))).collect();
            let readable = Readable::new(Revision(random(25)), points);
            // What is not at hand: older versions in a deeper level.
            let split = usize::try_from(random(all.len() as u64 + 1)).unwrap();
            let (hand, below) = all.split_at(split);
            let needed = HashSet::new();
            let bottom = below.is_empty();
            let retention =
                Retention { readable: &readable, sizes: &sizes, needed_bases: &needed, bottom };
            let keep = retention.keep(PAGE, hand);
            let after: Vec<Version> = hand
                .iter()
                .zip(keep)
                .filter(|(_, keep)| *keep)
                .map(|(version, _)| *version)
                .chain(below.iter().copied())
                .collect();
            let read = |versions: &[Version], at: Revision| {
                let found = versions.iter().find(|version| version.revision <= at);
                found
                    .filter(|found| !sizes.truncated_since(PAGE, found.revision, at))
                    .map_or(ContentHash::ZERO_PAGE, |found| found.hash)
            };
            for at in (0..30).map(Revision).filter(|at| readable.contains(*at)) {
                assert_eq!(
                    read(&all, at),
                    read(&after, at),
                    "{all:?} {split} {readable:?} at {at}"
                );
            }
        }
    }
}
