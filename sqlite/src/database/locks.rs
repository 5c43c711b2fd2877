//! The locks that SQLite asks for, and the write lock of the volume beneath.
//!
//! Invariant: with `writers=queue`, RESERVED and above is held only with the volume's write lock, which every
//! commit requires.

use std::ffi::c_int;

use libsqlite3_sys as ffi;
use pagestore::TryLock;

use super::{Database, MAX_CONFLICTS_IN_A_ROW, Work, lost_view};
use crate::failure::{Failure, Outcome};
use crate::name::Writers;
use crate::runtime::wait;

impl Database {
    /// SQLite asks for a lock: a read transaction begins, or becomes one that writes.
    pub(crate) fn lock(&mut self, level: c_int) -> Outcome<()> {
        if self.level == ffi::SQLITE_LOCK_NONE {
            self.begin_read()?;
            self.level = ffi::SQLITE_LOCK_SHARED;
        }
        if level >= ffi::SQLITE_LOCK_RESERVED && self.level < ffi::SQLITE_LOCK_RESERVED {
            if self.mode.read_only {
                return Err(Failure::new(
                    ffi::SQLITE_READONLY,
                    "the database is open for reading only",
                ));
            }
            self.settle()?;
            if matches!(self.work, Work::Done(_)) {
                return Err(lost_view());
            }
            self.take_write_lock()?;
        }
        self.level = self.level.max(level);
        Ok(())
    }

    /// Takes the volume's write lock where it is wanted. Never waits: the snapshot would grow old
    /// meanwhile, and SQLite's busy handler waits better.
    fn take_write_lock(&mut self) -> Outcome<()> {
        let is_wanted =
            self.target.writers == Writers::Queue || self.conflicts >= MAX_CONFLICTS_IN_A_ROW;
        if !is_wanted || self.write_lock.is_some() {
            return Ok(());
        }
        let store = &self.store.store;
        let tried = wait(store.try_lock(&self.target.volume, self.base.as_ref()));
        match tried.map_err(Failure::io(ffi::SQLITE_IOERR_LOCK))? {
            TryLock::Taken(lock) => {
                self.write_lock = Some(lock);
                Ok(())
            }
            TryLock::Held => Err(Failure::new(ffi::SQLITE_BUSY, "another connection is writing")),
            TryLock::Overtaken => {
                self.must_be_fresh = true;
                let message = "another connection has written since this transaction began to read";
                Err(Failure::new(ffi::SQLITE_BUSY_SNAPSHOT, message))
            }
        }
    }

    /// Sees to it that a lock which a commit gave back is there for what comes after it.
    pub(super) fn keep_write_lock(&mut self) -> Outcome<()> {
        if self.write_lock.as_ref().is_some_and(|lock| !lock.is_held()) {
            // SQLite did not let go after the commit, so it is EXCLUSIVE, though nobody has told this file.
            self.keeps_lock = true;
            self.write_lock = None;
        }
        self.take_write_lock()
    }

    fn release_write_lock(&mut self) {
        if let Some(lock) = self.write_lock.take()
            && lock.is_held()
        {
            wait(lock.release());
        }
    }

    /// True when somebody, of this process or another, is writing.
    pub(crate) fn is_reserved(&self) -> Outcome<bool> {
        if self.level >= ffi::SQLITE_LOCK_RESERVED {
            return Ok(true);
        }
        wait(self.store.store.is_locked(&self.target.volume))
            .map_err(Failure::io(ffi::SQLITE_IOERR_CHECKRESERVEDLOCK))
    }

    /// SQLite lets a lock go: of what was written and not committed nothing is left.
    pub(crate) fn unlock(&mut self, level: c_int) {
        if level < ffi::SQLITE_LOCK_RESERVED && self.level >= ffi::SQLITE_LOCK_RESERVED {
            match self.work {
                // Under locking_mode=EXCLUSIVE nothing is let go after a commit.
                Work::Done(_) => self.keeps_lock = false,
                Work::Idle => {}
                // What SQLite keeps of it in its cache is not to be trusted.
                Work::Open(_) | Work::Prepared(..) | Work::Failed => {
                    (self.work, self.seen) = (Work::Idle, None);
                }
            }
            self.synced = false;
            self.release_write_lock();
        }
        if level == ffi::SQLITE_LOCK_NONE {
            self.work = Work::Idle;
            self.base = None;
        }
        self.level = self.level.min(level);
    }
}
