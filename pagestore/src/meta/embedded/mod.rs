//! The meta tier in a directory: etcd's semantics on an LMDB tree, for one machine.
//!
//! Owns the directory: the tree (`data.mdb`, `lock.mdb`), two lock files and a notify file. Any number of
//! processes may have it open at once, any number of times each; it must lie on a local file system.
//!
//! How a transaction goes: it is checked ([`check`]), waits in the queue of its process ([`queue`]) until
//! the process has its turn ([`turnstile`]), is applied with all others that wait ([`writer`], [`batch`],
//! [`apply`]) and answered when one sync has made them durable. Reads ([`view`]) look at the newest
//! committed state on the caller's own thread. Watches ([`watch`]) read the log of changes; commits of
//! other processes are noticed ([`notice`]). What the tables hold is in [`format`].
//!
//! Invariants: only who has the turn writes; what was answered is on disk; a read transaction of the tree
//! lives no longer than a call.

mod apply;
mod batch;
mod check;
mod compact;
mod fault;
mod format;
mod lease;
mod map;
mod metrics;
mod notice;
mod queue;
mod shared;
mod tree;
mod turnstile;
mod view;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::env::Env;
use crate::meta::{
    KeyRange, LeaseId, MetaError, MetaResult, MetaStatus, MetaStore, RangeRequest, RangeResponse,
    Txn, TxnResponse, WatchStream,
};
use crate::types::Revision;

pub use format::read_and_write;
pub use metrics::EmbeddedMetrics;
use queue::{Done, Job};
use shared::Core;

/// How long a call waits for its turn and its sync.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// What a request without keys and values counts in the queue.
const SMALL_JOB_BYTES: usize = 64;
/// etcd's longest lease.
const MAX_TTL_S: u64 = 9_000_000_000;

/// A store in a directory. All handles of one directory in a process are one store; when the last of
/// them and of its watches is dropped, it is closed.
#[derive(Debug)]
pub struct EmbeddedStore {
    core: Arc<Core>,
}

impl EmbeddedStore {
    /// Opens the store in the directory `dir`, making what is missing. Blocks: for a turn of the lock
    /// between processes, and a few syncs when it is new.
    pub fn open(dir: &Path, env: &Env) -> MetaResult<Arc<EmbeddedStore>> {
        EmbeddedStore::open_with_map(dir, env, map::FIRST_MAP_BYTES)
    }

    fn open_with_map(dir: &Path, env: &Env, map_bytes: usize) -> MetaResult<Arc<EmbeddedStore>> {
        let core = shared::open(dir, env, map_bytes)?;
        Ok(Arc::new(EmbeddedStore { core }))
    }

    /// What this process did since it opened the store.
    #[must_use]
    pub fn metrics(&self) -> EmbeddedMetrics {
        self.core.shared.map.meter.read()
    }

    async fn run(&self, job: Job, bytes: usize) -> MetaResult<Done> {
        let shared = &self.core.shared;
        shared.check_process()?;
        let limit = shared.env.now() + CALL_LIMIT;
        let late = |maybe_applied| MetaError::Unavailable {
            message: format!("embedded store: no answer within {} s", CALL_LIMIT.as_secs()),
            maybe_applied,
        };
        let pushed = shared.env.within(CALL_LIMIT, shared.queue.push(job, bytes)).await;
        let mut ticket = pushed.ok_or_else(|| late(false))??;
        let left = limit.saturating_duration_since(shared.env.now());
        match shared.env.within(left, &mut ticket.answer).await {
            Some(Ok(answer)) => answer,
            Some(Err(_)) => Err(fault::unknown("embedded store: its writer has stopped")),
            None if shared.queue.give_up(&ticket) => Err(late(false)),
            None => Err(late(true)),
        }
    }
}

#[async_trait]
impl MetaStore for EmbeddedStore {
    async fn range(&self, request: RangeRequest) -> MetaResult<RangeResponse> {
        self.core.shared.check_process()?;
        check::check_range(&request)?;
        self.core.shared.map.read(|view| view.range(&request))
    }

    async fn txn(&self, txn: Txn) -> MetaResult<TxnResponse> {
        let checked = check::check_txn(&txn)?;
        if checked.read_only {
            self.core.shared.check_process()?;
            return self.core.shared.map.read(|view| apply::run_read_only(view, &txn));
        }
        match self.run(Job::Txn(txn), checked.bytes).await? {
            Done::Txn(response) => Ok(response),
            other => unreachable!("BUG: a transaction is answered with {other:?}"),
        }
    }

    async fn watch(&self, keys: KeyRange, from: Revision) -> MetaResult<WatchStream> {
        self.core.shared.check_process()?;
        check::check_keys(&keys)?;
        watch::watch(&self.core, keys, from)
    }

    async fn lease_grant(&self, ttl: Duration) -> MetaResult<LeaseId> {
        let ttl_s = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0)).max(1);
        if ttl_s > MAX_TTL_S {
            return Err(MetaError::Refused(format!(
                "too large lease TTL: {ttl_s} s, at most {MAX_TTL_S}"
            )));
        }
        match self.run(Job::Grant(ttl_s), SMALL_JOB_BYTES).await? {
            Done::Granted(lease) => Ok(lease),
            other => unreachable!("BUG: a grant is answered with {other:?}"),
        }
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> MetaResult<Duration> {
        match self.run(Job::KeepAlive(lease), SMALL_JOB_BYTES).await? {
            Done::Alive(ttl_s) => Ok(Duration::from_secs(ttl_s)),
            other => unreachable!("BUG: a keep-alive is answered with {other:?}"),
        }
    }

    async fn lease_revoke(&self, lease: LeaseId) -> MetaResult<()> {
        self.run(Job::Revoke(lease), SMALL_JOB_BYTES).await.map(|_| ())
    }

    async fn compact(&self, revision: Revision) -> MetaResult<()> {
        self.run(Job::Compact(revision.0), SMALL_JOB_BYTES).await.map(|_| ())
    }

    async fn status(&self) -> MetaResult<MetaStatus> {
        let shared = &self.core.shared;
        shared.check_process()?;
        let sizes = shared.map.sizes()?;
        shared.map.read(|view| {
            Ok(MetaStatus {
                revision: Revision(view.revision()?),
                cluster_id: view.cluster()?,
                size_bytes: sizes.file,
                used_bytes: sizes.used,
                version: format!("embedded, format {}", format::FORMAT),
            })
        })
    }

    fn owns_history(&self) -> bool {
        true
    }
}
