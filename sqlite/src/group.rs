//! Transactions over several attached databases: all of them in one commit of the store, or none.
//!
//! SQLite writes a super-journal whose deletion is the commit point, unless journal mode, `synchronous`
//! or an in-memory main database make it skip that; then the last SYNC among the databases that hold
//! EXCLUSIVE is. Invariant: a database that is prepared is committed together with all prepared ones of
//! its connection, or not at all.

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use libsqlite3_sys as ffi;

use crate::database::{Awaited, Completed, Database, Promise};
use crate::failure::{Failure, Outcome};
use crate::journal::Content;
use crate::runtime::wait;

/// An open database. A connection's calls on it never overlap, so its lock is hardly ever waited for.
#[derive(Debug)]
pub(crate) struct OpenDatabase {
    /// The connection (its address), by which files that commit together find one another.
    connection: AtomicUsize,
    database: Mutex<Database>,
}

pub(crate) type Handle = Arc<OpenDatabase>;

impl OpenDatabase {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Database> {
        lock(&self.database)
    }

    pub(crate) fn set_connection(&self, connection: usize) {
        self.connection.store(connection, Ordering::Relaxed);
    }
}

/// The connection at the address `connection` has opened `handle`, and with the locking mode that it has set
/// for all of its databases.
pub(crate) fn join(handle: &Handle, connection: usize) {
    handle.set_connection(connection);
    let keeps_lock = siblings(handle).iter().any(|sibling| sibling.lock().keeps_lock);
    handle.lock().keeps_lock |= keeps_lock;
}

/// `PRAGMA locking_mode` has been run on `handle`. SQLite tells the main database alone of what it sets for all,
/// and without need a lock is kept only until it is let go.
pub(crate) fn keep_lock(handle: &Handle, keep: bool) {
    handle.lock().keeps_lock = keep;
    if keep {
        siblings(handle).iter().for_each(|sibling| sibling.lock().keeps_lock = true);
    }
}

/// Super-journals that have not been deleted, by their names.
static SUPER: OnceLock<Mutex<HashMap<String, SuperJournal>>> = OnceLock::new();
/// All open databases.
static OPEN: OnceLock<Mutex<Vec<Weak<OpenDatabase>>>> = OnceLock::new();

#[derive(Debug, Default)]
struct SuperJournal {
    content: Content,
    members: Vec<Handle>,
    /// True once SQLite rolled back the first of its databases.
    deleted: bool,
}

