//! Several processes write one embedded store and are killed over and over.
//!
//! The test runs itself again as the processes to kill, or to give a bad disk to: with a role in the environment, `main` plays that
//! role. Writers increment a counter of all and one of their own, in one transaction under a compare, and
//! print each increment that was acknowledged. Invariants checked: the counters agree, nothing that was
//! acknowledged is missing, nobody hangs, and a watch over the whole time saw every revision once.

// All of it is a test, though none of it is marked as one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use pagestore::Env;
use pagestore::internal::meta::embedded::EmbeddedStore;
use pagestore::internal::meta::{
    Compare, Event, KeyRange, KeyValue, LeaseId, MetaError, MetaStore as _, Op, RangeRequest, Txn,
};
use pagestore::internal::types::Revision;
use rustix::process::{Signal, set_parent_process_death_signal};

const ROLE: &str = "PAGESTORE_TEST_ROLE";
const DIR: &str = "PAGESTORE_TEST_DIR";
const NAME: &str = "PAGESTORE_TEST_NAME";

const WRITERS: usize = 3;
const KILLS: usize = 120;
/// Far beyond what anything here takes unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    if std::env::var_os(ROLE).is_some() {
        // Whatever becomes of the test, nothing of it stays behind.
        set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    }
    match std::env::var(ROLE).as_deref() {
        Ok("writer") => block_on(write_until_killed()),
        Ok("reader") => read_until_killed(),
        Ok("holder") => block_on(hold_a_lease()),
        Ok("filler") => block_on(fill_the_disk()),
        Ok("unlucky") => block_on(count_on_a_failing_disk()),
        Ok(role) => panic!("unknown role {role}"),
        Err(_) => {
            let named = |name: &str| {
                std::env::args().skip(1).all(|arg| arg.starts_with('-') || name.contains(&arg))
            };
            let tests: [(&str, fn()); 8] = [
                ("processes_make_a_store_together", beginnings),
                ("killed_writers_lose_nothing", killed_writers_lose_nothing),
                ("killed_readers_block_nobody", killed_readers_block_nobody),
                ("a_commit_of_another_process_is_noticed_at_once", notices),
                ("the_lease_of_a_dead_process_ends", leases_end),
                ("a_full_disk_loses_nothing_and_is_left_behind", full_disk),
                ("a_failed_sync_is_told_and_left_behind", failed_sync),
                ("a_failed_write_is_told_and_left_behind", failed_write),
            ];
            for (name, test) in tests.into_iter().filter(|(name, _)| named(name)) {
                let begun = Instant::now();
                test();
                println!("test {name} ... ok ({} ms)", begun.elapsed().as_millis());
            }
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("no hang") })
}

