//! A bounded map that forgets: a clock.
//!
//! Entries lie in rings. A hand goes round and forgets what it comes to, except that each use of an
//! entry after its first makes the hand pass it by once, up to some times. So what was just put stays
//! for a round whether it was used yet or not (read-ahead needs that), and what is used again and again
//! outlives any scan.
//!
//! Keys are spread over shards so that hits of several threads seldom meet, and a hit takes only a
//! shared lock; the bound in bytes is one for all shards.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Enough that a few dozen threads seldom want the same one.
const MAX_SHARDS: u64 = 32;
/// With less in a shard, chance would make them too uneven.
const MIN_SHARD_BYTES: u64 = 1 << 20;

/// Most rounds that an entry not used any more outlasts.
const MAX_LIVES: u8 = 3;
/// Stands for the lives of an entry that was never used; a use takes it away and gives none.
const UNUSED: u8 = u8::MAX;

/// What an entry costs besides its value: ring slot, map slot, reference counts.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// A map of at most so many bytes.
#[derive(Debug)]
pub(super) struct Clock<K, V> {
    shards: Box<[RwLock<Shard<K, V>>]>,
    hasher: BuildHasherDefault<Spread>,
    max_bytes: u64,
    held_bytes: AtomicU64,
    /// The shard whose hand moves next.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Shard<K, V> {
    places: HashMap<K, usize, BuildHasherDefault<Spread>>,
    ring: Vec<Option<Entry<K, V>>>,
    free: Vec<usize>,
    hand: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    bytes: u64,
    /// How often the hand will pass it by.
    lives: AtomicU8,
}

impl<K: Copy + Eq + Hash, V: Clone> Clock<K, V> {
    pub(super) fn new(max_bytes: u64) -> Clock<K, V> {
        let shards = (max_bytes / MIN_SHARD_BYTES).clamp(1, MAX_SHARDS);
        Clock {
            shards: (0..shards).map(|_| RwLock::default()).collect(),
            hasher: BuildHasherDefault::default(),
            max_bytes,
            held_bytes: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let shard = read(self.shard(key));
        let entry = shard.entry(key)?;
        entry.note_use();
        Some(entry.value.clone())
    }

    /// True when it is there; no use of it.
    pub(super) fn contains(&self, key: &K) -> bool {
        read(self.shard(key)).places.contains_key(key)
    }

    /// Puts `value`, which takes `bytes`, unless there is one of that key: values never change. One
    /// larger than the whole bound is not kept.
    pub(super) fn insert(&self, key: K, value: V, bytes: usize) {
        let bytes = bytes.saturating_add(ENTRY_OVERHEAD_BYTES) as u64;
        if bytes > self.max_bytes {
            return;
        }
        let entry = Entry { key, value, bytes, lives: AtomicU8::new(UNUSED) };
        let own = self.shard(&key);
        if !write(own).insert(entry) {
            return;
        }
        self.held_bytes.fetch_add(bytes, Relaxed);
        // A hand that finds nothing has taken a life of each entry in its shard.
        let mut misses_left = usize::from(MAX_LIVES) * self.shards.len();
        while self.held_bytes() > self.max_bytes && misses_left > 0 {
            // From the same shard, so that shards stay about as large as each other.
            let forgotten = write(own).forget_one();
            // Dropped at the end of this round, outside the locks.
            match forgotten.or_else(|| write(self.next_shard()).forget_one()) {
                Some(entry) => drop(self.held_bytes.fetch_sub(entry.bytes, Relaxed)),
                None => misses_left -= 1,
            }
        }
    }

    fn next_shard(&self) -> &RwLock<Shard<K, V>> {
        let turn = self.turn.fetch_add(1, Relaxed) % self.shards.len();
        self.shards.get(turn).expect("BUG: a remainder is out of bounds")
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Relaxed)
    }

    fn shard(&self, key: &K) -> &RwLock<Shard<K, V>> {
        // The map in the shard uses the low bits and the highest; these lie between.
        let at = (self.hasher.hash_one(key) >> 40) as usize % self.shards.len();
        self.shards.get(at).expect("BUG: a remainder is out of bounds")
    }
}

impl<K: Copy + Eq + Hash, V> Shard<K, V> {
    fn entry(&self, key: &K) -> Option<&Entry<K, V>> {
        self.ring.get(*self.places.get(key)?)?.as_ref()
    }

    /// False when there is one of that key already.
    fn insert(&mut self, entry: Entry<K, V>) -> bool {
        if self.places.contains_key(&entry.key) {
            return false;
        }
        let key = entry.key;
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(slot) = self.ring.get_mut(place) {
                    *slot = Some(entry);
                }
                place
            }
            None => {
                self.ring.push(Some(entry));
                self.ring.len() - 1
            }
        };
        self.places.insert(key, place);
        true
    }

    /// Moves the hand to the next entry without lives and takes it out; once round at most.
    fn forget_one(&mut self) -> Option<Entry<K, V>> {
        for _ in 0..self.ring.len() {
            let place = self.hand;
            self.hand = (place + 1) % self.ring.len();
            let Some(slot) = self.ring.get_mut(place) else { continue };
            if slot.as_mut().is_some_and(|entry| !entry.survives()) {
                let entry = slot.take()?;
                self.places.remove(&entry.key);
                self.free.push(place);
                return Some(entry);
            }
        }
        None
    }
}

