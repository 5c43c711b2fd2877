//! Write locks: of those who ask for a volume's lock before they write, one writes at a time.
//!
//! Owns the keys `w` and the lease of this process that they are under. Commits do not need the lock;
//! one that was told to holds on to it ([`crate::Transaction::require_lock`]) or steps aside for whoever has
//! it ([`crate::Transaction::respect_lock`]) by a compare of its own, so a holder that lost the lock without
//! noticing cannot commit. No clock decides that: the lease only says when a dead holder's key goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::env::{Env, Task};
use crate::error::{Error, Result};
use crate::meta::keys::StoreKeys;
use crate::meta::records::{Record, WriteLockRecord};
use crate::meta::{Compare, KeyRange, LeaseId, MetaError, MetaStore, Op, OpResponse, Txn};
use crate::snapshot::Snapshot;
use crate::types::{Revision, VolumeName};

/// How long a lock outlives its holder.
const LEASE: Duration = Duration::from_secs(5);
/// How often the lease is kept alive.
const TICK: Duration = Duration::from_millis(1250);
/// Ticks without a lock after which the lease is given back.
const IDLE_TICKS: u32 = 24;
/// Tries to take a lock whose lease ended just then.
const MAX_TRIES: usize = 4;

/// What came of asking for a lock.
#[derive(Debug)]
pub enum TryLock {
    /// It is the caller's.
    Taken(WriteLock),
    /// It is another's.
    Held,
    /// Nobody has it, but the volume changed after the caller's snapshot.
    Overtaken,
}

/// A volume's write lock, until it is released, its process ends, or the meta tier has not heard of the
/// process for some seconds.
#[derive(Debug)]
pub struct WriteLock {
    locks: Arc<Locks>,
    pub(crate) key: Bytes,
    /// The create revision of the key: what commits compare.
    pub(crate) created: Revision,
    pub(crate) released: Arc<AtomicBool>,
}

/// All write locks of an open store.
#[derive(Debug)]
pub(crate) struct Locks {
    meta: Arc<dyn MetaStore>,
    keys: StoreKeys,
    env: Env,
    lease: Mutex<Option<Lease>>,
    /// True when a lock was taken since the last tick.
    used: AtomicBool,
}

/// The lease that all locks of this process are under; dropping it stops keeping it alive.
#[derive(Debug)]
struct Lease {
    id: LeaseId,
    _ticking: Task,
}

impl Locks {
    pub(crate) fn new(meta: Arc<dyn MetaStore>, keys: StoreKeys, env: Env) -> Arc<Locks> {
        Arc::new(Locks { meta, keys, env, lease: Mutex::new(None), used: AtomicBool::new(false) })
    }

    /// Takes the lock of the volume `name` if nobody has it and the volume is as `base` shows it:
    /// without one, not there.
    pub(crate) async fn try_lock(
        self: &Arc<Self>,
        name: &VolumeName,
        base: Option<&Snapshot>,
    ) -> Result<TryLock> {
        let key = self.keys.write_lock(name);
        let record = WriteLockRecord { holder: self.env.random_u64() };
        for _ in 0..MAX_TRIES {
            let lease = self.lease().await?;
            let mut compares = vec![Compare::absent(key.clone())];
            match base {
                None => compares.push(Compare::absent(self.keys.name(name))),
                Some(base) => {
                    let (keys, head) = (&base.core().keys, base.core().keys.head());
                    compares.push(Compare::created(keys.metadata(), base.core().created));
                    compares.push(Compare::unchanged_since(KeyRange::key(head), base.revision()));
                }
            }
            let put = Op::Put { key: key.clone(), value: record.encode(&key), lease };
            let txn = Txn { compares, then: vec![put], or_else: vec![Op::get(key.clone())] };
            match self.meta.txn(txn).await {
                Ok(response) if response.succeeded => {
                    let (locks, created) = (self.clone(), response.revision);
                    let released = Arc::default();
                    return Ok(TryLock::Taken(WriteLock { locks, key, created, released }));
                }
                Ok(response) => {
                    let found = response.responses.first();
                    let is_held =
                        matches!(found, Some(OpResponse::Range(found)) if !found.kvs.is_empty());
                    return Ok(if is_held { TryLock::Held } else { TryLock::Overtaken });
                }
                Err(MetaError::LeaseNotFound) => self.forget(lease).await,
                Err(error) => {
                    // It may have been taken, or still be on its way: with the lease it ends.
                    self.give_up(lease).await;
                    return Err(error.into());
                }
            }
        }
        Err(Error::unavailable("the lease of the write lock ended over and over"))
    }

