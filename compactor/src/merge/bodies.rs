//! Where pages' bodies lie, and how much of each object is still pointed to. Pure.
//!
//! A merge writes indexes and leaves bodies where they are, so an object outlives its own index. What
//! is dead in it shows only in how few entries of listed files still point into it.

use std::collections::BTreeMap;

use pagestore::internal::file::FileEntry;
use pagestore::internal::types::{FileId, PageSize, Revision};

/// Copied in a merge that passes by: less than this share of an object is alive. Each byte flushed is
/// then copied half a time in the long run, and garbage takes about as much room as two thirds of
/// what is alive.
const MOSTLY_DEAD: Share = Share { live: 1, of: 3 };
/// Copied even if a file has to be rewritten for nothing else.
const NEARLY_DEAD: Share = Share { live: 1, of: 6 };
/// Not worth copying out of, however much garbage there is elsewhere.
const MOSTLY_ALIVE: Share = Share { live: 4, of: 5 };
/// Objects with less that is alive are copied by the merge that passes by: a file must not point into
/// very many others, and a request is not worth fewer bytes.
const SMALL_BYTES: u64 = 256 << 10;
/// Objects that the inputs of one merge may go on pointing into.
const MAX_OBJECTS: usize = 96;

/// `live` parts of `of`.
#[derive(Clone, Copy, Debug)]
struct Share {
    live: u64,
    of: u64,
}

/// The bodies in one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bodies {
    /// Length of the object.
    pub bytes: u64,
    /// Pages whose bodies it holds.
    pub count: u64,
    /// Entries of listed files that point into it.
    pub live: u64,
    /// True while its own index is listed.
    pub is_listed: bool,
}

impl Bodies {
    fn is_below(&self, share: Share) -> bool {
        self.live.saturating_mul(share.of) < self.count.saturating_mul(share.live)
    }

    /// Bytes of the object that are alive, about: all, while its index is listed.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        if self.is_listed {
            return self.bytes;
        }
        let bytes = u128::from(self.bytes) * u128::from(self.live.min(self.count));
        u64::try_from(bytes / u128::from(self.count.max(1))).unwrap_or(u64::MAX)
    }
}

/// A dropped file, as far as its bodies are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedBodies {
    /// The file.
    pub file: FileId,
    /// Mod revision of its record.
    pub dropped_at: Revision,
    /// Length of the object.
    pub bytes: u64,
    /// Pages whose bodies it holds.
    pub body_count: u64,
}

/// All objects of a volume and what is alive in them.
#[derive(Clone, Debug, Default)]
pub struct BodyMap(BTreeMap<FileId, Bodies>);

/// How many pages' bodies a file holds itself.
#[must_use]
pub fn body_count(file: &FileEntry, page_size: PageSize) -> u64 {
    file.raw_bytes / page_size.bytes() as u64
}

impl BodyMap {
    /// What the listed and the dropped files say.
    #[must_use]
    pub fn new(files: &[&FileEntry], dropped: &[DroppedBodies], page_size: PageSize) -> BodyMap {
        let mut bodies = BTreeMap::new();
        for file in dropped {
            let count = file.body_count;
            bodies
                .insert(file.file, Bodies { bytes: file.bytes, count, live: 0, is_listed: false });
        }
        for file in files {
            // Its own index points at all of its bodies: an input is consumed as a whole.
            let count = body_count(file, page_size);
            let own = Bodies { bytes: file.bytes, count, live: count, is_listed: true };
            bodies.insert(file.id, own);
        }
        for file in files.iter().flat_map(|file| &file.refs) {
            if let Some(bodies) = bodies.get_mut(&file.id) {
                bodies.live = bodies.live.saturating_add(file.page_count);
            }
        }
        BodyMap(bodies)
    }

    /// The bodies of one object.
    #[must_use]
    pub fn get(&self, file: FileId) -> Option<&Bodies> {
        self.0.get(&file)
    }

