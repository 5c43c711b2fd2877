use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::core::Core;
use super::publish;
use super::sets::{ReadSet, SizeUse};
use super::write_set::WriteSet;
use crate::error::{Error, Result};
use crate::lock::WriteLock;
use crate::meta::txn::LockGuard;
use crate::snapshot::Snapshot;
use crate::types::{CommitId, PageCount, PageNo, Revision};

/// A snapshot with a read set and a write set, committed optimistically: the commit succeeds only if
/// nothing that was read or written has changed since.
///
/// Dropping it abandons it; nothing was done.
#[derive(Debug)]
pub struct Transaction {
    pub(super) core: Arc<Core>,
    pub(super) snapshot: Snapshot,
    pub(super) reads: ReadSet,
    pub(super) writes: WriteSet,
    pub(super) size: SizeUse,
    /// True once anything was written or truncated, even if it changed nothing.
    pub(super) wrote: bool,
    /// A page whose changes may make no difference.
    pub(super) tolerates: Option<(PageNo, Tolerates)>,
    /// What the commit wants of the volume's write lock.
    pub(super) lock: LockGuard,
    /// To be set when the commit gives the lock back.
    pub(super) released: Option<Arc<AtomicBool>>,
}

/// Says of a page's content before and after a change by others whether it makes no difference.
pub type Tolerates = fn(&[u8], &[u8]) -> bool;

/// What a commit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The revision of the commit; of a transaction that wrote nothing, the one it read.
    pub revision: Revision,
    /// The commit's id; `None` when there was nothing to commit.
    pub commit: Option<CommitId>,
}

impl Transaction {
    pub(crate) fn new(core: Arc<Core>, snapshot: Snapshot) -> Transaction {
        let writes = WriteSet::new(core.record.page_size);
        let size = SizeUse::new(snapshot.page_count());
        Transaction {
            core,
            snapshot,
            reads: ReadSet::default(),
            writes,
            size,
            wrote: false,
            tolerates: None,
            lock: LockGuard::None,
            released: None,
        }
    }

