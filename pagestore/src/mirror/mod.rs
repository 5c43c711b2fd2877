//! The mirror: all that a volume's watched keys say, kept in memory by one watch.
//!
//! Owns the state that snapshots and commits start from. Never answers from a state that lags behind
//! what the caller has seen: [`Mirror::fresh`] asks the meta tier for the head first.
//!
//! Invariant: [`VolumeState`] is exactly the fold of all changes up to its revision; whole revisions
//! are applied at once, so a published file and the floor that makes room for it appear together.
//! Pages come from the changelog alone; pointers exist for the compares of commits.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;

use crate::env::{Env, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::keys::VolumeKeys;
use crate::meta::{MetaError, MetaStore};
use crate::types::Revision;

mod head;
mod load;
mod state;
#[cfg(test)]
pub(crate) mod testing;
mod truncations;
mod view;

use head::HeadReader;
pub use load::{Scan, load, scan};
pub use state::{At, FloorState, StagedVersion, VolumeState};
pub use truncations::Truncations;
pub use view::View;

/// How long a reader waits for the mirror to catch up with the head.
const CATCH_UP: Duration = Duration::from_secs(15);
/// First and longest pause before a lost watch is made anew.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// What the watching task last said: the newest state, and why it has ended if it has.
#[derive(Clone, Debug)]
struct Latest {
    state: Arc<VolumeState>,
    broken: Option<(ErrorKind, String)>,
}

/// A volume's mirror; see the module.
#[derive(Debug)]
pub struct Mirror {
    head: Arc<HeadReader>,
    latest: watch::Receiver<Latest>,
    env: Env,
    _watching: Task,
}

impl Mirror {
    /// Loads the volume's state and starts watching it.
    ///
    /// # Errors
    /// `NotFound` when there is no such volume, `Corrupt` when a value is broken, `Unavailable`.
    pub async fn open(meta: Arc<dyn MetaStore>, keys: VolumeKeys, env: Env) -> Result<Mirror> {
        let state = Arc::new(load(meta.as_ref(), &keys).await?);
        let (sender, latest) = watch::channel(Latest { state, broken: None });
        let head = HeadReader::new(meta.clone(), env.clone(), keys.clone());
        let watcher = Watcher { meta, keys, env: env.clone(), latest: sender };
        let watching = env.spawn(watcher.run());
        Ok(Mirror { head, latest, env, _watching: watching })
    }

    /// The state as it is, possibly behind the head.
    ///
    /// # Errors
    /// `NotFound` when the volume was deleted, `Corrupt` when it can no longer be followed.
    pub fn state(&self) -> Result<Arc<VolumeState>> {
        alive(self.known()?)
    }

    /// The state at the head or later: every commit acknowledged before this call is in it.
    ///
    /// # Errors
    /// `Unavailable` when the meta tier does not answer or the watch does not catch up in time.
    pub async fn fresh(&self) -> Result<Arc<VolumeState>> {
        let head = self.head.read().await?;
        if planted!(MirrorNotAwaited) {
            return self.state();
        }
        self.reach(head).await
    }

    /// The state as it is, of a deleted volume too: for snapshots, which outlive their volume.
    ///
    /// # Errors
    /// `Corrupt` when the volume can no longer be followed.
    pub fn known(&self) -> Result<Arc<VolumeState>> {
        known(&self.latest.borrow())
    }

    /// The state with every flush, merge and deletion of files that was published before this call, of
    /// which the head does not tell, and with the deletion of the volume: for whoever does not find what
    /// should be there.
    ///
    /// # Errors
    /// As [`Mirror::fresh`].
    pub async fn abreast(&self) -> Result<Arc<VolumeState>> {
        match self.head.read_whereabouts().await? {
            Some(published) => self.wait_until(|state| state.revision >= published).await,
            None => self.wait_until(|state| state.deleted).await,
        }
    }

    /// The state at `revision` or later. To be called with the revision of a change to a watched
    /// key only: of others the watch does not tell.
    ///
    /// # Errors
    /// `Unavailable` when the watch does not catch up in time.
    pub async fn reach(&self, revision: Revision) -> Result<Arc<VolumeState>> {
        alive(self.wait_until(|state| state.revision >= revision).await?)
    }

    async fn wait_until(&self, done: impl Fn(&VolumeState) -> bool) -> Result<Arc<VolumeState>> {
        if let Some(state) = self.known().ok().filter(|state| done(state)) {
            return Ok(state);
        }
        let mut latest = self.latest.clone();
        let reached = latest.wait_for(|latest| latest.broken.is_some() || done(&latest.state));
        match self.env.within(CATCH_UP, reached).await {
            Some(Ok(latest)) => known(&latest),
            _ => Err(Error::unavailable(format!(
                "the watch of the meta tier did not catch up within {} s",
                CATCH_UP.as_secs()
            ))),
        }
    }

    /// Waits for a state newer than `revision`.
    ///
    /// # Errors
    /// `NotFound` when the volume was deleted, `Corrupt` when it can no longer be followed.
    pub async fn changed(&self, revision: Revision) -> Result<Arc<VolumeState>> {
        let mut latest = self.latest.clone();
        let newer = latest
            .wait_for(|latest| latest.broken.is_some() || latest.state.revision > revision)
            .await;
        let latest = newer.map_err(|_| Error::unavailable("the runtime is shutting down"))?;
        alive(known(&latest)?)
    }
}

fn known(latest: &Latest) -> Result<Arc<VolumeState>> {
    match &latest.broken {
        Some((kind, message)) => Err(Error::new(*kind, message.clone())),
        None => Ok(latest.state.clone()),
    }
}

fn alive(state: Arc<VolumeState>) -> Result<Arc<VolumeState>> {
    if state.deleted { Err(Error::not_found("volume was deleted")) } else { Ok(state) }
}

/// Keeps the state current until a value is broken.
struct Watcher {
    meta: Arc<dyn MetaStore>,
    keys: VolumeKeys,
    env: Env,
    latest: watch::Sender<Latest>,
}

impl Watcher {
    async fn run(self) {
        let mut pause = RETRY.0;
        loop {
            let before = self.revision();
            match self.follow().await {
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid) => {
                    tracing::error!(volume = %self.keys.id(), %error, "a volume can no longer be followed");
                    let broken = Some((error.kind(), error.to_string()));
                    self.latest.send_modify(|latest| latest.broken = broken);
                    return;
                }
                Err(error) => tracing::debug!(volume = %self.keys.id(), %error, "watch lost"),
                Ok(()) => {}
            }
            pause = if self.revision() > before { RETRY.0 } else { (pause * 2).min(RETRY.1) };
            self.env.sleep(self.env.jittered(pause)).await;
        }
    }

    fn revision(&self) -> Revision {
        self.latest.borrow().state.revision
    }

    /// Applies changes until the watch ends. When history has a gap, loads the state anew: etcd says so
    /// when the watch is made, or only afterwards.
    async fn follow(&self) -> Result<()> {
        let mut watch = match self.meta.watch(self.keys.watched(), self.revision().next()).await {
            Err(MetaError::Compacted { .. }) => return self.reload().await,
            watch => watch?,
        };
        while let Some(batch) = watch.next().await {
            let batch = match batch {
                Err(MetaError::Compacted { .. }) => return self.reload().await,
                batch => batch?,
            };
            let state = self.latest.borrow().state.clone();
            if batch.revision <= state.revision {
                continue;
            }
            let next = Arc::new(state.apply(&self.keys, &batch)?);
            self.latest.send_modify(|latest| latest.state = next);
        }
        Ok(())
    }

    async fn reload(&self) -> Result<()> {
        let before = self.latest.borrow().state.clone();
        let mut state = Arc::new(load::reload(self.meta.as_ref(), &self.keys, &before).await?);
        if planted!(GapIgnored) {
            state = Arc::new(VolumeState { revision: state.revision, ..before.as_ref().clone() });
        }
        before.check_successor(&self.keys, &state)?;
        self.latest.send_modify(|latest| latest.state = state);
        Ok(())
    }
}
