use std::sync::Arc;

use super::list::Levels;
use crate::file::{FileEntry, IndexEntry};
use crate::types::{PageNo, Revision};

/// The version of a page that a revision sees.
#[derive(Clone, Debug)]
pub enum FoundVersion {
    /// It is staged in the meta tier, of this revision.
    Staged(Revision),
    /// It is in a file.
    InFile {
        /// The file whose index has it.
        file: Arc<FileEntry>,
        /// What the index says.
        entry: IndexEntry,
    },
}

impl FoundVersion {
    /// The version's revision. Whether a later truncation hides it,
    /// [`super::SizeHistory::truncated_since`] tells.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            FoundVersion::Staged(revision) => *revision,
            FoundVersion::InFile { entry, .. } => entry.revision,
        }
    }
}

/// Finds the version of a page that a revision sees, given the answers of the files that it asks for.
///
/// The rule: the newest version at or below the revision over what is staged and **all** files of
/// level 0, by revision; if there is none, that of the first deeper level that has one.
#[derive(Clone, Debug)]
pub struct Lookup {
    levels: Levels,
    page: PageNo,
    revision: Revision,
    best: Option<FoundVersion>,
    asked: Option<Arc<FileEntry>>,
    /// Files of level 0 that were asked or passed over.
    fresh_done: usize,
    /// The next deeper level to ask.
    level: u16,
}

impl Lookup {
    /// Looks for `page` at `revision`, where `staged` is the newest staged version at or below it.
    #[must_use]
    pub fn new(
        levels: &Levels,
        page: PageNo,
        revision: Revision,
        staged: Option<Revision>,
    ) -> Lookup {
        assert!(staged <= Some(revision), "BUG: the staged version is newer than the revision");
        Lookup {
            levels: levels.clone(),
            page,
            revision,
            best: staged.map(FoundVersion::Staged),
            asked: None,
            fresh_done: 0,
            level: 1,
        }
    }

    /// The file to ask next for the newest version of the page at or below the revision; the same one
    /// until it is answered for. `None`: the lookup is done.
    pub fn next_file(&mut self) -> Option<&Arc<FileEntry>> {
        if self.asked.is_none() {
            self.asked = self.next_fresh().or_else(|| self.next_deeper());
        }
        self.asked.as_ref()
    }

    /// What the file asked for has.
    pub fn answer(&mut self, found: Option<IndexEntry>) {
        let file = self.asked.take().expect("BUG: an answer without a question");
        let Some(entry) = found else { return };
        assert!(
            entry.page == self.page && entry.revision <= self.revision,
            "BUG: the answer is of another page or of a newer revision"
        );
        if self.best_revision() < Some(entry.revision) {
            self.best = Some(FoundVersion::InFile { file, entry });
        }
    }

    /// The version found; `None` when the page was never written up to the revision.
    #[must_use]
    pub fn finish(mut self) -> Option<FoundVersion> {
        assert!(self.next_file().is_none(), "BUG: the lookup is not done");
        self.best
    }

    fn best_revision(&self) -> Option<Revision> {
        self.best.as_ref().map(FoundVersion::revision)
    }

    fn next_fresh(&mut self) -> Option<Arc<FileEntry>> {
        while let Some(file) = self.levels.level(0).get(self.fresh_done) {
            // Newest first: what is left has nothing newer either.
            if self.best_revision() >= Some(file.newest) {
                self.fresh_done = usize::MAX;
                return None;
            }
            self.fresh_done += 1;
            if file.may_hold(self.page) && file.oldest <= self.revision {
                return Some(Arc::clone(file));
            }
        }
        None
    }

    fn next_deeper(&mut self) -> Option<Arc<FileEntry>> {
        while self.best.is_none() && self.level < self.levels.depth() {
            let file = self.levels.in_run(self.level, self.page);
            self.level += 1;
            if let Some(file) = file.filter(|file| file.oldest <= self.revision) {
                return Some(Arc::clone(file));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, id};
    use super::*;
    use crate::types::ContentHash;

    const PAGE: PageNo = PageNo(5);

    /// Files (id, level, revisions of the page); every file may also hold older or newer versions of
    /// other pages, given as its revision range.
    type File<'a> = (u8, u8, std::ops::RangeInclusive<u64>, &'a [u64]);

    fn look(files: &[File<'_>], revision: u64, staged: Option<u64>) -> (Option<u64>, Vec<u8>) {
        let entries = files
            .iter()
            .map(|(n, level, revisions, _)| Arc::new(entry(*n, *level, 0..=9, revisions.clone())));
        let levels = Levels::new(entries).unwrap();
        let mut lookup = Lookup::new(&levels, PAGE, Revision(revision), staged.map(Revision));
        let mut asked = Vec::new();
        while let Some(file) = lookup.next_file() {
            let n = file.id.bytes()[0];
            asked.push(n);
            let (_, _, _, has) = files.iter().find(|file| file.0 == n).unwrap();
            let found = has.iter().copied().filter(|has| *has <= revision).max();
            lookup.answer(found.map(|revision| IndexEntry {
                page: PAGE,
                revision: Revision(revision),
                hash: ContentHash::ZERO_PAGE,
                location: None,
            }));
        }
        (lookup.finish().map(|found| found.revision().0), asked)
    }

    #[test]
    fn the_newest_of_all_level_0_files_wins_not_the_first_found() {
        // A bulk file that lies within the time of a flush file.
        let files: &[File<'_>] = &[(1, 0, 2..=9, &[3]), (2, 0, 5..=5, &[5])];
        assert_eq!(look(files, 9, None), (Some(5), vec![1, 2]));
        assert_eq!(look(files, 4, None), (Some(3), vec![1]));
    }

    #[test]
    fn what_is_staged_is_compared_with_level_0_by_revision() {
        let files: &[File<'_>] = &[(1, 0, 2..=6, &[6]), (2, 0, 1..=4, &[4]), (3, 1, 1..=1, &[1])];
        assert_eq!(look(files, 9, Some(7)), (Some(7), vec![]));
        assert_eq!(look(files, 9, Some(6)), (Some(6), vec![]));
        assert_eq!(look(files, 9, Some(5)), (Some(6), vec![1]));
        assert_eq!(look(files, 5, Some(5)), (Some(5), vec![1]));
    }

    #[test]
    fn deeper_levels_are_asked_in_order_until_one_has_it() {
        let files: &[File<'_>] =
            &[(1, 0, 8..=9, &[]), (2, 1, 4..=7, &[6]), (3, 2, 2..=7, &[2, 3]), (4, 4, 1..=1, &[1])];
        assert_eq!(look(files, 9, None), (Some(6), vec![1, 2]));
        assert_eq!(look(files, 5, None), (Some(3), vec![2, 3]));
        assert_eq!(look(files, 1, None), (Some(1), vec![4]));
        assert_eq!(look(files, 0, None), (None, vec![]));
        assert_eq!(look(files, 9, Some(1)), (Some(1), vec![1]));
    }

    #[test]
    fn the_question_stands_until_it_is_answered() {
        let levels = Levels::new([Arc::new(entry(1, 0, 0..=9, 1..=2))]).unwrap();
        let mut lookup = Lookup::new(&levels, PAGE, Revision(3), None);
        assert_eq!(lookup.next_file().unwrap().id, id(1));
        assert_eq!(lookup.next_file().unwrap().id, id(1));
        lookup.answer(None);
        assert!(lookup.next_file().is_none());
        assert!(lookup.finish().is_none());
    }
}
