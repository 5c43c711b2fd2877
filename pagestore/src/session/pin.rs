//! What the meta tier has of a session: its lease, and the keys under it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::expired;
use super::held::{Held, OwnHold};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::meta::keys::VolumeKeys;
use crate::meta::records::{Point, encode_pin};
use crate::meta::{
    Compare, KeyRange, LeaseId, MetaError, MetaStore, Op, OpResponse, Projection, RangeRequest, Txn,
};
use crate::mirror::{At, Mirror, VolumeState};
use crate::types::{PointName, Revision, SessionId};

/// How long a session outlives its process.
pub(super) const LEASE: Duration = Duration::from_secs(20);
/// Tries to pin while the oldest readable revision moves.
const MAX_TRIES: usize = 16;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: SessionId,
    pub(super) meta: Arc<dyn MetaStore>,
    pub(super) keys: VolumeKeys,
    pub(super) env: Env,
    pub(super) mirror: Arc<Mirror>,
    pub(super) held: Arc<Held>,
    pub(super) pin: Mutex<Pin>,
    /// True once the session was ended; changed under the lock of `pin`.
    pub(super) closed: AtomicBool,
}

/// What the meta tier has of the session; changed under the lock only.
#[derive(Debug)]
pub(super) struct Pin {
    pub(super) lease: LeaseId,
    pub(super) revision: Revision,
    /// Mod revision of the pin's key: a change compares it.
    pub(super) modified: Revision,
    pub(super) level_list: Revision,
    /// The mirror's revision at the tick before: no read that began earlier is likely to be under way.
    pub(super) settled: Revision,
    /// Revisions whose holds may be in the meta tier; those that surely are, [`Held`] knows.
    pub(super) holds: BTreeSet<Revision>,
}

