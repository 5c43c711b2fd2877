//! A session: one open of a volume by one process, with a lease and a pin under it.
//!
//! Owns what protects the revisions that its snapshots hold: the pin `ar` (the oldest), holds `ah` on
//! named revisions below it, and `av`, the level list it reads by. Never raises the pin above a held
//! revision, and never hands out a hold before the meta tier protects it.
//!
//! A lease that ends is replaced; a snapshot whose revision was given up meanwhile gets `Expired` from
//! its next read that needs a store, because readers test the oldest readable revision themselves.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::env::{Env, Task};
use crate::error::{Error, Result};
use crate::meta::keys::VolumeKeys;
use crate::meta::records::encode_pin;
use crate::meta::{Compare, LeaseId, MetaError, MetaStore, Op, OpResponse, Txn};
use crate::mirror::{Mirror, VolumeState};
use crate::types::{PointName, Revision, SessionId};

mod held;

use held::Held;
pub(crate) use held::Hold;

/// How long a session outlives its process.
const LEASE: Duration = Duration::from_secs(20);
/// How often the lease is kept alive and the pin raised.
const TICK: Duration = Duration::from_secs(5);
/// Tries to pin while the oldest readable revision moves.
const MAX_TRIES: usize = 16;

/// One open of a volume; see the module.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    _ticking: Task,
}

#[derive(Debug)]
struct Shared {
    id: SessionId,
    meta: Arc<dyn MetaStore>,
    keys: VolumeKeys,
    env: Env,
    mirror: Arc<Mirror>,
    held: Arc<Held>,
    pin: Mutex<Pin>,
    /// True once the session was ended; changed under the lock of `pin`.
    closed: AtomicBool,
}

/// What the meta tier has of the session; changed under the lock only.
#[derive(Debug)]
struct Pin {
    lease: LeaseId,
    revision: Revision,
    /// Mod revision of the pin's key: a change compares it.
    modified: Revision,
    level_list: Revision,
    /// The mirror's revision at the tick before: no read that began earlier is likely to be under way.
    settled: Revision,
    holds: BTreeSet<Revision>,
}

impl Session {
    /// Opens a session: grants its lease and pins the mirror's revision.
    ///
    /// # Errors
    /// `Unavailable`; `NotFound` when the volume was deleted.
    pub(crate) async fn open(
        meta: Arc<dyn MetaStore>,
        keys: VolumeKeys,
        env: Env,
        mirror: Arc<Mirror>,
    ) -> Result<Session> {
        let lease = meta.lease_grant(LEASE).await?;
        let state = mirror.state()?;
        let pin = Pin {
            lease,
            revision: state.revision,
            modified: Revision::ZERO,
            level_list: state.revision,
            settled: state.revision,
            holds: BTreeSet::new(),
        };
        let held = Held::new(state.revision);
        let shared = Shared {
            id: env.session_id(),
            meta,
            keys,
            env,
            mirror,
            held,
            pin: Mutex::new(pin),
            closed: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        {
            let mut pin = shared.pin.lock().await;
            let first = Shared::lowest_readable(&state, state.revision);
            shared.put_pin(&mut pin, first).await?;
        }
        let ticking = shared.env.spawn(tick(Arc::downgrade(&shared), shared.env.clone()));
        Ok(Session { shared, _ticking: ticking })
    }

    /// The lease that everything of this process on the volume is under.
    pub(crate) async fn lease(&self) -> LeaseId {
        self.shared.pin.lock().await.lease
    }

    /// Makes `revision` stay readable for as long as the hold lives.
    ///
    /// # Errors
    /// `Expired` when it is no longer kept, `Unavailable`.
    pub(crate) async fn hold(&self, revision: Revision) -> Result<Hold> {
        let shared = &self.shared;
        if let Some(hold) = shared.held.try_hold(revision) {
            return Ok(hold);
        }
        let mut pin = shared.pin.lock().await;
        let state = shared.mirror.state()?;
        if revision >= state.oldest.record.readable {
            // Under the pin's lock nobody raises it; from here on `raise` sees the hold.
            let hold = shared.held.hold(revision);
            let lowest = revision.min(pin.revision);
            shared.put_pin(&mut pin, lowest).await?;
            shared.held.lower(revision);
            return Ok(hold);
        }
        let name =
            state.points.iter().find(|(_, point)| point.revision == revision).map(|(name, _)| name);
        let name = name.ok_or_else(|| expired(revision, state.oldest.record.readable))?;
        let hold = shared.held.hold(revision);
        shared.put_hold(&mut pin, name, revision, &state).await?;
        Ok(hold)
    }

    /// True once the session was ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Ends the session at once instead of when its lease runs out: nothing holds its revisions any
    /// more.
    pub(crate) async fn close(&self) {
        let pin = self.shared.pin.lock().await;
        self.shared.closed.store(true, Ordering::Relaxed);
        if let Err(error) = self.shared.meta.lease_revoke(pin.lease).await {
            tracing::debug!(volume = %self.shared.keys.id(), %error, "a session's lease was left to run out");
        }
    }
}

impl Drop for Session {
    /// Gives the lease back, if there still is a runtime to do it on; else it runs out.
    fn drop(&mut self) {
        let shared = self.shared.clone();
        self.shared.env.spawn_if_running(async move {
            let lease = shared.pin.lock().await.lease;
            if let Err(error) = shared.meta.lease_revoke(lease).await {
                tracing::debug!(volume = %shared.keys.id(), %error, "a session's lease is left to run out");
            }
        });
    }
}

/// The error for a revision that is no longer kept.
#[must_use]
pub(crate) fn expired(revision: Revision, oldest: Revision) -> Error {
    Error::expired(format!(
        "revision {revision} is no longer kept; the oldest readable one is {oldest}"
    ))
}

impl Shared {
    fn lowest_readable(state: &VolumeState, revision: Revision) -> Revision {
        revision.max(state.oldest.record.readable)
    }

