//! When the meta tier's history is to be forgotten.

use std::time::Duration;

use tokio::time::Instant;

use pagestore::internal::types::Revision;

/// How long after a flush history before it is forgotten, so that watchers are not overtaken.
const SLACK: Duration = Duration::from_secs(5);

/// History that serves nobody any more since a flush. However often one follows another, none puts off
/// what is waiting: else the meta tier would keep all history for as long as writers are busy.
#[derive(Debug, Default)]
pub(super) struct History {
    /// What is forgotten next, and when.
    next: Option<(Instant, Revision)>,
    /// The newest flush since.
    later: Option<Revision>,
}

impl History {
    /// History before `revision` serves nobody from `now` on.
    pub(super) fn flushed(&mut self, now: Instant, revision: Revision) {
        match self.next {
            None => self.next = Some((now + SLACK, revision)),
            Some(_) => self.later = Some(revision),
        }
    }

    /// How long from `now` until something is to be forgotten.
    pub(super) fn due_in(&self, now: Instant) -> Option<Duration> {
        self.next.map(|(at, _)| at.saturating_duration_since(now))
    }

    /// The revision before which history is to be forgotten now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Revision> {
        let (_, revision) = self.next.take_if(|(at, _)| *at <= now)?;
        self.next = self.later.take().map(|later| (now + SLACK, later));
        Some(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_flushes_do_not_put_off_what_is_to_be_forgotten() {
        let (start, mut history) = (Instant::now(), History::default());
        let mut forgotten = Vec::new();
        for second in 0..20 {
            let now = start + Duration::from_secs(second);
            history.flushed(now, Revision(second));
            forgotten.extend(history.take_due(now).map(|revision| (second, revision.0)));
        }
        assert_eq!(forgotten, [(5, 0), (10, 5), (15, 10)]);
        assert_eq!(history.due_in(start + Duration::from_secs(19)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn once_all_is_forgotten_there_is_nothing_to_wait_for() {
        let (now, mut history) = (Instant::now(), History::default());
        history.flushed(now, Revision(3));
        assert_eq!(history.take_due(now), None);
        assert_eq!(history.take_due(now + SLACK), Some(Revision(3)));
        assert_eq!(history.due_in(now + SLACK), None);
    }
}