/// Runs this program again in `role`.
fn spawn(role: &str, name: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .envs([(ROLE, role), (NAME, name)])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn open_named() -> (Arc<EmbeddedStore>, String) {
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let name = std::env::var(NAME).unwrap();
    (EmbeddedStore::open(&dir, &Env::system()).unwrap(), name)
}

async fn get(store: &EmbeddedStore, key: &str) -> Option<KeyValue> {
    let range = RangeRequest::new(KeyRange::key(key.to_owned()));
    store.range(range).await.unwrap().kvs.pop()
}

fn number(kv: Option<&KeyValue>) -> u64 {
    kv.map_or(0, |kv| std::str::from_utf8(&kv.value).unwrap().parse().unwrap())
}

fn revision(kv: Option<&KeyValue>) -> Revision {
    kv.map_or(Revision::ZERO, |kv| kv.mod_revision)
}

async fn write_until_killed() {
    let (store, own) = open_named();
    let filler = "x".repeat(2_000);
    for round in 0u64.. {
        let (all, mine) = (get(&store, "all").await, get(&store, &own).await);
        let next = number(mine.as_ref()) + 1;
        let txn = Txn {
            compares: vec![
                Compare::modified("all", revision(all.as_ref())),
                Compare::modified(own.clone(), revision(mine.as_ref())),
            ],
            then: vec![
                Op::put("all", (number(all.as_ref()) + 1).to_string()),
                Op::put(own.clone(), next.to_string()),
                Op::put(format!("filler/{own}/{}", next % 50), filler.clone()),
            ],
            or_else: vec![],
        };
        if store.txn(txn).await.unwrap().succeeded {
            println!("{next}");
        }
        if round % 64 == 63 {
            // Others compact, too; who is late is told so.
            let now = store.status().await.unwrap().revision;
            let _ = store.compact(Revision(now.0.saturating_sub(500).max(1))).await;
        }
    }
}

/// A writer's process and the last increment that it was told is durable.
struct Writer {
    child: Child,
    acknowledged: JoinHandle<Option<u64>>,
}

impl Writer {
    fn start(name: &str, dir: &Path) -> Writer {
        let mut child = spawn("writer", name, dir);
        let out = BufReader::new(child.stdout.take().unwrap());
        let acknowledged = std::thread::spawn(move || {
            out.lines().map_while(Result::ok).filter_map(|line| line.parse().ok()).last()
        });
        Writer { child, acknowledged }
    }

    fn kill(mut self) -> u64 {
        assert!(self.child.try_wait().unwrap().is_none(), "a writer ended by itself");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.acknowledged.join().unwrap().unwrap_or(0)
    }
}

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn killed_writers_lose_nothing() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut state = seed;
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), &Env::system()).unwrap();
    let names: Vec<String> = (0..WRITERS).map(|i| format!("writer{i}")).collect();
    let mut writers: Vec<Option<Writer>> =
        names.iter().map(|name| Some(Writer::start(name, dir.path()))).collect();
    let mut acknowledged = [0; WRITERS];
    let mut progress = 0;
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_micros(random(&mut state) % 60_000));
        let victims = 1 + random(&mut state) as usize % 2;
        for _ in 0..victims {
            let victim = random(&mut state) as usize % WRITERS;
            let told = writers[victim].take().unwrap().kill();
            acknowledged[victim] = told.max(acknowledged[victim]);
            writers[victim] = Some(Writer::start(&names[victim], dir.path()));
        }
        progress = block_on(check(&store, &names, &acknowledged)).max(progress);
    }
    // Nobody hangs: whoever is left gets on.
    let begun = Instant::now();
    while block_on(check(&store, &names, &acknowledged)) < progress + 20 {
        assert!(begun.elapsed() < PATIENCE, "nobody gets on");
        std::thread::sleep(Duration::from_millis(5));
    }
    for (i, writer) in writers.into_iter().enumerate() {
        acknowledged[i] = writer.unwrap().kill().max(acknowledged[i]);
    }
    // What the last of them had under way is there from the next write on, or never.
    let write = Txn { then: vec![Op::put("end", "")], ..Txn::default() };
    block_on(store.txn(write)).unwrap();
    let all = block_on(check(&store, &names, &acknowledged));
    drop(store);
    let store = EmbeddedStore::open(dir.path(), &Env::system()).unwrap();
    assert_eq!(block_on(check(&store, &names, &acknowledged)), all);
    println!("{all} increments, acknowledged {acknowledged:?}");
}

/// Threads of a reader.
const READER_THREADS: usize = 3;
/// Readers beside one another: with their threads far more than there are processors, so that many are
/// killed while they hold or wait for what readers share.
const READERS: usize = 4;
/// Kills of readers.
const READER_KILLS: usize = 200;
/// Reads between two signs of life.
const READS_A_SIGN: usize = 50;

/// Reads in short transactions, one after the other, on several threads.
fn read_until_killed() {
    let (store, _) = open_named();
    let readers: Vec<_> = (0..READER_THREADS)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                loop {
                    for _ in 0..READS_A_SIGN {
                        runtime.block_on(check(&store, &["writer".to_owned()], &[0]));
                    }
                    println!("read");
                }
            })
        })
        .collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

/// A reader's process and its signs of life.
struct Reader {
    child: Child,
    signs: Arc<AtomicUsize>,
}

