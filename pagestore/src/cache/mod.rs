//! What has been read once and may be read again: pages, parts of indexes, frames on a local disk;
//! and the rule that one thing is fetched once at a time.
//!
//! Everything here is immutable content under a name that is never reused (a content hash, or a
//! file id with an offset), so nothing is ever invalidated: a cache may forget, but it can never be
//! stale. A bound in bytes holds for each, counting what an entry costs besides its content.

mod disk;
mod flight;
mod pages;

pub use disk::{DiskCache, FrameKey};
pub use flight::{Flight, Follower, Leader, SingleFlight};
pub use pages::PageCache;
