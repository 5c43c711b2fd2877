//! A checker: reads whole snapshots of now and of the past, through next to no cache of pages, until it is told to
//! end, and notes what it saw.

use std::path::PathBuf;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use pagestore::{Error, PageNo, Revision, Snapshot, Store, StoreOptions, Volume};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::content::digest;
use super::journal::{self, Entry, Journal, Seen};
use super::tries::{Tries, stop_signal};

/// Pages read at once.
const READS: usize = 16;
/// Rounds between two openings of the volume.
const OPEN_EVERY: u64 = 40;

/// What a checker does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// The store.
    pub url: String,
    /// The volume.
    pub volume: String,
    /// Where its journal is, or will be, beside those of the writers.
    pub journal: PathBuf,
    /// Pause between two snapshots.
    pub pause_ms: u64,
    /// Whether it may lose what it holds: it is stopped for longer than its lease lives.
    pub may_expire: bool,
}

/// Runs a checker until it is told to end.
pub async fn run(work: Check) {
    let stop = stop_signal();
    let tries = Tries { may_expire: work.may_expire };
    let (mut journal, _) = Journal::open(&work.journal);
    let mut volume = None;
    let mut held: Option<Snapshot> = None;
    for round in 0u64.. {
        if *stop.borrow() {
            return;
        }
        if round.is_multiple_of(OPEN_EVERY) {
            held = None;
            volume = tries.go_on("open", || open(&work)).await;
        }
        let volume = volume.as_ref().expect("nothing is held yet");
        let after = journal::newest_acknowledged(&work.journal);
        if let Some((after, snapshot)) = choose(volume, tries, held.take(), after).await
            && let Some(seen) = see(&snapshot, tries, after).await
        {
            journal.add(&Entry::Seen(seen));
            held = Some(snapshot);
        }
        tokio::time::sleep(Duration::from_millis(work.pause_ms)).await;
    }
}

async fn open(work: &Check) -> Result<Volume, Error> {
    let options = StoreOptions { page_cache_bytes: 1, ..StoreOptions::default() };
    Store::open_with(&work.url, options).await?.open_volume(&work.volume).await
}

/// The newest snapshot, one of the past, or the one held; and what the newest must show.
async fn choose(
    volume: &Volume,
    tries: Tries,
    held: Option<Snapshot>,
    after: u64,
) -> Option<(u64, Snapshot)> {
    match (rand::rng().random_range(0..3), held) {
        (0, Some(held)) => Some((0, held)),
        (1, _) => {
            let state = tries.go_on("state", || std::future::ready(volume.state())).await?;
            let oldest = state.oldest.record.readable.max(state.created).0;
            let revision = Revision(rand::rng().random_range(oldest..=state.revision.0));
            // What is about to go may be gone by then.
            let tries = Tries { may_expire: true };
            let snapshot = tries.go_on("past", || volume.snapshot_at(revision)).await?;
            assert_eq!(snapshot.revision(), revision);
            Some((0, snapshot))
        }
        _ => Some((after, tries.go_on("snapshot", || volume.snapshot()).await?)),
    }
}

/// Reads all of a snapshot.
async fn see(snapshot: &Snapshot, tries: Tries, after: u64) -> Option<Seen> {
    let page_count = snapshot.page_count().0;
    let read = |page| async move {
        let content = tries.go_on("read", || snapshot.read(PageNo(page))).await?;
        Some((page, digest(&content)))
    };
    let reads = stream::iter(0..page_count).map(read).buffered(READS);
    let reads: Vec<Option<(u64, u64)>> = reads.collect().await;
    let reads = reads.into_iter().collect::<Option<Vec<_>>>()?;
    Some(Seen { after, revision: snapshot.revision().0, page_count, reads })
}