    /// The lease, granted now if there is none.
    async fn lease(self: &Arc<Self>) -> Result<LeaseId> {
        self.used.store(true, Ordering::Relaxed);
        let mut lease = self.lease.lock().await;
        if let Some(lease) = lease.as_ref() {
            return Ok(lease.id);
        }
        let id = self.meta.lease_grant(LEASE).await?;
        let ticking = self.env.spawn(tick(Arc::downgrade(self), self.env.clone(), id));
        *lease = Some(Lease { id, _ticking: ticking });
        Ok(id)
    }

    /// Lets the next lock be under another lease.
    async fn forget(&self, id: LeaseId) {
        self.lease.lock().await.take_if(|lease| lease.id == id);
    }

    /// Ends the lease, and with it every lock of this process, now or when it runs out.
    async fn give_up(&self, id: LeaseId) {
        self.forget(id).await;
        if let Err(error) = self.meta.lease_revoke(id).await {
            tracing::debug!(%error, "the lease of write locks was left to run out");
        }
    }

    /// Gives back the lock that was taken at `created`.
    async fn give_back(&self, key: Bytes, created: Revision) {
        let txn = Txn {
            compares: vec![Compare::created(key.clone(), created)],
            then: vec![Op::delete(key)],
            or_else: vec![],
        };
        if let Err(error) = self.meta.txn(txn).await {
            tracing::debug!(%error, "a write lock was left to its lease");
            // Others wait for it: it is not to be kept alive.
            let lease = self.lease.lock().await.as_ref().map(|lease| lease.id);
            if let Some(lease) = lease {
                self.give_up(lease).await;
            }
        }
    }

    /// Keeps the lease alive; false when it is over.
    async fn tick(&self, id: LeaseId, idle: &mut u32) -> bool {
        *idle = if self.used.swap(false, Ordering::Relaxed) { 0 } else { *idle + 1 };
        match self.meta.lease_keep_alive(id).await {
            Err(MetaError::LeaseNotFound) => {
                tracing::warn!(
                    "the lease of this process's write locks ended: who held one cannot commit"
                );
                false
            }
            Err(error) => {
                tracing::debug!(%error, "the lease of write locks was not renewed");
                true
            }
            Ok(_) => true,
        }
    }
}

async fn tick(locks: std::sync::Weak<Locks>, env: Env, id: LeaseId) {
    let mut idle = 0;
    loop {
        env.sleep(TICK).await;
        let Some(locks) = locks.upgrade() else { return };
        if !locks.tick(id, &mut idle).await {
            locks.forget(id).await;
            return;
        }
        if idle > IDLE_TICKS && Arc::strong_count(&locks) == IDLE_HANDLES {
            locks.give_up(id).await;
            return;
        }
    }
}

/// Who refers to the locks of a store when none is held: the store, and its ticking task just now.
const IDLE_HANDLES: usize = 2;

impl WriteLock {
    /// Gives the lock back, for the next one to take.
    pub async fn release(self) {
        if let Some(giving_back) = self.give_back() {
            giving_back.await;
        }
    }

    /// The key of the lock, and its create revision.
    #[doc(hidden)]
    #[must_use]
    pub fn key(&self) -> (&Bytes, Revision) {
        (&self.key, self.created)
    }

    /// False once it was given back, by a commit for instance.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.released.load(Ordering::Relaxed)
    }

    /// Deletes its key, unless that was done; does nothing before it is polled.
    fn give_back(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let released = self.released.swap(true, Ordering::Relaxed);
        let (locks, key, created) = (self.locks.clone(), self.key.clone(), self.created);
        (!released).then_some(async move { locks.give_back(key, created).await })
    }
}

impl Drop for WriteLock {
    /// One that was not released is, if there still is a runtime to do it on.
    fn drop(&mut self) {
        // A runtime that is shutting down drops the task at once: there is no other lock in it to drop.
        if let Some(giving_back) = self.give_back() {
            self.locks.env.spawn_if_running(giving_back);
        }
    }
}
