//! etcd and the S3 server are killed in the midst of work, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagestore::{
    CommitToken, Committed, Env, ErrorKind, PageCount, PageNo, Resolution, Result, Volume,
};
use pagestore_compactor::{Compactor, CompactorOptions};
use pagestore_tests::harness::{TestStore, seed};
use pagestore_tests::worker;
use rand::RngExt as _;

use super::{PATIENCE, in_time, noise, pages};

const WRITERS: u64 = 3;
/// Pages of each writer.
const PAGES: u64 = 400;
/// One commit in so many writes all of them, as a file.
const LARGE_EVERY: u64 = 8;
/// Commits that are acknowledged from one kill to the next, at least.
const BETWEEN: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_when_etcd_was_killed() {
    let run = Run::start(TestStore::servers()).await;
    run.go(8, |place| place.etcd().unwrap().kill9(), |place| place.etcd().unwrap().restart()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_when_the_s3_server_was_killed() {
    let run = Run::start(TestStore::gateway()).await;
    let kill = |place: &mut TestStore| place.gateway_server().unwrap().kill9();
    run.go(3, kill, |place| place.gateway_server().unwrap().restart()).await;
}

struct Run {
    place: TestStore,
    acknowledged: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    writers: Vec<tokio::task::JoinHandle<Vec<u64>>>,
}

impl Run {
    async fn start(place: TestStore) -> Run {
        let volume = pages(&place, 1).await;
        let mut tx = volume.begin().await.unwrap();
        tx.truncate(PageCount(WRITERS * PAGES));
        tx.commit().await.unwrap();
        let (acknowledged, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let volume = place.open().await.open_volume("v").await.unwrap();
            let work =
                Writer { volume, writer, acknowledged: acknowledged.clone(), end: end.clone() };
            writers.push(tokio::spawn(work.run()));
        }
        Run { place, acknowledged, end, writers }
    }

    /// Kills and restarts so many times, then holds everything against what the writers were told.
    async fn go(mut self, times: u64, kill: fn(&mut TestStore), restart: fn(&mut TestStore)) {
        let mut rng = seed().rng();
        let tiers = worker::tiers(self.place.tiers().await, Env::system());
        let options = CompactorOptions { flush_versions: 50, ..CompactorOptions::default() };
        let compactor = Compactor::new(tiers, options).start();
        for _ in 0..times {
            self.wait_for(BETWEEN).await;
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
            tokio::task::block_in_place(|| kill(&mut self.place));
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..1_000))).await;
            tokio::task::block_in_place(|| restart(&mut self.place));
        }
        self.wait_for(BETWEEN).await;
        self.end.store(true, Ordering::SeqCst);
        let mut expected = Vec::new();
        for writer in self.writers {
            expected.extend(in_time(writer).await.unwrap());
        }
        compactor.stop().await;
        let store = self.place.open().await;
        let snapshot = store.open_volume("v").await.unwrap().snapshot().await.unwrap();
        for (page, number) in (0..).zip(expected) {
            let content = snapshot.read(PageNo(page)).await.unwrap();
            assert_eq!(content, content_of(page, number), "page {page}");
        }
        let report = pagestore::inspect::verify(&store, "v", None, &|_| {}).await.unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
    }

    /// Waits for so many more commits.
    async fn wait_for(&self, more: u64) {
        let (begun, until) = (Instant::now(), self.acknowledged.load(Ordering::SeqCst) + more);
        while self.acknowledged.load(Ordering::SeqCst) < until {
            assert!(begun.elapsed() < PATIENCE, "nothing is committed any more");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What the commit `number` of its writer writes to `page`; zeros before the first.
fn content_of(page: u64, number: u64) -> bytes::Bytes {
    match (page, number) {
        (0, 0) => noise(0),
        (_, 0) => vec![0; super::PAGE_BYTES].into(),
        _ => noise(page << 32 | number),
    }
}

/// Writes its own pages alone, and knows for certain what each of them shows.
struct Writer {
    volume: Volume,
    writer: u64,
    acknowledged: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
}

impl Writer {
    /// Gives the number of the commit that wrote each of its pages last.
    async fn run(self) -> Vec<u64> {
        let mut last = vec![0; PAGES as usize];
        for number in 1.. {
            if self.end.load(Ordering::SeqCst) {
                break;
            }
            let few = number * 7 % PAGES..number * 7 % PAGES + 1;
            let range = if number % LARGE_EVERY == 0 { 0..PAGES } else { few };
            // A read, so that files and staged pages are read while servers come and go.
            let committed = match self.commit(range.clone(), number, &last).await {
                Ok(_) => true,
                Err(error) => match (error.kind(), error.commit_token()) {
                    (ErrorKind::Unknown, Some(token)) => self.happened(token).await,
                    (ErrorKind::Unavailable | ErrorKind::Backpressure, _) => false,
                    (kind, _) => panic!("{kind:?}: {error}"),
                },
            };
            if committed {
                range.for_each(|page| last[page as usize] = number);
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        last
    }

    async fn commit(
        &self,
        range: std::ops::Range<u64>,
        number: u64,
        last: &[u64],
    ) -> Result<Committed> {
        let mut tx = in_time(self.volume.begin()).await?;
        let looked = number * 13 % PAGES;
        let page = self.writer * PAGES + looked;
        let content = in_time(tx.read(PageNo(page))).await?;
        assert_eq!(content, content_of(page, last[looked as usize]), "page {page}");
        for page in range {
            let page = self.writer * PAGES + page;
            tx.write(PageNo(page), content_of(page, number))?;
        }
        in_time(tx.commit()).await
    }

    async fn happened(&self, token: CommitToken) -> bool {
        let begun = Instant::now();
        loop {
            match in_time(self.volume.resolve(token)).await {
                Ok(Resolution::Committed(_)) => return true,
                Ok(Resolution::Aborted) => return false,
                Ok(Resolution::Forgotten) => panic!("it was of this minute"),
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
        }
    }
}
