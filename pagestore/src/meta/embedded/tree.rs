//! Opening the tree on disk, and what its failures mean.

use std::fs::File;
use std::path::Path;

use heed::{CommitOrAbort, DatabaseFlags, DatabaseOpener, Env, EnvOpenOptions, WithoutTls};

use super::fault::{Fault, Step, io_error, not_applied, unknown};
use super::format::{FORMAT, SYS_CLUSTER, SYS_FORMAT, SYS_REVISION, decode_number, encode_number};
use super::view::Tables;
use crate::meta::{MetaError, MetaResult};

/// Reads under way at once, over all processes; 64 bytes each in the lock file.
const READERS: u32 = 4096;
/// `cur`, `log`, `sys`, `lease`, `held`, and some for later versions.
const MOST_TABLES: u32 = 8;
/// A disk with less room is full: what failed for want of room may have needed that much.
const FULL_BELOW_BYTES: u64 = 4 << 20;
/// The revision of a store in which nothing was ever put, as in etcd.
const FIRST_REVISION: u64 = 1;

/// An open tree with its tables.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) env: Env<WithoutTls>,
    pub(super) tables: Tables,
}

impl Tree {
    /// Opens the tree in `dir`. If there is none, makes it when given a cluster id for it; the caller
    /// then has the turn.
    pub(super) fn open(dir: &Path, map_bytes: usize, cluster: Option<u64>) -> MetaResult<Tree> {
        // A reader belongs to its transaction and not to its thread: else LMDB has each thread that ever
        // read run a destructor when it ends, which races with the closing of the tree and may touch
        // what is unmapped by then.
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_bytes).max_readers(READERS).max_dbs(MOST_TABLES);
        // SAFETY: the file must not be changed other than by this tree while it is mapped. It lies in
        // the store's own directory, all users of which go through this module; no flag is set that
        // gives up locking or syncing; and a process forked from this one does not use the tree (the
        // store refuses calls from another process than the one that opened it).
        let env = unsafe { options.open(dir) }
            .map_err(|error| opening(dir, Fault::from(error).into_meta()))?;
        let tables = match open_tables(&env).map_err(|e| opening(dir, e.into_meta()))? {
            Some(tables) => tables,
            None => {
                let cluster = cluster.ok_or_else(|| {
                    MetaError::Corrupt(format!("{}: the store's tables are gone", dir.display()))
                })?;
                let made = make_tables(&env, cluster);
                let tables = made.map_err(|e| opening(dir, e.into_meta()))?;
                sync_dir(dir)?;
                tables
            }
        };
        Ok(Tree { env, tables })
    }

    pub(super) fn file_bytes(&self) -> MetaResult<usize> {
        let bytes = self.env.real_disk_size().map_err(|e| Fault::from(e).into_meta())?;
        usize::try_from(bytes).map_err(|_| Fault::MapFull.into_meta())
    }

    /// What a failed commit means. The tree writes the changed pages, syncs them, and then writes and
    /// syncs the one page that makes them visible. Up to the last step nothing was applied, whatever
    /// failed. If the last step fails the tree puts the old page back and refuses all further work of
    /// this process, because what the disk has is not known: then neither is the outcome.
    pub(super) fn failed_commit(&self, error: heed::Error) -> Fault {
        if matches!(self.env.read_txn().map_err(Fault::from), Err(Fault::Poisoned)) {
            return unknown(format!("embedded store: sync of a commit failed: {error}")).into();
        }
        match Fault::from(error) {
            // The tree reports a write cut short by a full disk as a plain I/O error.
            Fault::Meta(MetaError::Unavailable { message, .. }) if self.is_disk_full() => {
                MetaError::DiskFull(message).into()
            }
            Fault::Meta(MetaError::Unavailable { message, .. }) => {
                not_applied(format!("{message} (write or sync of a commit failed)")).into()
            }
            fault => fault,
        }
    }

    fn is_disk_full(&self) -> bool {
        let stat = rustix::fs::statvfs(self.env.path());
        stat.is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) < FULL_BELOW_BYTES)
    }
}

