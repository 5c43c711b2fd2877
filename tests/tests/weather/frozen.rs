//! A process is stopped while it holds a snapshot, and goes on later.

use std::path::Path;
use std::time::{Duration, Instant};

use pagestore::{Env, Keep, PageNo, Revision, Volume, VolumeOptions};
use pagestore_compactor::{Compactor, CompactorOptions, Effort};
use pagestore_tests::chaos::content::digest;
use pagestore_tests::harness::{Process, TestStore, wait_for};
use pagestore_tests::worker::{self, Hold, Role};

use super::{PATIENCE, WORKER, noise};

const PAGES: u64 = 40;
/// Looks at whether something has come, so often.
const TICK: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_process_stopped_beyond_its_lease_reads_what_was_or_hears_that_it_expired_embedded() {
    stopped(TestStore::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_stopped_beyond_its_lease_reads_what_was_or_hears_that_it_expired_on_servers() {
    stopped(TestStore::servers()).await;
}

async fn stopped(place: TestStore) {
    let options = VolumeOptions { keep: Keep::Nothing, ..VolumeOptions::default() };
    let volume = place.open().await.create_volume("v", options).await.unwrap();
    write(&volume, 0).await;
    let dir = tempfile::tempdir().unwrap();
    let mut short = Holder::start(&place, dir.path(), "short");
    let mut long = Holder::start(&place, dir.path(), "long");
    for holder in [&mut short, &mut long] {
        holder.process.stop();
    }
    write(&volume, 1).await;
    compact(&place, &volume).await;
    // Within its lease all is as it was.
    short.process.cont();
    let (pages, commit) = short.end();
    assert!(pages.iter().zip(0..).all(|(page, number)| *page == right(number)), "{pages:?}");
    assert_eq!(pages.len() as u64, PAGES);
    assert_eq!(commit, "conflict");

    // Until what the other one holds is gone.
    let (begun, mut round, mut head) = (Instant::now(), 1, Revision::ZERO);
    while volume.state().unwrap().oldest.record.readable <= long.held {
        assert!(begun.elapsed() < PATIENCE, "a stopped process holds its snapshot for ever");
        tokio::time::sleep(TICK).await;
        round += 1;
        head = write(&volume, round).await;
        compact(&place, &volume).await;
        volume.snapshot().await.unwrap();
    }
    long.process.cont();
    let (pages, commit) = long.end();
    let expired = pages.iter().filter(|page| *page == "expired").count();
    println!("{expired} of {} pages had expired", pages.len());
    for (page, number) in pages.iter().zip(0..) {
        assert!(*page == "expired" || *page == right(number), "page {number}: {page}");
    }
    assert!(expired > 0, "what was read is not there any more: {pages:?}");
    assert!(["conflict", "expired"].contains(&commit.as_str()), "{commit}");
    let snapshot = volume.snapshot().await.unwrap();
    assert!(volume.state().unwrap().head == head, "nobody else committed");
    for page in 0..PAGES {
        assert_eq!(snapshot.read(PageNo(page)).await.unwrap(), noise(round * PAGES + page));
    }
}

/// What the held snapshot shows.
fn right(page: u64) -> String {
    digest(&noise(page)).to_string()
}

async fn write(volume: &Volume, round: u64) -> Revision {
    let mut tx = volume.begin().await.unwrap();
    (0..PAGES).for_each(|page| tx.write(PageNo(page), noise(round * PAGES + page)).unwrap());
    tx.commit().await.unwrap().revision
}

async fn compact(place: &TestStore, volume: &Volume) {
    let tiers = worker::tiers(place.tiers().await, Env::system());
    let compactor = Compactor::new(tiers, CompactorOptions::default());
    compactor.compact(volume.id(), Effort::Thorough).await.unwrap();
}

struct Holder {
    process: Process,
    held: Revision,
    log: std::path::PathBuf,
    go: std::path::PathBuf,
}

impl Holder {
    fn start(place: &TestStore, dir: &Path, name: &str) -> Holder {
        let (log, go) = (dir.join(name), dir.join(format!("{name}.go")));
        let role = Role::Hold(Hold { url: place.url(), volume: "v".to_owned(), go: go.clone() });
        let mut process = worker::start(WORKER, &role, place, &log);
        let held = wait_for(PATIENCE, || {
            assert!(process.exit_status().is_none(), "{}", process.last_words());
            let text = std::fs::read_to_string(&log).unwrap();
            let line = text.split_inclusive('\n').find_map(|line| line.strip_prefix("held "))?;
            line.strip_suffix('\n')?.parse().ok()
        });
        let held = Revision(held.expect("it holds a snapshot"));
        // It uses what it holds as soon as it is let go on.
        Holder { process, held, log, go }
    }

    /// What it said of each page, and of its commit.
    fn end(&mut self) -> (Vec<String>, String) {
        std::fs::write(&self.go, "").unwrap();
        let status = self.process.wait(PATIENCE).expect("it comes to an end");
        assert!(status.success(), "{status}: {}", self.process.last_words());
        let text = std::fs::read_to_string(&self.log).unwrap();
        let said = |what: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(what));
            lines.map(|rest| rest.trim().to_owned()).collect()
        };
        let page = |said: String| said.split_once(' ').expect("a page and more").1.to_owned();
        let pages = said("page ").into_iter().map(page).collect();
        (pages, said("commit ").pop().expect("it tried to commit"))
    }
}
