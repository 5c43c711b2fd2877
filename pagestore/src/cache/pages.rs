//! Pages in memory, by the hash of their content.

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::types::ContentHash;

/// What an entry costs besides the page: key, links of the eviction queue, reference counts.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// Pages of all volumes of a store. A hit allocates nothing.
///
/// The least recently used page goes first. A policy that admits by frequency would throw out what
/// was just read ahead, before its reader comes.
#[derive(Clone)]
pub struct PageCache(Cache<ContentHash, Bytes, BuildHasherDefault<HashOfHash>>);

impl PageCache {
    /// Default bound.
    pub const DEFAULT_BYTES: u64 = 64 << 20;

    /// A cache of at most `bytes`, entries' overhead included.
    #[must_use]
    pub fn new(bytes: u64) -> PageCache {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, page: &Bytes| {
                u32::try_from(page.len() + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX)
            })
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(BuildHasherDefault::default());
        PageCache(cache)
    }

    /// The page of this content hash.
    #[must_use]
    pub fn get(&self, hash: &ContentHash) -> Option<Bytes> {
        self.0.get(hash)
    }

    /// True when the page is here; does not count as a use of it.
    #[must_use]
    pub fn contains(&self, hash: &ContentHash) -> bool {
        self.0.contains_key(hash)
    }

    /// Keeps a page whose hash has been checked. `page` must own its memory: a slice of something
    /// larger would keep all of that alive.
    pub fn insert(&self, hash: ContentHash, page: Bytes) {
        self.0.insert(hash, page);
    }

    /// The bound in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.0.policy().max_capacity().unwrap_or(u64::MAX)
    }

    /// Bytes held, overhead included, as of the last time that evictions ran.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.0.weighted_size()
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

/// A content hash is a keyed hash already: its first bytes do.
#[derive(Default)]
struct HashOfHash(u64);

impl Hasher for HashOfHash {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _len: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> ContentHash {
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        ContentHash(bytes)
    }

    #[test]
    fn pages_are_found_by_their_whole_hash() {
        let cache = PageCache::new(1 << 20);
        cache.insert(hash(1), Bytes::from_static(b"one"));
        assert_eq!(cache.get(&hash(1)).unwrap(), "one");
        let mut other = hash(1);
        other.0[15] ^= 1;
        assert_eq!(cache.get(&other), None);
        assert!(cache.contains(&hash(1)) && !cache.contains(&hash(2)));
    }

    #[test]
    fn the_bound_counts_overhead_and_the_newest_stay() {
        let entry = 100 + ENTRY_OVERHEAD_BYTES;
        let cache = PageCache::new(10 * entry as u64);
        for n in 0..100 {
            cache.insert(hash(n), Bytes::from(vec![1; 100]));
            cache.0.run_pending_tasks();
        }
        assert_eq!(cache.0.entry_count(), 10);
        assert_eq!(cache.held_bytes(), 10 * entry as u64);
        assert!((90..100).all(|n| cache.contains(&hash(n))));
    }
}
