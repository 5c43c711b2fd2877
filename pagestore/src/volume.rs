//! An open volume: snapshots, transactions, and what becomes of a commit that nobody answered.

use std::sync::Arc;

use crate::commit::{self, Core, Resolution, Transaction};
use crate::error::{CommitToken, Error, ErrorKind, Result};
use crate::mirror::{View, VolumeState};
use crate::snapshot::Snapshot;
use crate::types::{CommitId, Keep, PageCount, PageSize, Revision, VolumeId, VolumeName};

/// Tries to begin together, while the oldest readable revisions pass the one that is to be held.
const MAX_TRIES: usize = 8;

/// One database's pages. A clone is cheap and shares everything.
///
/// Holds a lease in the meta tier for as long as a clone, a snapshot or a transaction of it lives.
#[derive(Clone, Debug)]
pub struct Volume {
    name: VolumeName,
    core: Arc<Core>,
}

impl Volume {
    pub(crate) fn new(name: VolumeName, core: Arc<Core>) -> Volume {
        Volume { name, core }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &VolumeName {
        &self.name
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> VolumeId {
        self.core.keys.id()
    }

    /// Bytes a page.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.core.record.page_size
    }

    /// How long superseded versions stay readable.
    #[must_use]
    pub fn keep(&self) -> Keep {
        self.core.record.keep
    }

    /// A snapshot of the head: every commit acknowledged before this call, by whomever, is in it.
    /// One round trip to the meta tier, shared with others who ask at the same time.
    ///
    /// # Errors
    /// `Unavailable`; `NotFound` when the volume was deleted.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let state = self.core.mirror.fresh().await?;
        Snapshot::open_newest(&self.core, state.view()).await
    }

    /// A snapshot of what this process knows already: no round trip, usually milliseconds behind the
    /// head, and never behind an earlier snapshot of this process.
    ///
    /// # Errors
    /// `Unavailable`; `NotFound` when the volume was deleted.
    pub async fn snapshot_stale(&self) -> Result<Snapshot> {
        Snapshot::open_newest(&self.core, self.core.mirror.state()?.view()).await
    }

    /// As [`Volume::snapshot_stale`], but no older than `revision`, which is of a commit: waits until this
    /// process knows of it.
    ///
    /// # Errors
    /// As there.
    pub async fn snapshot_since(&self, revision: Revision) -> Result<Snapshot> {
        let state = self.core.mirror.reach(revision).await?;
        Snapshot::open(self.core.clone(), state.view()).await
    }

    /// True when a commit other than `own` may have happened after the revision `after`, and no later
    /// than `up_to`, as far as this process knows; asks nobody. For those who cache what they read:
    /// nothing can have changed otherwise.
    ///
    /// # Errors
    /// `NotFound` when the volume was deleted.
    pub fn changed_by_others(
        &self,
        after: Revision,
        up_to: Revision,
        own: Option<CommitId>,
    ) -> Result<bool> {
        let state = self.core.mirror.state()?;
        let mut since = state.since(after).take_while(|((revision, _), _)| *revision <= up_to);
        let forgotten = after < state.changelog_from && state.head > after;
        Ok(forgotten || since.any(|((_, id), _)| Some(*id) != own))
    }

    /// A snapshot of the past: of any revision of the store from when the volume was made on, whichever
    /// volume's commit it was.
    ///
    /// # Errors
    /// `NotFound` for a revision that has not come yet in the store or is from before the volume was made,
    /// `Expired` for one that is no longer kept, `Unavailable`.
    pub async fn snapshot_at(&self, revision: Revision) -> Result<Snapshot> {
        let mut state = self.core.mirror.state()?;
        if revision > state.revision {
            // Revisions are the store's: another volume may have made it while this one was quiet.
            let now = commit::joint_views(std::slice::from_ref(&self.core)).await?.pop();
            let (fresh, now) = now.expect("BUG: a view was asked for");
            if revision > now.revision {
                return Err(Error::not_found(format!(
                    "revision {revision} has not come yet; the newest of the store is {}",
                    now.revision
                )));
            }
            state = fresh;
        }
        if revision < state.created {
            return Err(Error::not_found(format!(
                "revision {revision} is from before the volume was made, which was revision {}",
                state.created
            )));
        }
        let view = if revision > state.revision {
            // Nothing of the volume changed in between.
            View { revision, ..state.view() }
        } else {
            state.view_at(revision)
        };
        Snapshot::open(self.core.clone(), view).await
    }

    /// A transaction on a fresh snapshot.
    ///
    /// # Errors
    /// As [`Volume::snapshot`].
    pub async fn begin(&self) -> Result<Transaction> {
        Ok(self.begin_on(self.snapshot().await?))
    }

