//! A transaction, with what the model has to know of it.

use bytes::Bytes;
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::{Error, PageCount, PageNo, Revision, Transaction, Volume, VolumeId, WriteLock};

use crate::model::{LockUse, Part, digest};
use crate::process::{Process, ROOT};

/// A transaction, with what the model has to know of it.
pub(crate) struct Tracked {
    pub(super) transaction: Transaction,
    volume: VolumeId,
    pub(super) part: Part,
    pub(super) last: u64,
    lowest: u64,
    pub(super) wrote: bool,
}

impl Tracked {
    pub(super) fn new(
        process: &Process,
        volume: &Volume,
        transaction: Transaction,
        count: u64,
    ) -> Tracked {
        let base = transaction.revision().0;
        let part = Part { base, base_count: count, ..Part::default() };
        // Looked at, so that the model can hold it against what it should be.
        let right = process.site.model().page_count(volume.id(), base);
        if count != right {
            let what = format!("{} at {base} has {right} pages, not {count}", volume.id());
            process.site.model().violate(what);
        }
        Tracked { transaction, volume: volume.id(), part, last: count, lowest: count, wrote: false }
    }

    pub(crate) async fn read(
        &mut self,
        process: &Process,
        page: u64,
        tolerated: Option<u64>,
    ) -> Result<(), Error> {
        if page >= self.last {
            return Ok(());
        }
        let own = match self.part.writes.get(&page) {
            Some(digest) => Some(*digest),
            None => (page >= self.lowest).then_some(0),
        };
        let content = match tolerated {
            None => self.transaction.read(PageNo(page)).await?,
            Some(to) => self.transaction.read_tolerating(PageNo(page), Revision(to)).await?,
        };
        match own {
            Some(own) if own != digest(&content) => {
                process.site.model().violate(format!("own page {page} reads as another"));
            }
            Some(_) => {}
            None => {
                process.site.model().check_read(self.volume, self.part.base, page, &content);
                let to = tolerated.unwrap_or(0);
                // Read as of the base is read as of the base; of two tolerant reads the later counts.
                let old = self.part.reads.get(&page).copied();
                let to = if old == Some(0) || to == 0 { 0 } else { to.max(old.unwrap_or(0)) };
                self.part.reads.insert(page, to);
            }
        }
        Ok(())
    }

    fn resize(&mut self, count: u64) {
        if count != self.last {
            self.lowest = self.lowest.min(count);
            self.last = count;
            self.part.last_count = Some(count);
            self.part.lowest = (self.lowest < self.part.base_count).then_some(self.lowest);
        }
    }

    pub(crate) fn write(&mut self, page: u64, content: Bytes) -> Result<(), Error> {
        let digest = digest(&content);
        self.transaction.write(PageNo(page), content)?;
        self.part.writes.insert(page, digest);
        self.wrote = true;
        if page >= self.last {
            self.resize(page + 1);
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, count: u64) {
        self.transaction.truncate(PageCount(count));
        self.part.asks_count = true;
        self.part.writes.split_off(&count);
        self.wrote = true;
        self.resize(count);
    }

    pub(super) fn require_lock(&mut self, lock: &WriteLock, release: bool) {
        self.transaction.require_lock(lock, release);
        let (key, created) = lock.key();
        self.part.lock = LockUse::Held(key.clone(), created.0);
    }

    pub(super) fn respect_lock(&mut self, volume: &Volume) {
        self.transaction.respect_lock();
        self.part.lock = LockUse::Respected(StoreKeys::new(ROOT).write_lock(volume.name()));
    }

    pub(super) fn ask_count(&mut self, process: &Process) {
        let count = self.transaction.page_count().0;
        self.part.asks_count = true;
        if count != self.last {
            process.site.model().violate(format!("own page count {count} is not {}", self.last));
        }
    }
}
