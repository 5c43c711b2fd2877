//! How far the oldest readable revision may be raised. Pure.
//!
//! Times are those in commit ids, by their makers' clocks: they decide how long something is kept that
//! nobody holds, never whether something held is kept.

use std::time::Duration;

use pagestore::internal::meta::records::Oldest;
use pagestore::internal::types::{Keep, Revision};

/// How long commits are remembered at least, whatever the retention: for that long the outcome of a
/// commit can be asked for.
pub const LOG_KEEP: Duration = Duration::from_secs(24 * 3600);

/// What it is decided on.
#[derive(Clone, Copy, Debug)]
pub struct Holders {
    /// How long superseded versions stay readable.
    pub keep: Keep,
    /// The oldest revision that a session holds.
    pub oldest_pin: Revision,
    /// The newest commit.
    pub head: Revision,
    /// The newest commit before which all were made longer ago than `keep` says, if it says a time.
    pub settled: Revision,
    /// The newest commit before which all were made longer than [`LOG_KEEP`] ago.
    pub log_settled: Revision,
}

/// The oldest that may be put; `current` when nothing can be raised.
#[must_use]
pub fn decide_oldest(current: Oldest, holders: &Holders) -> Oldest {
    let kept = match holders.keep {
        Keep::Nothing => holders.head,
        Keep::For(_) => holders.settled,
        Keep::Forever => Revision::ZERO,
    };
    let readable = kept.min(holders.head).min(holders.oldest_pin).max(current.readable);
    let mut log_from = holders.log_settled.min(readable).max(current.log_from);
    if planted!(LogForgotten) {
        log_from = readable;
    }
    Oldest { readable, log_from }
}

/// The newest of `commits` (revision, time made in milliseconds) such that it and all before it were
/// made up to `cutoff_ms`: whatever it superseded was superseded by then. A commit from the future says
/// nothing.
#[must_use]
pub fn decide_settled(
    commits: impl Iterator<Item = (Revision, u64)> + Clone,
    cutoff_ms: u64,
    now_ms: u64,
) -> Revision {
    let recent = commits.clone().filter(|(_, made)| (cutoff_ms + 1..=now_ms).contains(made));
    let first_recent = recent.map(|(revision, _)| revision).min().unwrap_or(Revision::MAX);
    let settled = commits.filter(|(revision, made)| *made <= cutoff_ms && *revision < first_recent);
    settled.map(|(revision, _)| revision).max().unwrap_or(Revision::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(commits: &[(u64, u64)]) -> u64 {
        let commits = commits.iter().map(|(revision, made)| (Revision(*revision), *made));
        decide_settled(commits, 1000, 2000).0
    }

    #[test]
    fn settled_is_the_last_commit_before_the_first_recent_one() {
        assert_eq!(settled(&[]), 0);
        assert_eq!(settled(&[(5, 900), (7, 1000), (9, 1001)]), 7);
        assert_eq!(settled(&[(9, 1500)]), 0);
    }

    #[test]
    fn wrong_clocks_keep_longer_but_not_for_ever() {
        assert_eq!(settled(&[(5, 900), (6, 1500), (7, 800)]), 5, "a clock that is behind");
        assert_eq!(settled(&[(5, 900), (6, 9999), (7, 950)]), 7, "a clock that is far ahead");
    }

    fn holders(keep: Keep) -> Holders {
        Holders {
            keep,
            oldest_pin: Revision::MAX,
            head: Revision(100),
            settled: Revision(60),
            log_settled: Revision(40),
        }
    }

    fn oldest(readable: u64, log_from: u64) -> Oldest {
        Oldest { readable: Revision(readable), log_from: Revision(log_from) }
    }

    #[test]
    fn retention_says_how_far() {
        let from = oldest(10, 5);
        assert_eq!(decide_oldest(from, &holders(Keep::Nothing)), oldest(100, 40));
        assert_eq!(decide_oldest(from, &holders(Keep::DEFAULT)), oldest(60, 40));
        assert_eq!(decide_oldest(from, &holders(Keep::Forever)), oldest(10, 10));
    }

    #[test]
    fn pins_hold_it_back_and_it_never_sinks() {
        let pinned = Holders { oldest_pin: Revision(30), ..holders(Keep::Nothing) };
        assert_eq!(decide_oldest(oldest(10, 5), &pinned), oldest(30, 30));
        assert_eq!(decide_oldest(oldest(50, 45), &pinned), oldest(50, 45));
    }
}