    /// A transaction on a snapshot of this volume, however old: what has changed since makes it
    /// conflict.
    ///
    /// # Panics
    /// When the snapshot is another volume's.
    #[must_use]
    pub fn begin_on(&self, snapshot: Snapshot) -> Transaction {
        assert_eq!(
            snapshot.core().keys.id(),
            self.id(),
            "BUG: a transaction on another volume's snapshot"
        );
        Transaction::new(self.core.clone(), snapshot)
    }

    /// Waits for a commit newer than `revision` and returns the head.
    ///
    /// # Errors
    /// `NotFound` when the volume was deleted, `Corrupt` when it cannot be followed.
    pub async fn changed_since(&self, revision: Revision) -> Result<Revision> {
        let mut state = self.core.mirror.state()?;
        while state.head <= revision {
            state = self.core.mirror.changed(state.revision).await?;
        }
        Ok(state.head)
    }

    /// Finds out for certain what became of a commit whose outcome was unknown. If it has not
    /// happened, it never will.
    ///
    /// # Errors
    /// `Unknown` when the meta tier still cannot be reached; `Invalid` for another volume's token.
    pub async fn resolve(&self, token: CommitToken) -> Result<Resolution> {
        if token.volume != self.id() {
            return Err(Error::invalid(format!(
                "the commit is of volume {}, not of {}",
                token.volume,
                self.id()
            )));
        }
        commit::resolve(&self.core, token).await
    }

    /// The number of pages at the head, as this process knows it.
    ///
    /// # Errors
    /// `NotFound` when the volume was deleted.
    pub fn page_count_stale(&self) -> Result<PageCount> {
        Ok(self.core.mirror.state()?.page_count)
    }

    /// Lets go of every revision that this process holds of the volume, at once instead of when its
    /// lease runs out. To be called last: snapshots and transactions of any clone may get `Expired`
    /// from here on.
    pub async fn close(&self) {
        self.core.session.close().await;
    }

    /// Everything that the volume's watched keys say, as this process knows it.
    #[doc(hidden)]
    pub fn state(&self) -> Result<Arc<VolumeState>> {
        self.core.mirror.state()
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

/// Transactions over several volumes of one store, all exactly at one revision; to be committed
/// together with [`commit_all`].
///
/// # Errors
/// `Unavailable`; `NotFound` when one was deleted; `Invalid` for none, too many, or one twice.
pub async fn begin_all(volumes: &[Volume]) -> Result<Vec<Transaction>> {
    check_set(volumes.iter().map(Volume::core))?;
    let cores: Vec<Arc<Core>> = volumes.iter().map(|volume| volume.core.clone()).collect();
    for _ in 1..MAX_TRIES {
        match try_begin_all(&cores).await {
            Err(error) if error.kind() == ErrorKind::Expired => {}
            begun => return begun,
        }
    }
    try_begin_all(&cores).await
}

async fn try_begin_all(cores: &[Arc<Core>]) -> Result<Vec<Transaction>> {
    let mut transactions = Vec::with_capacity(cores.len());
    for (core, (_, view)) in cores.iter().zip(commit::joint_views(cores).await?) {
        let snapshot = Snapshot::open(core.clone(), view).await?;
        transactions.push(Transaction::new(core.clone(), snapshot));
    }
    Ok(transactions)
}

/// Commits transactions over several volumes of one store: all of them at one revision, or none. Those
/// that were not begun together, by [`begin_all`], each see their volume at a revision of their own; the
/// commit conflicts if anything that one of them read or wrote has changed since.
///
/// # Errors
/// As [`Transaction::commit`]; `Invalid` for none, too many, or two of one volume.
pub async fn commit_all(transactions: Vec<Transaction>) -> Result<commit::Committed> {
    check_set(transactions.iter().map(Transaction::core))?;
    commit::commit(transactions).await
}

fn check_set<'a>(cores: impl Iterator<Item = &'a Arc<Core>>) -> Result<()> {
    let mut ids: Vec<VolumeId> = Vec::new();
    let mut meta = None;
    for core in cores {
        if !Arc::ptr_eq(meta.get_or_insert_with(|| core.meta.clone()), &core.meta) {
            return Err(Error::invalid("volumes of different stores cannot be committed together"));
        }
        ids.push(core.keys.id());
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    let max = crate::meta::txn::MAX_PARTS;
    if ids.len() != count || count == 0 || count > max {
        return Err(Error::invalid(format!(
            "one commit takes 1 to {max} different volumes, not {count}"
        )));
    }
    Ok(())
}
