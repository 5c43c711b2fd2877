//! Four writers and two compactors on one volume; one of each is killed over and over, and compactors
//! lose their claims in the midst of their work. Afterwards everything that was acknowledged is there,
//! nothing else is, and whatever anybody read was right.
//!
//! `PAGESTORE_CHAOS_COMMITS` makes the runs longer. On a cluster, in worse weather: `cluster`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pagestore::internal::connect::Tiers;
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::internal::meta::{KeyRange, RangeRequest};
use pagestore::internal::types::Keep;
use pagestore::{Env, PageCount, PageNo, PageSize, StoreOptions, Volume, VolumeOptions};
use pagestore_compactor::{Compactor, CompactorOptions, Effort};
use pagestore_tests::chaos::check::{Checked, Start, check};
use pagestore_tests::chaos::journal::{self, Entry};
use pagestore_tests::chaos::writer::Work;
use pagestore_tests::harness::{Process, Seed, TestStore, seed};
use pagestore_tests::worker::{self, Compact, Role};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tempfile::TempDir;

const WORKER: &str = env!("CARGO_BIN_EXE_pagestore-test-worker");
const VOLUME: &str = "v";
const WRITERS: u8 = 4;
const COMPACTORS: usize = 2;
/// Pages that the volume usually has.
const PAGES: u64 = 120;
/// Small, so that it is half full now and then.
const BUDGET: u64 = 600 << 10;
/// Far beyond what a run takes unless something hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// How soon the end of a process is noticed.
const TICK: Duration = Duration::from_millis(10);

/// What differs between runs.
#[derive(Clone, Copy)]
struct Plan {
    keep: Keep,
    /// Commits of all writers together.
    commits: usize,
    /// Longest pause of a writer between two transactions.
    pause_ms: u64,
    /// What the volume is at first: an image, else a few empty pages.
    image: Option<&'static str>,
}

const WITH_HISTORY: Plan = Plan { keep: Keep::Forever, commits: 2_000, pause_ms: 60, image: None };
/// Slower: what a killed process held is let go once its lease has run out.
const WITHOUT_HISTORY: Plan =
    Plan { keep: Keep::Nothing, commits: 800, pause_ms: 350, image: None };
/// Fewer commits: each of them is exported, all of it.
const A_REAL_DATABASE: Plan =
    Plan { keep: Keep::Forever, commits: 200, pause_ms: 60, image: Some(PROJ_DB) };
