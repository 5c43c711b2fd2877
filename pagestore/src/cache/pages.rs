//! Pages in memory, by the hash of their content.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::bounded::Bounded;
use crate::types::ContentHash;

/// Pages of all volumes of a store; clone it freely. A hit allocates nothing.
#[derive(Clone)]
pub struct PageCache(Arc<Bounded<ContentHash, Bytes>>);

impl PageCache {
    /// Default bound.
    pub const DEFAULT_BYTES: u64 = 64 << 20;

    /// A cache of at most `bytes`, entries' overhead included.
    #[must_use]
    pub fn new(bytes: u64) -> PageCache {
        PageCache(Arc::new(Bounded::new(bytes)))
    }

    /// The page of this content hash.
    #[must_use]
    pub fn get(&self, hash: &ContentHash) -> Option<Bytes> {
        self.0.get(hash)
    }

    /// True when the page is here; does not count as a use of it.
    #[must_use]
    pub fn contains(&self, hash: &ContentHash) -> bool {
        self.0.contains(hash)
    }

    /// Keeps a page whose hash has been checked. `page` must own its memory: a slice of something
    /// larger would keep all of that alive.
    pub fn insert(&self, hash: ContentHash, page: Bytes) {
        // The first clone of bytes that were a vector allocates their reference count.
        drop(page.clone());
        let bytes = page.len();
        self.0.insert(hash, page, bytes);
    }

    /// The bound in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.0.max_bytes()
    }

    /// Bytes held, overhead included.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.0.held_bytes()
    }
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache")
            .field("max_bytes", &self.max_bytes())
            .field("held_bytes", &self.held_bytes())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_found_by_their_whole_hash() {
        let cache = PageCache::new(1 << 20);
        cache.insert(ContentHash([7; 16]), Bytes::from_static(b"one"));
        assert_eq!(cache.get(&ContentHash([7; 16])).unwrap(), "one");
        for at in 0..16 {
            let mut other = [7; 16];
            other[at] ^= 1;
            assert_eq!(cache.get(&ContentHash(other)), None);
            assert!(!cache.contains(&ContentHash(other)));
        }
    }

    #[test]
    fn overhead_counts() {
        let cache = PageCache::new(1 << 20);
        cache.insert(ContentHash([7; 16]), Bytes::from(vec![1; 100]));
        assert!(cache.held_bytes() > 100);
    }
}
