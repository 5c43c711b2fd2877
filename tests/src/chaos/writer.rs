//! A writer: random transactions until enough are acknowledged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pagestore::internal::connect;
use pagestore::{
    Committed, Error, ErrorKind, PageCount, PageNo, Resolution, Snapshot, Store, StoreOptions,
    Transaction, Volume,
};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use super::content::{Content, digest};
use super::journal::{self, Entry, Intent, Journal, Outcome, Seen};
use super::tries::{PATIENCE, PAUSE, Tries, stop_signal};
use super::{Tag, Tagging};
use crate::harness::Seed;

/// Snapshots that a writer keeps open while it goes on.
const HELD: usize = 2;
/// Pages of a commit that surely becomes a file.
const LARGE_PAGES: u64 = 2_100;

/// What a writer does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    /// The store.
    pub url: String,
    /// The volume.
    pub volume: String,
    /// Where its journal is, or will be.
    pub journal: PathBuf,
    /// Which writer it is, from 1.
    pub writer: u8,
    /// The run's seed.
    pub seed: u64,
    /// It ends after so many acknowledged commits.
    pub commits: usize,
    /// Pages that the volume usually has.
    pub pages: u64,
    /// Longest pause between two transactions.
    pub pause_ms: u64,
    /// Bytes that the volume may have staged.
    pub staged_budget_bytes: u64,
    /// The meta tier's quota.
    pub meta_quota_bytes: u64,
    /// Whether it may lose what it holds: it is stopped for longer than its lease lives.
    pub may_expire: bool,
}

