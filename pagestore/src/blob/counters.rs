//! Counts of what was asked of the blob tier, from which a bill can be reckoned.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many requests a store was sent since it was opened, failed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobCounts {
    /// Ranged reads.
    pub gets: u64,
    /// Creations.
    pub puts: u64,
    /// Questions for an object's length.
    pub heads: u64,
    /// Listings, one for each page of 1,000 names.
    pub lists: u64,
    /// Deletions.
    pub deletes: u64,
    /// Bytes of content read.
    pub bytes_in: u64,
    /// Bytes of content sent.
    pub bytes_out: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) gets: Counter,
    pub(super) puts: Counter,
    pub(super) heads: Counter,
    pub(super) lists: Counter,
    pub(super) deletes: Counter,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
}

impl Counters {
    pub(super) fn snapshot(&self) -> BlobCounts {
        BlobCounts {
            gets: self.gets.get(),
            puts: self.puts.get(),
            heads: self.heads.get(),
            lists: self.lists.get(),
            deletes: self.deletes.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
