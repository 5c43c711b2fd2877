//! The snapshot that a read transaction sees, and whether SQLite's cache is valid in it.

use libsqlite3_sys as ffi;
use pagestore::{ErrorKind, Revision, Snapshot};

use super::{Database, Seen, Work};
use crate::failure::{Failure, Outcome};
use crate::runtime::wait;

impl Database {
    pub(super) fn begin_read(&mut self) -> Outcome<()> {
        self.base = match self.snapshot() {
            // Deleted, and perhaps made anew.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (self.volume, self.seen) = (None, None);
                self.find_volume()?;
                self.snapshot().map_err(Failure::io(ffi::SQLITE_IOERR_LOCK))?
            }
            Ok(None) => {
                self.find_volume()?;
                self.snapshot().map_err(Failure::io(ffi::SQLITE_IOERR_LOCK))?
            }
            snapshot => snapshot.map_err(Failure::io(ffi::SQLITE_IOERR_LOCK))?,
        };
        self.look_for_changes()
    }

    pub(super) fn snapshot(&self) -> pagestore::Result<Option<Snapshot>> {
        let Some(volume) = &self.volume else { return Ok(None) };
        if let Some(past) = &self.past {
            return Ok(Some(past.clone()));
        }
        if self.target.stale && !self.must_be_fresh {
            // What this connection has seen, and done, it sees again.
            let seen = self.seen.map(|seen| seen.revision).unwrap_or_default();
            return wait(volume.snapshot_since(seen)).map(Some);
        }
        wait(volume.snapshot()).map(Some)
    }

    /// Keeps SQLite's cache valid if nobody else has committed.
    fn look_for_changes(&mut self) -> Outcome<()> {
        let (Some(base), Some(volume)) = (&self.base, &self.volume) else { return Ok(()) };
        let changed = match self.seen {
            Some(seen) => volume
                .changed_by_others(seen.revision, base.revision(), seen.own)
                .map_err(Failure::io(ffi::SQLITE_IOERR_LOCK))?,
            None => true,
        };
        self.must_be_fresh = false;
        if changed && self.counter == 0 {
            // Whoever looks at the bytes of the file sees that they are others after a change.
            self.counter =
                u32::try_from(base.revision().0 & u64::from(u32::MAX)).unwrap_or(1).max(1);
        } else if changed {
            // Neither what SQLite was shown nor what it wrote in vain may look like this.
            self.counter = self.counter.max(self.written_counter).wrapping_add(1);
            self.reads.clear();
        }
        self.seen = Some(Seen { revision: base.revision(), own: None });
        Ok(())
    }

    /// The revision that the transaction under way reads, else the newest that there is.
    pub(crate) fn revision(&self) -> Outcome<Revision> {
        if let Work::Done(done) = &self.work {
            return Ok(done.committed.revision);
        }
        let snapshot = match &self.base {
            Some(base) => Some(base.clone()),
            None => self.snapshot().map_err(Failure::io(ffi::SQLITE_IOERR_READ))?,
        };
        Ok(snapshot.map(|snapshot| snapshot.revision()).unwrap_or_default())
    }

    /// After a commit, before anything is read under the same lock: moves to a snapshot with it.
    pub(super) fn settle(&mut self) -> Outcome<()> {
        let (Work::Done(done), Some(volume)) = (&self.work, &self.volume) else { return Ok(()) };
        let failed = Failure::io(ffi::SQLITE_IOERR_READ);
        let revision = done.committed.revision;
        let newest = wait(volume.snapshot_since(revision)).map_err(&failed)?;
        let (after, own) = match self.seen {
            Some(seen) => (seen.revision, seen.own),
            None => (Revision::ZERO, None),
        };
        if !volume.changed_by_others(after, revision, own).map_err(&failed)? {
            let base = match newest.revision() == revision {
                true => newest,
                false => wait(volume.snapshot_at(revision)).map_err(&failed)?,
            };
            self.seen = Some(Seen { revision, own: None });
            self.base = Some(base);
            self.work = Work::Idle;
        }
        // Else others committed in between: what SQLite has in its cache is of the old snapshot, so that
        // stays, with the commit's pages over it.
        Ok(())
    }
}

pub(super) fn lost_view() -> Failure {
    Failure::new(
        ffi::SQLITE_BUSY_SNAPSHOT,
        "others committed beside this connection's last commit; end the statements that have been reading since before it",
    )
}