/// A SQLite database that others made.
const PROJ_DB: &str = "/usr/share/proj/proj.db";

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_with_history() {
    Run::new(TestStore::embedded(), WITH_HISTORY).await.go().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_and_s3_with_history() {
    Run::new(TestStore::servers(), WITH_HISTORY).await.go().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_without_history() {
    Run::new(TestStore::embedded(), WITHOUT_HISTORY).await.go().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_and_s3_without_history() {
    Run::new(TestStore::servers(), WITHOUT_HISTORY).await.go().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_database_on_an_embedded_store() {
    Run::new(TestStore::embedded(), A_REAL_DATABASE).await.go().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_database_on_etcd_and_s3() {
    Run::new(TestStore::servers(), A_REAL_DATABASE).await.go().await;
}

impl Plan {
    /// What the volume is at first.
    fn pages(self, page_bytes: usize) -> Vec<Bytes> {
        let Some(image) = self.image else {
            return vec![vec![0; page_bytes].into(); PAGES as usize];
        };
        let image = std::fs::read(image)
            .unwrap_or_else(|error| panic!("{image}: {error}; ./dev.sh setup installs it"));
        assert_eq!(image.len() % page_bytes, 0);
        image.chunks(page_bytes).map(Bytes::copy_from_slice).collect()
    }

    /// The plan, longer or shorter if the environment says so.
    fn as_wished(self) -> Plan {
        match std::env::var("PAGESTORE_CHAOS_COMMITS") {
            Ok(text) => Plan { commits: text.parse().expect("a number of commits"), ..self },
            Err(_) => self,
        }
    }
}

struct Run {
    plan: Plan,
    place: TestStore,
    dir: TempDir,
    seed: Seed,
    start: Start,
    kills: Kills,
}

/// What was done to whom.
#[derive(Debug, Default)]
struct Kills {
    writers: usize,
    compactors: usize,
    claims: usize,
}

/// When next.
struct Schedule {
    rng: SmallRng,
    writer: Instant,
    compactor: Instant,
    claim: Instant,
}

impl Schedule {
    fn after(&mut self, ms: std::ops::Range<u64>) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.random_range(ms))
    }
}

impl Run {
    async fn new(place: TestStore, plan: Plan) -> Run {
        let (plan, seed) = (plan.as_wished(), seed());
        let page_bytes = if plan.image.is_some() { 4096 } else { 1024 };
        let page_size = PageSize::new(page_bytes as u64).unwrap();
        let options = VolumeOptions { page_size, keep: plan.keep };
        let volume = place.open().await.create_volume(VOLUME, options).await.unwrap();
        let mut tx = volume.begin().await.unwrap();
        let pages = plan.pages(page_bytes);
        tx.truncate(PageCount(pages.len() as u64));
        if plan.image.is_some() {
            for (page, content) in (0..).zip(&pages) {
                tx.write(PageNo(page), content.clone()).unwrap();
            }
        }
        let committed = tx.commit().await.unwrap();
        let start = Start {
            seed: seed.0,
            commit: committed.commit.unwrap(),
            revision: committed.revision,
            pages,
        };
        let dir = tempfile::tempdir().unwrap();
        Run { plan, place, dir, seed, start, kills: Kills::default() }
    }

    async fn go(mut self) {
        let begun = Instant::now();
        let tiers = self.place.tiers().await;
        let volume = self.place.open().await.open_volume(VOLUME).await.unwrap();
        self.wreak_havoc(&tiers, &volume).await;
        let wrought = begun.elapsed();
        drop(volume);

        let checked = self.check(1).await;
        assert!(checked.commits >= self.plan.commits, "{checked:?}");
        if self.plan.keep == Keep::Nothing {
            assert!(checked.exports < checked.commits, "nothing was let go: {checked:?}");
        }
        self.compact(tiers).await;
        // Once more, from files alone.
        self.check(10).await;
        println!(
            "{checked:?}, {:?}; {wrought:?} of havoc, {:?} in all",
            self.kills,
            begun.elapsed()
        );
    }

    async fn wreak_havoc(&mut self, tiers: &Tiers, volume: &Volume) {
        let now = Instant::now();
        let mut next = Schedule { rng: self.seed.rng(), writer: now, compactor: now, claim: now };
        let mut writers: Vec<_> =
            (1..=WRITERS).map(|writer| Some(self.start_writer(writer))).collect();
        let mut compactors: Vec<_> = (0..COMPACTORS).map(|i| self.start_compactor(i)).collect();
        while writers.iter().any(Option::is_some) {
            assert!(now.elapsed() < PATIENCE, "the writers do not come to an end");
            for writer in &mut writers {
                if writer.as_mut().and_then(succeeded).is_some() {
                    *writer = None;
                }
            }
            for compactor in &mut compactors {
                assert_eq!(succeeded(compactor), None, "nobody told it to end");
            }
            if next.writer <= Instant::now()
                && let Some(process) = writers[0].as_mut()
            {
                process.kill9();
                writers[0] = Some(self.start_writer(1));
                self.kills.writers += 1;
                next.writer = next.after(300..1_500);
            }
            if next.compactor <= Instant::now() {
                compactors[0].kill9();
                // As if its lease had run out at once; nothing's safety rests on when it does.
                self.kills.claims += usize::from(end_claim(tiers, volume).await);
                compactors[0] = self.start_compactor(0);
                self.kills.compactors += 1;
                next.compactor = next.after(500..2_500);
            }
            if next.claim <= Instant::now() {
                self.kills.claims += usize::from(end_claim(tiers, volume).await);
                next.claim = next.after(500..3_000);
            }
            tokio::time::sleep(TICK).await;
        }
        for mut compactor in compactors {
            compactor.terminate();
            let status = compactor.wait(PATIENCE).expect("it ends when told to");
            assert!(status.success(), "{status}: {}", compactor.last_words());
        }
    }

    fn journal(&self, writer: u8) -> PathBuf {
        self.dir.path().join(format!("writer-{writer}"))
    }

    fn start_writer(&self, writer: u8) -> Process {
        let work = Work {
            url: self.place.url(),
            volume: VOLUME.to_owned(),
            journal: self.journal(writer),
            writer,
            seed: self.seed.0,
            commits: self.plan.commits.div_ceil(WRITERS.into()),
            pages: self.start.pages.len() as u64,
            pause_ms: self.plan.pause_ms,
            staged_budget_bytes: BUDGET,
            meta_quota_bytes: StoreOptions::default().meta_quota_bytes,
            may_expire: false,
        };
        let log = self.dir.path().join(format!("log-writer-{writer}"));
        worker::start(WORKER, &Role::Write(work), &self.place, &log)
    }

    fn start_compactor(&self, index: usize) -> Process {
        let work = Compact {
            url: self.place.url(),
            flush_bytes: 48 << 10,
            flush_versions: 150,
            flush_age: Duration::from_secs(1),
        };
        let log = self.dir.path().join(format!("log-compactor-{index}"));
        worker::start(WORKER, &Role::Compact(work), &self.place, &log)
    }

    /// Holds everything against the model, as a process that was not there would see it.
    async fn check(&self, sample: usize) -> Checked {
        let store = self.place.open().await;
        let report = pagestore::inspect::verify(&store, VOLUME, None, &|_| {}).await.unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
        let journals: Vec<Vec<Entry>> =
            (1..=WRITERS).map(|writer| journal::read(&self.journal(writer))).collect();
        let volume = store.open_volume(VOLUME).await.unwrap();
        check(&volume, &self.start, &journals, sample).await
    }

    async fn compact(&self, tiers: Tiers) {
        let volume = self.place.open().await.open_volume(VOLUME).await.unwrap();
        let tiers = worker::tiers(tiers, Env::system());
        let compactor = Compactor::new(tiers, CompactorOptions::default());
        compactor.compact(volume.id(), Effort::Thorough).await.unwrap();
        let state = volume.state().unwrap();
        assert_eq!(state.unflushed().count(), 0);
        assert!(state.levels.depth() > 1, "merges happened");
    }
}

/// `Some` when it has ended well.
fn succeeded(process: &mut Process) -> Option<()> {
    let status = process.exit_status()?;
    assert!(status.success(), "{status}: {}", process.last_words());
    Some(())
}

/// Ends the lease of whoever has the claim on the volume; true if somebody had it.
async fn end_claim(tiers: &Tiers, volume: &Volume) -> bool {
    let keys = StoreKeys::new(tiers.root.clone()).volume(volume.id());
    let claim = KeyRange::key(keys.claim());
    let found = tiers.meta.range(RangeRequest::new(claim)).await.unwrap();
    match found.kvs.first() {
        Some(claim) => tiers.meta.lease_revoke(claim.lease).await.is_ok(),
        None => false,
    }
}
