//! Waits until something is due for one volume, for as long as the volume is there.

use std::time::Duration;

use pagestore::internal::meta::MetaError;
use pagestore::internal::types::Revision;
use pagestore::{Error, ErrorKind, Result};

use super::history::History;
use super::volume::{Outcome, VolumeWorker};
use super::{Stop, stopped};
use crate::claim::Claim;
use crate::execute::erase::{Erased, LATE, Pass, erase, is_deleted};
use crate::interrupt::Interrupt;
use crate::merge::pick::Effort;
use crate::options::CompactorOptions;
use crate::volume::Volume;

/// Pause after news of a volume, before it is looked at: many commits cost one look.
const SETTLE: Duration = Duration::from_millis(200);
/// A volume is worked on so often without news: for what only time makes due.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Pause while another compactor has the claim: a little longer than its lease lives.
const BUSY_PAUSE: Duration = Duration::from_secs(12);
/// First and longest pause while something waits for readers to move on.
const WAIT_PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// First and longest pause after a failure.
const FAILURE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Looks after a volume until it is deleted and erased, or `stop` is set.
pub(crate) async fn look_after(volume: Volume, options: CompactorOptions, stop: Stop) {
    let mut pause = FAILURE_PAUSE.0;
    loop {
        let began = volume.env.now();
        let ended = match follow(&volume, &options, &stop).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                erase_if_deleted(&volume, &options, &stop, error).await
            }
            ended => ended,
        };
        let Err(error) = ended else { return };
        tracing::warn!(volume = %volume.id(), %error, "compaction failed; it will be tried again");
        if volume.env.now() - began > FAILURE_PAUSE.1 {
            pause = FAILURE_PAUSE.0;
        }
        tokio::select! {
            biased;
            () = stopped(&stop) => return,
            () = volume.env.sleep(volume.env.jittered(pause)) => {}
        }
        pause = (pause * 2).min(FAILURE_PAUSE.1);
    }
}

/// Works whenever something is due, until `stop` is set. `NotFound`: the volume was deleted.
async fn follow(volume: &Volume, options: &CompactorOptions, stop: &Stop) -> Result<()> {
    let mut worker = VolumeWorker::open(volume.clone(), options.clone(), stop.clone()).await?;
    // At first for what others may have left undone.
    let mut is_due = true;
    let mut waiting = WAIT_PAUSE.0;
    let mut history = History::default();
    loop {
        let outcome = if is_due { worker.work(Effort::Usual).await? } else { Outcome::Done };
        if let Some(revision) = worker.take_flushed() {
            history.flushed(volume.env.now(), revision);
        }
        if let Some(revision) = history.take_due(volume.env.now()) {
            forget_history(volume, revision).await;
        }
        let state = worker.mirror().state()?;
        let mut wait = worker.flush_in(&state).unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        wait = wait.min(worker.sweeps().next_in(volume.env.now()));
        if outcome != Outcome::Done {
            wait = wait.min(BUSY_PAUSE);
        } else if worker.may_be_due(&state) {
            wait = waiting;
            waiting = (waiting * 2).min(WAIT_PAUSE.1);
        } else {
            waiting = WAIT_PAUSE.0;
        }
        let forget = async {
            match history.due_in(volume.env.now()) {
                Some(due) => volume.env.sleep(due).await,
                // Nothing that could come before the next look, again and again.
                None => std::future::pending().await,
            }
        };
        is_due = tokio::select! {
            biased;
            () = stopped(stop) => return Ok(()),
            () = volume.env.sleep(volume.env.jittered(wait)) => true,
            () = forget => false,
            changed = worker.mirror().changed(state.revision) => {
                changed?;
                // Who stops a compactor waits for it, and has just written more often than not.
                tokio::select! {
                    biased;
                    () = stopped(stop) => return Ok(()),
                    () = volume.env.sleep(SETTLE) => {}
                }
                outcome == Outcome::Done && worker.may_be_due(&*worker.mirror().state()?)
            }
        };
    }
}

/// Lets the meta tier forget superseded versions of keys up to `revision`.
pub(crate) async fn forget_history(volume: &Volume, revision: Revision) {
    match volume.meta.compact(revision).await {
        Ok(()) | Err(MetaError::Compacted { .. }) => {}
        Err(error) => {
            tracing::debug!(volume = %volume.id(), %error, "the meta tier's history was not compacted");
        }
    }
}

/// Erases the volume if it is what was not found. It may as well have been an object of a volume that
/// is there: then that is the `error`.
async fn erase_if_deleted(
    volume: &Volume,
    options: &CompactorOptions,
    stop: &Stop,
    error: Error,
) -> Result<()> {
    match is_deleted(volume).await {
        Ok(true) => erase_all(volume, options, stop).await,
        Ok(false) | Err(Interrupt::ClaimLost | Interrupt::Overtaken) => Err(error),
        Err(Interrupt::Failed(error)) => Err(error),
    }
}

/// Erases what is left of a deleted volume, once nobody holds any of it.
async fn erase_all(volume: &Volume, options: &CompactorOptions, stop: &Stop) -> Result<()> {
    // Nothing comes late to a directory.
    let mut pass = if volume.blobs.is_directory() { Pass::Last } else { Pass::First };
    let mut pause = WAIT_PAUSE.0;
    loop {
        let erased = match Claim::take(volume, &options.owner).await {
            Ok(Some(claim)) => erase(claim, pass).await,
            Ok(None) => Ok(Erased::Held),
            Err(interrupt) => Err(interrupt),
        };
        let wait = match erased {
            Ok(Erased::All) => return Ok(()),
            Ok(Erased::Contents) => {
                pass = Pass::Last;
                LATE
            }
            Ok(Erased::Held) | Err(Interrupt::ClaimLost | Interrupt::Overtaken) => {
                let wait = volume.env.jittered(pause);
                pause = (pause * 2).min(WAIT_PAUSE.1);
                wait
            }
            Err(Interrupt::Failed(error)) => return Err(error),
        };
        tokio::select! {
            biased;
            () = stopped(stop) => return Ok(()),
            () = volume.env.sleep(wait) => {}
        }
    }
}
