//! Decoded parts of files' indexes in memory, by file and offset.

use std::fmt;
use std::sync::Arc;

use super::bounded::Bounded;
use crate::file::{CommitRecord, FileTail, IndexBlock};
use crate::types::FileId;

/// A part of a file, by the offset where it begins.
type Key = (FileId, u64);

/// Tails, index blocks and commit blocks of all volumes of a store; clone it freely.
#[derive(Clone)]
pub struct IndexCache(Arc<Bounded<Key, Part>>);

#[derive(Clone)]
enum Part {
    Tail(Arc<FileTail>),
    Block(Arc<IndexBlock>),
    Commits(Arc<[CommitRecord]>),
}

impl Part {
    fn weight(&self) -> usize {
        match self {
            Part::Tail(tail) => tail.weight(),
            Part::Block(block) => block.weight(),
            Part::Commits(commits) => size_of_val::<[CommitRecord]>(commits),
        }
    }
}

impl IndexCache {
    /// Default bound: the index of some 2.5 GiB of pages of 4 KiB.
    pub const DEFAULT_BYTES: u64 = 32 << 20;

    /// A cache of at most `bytes`, entries' overhead included.
    #[must_use]
    pub fn new(bytes: u64) -> IndexCache {
        IndexCache(Arc::new(Bounded::new(bytes)))
    }

    /// The tail of `file` that begins at `offset`.
    #[must_use]
    pub fn tail(&self, file: FileId, offset: u64) -> Option<Arc<FileTail>> {
        match self.0.get(&(file, offset))? {
            Part::Tail(tail) => Some(tail),
            _ => None,
        }
    }

    /// The index block of `file` that begins at `offset`.
    #[must_use]
    pub fn block(&self, file: FileId, offset: u64) -> Option<Arc<IndexBlock>> {
        match self.0.get(&(file, offset))? {
            Part::Block(block) => Some(block),
            _ => None,
        }
    }

    /// True when the part of `file` that begins at `offset` is here; does not count as a use.
    #[must_use]
    pub fn contains(&self, file: FileId, offset: u64) -> bool {
        self.0.contains(&(file, offset))
    }

    /// The commit block of `file` that begins at `offset`.
    #[must_use]
    pub fn commits(&self, file: FileId, offset: u64) -> Option<Arc<[CommitRecord]>> {
        match self.0.get(&(file, offset))? {
            Part::Commits(commits) => Some(commits),
            _ => None,
        }
    }

    pub(crate) fn insert_tail(&self, file: FileId, offset: u64, tail: Arc<FileTail>) {
        self.insert((file, offset), Part::Tail(tail));
    }

    pub(crate) fn insert_block(&self, file: FileId, offset: u64, block: Arc<IndexBlock>) {
        self.insert((file, offset), Part::Block(block));
    }

    pub(crate) fn insert_commits(&self, file: FileId, offset: u64, commits: Arc<[CommitRecord]>) {
        self.insert((file, offset), Part::Commits(commits));
    }

    fn insert(&self, key: Key, part: Part) {
        let bytes = part.weight();
        self.0.insert(key, part, bytes);
    }

    /// Bytes held, overhead included.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.0.held_bytes()
    }
}

impl fmt::Debug for IndexCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexCache").field("held_bytes", &self.held_bytes()).finish()
    }
}