    /// The revision that the transaction reads.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.snapshot.revision()
    }

    /// The number of pages, with the transaction's own changes. The commit will conflict with one
    /// that changes it.
    pub fn page_count(&mut self) -> PageCount {
        self.reads.page_count = true;
        self.size.last
    }

    /// As [`Transaction::page_count`], without making the commit depend on it.
    #[must_use]
    pub fn peek_page_count(&self) -> PageCount {
        self.size.last
    }

    /// The content of `page`, with the transaction's own changes: zeros where nothing was written.
    /// The commit will conflict with one that changes the page.
    ///
    /// # Errors
    /// `Invalid` for a page beyond the end, `Expired`, `Unavailable`, `Corrupt`.
    pub async fn read(&mut self, page: PageNo) -> Result<Bytes> {
        if let Some(content) = self.own(page)? {
            return Ok(content);
        }
        if planted!(AbsentPageForgotten) {
            let content = self.snapshot.read(page).await?;
            if content.iter().any(|byte| *byte != 0) {
                self.reads.insert(page);
            }
            return Ok(content);
        }
        self.reads.insert(page);
        self.snapshot.read(page).await
    }

    /// As [`Transaction::read`], for a caller that knows that no change of the page up to `revision`
    /// makes a difference: the commit conflicts only with later ones. It gets the content of the
    /// transaction's own revision all the same.
    ///
    /// A plain read of the page is stricter and counts, before or after. So whoever depends on a part of
    /// a page only has to [`peek`](Transaction::peek) at it and say later what it depends on
    /// ([`depend_on_unless`](Transaction::depend_on_unless), as SQLite's page 1 is used), or to read it
    /// tolerating the transaction's own revision, and may tolerate newer ones as it finds that they change
    /// nothing for it: of several tolerant reads the latest revision counts.
    ///
    /// # Errors
    /// As [`Transaction::read`].
    pub async fn read_tolerating(&mut self, page: PageNo, revision: Revision) -> Result<Bytes> {
        if let Some(content) = self.own(page)? {
            return Ok(content);
        }
        self.reads.insert_newer(page, revision);
        self.snapshot.read(page).await
    }

    /// Makes the commit conflict with one that changes `page`, as if it had been read.
    pub fn depend_on(&mut self, page: PageNo) {
        self.reads.insert(page);
    }

    /// As [`Transaction::depend_on`], but a change of `page` for which `tolerates`, given its content
    /// before and after, says true makes no difference. Does not hold if the transaction writes the page.
    pub fn depend_on_unless(&mut self, page: PageNo, tolerates: Tolerates) {
        self.reads.insert(page);
        self.tolerates = Some((page, tolerates));
    }

    /// The pages written, each with its content.
    ///
    /// # Errors
    /// `Unavailable` when a large transaction's temporary file cannot be read.
    pub fn written(&self) -> impl Iterator<Item = Result<(PageNo, Bytes)>> {
        self.writes.pages().map(|page| {
            let content = self.writes.get(page)?.expect("BUG: the page is among those written");
            Ok((page, content))
        })
    }

    /// The content of `page` without making the commit depend on it.
    ///
    /// # Errors
    /// As [`Transaction::read`].
    pub async fn peek(&mut self, page: PageNo) -> Result<Bytes> {
        match self.own(page)? {
            Some(content) => Ok(content),
            None => self.snapshot.read(page).await,
        }
    }

    /// The content of `page` as far as the transaction itself decides it.
    fn own(&mut self, page: PageNo) -> Result<Option<Bytes>> {
        if !self.size.last.contains(page) {
            self.reads.page_count = true;
            return Err(beyond_end(page, self.size.last));
        }
        if let Some(content) = self.writes.get(page)? {
            return Ok(Some(content));
        }
        // Truncated away, or new, and not written since.
        let fresh = !self.size.lowest.contains(page);
        Ok(fresh.then(|| vec![0; self.core.record.page_size.bytes()].into()))
    }

    /// Writes a whole page; one beyond the end makes the volume longer, with zeros in between.
    ///
    /// # Errors
    /// `Invalid` when `content` is not exactly one page long or the page number is the largest there
    /// is; `Unavailable` when a large transaction's temporary file cannot be written.
    pub fn write(&mut self, page: PageNo, content: impl Into<Bytes>) -> Result<()> {
        let content = content.into();
        let page_size = self.core.record.page_size;
        if content.len() != page_size.bytes() {
            return Err(Error::invalid(format!(
                "a write must be one page of {page_size} bytes long, not {}; page {page}",
                content.len()
            )));
        }
        let count = page
            .0
            .checked_add(1)
            .ok_or_else(|| Error::invalid(format!("no volume has a page {page}")))?;
        self.writes.insert(page, content)?;
        self.wrote = true;
        if count > self.size.last.0 {
            self.size.set(PageCount(count));
        }
        Ok(())
    }

    /// Writes a whole page unless the volume has exactly this content already; then the commit will
    /// conflict with one that changes the page. Tells by the content's hash, without reading the page.
    /// True when the page was written.
    ///
    /// # Errors
    /// As [`Transaction::write`] and [`Transaction::read`].
    pub async fn write_if_changed(&mut self, page: PageNo, content: &[u8]) -> Result<bool> {
        let is_old =
            self.size.lowest.contains(page) && content.len() == self.core.record.page_size.bytes();
        if is_old && self.writes.get(page)?.is_none() {
            let version = self.core.reader.find(self.snapshot.view(), page).await?;
            if version.hash == self.core.record.secret.hash(page, content) {
                self.reads.insert(page);
                return Ok(false);
            }
        }
        self.write(page, Bytes::copy_from_slice(content))?;
        Ok(true)
    }

    /// Forgets writes of what the snapshot shows already; the commit will conflict with one that changes
    /// these pages. True when there is anything left to commit.
    ///
    /// # Errors
    /// As [`Transaction::read`].
    pub async fn forget_unchanged(&mut self) -> Result<bool> {
        let pages: Vec<PageNo> = self.writes.pages().collect();
        for page in pages.into_iter().take_while(|page| self.size.lowest.contains(*page)) {
            let content = self.writes.get(page)?.expect("BUG: the page is among those written");
            let version = self.core.reader.find(self.snapshot.view(), page).await?;
            if version.hash == self.core.record.secret.hash(page, &content) {
                self.writes.remove(page);
                self.reads.insert(page);
            }
        }
        self.size.forget_unchanged();
        self.wrote = self.writes.len() > 0 || self.size.changed;
        Ok(self.wrote)
    }

    /// Makes the volume `count` pages long: pages beyond are gone, pages added are zeros.
    pub fn truncate(&mut self, count: PageCount) {
        self.wrote = true;
        // Also when the count is that already: it is to be that afterwards.
        self.reads.page_count = true;
        self.writes.truncate(count);
        self.size.set(count);
    }

    /// Makes the commit happen only if `lock`, which is of this transaction's volume, is still held: it
    /// gets `Conflict` if not. With `release` a commit that happens gives the lock back, at no cost.
    ///
    /// # Panics
    /// When the lock is another volume's.
    pub fn require_lock(&mut self, lock: &WriteLock, release: bool) {
        assert_eq!(lock.key, self.core.lock_key, "BUG: the lock of another volume");
        let (key, created) = (lock.key.clone(), lock.created);
        self.lock = LockGuard::Held { key, created, release };
        self.released = release.then(|| lock.released.clone());
    }

    /// Makes the commit wait for whoever holds the volume's write lock.
    pub fn respect_lock(&mut self) {
        self.lock = LockGuard::Free(self.core.lock_key.clone());
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// How many pages the transaction has written.
    #[must_use]
    pub fn written_count(&self) -> usize {
        self.writes.len()
    }

    /// Commits: all of it, durably, or nothing.
    ///
    /// # Errors
    /// - `Conflict`: another commit changed what this one read or wrote; run it again.
    /// - `Unknown`: the meta tier did not say, and cannot be reached; ask again with the error's token
    ///   (`Volume::resolve`).
    /// - `Backpressure`: the compactor lags; nothing was done.
    /// - `Unavailable`, `NotFound` (the volume was deleted), `Corrupt`: nothing was done.
    pub async fn commit(self) -> Result<Committed> {
        publish::commit(vec![self]).await
    }
}

pub(crate) fn beyond_end(page: PageNo, count: PageCount) -> Error {
    Error::invalid(format!("page {page} is beyond the end; the volume has {count} pages"))
}
