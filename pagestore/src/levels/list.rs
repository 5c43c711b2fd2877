use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use crate::error::Error;
use crate::file::FileEntry;
use crate::types::{FileId, PageNo};

/// A change of the list of files.
#[derive(Clone, Debug)]
pub enum Edit {
    /// The entry was put: a new file, or new words about one at the same level.
    Put(Arc<FileEntry>),
    /// The entry was deleted.
    Remove {
        /// The level that it was in.
        level: u8,
        /// The file.
        file: FileId,
    },
}

/// The list of files breaks its invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelsError {
    /// Two files of one sorted run overlap.
    #[error("files overlap in level {level}: {left} and {right}")]
    Overlap {
        /// The level.
        level: u8,
        /// The file that begins first.
        left: FileId,
        /// The file that begins before the other ends.
        right: FileId,
    },
    /// One file is in two levels.
    #[error("file is listed twice: {0}")]
    Twice(FileId),
    /// A file that is not listed was removed.
    #[error("file was removed from level {level} without being there: {file}")]
    Absent {
        /// The level.
        level: u8,
        /// The file.
        file: FileId,
    },
}

impl From<LevelsError> for Error {
    fn from(error: LevelsError) -> Error {
        Error::corrupt("list of files", error)
    }
}

type Run = Arc<Vec<Arc<FileEntry>>>;

/// The files of a volume at one revision. Cloning is cheap, and a clone never changes.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    /// Level 0 newest first; deeper ones in page order.
    runs: Arc<Vec<Run>>,
}

impl Levels {
    /// The list of these files.
    ///
    /// # Errors
    /// [`LevelsError`] when they break the invariant.
    pub fn new(entries: impl IntoIterator<Item = Arc<FileEntry>>) -> Result<Levels, LevelsError> {
        let edits: Vec<Edit> = entries.into_iter().map(Edit::Put).collect();
        Levels::default().apply(&edits)
    }

    /// The list after all `edits` of one revision, in their order.
    ///
    /// # Errors
    /// [`LevelsError`] when it would break the invariant.
    pub fn apply(&self, edits: &[Edit]) -> Result<Levels, LevelsError> {
        let mut runs = Vec::clone(&self.runs);
        let mut touched = HashSet::new();
        for edit in edits {
            let level = match edit {
                Edit::Put(entry) => entry.level,
                Edit::Remove { level, .. } => *level,
            };
            let at = usize::from(level);
            if runs.len() <= at {
                runs.resize_with(at + 1, Run::default);
            }
            let run = runs.get_mut(at).expect("BUG: the level was just made");
            edit_run(Arc::make_mut(run), edit)?;
            touched.insert(level);
        }
        for level in touched {
            let run = runs.get_mut(usize::from(level)).expect("BUG: the level was just edited");
            sort_run(level, Arc::make_mut(run).as_mut_slice())?;
        }
        while runs.last().is_some_and(|run| run.is_empty()) {
            runs.pop();
        }
        check_listed_once(&runs)?;
        Ok(Levels { runs: Arc::new(runs) })
    }

    /// The files of a level: of level 0 the newest first, of deeper ones in page order.
    #[must_use]
    pub fn level(&self, level: u8) -> &[Arc<FileEntry>] {
        self.runs.get(usize::from(level)).map_or(&[], |run| run.as_slice())
    }

    /// How many levels there are up to the deepest that has a file.
    #[must_use]
    pub fn depth(&self) -> u16 {
        u16::try_from(self.runs.len()).expect("BUG: a level is a byte")
    }

    /// How many files of level 0 a read of some page may have to look into: [`max_overlap`] of them.
    #[must_use]
    pub fn level_0_overlap(&self) -> usize {
        max_overlap(self.level(0).iter().map(Arc::as_ref))
    }

    /// All files, level by level.
    pub fn files(&self) -> impl Iterator<Item = &Arc<FileEntry>> + Clone {
        self.runs.iter().flat_map(|run| run.iter())
    }

