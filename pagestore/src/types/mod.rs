//! Newtypes shared by every layer. Imports nothing of ours and does no I/O.

mod hash;
mod id;
mod keep;
mod name;
mod page;

pub use hash::{ContentHash, HASH_BYTES, HashSecret, SECRET_BYTES};
pub use id::{CommitId, FileId, SessionId, VolumeId};
pub use keep::Keep;
pub use name::{MAX_NAME_BYTES, PointName, VolumeName};
pub use page::{InvalidPageSize, MAX_PAGE_SIZE, MIN_PAGE_SIZE, PageCount, PageNo, PageSize};

/// The meta tier's revision of a change: totally ordered across a store, never reused.
///
/// `Revision(0)` is before every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Before every change.
    pub const ZERO: Revision = Revision(0);
    /// After every change.
    pub const MAX: Revision = Revision(u64::MAX);

    /// The revision directly after this one.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Revision {
    type Err = std::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Revision)
    }
}
