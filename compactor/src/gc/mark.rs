//! Which dropped files nobody can need any more. Pure.
//!
//! A dropped file's record is put again when the last listed file whose index points into it is
//! dropped. So a reader can need the object only if its level list is older than the record, or if a
//! file listed now points into it.

use std::collections::HashSet;

use pagestore::internal::types::{FileId, Revision};

/// A dropped file, as far as its deletion is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedFile {
    /// The file.
    pub file: FileId,
    /// Mod revision of its record: what no listed file pointed into it after.
    pub dropped_at: Revision,
}

/// The files of `dropped` whose objects can go: none that a listed file points into (`referenced`), and
/// none that a session may read by a level list from before the drop.
#[must_use]
pub fn decide_deletable(
    dropped: &[DroppedFile],
    referenced: &HashSet<FileId>,
    level_lists: &[Revision],
) -> Vec<FileId> {
    let mut oldest_list = level_lists.iter().min().copied().unwrap_or(Revision::MAX);
    if planted!(LevelListsIgnored) {
        oldest_list = Revision::MAX;
    }
    let is_needed = |file| referenced.contains(file) && !planted!(ReferencedDeleted);
    dropped
        .iter()
        .filter(|file| file.dropped_at <= oldest_list && !is_needed(&file.file))
        .map(|file| file.file)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(n: u8) -> FileId {
        FileId::from_bytes([n; 16])
    }

    fn dropped(n: u8, at: u64) -> DroppedFile {
        DroppedFile { file: file(n), dropped_at: Revision(at) }
    }

    fn mark(dropped: &[DroppedFile], referenced: &[u8], lists: &[u64]) -> Vec<FileId> {
        let referenced = referenced.iter().map(|n| file(*n)).collect();
        let lists: Vec<Revision> = lists.iter().map(|list| Revision(*list)).collect();
        decide_deletable(dropped, &referenced, &lists)
    }

    #[test]
    fn a_file_goes_when_every_level_list_is_as_new_as_its_drop() {
        let files = [dropped(1, 10), dropped(2, 20)];
        assert_eq!(mark(&files, &[], &[]), [file(1), file(2)]);
        assert_eq!(mark(&files, &[], &[20, 25]), [file(1), file(2)]);
        assert_eq!(mark(&files, &[], &[19, 25]), [file(1)]);
        assert_eq!(mark(&files, &[], &[9, 25]), []);
    }

    #[test]
    fn a_file_stays_while_a_listed_index_points_into_it() {
        let files = [dropped(1, 10), dropped(2, 20)];
        assert_eq!(mark(&files, &[1], &[30]), [file(2)]);
    }
}