    /// The entry of `file`.
    #[must_use]
    pub fn get(&self, file: FileId) -> Option<&Arc<FileEntry>> {
        self.files().find(|entry| entry.id == file)
    }

    /// Every file that may hold versions of `page`: those of level 0, newest first, then at most one
    /// a level.
    pub fn candidates(&self, page: PageNo) -> impl Iterator<Item = &Arc<FileEntry>> {
        let fresh = self.level(0).iter().filter(move |entry| entry.may_hold(page));
        fresh.chain((1..self.depth()).filter_map(move |level| self.in_run(level, page)))
    }

    /// The file of a level from 1 on that may hold `page`.
    pub(super) fn in_run(&self, level: u16, page: PageNo) -> Option<&Arc<FileEntry>> {
        let run = self.runs.get(usize::from(level))?;
        let at = run.partition_point(|entry| entry.last < page);
        run.get(at).filter(|entry| entry.may_hold(page))
    }
}

/// The most of `files` that cover any one page.
pub fn max_overlap<'a>(files: impl Iterator<Item = &'a FileEntry>) -> usize {
    let with_pages = files.filter(|file| !file.is_pageless());
    // A file that ends at a page covers it still when another one begins there.
    let mut bounds: Vec<(PageNo, bool)> =
        with_pages.flat_map(|file| [(file.first, false), (file.last, true)]).collect();
    bounds.sort_unstable();
    let (mut covering, mut most) = (0, 0);
    for (_, is_end) in bounds {
        if is_end {
            covering -= 1;
        } else {
            covering += 1;
            most = most.max(covering);
        }
    }
    most
}

fn edit_run(run: &mut Vec<Arc<FileEntry>>, edit: &Edit) -> Result<(), LevelsError> {
    match edit {
        Edit::Put(entry) => match run.iter_mut().find(|listed| listed.id == entry.id) {
            Some(listed) => *listed = Arc::clone(entry),
            None => run.push(Arc::clone(entry)),
        },
        Edit::Remove { level, file } => {
            let at = run.iter().position(|listed| listed.id == *file);
            run.remove(at.ok_or(LevelsError::Absent { level: *level, file: *file })?);
        }
    }
    Ok(())
}

fn sort_run(level: u8, run: &mut [Arc<FileEntry>]) -> Result<(), LevelsError> {
    if level == 0 {
        run.sort_by_key(|entry| Reverse((entry.newest, entry.id)));
        return Ok(());
    }
    run.sort_by_key(|entry| (entry.first, entry.id));
    for pair in run.windows(2) {
        if let [left, right] = pair
            && !right.is_pageless()
            && left.last >= right.first
        {
            return Err(LevelsError::Overlap { level, left: left.id, right: right.id });
        }
    }
    Ok(())
}