impl Reader {
    fn start(dir: &Path) -> Reader {
        let mut child = spawn("reader", "reader", dir);
        let out = BufReader::new(child.stdout.take().unwrap());
        let signs = Arc::new(AtomicUsize::new(0));
        let counted = signs.clone();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).for_each(|_| {
                counted.fetch_add(1, Ordering::Relaxed);
            });
        });
        Reader { child, signs }
    }

    /// Waits for a sign of each thread, at least.
    fn await_signs(&self) {
        let (begun, before) = (Instant::now(), self.signs.load(Ordering::Relaxed));
        while self.signs.load(Ordering::Relaxed) < before + 2 * READER_THREADS {
            assert!(begun.elapsed() < PATIENCE, "a reader hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn kill(mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "a reader ended by itself");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What `work` comes to; it may block its thread.
fn bounded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(PATIENCE).expect("no hang")
}

fn killed_readers_block_nobody() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut state = seed;
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), &Env::system()).unwrap();
    let names = ["writer".to_owned()];
    let mut writer = Writer::start("writer", dir.path());
    let mut acknowledged = 0;
    let mut readers: Vec<Reader> = (0..READERS).map(|_| Reader::start(dir.path())).collect();
    for kill in 0..READER_KILLS {
        std::thread::sleep(Duration::from_micros(random(&mut state) % 20_000));
        let victim = random(&mut state) as usize % READERS;
        let killed = std::mem::replace(&mut readers[victim], Reader::start(dir.path()));
        killed.kill();
        if kill % 20 == 19 {
            // Whoever is left reads on, in this process and in the others.
            let (store, names) = (store.clone(), names.clone());
            bounded(move || block_on(check(&store, &names, &[0])));
            readers.iter().for_each(Reader::await_signs);
            // No process is meant to live for longer than [`PATIENCE`].
            let killed = std::mem::replace(&mut writer, Writer::start("writer", dir.path()));
            acknowledged = killed.kill().max(acknowledged);
        }
    }
    readers.into_iter().for_each(Reader::kill);
    acknowledged = writer.kill().max(acknowledged);
    let write = Txn { then: vec![Op::put("end", "")], ..Txn::default() };
    bounded(move || {
        block_on(store.txn(write)).unwrap();
        block_on(check(&store, &names, &[acknowledged]))
    });
}

/// All counters at one revision: they agree, and hold what was acknowledged. The counter of all.
async fn check(store: &EmbeddedStore, names: &[String], acknowledged: &[u64]) -> u64 {
    let counters = vec![Op::get("all"), Op::Range(RangeRequest::new(KeyRange::prefix(b"writer")))];
    let found = store.txn(Txn { then: counters, ..Txn::default() }).await.unwrap();
    let kvs: Vec<KeyValue> = found
        .responses
        .into_iter()
        .flat_map(|response| match response {
            pagestore::internal::meta::OpResponse::Range(range) => range.kvs,
            other => panic!("{other:?}"),
        })
        .collect();
    let counter = |key: &str| number(kvs.iter().find(|kv| kv.key == key));
    for (name, acknowledged) in names.iter().zip(acknowledged) {
        assert!(counter(name) >= *acknowledged, "{name}: {} of {acknowledged}", counter(name));
    }
    let all = counter("all");
    assert_eq!(all, names.iter().map(|name| counter(name)).sum::<u64>());
    all
}

fn beginnings() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let names = ["writer0", "writer1", "writer2", "writer3"].map(str::to_owned);
        let mut children = names.clone().map(|name| spawn("writer", &name, dir.path()));
        // Kept open, or the writers could not go on.
        let mut outputs = Vec::new();
        for child in &mut children {
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(line, "1\n", "the end of its output, had it given up");
            outputs.push(output);
        }
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let store = EmbeddedStore::open(dir.path(), &Env::system()).unwrap();
        block_on(check(&store, &names, &[1; 4]));
    }
}

fn notices() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), &Env::system()).unwrap();
    let mut watch = block_on(store.watch(KeyRange::key("all"), Revision(2))).unwrap();
    let writer = Writer::start("writer", dir.path());
    // Without notices this would take a second each.
    let (mut next, begun) = (1, Instant::now());
    while next <= 200 {
        let batch = block_on(watch.next()).unwrap().unwrap();
        for event in batch.events {
            let Event::Put(kv) = event else { panic!("{event:?}") };
            assert_eq!(number(Some(&kv)), next, "every change once, in order");
            next += 1;
        }
    }
    assert!(begun.elapsed() < PATIENCE);
    writer.kill();
}

async fn hold_a_lease() {
    let (store, own) = open_named();
    let lease: LeaseId = store.lease_grant(Duration::from_secs(1)).await.unwrap();
    let put = Op::Put { key: own.into(), value: "held".into(), lease };
    store.txn(Txn { then: vec![put], ..Txn::default() }).await.unwrap();
    println!("held");
    std::future::pending::<()>().await;
}

