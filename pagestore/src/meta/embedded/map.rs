//! The tree and its memory map: opening, growing, opening anew after a failed write.
//!
//! Owns the only [`Tree`] of the store in this process. Invariants: the map is changed only while no
//! transaction of this process is open (the gate); a read transaction lives no longer than one call, for
//! while one is open the tree cannot reuse the pages it sees, and grows; the tree is in its default,
//! durable mode: when a commit returns, it is on disk.

use std::path::{Path, PathBuf};
use std::sync::RwLock;

use heed::RwTxn;

use super::fault::{Fault, Step, final_answer, unpoisoned};
use super::metrics::Meter;
use super::tree::Tree;
use super::view::{Tables, View};
use crate::env::Env;
use crate::meta::MetaResult;

/// The first map. Address space, not memory and not disk.
pub(super) const FIRST_MAP_BYTES: usize = 256 << 20;
/// The largest map: beyond what one machine's meta tier can sensibly hold.
const LARGEST_MAP_BYTES: usize = 1 << 44;
/// Tries of one call that another process's growth, or a full reader table, can use up.
const TRIES: usize = 64;
/// Maps are multiples of this.
const GRAIN_BYTES: usize = 1 << 20;

/// The tree of one store in this process.
#[derive(Debug)]
pub(super) struct Map {
    dir: PathBuf,
    env: Env,
    pub(super) meter: Meter,
    /// Held for reading by each transaction, for writing by whoever changes the map. `None` only after
    /// the tree could not be opened anew.
    gate: RwLock<Option<Tree>>,
}

/// What a write did.
#[derive(Debug)]
pub(super) enum Outcome<T> {
    /// Something changed: commit it.
    Changed(T),
    /// Nothing did.
    Unchanged(T),
}

/// Bytes of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Of the file, free pages included.
    pub(super) file: u64,
    /// In pages that hold something.
    pub(super) used: u64,
}

impl Map {
    /// Opens or makes the tree in `dir`. The caller has the turn.
    pub(super) fn open(dir: &Path, first_map_bytes: usize, env: &Env) -> MetaResult<Map> {
        let tree = Tree::open(dir, first_map_bytes, Some(env.random_u64()))?;
        let gate = RwLock::new(Some(tree));
        Ok(Map { dir: dir.to_owned(), env: env.clone(), meter: Meter::default(), gate })
    }

    /// Runs `f` on the newest committed state. `f` must not call the map again.
    pub(super) fn read<T>(&self, mut f: impl FnMut(&View<'_>) -> Step<T>) -> MetaResult<T> {
        for _ in 0..TRIES {
            let step = self.with(|tree| {
                let txn = tree.env.read_txn()?;
                f(&View::new(tree.tables, &txn))
            });
            match step {
                Err(fault @ (Fault::MapResized | Fault::ReadersFull | Fault::Poisoned)) => {
                    self.cure(&fault)?;
                }
                step => return final_answer(step),
            }
        }
        Err(Fault::MapResized.into_meta())
    }

    /// Runs `f` in a write transaction and commits it. The caller has the turn. `f` may run several
    /// times, each time on the committed state.
    pub(super) fn write<T>(
        &self,
        mut f: impl FnMut(Tables, &mut RwTxn<'_>) -> Step<Outcome<T>>,
    ) -> MetaResult<T> {
        for _ in 0..TRIES {
            let step = self.with(|tree| {
                let mut txn = tree.env.write_txn()?;
                match f(tree.tables, &mut txn)? {
                    Outcome::Unchanged(done) => Ok(done),
                    Outcome::Changed(done) => {
                        let begun = self.env.now();
                        txn.commit().map_err(|error| tree.failed_commit(error))?;
                        self.meter.count_commit(begun, self.env.now());
                        Ok(done)
                    }
                }
            });
            match step {
                Err(
                    fault @ (Fault::MapFull
                    | Fault::MapResized
                    | Fault::ReadersFull
                    | Fault::Poisoned),
                ) => self.cure(&fault)?,
                step => return final_answer(step),
            }
        }
        Err(Fault::MapFull.into_meta())
    }

    /// The number of the last commit of any process; next to free. It may be a little ahead of what a
    /// read sees: a commit is numbered on disk first and shown to readers then. Whoever is killed in
    /// between leaves the second to the next writer.
    pub(super) fn last_commit(&self) -> usize {
        self.with(|tree| Ok(tree.env.info().last_txn_id)).unwrap_or(0)
    }

    /// Gives back reader slots of processes that died.
    pub(super) fn clear_stale_readers(&self) {
        if let Err(fault) = self.with(|tree| Ok(tree.env.clear_stale_readers()?)) {
            tracing::warn!(?fault, "embedded store: reader table cannot be cleared");
        }
    }

    pub(super) fn sizes(&self) -> MetaResult<Sizes> {
        final_answer(self.with(|tree| {
            let txn = tree.env.read_txn()?;
            let file = tree.env.real_disk_size()?;
            let tables = tree.tables;
            let mut used = 0;
            for table in [tables.cur, tables.log, tables.sys, tables.lease, tables.held] {
                let stat = table.stat(&txn)?;
                let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
                used += pages as u64 * u64::from(stat.page_size);
            }
            Ok(Sizes { file, used })
        }))
    }

    fn with<T>(&self, f: impl FnOnce(&Tree) -> Step<T>) -> Step<T> {
        match &*unpoisoned(self.gate.read()) {
            Some(tree) => f(tree),
            None => Err(Fault::Poisoned),
        }
    }

    /// Removes the cause of `fault`, so that the call can be tried again.
    fn cure(&self, fault: &Fault) -> MetaResult<()> {
        if matches!(fault, Fault::ReadersFull) {
            self.clear_stale_readers();
            std::thread::yield_now();
            return Ok(());
        }
        let mut gate = unpoisoned(self.gate.write());
        let Some(tree) = gate.as_mut() else {
            *gate = Some(Tree::open(&self.dir, FIRST_MAP_BYTES, None)?);
            return Ok(());
        };
        let mapped = tree.env.info().map_size;
        let needed = match fault {
            Fault::Poisoned => {
                // Drops the old one first: a tree can be open only once in a process.
                *gate = None;
                *gate = Some(Tree::open(&self.dir, mapped, None)?);
                return Ok(());
            }
            Fault::MapFull => mapped.saturating_mul(2),
            _ => tree.file_bytes()?.saturating_mul(2),
        };
        let wanted = needed.max(mapped).next_multiple_of(GRAIN_BYTES);
        if wanted > LARGEST_MAP_BYTES {
            return Err(Fault::MapFull.into_meta());
        }
        // SAFETY: a map may be changed only while no transaction of this process is open on it. Every
        // transaction lives inside `with`, which holds the gate for reading; we hold it for writing.
        unsafe { tree.env.resize(wanted) }.map_err(|e| Fault::from(e).into_meta())
    }
}