impl Shared {
    /// Puts the pin at `lowest`, or at the oldest readable revision when that has passed it: what is
    /// older is lost, and protects nothing any more. Under a compare that what is pinned, `needed` above
    /// all, is still readable.
    pub(super) async fn put_pin(
        &self,
        pin: &mut Pin,
        lowest: Revision,
        needed: Revision,
    ) -> Result<()> {
        let mut state = self.mirror.state()?;
        for _ in 0..MAX_TRIES {
            let oldest = state.oldest.record.readable;
            if needed < oldest {
                return Err(expired(needed, oldest));
            }
            let revision = lowest.max(oldest);
            let (pin_key, list_key) = (self.keys.pin(self.id), self.keys.level_list(self.id));
            let put = |key, value| Op::Put { key, value: encode_pin(value), lease: pin.lease };
            let response = self
                .meta
                .txn(Txn {
                    compares: vec![
                        Compare::created(self.keys.metadata(), state.created),
                        if planted!(PinIgnoresOldest) {
                            Compare::exists(self.keys.oldest())
                        } else {
                            Compare::modified(self.keys.oldest(), state.oldest.modified)
                        },
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
                Err(MetaError::LeaseNotFound) => self.grant_anew(pin).await?,
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

    /// Puts a hold on a named revision below the oldest readable one, under a compare that the name
    /// still is what it was when the mirror showed it: one that was deleted and made anew may name
    /// another revision.
    pub(super) async fn put_hold(
        &self,
        pin: &mut Pin,
        state: &VolumeState,
        name: &PointName,
        point: &At<Point>,
    ) -> Result<()> {
        let revision = point.record.revision;
        let put = |lease| {
            let key = self.keys.hold(self.id, revision);
            let put = Op::Put { key, value: encode_pin(revision), lease };
            let compares = vec![
                Compare::created(self.keys.metadata(), state.created),
                Compare::modified(self.keys.point(name), point.modified),
            ];
            self.meta.txn(Txn { compares, then: vec![put], or_else: vec![] })
        };
        // From here on it may be there, also when the answer is lost.
        pin.holds.insert(revision);
        let response = match put(pin.lease).await {
            Err(MetaError::LeaseNotFound) => {
                self.renew(pin).await?;
                pin.holds.insert(revision);
                put(pin.lease).await?
            }
            response => response?,
        };
        if !response.succeeded {
            return Err(expired(revision, state.oldest.record.readable));
        }
        self.held.set_own(revision, response.revision);
        Ok(())
    }

    /// True when everything that `revision` shows is in `state` still: because the revision is kept, or
    /// named, or because the session's own hold is on it, whose name may be gone by now.
    ///
    /// The hold is asked for, not only remembered: its lease may have ended unnoticed. One that was put
    /// while the revision was named and is there at or after `state` was there for every compactor that
    /// had a hand in `state`.
    pub(super) async fn is_readable(
        &self,
        state: &VolumeState,
        revision: Revision,
    ) -> Result<bool> {
        if state.deleted && !self.is_pinned(state.revision).await? {
            return Ok(false);
        }
        if state.is_readable(revision) {
            return Ok(true);
        }
        let Some(OwnHold { put, seen }) = self.held.own(revision) else { return Ok(false) };
        if seen >= state.revision {
            return Ok(true);
        }
        let key = KeyRange::key(self.keys.hold(self.id, revision));
        let request = RangeRequest::new(key).project(Projection::KeysOnly);
        let response = self.meta.range(request).await?;
        // Put again it counts from its first put; one made anew would have been created later.
        let is_there = response.kvs.first().is_some_and(|kv| kv.create_revision <= put);
        if is_there {
            self.held.saw_own(revision, put, response.revision);
        }
        Ok(is_there && response.revision >= state.revision)
    }

    /// True when the session's pin is there, at `after` or later. Nobody pins a deleted volume, so the pin was
    /// there ever since the deletion, and nothing has been erased yet.
    async fn is_pinned(&self, after: Revision) -> Result<bool> {
        let key = KeyRange::key(self.keys.pin(self.id));
        let request = RangeRequest::new(key).project(Projection::KeysOnly);
        let response = self.meta.range(request).await?;
        Ok(!response.kvs.is_empty() && response.revision >= after)
    }

    /// Lets go of holds that no snapshot needs any more.
    async fn let_go(&self, pin: &mut Pin) -> Result<()> {
        let idle: Vec<Revision> =
            pin.holds.iter().copied().filter(|held| !self.held.holds(*held)).collect();
        for revision in idle {
            // First: what is about to go must not be taken for a hold any more.
            self.held.forget_own(revision);
            let then = vec![Op::delete(self.keys.hold(self.id, revision))];
            self.meta.txn(Txn { then, ..Txn::default() }).await?;
            pin.holds.remove(&revision);
        }
        Ok(())
    }

    /// A new lease in the place of one that has ended, with nothing under it yet.
    async fn grant_anew(&self, pin: &mut Pin) -> Result<()> {
        tracing::warn!(volume = %self.keys.id(), session = %self.id, "lease lost; snapshots held through it may have expired");
        pin.lease = self.meta.lease_grant(LEASE).await?;
        (pin.modified, pin.holds) = (Revision::ZERO, BTreeSet::new());
        self.held.forget_all_own();
        Ok(())
    }

    /// A new lease, and the pin under it at once.
    pub(super) async fn renew(&self, pin: &mut Pin) -> Result<()> {
        self.grant_anew(pin).await?;
        let state = self.mirror.state()?;
        let target = self.held.raise(state.oldest.record.readable, state.revision);
        self.put_pin(pin, target, state.revision).await
    }

    /// Keeps the lease, raises the pin and the level list, lets go of holds.
    pub(super) async fn tick(&self) -> Result<()> {
        let mut pin = self.pin.lock().await;
        if self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let alive = match self.meta.lease_keep_alive(pin.lease).await {
            Ok(_) => true,
            Err(MetaError::LeaseNotFound) => false,
            Err(error) => return Err(error.into()),
        };
        let state = self.mirror.known()?;
        if state.deleted {
            // What is pinned stays pinned, and nothing else can be any more.
            return Ok(());
        }
        if !alive {
            self.grant_anew(&mut pin).await?;
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
            self.put_pin(&mut pin, target, state.revision).await?;
        }
        self.let_go(&mut pin).await
    }
}
