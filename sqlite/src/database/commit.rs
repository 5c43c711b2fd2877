//! Committing: from SQLite's SYNC to what is left of a transaction once its commit is known.

use std::collections::BTreeMap;

use bytes::Bytes;
use libsqlite3_sys as ffi;
use pagestore::{Committed, PageCount, PageNo, Revision, Transaction};

use super::{Awaited, Change, Completed, Database, Done, MAX_KEPT_PAGES, Seen, Work};
use crate::failure::{Failure, Outcome};
use crate::header;
use crate::name::Writers;
use crate::runtime::wait;

impl Database {
    /// True when it is prepared, and waits for that.
    pub(crate) fn awaits(&self, awaited: Awaited) -> bool {
        matches!(self.work, Work::Prepared(_, what) if what == awaited)
    }

    /// True while there is something to be committed or rolled back.
    pub(crate) fn is_unfinished(&self) -> bool {
        matches!(self.work, Work::Prepared(..) | Work::Failed)
    }

    /// SQLite says that all is written.
    pub(crate) fn complete(&mut self) -> Outcome<Completed> {
        self.synced = true;
        let chunk_pages = match (self.chunk_bytes, self.page_size()) {
            (Some(bytes), Some(size)) => Some((bytes / size as u64).max(1)),
            _ => None,
        };
        let change = match &mut self.work {
            Work::Open(change) => change,
            Work::Prepared(..) => {
                // A second SYNC of the same transaction plays it back.
                self.work = Work::Failed;
                return Ok(Completed::RolledBack);
            }
            Work::Failed => return Ok(Completed::RolledBack),
            Work::Idle | Work::Done(_) => return Ok(Completed::Nothing),
        };
        let transaction = &mut change.transaction;
        // SQLite cuts the file off only after the commit, which is too late for us.
        if let Some(count) = change.page_count.map(PageCount) {
            let now = transaction.peek_page_count();
            let wanted = match chunk_pages {
                Some(pages) => PageCount(count.0.next_multiple_of(pages)),
                None => count.min(now),
            };
            if wanted != now {
                transaction.truncate(wanted);
            }
        }
        let left =
            wait(transaction.forget_unchanged()).map_err(Failure::io(ffi::SQLITE_IOERR_FSYNC));
        match left {
            Ok(true) => Ok(Completed::Something),
            Ok(false) => {
                self.work = Work::Idle;
                Ok(Completed::Nothing)
            }
            Err(failure) => {
                self.fail();
                Err(failure)
            }
        }
    }

    /// Waits for the other databases of the transaction.
    pub(crate) fn prepare(&mut self, awaited: Awaited) {
        if let Work::Open(change) = std::mem::replace(&mut self.work, Work::Idle) {
            self.work = Work::Prepared(change, awaited);
        }
    }

    /// Hands over what is to be committed; `committed` or `fail` must follow.
    pub(crate) fn take(&mut self) -> Option<Ready> {
        let work = std::mem::replace(&mut self.work, Work::Failed);
        let (Work::Open(change) | Work::Prepared(change, _)) = work else {
            self.work = work;
            return None;
        };
        let Change { mut transaction, counter, .. } = *change;
        let mut kept = None;
        if self.target.writers == Writers::Optimistic {
            self.reads.iter().for_each(|page| transaction.depend_on(PageNo(page)));
            transaction.depend_on_unless(PageNo(0), header::differs_in_size_only);
            kept = keep(&transaction);
        }
        match &self.write_lock {
            Some(lock) => transaction.require_lock(lock, !self.keeps_lock),
            None => transaction.respect_lock(),
        }
        let page_count = transaction.peek_page_count();
        Some(Ready { base: transaction.revision(), transaction, counter, page_count, kept })
    }

    /// The transaction that was taken has been committed.
    pub(crate) fn committed(&mut self, ready: Promise, committed: Committed) {
        let Promise { base, counter, page_count, kept } = ready;
        self.counter = counter.unwrap_or(self.counter);
        self.seen = Some(Seen { revision: base, own: committed.commit });
        self.work = Work::Done(Box::new(Done { committed, page_count, kept }));
        self.conflicts = 0;
        self.counts.commits += 1;
    }

    /// The commit conflicted.
    pub(crate) fn conflicted(&mut self) {
        self.conflicts += 1;
        self.counts.conflicts += 1;
    }

    /// The transaction that was taken failed, or cannot be: SQLite's cache is not to be trusted.
    pub(crate) fn fail(&mut self) {
        self.work = Work::Failed;
        self.seen = None;
    }
}

/// A transaction on its way, and what to do once it is committed.
#[derive(Debug)]
pub(crate) struct Ready {
    transaction: Transaction,
    base: Revision,
    counter: Option<u32>,
    page_count: PageCount,
    kept: Option<BTreeMap<PageNo, Bytes>>,
}

/// What [`Ready`] leaves behind when its transaction is sent.
#[derive(Debug)]
pub(crate) struct Promise {
    base: Revision,
    counter: Option<u32>,
    page_count: PageCount,
    kept: Option<BTreeMap<PageNo, Bytes>>,
}

impl Ready {
    pub(crate) fn split(self) -> (Transaction, Promise) {
        let Ready { transaction, base, counter, page_count, kept } = self;
        (transaction, Promise { base, counter, page_count, kept })
    }
}

fn keep(transaction: &Transaction) -> Option<BTreeMap<PageNo, Bytes>> {
    if transaction.written_count() > MAX_KEPT_PAGES {
        return None;
    }
    transaction.written().collect::<pagestore::Result<_>>().ok()
}
