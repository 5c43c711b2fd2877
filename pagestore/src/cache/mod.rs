//! What has been read once and may be read again: pages, parts of indexes, frames on a local disk;
//! and the rule that one thing is fetched once at a time.
//!
//! Everything here is immutable content under a name that is never reused (a content hash, or a
//! file id with an offset), so nothing is ever invalidated: a cache may forget, but it can never be
//! stale. A bound in bytes holds for each, counting what an entry costs besides its content.

mod bounded;
mod disk;
mod flight;
mod index;
mod pages;

use std::sync::Arc;

pub use disk::{DiskCache, FrameKey};
pub use flight::{Flight, Follower, Leader, SingleFlight};
pub use index::IndexCache;
pub use pages::PageCache;

/// The caches of a store, shared by its volumes.
#[derive(Clone, Debug)]
pub struct Caches {
    /// Pages in memory.
    pub pages: PageCache,
    /// Indexes of files in memory.
    pub indexes: IndexCache,
    /// Frames on a local disk.
    pub disk: Option<Arc<DiskCache>>,
}

impl Default for Caches {
    /// In memory, of the default sizes.
    fn default() -> Caches {
        Caches {
            pages: PageCache::new(PageCache::DEFAULT_BYTES),
            indexes: IndexCache::new(IndexCache::DEFAULT_BYTES),
            disk: None,
        }
    }
}