impl<K, V> Entry<K, V> {
    fn note_use(&self) {
        let lives = self.lives.load(Relaxed);
        // A use that another thread's overwrites is no loss. Not written when it changes nothing:
        // other threads read the same line.
        match lives {
            UNUSED => self.lives.store(0, Relaxed),
            lives if lives < MAX_LIVES => self.lives.store(lives + 1, Relaxed),
            _ => {}
        }
    }

    /// Takes one life; false when it had none.
    fn survives(&mut self) -> bool {
        let lives = self.lives.get_mut();
        if *lives == UNUSED {
            return false;
        }
        let survives = *lives > 0;
        *lives = lives.saturating_sub(1);
        survives
    }
}

impl<K, V> Default for Shard<K, V> {
    fn default() -> Self {
        Shard { places: HashMap::default(), ring: Vec::new(), free: Vec::new(), hand: 0 }
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().expect("BUG: nothing panics while it holds a shard")
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().expect("BUG: nothing panics while it holds a shard")
}

/// Spreads keys that nobody can choose (keyed content hashes, random file ids).
#[derive(Clone, Copy, Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// The length of a key says nothing: all have the same.
    fn write_usize(&mut self, _len: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: u64 = 100 + ENTRY_OVERHEAD_BYTES as u64;

    fn clock(entries: u64) -> Clock<u64, u64> {
        Clock::new(entries * ENTRY)
    }

    fn kept(clock: &Clock<u64, u64>, keys: std::ops::Range<u64>) -> Vec<u64> {
        keys.filter(|key| clock.contains(key)).collect()
    }

    #[test]
    fn what_was_used_twice_is_passed_by_once() {
        let clock = clock(4);
        (0..4).for_each(|key| clock.insert(key, key, 100));
        assert_eq!([clock.get(&0), clock.get(&1), clock.get(&1)], [Some(0), Some(1), Some(1)]);
        (4..6).for_each(|key| clock.insert(key, key, 100));
        assert_eq!(kept(&clock, 0..9), [1, 3, 4, 5]);
        (6..8).for_each(|key| clock.insert(key, key, 100));
        assert_eq!(kept(&clock, 0..9), [1, 5, 6, 7]);
        (8..10).for_each(|key| clock.insert(key, key, 100));
        assert_eq!(kept(&clock, 0..10), [6, 7, 8, 9], "one life, one round");
        assert_eq!(clock.get(&1), None);
    }

    #[test]
    fn what_is_used_again_and_again_outlives_a_scan() {
        let clock = clock(64);
        (0..8).for_each(|key| clock.insert(key, key, 100));
        for key in 1000..3000 {
            clock.insert(key, key, 100);
            assert!((0..8).all(|hot| clock.get(&hot) == Some(hot)), "{key}");
        }
    }

    #[test]
    fn what_was_put_last_is_there_though_never_used() {
        let clock = clock(40_000);
        assert!(clock.shards.len() > 4);
        for key in 0..400_000u64 {
            clock.insert(key, key, 100);
            // A reader that follows at a distance of half the bound, as read-ahead keeps at most.
            if let Some(read) = key.checked_sub(20_000) {
                assert!(clock.get(&read).is_some(), "{read}");
            }
        }
    }

    #[test]
    fn the_bound_holds_over_all_shards_whatever_the_sizes() {
        let clock: Clock<u64, u64> = Clock::new(100_000);
        let mut state = 1u64;
        for key in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            clock.insert(key % 700, key, usize::try_from(state >> 52).unwrap());
            assert!(clock.held_bytes() <= 100_000);
        }
        let shards = clock.shards.iter().map(|shard| {
            let shard = shard.read().unwrap();
            assert_eq!(shard.ring.iter().flatten().count(), shard.places.len());
            shard.ring.iter().flatten().map(|entry| entry.bytes).sum::<u64>()
        });
        assert_eq!(shards.sum::<u64>(), clock.held_bytes());
        assert!(clock.held_bytes() > 90_000);
    }

    #[test]
    fn one_entry_may_take_all_but_none_more_than_that() {
        let clock: Clock<u64, u64> = Clock::new(1000);
        clock.insert(1, 1, 100);
        clock.insert(2, 2, 1000);
        assert_eq!(kept(&clock, 0..4), [1]);
        clock.insert(3, 3, 1000 - ENTRY_OVERHEAD_BYTES);
        assert_eq!(kept(&clock, 0..4), [3]);
        clock.insert(4, 4, 100);
        assert_eq!(kept(&clock, 0..5), [4]);
        Clock::<u64, u64>::new(0).insert(1, 1, 0);
    }

    #[test]
    fn threads_agree_with_the_bound() {
        let clock: Clock<u64, u64> = Clock::new(50_000);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let clock = &clock;
                scope.spawn(move || {
                    for step in 0..20_000 {
                        let key = (step * 7 + thread) % 1000;
                        clock.insert(key, key, 100);
                        assert!(clock.get(&((key * 3) % 1000)).is_none_or(|found| found < 1000));
                    }
                });
            }
        });
        assert!(clock.held_bytes() <= 50_000);
    }
}