impl SuperJournal {
    /// A rollback that does not find it takes its transaction for committed: so it is there until the
    /// last database is rolled back, although SQLite deletes it after the first, because it does not
    /// find the others' journals.
    fn is_there(&self) -> bool {
        !self.deleted || self.members.iter().any(|member| member.lock().is_unfinished())
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in between is caught at SQLite's door, and what it left behind ends with the transaction.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn supers() -> MutexGuard<'static, HashMap<String, SuperJournal>> {
    lock(SUPER.get_or_init(Mutex::default))
}

/// Makes `database` known to those it may commit with.
pub(crate) fn register(database: Database) -> Handle {
    let connection = AtomicUsize::new(0);
    let handle = Arc::new(OpenDatabase { connection, database: Mutex::new(database) });
    let mut open = lock(OPEN.get_or_init(Mutex::default));
    open.retain(|handle| handle.strong_count() > 0);
    open.push(Arc::downgrade(&handle));
    handle
}

/// The other databases of the connection of `handle`.
fn siblings(handle: &Handle) -> Vec<Handle> {
    let connection = handle.connection.load(Ordering::Relaxed);
    if connection == 0 {
        return Vec::new();
    }
    let is_sibling = |other: &Handle| {
        !Arc::ptr_eq(other, handle) && other.connection.load(Ordering::Relaxed) == connection
    };
    let open = lock(OPEN.get_or_init(Mutex::default));
    open.iter().filter_map(Weak::upgrade).filter(is_sibling).collect()
}

/// The content of the super-journal `name`; `None` when there is none, and it is not to be made.
pub(crate) fn super_journal(name: &str, create: bool) -> Option<Content> {
    let mut supers = supers();
    if create {
        supers.entry(name.to_owned()).or_default();
    }
    let journal = supers.get(name).filter(|journal| journal.is_there());
    journal.map(|journal| journal.content.clone())
}

/// SQLite says that all of its transaction is written to `handle`: SYNC, with the name of the
/// super-journal if there is one.
pub(crate) fn sync(handle: &Handle, super_name: Option<&str>) -> Outcome<()> {
    if let Some(name) = super_name
        && let Some(journal) = supers().get_mut(name)
    {
        journal.members.push(handle.clone());
        let mut database = handle.lock();
        if database.complete()? == Completed::Something {
            database.prepare(Awaited::SuperJournal);
        }
        return Ok(());
    }
    let completed = handle.lock().complete()?;
    if completed == Completed::RolledBack {
        return Ok(());
    }
    let siblings = siblings(handle);
    let waits = |other: &Handle| {
        let other = other.lock();
        other.level == ffi::SQLITE_LOCK_EXCLUSIVE && !other.synced
    };
    if siblings.iter().any(waits) {
        handle.lock().prepare(Awaited::Siblings);
        return Ok(());
    }
    commit_prepared(handle, siblings, completed == Completed::Something)
}

/// The second phase of a commit: what is still prepared is committed now, because those it waited for had
/// nothing to write. Too late for SQLite to take an error well, but better than none.
pub(crate) fn phase_two(handle: &Handle) -> Outcome<()> {
    if !handle.lock().awaits(Awaited::Siblings) {
        return Ok(());
    }
    let siblings = siblings(handle);
    commit_prepared(handle, siblings, true)
}

fn commit_prepared(handle: &Handle, siblings: Vec<Handle>, own: bool) -> Outcome<()> {
    let prepared = siblings.into_iter().filter(|other| other.lock().awaits(Awaited::Siblings));
    let mut members: Vec<Handle> = prepared.collect();
    if own {
        members.push(handle.clone());
    }
    commit(&members)
}

/// SQLite deletes a super-journal: with `sync` that commits its databases. `None` when there is no such
/// super-journal.
pub(crate) fn delete_super(name: &str, sync: bool) -> Option<Outcome<()>> {
    let members = supers().get(name)?.members.clone();
    let done = if sync { commit(&members) } else { Ok(()) };
    let mut supers = supers();
    if sync && done.is_ok() {
        supers.remove(name);
    } else if let Some(journal) = supers.get_mut(name) {
        journal.deleted |= !sync;
    }
    supers.retain(|_, journal| journal.is_there());
    Some(done)
}

/// True when a super-journal of this name is there.
pub(crate) fn has_super(name: &str) -> bool {
    supers().get(name).is_some_and(SuperJournal::is_there)
}

/// Commits what the members have ready, all of it or nothing.
fn commit(members: &[Handle]) -> Outcome<()> {
    let mut guards: Vec<MutexGuard<'_, Database>> =
        members.iter().map(|member| member.lock()).collect();
    let mut transactions = Vec::with_capacity(guards.len());
    let mut promises: Vec<(usize, Promise)> = Vec::with_capacity(guards.len());
    for (index, guard) in guards.iter_mut().enumerate() {
        if let Some(ready) = guard.take() {
            let (transaction, promise) = ready.split();
            transactions.push(transaction);
            promises.push((index, promise));
        }
    }
    if transactions.is_empty() {
        return Ok(());
    }
    let committed = match transactions.len() {
        1 => wait(async {
            let transaction = transactions.pop().expect("BUG: there is one");
            transaction.commit().await
        }),
        _ => wait(pagestore::commit_all(transactions)),
    };
    match committed {
        Ok(committed) => {
            for (index, promise) in promises {
                if let Some(guard) = guards.get_mut(index) {
                    guard.committed(promise, committed);
                }
            }
            Ok(())
        }
        Err(error) => {
            let is_conflict = error.kind() == pagestore::ErrorKind::Conflict;
            for guard in &mut guards {
                guard.fail();
                if is_conflict {
                    guard.conflicted();
                }
            }
            Err(Failure::of(&error, commit_code(&error)))
        }
    }
}

fn commit_code(error: &pagestore::Error) -> c_int {
    match error.kind() {
        // Volumes of different stores, or too many of them: running it again does not help.
        pagestore::ErrorKind::Invalid => ffi::SQLITE_ERROR,
        _ => ffi::SQLITE_IOERR_FSYNC,
    }
}