fn check_listed_once(runs: &[Run]) -> Result<(), LevelsError> {
    let mut ids = HashSet::new();
    for entry in runs.iter().flat_map(|run| run.iter()) {
        if !ids.insert(entry.id) {
            return Err(LevelsError::Twice(entry.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, id};
    use super::*;
    use crate::types::Revision;

    fn put(n: u8, level: u8, pages: std::ops::RangeInclusive<u64>, newest: u64) -> Edit {
        Edit::Put(Arc::new(entry(n, level, pages, 1..=newest)))
    }

    fn remove(n: u8, level: u8) -> Edit {
        Edit::Remove { level, file: id(n) }
    }

    fn ids<'a>(files: impl Iterator<Item = &'a Arc<FileEntry>>) -> Vec<u8> {
        files.map(|file| file.id.bytes()[0]).collect()
    }

    #[test]
    fn files_overlap_at_the_page_that_most_cover() {
        let overlap = |files: &[std::ops::RangeInclusive<u64>]| {
            let files: Vec<_> =
                files.iter().map(|pages| entry(1, 0, pages.clone(), 1..=1)).collect();
            max_overlap(files.iter())
        };
        assert_eq!(overlap(&[]), 0);
        assert_eq!(overlap(&[0..=4, 5..=9]), 1);
        assert_eq!(overlap(&[0..=5, 5..=9]), 2, "both hold page 5");
        assert_eq!(overlap(&[0..=9, 1..=2, 4..=8, 5..=6]), 3);
    }

    #[test]
    fn candidates_are_all_of_level_0_then_one_a_level() {
        let levels = Levels::default()
            .apply(&[
                put(1, 0, 0..=9, 5),
                put(2, 0, 5..=20, 8),
                put(3, 0, 6..=7, 7),
                put(4, 1, 0..=5, 4),
                put(5, 1, 6..=30, 4),
                put(6, 3, 3..=8, 2),
            ])
            .unwrap();
        assert_eq!(ids(levels.candidates(PageNo(6))), [2, 3, 1, 5, 6]);
        assert_eq!(ids(levels.candidates(PageNo(2))), [1, 4]);
        assert_eq!(levels.level_0_overlap(), 3);
        assert_eq!(ids(levels.candidates(PageNo(31))), Vec::<u8>::new());
        assert_eq!(levels.depth(), 4);
        assert_eq!(ids(levels.files()), [2, 3, 1, 4, 5, 6]);
        assert!(levels.get(id(6)).is_some() && levels.get(id(7)).is_none());
    }

    #[test]
    fn edits_of_one_revision_apply_together_and_leave_clones_alone() {
        let before = Levels::default().apply(&[put(1, 0, 0..=9, 5), put(2, 1, 0..=9, 3)]).unwrap();
        let merged = [put(3, 1, 0..=9, 5), remove(1, 0), remove(2, 1)];
        let after = before.apply(&merged).unwrap();
        assert_eq!(ids(after.files()), [3]);
        assert_eq!(ids(before.files()), [1, 2]);

        let moved = after.apply(&[put(3, 2, 0..=9, 5), remove(3, 1)]).unwrap();
        assert_eq!(ids(moved.level(2).iter()), [3]);
        assert_eq!(moved.apply(&[remove(3, 2)]).unwrap().depth(), 0);
    }

    #[test]
    fn the_invariant_is_checked_on_every_edit() {
        let levels = Levels::default().apply(&[put(1, 1, 0..=9, 5)]).unwrap();
        assert_eq!(
            levels.apply(&[put(2, 1, 9..=12, 5)]).unwrap_err(),
            LevelsError::Overlap { level: 1, left: id(1), right: id(2) }
        );
        assert_eq!(levels.apply(&[put(1, 0, 0..=9, 5)]).unwrap_err(), LevelsError::Twice(id(1)));
        assert_eq!(
            levels.apply(&[remove(1, 2)]).unwrap_err(),
            LevelsError::Absent { level: 2, file: id(1) }
        );
        assert!(levels.apply(&[put(2, 1, 10..=12, 5), put(3, 2, 0..=50, 5)]).is_ok());
    }

    #[test]
    fn files_without_pages_overlap_nothing_and_hold_nothing() {
        let pageless = |n| {
            let mut file = entry(n, 1, u64::MAX..=u64::MAX, 1..=2);
            (file.version_count, file.page_count) = (0, 0);
            Edit::Put(Arc::new(file))
        };
        let levels = Levels::default()
            .apply(&[put(1, 1, 0..=u64::MAX - 1, 5), pageless(2), pageless(3)])
            .unwrap();
        assert_eq!(ids(levels.candidates(PageNo(u64::MAX - 1))), [1]);
        assert_eq!(ids(levels.candidates(PageNo(u64::MAX))), Vec::<u8>::new());
    }

    #[test]
    fn a_put_replaces_what_was_said_of_the_file() {
        let levels = Levels::default().apply(&[put(1, 0, 0..=9, 5)]).unwrap();
        let levels = levels.apply(&[put(1, 0, 0..=9, 7)]).unwrap();
        assert_eq!(levels.level(0).len(), 1);
        assert_eq!(levels.level(0)[0].newest, Revision(7));
    }
}