/// Looks at the format before anything else. `None` when there is no store yet.
fn open_tables(env: &Env<WithoutTls>) -> Step<Option<Tables>> {
    let opened = env.open_databases_and_commit(env.read_txn()?, |opener, txn| -> Step<_> {
        let open = |name| opener.open_database(txn, Some(name));
        let Some(sys) = open("sys")? else { return Ok(CommitOrAbort::Abort(())) };
        let format = sys.get(txn, SYS_FORMAT.as_bytes())?;
        let format: u64 = match format {
            Some(value) => decode_number(SYS_FORMAT, value)?,
            None => return Err(MetaError::Corrupt("no format version in table sys".into()).into()),
        };
        if format != FORMAT {
            return Err(MetaError::Refused(format!(
                "the store has format version {format}, this program knows version {FORMAT}"
            ))
            .into());
        }
        match [open("cur")?, open("log")?, open("lease")?, open("held")?] {
            [Some(cur), Some(log), Some(lease), Some(held)] => {
                Ok(CommitOrAbort::Commit([cur, log, sys, lease, held]))
            }
            _ => Err(MetaError::Corrupt("a table is missing".into()).into()),
        }
    })?;
    Ok(opened.commit().map(|[cur, log, sys, lease, held]| Tables { cur, log, sys, lease, held }))
}

/// Makes all tables and what a new store begins with, in one transaction.
fn make_tables(env: &Env<WithoutTls>, cluster: u64) -> Step<Tables> {
    let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| -> Step<_> {
        let mut make = |name, flags| make_table(opener, txn, name, flags);
        let plain = DatabaseFlags::empty();
        let tables = [
            make("cur", plain)?,
            make("log", plain)?,
            make("sys", plain)?,
            make("lease", plain)?,
            make("held", DatabaseFlags::DUP_SORT)?,
        ];
        let [_, _, sys, ..] = &tables;
        for (name, number) in
            [(SYS_FORMAT, FORMAT), (SYS_CLUSTER, cluster), (SYS_REVISION, FIRST_REVISION)]
        {
            sys.put(txn, name.as_bytes(), &encode_number(name, number))?;
        }
        Ok(CommitOrAbort::<_, ()>::Commit(tables))
    })?;
    let [cur, log, sys, lease, held] =
        made.commit().expect("BUG: the tables are made or there is an error");
    Ok(Tables { cur, log, sys, lease, held })
}

fn make_table<'e>(
    opener: &DatabaseOpener<'e, WithoutTls>,
    txn: &mut heed::RwTxn<'e>,
    name: &str,
    flags: DatabaseFlags,
) -> heed::Result<heed::Database<'e, heed::types::Bytes, heed::types::Bytes>> {
    opener.database_options().types().name(name).flags(flags).create(txn)
}

/// The directory entries of a new store must be as durable as what is in the files.
fn sync_dir(dir: &Path) -> MetaResult<()> {
    let above = dir.parent().unwrap_or(dir);
    for dir in [dir, above] {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|e| io_error(&format!("sync of directory {}", dir.display()), &e))?;
    }
    Ok(())
}

/// Says of which store `error` speaks.
fn opening(dir: &Path, error: MetaError) -> MetaError {
    let dir = dir.display();
    match error {
        MetaError::Unavailable { message, maybe_applied } => {
            MetaError::Unavailable { message: format!("{dir}: {message}"), maybe_applied }
        }
        MetaError::NoSpace(message) => MetaError::NoSpace(format!("{dir}: {message}")),
        MetaError::DiskFull(message) => MetaError::DiskFull(format!("{dir}: {message}")),
        MetaError::Refused(message) => MetaError::Refused(format!("{dir}: {message}")),
        MetaError::Corrupt(message) => MetaError::Corrupt(format!("{dir}: {message}")),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thread holds of the tree beyond its reads is given back when the thread ends, perhaps
    /// while the tree is being closed: so it must hold nothing.
    #[test]
    fn a_thread_that_has_read_holds_nothing_of_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path(), 1 << 20, Some(1)).unwrap();
        let before = tree.env.info().number_of_readers;
        let all_read = std::sync::Barrier::new(20);
        let turn = std::sync::Mutex::new(());
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let turn = turn.lock().unwrap();
                    drop(tree.env.read_txn().unwrap());
                    drop(turn);
                    all_read.wait();
                });
            }
        });
        assert_eq!(tree.env.info().number_of_readers, before.max(1));
    }
}
