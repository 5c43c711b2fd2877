//! Writing: what SQLite writes waits in a transaction for its SYNC.

use bytes::Bytes;
use libsqlite3_sys as ffi;
use pagestore::{PageCount, PageNo, PageSize, VolumeOptions};

use super::{Change, Database, Seen, Work};
use crate::failure::{Failure, Outcome};
use crate::header;
use crate::runtime::wait;

impl Database {
    /// SQLite writes a page.
    pub(crate) fn write(&mut self, offset: u64, content: &[u8]) -> Outcome<()> {
        self.settle()?;
        if matches!(self.work, Work::Failed) {
            return Ok(());
        }
        self.make_volume(content.len())?;
        let size = self.page_size().unwrap_or_default();
        let says = match offset {
            0 => header::page_size(content).unwrap_or(size),
            _ => size,
        };
        if content.len() != size || says != size || !offset.is_multiple_of(size as u64) {
            let message = format!(
                "the page size of a volume cannot change: it has pages of {size} bytes; copy the database into a volume of its own (vacuum into)",
            );
            return Err(Failure::new(ffi::SQLITE_IOERR_WRITE, message));
        }
        let page = PageNo(offset / size as u64);
        let mut content = content.to_vec();
        let first = match page {
            PageNo(0) => {
                let found = (header::counter(&content), header::page_count(&content));
                let stored = self.stored_first_page()?;
                header::hide(&mut content, stored.as_deref());
                Some(found)
            }
            _ => None,
        };
        if let Some((counter, _)) = first {
            self.written_counter = counter;
        }
        let change = self.change()?;
        if let Some((counter, page_count)) = first {
            (change.counter, change.page_count) = (Some(counter), page_count);
        }
        change.transaction.write(page, content).map_err(Failure::io(ffi::SQLITE_IOERR_WRITE))
    }

    /// SQLite cuts the file off, or makes it longer.
    pub(crate) fn truncate(&mut self, size: u64) -> Outcome<()> {
        if matches!(self.work, Work::Failed | Work::Done(_)) {
            // After a commit the page count went along with it.
            return Ok(());
        }
        let Some(page_size) = self.page_size() else { return Ok(()) };
        let count = PageCount(size.div_ceil(page_size as u64));
        if let Work::Idle = self.work
            && self.base.as_ref().is_some_and(|base| base.page_count() == count)
        {
            return Ok(());
        }
        self.change()?.transaction.truncate(count);
        Ok(())
    }

    fn stored_first_page(&self) -> Outcome<Option<Bytes>> {
        match &self.base {
            Some(base) if base.page_count() > PageCount(0) => {
                wait(base.read(PageNo(0))).map(Some).map_err(Failure::io(ffi::SQLITE_IOERR_READ))
            }
            _ => Ok(None),
        }
    }

    /// The transaction under way, begun now if there is none.
    fn change(&mut self) -> Outcome<&mut Change> {
        if matches!(self.work, Work::Prepared(..)) {
            // Written to after all: it is being rolled back.
            self.work = Work::Failed;
        }
        if matches!(self.work, Work::Idle) {
            self.keep_write_lock()?;
            let (Some(base), Some(volume)) = (&self.base, &self.volume) else {
                return Err(Failure::new(ffi::SQLITE_MISUSE, "a write without a lock"));
            };
            let transaction = volume.begin_on(base.clone());
            self.work =
                Work::Open(Box::new(Change { transaction, counter: None, page_count: None }));
        }
        match &mut self.work {
            Work::Open(change) => Ok(change),
            _ => {
                Err(Failure::new(ffi::SQLITE_BUSY_SNAPSHOT, "the transaction is being rolled back"))
            }
        }
    }

    /// Makes the volume with the page size of the first write.
    fn make_volume(&mut self, page_size: usize) -> Outcome<()> {
        if self.volume.is_some() {
            return Ok(());
        }
        let failed = Failure::io(ffi::SQLITE_IOERR_WRITE);
        let page_size = PageSize::new(page_size as u64)
            .map_err(|error| Failure::new(ffi::SQLITE_IOERR_WRITE, error.to_string()))?;
        let options = VolumeOptions { page_size, ..VolumeOptions::default() };
        let made = wait(self.store.store.open_or_create_volume(&self.target.volume, options));
        let volume = made.map_err(&failed)?;
        let base = wait(volume.snapshot()).map_err(&failed)?;
        let empty = base.page_count() == PageCount(0);
        self.seen = Some(Seen { revision: base.revision(), own: None });
        (self.volume, self.base) = (Some(volume), Some(base));
        if empty {
            return Ok(());
        }
        self.fail();
        Err(Failure::new(
            ffi::SQLITE_BUSY_SNAPSHOT,
            "another connection made the database meanwhile; run the transaction again",
        ))
    }
}
