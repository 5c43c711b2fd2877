//! The log: which commits there were, newest first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Inspector;
use super::objects::Objects;
use crate::error::Result;
pub use crate::file::CommitKind;
use crate::file::{CommitBlockHandle, CommitRecord, FileEntry, FileTail};
use crate::mirror::VolumeState;
use crate::types::{CommitId, PageCount, Revision};

/// One commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its revision; the commits of one batch share it.
    pub revision: Revision,
    /// Its id.
    pub commit: CommitId,
    /// Milliseconds since the Unix epoch at which its writer began to commit, by the writer's clock.
    pub made_ms: u64,
    /// The revision of the snapshot that it was validated against.
    pub base: Revision,
    /// Pages that it wrote.
    pub written_count: u64,
    /// How its pages reached the store.
    pub kind: CommitKind,
    /// Pages of the volume at its revision; `None` when that is no longer kept.
    pub page_count: Option<PageCount>,
    /// True when what it wrote is in files.
    pub flushed: bool,
    /// True when a snapshot of its revision can be opened.
    pub readable: bool,
}

type Commits = BTreeMap<(Revision, CommitId), CommitRecord>;

impl Inspector {
    /// The newest commits, newest first, at most `limit` of them. The log goes back at least as far as
    /// old revisions are readable.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn log(&self, limit: usize) -> Result<Vec<CommitInfo>> {
        self.look(|state| self.try_log(state, limit, Revision::ZERO)).await
    }

    /// All commits after `revision`, oldest first.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn log_after(&self, revision: Revision) -> Result<Vec<CommitInfo>> {
        let mut commits = self.look(|state| self.try_log(state, usize::MAX, revision)).await?;
        commits.reverse();
        Ok(commits)
    }

    async fn try_log(
        &self,
        state: Arc<VolumeState>,
        limit: usize,
        after: Revision,
    ) -> Result<Vec<CommitInfo>> {
        let mut commits = in_changelog(&state, after);
        let known =
            commits.range((state.changelog_from.next(), CommitId::from_bytes([0; 16]))..).count();
        if known < limit && after < state.changelog_from {
            self.add_flushed(&state, limit, after, &mut commits).await?;
        }
        let newest: Vec<CommitRecord> = commits.into_values().rev().take(limit).collect();
        let sizes = self
            .sizes(&state, newest.last().map_or(Revision::MAX, |record| record.revision))
            .await?;
        Ok(newest.into_iter().map(|record| info(&state, &sizes, &record)).collect())
    }

    /// Adds commits from files, newest first, until nothing that is left can be among the newest.
    async fn add_flushed(
        &self,
        state: &VolumeState,
        limit: usize,
        after: Revision,
        commits: &mut Commits,
    ) -> Result<()> {
        let tails = self.tails(state, |entry| entry.commit_count > 0).await?;
        let mut blocks: Vec<(&FileEntry, &FileTail, &CommitBlockHandle)> = Vec::new();
        for (entry, tail) in &tails {
            blocks.extend(tail.commit_blocks().iter().map(|block| (entry.as_ref(), tail, block)));
        }
        blocks.retain(|(_, _, block)| block.last > after);
        blocks.sort_by_key(|(_, _, block)| std::cmp::Reverse(block.last));
        for (entry, tail, block) in blocks {
            let last_shown = limit.checked_sub(1).and_then(|last| commits.keys().rev().nth(last));
            if last_shown.is_some_and(|(revision, _)| *revision > block.last) {
                break;
            }
            let records = Objects::of(&self.core).commits(entry, tail, block).await?;
            let newer = records.into_iter().filter(|record| record.revision > after);
            commits.extend(newer.map(|record| ((record.revision, record.commit), record)));
        }
        Ok(())
    }

    /// The page counts from `oldest` on: each holds from its revision up to the next.
    async fn sizes(
        &self,
        state: &VolumeState,
        oldest: Revision,
    ) -> Result<BTreeMap<Revision, PageCount>> {
        let mut sizes = BTreeMap::from([(state.page_count_modified, state.page_count)]);
        for ((revision, _), commit) in &state.changelog {
            sizes.extend(commit.size.map(|size| (*revision, size.last)));
        }
        if sizes.range(..=oldest).next().is_none() && oldest < Revision::MAX {
            for (_, tail) in self.tails(state, |entry| entry.size_change_count > 0).await? {
                sizes.extend(tail.sizes().iter().map(|size| (size.revision, size.last)));
            }
        }
        Ok(sizes)
    }

    /// The tails of the listed files that `choose` picks.
    pub(super) async fn tails(
        &self,
        state: &VolumeState,
        choose: impl Fn(&FileEntry) -> bool,
    ) -> Result<Vec<(Arc<FileEntry>, FileTail)>> {
        use futures::{StreamExt, TryStreamExt, stream};

        let chosen: Vec<Arc<FileEntry>> =
            state.levels.files().filter(|entry| choose(entry)).cloned().collect();
        let objects = Objects::of(&self.core);
        stream::iter(chosen)
            .map(|entry| async move {
                let tail = objects.tail(&entry).await?;
                Ok((entry, tail))
            })
            .buffered(super::CONCURRENCY)
            .try_collect()
            .await
    }

    /// The commits of each of these revisions, by the files' commit records.
    pub(super) async fn commits_at(
        &self,
        state: &VolumeState,
        revisions: &BTreeSet<Revision>,
    ) -> Result<BTreeMap<Revision, BTreeSet<CommitId>>> {
        let mut found: BTreeMap<Revision, BTreeSet<CommitId>> = BTreeMap::new();
        let (Some(oldest), Some(newest)) = (revisions.first(), revisions.last()) else {
            return Ok(found);
        };
        for ((revision, id), _) in
            state.changelog.iter().filter(|((revision, _), _)| revisions.contains(revision))
        {
            found.entry(*revision).or_default().insert(*id);
        }
        let tails = self.tails(state, |entry| entry.commit_count > 0).await?;
        for (entry, tail) in &tails {
            let blocks = tail.commit_blocks().iter();
            for block in blocks.filter(|block| block.first <= *newest && *oldest <= block.last) {
                if revisions.range(block.first..=block.last).next().is_none() {
                    continue;
                }
                for record in Objects::of(&self.core).commits(entry, tail, block).await? {
                    if revisions.contains(&record.revision) {
                        found.entry(record.revision).or_default().insert(record.commit);
                    }
                }
            }
        }
        Ok(found)
    }
}

fn in_changelog(state: &VolumeState, after: Revision) -> Commits {
    let records = state.since(after).map(|((revision, id), commit)| CommitRecord {
        revision: *revision,
        commit: *id,
        base: commit.base,
        written_count: commit.written_count(),
        kind: if commit.files.is_empty() { CommitKind::Staged } else { CommitKind::Bulk },
    });
    records.map(|record| ((record.revision, record.commit), record)).collect()
}

fn info(
    state: &VolumeState,
    sizes: &BTreeMap<Revision, PageCount>,
    record: &CommitRecord,
) -> CommitInfo {
    let readable = state.is_readable(record.revision);
    let last_change = sizes.range(..=record.revision).next_back();
    CommitInfo {
        revision: record.revision,
        commit: record.commit,
        made_ms: record.commit.made_ms(),
        base: record.base,
        written_count: record.written_count,
        kind: record.kind,
        // Files remember the counts that readable revisions show, and none in between.
        page_count: last_change.filter(|_| readable).map(|(_, count)| *count),
        flushed: record.kind == CommitKind::Bulk || record.revision <= state.floor.up_to,
        readable,
    }
}
