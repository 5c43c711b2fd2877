//! etcd stays small, whether a compactor keeps up or there is none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagestore::internal::connect::Tiers;
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::internal::meta::{KeyRange, MetaError, RangeRequest};
use pagestore::internal::mirror;
use pagestore::{Env, ErrorKind, PageCount, PageNo, StoreOptions, Volume, VolumeId, VolumeOptions};
use pagestore_compactor::{Compactor, CompactorOptions};
use pagestore_tests::harness::{Seed, TestStore, seed};
use pagestore_tests::worker;
use rand::RngExt as _;

use super::{MIB, PATIENCE};

const PAGE_BYTES: usize = 4096;
/// Bytes that the volume may have staged.
const BUDGET: u64 = 4 * MIB;
/// Writers, each with a store of its own as a process has, on pages of its own.
const WRITERS: u64 = 4;
const PAGES_EACH: u64 = 500;
/// Pages of a commit, of noise: less than what goes to a file when the budget is half used.
const PAGES_A_COMMIT: u64 = 6;
/// What commits that are under way at the same time add when all of them still found room.
const UNDER_WAY: u64 = WRITERS * PAGES_A_COMMIT * (PAGE_BYTES as u64 + 100);
/// Written in all, at least: many times the budget.
const COMMITS_EACH: u64 = 10 * BUDGET / (WRITERS * PAGES_A_COMMIT * PAGE_BYTES as u64);
/// So many times etcd's history is forgotten while the writers are busy.
const FORGOTTEN: u64 = 3;
/// What etcd's database has in use for what is staged, once history is forgotten.
const USED: u64 = 4 * BUDGET;

