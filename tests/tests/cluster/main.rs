//! Four writers, two compactors and a checker on three etcds and Ceph's gateway, in the worst weather that
//! can be had on one machine.
//!
//! Each process has proxies of its own in front of each server. At random, and all at once: processes,
//! etcds (their leader too) and the gateway are killed or stand still; connections are cut, slow, silent,
//! half closed, lose answers; etcd reaches its quota of 16 MiB; its history goes under everybody's feet;
//! claims end in mid-work. Then all is well again, and what was acknowledged, read, or can be read is held
//! against the model.
//!
//! `./dev.sh chaos` runs both tests for long. `PAGESTORE_CHAOS_COMMITS` and `PAGESTORE_CHAOS_KILLS` say how
//! long. What a run that fails leaves behind (journals, what every process and server printed) stays where
//! the run says.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod actors;
mod servers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pagestore::internal::connect::Tiers;
use pagestore::{Env, Keep, PageCount, PageSize, Store, StoreOptions, VolumeOptions};
use pagestore_compactor::{Compactor, CompactorOptions, Effort};
use pagestore_tests::chaos::check::{Checked, Start, check};
use pagestore_tests::chaos::journal;
use pagestore_tests::harness::{EtcdCluster, RgwServer, S3, Seed, seed};
use pagestore_tests::worker;

use actors::Troupe;
use servers::Servers;

const VOLUME: &str = "v";
/// Root in etcd, and prefix in the bucket.
const ROOT: &str = "test";
const WRITERS: u8 = 4;
const COMPACTORS: usize = 2;
/// Pages that the volume usually has.
const PAGES: u64 = 120;
const PAGE_BYTES: usize = 1024;
/// etcd's, which is reached now and then.
const QUOTA: u64 = 16 << 20;
/// Staged bytes of the volume; half full now and then.
const BUDGET: u64 = 600 << 10;
/// Far beyond what anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(180);

/// What differs between runs.
#[derive(Clone, Copy, Debug)]
struct Plan {
    keep: Keep,
    /// Acknowledged commits of all writers together, at least.
    commits: u64,
    /// Processes, etcds and gateways killed, at least.
    kills: u64,
    /// How many times longer than usual it is between two blows.
    calm: u32,
    /// A run that has not come so far by then hangs.
    limit: Duration,
}

/// Of the usual run; a longer one has as many commits from one kill to the next as it wants.
const COMMITS: u64 = 300;
const KILLS: u64 = 10;

impl Plan {
    /// The plan of every run of the tests, or what the environment wants.
    fn new(keep: Keep) -> Plan {
        let number = |name: &str, usual| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
            Err(_) => usual,
        };
        let commits = number("PAGESTORE_CHAOS_COMMITS", COMMITS);
        let kills = number("PAGESTORE_CHAOS_KILLS", KILLS);
        let calm = (commits / kills.max(1) * KILLS / COMMITS).max(1) as u32;
        let limit = PATIENCE + Duration::from_millis(400) * commits as u32;
        Plan { keep, commits, kills, calm, limit }
    }

    /// Whether what a process holds can be lost while it stands still.
    fn may_expire(self) -> bool {
        self.keep != Keep::Forever
    }
}

/// Superseded versions go while others read them.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cluster_in_bad_weather_keeps_every_promise() {
    Run::new(Plan::new(Keep::For(Duration::from_secs(5)))).await.go().await;
}

/// Every revision is there to be held against the model.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "takes long; ./dev.sh chaos runs it"]
async fn a_cluster_in_bad_weather_keeps_every_promise_and_every_revision() {
    Run::new(Plan::new(Keep::Forever)).await.go().await;
}

/// What was done, and how often.
#[derive(Debug, Default)]
struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    fn count(&self, what: &'static str) {
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }

    /// Whether it was done at all.
    fn has(&self, what: &str) -> bool {
        self.0.lock().unwrap().contains_key(what)
    }

    /// How often somebody was killed.
    fn kills(&self) -> u64 {
        let tally = self.0.lock().unwrap();
        tally.iter().filter(|(what, _)| what.starts_with("killed")).map(|(_, count)| count).sum()
    }
}

