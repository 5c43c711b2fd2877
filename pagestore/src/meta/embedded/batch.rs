//! Requests applied together: one write transaction of the tree, one sync, and for each request its own
//! revision and its own answer.
//!
//! Invariant: a request that is refused has changed nothing, and one that breaks midway takes the whole
//! attempt with it (the caller runs the others again without it).

use heed::RwTxn;

use super::apply::{Changes, check_leases, decide};
use super::fault::{Fault, Step};
use super::format::{SYS_REVISION, encode_number};
use super::queue::{Done, Job};
use super::view::{Tables, View};
use crate::env::Env;
use crate::meta::{KeyRange, MetaError, MetaResult, Txn};

/// One attempt at a batch.
pub(super) struct Batch<'a, 'p> {
    pub(super) tables: Tables,
    pub(super) txn: &'a mut RwTxn<'p>,
    pub(super) env: &'a Env,
    /// The boot clock.
    pub(super) now_ms: u64,
    /// The newest revision so far.
    pub(super) newest: u64,
    /// Something was written, if only a lease's deadline.
    pub(super) dirty: bool,
}

impl<'a, 'p> Batch<'a, 'p> {
    pub(super) fn begin(tables: Tables, txn: &'a mut RwTxn<'p>, env: &'a Env) -> Step<Self> {
        let newest = View::new(tables, txn).revision()?;
        Ok(Batch { tables, txn, env, now_ms: env.boot_ms(), newest, dirty: false })
    }

    pub(super) fn view(&self) -> View<'_> {
        View::new(self.tables, self.txn)
    }

    /// Does `job`. The inner error is a refusal that changed nothing.
    pub(super) fn run(&mut self, job: &Job) -> Step<MetaResult<Done>> {
        match job {
            Job::Txn(txn) => self.run_txn(txn),
            Job::Grant(ttl_s) => self.grant(*ttl_s).map(Ok),
            Job::KeepAlive(lease) => self.keep_alive(*lease),
            Job::Revoke(lease) => self.revoke(*lease),
            Job::Compact(revision) => self.schedule_compaction(*revision),
        }
    }

    fn run_txn(&mut self, txn: &Txn) -> Step<MetaResult<Done>> {
        let view = self.view();
        let path = decide(&view, txn)?;
        match check_leases(&view, txn, &path) {
            Err(Fault::Meta(MetaError::LeaseNotFound)) => return Ok(Err(MetaError::LeaseNotFound)),
            checked => checked?,
        }
        let mut changes = Changes::begin(self.tables, self.txn, self.newest);
        let response = changes.run(txn, &path)?;
        let revision = changes.revision();
        self.advance(revision)?;
        Ok(Ok(Done::Txn(response)))
    }

    /// Deletes keys, all in one revision.
    pub(super) fn delete_all<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Step<()> {
        let mut changes = Changes::begin(self.tables, self.txn, self.newest);
        for key in keys {
            changes.delete(&KeyRange::key(key.to_vec()))?;
        }
        let revision = changes.revision();
        self.advance(revision)
    }

    fn advance(&mut self, revision: u64) -> Step<()> {
        if revision != self.newest {
            self.newest = revision;
            self.set_number(SYS_REVISION, revision)?;
        }
        Ok(())
    }

    pub(super) fn set_number(&mut self, name: &str, number: u64) -> Step<()> {
        self.dirty = true;
        Ok(self.tables.sys.put(self.txn, name.as_bytes(), &encode_number(name, number))?)
    }
}
