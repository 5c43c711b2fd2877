//! Every page of a revision can be read.

use futures::{StreamExt, stream};

use super::files::Unreadable;
use super::findings::{Damage, Finding};
use super::staged::is_damage;
use super::{Phase, Verification};
use crate::error::Result;
use crate::inspect::CONCURRENCY;
use crate::snapshot::Snapshot;
use crate::types::PageNo;

/// Pages between two reports of progress.
const TELL_EVERY: u64 = 256;

impl Verification<'_> {
    /// Reads every page, but those that a file says nothing certain about, which is found already.
    pub(super) async fn check_pages(
        &mut self,
        snapshot: &Snapshot,
        unreadable: &Unreadable,
    ) -> Result<()> {
        let total = snapshot.page_count().0;
        let pages = (0..total).map(PageNo).filter(|page| !unreadable.contains(*page));
        let mut reads = stream::iter(pages)
            .map(|page| async move { (page, snapshot.read(page).await) })
            .buffered(CONCURRENCY);
        while let Some((page, read)) = reads.next().await {
            match read {
                Ok(_) => self.report.pages_read += 1,
                Err(error) if is_damage(&error) => {
                    self.findings.push(Finding::new(Damage::Page, error).of_pages(page, page));
                }
                Err(error) => return Err(error.context(format_args!("page {page}"))),
            }
            if page.0 % TELL_EVERY == 0 || page.0 + 1 == total {
                self.tell(Phase::Pages, page.0 + 1, total);
            }
        }
        Ok(())
    }
}
