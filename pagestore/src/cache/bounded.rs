//! A map of at most so many bytes, which forgets what is seldom used.
//!
//! quick_cache underneath, not moka: a hit costs it a twentieth (some 60 ns against 1,500 at random over
//! 12,000 pages; `pread` of one takes 1,200), because it notes a use in one byte and not in a queue.
//! Half of the bytes are for what was used again, which no scan pushes out; through the other half goes
//! what is new, so that what was read ahead stays until its reader comes.

use std::fmt;
use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// What an entry costs besides its value: slots in tables, reference counts.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// The share of the bytes that is for what was used again.
const HOT_SHARE: f64 = 0.5;

/// Shards are so large that one holds some dozens of entries of this size, the largest that are usual.
const LARGE_ENTRY_BYTES: u64 = 32 << 10;

/// A map of at most so many bytes. Values never change: a second one for a key says the same.
pub(super) struct Bounded<K, V>(Cache<K, Weighed<V>, ByBytes>);

#[derive(Clone)]
struct Weighed<V> {
    value: V,
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

impl<K, V> Weighter<K, Weighed<V>> for ByBytes {
    fn weight(&self, _key: &K, value: &Weighed<V>) -> u64 {
        value.bytes
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Bounded<K, V> {
    pub(super) fn new(max_bytes: u64) -> Bounded<K, V> {
        let entries = usize::try_from(max_bytes / LARGE_ENTRY_BYTES).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            .weight_capacity(max_bytes)
            .estimated_items_capacity(entries)
            .hot_allocation(HOT_SHARE)
            .build()
            .expect("BUG: a capacity is missing");
        Bounded(Cache::with_options(
            options,
            ByBytes,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ))
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|found| found.value)
    }

    /// True when it is there; no use of it.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Puts `value`, which takes `bytes`, unless there is one of that key.
    pub(super) fn insert(&self, key: K, value: V, bytes: usize) {
        if !self.contains(&key) {
            let bytes = bytes.saturating_add(ENTRY_OVERHEAD_BYTES) as u64;
            self.0.insert(key, Weighed { value, bytes });
        }
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.0.capacity()
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.0.weight()
    }
}

impl<K: Copy + Eq + Hash, V: Clone> fmt::Debug for Bounded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded")
            .field("max_bytes", &self.max_bytes())
            .field("held_bytes", &self.held_bytes())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: u64 = 4096 + ENTRY_OVERHEAD_BYTES as u64;

    fn bounded(entries: u64) -> Bounded<u64, u64> {
        Bounded::new(entries * ENTRY)
    }

    #[test]
    fn what_is_used_again_and_again_outlives_a_scan() {
        let cache = bounded(4000);
        for key in 0..8 {
            cache.insert(key, key, 4096);
        }
        for key in 1000..40_000 {
            cache.insert(key, key, 4096);
            assert!((0..8).all(|hot| cache.get(&hot) == Some(hot)), "{key}");
        }
    }

    #[test]
    fn what_was_put_last_is_there_though_never_used() {
        let cache = bounded(16_000);
        for key in 0..160_000u64 {
            cache.insert(key, key, 4096);
            // A reader that follows at a distance of a quarter of the bound, as read-ahead keeps at most.
            if let Some(read) = key.checked_sub(4_000) {
                assert!(cache.get(&read).is_some(), "{read}");
            }
        }
    }

    #[test]
    fn the_bound_holds_whatever_the_sizes() {
        let cache: Bounded<u64, u64> = Bounded::new(1_000_000);
        let mut state = 1u64;
        for key in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            cache.insert(key % 700, key, usize::try_from(state >> 50).unwrap());
            assert!(cache.held_bytes() <= 1_000_000);
        }
        assert!(cache.held_bytes() > 900_000);
    }

    #[test]
    fn the_largest_page_fits_the_smallest_cache_that_holds_some_of_them() {
        let cache: Bounded<u64, u64> = Bounded::new(1 << 20);
        cache.insert(1, 1, 64 << 10);
        assert_eq!(cache.get(&1), Some(1));
        cache.insert(2, 2, 2 << 20);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), None));
        Bounded::<u64, u64>::new(0).insert(1, 1, 0);
    }
}
