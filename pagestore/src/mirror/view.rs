use imbl::OrdMap;

use super::state::StagedVersion;
use super::truncations::Truncations;
use crate::types::{PageCount, PageNo, Revision};

/// What was not in files at one revision of a volume: with the files it makes up a snapshot.
#[derive(Clone, Debug)]
pub struct View {
    /// The revision.
    pub revision: Revision,
    /// Pages at that revision; `None` when only the files' size history knows.
    pub page_count: Option<PageCount>,
    /// The newest version of each page that was not flushed when the view was made.
    pub staged: OrdMap<PageNo, StagedVersion>,
    /// Truncations that were not flushed when the view was made.
    pub truncations: Truncations,
}
