use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Bytes staged in the meta tier for one volume, at most, unless configured otherwise. A flush frees
/// them; etcd's default quota is four times as much.
pub(crate) const DEFAULT_STAGED_BUDGET: u64 = 512 << 20;
/// What the meta tier may hold in all, unless configured otherwise: etcd's default quota.
pub(crate) const DEFAULT_META_QUOTA: u64 = 2 << 30;

/// Commits of at least so many bytes take the bulk path when the budget is half used.
const BULK_BYTES_WHEN_HALF: u64 = 32 << 10;
/// The longest pause of a commit when the budget is nearly used.
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// From so many thousandths on, commits pause: the longer, the closer to the end it is.
const PAUSE_FILL: u32 = 750;
/// Files of level 0 that cover one page, from which on no commit adds another. A read looks into all of
/// them, and so does a flush for what deltas are against. Merges begin at 4.
const MAX_LEVEL_0_OVERLAP: usize = 64;

/// How full the meta tier is, and how full it may get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Bytes staged by the volume and not yet flushed.
    pub(super) staged: u64,
    /// Most of these.
    pub(super) staged_max: u64,
    /// Bytes in use in the meta tier, as last heard.
    pub(super) used: u64,
    /// The meta tier's quota.
    pub(super) quota: u64,
}

/// How a commit may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Staged in the meta tier, after a pause (usually none).
    Staged(Duration),
    /// As a file.
    Bulk,
}

impl Budget {
    /// How a commit that would stage `bytes` may go.
    ///
    /// # Errors
    /// `Backpressure` when there is no room: what is left is kept for the compactor.
    pub(super) fn admit(&self, bytes: u64) -> Result<Way> {
        // In thousandths; the meta tier is full for us at four fifths of its quota.
        let staged =
            (self.staged.saturating_add(bytes)).saturating_mul(1000) / self.staged_max.max(1);
        let used = self.used.saturating_mul(1250) / self.quota.max(1);
        let fill = staged.max(used);
        if fill >= 500 && bytes >= BULK_BYTES_WHEN_HALF {
            return Ok(Way::Bulk);
        }
        pause_at(fill).map(Way::Staged).ok_or_else(|| {
            Error::new(
                ErrorKind::Backpressure,
                format!(
                    "the meta tier has no room for commits until the compactor flushes; is one running? \
                     ({} of {} bytes staged by the volume, {} of {} bytes of the quota used)",
                    self.staged, self.staged_max, self.used, self.quota
                ),
            )
        })
    }
}

/// How long a commit that adds files has to pause before, when so many of level 0 cover one page.
///
/// # Errors
/// `Backpressure` when there are too many.
pub(super) fn admit_files(level_0_overlap: usize) -> Result<Duration> {
    pause_at(level_0_overlap as u64 * 1000 / MAX_LEVEL_0_OVERLAP as u64).ok_or_else(|| {
        Error::new(
            ErrorKind::Backpressure,
            format!(
                "{level_0_overlap} files of level 0 cover one page, and a commit of this size would add another; \
                 it has to wait until the compactor merges; is one running?"
            ),
        )
    })
}

/// The pause at so many thousandths of what there may be; nothing when that is reached.
fn pause_at(fill: u64) -> Option<Duration> {
    match u32::try_from(fill).unwrap_or(u32::MAX) {
        0..PAUSE_FILL => Some(Duration::ZERO),
        fill @ PAUSE_FILL..1000 => Some(MAX_PAUSE * (fill - PAUSE_FILL) / (1000 - PAUSE_FILL)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(staged: u64, used: u64) -> Budget {
        Budget { staged, staged_max: 1000 << 10, used, quota: 1000 << 10 }
    }

    #[test]
    fn large_commits_give_way_first_then_small_ones_slow_down_then_stop() {
        let kib = 1 << 10;
        assert_eq!(budget(0, 0).admit(100 * kib).unwrap(), Way::Staged(Duration::ZERO));
        assert_eq!(budget(490 * kib, 0).admit(32 * kib).unwrap(), Way::Bulk);
        assert_eq!(budget(490 * kib, 0).admit(kib).unwrap(), Way::Staged(Duration::ZERO));
        assert_eq!(budget(874 * kib, 0).admit(kib).unwrap(), Way::Staged(MAX_PAUSE / 2));
        let error = budget(1000 * kib, 0).admit(kib).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backpressure);
    }

    #[test]
    fn files_pile_up_only_so_high() {
        assert_eq!(admit_files(0).unwrap(), Duration::ZERO);
        assert_eq!(admit_files(47).unwrap(), Duration::ZERO);
        assert_eq!(admit_files(56).unwrap(), MAX_PAUSE / 2);
        assert_eq!(admit_files(64).unwrap_err().kind(), ErrorKind::Backpressure);
    }

    #[test]
    fn the_quota_of_the_meta_tier_counts_too() {
        let kib = 1 << 10;
        assert_eq!(budget(0, 400 * kib).admit(32 * kib).unwrap(), Way::Bulk);
        assert_eq!(budget(0, 800 * kib).admit(kib).unwrap_err().kind(), ErrorKind::Backpressure);
    }
}
