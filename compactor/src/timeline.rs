//! Reads when commits were made, from the changelog and from files.

use std::sync::Arc;

use pagestore::internal::file::{CommitBlockHandle, FileEntry};
use pagestore::internal::mirror::VolumeState;
use pagestore::internal::types::Revision;

use crate::execute::bodies::OpenFiles;
use crate::interrupt::Work;
use crate::plan::oldest::decide_settled;
use crate::volume::Volume;

/// The newest commit that is settled at `cutoff_ms` (see [`decide_settled`]). Of blocks of commits that
/// lie on one side of the cutoff only their ends are looked at.
pub(crate) async fn read_settled(
    volume: &Volume,
    state: &VolumeState,
    open: &OpenFiles,
    cutoff_ms: u64,
) -> Work<Revision> {
    let unflushed = state.unflushed().map(|((revision, id), _)| (*revision, id.made_ms()));
    let mut commits: Vec<(Revision, u64)> = unflushed.collect();
    for entry in state.levels.files().filter(|entry| entry.commit_count > 0) {
        if entry.newest_commit_ms <= cutoff_ms {
            commits.push((entry.newest, entry.newest_commit_ms));
        } else {
            read_file(volume, open, entry, cutoff_ms, &mut commits).await?;
        }
    }
    Ok(decide_settled(commits.iter().copied(), cutoff_ms, volume.env.wall_ms()))
}

async fn read_file(
    volume: &Volume,
    open: &OpenFiles,
    entry: &Arc<FileEntry>,
    cutoff_ms: u64,
    commits: &mut Vec<(Revision, u64)>,
) -> Work<()> {
    let file = open.open(volume, entry).await?;
    for handle in file.tail().commit_blocks() {
        if lies_across(handle, cutoff_ms) {
            let block = file.commit_block(handle).await?;
            commits.extend(block.iter().map(|record| (record.revision, record.commit.made_ms())));
        } else {
            commits.push((handle.first, handle.min_id.made_ms()));
            commits.push((handle.last, handle.max_id.made_ms()));
        }
    }
    Ok(())
}

fn lies_across(handle: &CommitBlockHandle, cutoff_ms: u64) -> bool {
    handle.min_id.made_ms() <= cutoff_ms && cutoff_ms < handle.max_id.made_ms()
}
