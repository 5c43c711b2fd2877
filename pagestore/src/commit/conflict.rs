use crate::mirror::VolumeState;
use crate::types::{FileId, PageNo, Revision};

use super::sets::Footprint;

/// What the changelog says of a transaction that was overtaken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overtaken {
    /// These pages changed since the base; none named when only the page count did.
    Conflict(Vec<PageNo>),
    /// Nothing in the changelog; what these bulk files hold is still to be looked at.
    Files(Vec<(Revision, FileId)>),
    /// The changelog does not reach back to the base: every page is to be looked up.
    Lookup,
}

/// Holds `footprint` on `base` against everything that `state` knows to have happened since.
///
/// A truncation counts as a change of every page from its lowest count on, and a change of the page
/// count as a change of a page that every commit reads that depends on the count.
pub(super) fn check_changelog(
    state: &VolumeState,
    footprint: &Footprint,
    base: Revision,
) -> Overtaken {
    if footprint.page_count && state.page_count_modified > base {
        return Overtaken::Conflict(vec![]);
    }
    if base < state.changelog_from {
        return Overtaken::Lookup;
    }
    let (mut pages, mut files) = (Vec::new(), Vec::new());
    for ((revision, _), commit) in state.since(base) {
        if let Some(lowest) = commit.size.and_then(|size| size.lowest) {
            pages.extend(footprint.conflicting_from(PageNo(lowest.0), *revision, base));
        }
        let changed = commit.pages.iter().map(|change| change.page);
        pages.extend(changed.filter(|page| footprint.conflicts(*page, *revision, base)));
        files.extend(commit.files.iter().map(|file| (*revision, *file)));
    }
    if pages.is_empty() { Overtaken::Files(files) } else { Overtaken::Conflict(pages) }
}