/// Runs a writer to its end, or until it is told to end.
pub async fn run(work: Work) {
    let stop = stop_signal();
    let tagging = Tagging::new(work.writer);
    let (journal, entries) = Journal::open(&work.journal);
    let mut acknowledged = 0;
    let mut number = 0;
    for entry in &entries {
        match entry {
            Entry::Intent(intent) => number = intent.number,
            Entry::Outcome { outcome: Outcome::Committed { .. }, .. } => acknowledged += 1,
            Entry::Outcome { .. } | Entry::Seen(_) => {}
        }
    }
    let tries = Tries { may_expire: work.may_expire };
    let volume = tries.go_on("open", || open(&work, tagging)).await.expect("nothing is held yet");
    let mut writer = Writer { work, volume, journal, held: Vec::new(), tagging, tries };
    while acknowledged < writer.work.commits && !*stop.borrow() {
        number += 1;
        let mut rng = writer.rng(number);
        let pause = rng.random_range(0..=writer.work.pause_ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if rng.random_range(0..4) == 0 {
            writer.look(&mut rng).await;
        }
        if let Some(Outcome::Committed { .. }) = writer.commit(number, &mut rng).await {
            acknowledged += 1;
        }
    }
}

async fn open(work: &Work, tagging: &'static Tagging) -> Result<Volume, Error> {
    let env = tagging.env();
    let tiers = connect::connect(&work.url, &env).await?;
    let options = StoreOptions {
        staged_budget_bytes: work.staged_budget_bytes,
        meta_quota_bytes: work.meta_quota_bytes,
        ..StoreOptions::default()
    };
    Store::over(tiers, options, env).await?.open_volume(&work.volume).await
}

struct Writer {
    work: Work,
    volume: Volume,
    journal: Journal,
    held: Vec<Snapshot>,
    tagging: &'static Tagging,
    tries: Tries,
}

impl Writer {
    fn rng(&self, number: u32) -> SmallRng {
        Seed(self.work.seed ^ u64::from(self.work.writer) << 32 ^ u64::from(number)).rng()
    }

    /// Reads a few pages of a new snapshot, or of one held for a while, and notes them; of one that has
    /// expired, nothing.
    async fn look(&mut self, rng: &mut SmallRng) -> Option<()> {
        let (volume, tries) = (&self.volume, self.tries);
        let mut after = 0;
        let chosen = rng.random_range(0..3);
        let snapshot = if chosen == 0 && !self.held.is_empty() {
            self.held.swap_remove(rng.random_range(0..self.held.len()))
        } else if chosen == 1 {
            tries.go_on("stale snapshot", || volume.snapshot_stale()).await?
        } else {
            after = journal::newest_acknowledged(&self.work.journal);
            tries.go_on("snapshot", || volume.snapshot()).await?
        };
        let page_count = snapshot.page_count().0;
        let mut reads = Vec::new();
        for _ in 0..rng.random_range(1..6) {
            let page = rng.random_range(0..page_count);
            let content = tries.go_on("read", || snapshot.read(PageNo(page))).await?;
            reads.push((page, digest(&content)));
        }
        let revision = snapshot.revision().0;
        self.journal.add(&Entry::Seen(Seen { after, revision, page_count, reads }));
        self.held.push(snapshot);
        if self.held.len() > HELD {
            self.held.swap_remove(rng.random_range(0..self.held.len()));
        }
        Some(())
    }

    /// Makes a transaction and commits it; `None` when what it reads had expired.
    async fn commit(&mut self, number: u32, rng: &mut SmallRng) -> Option<Outcome> {
        let volume = &self.volume;
        let after = journal::newest_acknowledged(&self.work.journal);
        let snapshot = self.tries.go_on("snapshot", || volume.snapshot()).await?;
        let page_count = snapshot.page_count().0;
        let mut transaction = volume.begin_on(snapshot);
        let filled = self.fill(number, &mut transaction, page_count, rng).await?;
        self.journal.add(&Entry::Intent(Intent { after, ..filled }));
        self.tagging.number.store(number, Ordering::SeqCst);
        let outcome = match transaction.commit().await {
            Ok(committed) => happened(&committed),
            Err(error) => self.ask(error).await,
        };
        self.journal.add(&Entry::Outcome { number, outcome: outcome.clone() });
        if let Outcome::Committed { revision, .. } = &outcome {
            journal::acknowledge(&self.work.journal, *revision);
        }
        Some(outcome)
    }

    /// What became of a commit that ended with `error`.
    async fn ask(&self, error: Error) -> Outcome {
        match error.kind() {
            ErrorKind::Unknown => {}
            ErrorKind::Backpressure => {
                tokio::time::sleep(PAUSE).await;
                return Outcome::Failed("backpressure".to_owned());
            }
            ErrorKind::Conflict => return Outcome::Failed("conflict".to_owned()),
            ErrorKind::Unavailable => return Outcome::Failed(error.to_string()),
            ErrorKind::Expired if self.tries.may_expire => {
                return Outcome::Failed(error.to_string());
            }
            kind => panic!("commit: {kind:?}: {error}"),
        }
        let token = error.commit_token().expect("an unknown outcome has a token");
        let begun = Instant::now();
        loop {
            match self.volume.resolve(token).await {
                Ok(Resolution::Committed(revision)) => {
                    let commit = Some(token.commit);
                    return happened(&Committed { revision, commit });
                }
                Ok(Resolution::Aborted) => return Outcome::Failed("aborted".to_owned()),
                Ok(Resolution::Forgotten) => panic!("a commit of this minute is forgotten"),
                Err(error) if begun.elapsed() < PATIENCE => {
                    eprintln!("resolve: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => panic!("resolve: {error}"),
            }
        }
    }

    /// Reads and writes at random.
    async fn fill(
        &self,
        number: u32,
        tx: &mut Transaction,
        page_count: u64,
        rng: &mut SmallRng,
    ) -> Option<Intent> {
        let mut reads = Vec::new();
        for _ in 0..rng.random_range(0..4) {
            let page = rng.random_range(0..page_count);
            reads.push((page, digest(&self.read(tx, page).await?)));
        }
        let asks_count = rng.random_range(0..20) == 0;
        if asks_count {
            assert_eq!(tx.page_count().0, page_count);
        }
        let is_long = page_count > 2 * self.work.pages;
        let truncates = rng.random_range(0..if is_long { 3 } else { 30 }) == 0;
        let truncate =
            truncates.then(|| rng.random_range(self.work.pages / 2..self.work.pages * 5 / 4));
        if let Some(count) = truncate {
            tx.truncate(PageCount(count));
        }
        let mut writes = self.choose(truncate.unwrap_or(page_count), rng);
        let tag = Tag { writer: self.work.writer, number };
        let zeros = vec![0; self.volume.page_size().bytes()];
        let there = page_count.min(truncate.unwrap_or(page_count));
        for (page, content) in &mut writes {
            let mut before = zeros.clone().into();
            if *content == Content::Patch && *page < there {
                before = self.read(tx, *page).await?;
                reads.push((*page, digest(&before)));
            } else if *content == Content::Patch {
                *content = Content::Change;
            }
            let bytes = content.bytes(self.work.seed, tag, *page, &before);
            tx.write(PageNo(*page), bytes).unwrap();
        }
        let base = tx.revision().0;
        let writes = writes.into_iter().collect();
        let after = 0;
        Some(Intent { number, after, base, page_count, asks_count, reads, truncate, writes })
    }

    /// The content of a page, which the transaction depends on from here on.
    async fn read(&self, tx: &mut Transaction, page: u64) -> Option<Bytes> {
        let begun = Instant::now();
        loop {
            match tx.read(PageNo(page)).await {
                Ok(content) => return Some(content),
                Err(error) => self.tries.after("read", begun, error).await?,
            }
        }
    }

    /// Which pages to write, at least one of them with a content that nobody else writes.
    fn choose(&self, page_count: u64, rng: &mut SmallRng) -> BTreeMap<u64, Content> {
        let any = |rng: &mut SmallRng| match rng.random_range(0..10) {
            0 => Content::Noise,
            1 => Content::Zeros,
            _ => Content::Change,
        };
        let mut writes = BTreeMap::new();
        match rng.random_range(0..200) {
            0 => {
                let first = rng.random_range(0..page_count);
                writes.extend((first..first + LARGE_PAGES).map(|page| (page, any(rng))));
            }
            1..10 => {
                // Too much for a meta tier that is half full.
                let first = rng.random_range(0..page_count);
                let count = rng.random_range(36..60);
                writes.extend((first..first + count).map(|page| (page, Content::Noise)));
            }
            _ => {
                for _ in 0..rng.random_range(1..8) {
                    // Now and then beyond the end.
                    let page = rng.random_range(0..page_count + page_count / 50 + 1);
                    let patches = rng.random_range(0..3) == 0;
                    writes.insert(page, if patches { Content::Patch } else { any(rng) });
                }
            }
        }
        let first = *writes.keys().next().expect("it writes something");
        if writes[&first] == Content::Zeros {
            writes.insert(first, Content::Change);
        }
        writes
    }
}

fn happened(committed: &Committed) -> Outcome {
    let commit = committed.commit.expect("something was written").to_string();
    Outcome::Committed { revision: committed.revision.0, commit }
}