    /// Puts the pin at `revision`, under a compare that it is still readable.
    async fn put_pin(&self, pin: &mut Pin, revision: Revision) -> Result<()> {
        let mut state = self.mirror.state()?;
        for _ in 0..MAX_TRIES {
            if revision < state.oldest.record.readable {
                return Err(expired(revision, state.oldest.record.readable));
            }
            let (pin_key, list_key) = (self.keys.pin(self.id), self.keys.level_list(self.id));
            let put = |key, value| Op::Put { key, value: encode_pin(value), lease: pin.lease };
            let response = self
                .meta
                .txn(Txn {
                    compares: vec![
                        Compare::created(self.keys.metadata(), state.created),
                        Compare::modified(self.keys.oldest(), state.oldest.modified),
                        Compare::modified(pin_key.clone(), pin.modified),
                    ],
                    then: vec![put(pin_key.clone(), revision), put(list_key, pin.level_list)],
                    or_else: vec![Op::get(self.keys.oldest()), Op::get(pin_key)],
                })
                .await;
            match response {
                Ok(response) if response.succeeded => {
                    (pin.revision, pin.modified) = (revision, response.revision);
                    return Ok(());
                }
                Ok(response) => {
                    let modified = |index: usize| match response.responses.get(index) {
                        Some(OpResponse::Range(found)) => {
                            found.kvs.first().map_or(Revision::ZERO, |kv| kv.mod_revision)
                        }
                        _ => Revision::ZERO,
                    };
                    pin.modified = modified(1);
                    self.mirror.reach(modified(0)).await?;
                    state = self.mirror.fresh().await?;
                    // A deletion of the volume shows in the mirror in a moment.
                    self.env.sleep(self.env.jittered(Duration::from_millis(2))).await;
                }
                Err(MetaError::LeaseNotFound) => {
                    pin.lease = self.meta.lease_grant(LEASE).await?;
                    (pin.modified, pin.holds) = (Revision::ZERO, BTreeSet::new());
                }
                Err(error) if error.maybe_applied() => pin.modified = self.pin_modified().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::unavailable("the oldest readable revision moved too often to pin one"))
    }

    async fn pin_modified(&self) -> Result<Revision> {
        let keys = crate::meta::KeyRange::key(self.keys.pin(self.id));
        let response = self.meta.range(crate::meta::RangeRequest::new(keys)).await?;
        Ok(response.kvs.first().map_or(Revision::ZERO, |kv| kv.mod_revision))
    }

    /// Puts a hold on a named revision below the oldest readable one.
    async fn put_hold(
        &self,
        pin: &mut Pin,
        name: &PointName,
        revision: Revision,
        state: &VolumeState,
    ) -> Result<()> {
        if pin.holds.contains(&revision) {
            return Ok(());
        }
        let key = self.keys.hold(self.id, revision);
        let put = Op::Put { key, value: encode_pin(revision), lease: pin.lease };
        let compares = vec![
            Compare::created(self.keys.metadata(), state.created),
            Compare::exists(self.keys.point(name)),
        ];
        let response = self.meta.txn(Txn { compares, then: vec![put], or_else: vec![] }).await?;
        if !response.succeeded {
            return Err(expired(revision, state.oldest.record.readable));
        }
        pin.holds.insert(revision);
        Ok(())
    }

    /// Keeps the lease, raises the pin and the level list, lets go of holds.
    async fn tick(&self) -> Result<()> {
        let mut pin = self.pin.lock().await;
        if self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let state = self.mirror.state()?;
        let alive = match self.meta.lease_keep_alive(pin.lease).await {
            Ok(_) => true,
            Err(MetaError::LeaseNotFound) => false,
            Err(error) => return Err(error.into()),
        };
        if !alive {
            tracing::warn!(volume = %self.keys.id(), session = %self.id, "lease lost; snapshots held through it may have expired");
            pin.lease = self.meta.lease_grant(LEASE).await?;
            (pin.modified, pin.holds) = (Revision::ZERO, BTreeSet::new());
        }
        let target = self.held.raise(state.oldest.record.readable, state.revision);
        let settled = std::mem::replace(&mut pin.settled, state.revision);
        let waits = state.dropped.values().any(|dropped| dropped.modified > pin.level_list);
        if waits {
            pin.level_list = pin.level_list.max(settled);
        }
        // After a lost lease there is no pin until one could be put, however often that failed.
        let is_pinned = pin.modified > Revision::ZERO;
        if !is_pinned || target > pin.revision || waits {
            self.put_pin(&mut pin, target).await?;
        }
        let idle: Vec<Revision> =
            pin.holds.iter().copied().filter(|held| !self.held.holds(*held)).collect();
        for revision in idle {
            let then = vec![Op::delete(self.keys.hold(self.id, revision))];
            self.meta.txn(Txn { then, ..Txn::default() }).await?;
            pin.holds.remove(&revision);
        }
        Ok(())
    }
}

async fn tick(shared: Weak<Shared>, env: Env) {
    loop {
        env.sleep(TICK).await;
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = shared.tick().await {
            tracing::debug!(volume = %shared.keys.id(), %error, "a session's pin was not renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::embedded::EmbeddedStore;
    use crate::meta::keys::StoreKeys;
    use crate::meta::records::VolumeRecord;
    use crate::meta::{KeyRange, RangeRequest, txn};
    use crate::types::{HashSecret, Keep, PageSize, SECRET_BYTES, VolumeId};

    #[tokio::test]
    async fn a_pin_that_could_not_be_put_after_its_lease_was_lost_is_put_later() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::seeded(1);
        let meta: Arc<dyn MetaStore> = EmbeddedStore::open(dir.path(), &env).unwrap();
        let keys = StoreKeys::new("").volume(VolumeId(1));
        let record = VolumeRecord {
            page_size: PageSize::DEFAULT,
            keep: Keep::Nothing,
            created_ms: 0,
            secret: HashSecret::new([1; SECRET_BYTES]),
            parent: None,
        };
        let create = txn::create_volume("nv".into(), "id".into(), &keys, &record);
        meta.txn(create).await.unwrap();
        let mirror = Mirror::open(meta.clone(), keys.clone(), env.clone()).await.unwrap();
        let session = Session::open(meta.clone(), keys.clone(), env, Arc::new(mirror)).await;
        let session = session.unwrap();
        let _held = session.hold(session.shared.pin.lock().await.revision).await.unwrap();

        // The lease is replaced, and then the meta tier fails.
        let lease = session.lease().await;
        meta.lease_revoke(lease).await.unwrap();
        {
            let mut pin = session.shared.pin.lock().await;
            pin.lease = meta.lease_grant(LEASE).await.unwrap();
            pin.modified = Revision::ZERO;
        }
        session.shared.tick().await.unwrap();
        let pin = RangeRequest::new(KeyRange::key(keys.pin(session.shared.id)));
        assert_eq!(meta.range(pin).await.unwrap().kvs.len(), 1);
    }
}
