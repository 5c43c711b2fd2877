//! Reading: bytes of the file as SQLite sees it.

use bytes::Bytes;
use libsqlite3_sys as ffi;
use pagestore::{PageNo, Snapshot};

use super::{Database, Work, lost_view};
use crate::failure::{Failure, Outcome};
use crate::header;
use crate::name::Writers;
use crate::runtime::wait;

impl Database {
    /// Bytes of the file, as SQLite sees it: shorter than asked for at its end.
    pub(crate) fn read(&mut self, mut offset: u64, mut to: &mut [u8]) -> Outcome<usize> {
        self.settle()?;
        let Some(page_size) = self.page_size() else { return Ok(0) };
        let (mut read, size) = (0, page_size as u64);
        while !to.is_empty() {
            let Some(content) = self.read_page(PageNo(offset / size))? else { break };
            let within = usize::try_from(offset % size).unwrap_or(0);
            let count = to.len().min(page_size - within);
            let (now, later) = to.split_at_mut(count);
            let from = content.get(within..within + count);
            now.copy_from_slice(from.expect("BUG: a page is as long as the volume's pages"));
            (to, read, offset) = (later, read + count, offset + count as u64);
        }
        Ok(read)
    }

    /// `None` beyond the end.
    fn read_page(&mut self, page: PageNo) -> Outcome<Option<Bytes>> {
        let failed = Failure::io(ffi::SQLITE_IOERR_READ);
        let counter = self.counter;
        let (content, counter) = match &mut self.work {
            Work::Open(change) | Work::Prepared(change, _) => {
                if !change.transaction.peek_page_count().contains(page) {
                    return Ok(None);
                }
                let content = wait(change.transaction.peek(page)).map_err(&failed)?;
                (content, change.counter.unwrap_or(counter))
            }
            Work::Done(done) if done.page_count.contains(page) => {
                let Some(kept) = &done.kept else { return Err(lost_view()) };
                match (kept.get(&page), &self.base) {
                    (Some(content), _) => (content.clone(), counter),
                    (None, Some(base)) => (self.counts.fetch(base, page)?, counter),
                    (None, None) => return Ok(None),
                }
            }
            Work::Done(_) => return Ok(None),
            Work::Idle | Work::Failed => {
                let stale = match &self.base {
                    Some(_) => None,
                    None => self.stale()?,
                };
                let Some(base) = self.base.as_ref().or(stale.as_ref()) else { return Ok(None) };
                if !base.page_count().contains(page) {
                    return Ok(None);
                }
                (self.counts.fetch(base, page)?, counter)
            }
        };
        if self.target.writers == Writers::Optimistic && !self.mode.read_only {
            self.reads.insert(page.0);
        }
        if page != PageNo(0) {
            return Ok(Some(content));
        }
        let mut shown = content.to_vec();
        header::show(&mut shown, counter);
        Ok(Some(shown.into()))
    }

    /// For what SQLite looks at before it takes a lock: the header, once.
    fn stale(&self) -> Outcome<Option<Snapshot>> {
        match (&self.past, &self.volume) {
            (Some(past), _) => Ok(Some(past.clone())),
            (None, Some(volume)) => {
                wait(volume.snapshot_stale()).map(Some).map_err(Failure::io(ffi::SQLITE_IOERR_READ))
            }
            (None, None) => Ok(None),
        }
    }

    pub(super) fn page_size(&self) -> Option<usize> {
        self.volume.as_ref().map(|volume| volume.page_size().bytes())
    }

    /// The file's length in bytes.
    pub(crate) fn size(&mut self) -> Outcome<u64> {
        let count = match &self.work {
            Work::Open(change) | Work::Prepared(change, _) => change.transaction.peek_page_count(),
            Work::Done(done) => done.page_count,
            Work::Idle | Work::Failed => match &self.base {
                Some(base) => base.page_count(),
                None => self.stale()?.map(|stale| stale.page_count()).unwrap_or_default(),
            },
        };
        Ok(count.0.saturating_mul(self.page_size().unwrap_or(0) as u64))
    }
}
