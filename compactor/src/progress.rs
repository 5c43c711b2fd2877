//! How the work goes, for those who watch.

use std::fmt;

use pagestore::VolumeId;

use crate::options::CompactorOptions;

/// What is being done, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Staged versions of pages are written into files.
    Flushing {
        /// Versions written.
        done: u64,
        /// Versions in all.
        total: u64,
    },
    /// Files are merged.
    Merging {
        /// Index entries read.
        done: u64,
        /// Index entries in all.
        total: u64,
    },
    /// What was flushed is taken out of the meta tier.
    Removing,
    /// Objects that nobody needs are deleted.
    Deleting {
        /// Objects in all.
        total: u64,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Flushing { done, total } => write!(f, "flushing, {done} of {total} pages"),
            Progress::Merging { done, total } => write!(f, "merging, {done} of {total} entries"),
            Progress::Removing => f.write_str("removing what was flushed"),
            Progress::Deleting { total } => write!(f, "deleting {total} files"),
        }
    }
}

/// Tells the host of one volume's progress.
#[derive(Debug)]
pub(crate) struct Reporter<'a> {
    pub(crate) volume: VolumeId,
    pub(crate) options: &'a CompactorOptions,
}

impl Reporter<'_> {
    pub(crate) fn tell(&self, progress: Progress) {
        if let Some(tell) = &self.options.progress {
            tell(self.volume, progress);
        }
    }
}
