//! One kind of immutable file: pages compressed in frames, and a sorted index. Pure.
mod entry;
mod error;
mod types;

pub use entry::{FileEntry, FileRef, MAX_REFS, Origin, Truncation};
pub use error::{FileError, Section};
pub use types::{
    BodyAt, CommitKind, CommitRecord, EntryKey, FrameHandle, IndexEntry, Location, SizeChange,
};
