use std::sync::Arc;

use crate::file::{FileEntry, IndexEntry};
use crate::meta::records::StagedAs;
use crate::types::{ContentHash, Revision};

/// The version of a page that a snapshot shows.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// The commit that made it, or truncated the page away; 0 for a page never written.
    pub(crate) revision: Revision,
    /// Its content.
    pub(crate) hash: ContentHash,
    /// Where the content is.
    pub(crate) place: Place,
}

/// Where the content of a version is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Nowhere: it is all zeros.
    Zeros,
    /// In the meta tier.
    Staged(StagedAs),
    /// In a file, or in one that the file's index points to.
    InFile(Arc<FileEntry>, IndexEntry),
}

impl Version {
    /// A page never written.
    pub(crate) const ZEROS: Version = Version::zeros_since(Revision::ZERO);

    /// A page of zeros since `revision`.
    pub(crate) const fn zeros_since(revision: Revision) -> Version {
        Version { revision, hash: ContentHash::ZERO_PAGE, place: Place::Zeros }
    }
}