/// Copies what servers printed to where it stays, when a test fails.
#[derive(Clone, Debug)]
struct KeptLogs {
    logs: Vec<(PathBuf, &'static str)>,
    dir: PathBuf,
}

impl Drop for KeptLogs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (log, name) in &self.logs {
                // One that has been copied is gone.
                let _ = std::fs::copy(log, self.dir.join(name));
            }
            eprintln!("journals, and what everybody printed: {}", self.dir.display());
        }
    }
}

/// Where a process finds the store.
#[derive(Clone, Debug)]
struct Way {
    etcd: Vec<SocketAddr>,
    s3: S3,
}

impl Way {
    fn url(&self) -> String {
        let nodes: Vec<String> = self.etcd.iter().map(ToString::to_string).collect();
        format!("etcd://{}/{ROOT}?blobs={}", nodes.join(","), self.s3.url(ROOT))
    }

    /// The two tiers.
    async fn tiers(&self) -> pagestore::Result<Tiers> {
        // A test has no variables of its own for the S3 server, as a process has.
        let unused = tempfile::tempdir().unwrap();
        let url = self.url();
        let (etcd, _) = url.rsplit_once("blobs=").expect("it names its blobs");
        let url = format!("{etcd}blobs=file://{}", unused.path().display());
        let tiers = pagestore::internal::connect::connect(&url, &Env::system()).await?;
        Ok(Tiers { blobs: self.s3.blobs(ROOT), ..tiers })
    }

    async fn open(&self) -> Store {
        let tiers = self.tiers().await.unwrap();
        let options = StoreOptions { meta_quota_bytes: QUOTA, ..StoreOptions::default() };
        Store::over(tiers, options, Env::system()).await.unwrap()
    }
}

struct Run {
    _logs: KeptLogs,
    plan: Plan,
    seed: Seed,
    /// Journals, and what everybody printed.
    dir: PathBuf,
    servers: Servers,
    /// Straight to the servers.
    way: Way,
    tally: Arc<Tally>,
    start: Start,
}

impl Run {
    async fn new(plan: Plan) -> Run {
        let seed = seed();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", seed.0));
        // Of an earlier run of this seed.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let flag = format!("--quota-backend-bytes={QUOTA}");
        let etcd = EtcdCluster::start_with::<3>(&[&flag]);
        let gateway = RgwServer::start_durable();
        let names = ["log-etcd-0", "log-etcd-1", "log-etcd-2"];
        let mut logs: Vec<_> = etcd.nodes.iter().map(|node| node.log()).zip(names).collect();
        logs.push((gateway.log(), "log-gateway"));
        let logs = KeptLogs { logs, dir: dir.clone() };
        let nodes = etcd.nodes.iter().map(|node| node.address()).collect();
        let way = Way { etcd: nodes, s3: gateway.s3().clone() };
        let tally = Arc::new(Tally::default());
        let servers = Servers::new(logs.clone(), (etcd, gateway), plan, seed, tally.clone());
        let start = begin(&way, plan, seed).await;
        Run { _logs: logs, plan, seed, dir, servers, way, tally, start }
    }