#[tokio::test(flavor = "multi_thread")]
async fn etcd_holds_no_more_than_the_budget_however_much_is_written() {
    let run = Run::new().await;
    let options = CompactorOptions { flush_bytes: BUDGET / 3, ..CompactorOptions::default() };
    let tiers = worker::tiers(run.place.tiers().await, Env::system());
    let compactor = Compactor::new(tiers.clone(), options.clone()).start();
    let sampler = run.sample();
    let (forgotten, begun) = (sampler.forgotten.clone(), Instant::now());
    let enough = move |commits| {
        assert!(begun.elapsed() < PATIENCE, "history is never forgotten");
        commits >= COMMITS_EACH && forgotten.load(Ordering::SeqCst) >= FORGOTTEN
    };
    let written = run.write(0, Until::Told(Arc::new(enough))).await;
    let most = sampler.end().await;
    println!("with a compactor: {most:?}");
    most.check();
    assert!(most.flushes > 5, "{most:?}");
    // What is left of history goes too.
    let begun = Instant::now();
    loop {
        let used = run.tiers.meta.status().await.unwrap().used_bytes;
        if used < USED {
            println!("{used} bytes of etcd are in use in the end");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{used} bytes of etcd are in use");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    compactor.stop().await;
    run.check(&written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_compactor_writers_are_told_to_wait_and_etcd_holds_no_more_than_the_budget() {
    let run = Run::new().await;
    let sampler = run.sample();
    let refused = Arc::new(AtomicU64::new(0));
    let mut written = run.write(0, Until::Refused(refused.clone())).await;
    let most = sampler.end().await;
    println!("without a compactor: {most:?}");
    most.check();
    assert_eq!(most.flushes, 0);
    assert!(most.unflushed * 4 > BUDGET * 3, "it was nearly used up: {most:?}");
    assert_eq!(refused.load(Ordering::SeqCst), WRITERS, "all were told in the end");
    run.check(&written).await;

    // With a compactor they go on.
    let options = CompactorOptions { flush_bytes: BUDGET / 3, ..CompactorOptions::default() };
    let tiers = worker::tiers(run.place.tiers().await, Env::system());
    let compactor = Compactor::new(tiers, options).start();
    written.extend(run.write(COMMITS_EACH, Until::Told(Arc::new(|commits| commits >= 20))).await);
    compactor.stop().await;
    run.check(&written).await;
}

struct Run {
    place: TestStore,
    tiers: Tiers,
    volume: VolumeId,
    seed: Seed,
}

/// Which commit wrote a page last, of those that were acknowledged.
type Written = BTreeMap<u64, u64>;

/// When a writer ends.
#[derive(Clone)]
enum Until {
    /// When it is said to, after so many commits; told to wait, it tries again.
    Told(Arc<dyn Fn(u64) -> bool + Send + Sync>),
    /// When it is told to wait; it counts itself there.
    Refused(Arc<AtomicU64>),
}

impl Run {
    async fn new() -> Run {
        let place = TestStore::servers();
        let volume = place.open().await.create_volume("v", VolumeOptions::default()).await.unwrap();
        let mut tx = volume.begin().await.unwrap();
        tx.truncate(PageCount(WRITERS * PAGES_EACH));
        tx.commit().await.unwrap();
        let tiers = place.tiers().await;
        Run { tiers, volume: volume.id(), seed: seed(), place }
    }

    /// Commits of all writers at once, numbered from `first`.
    async fn write(&self, first: u64, until: Until) -> Written {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let options = StoreOptions { staged_budget_bytes: BUDGET, ..StoreOptions::default() };
            let store = self.place.open_with(options).await;
            let volume = store.open_volume("v").await.unwrap();
            let work = Writer { volume, writer, seed: self.seed, until: until.clone() };
            writers.push(tokio::spawn(work.run(first)));
        }
        let mut written = Written::new();
        for writer in writers {
            written.extend(writer.await.unwrap());
        }
        written
    }

    async fn check(&self, written: &Written) {
        let store = self.place.open().await;
        let snapshot = store.open_volume("v").await.unwrap().snapshot().await.unwrap();
        for (page, commit) in written {
            let content = snapshot.read(PageNo(*page)).await.unwrap();
            assert_eq!(content, noise(self.seed, *page, *commit), "page {page}");
        }
        let report = pagestore::inspect::verify(&store, "v", None, &|_| {}).await.unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
    }
}

struct Writer {
    volume: Volume,
    writer: u64,
    seed: Seed,
    until: Until,
}

impl Writer {
    async fn run(self, first: u64) -> Written {
        let mut rng = Seed(self.seed.0 ^ (self.writer + 1) << 32 ^ first).rng();
        let mut written = Written::new();
        for commit in first.. {
            if let Until::Told(ends) = &self.until
                && ends(commit - first)
            {
                break;
            }
            let mut pages = Written::new();
            while (pages.len() as u64) < PAGES_A_COMMIT {
                let page = self.writer * PAGES_EACH + rng.random_range(0..PAGES_EACH);
                pages.insert(page, commit);
            }
            let begun = Instant::now();
            while !self.commit(&pages).await {
                if let Until::Refused(refused) = &self.until {
                    refused.fetch_add(1, Ordering::SeqCst);
                    return written;
                }
                assert!(begun.elapsed() < PATIENCE, "there is never room again");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            written.extend(pages);
        }
        written
    }

    /// False when it was told to wait.
    async fn commit(&self, pages: &Written) -> bool {
        let mut tx = self.volume.begin().await.unwrap();
        for (page, commit) in pages {
            tx.write(PageNo(*page), noise(self.seed, *page, *commit)).unwrap();
        }
        match tx.commit().await {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::Backpressure => {
                assert!(error.to_string().contains("compactor"), "{error}");
                false
            }
            Err(error) => panic!("{:?}: {error}", error.kind()),
        }
    }
}

fn noise(seed: Seed, page: u64, commit: u64) -> Vec<u8> {
    let mut content = vec![0; PAGE_BYTES];
    Seed(seed.0 ^ page << 40 ^ commit).rng().fill(&mut content[..]);
    content
}

/// The most that was seen.
#[derive(Debug, Default)]
struct Most {
    /// Bytes staged and not flushed yet.
    unflushed: u64,
    /// Bytes staged, also those that are flushed and not removed yet.
    staged: u64,
    /// Bytes in use in etcd's database, with its history.
    used: u64,
    /// Size of its file.
    size: u64,
    /// Times that the floor moved.
    flushes: u64,
    /// Times that etcd forgot its history.
    forgotten: u64,
}

impl Most {
    fn check(&self) {
        assert!(self.unflushed <= BUDGET + UNDER_WAY, "{self:?}");
        // While what was flushed is removed, as much again may come.
        assert!(self.staged <= 2 * (BUDGET + UNDER_WAY), "{self:?}");
        // With the history of some seconds, what commits leave of etcd's own quota.
        assert!(self.size <= StoreOptions::default().meta_quota_bytes / 5 * 4, "{self:?}");
    }
}

struct Sampler {
    end: Arc<AtomicBool>,
    forgotten: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Most>,
}

impl Run {
    /// Looks into etcd again and again.
    fn sample(&self) -> Sampler {
        let end = Arc::new(AtomicBool::new(false));
        let (tiers, keys) = (self.tiers.clone(), StoreKeys::new(self.tiers.root.clone()));
        let (keys, ended) = (keys.volume(self.volume), end.clone());
        let forgotten = Arc::new(AtomicU64::new(0));
        let forgets = forgotten.clone();
        let task = tokio::spawn(async move {
            let (mut most, mut floor) = (Most::default(), None);
            let mut remembered = None;
            while !ended.load(Ordering::SeqCst) {
                let state = mirror::load(tiers.meta.as_ref(), &keys).await.unwrap();
                let staged =
                    mirror::scan(tiers.meta.as_ref(), &keys.all_staged(), None).await.unwrap();
                let status = tiers.meta.status().await.unwrap();
                let staged = staged.kvs.iter().map(|kv| kv.value.len() as u64).sum();
                most.unflushed = most.unflushed.max(state.staged_bytes);
                most.staged = most.staged.max(staged);
                most.used = most.used.max(status.used_bytes);
                most.size = most.size.max(status.size_bytes);
                most.flushes += u64::from(floor.is_some_and(|floor| floor != state.floor.up_to));
                floor = Some(state.floor.up_to);
                let then = *remembered.get_or_insert(state.revision);
                let past = RangeRequest::new(KeyRange::key("none")).at(then);
                if let Err(MetaError::Compacted { .. }) = tiers.meta.range(past).await {
                    remembered = None;
                    most.forgotten = forgets.fetch_add(1, Ordering::SeqCst) + 1;
                }
            }
            most
        });
        Sampler { end, forgotten, task }
    }
}

impl Sampler {
    async fn end(self) -> Most {
        self.end.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}
