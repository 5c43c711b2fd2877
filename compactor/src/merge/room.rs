//! How many files a merge may write: as many as one publication can list. Pure.
//!
//! A publication compares every input and every output, and etcd bounds the compares of a transaction.
//! Where an output must end, because another file of its level begins there or the plan says so, is
//! known beforehand; what is left over is for files that are full.

use pagestore::internal::meta::MAX_TXN_OPS;
use pagestore::internal::types::PageNo;

use super::pick::{MAX_INPUTS, MAX_SPLIT};

/// Compares of a publication beside those of inputs and outputs: claim, job, volume, floor.
pub(crate) const OWN_COMPARES: usize = 4;
/// Files that end by themselves: the one of commits and sizes, and the last.
const OWN_ENDS: usize = 2;
/// Files that may end because they are full, at least.
const MIN_FULL: usize = 8;

const _: () = assert!(OWN_COMPARES + 2 * MAX_INPUTS - 1 + OWN_ENDS + MIN_FULL <= MAX_TXN_OPS);
const _: () = assert!(OWN_COMPARES + 1 + MAX_SPLIT + OWN_ENDS + MIN_FULL <= MAX_TXN_OPS);

/// How many more files may end because they are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    all: usize,
    left: usize,
}

impl Room {
    /// Of a merge of files over these pages, first and last, with outputs that end at `cuts`.
    pub(crate) fn new(inputs: &[(PageNo, PageNo)], cuts: &[PageNo]) -> Room {
        let is_inside =
            |cut: &&PageNo| inputs.iter().any(|(first, last)| first < *cut && *cut <= last);
        // Between two inputs an output may end once, however many files lie there.
        let must_end = inputs.len().saturating_sub(1) + cuts.iter().filter(is_inside).count();
        let taken = OWN_COMPARES + inputs.len() + must_end + OWN_ENDS;
        let all = MAX_TXN_OPS.saturating_sub(taken);
        Room { all, left: all }
    }

    /// True when a file may end because it is full; from then on it has.
    pub(crate) fn take(&mut self) -> bool {
        let has_room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_room
    }

    /// True when little is left: what need not be copied then is not.
    pub(crate) fn is_scarce(&self) -> bool {
        self.left * 4 <= self.all
    }

    /// How many versions a file is to have, so that `versions` leave most of the room to files that are
    /// full of bodies.
    pub(crate) fn target_versions(&self, versions: u64, at_least: u64) -> u64 {
        at_least.max(versions / (self.all as u64 / 4).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of ten pages each with gaps, full of cuts, between them.
    fn inputs(count: usize) -> (Vec<(PageNo, PageNo)>, Vec<PageNo>) {
        let first = |n: usize| n as u64 * 100;
        let inputs = (0..count).map(|n| (PageNo(first(n)), PageNo(first(n) + 9))).collect();
        let cuts = (0..count).flat_map(|n| (10..20).map(move |at| PageNo(first(n) + at))).collect();
        (inputs, cuts)
    }

    /// Files when one ends wherever it must and whenever it may.
    fn most_files(inputs: &[(PageNo, PageNo)], cuts: &[PageNo]) -> usize {
        let mut room = Room::new(inputs, cuts);
        let (mut files, mut last) = (OWN_ENDS, None);
        for page in inputs.iter().flat_map(|(first, last)| first.0..=last.0).map(PageNo) {
            let is_cut =
                last.is_some_and(|last| cuts.iter().any(|cut| last < *cut && *cut <= page));
            last = Some(page);
            files += usize::from(is_cut || room.take());
        }
        files
    }

    #[test]
    fn however_a_merge_goes_its_outputs_fit_one_publication() {
        for count in 1..=MAX_INPUTS {
            let (inputs, cuts) = inputs(count);
            let files = most_files(&inputs, &cuts);
            assert!(OWN_COMPARES + count + files <= MAX_TXN_OPS, "{count} inputs, {files} files");
        }
        let pages = MAX_SPLIT as u64 * 10;
        let cuts: Vec<PageNo> = (1..=MAX_SPLIT as u64).map(|n| PageNo(n * 10 - 1)).collect();
        let files = most_files(&[(PageNo(0), PageNo(pages))], &cuts);
        assert!(OWN_COMPARES + 1 + files <= MAX_TXN_OPS, "split into {files} files");
    }

    #[test]
    fn what_is_left_becomes_scarce_and_ends() {
        let mut room = Room::new(&[], &[]);
        let all = room.all;
        assert!(!room.is_scarce() && (0..all).all(|_| room.take()));
        assert!(room.is_scarce() && !room.take());
        assert_eq!(room.target_versions(1_000, 100), 100);
        assert!(room.target_versions(1_000_000, 100) > 1_000_000 / all as u64);
    }
}
