//! Whether pages side by side lie too far apart. Pure.
//!
//! A reader who comes forward through the pages fetches from every object they lie in, a step at a time.
//! Few objects cost it nothing: it takes larger steps. Very many do, so the bodies in those that hold
//! least are copied.

use std::collections::BTreeMap;

use pagestore::internal::types::FileId;

/// The objects to copy out of, so that the rest of a window of pages lies in at most `spread` others
/// beside the output itself. `window` says of each page in which object it lies.
#[must_use]
pub fn decide_gathered(window: impl Iterator<Item = FileId>, spread: usize) -> Vec<FileId> {
    let mut pages: BTreeMap<FileId, usize> = BTreeMap::new();
    for file in window {
        *pages.entry(file).or_default() += 1;
    }
    if pages.len() <= spread {
        return Vec::new();
    }
    let mut objects: Vec<(usize, FileId)> =
        pages.into_iter().map(|(file, pages)| (pages, file)).collect();
    objects.sort_unstable();
    // One more, for what is copied makes an object, too.
    let surplus = objects.len() - spread + 1;
    let mut gathered: Vec<FileId> =
        objects.into_iter().take(surplus).map(|(_, file)| file).collect();
    gathered.sort_unstable();
    gathered
}

#[cfg(test)]
mod tests {
    use super::super::testing::file;
    use super::*;

    fn gathered(window: &[u8], spread: usize) -> Vec<FileId> {
        decide_gathered(window.iter().map(|n| file(*n)), spread)
    }

    #[test]
    fn few_objects_are_left_alone() {
        assert_eq!(gathered(&[], 2), []);
        assert_eq!(gathered(&[1, 2, 1, 2], 2), []);
    }

    #[test]
    fn those_that_hold_least_are_gathered() {
        assert_eq!(gathered(&[1, 2, 2, 3, 3, 3, 4, 4, 4, 4], 3), [file(1), file(2)]);
        assert_eq!(gathered(&[1, 2, 3], 1), [file(1), file(2), file(3)]);
    }
}
