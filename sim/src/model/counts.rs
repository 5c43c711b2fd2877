//! What was done, counted.

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commits that happened.
    pub commits: u64,
    /// Of these, commits as files.
    pub bulk_commits: u64,
    /// Pages read.
    pub reads: u64,
    /// Snapshots opened.
    pub snapshots: u64,
    /// Transactions that conflicted.
    pub conflicts: u64,
    /// Outcomes that were unknown at first.
    pub unknown: u64,
    /// Transactions that failed otherwise.
    pub failed: u64,
    /// Files published.
    pub files: u64,
    /// Objects deleted.
    pub deletions: u64,
}

impl Counts {
    /// Operations of clients.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.commits + self.reads + self.snapshots + self.conflicts + self.failed
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Counts) -> Counts {
        let (mut sum, other) = (self.to_array(), other.to_array());
        sum.iter_mut().zip(other).for_each(|(sum, more)| *sum += more);
        Counts::from_array(sum)
    }

    /// As numbers.
    #[must_use]
    pub fn to_array(self) -> [u64; 9] {
        [
            self.commits,
            self.bulk_commits,
            self.reads,
            self.snapshots,
            self.conflicts,
            self.unknown,
            self.failed,
            self.files,
            self.deletions,
        ]
    }

    /// What [`Counts::to_array`] gave.
    #[must_use]
    pub fn from_array(numbers: [u64; 9]) -> Counts {
        let [commits, bulk_commits, reads, snapshots, conflicts, unknown, failed, files, deletions] =
            numbers;
        Counts {
            commits,
            bulk_commits,
            reads,
            snapshots,
            conflicts,
            unknown,
            failed,
            files,
            deletions,
        }
    }
}
