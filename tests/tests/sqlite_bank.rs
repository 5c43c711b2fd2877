//! Many processes write one SQLite database: a bank whose tellers are killed at random loses, doubles and
//! halves no transfer.
//!
//! `PAGESTORE_SEED` chooses another run, `PAGESTORE_TRANSFERS` how many each bank does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use pagestore_tests::bank::{Teller, audit, found, open};
use pagestore_tests::harness::{EtcdCluster, Seed, seed};
use rand::RngExt as _;

const TELLER: &str = env!("CARGO_BIN_EXE_pagestore-bank");
const TELLERS: i64 = 8;
/// Tellers killed in one run.
const KILLS: usize = 10;
/// Longest that nothing may be acknowledged: a dead writer's lock and a dead leader's election go by.
const STALL: Duration = Duration::from_secs(120);

/// What the tellers of a bank said: (teller, run, number).
#[derive(Debug, Default)]
struct Heard {
    acknowledged: BTreeSet<(i64, i64, i64)>,
    open: BTreeSet<(i64, i64, i64)>,
    conflicts: usize,
}

/// What a teller said: its number, its run, the line.
type Line = (i64, i64, String);

struct Staff {
    uri: String,
    seed: Seed,
    children: Vec<Child>,
    runs: Vec<i64>,
    said: Sender<Line>,
    lines: Receiver<Line>,
}

fn index(number: i64) -> usize {
    usize::try_from(number).unwrap()
}

impl Staff {
    fn hire(uri: &str, seed: Seed) -> Staff {
        let (said, lines) = channel();
        let mut staff = Staff {
            uri: uri.to_owned(),
            seed,
            children: Vec::new(),
            runs: vec![0; index(TELLERS)],
            said,
            lines,
        };
        for number in 0..TELLERS {
            let child = staff.start(number);
            staff.children.push(child);
        }
        staff
    }

    fn start(&self, number: i64) -> Child {
        let run = self.runs[index(number)];
        let seed = self.seed.0 ^ (number.cast_unsigned() << 32) ^ (run.cast_unsigned() << 48);
        let teller = Teller { uri: self.uri.clone(), number, run, seed };
        let mut child = Command::new(TELLER)
            .arg(serde_json::to_string(&teller).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, sender) = (child.stdout.take().unwrap(), self.said.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.send((number, run, line));
            }
        });
        child
    }

    fn replace(&mut self, number: i64) {
        let child = &mut self.children[index(number)];
        assert!(child.try_wait().unwrap().is_none(), "teller {number} ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        self.runs[index(number)] += 1;
        self.children[index(number)] = self.start(number);
    }

    fn hear(&self, heard: &mut Heard) -> bool {
        let mut anything = false;
        while let Ok((teller, run, line)) = self.lines.try_recv() {
            // A line that was cut off in the middle was not said.
            let transfer = |text: &str| Some((teller, run, text.parse::<i64>().ok()?));
            match line.split_at_checked(2) {
                Some(("! ", number)) => {
                    anything = true;
                    heard.acknowledged.extend(transfer(number));
                }
                Some(("? ", number)) => heard.open.extend(transfer(number)),
                _ => heard.conflicts += 1,
            }
        }
        anything
    }
}

impl Drop for Staff {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a bank until `transfers` were acknowledged; `disturb` is called once, half way.
fn run(uri: &str, mut disturb: impl FnMut()) {
    let seed = seed();
    let mut rng = seed.rng();
    let transfers: usize =
        std::env::var("PAGESTORE_TRANSFERS").map_or(1_000, |text| text.parse().unwrap());
    found(uri, TELLERS);
    let auditor = open(uri);
    let mut staff = Staff::hire(uri, seed);
    let (mut heard, mut kills, mut disturbed) = (Heard::default(), 0, false);
    let mut last = Instant::now();
    while heard.acknowledged.len() < transfers {
        if staff.hear(&mut heard) {
            last = Instant::now();
        }
        assert!(
            last.elapsed() < STALL,
            "nothing for {STALL:?}: {} so far",
            heard.acknowledged.len()
        );
        let done = heard.acknowledged.len();
        if kills < KILLS && done > (kills + 1) * transfers / (KILLS + 2) {
            staff.replace(rng.random_range(0..TELLERS));
            kills += 1;
        }
        if !disturbed && done > transfers / 2 {
            disturb();
            disturbed = true;
        }
        // What was acknowledged before the audit began is in what it sees.
        staff.hear(&mut heard);
        match audit(&auditor, TELLERS) {
            Ok(books) => check(&heard, &books.transfers),
            Err(error) => assert!(disturbed, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(kills, KILLS);
    drop(staff);
    let db = open(uri);
    let integrity: String = db.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    let books = audit(&db, TELLERS).unwrap();
    check(&heard, &books.transfers);
    println!(
        "{} acknowledged, {} in the books, {} left open, {} conflicts; seed {}",
        heard.acknowledged.len(),
        books.transfers.len(),
        heard.open.len(),
        heard.conflicts,
        seed.0
    );
}

/// Everything acknowledged is in the books; a ledger's key keeps it from being there twice.
fn check(heard: &Heard, transfers: &[(i64, i64, i64)]) {
    let booked: BTreeSet<&(i64, i64, i64)> = transfers.iter().collect();
    let lost: Vec<_> =
        heard.acknowledged.iter().filter(|transfer| !booked.contains(transfer)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

fn uri(store: &str, writers: &str) -> String {
    let store = store.replace('%', "%25").replace('?', "%3f").replace('&', "%26");
    format!("file:bank?vfs=pagestore&writers={writers}&store={store}")
}

fn on_embedded(writers: &str) {
    let dir = tempfile::tempdir().unwrap();
    run(&uri(&dir.path().display().to_string(), writers), || {});
}

fn on_a_cluster(writers: &str) {
    let mut cluster = EtcdCluster::start::<3>();
    let blobs = tempfile::tempdir().unwrap();
    let hosts: Vec<String> = cluster.nodes.iter().map(|node| node.address().to_string()).collect();
    let blobs: PathBuf = blobs.path().to_owned();
    let store = format!("etcd://{}/bank?blobs=file://{}", hosts.join(","), blobs.display());
    run(&uri(&store, writers), || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let leader = runtime.block_on(cluster.leader());
        cluster.nodes[leader].kill9();
    });
}

#[test]
fn a_queue_of_writers_on_a_directory() {
    on_embedded("queue");
}

#[test]
fn optimistic_writers_on_a_directory() {
    on_embedded("optimistic");
}

#[test]
fn a_queue_of_writers_on_a_cluster_that_loses_its_leader() {
    on_a_cluster("queue");
}

#[test]
fn optimistic_writers_on_a_cluster_that_loses_its_leader() {
    on_a_cluster("optimistic");
}
