//! Plants every fault, one at a time, and shows that the simulation notices: from seeds that were kept, or
//! blindly.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use clap::Parser;
use pagestore::internal::fault::{self, Fault};
use pagestore_sim::link::MISHAPS;
use pagestore_sim::run::{Outcome, run_prepared};
use pagestore_sim::scenario::{SCENARIOS, run_scenario_prepared};

mod blind;
mod kept;

/// How long one run may take, of a fault that makes it last: then another seed has to do.
const RUN: Duration = Duration::from_secs(120);

/// Plants faults in the store, and sees whether the simulation notices.
#[derive(Debug, Parser)]
struct Args {
    /// Only these faults.
    #[arg(long)]
    fault: Vec<Fault>,
    /// Searches from seeds that nobody has chosen, and tells how long it takes.
    #[arg(long)]
    blind: bool,
    /// Searches from this seed on.
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds that a search for one fault may take.
    #[arg(long, default_value_t = 600)]
    time: u64,
    /// Searches for seeds and keeps them, where those that were kept do no more.
    #[arg(long)]
    keep: bool,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Prints the names of all faults.
    #[arg(long)]
    names: bool,
    /// Runs one seed in this process, and prints the outcome for the one that started it.
    #[arg(long, hide = true)]
    child: bool,
    /// Prints what happened, step by step.
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    std::panic::set_hook(Box::new(|_| {}));
    if args.names {
        fault::ALL.iter().for_each(|fault| println!("{}", fault.name()));
        return ExitCode::SUCCESS;
    }
    let seed = args.seed.unwrap_or(1);
    let first = args.fault.first().copied();
    if args.child {
        print!("{}", run_all(seed, first, args.log).render());
        return ExitCode::SUCCESS;
    }
    if args.log {
        let outcome = run_apart(seed, first, true).expect("a run that ends");
        outcome.log.iter().chain(&outcome.violations).for_each(|line| println!("{line}"));
        return ExitCode::SUCCESS;
    }
    let faults = if args.fault.is_empty() { fault::ALL } else { &args.fault };
    if args.blind { blind::search(faults, &args) } else { kept::check(faults, &args) }
}

/// Of so many seeds one is about a scenario, with every mishap at every call; the others are worlds.
const SCENARIO_EVERY: u64 = 4;

/// What one seed says.
fn run_all(seed: u64, fault: Option<Fault>, log: bool) -> Outcome {
    if !seed.is_multiple_of(SCENARIO_EVERY) {
        return run_prepared(seed, log, move || fault::plant(fault));
    }
    let which = seed / SCENARIO_EVERY % SCENARIOS.len() as u64;
    let scenario = *SCENARIOS.get(which as usize).expect("one of them");
    let play = |at| run_scenario_prepared(seed, scenario, at, move || fault::plant(fault));
    let mut outcome = Outcome::empty(seed);
    let calls = play(None).calls;
    for (call, mishap) in (1..=calls).flat_map(|call| MISHAPS.map(|mishap| (call, mishap))) {
        let swept = play(Some((call, mishap)));
        if let Some(what) = swept.violations.first() {
            outcome.violations.push(format!("{scenario:?}, call {call}, {mishap:?}: {what}"));
            break;
        }
    }
    outcome
}

/// Runs a seed in a process of its own; `None` when it takes too long.
fn run_apart(seed: u64, fault: Option<Fault>, log: bool) -> Option<Outcome> {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["--child", "--seed", &seed.to_string()]);
    command.args(fault.iter().flat_map(|fault| ["--fault", fault.name()]));
    if log {
        command.arg("--log");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
    let mut output = child.stdout.take().expect("its output");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let start = Instant::now();
    loop {
        match child.try_wait().expect("a child") {
            Some(_) => break,
            None if start.elapsed() > RUN => {
                child.kill().expect("a child");
                child.wait().expect("a child");
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    let text = reader.join().expect("no panic").expect("text");
    Some(Outcome::parse(seed, &text).unwrap_or_else(|| {
        let mut outcome = Outcome::empty(seed);
        outcome.violations.push("the process ended".into());
        outcome
    }))
}

/// What was noticed, when anything was.
fn caught(outcome: &Outcome) -> Option<&str> {
    outcome.violations.first().map(String::as_str)
}

/// Does `work` for each of `items` in some threads.
fn each<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, SeqCst)) {
                    work(item);
                }
            });
        }
    });
}

/// Whether seeds are right without a fault: each is run once only.
#[derive(Default)]
struct Sound(Mutex<BTreeMap<u64, Option<bool>>>);

impl Sound {
    fn seeds(&self) -> MutexGuard<'_, BTreeMap<u64, Option<bool>>> {
        self.0.lock().expect("no panic")
    }

    fn is(&self, seed: u64) -> bool {
        if let Some(known) = self.seeds().get(&seed) {
            return *known == Some(true);
        }
        let outcome = run_apart(seed, None, false);
        let is = outcome.as_ref().map(|outcome| caught(outcome).is_none());
        if is == Some(false) {
            let again =
                if seed.is_multiple_of(SCENARIO_EVERY) { "--sweep --seed" } else { "--seed" };
            println!("seed {seed} is WRONG WITHOUT ANY FAULT: ./dev.sh sim {again} {seed}");
        }
        self.seeds().insert(seed, is);
        is == Some(true)
    }

    /// True unless a seed was wrong.
    fn are_all(&self) -> bool {
        self.seeds().values().all(|is| *is != Some(false))
    }
}

/// The words of `what` that say which check it was; numbers differ from run to run.
fn check_of(what: &str) -> &'static str {
    let kinds = [
        ("panicked", "an assertion"),
        ("is not as it was then", "a page read"),
        ("own page", "a page read"),
        ("pages, not", "a page count"),
        ("misses", "a snapshot that lags"),
        ("changed at", "a commit that should have conflicted"),
        ("happened", "a commit that happened twice or in part"),
        ("is told", "what a client was told"),
        ("forgotten", "what a client was told"),
        ("had failed", "what a client was told"),
        ("conflicts in", "a conflict that was none"),
        ("left the head", "the head"),
        ("which is not there", "a commit to a deleted volume"),
        ("page count is", "what a commit says"),
        ("missing from it", "what a commit says"),
        ("shares", "commits in one transaction"),
        ("without its object", "a file without its object"),
        ("listed twice", "the list of files"),
        ("overlap", "the list of files"),
        ("the lock is", "a write lock"),
        ("sank", "a floor that sank"),
        ("is erased", "a deletion"),
        ("is deleted, and", "a deletion"),
        ("still there", "what is left over"),
        ("have not ended", "clients that do not end"),
        ("must not get", "an error that nobody should get"),
        ("v0: [", "the scrub"),
        ("v1: [", "the scrub"),
        ("v2: [", "the scrub"),
        ("last look", "the scrub"),
        ("restored", "a restored etcd that is not noticed"),
    ];
    kinds.iter().find(|(words, _)| what.contains(words)).map_or("another check", |(_, kind)| kind)
}
