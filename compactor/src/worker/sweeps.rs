//! When what nobody names is looked for, and what becomes of a sweep that fails.
//!
//! A sweep only tidies up. It comes after everything else that is due, and when it fails, flushes go on:
//! the failure is logged, and the sweep tried again later and later.

use std::time::Duration;

use tokio::time::Instant;

use pagestore::Error;
use pagestore::internal::types::Revision;

use crate::claim::Claim;
use crate::gc::sweep::{sweep_objects, sweep_staged};
use crate::interrupt::{Interrupt, Work};

/// How often what nobody names is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Pause after the first failure; each further one is twice as long, up to [`SWEEP_EVERY`].
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// A volume's sweeps.
#[derive(Debug)]
pub(crate) struct Sweeps {
    /// When the next one is due; at once when there was none.
    next: Option<Instant>,
    pause: Duration,
    /// A page was too hot for its staged contents to be removed.
    left_staged: bool,
    failure: Option<Error>,
}

/// What is to be swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Staged,
    All,
}

impl Sweeps {
    pub(crate) fn new() -> Sweeps {
        Sweeps { next: None, pause: FIRST_PAUSE, left_staged: false, failure: None }
    }

    /// Something was left staged: it need not wait.
    pub(crate) fn set_left_staged(&mut self) {
        self.left_staged = true;
    }

    /// Why the last sweep failed, if it did.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Until the next one is due; the first is once the volume is worked on.
    pub(crate) fn next_in(&self, now: Instant) -> Duration {
        self.next.map_or(SWEEP_EVERY, |next| next.saturating_duration_since(now))
    }

    fn decide_due(&self, now: Instant) -> Due {
        if self.next.is_none_or(|next| now >= next) {
            Due::All
        } else if self.left_staged && self.pause == FIRST_PAUSE {
            Due::Staged
        } else {
            Due::Nothing
        }
    }

    /// Sweeps what is due; `floor` is the volume's, or an older one. A failure is kept for whoever asks, and
    /// does not end the work. True when something up to the floor is still to be removed.
    pub(crate) async fn run(&mut self, claim: &Claim, floor: Revision) -> Work<bool> {
        let now = claim.volume().env.now();
        let due = self.decide_due(now);
        if due == Due::Nothing {
            return Ok(false);
        }
        // Each on its own: what one cannot do, the other may.
        let staged = sweep_staged(claim, floor).await;
        let unremoved = staged.as_ref().is_ok_and(|swept| swept.unremoved);
        let staged = failure_of(claim, staged).await?;
        let objects = match due {
            Due::All => failure_of(claim, sweep_objects(claim).await).await?,
            Due::Staged | Due::Nothing => None,
        };
        self.note(now, due, staged.or(objects), claim);
        Ok(unremoved)
    }

    fn note(&mut self, now: Instant, due: Due, failure: Option<Error>, claim: &Claim) {
        let volume = claim.volume().id();
        match &failure {
            None => tracing::debug!(%volume, ?due, "swept"),
            Some(error) => {
                tracing::warn!(%volume, %error, pause_s = self.pause.as_secs(), "what nobody names could not be swept; it will be tried again");
            }
        }
        self.reschedule(now, due, failure);
    }

    fn reschedule(&mut self, now: Instant, due: Due, failure: Option<Error>) {
        if failure.is_some() {
            self.next = Some(now + self.pause);
            self.pause = (self.pause * 2).min(SWEEP_EVERY);
        } else {
            self.left_staged = false;
            if due == Due::All {
                (self.next, self.pause) = (Some(now + SWEEP_EVERY), FIRST_PAUSE);
            }
        }
        self.failure = failure;
    }
}

/// Why a sweep failed, if it did; whatever ends the work altogether is an interrupt still.
async fn failure_of<T: std::fmt::Debug>(claim: &Claim, swept: Work<T>) -> Work<Option<Error>> {
    match swept {
        Ok(swept) => {
            tracing::debug!(volume = %claim.volume().id(), ?swept, "swept");
            Ok(None)
        }
        Err(Interrupt::Failed(error)) => match claim.explain(error).await {
            Interrupt::Failed(error) => Ok(Some(error)),
            interrupt => Err(interrupt),
        },
        Err(interrupt) => Err(interrupt),
    }
}

#[cfg(test)]
mod tests {
    use pagestore::ErrorKind;

    use super::*;

    fn failure() -> Option<Error> {
        Some(Error::new(ErrorKind::Unavailable, "no listing"))
    }

    #[tokio::test]
    async fn a_sweep_that_fails_is_tried_again_later_and_later() {
        let mut sweeps = Sweeps::new();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(sweeps.decide_due(now), Due::All);
            sweeps.reschedule(now, Due::All, failure());
            assert!(sweeps.take_failure().is_some());
            sweeps.set_left_staged();
            assert_eq!(sweeps.decide_due(now), Due::Nothing);
            pauses.push(sweeps.next_in(now).as_secs());
            now += sweeps.next_in(now);
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        sweeps.reschedule(now, Due::All, None);
        assert_eq!(sweeps.decide_due(now), Due::Nothing);
        assert_eq!(sweeps.next_in(now), SWEEP_EVERY);
        sweeps.set_left_staged();
        assert_eq!(sweeps.decide_due(now), Due::Staged);
        sweeps.reschedule(now, Due::Staged, None);
        assert_eq!(sweeps.decide_due(now), Due::Nothing);
    }
}