    /// Bytes of all objects.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.0.values().map(|bodies| bodies.bytes).sum()
    }

    /// Bytes of all objects that are alive, about.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.0.values().map(Bodies::live_bytes).sum()
    }

    /// Of the objects that `inputs` point into, those that a merge of the inputs should copy from.
    #[must_use]
    pub fn decide_copied(&self, inputs: &[&FileEntry]) -> Vec<FileId> {
        let mut objects: BTreeMap<FileId, u64> = BTreeMap::new();
        for file in inputs {
            for to in &file.refs {
                *objects.entry(to.id).or_default() += to.frame_bytes;
            }
            if file.own_frame_bytes > 0 {
                objects.insert(file.id, file.own_frame_bytes);
            }
        }
        let mut kept: Vec<(u64, FileId)> = Vec::new();
        let mut copied: Vec<FileId> = Vec::new();
        for (file, bytes) in objects {
            let is_dead = self.get(file).is_some_and(|bodies| bodies.is_below(MOSTLY_DEAD));
            if is_dead || bytes < SMALL_BYTES {
                copied.push(file)
            } else {
                kept.push((bytes, file))
            }
        }
        kept.sort_unstable();
        let surplus = kept.len().saturating_sub(MAX_OBJECTS);
        copied.extend(kept.iter().take(surplus).map(|(_, file)| *file));
        copied.sort_unstable();
        copied
    }

    /// The objects to get rid of although no merge passes by: the nearly dead, or else, while there is
    /// more than `bound` percent of what is alive, the deadest.
    #[must_use]
    pub fn decide_evacuated(&self, bound: u64) -> Vec<FileId> {
        let candidates =
            || self.0.iter().filter(|(_, bodies)| !bodies.is_listed && bodies.live > 0);
        let nearly_dead: Vec<FileId> = candidates()
            .filter(|(_, bodies)| bodies.is_below(NEARLY_DEAD))
            .map(|(file, _)| *file)
            .collect();
        // What nothing points into goes as soon as nobody reads it, without any copying.
        let waiting = self.0.values().filter(|bodies| bodies.live == 0 && !bodies.is_listed);
        let waiting: u64 = waiting.map(|bodies| bodies.bytes).sum();
        let is_full = u128::from(self.total_bytes() - waiting) * 100
            > u128::from(self.live_bytes()) * u128::from(bound);
        if !nearly_dead.is_empty() || !is_full {
            return nearly_dead;
        }
        let deadest = candidates().filter(|(_, bodies)| bodies.is_below(MOSTLY_ALIVE));
        let deadest = deadest.min_by_key(|(_, bodies)| {
            u128::from(bodies.live) * 1_000_000 / u128::from(bodies.count.max(1))
        });
        deadest.map(|(file, _)| *file).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, file, pointing};
    use super::*;

    fn dropped(n: u8, body_count: u64) -> DroppedBodies {
        DroppedBodies {
            file: file(n),
            dropped_at: Revision(1),
            bytes: body_count * 1000,
            body_count,
        }
    }

    fn map(files: &[FileEntry], dropped: &[DroppedBodies]) -> BodyMap {
        let files: Vec<&FileEntry> = files.iter().collect();
        BodyMap::new(&files, dropped, PageSize::DEFAULT)
    }

    #[test]
    fn what_listed_files_point_into_is_alive() {
        let files = [
            pointing(entry(1, 1, 0..=9), &[(7, 30), (8, 5)]),
            pointing(entry(2, 1, 10..=19), &[(7, 10)]),
        ];
        let bodies = map(&files, &[dropped(7, 100), dropped(8, 100)]);
        assert_eq!(bodies.get(file(7)).unwrap().live, 40);
        assert_eq!(bodies.get(file(7)).unwrap().live_bytes(), 40_000);
        assert_eq!(bodies.get(file(8)).unwrap().live, 5);
        assert_eq!(bodies.total_bytes(), 200_000 + files[0].bytes + files[1].bytes);
    }

    #[test]
    fn mostly_dead_and_small_objects_are_copied_by_a_merge_that_passes() {
        let files = [pointing(entry(1, 1, 0..=9), &[(7, 340), (8, 330), (9, 1)])];
        let bodies = map(&files, &[dropped(7, 1000), dropped(8, 1000), dropped(9, 1)]);
        let input = &files[0];
        assert_eq!(bodies.decide_copied(&[input]), [file(8), file(9)]);
    }

    #[test]
    fn a_merge_goes_on_pointing_into_a_bounded_number_of_objects() {
        let objects: Vec<(u8, u64)> = (10..=200).map(|n| (n, 1000 + u64::from(n))).collect();
        let files = [pointing(entry(1, 1, 0..=9), &objects)];
        let dropped: Vec<_> = objects.iter().map(|(n, live)| dropped(*n, *live)).collect();
        let copied = map(&files, &dropped).decide_copied(&[&files[0]]);
        assert_eq!(copied.len(), objects.len() - MAX_OBJECTS);
        assert_eq!(copied.first(), Some(&file(10)), "the smallest are copied");
    }

    #[test]
    fn nearly_dead_objects_are_evacuated_at_once() {
        let files = [pointing(entry(1, 1, 0..=9), &[(7, 166), (8, 167)])];
        let bodies = map(&files, &[dropped(7, 1000), dropped(8, 1000), dropped(9, 1000)]);
        assert_eq!(bodies.decide_evacuated(1_000_000), [file(7)]);
    }

    #[test]
    fn the_deadest_is_evacuated_while_there_is_too_much_garbage() {
        let files = [pointing(entry(1, 1, 0..=9), &[(7, 4000), (8, 5000)])];
        let bodies = map(&files, &[dropped(7, 10_000), dropped(8, 10_000)]);
        assert_eq!(bodies.decide_evacuated(150), [file(7)]);
        assert_eq!(bodies.decide_evacuated(250), []);
    }

    #[test]
    fn objects_that_only_wait_for_their_readers_are_no_reason_to_copy() {
        let files = [pointing(entry(1, 1, 0..=9), &[(7, 9_000)])];
        let bodies = map(&files, &[dropped(7, 10_000), dropped(8, 100_000)]);
        assert_eq!(bodies.decide_evacuated(150), []);
    }
}
