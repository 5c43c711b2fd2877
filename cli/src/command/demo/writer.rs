//! Writers of the demo: tasks that commit random changes, here and in other processes.

use std::process::Stdio;

use bytes::Bytes;
use pagestore::{Committed, ErrorKind, PageNo, Transaction, Volume};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::args::DemoWriterArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Bytes that one change overwrites.
pub(super) const PATCH_BYTES: usize = 100;
/// Most pages that one commit changes.
const MAX_PATCHES: u64 = 6;
/// Times that one commit is tried before the demo gives up on it.
const MAX_TRIES: u64 = 1000;

/// What writers are to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Commits of each task.
    pub(super) commits: u64,
    /// Tasks.
    pub(super) tasks: u64,
    /// Where the random choices begin.
    pub(super) seed: u64,
}

/// A change of a few bytes of one page. The bytes follow from the seed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Patch {
    pub(super) page: u64,
    pub(super) offset: usize,
    pub(super) seed: u64,
}

/// A commit that was acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) revision: u64,
    pub(super) patches: Vec<Patch>,
    /// Times that another writer was first.
    pub(super) conflicts: u64,
}

impl Patch {
    /// The bytes to put at the offset.
    pub(super) fn bytes(&self) -> [u8; PATCH_BYTES] {
        let mut random = Random(self.seed);
        std::array::from_fn(|_| random.next().to_le_bytes()[0])
    }

    /// `content` with the change.
    pub(super) fn apply(&self, content: &[u8]) -> Bytes {
        let mut content = content.to_vec();
        let place = content.get_mut(self.offset..self.offset + PATCH_BYTES);
        place.expect("BUG: a patch lies within its page").copy_from_slice(&self.bytes());
        content.into()
    }
}

/// splitmix64: one seed gives one demo.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// The hidden subcommand: makes commits and prints each as a line of JSON.
pub(crate) async fn run(context: &mut Context, args: DemoWriterArgs) -> Outcome {
    let volume = context.open_volume(&args.name).await?;
    let work = Work { commits: args.commits, tasks: args.tasks, seed: args.seed };
    for written in here(&volume, work).await? {
        context.out.json(&written)?;
    }
    Ok(())
}

/// Runs the tasks in this process.
pub(super) async fn here(volume: &Volume, work: Work) -> Outcome<Vec<Written>> {
    let mut random = Random(work.seed);
    let mut tasks = JoinSet::new();
    for _ in 0..work.tasks {
        let (volume, commits, seed) = (volume.clone(), work.commits, random.next());
        tasks.spawn(async move { write(&volume, commits, Random(seed)).await });
    }
    let mut written = Vec::new();
    while let Some(task) = tasks.join_next().await {
        let task = task
            .map_err(|error| Failure::refused(format!("a writer of the demo failed: {error}")))?;
        written.extend(task?);
    }
    Ok(written)
}

/// Runs the tasks in a process of their own.
pub(super) async fn elsewhere(url: String, name: String, work: Work) -> Outcome<Vec<Written>> {
    let failed =
        |error: &std::io::Error| Failure::io("cannot run another process of the demo", error);
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut child = Command::new(program)
        .env("PAGESTORE_STORE", url)
        .args(["demo-writer", &name])
        .args(["--commits", &work.commits.to_string()])
        .args(["--tasks", &work.tasks.to_string()])
        .args(["--seed", &work.seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error))?;
    let stdout = child.stdout.take().expect("BUG: stdout was asked for");
    let mut lines = BufReader::new(stdout).lines();
    let mut written = Vec::new();
    while let Some(line) = lines.next_line().await.map_err(|error| failed(&error))? {
        let line = serde_json::from_str(&line);
        written.push(line.map_err(|error| {
            Failure::refused(format!("a process of the demo said nonsense: {error}"))
        })?);
    }
    let status = child.wait().await.map_err(|error| failed(&error))?;
    if status.success() {
        Ok(written)
    } else {
        Err(Failure::refused(format!("a process of the demo failed: {status}")))
    }
}

async fn write(volume: &Volume, commits: u64, mut random: Random) -> Outcome<Vec<Written>> {
    let mut written = Vec::new();
    for _ in 0..commits {
        let page_count = volume.page_count_stale()?.0;
        let patches = choose(&mut random, page_count, volume.page_size().bytes());
        let mut conflicts = 0;
        let committed = loop {
            match commit(volume, &patches).await {
                Ok(committed) => break committed,
                Err(error) if error.kind() == ErrorKind::Conflict && conflicts < MAX_TRIES => {
                    conflicts += 1
                }
                Err(error) => return Err(error.into()),
            }
        };
        written.push(Written { revision: committed.revision.0, patches, conflicts });
    }
    Ok(written)
}

/// Changes of a few different pages.
fn choose(random: &mut Random, page_count: u64, page_bytes: usize) -> Vec<Patch> {
    let room = page_bytes.saturating_sub(PATCH_BYTES) as u64;
    let mut patches: Vec<Patch> = (0..=random.below(MAX_PATCHES))
        .map(|_| {
            let offset = usize::try_from(random.below(room)).unwrap_or(0);
            Patch { page: random.below(page_count), offset, seed: random.next() }
        })
        .collect();
    patches.sort_by_key(|patch| patch.page);
    patches.dedup_by_key(|patch| patch.page);
    patches
}

async fn commit(volume: &Volume, patches: &[Patch]) -> pagestore::Result<Committed> {
    let mut transaction: Transaction = volume.begin().await?;
    for patch in patches {
        let content = transaction.read(PageNo(patch.page)).await?;
        transaction.write(PageNo(patch.page), patch.apply(&content))?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_lie_within_their_pages_each_page_once() {
        let mut random = Random(1);
        for _ in 0..1000 {
            let patches = choose(&mut random, 4, 512);
            assert!(!patches.is_empty() && patches.iter().all(|patch| patch.page < 4));
            assert!(patches.windows(2).all(|pair| pair[0].page < pair[1].page));
            patches.iter().for_each(|patch| assert_eq!(patch.apply(&[0; 512]).len(), 512));
        }
    }
}