    async fn go(self) {
        let Run { _logs, plan, seed, dir, servers, way, tally, start } = self;
        let begun = Instant::now();
        let over = Arc::new(AtomicBool::new(false));
        let mut troupe = Troupe::start(&dir, &way, plan, seed, tally.clone());
        let servers = tokio::spawn(servers.rage(over.clone()));
        let (mut heard, mut listened) = (Heard::default(), begun);
        let enough = |heard: &Heard, troupe: &Troupe| {
            let all = troupe.has_done_all() && tally.has(servers::ROUND);
            all && heard.commits >= plan.commits && tally.kills() >= plan.kills
        };
        while !enough(&heard, &troupe) {
            assert!(begun.elapsed() < plan.limit, "no end: {heard:?}, {tally:?}");
            assert!(!servers.is_finished(), "{:?}", servers.await.map(drop));
            troupe.go_on().await;
            if listened.elapsed() > Duration::from_secs(1) {
                heard.listen(&dir);
                listened = Instant::now();
            }
        }
        troupe.heal();
        over.store(true, Ordering::SeqCst);
        let servers = servers.await.unwrap();
        let wrought = begun.elapsed();
        troupe.end();

        let context = Context { way: &way, plan, dir: &dir, start: &start };
        let checked = context.check(1).await;
        assert!(checked.commits as u64 >= plan.commits, "{checked:?}");
        context.compact().await;
        // Once more, from files alone.
        context.check(10).await;
        println!("{checked:?}\n{tally:?}\n{wrought:?} of havoc, {:?} in all", begun.elapsed());
        drop(servers);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// Makes the volume.
async fn begin(way: &Way, plan: Plan, seed: Seed) -> Start {
    let page_size = PageSize::new(PAGE_BYTES as u64).unwrap();
    let options = VolumeOptions { page_size, keep: plan.keep };
    let volume = way.open().await.create_volume(VOLUME, options).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    tx.truncate(PageCount(PAGES));
    let committed = tx.commit().await.unwrap();
    volume.close().await;
    Start {
        seed: seed.0,
        commit: committed.commit.unwrap(),
        revision: committed.revision,
        pages: vec![Bytes::from(vec![0; PAGE_BYTES]); PAGES as usize],
    }
}

fn journal(dir: &Path, writer: u8) -> PathBuf {
    dir.join(format!("writer-{writer}"))
}

fn checkers_journal(dir: &Path) -> PathBuf {
    dir.join("checker")
}

/// How many commits were acknowledged, by the writers' journals.
#[derive(Debug, Default)]
struct Heard {
    commits: u64,
    read: BTreeMap<u8, usize>,
}

impl Heard {
    fn listen(&mut self, dir: &Path) {
        use std::io::{Read as _, Seek as _, SeekFrom};
        for writer in 1..=WRITERS {
            let Ok(mut file) = std::fs::File::open(journal(dir, writer)) else { continue };
            let read = self.read.entry(writer).or_default();
            file.seek(SeekFrom::Start(*read as u64)).unwrap();
            let mut more = Vec::new();
            file.read_to_end(&mut more).unwrap();
            let whole = more.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let text = String::from_utf8_lossy(&more[..whole]);
            self.commits += text.matches("\"Committed\"").count() as u64;
            *read += whole;
        }
    }
}

/// What is left to look at when all is over.
struct Context<'a> {
    way: &'a Way,
    plan: Plan,
    dir: &'a Path,
    start: &'a Start,
}

impl Context<'_> {
    /// Holds everything against the model, as a process that was not there would see it.
    async fn check(&self, sample: usize) -> Checked {
        let store = self.way.open().await;
        let report = pagestore::inspect::verify(&store, VOLUME, None, &|_| {}).await.unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
        let mut journals: Vec<_> =
            (1..=WRITERS).map(|writer| journal::read(&journal(self.dir, writer))).collect();
        journals.push(journal::read(&checkers_journal(self.dir)));
        let volume = store.open_volume(VOLUME).await.unwrap();
        let checked = check(&volume, self.start, &journals, sample).await;
        if self.plan.keep == Keep::Forever && sample == 1 {
            // Commits of one batch share a revision.
            assert!(checked.exports > checked.commits / 4, "{checked:?}");
        }
        volume.close().await;
        checked
    }

    /// Flushes and merges all there is, as any compactor that comes along would.
    async fn compact(&self) {
        let volume = self.way.open().await.open_volume(VOLUME).await.unwrap();
        let tiers = worker::tiers(self.way.tiers().await.unwrap(), Env::system());
        let compactor = Compactor::new(tiers, CompactorOptions::default());
        compactor.compact(volume.id(), Effort::Thorough).await.unwrap();
        let state = volume.state().unwrap();
        assert_eq!(state.unflushed().count(), 0);
        assert!(state.levels.depth() > 1, "merges happened");
        volume.close().await;
    }
}
