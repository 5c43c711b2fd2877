//! One kind of immutable file: pages compressed in frames, and a sorted index. Pure: no I/O.
//!
//! Owns the bytes of a file and what a reader or writer of it computes. It never fetches: the reader
//! says which range it needs ([`FileEntry::tail_range`], [`BlockHandle::range`],
//! [`FrameHandle::range`]) and decodes what the caller brings; the writer ([`FileWriter`]) yields bytes
//! to put.
//!
//! ```text
//! header
//! frames          newest versions of pages, in page order
//! history frames  older versions
//! index blocks    (page, revision descending) -> hash, location in this file or another
//! commit blocks   the changelog, by revision
//! size history    \
//! references       | the tail: fetched first, in one request
//! filter           | (with the commit blocks when those are small)
//! directory        |
//! footer          /
//! ```
//!
//! Invariant: every byte that is read is under a checksum, and every page is held against the hash in
//! the index before it leaves; damage is an error that names section and offset, never a wrong page,
//! never a panic. Integers are little-endian or LEB128.

mod commits;
mod directory;
mod entry;
mod error;
mod footer;
mod frame;
mod index;
mod section;
mod tail;
mod types;
mod writer;

pub use commits::decode_commits;
pub use directory::{BlockHandle, CommitBlockHandle};
pub use entry::{FileEntry, FileRef, MAX_REFS, Origin, Truncation};
pub use error::{FileError, Section};
pub use footer::{FileIdentity, check_header, header_range};
pub use frame::Frame;
pub use index::IndexBlock;
pub use tail::FileTail;
pub use types::{
    BodyAt, CommitKind, CommitRecord, EntryKey, FrameHandle, IndexEntry, Location, SizeChange,
};
pub use writer::{BuiltFile, FileParams, FileWriter};

#[cfg(test)]
mod tests;
