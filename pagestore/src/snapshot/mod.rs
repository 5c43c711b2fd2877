//! Snapshots: what a volume showed at one revision, and how its pages are read.
//!
//! Owns the lookup over mirror and files and the way to a page's content. Never takes the first
//! version found for the newest: a bulk file may be newer than what is staged, and a flushed file
//! older than both. A miss is looked into again with a newer list of files before it is an error.

use std::sync::Arc;

use bytes::Bytes;

use crate::commit::{Core, beyond_end};
use crate::error::{ErrorKind, Result};
use crate::mirror::View;
use crate::session::Hold;
use crate::types::{PageCount, PageNo, Revision};

mod reader;
mod version;

pub(crate) use reader::Reader;
pub(crate) use version::{Place, Version};

/// Tries to hold the newest revision, while the oldest readable one passes it.
const MAX_TRIES: usize = 8;

/// A read-only view of a volume at one revision. It shows the same bytes for as long as it is held
/// and its process keeps its lease, whatever is written meanwhile; after that it gets `Expired`.
///
/// A clone is cheap and holds the same revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    core: Arc<Core>,
    view: Arc<View>,
    page_count: PageCount,
    _hold: Hold,
}

impl Snapshot {
    pub(crate) async fn open(core: Arc<Core>, view: View) -> Result<Snapshot> {
        let hold = core.session.hold(view.revision).await?;
        let page_count = core.reader.page_count(&view).await?;
        Ok(Snapshot { core, view: Arc::new(view), page_count, _hold: hold })
    }

    /// Opens a snapshot of `view`, the newest a moment ago; of a newer one when it was overtaken before
    /// it was held.
    ///
    /// # Errors
    /// As [`Snapshot::open`]; `Expired` when it was overtaken again and again.
    pub(crate) async fn open_newest(core: &Arc<Core>, mut view: View) -> Result<Snapshot> {
        for _ in 1..MAX_TRIES {
            match Snapshot::open(core.clone(), view).await {
                Err(error) if error.kind() == ErrorKind::Expired => {
                    view = core.mirror.fresh().await?.view();
                }
                opened => return opened,
            }
        }
        Snapshot::open(core.clone(), view).await
    }

    /// The revision that it shows.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.view.revision
    }

    /// The number of pages.
    #[must_use]
    pub fn page_count(&self) -> PageCount {
        self.page_count
    }

    /// The content of `page`; zeros where nothing was written.
    ///
    /// # Errors
    /// - `Invalid`: the page is beyond the end.
    /// - `Expired`: the snapshot outlived its lease, and what it shows is no longer kept.
    /// - `Unavailable`: a tier did not answer.
    /// - `Corrupt`: stored bytes are not what was written; the message names the place.
    pub async fn read(&self, page: PageNo) -> Result<Bytes> {
        if !self.page_count.contains(page) {
            return Err(beyond_end(page, self.page_count));
        }
        self.core.reader.read(&self.view, page).await
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}
