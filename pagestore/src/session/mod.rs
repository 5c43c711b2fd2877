//! A session: one open of a volume by one process, with a lease and a pin under it.
//!
//! Owns what protects the revisions that its snapshots hold: the pin `ar` (the oldest), holds `ah` on
//! named revisions below it, and `av`, the level list it reads by. Never raises the pin above a held
//! revision, and never hands out a hold before the meta tier protects it.
//!
//! A lease that ends is replaced; a snapshot whose revision was given up meanwhile gets `Expired` from
//! its next read that needs a store, because readers test themselves what is readable: by the oldest
//! readable revision and the names, as the mirror shows them, or by the session's hold, which they ask
//! for ([`Readability`]).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::env::{Env, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::keys::VolumeKeys;
use crate::meta::{LeaseId, MetaStore};
use crate::mirror::{Mirror, VolumeState};
use crate::types::Revision;

mod held;
mod pin;
#[cfg(test)]
mod tests;

use held::Held;
pub(crate) use held::Hold;
use pin::{LEASE, Pin, Shared};

/// How often the lease is kept alive and the pin raised.
const TICK: Duration = Duration::from_secs(5);

/// One open of a volume; see the module.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    _ticking: Task,
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
            // No revision in particular: the oldest one may have passed the mirror's meanwhile.
            shared.put_pin(&mut pin, state.revision, Revision::MAX).await?;
            shared.held.raise(pin.revision, pin.revision);
        }
        let ticking = shared.env.spawn(tick(Arc::downgrade(&shared), shared.env.clone()));
        Ok(Session { shared, _ticking: ticking })
    }

    /// The lease that everything of this process on the volume is under.
    pub(crate) async fn lease(&self) -> LeaseId {
        self.shared.pin.lock().await.lease
    }

    /// Another lease, with the pin under it again, when `ended` turned out to have ended.
    ///
    /// # Errors
    /// `Expired` when the session was ended, `Unavailable`.
    pub(crate) async fn replace_lease(&self, ended: LeaseId) -> Result<LeaseId> {
        let mut pin = self.shared.pin.lock().await;
        if self.is_closed() {
            return Err(Error::expired("the volume was closed"));
        }
        if pin.lease == ended {
            self.shared.renew(&mut pin).await?;
        }
        Ok(pin.lease)
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
        let mut state = shared.mirror.state()?;
        if revision >= state.oldest.record.readable {
            // Under the pin's lock nobody raises it; from here on `raise` sees the hold.
            let hold = shared.held.hold(revision);
            let lowest = revision.min(pin.revision);
            match shared.put_pin(&mut pin, lowest, revision).await {
                Ok(()) => {
                    shared.held.lower(revision);
                    return Ok(hold);
                }
                // It may be named.
                Err(error) if error.kind() == ErrorKind::Expired => {
                    state = shared.mirror.state()?;
                }
                Err(error) => return Err(error),
            }
        }
        let named = state.points.iter().find(|(_, point)| point.record.revision == revision);
        if let Some((name, point)) = named {
            let hold = shared.held.hold(revision);
            if shared.held.own(revision).is_none() {
                shared.put_hold(&mut pin, &state, name, point).await?;
            }
            return Ok(hold);
        }
        // Its name is gone; another snapshot of this session may hold it still.
        if shared.held.holds(revision) && shared.is_readable(&state, revision).await? {
            return Ok(shared.held.hold(revision));
        }
        Err(expired(revision, state.oldest.record.readable))
    }

    /// What readers test revisions by.
    pub(crate) fn readability(&self) -> Readability {
        Readability { shared: self.shared.clone() }
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

/// Tells which revisions can still be read.
#[derive(Clone, Debug)]
pub(crate) struct Readability {
    shared: Arc<Shared>,
}

impl Readability {
    /// Nothing when everything that `revision` shows is in `state` still.
    ///
    /// # Errors
    /// `Expired`, `Unavailable`.
    pub(crate) async fn check(&self, state: &VolumeState, revision: Revision) -> Result<()> {
        if planted!(OldestIgnored) || self.shared.is_readable(state, revision).await? {
            Ok(())
        } else if state.deleted {
            Err(Error::expired("the volume was deleted, and nothing keeps what it was any more"))
        } else {
            Err(expired(revision, state.oldest.record.readable))
        }
    }
}

/// The error for a revision that is no longer kept.
#[must_use]
fn expired(revision: Revision, oldest: Revision) -> Error {
    Error::expired(format!(
        "revision {revision} is no longer kept; the oldest readable one is {oldest}"
    ))
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
