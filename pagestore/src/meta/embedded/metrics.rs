//! Counters of the embedded store, and the warning about a slow disk.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::fault::unpoisoned;

/// A commit over this is slow: some hundred times what a healthy local disk takes.
const SLOW_COMMIT: Duration = Duration::from_millis(50);
/// At most one warning in this time; those between are counted.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What the embedded store has done since this process opened it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedMetrics {
    /// Commits, each with one sync of the disk for all its requests.
    pub commits: u64,
    /// Requests that went into them.
    pub requests: u64,
    /// Time spent in writing and syncing, over all commits.
    pub commit_time: Duration,
    /// The slowest commit.
    pub slowest_commit: Duration,
    /// Commits that took over 50 ms.
    pub slow_commits: u64,
    /// Commits that failed.
    pub failed_commits: u64,
}

#[derive(Debug, Default)]
pub(super) struct Meter {
    commits: AtomicU64,
    requests: AtomicU64,
    commit_us: AtomicU64,
    slowest_us: AtomicU64,
    slow: AtomicU64,
    failed: AtomicU64,
    warned: Mutex<Option<(Instant, u64)>>,
}

impl Meter {
    pub(super) fn read(&self) -> EmbeddedMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EmbeddedMetrics {
            commits: get(&self.commits),
            requests: get(&self.requests),
            commit_time: Duration::from_micros(get(&self.commit_us)),
            slowest_commit: Duration::from_micros(get(&self.slowest_us)),
            slow_commits: get(&self.slow),
            failed_commits: get(&self.failed),
        }
    }

    pub(super) fn count_requests(&self, requests: usize) {
        self.requests.fetch_add(requests as u64, Ordering::Relaxed);
    }

    pub(super) fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A commit was begun at `begun` and is done at `now`.
    pub(super) fn count_commit(&self, begun: Instant, now: Instant) {
        let took = now.saturating_duration_since(begun);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.commit_us.fetch_add(us, Ordering::Relaxed);
        self.slowest_us.fetch_max(us, Ordering::Relaxed);
        if took < SLOW_COMMIT {
            return;
        }
        let slow = self.slow.fetch_add(1, Ordering::Relaxed) + 1;
        let mut warned = unpoisoned(self.warned.lock());
        if warned.is_none_or(|(at, _)| now.saturating_duration_since(at) >= WARN_EVERY) {
            let before = warned.map_or(0, |(_, slow)| slow);
            *warned = Some((now, slow));
            tracing::warn!(
                took_ms = took.as_millis(),
                slow_since_last_warning = slow - before,
                "embedded store: slow sync of a commit; is the disk overloaded?"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_commits_are_counted_and_warned_of_now_and_then() {
        let meter = Meter::default();
        let start = Instant::now();
        meter.count_commit(start, start + Duration::from_millis(1));
        assert_eq!(meter.read().slow_commits, 0);
        for _ in 0..3 {
            meter.count_commit(start, start + SLOW_COMMIT);
        }
        let read = meter.read();
        assert_eq!((read.commits, read.slow_commits), (4, 3));
        assert_eq!(read.slowest_commit, SLOW_COMMIT);
        assert_eq!(read.commit_time, Duration::from_millis(151));
        let last_warning = || unpoisoned(meter.warned.lock()).map(|(_, slow)| slow);
        assert_eq!(last_warning(), Some(1));
        meter.count_commit(start, start + WARN_EVERY + SLOW_COMMIT);
        assert_eq!(last_warning(), Some(4));
    }
}
