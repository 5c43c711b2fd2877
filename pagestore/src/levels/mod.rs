//! Which files make up a volume, and what that means. Pure: no I/O.
//!
//! Owns the meaning of "which file holds this page" for reader, compactor, garbage collection and
//! verification alike; which versions must be kept; and how the page count changed.
//!
//! Invariant, checked on every edit: no file is listed twice, and from level 1 on the files of a level
//! are one sorted run, so that at most one of them holds a page.

mod list;
mod lookup;
mod merge_iter;
mod retention;
mod sizes;
#[cfg(test)]
mod testing;

pub use crate::file::{FileEntry, FileRef, Origin, SizeChange, Truncation};
pub use list::{Edit, Levels, LevelsError, max_overlap};
pub use lookup::{FoundVersion, Lookup};
pub use merge_iter::{MergeError, MergeIter, Step};
pub use retention::{Readable, Retention, Version};
pub use sizes::SizeHistory;