fn leases_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), &Env::system()).unwrap();
    let mut watch = block_on(store.watch(KeyRange::key("mine"), Revision(2))).unwrap();
    let mut holder = spawn("holder", "mine", dir.path());
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let mut events = Vec::new();
    while events.len() < 2 {
        events.extend(block_on(watch.next()).unwrap().unwrap().events);
    }
    assert!(matches!(events[1], Event::Delete { .. }), "{events:?}");
}

/// A file that takes up room, to be given back.
const BALLAST: &str = "ballast";
const BALLAST_BYTES: usize = 2 << 20;

fn full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=8m none \"$1\" && exec \"$2\"";
    let own_mounts = ["--user", "--map-root-user", "--mount"];
    if !works(
        Command::new("unshare").args(own_mounts).args(["mount", "-t", "tmpfs", "none", "/mnt"]),
    ) {
        return;
    }
    let status = Command::new("unshare")
        .args(own_mounts)
        .args(["sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .envs([(ROLE, "filler"), (NAME, "filler")])
        .env(DIR, dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// Whether this machine has the tool, and lets us use it.
fn works(probe: &mut Command) -> bool {
    let works =
        probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !works {
        println!("not tried: {probe:?} does not work here");
    }
    works
}

async fn fill_the_disk() {
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    std::fs::write(dir.join(BALLAST), vec![1; BALLAST_BYTES]).unwrap();
    let (store, _) = open_named();
    let value = |i: u64| vec![u8::try_from(i % 251).unwrap(); 50_000];
    let put = |i: u64| Txn { then: vec![Op::put(format!("{i:04}"), value(i))], ..Txn::default() };
    let mut stored = 0;
    let error = loop {
        match store.txn(put(stored)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MetaError::DiskFull(_)), "{error:?}");
    assert!(stored > 10, "{stored}");
    for _ in 0..5 {
        assert!(store.txn(put(stored)).await.is_err());
    }
    let holds = async |store: &EmbeddedStore, count: u64| {
        let all = store.range(RangeRequest::new(KeyRange::span("0", "9"))).await.unwrap();
        assert_eq!(all.count, count);
        assert!((0..count).zip(&all.kvs).all(|(i, kv)| kv.value == value(i)));
        assert_eq!(store.status().await.unwrap().revision, Revision(count + 1));
    };
    holds(&store, stored).await;
    std::fs::remove_file(dir.join(BALLAST)).unwrap();
    for i in stored..stored + 5 {
        store.txn(put(i)).await.unwrap();
    }
    holds(&store, stored + 5).await;
    drop(store);
    holds(&open_named().0, stored + 5).await;
}

fn failed_sync() {
    on_a_failing_disk("fdatasync:error=EIO:when=8+3");
}

fn failed_write() {
    on_a_failing_disk("pwrite64:error=EIO:when=60+7");
}

/// Counts with some calls to the system failing.
fn on_a_failing_disk(inject: &str) {
    if !works(Command::new("strace").args(["-f", "-o", "/dev/null", "true"])) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("inject={inject}"))
        .arg(std::env::current_exe().unwrap())
        .envs([(ROLE, "unlucky"), (NAME, "unlucky")])
        .env(DIR, dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    // What the process left is sound, too.
    let store = EmbeddedStore::open(dir.path(), &Env::system()).unwrap();
    let counted = block_on(get(&store, "n"));
    assert_eq!(number(counted.as_ref()), COUNTED);
}

/// Increments that succeed on a failing disk.
const COUNTED: u64 = 60;

async fn count_on_a_failing_disk() {
    let (store, _) = open_named();
    let (mut refused, mut unknown) = (0, 0);
    let mut known = get(&store, "n").await;
    while number(known.as_ref()) < COUNTED {
        let next = number(known.as_ref()) + 1;
        let txn = Txn {
            compares: vec![Compare::modified("n", revision(known.as_ref()))],
            then: vec![Op::put("n", next.to_string())],
            or_else: vec![],
        };
        let outcome = store.txn(txn).await;
        let found = get(&store, "n").await;
        match outcome {
            Ok(response) => assert!(response.succeeded && number(found.as_ref()) == next),
            Err(error) if error.maybe_applied() => {
                assert!(found == known || number(found.as_ref()) == next, "{found:?}");
                unknown += 1;
            }
            Err(MetaError::Unavailable { .. }) => {
                assert_eq!(found, known);
                refused += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
        known = found;
    }
    println!("{refused} refused, {unknown} unknown");
    assert!(refused + unknown > 0);
}
