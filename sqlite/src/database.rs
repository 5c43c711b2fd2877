//! One connection's view of one database: what SQLite takes for an open file.
//!
//! Owns the lock level, the snapshot that a read transaction sees, and the pages written since. Nothing
//! is committed before SQLite says SYNC, and nothing is left of a transaction once its lock is let go.
//!
//! Invariant: what is read between SHARED and NONE is one snapshot with the connection's own writes; the
//! counter in page 1 stands still exactly while nobody else has committed.

mod commit;
mod locks;
mod read;
mod view;
mod write;

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::Arc;

use bytes::Bytes;
use libsqlite3_sys as ffi;
use pagestore::{
    CommitId, Committed, ErrorKind, PageCount, PageNo, Revision, Snapshot, Transaction, Volume,
    WriteLock,
};
use roaring::RoaringTreemap;

use crate::failure::{Failure, Outcome};
use crate::name::Target;
use crate::runtime::{wait, wait_and_tell};
use crate::stores::{self, OpenStore};

pub(crate) use commit::Promise;
use view::lost_view;

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
    /// True if `locking_mode=EXCLUSIVE` is likely: a commit leaves the lock to be let go by SQLite. Being wrong
    /// costs a round trip, or lets another writer in once.
    pub(crate) keeps_lock: bool,
    /// What SQLite is told, and tells by a file control; nothing here depends on it.
    pub(crate) powersafe_overwrite: bool,
    /// The file grows and shrinks by so many bytes, if SQLite was told so.
    pub(crate) chunk_bytes: Option<u64>,
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
            powersafe_overwrite: target.powersafe_overwrite,
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
            chunk_bytes: None,
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
}
