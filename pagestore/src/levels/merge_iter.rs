use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::file::{EntryKey, IndexBlock, IndexEntry};
use crate::types::{ContentHash, PageNo, Revision};

/// Sources to be merged do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Two sources have other contents for one version.
    #[error("two files disagree on the content of page {page} at revision {revision}")]
    TwoContents {
        /// The page.
        page: PageNo,
        /// The version's revision.
        revision: Revision,
    },
    /// A source's next block does not follow its last.
    #[error("index blocks are out of order at page {page}, revision {revision}")]
    Unordered {
        /// The page.
        page: PageNo,
        /// The version's revision.
        revision: Revision,
    },
}

/// What a merge has next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next entry in order, and the source that has it. Of equal ones only the first source's is
    /// given. Its location is relative to that source's file.
    Entry {
        /// Which source.
        source: usize,
        /// The entry.
        entry: IndexEntry,
    },
    /// The source must be fed its next index block, or told that it has no more.
    NeedBlock(usize),
    /// All sources are at their end.
    Done,
}

/// Merges the index blocks of several sources into one sorted sequence: by page, the newest version
/// of a page first. A source is a file, or the files of a sorted run one after the other.
#[derive(Debug)]
pub struct MergeIter {
    sources: Vec<Source>,
    /// The next entry of every source that has one.
    heads: BinaryHeap<Reverse<(EntryKey, usize)>>,
    /// Sources that wait for a block.
    starved: Vec<usize>,
    last: Option<(EntryKey, ContentHash)>,
}

#[derive(Debug, Default)]
struct Source {
    block: Option<Arc<IndexBlock>>,
    at: usize,
}

impl Source {
    fn head(&self) -> Option<&IndexEntry> {
        self.block.as_ref()?.entries().get(self.at)
    }
}

impl MergeIter {
    /// A merge of `source_count` sources, none of them fed.
    #[must_use]
    pub fn new(source_count: usize) -> MergeIter {
        MergeIter {
            sources: std::iter::repeat_with(Source::default).take(source_count).collect(),
            heads: BinaryHeap::with_capacity(source_count),
            starved: (0..source_count).rev().collect(),
            last: None,
        }
    }

    /// Feeds the source that was asked for: its next block, `None` at its end.
    ///
    /// # Errors
    /// [`MergeError::Unordered`] when the block belongs before what was given already.
    pub fn feed(
        &mut self,
        source: usize,
        block: Option<Arc<IndexBlock>>,
    ) -> Result<(), MergeError> {
        assert_eq!(self.starved.pop(), Some(source), "BUG: this source did not ask for a block");
        let Some(block) = block else { return Ok(()) };
        let slot = self.sources.get_mut(source).expect("BUG: a source that is not there asked");
        *slot = Source { block: Some(block), at: 0 };
        let Some(first) = slot.head() else {
            self.starved.push(source);
            return Ok(());
        };
        if self.last.is_some_and(|(last, _)| first.key() < last) {
            return Err(MergeError::Unordered { page: first.page, revision: first.revision });
        }
        self.heads.push(Reverse((first.key(), source)));
        Ok(())
    }

    /// What comes next.
    ///
    /// # Errors
    /// [`MergeError::TwoContents`] when sources disagree.
    pub fn step(&mut self) -> Result<Step, MergeError> {
        loop {
            if let Some(source) = self.starved.last() {
                return Ok(Step::NeedBlock(*source));
            }
            let Some(Reverse((key, source))) = self.heads.pop() else { return Ok(Step::Done) };
            let entry = self.take(source);
            match self.last.replace((key, entry.hash)) {
                Some((last, hash)) if last == key => {
                    if hash != entry.hash {
                        let (page, revision) = (entry.page, entry.revision);
                        return Err(MergeError::TwoContents { page, revision });
                    }
                }
                _ => return Ok(Step::Entry { source, entry }),
            }
        }
    }

    fn take(&mut self, source: usize) -> IndexEntry {
        let slot = self.sources.get_mut(source).expect("BUG: a head without its source");
        let entry = *slot.head().expect("BUG: a head without its entry");
        slot.at += 1;
        match slot.head() {
            Some(next) => self.heads.push(Reverse((next.key(), source))),
            None => self.starved.push(source),
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(page: u64, revision: u64, hash: u8) -> IndexEntry {
        IndexEntry {
            page: PageNo(page),
            revision: Revision(revision),
            hash: ContentHash([hash; 16]),
            location: None,
        }
    }

    fn merge(sources: &[&[&[IndexEntry]]]) -> Result<Vec<(usize, u64, u64)>, MergeError> {
        let mut fed = vec![0; sources.len()];
        let mut merge = MergeIter::new(sources.len());
        let mut merged = Vec::new();
        loop {
            match merge.step()? {
                Step::Entry { source, entry } => {
                    merged.push((source, entry.page.0, entry.revision.0));
                }
                Step::NeedBlock(source) => {
                    let block = sources[source].get(fed[source]);
                    fed[source] += 1;
                    let block = block.map(|entries| Arc::new(IndexBlock::of(entries)));
                    merge.feed(source, block)?;
                }
                Step::Done => return Ok(merged),
            }
        }
    }

    #[test]
    fn entries_come_by_page_then_newest_first_each_once() {
        let merged = merge(&[
            &[&[entry(1, 9, 1), entry(3, 7, 2)], &[entry(3, 2, 3)]],
            &[],
            &[&[entry(1, 5, 4)], &[], &[entry(3, 7, 2), entry(8, 1, 5)]],
        ]);
        let expected = vec![(0, 1, 9), (2, 1, 5), (0, 3, 7), (0, 3, 2), (2, 8, 1)];
        assert_eq!(merged, Ok(expected));
        assert_eq!(merge(&[]), Ok(vec![]));
    }

    #[test]
    fn sources_that_disagree_are_an_error() {
        assert_eq!(
            merge(&[&[&[entry(3, 7, 1)]], &[&[entry(3, 7, 2)]]]),
            Err(MergeError::TwoContents { page: PageNo(3), revision: Revision(7) })
        );
        assert_eq!(
            merge(&[&[&[entry(3, 7, 1)], &[entry(2, 9, 1)]]]),
            Err(MergeError::Unordered { page: PageNo(2), revision: Revision(9) })
        );
    }

    #[test]
    fn a_random_merge_is_the_sorted_union() {
        let mut seed = 17u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % n
        };
        for _ in 0..100 {
            let mut union = std::collections::BTreeSet::new();
            let sources: Vec<Vec<IndexEntry>> = (0..1 + random(6))
                .map(|_| {
                    let keys: std::collections::BTreeSet<EntryKey> = (0..random(60))
                        .map(|_| EntryKey::new(PageNo(random(30)), Revision(random(5))))
                        .collect();
                    union.extend(keys.iter().copied());
                    keys.into_iter().map(|key| entry(key.page.0, key.revision().0, 1)).collect()
                })
                .collect();
            let blocks: Vec<Vec<&[IndexEntry]>> =
                sources.iter().map(|source| source.chunks(7).collect()).collect();
            let slices: Vec<&[&[IndexEntry]]> = blocks.iter().map(Vec::as_slice).collect();
            let merged = merge(&slices).unwrap();
            let expected = union.iter().map(|key| (key.page.0, key.revision().0));
            assert!(merged.iter().map(|(_, page, revision)| (*page, *revision)).eq(expected));
        }
    }
}
