//! One connection's view of one database: what SQLite takes for an open file.
//!
//! Owns the lock level, the snapshot that a read transaction sees, and the pages written since. Nothing
//! is committed before SQLite says SYNC, and nothing is left of a transaction once its lock is let go.
//!
//! Invariant: what is read between SHARED and NONE is one snapshot with the connection's own writes; the
//! counter in page 1 stands still exactly while nobody else has committed.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::Arc;

use bytes::Bytes;
use libsqlite3_sys as ffi;
use pagestore::{
    CommitId, Committed, ErrorKind, PageCount, PageNo, PageSize, Revision, Snapshot, Transaction,
    TryLock, Volume, VolumeOptions, WriteLock,
};
use roaring::RoaringTreemap;

use crate::failure::{Failure, Outcome};
use crate::header;
use crate::name::{Target, Writers};
use crate::runtime::{wait, wait_and_tell};
use crate::stores::{self, OpenStore};

/// Pages of a commit that are kept for statements that read on after it.
const MAX_KEPT_PAGES: usize = 4096;

/// Conflicts in a row after which an optimistic writer takes the queue's lock for its next try.
const MAX_CONFLICTS_IN_A_ROW: u32 = 3;

/// How a database was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) read_only: bool,
    pub(crate) may_create: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Database {
    target: Target,
    mode: Mode,
    store: Arc<OpenStore>,
    /// `None` while nobody has made it.
    volume: Option<Volume>,
    /// What `at=` shows, for as long as the connection lives.
    past: Option<Snapshot>,
    pub(crate) level: c_int,
    /// What the read transaction sees; `None` below SHARED, and of a volume that is not there.
    base: Option<Snapshot>,
    pub(crate) work: Work,
    /// The change counter that SQLite is shown.
    counter: u32,
    /// The counter that SQLite last wrote itself, which it takes for the file's.
    written_counter: u32,
    /// What SQLite's cache was last known to be valid at.
    seen: Option<Seen>,
    /// Pages that SQLite may have in its cache; of `writers=optimistic` only.
    reads: RoaringTreemap,
    /// True once SQLite has said SYNC in this write transaction.
    pub(crate) synced: bool,
    /// Held from RESERVED on: of `writers=queue` always, of `optimistic` after conflicts in a row.
    write_lock: Option<WriteLock>,
    /// True under `locking_mode=EXCLUSIVE`: the lock is not let go with a commit.
    pub(crate) keeps_lock: bool,
    /// Commits in a row that conflicted.
    conflicts: u32,
    pub(crate) counts: Counts,
    /// True when a stale snapshot was too old to write on.
    must_be_fresh: bool,
}

/// What a connection did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) commits: u64,
    pub(crate) conflicts: u64,
    /// Pages that SQLite did not have in its cache.
    pub(crate) reads: u64,
    /// Those of them that were in memory.
    pub(crate) hits: u64,
}

impl Counts {
    fn fetch(&mut self, snapshot: &Snapshot, page: PageNo) -> Outcome<Bytes> {
        let (content, was_there) = wait_and_tell(snapshot.read(page));
        self.reads += 1;
        self.hits += u64::from(was_there);
        content.map_err(Failure::io(ffi::SQLITE_IOERR_READ))
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    revision: Revision,
    /// The connection's own commit after that revision.
    own: Option<CommitId>,
}

/// What a write transaction has come to.
#[derive(Debug)]
pub(crate) enum Work {
    /// Nothing written.
    Idle,
    /// Written to, not committed.
    Open(Box<Change>),
    /// Complete; waits for the other databases of its transaction.
    Prepared(Box<Change>, Awaited),
    /// Committed; what it wrote is not in `base`.
    Done(Box<Done>),
    /// The commit failed: nothing that comes before the unlock counts.
    Failed,
}

/// What a database that is prepared waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The deletion of the super-journal.
    SuperJournal,
    /// The last SYNC among the databases of its connection.
    Siblings,
}

/// What a SYNC means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    /// There is something to commit.
    Something,
    /// Nothing was changed.
    Nothing,
    /// A transaction that failed was rolled back.
    RolledBack,
}

/// A transaction, and what its page 1 says.
#[derive(Debug)]
pub(crate) struct Change {
    transaction: Transaction,
    /// The counter that SQLite wrote to page 1, once it did.
    counter: Option<u32>,
    page_count: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Done {
    committed: Committed,
    page_count: PageCount,
    /// What was written, where it may have to be shown over the old snapshot.
    kept: Option<BTreeMap<PageNo, Bytes>>,
}

impl Database {
    /// Opens the store, and the volume if it is there. `None` when it is not, and is not to be made.
    pub(crate) fn open(target: Target, mode: Mode) -> Outcome<Option<Database>> {
        let cannot = Failure::io(ffi::SQLITE_CANTOPEN);
        let store = stores::open(&target.store, target.compacts && !mode.read_only);
        let store = store.map_err(&cannot)?;
        let mut database = Database {
            mode: Mode { read_only: mode.read_only || target.at.is_some(), ..mode },
            target,
            store,
            volume: None,
            past: None,
            level: ffi::SQLITE_LOCK_NONE,
            base: None,
            work: Work::Idle,
            counter: 0,
            written_counter: 0,
            seen: None,
            reads: RoaringTreemap::new(),
            synced: false,
            write_lock: None,
            keeps_lock: false,
            conflicts: 0,
            counts: Counts::default(),
            must_be_fresh: false,
        };
        database
            .find_volume()
            .map_err(|failure| Failure { code: ffi::SQLITE_CANTOPEN, ..failure })?;
        if database.volume.is_none() && (!mode.may_create || database.mode.read_only) {
            return Ok(None);
        }
        if let (Some(at), Some(volume)) = (database.target.at, &database.volume) {
            database.past = Some(wait(volume.snapshot_at(at)).map_err(&cannot)?);
        }
        Ok(Some(database))
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.mode.read_only
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The volume, if it is there.
    pub(crate) fn volume(&self) -> Option<&Volume> {
        self.volume.as_ref()
    }

    fn find_volume(&mut self) -> Outcome<()> {
        if self.volume.is_none() {
            match wait(self.store.store.open_volume(&self.target.volume)) {
                Ok(volume) => self.volume = Some(volume),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::of(&error, ffi::SQLITE_IOERR_LOCK)),
            }
        }
        Ok(())
    }

    // --- locks -------------------------------------------------------------------------------------

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
                Work::Done(_) | Work::Idle => {}
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

    fn begin_read(&mut self) -> Outcome<()> {
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

    fn snapshot(&self) -> pagestore::Result<Option<Snapshot>> {
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
        if changed {
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

    // --- reading -----------------------------------------------------------------------------------

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

    fn page_size(&self) -> Option<usize> {
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

    // --- writing -----------------------------------------------------------------------------------

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

    /// Sees to it that a lock which a commit gave back is there for what comes after it.
    fn keep_write_lock(&mut self) -> Outcome<()> {
        if self.write_lock.as_ref().is_some_and(|lock| !lock.is_held()) {
            self.write_lock = None;
        }
        self.take_write_lock()
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

    // --- committing --------------------------------------------------------------------------------

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
        if let Some(count) = change.page_count.map(PageCount)
            && count < transaction.peek_page_count()
        {
            transaction.truncate(count);
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

    /// After a commit, before anything is read under the same lock: moves to a snapshot with it.
    fn settle(&mut self) -> Outcome<()> {
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

fn lost_view() -> Failure {
    Failure::new(
        ffi::SQLITE_BUSY_SNAPSHOT,
        "others committed beside this connection's last commit; end the statements that have been reading since before it",
    )
}
