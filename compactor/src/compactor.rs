//! The compactor as its hosts see it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;

use pagestore::internal::env::Task;
use pagestore::internal::types::{VolumeId, VolumeName};
use pagestore::{Error, ErrorKind, Result};

use crate::interrupt::Interrupt;
use crate::merge::pick::Effort;
use crate::options::CompactorOptions;
use crate::plan::Step;
use crate::tiers::Tiers;
use crate::worker::lookout::forget_history;
use crate::worker::volume::{Outcome, VolumeWorker};
use crate::worker::{stopped, store};

/// Tries to compact a volume on which another compactor works.
const BUSY_TRIES: usize = 20;
/// Pause between two of them.
const BUSY_PAUSE: Duration = Duration::from_secs(2);

/// Compacts the volumes of a store.
#[derive(Clone, Debug)]
pub struct Compactor {
    tiers: Tiers,
    options: CompactorOptions,
}

/// A compactor that runs beside its host until it is stopped. Dropping it abandons what it does, which
/// is safe, and leaves its claims to run out.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    task: Task,
}

impl Compactor {
    /// A compactor over these tiers. Does nothing yet.
    #[must_use]
    pub fn new(tiers: Tiers, options: CompactorOptions) -> Compactor {
        Compactor { tiers, options }
    }

    /// Looks after all volumes, those of other hosts too, beside the caller.
    #[must_use]
    pub fn start(self) -> Running {
        let (stop, told) = watch::channel(false);
        let env = self.tiers.env.clone();
        let task = env.spawn(async move {
            if let Err(error) = self.run(None, &told).await {
                tracing::error!(%error, "nobody compacts the store any more");
            }
        });
        Running { stop, task }
    }

    /// Looks after all volumes, or those called `only`, until `stop` is set; then gives all claims back.
    ///
    /// # Errors
    /// `Invalid` when the store can no longer be followed, because its etcd was restored from a backup: it is
    /// to be opened again. Nothing else ends it.
    pub async fn run(
        &self,
        only: Option<&BTreeSet<VolumeName>>,
        stop: &watch::Receiver<bool>,
    ) -> Result<()> {
        store::run(&self.tiers, &self.options, only, stop).await
    }

    /// Does what is due for a volume, until nothing is: with [`Effort::Thorough`] all that was staged when
    /// it began is flushed, and everything merged. Waits for a while if another compactor is at it.
    ///
    /// # Errors
    /// `NotFound` when there is no such volume, `Unavailable` when a tier does not answer or another
    /// compactor stays at it, `Corrupt` when stored bytes are not what was written.
    pub async fn compact(&self, volume: VolumeId, effort: Effort) -> Result<()> {
        let (_stop, stop) = watch::channel(false);
        self.compact_until(volume, effort, &stop).await
    }

    /// As [`Compactor::compact`], but ends when `stop` is set: what is being done then is abandoned, and
    /// the claim given back.
    ///
    /// # Errors
    /// As [`Compactor::compact`].
    pub async fn compact_until(
        &self,
        volume: VolumeId,
        effort: Effort,
        stop: &watch::Receiver<bool>,
    ) -> Result<()> {
        let mut worker = self.worker(volume, stop.clone()).await?;
        for _ in 0..BUSY_TRIES {
            let outcome = worker.work(effort).await?;
            if let Some(revision) = worker.take_flushed() {
                forget_history(worker.volume(), revision).await;
            }
            match outcome {
                Outcome::Done => {
                    let failure = worker.sweeps().take_failure();
                    let context = || format!("volume {volume}, sweeping what nobody names");
                    return failure.map_or(Ok(()), |error| Err(error.context(context())));
                }
                Outcome::Lost => {}
                Outcome::Busy => tokio::select! {
                    biased;
                    () = stopped(stop) => return Ok(()),
                    () = self.tiers.env.sleep(self.tiers.env.jittered(BUSY_PAUSE)) => {}
                },
            }
        }
        let message = format!("another compactor is working on the volume: {volume}");
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// What [`Compactor::compact`] would do now. What one step makes due is not foreseen.
    ///
    /// # Errors
    /// As [`Compactor::compact`].
    pub async fn plan(&self, volume: VolumeId, effort: Effort) -> Result<Vec<Step>> {
        let (_stop, stop) = watch::channel(false);
        let worker = self.worker(volume, stop).await?;
        worker.dry_run(effort).await.map_err(|interrupt| match interrupt {
            Interrupt::Failed(error) => error,
            Interrupt::ClaimLost | Interrupt::Overtaken => {
                Error::new(ErrorKind::Unavailable, "the volume changed while the plan was made")
            }
        })
    }

    async fn worker(&self, volume: VolumeId, stop: watch::Receiver<bool>) -> Result<VolumeWorker> {
        VolumeWorker::open(self.tiers.volume(volume), self.options.clone(), stop).await
    }
}

impl Running {
    /// Ends the work: what is being done is abandoned, claims are given back.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.join().await;
    }
}
