//! Runs seeds until there are no more, or time is over.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use clap::Parser;
use pagestore_sim::link::{MISHAPS, Mishap};
use pagestore_sim::model::Counts;
use pagestore_sim::run::{Outcome, run};
use pagestore_sim::scenario::{SCENARIOS, run_scenario};

/// One seed in so many is run twice, and must be the same both times.
const TWICE: u64 = 16;

/// Runs the store in a simulated world, where everything goes wrong.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed; with it alone, only this one, told step by step when it fails.
    #[arg(long)]
    seed: Option<u64>,
    /// Stops after so many seconds.
    #[arg(long)]
    time: Option<u64>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Prints what happened, step by step, also when nothing is wrong.
    #[arg(long)]
    log: bool,
    /// Plays every scenario with one mishap, at every call and in every way.
    #[arg(long)]
    sweep: bool,
    /// Runs the seed in this process, and prints the outcome for the one that started it.
    #[arg(long, hide = true)]
    child: bool,
}

/// Runs a seed in a process of its own: what others have run before would otherwise show, because
/// tokio counts the generators of random numbers that it makes.
fn run_apart(seed: u64, log: bool) -> Outcome {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["--child", "--seed", &seed.to_string()]);
    if log {
        command.arg("--log");
    }
    let output = command.output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    Outcome::parse(seed, &text).unwrap_or_else(|| {
        let mut outcome = Outcome::empty(seed);
        let errors = String::from_utf8_lossy(&output.stderr);
        outcome.violations.push(format!("the process ended with {}: {errors}", output.status));
        outcome
    })
}

#[derive(Default)]
struct Sum {
    counts: Counts,
    calls: u64,
    polls: u64,
    busy_virtual: Duration,
    all_virtual: Duration,
    real: Duration,
    runs: u64,
    twice: u64,
    failed: BTreeSet<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (first, count) = match (args.seed, std::env::args().any(|arg| arg.starts_with("--seeds"))) {
        (Some(seed), false) => (seed, 1),
        (seed, _) => (seed.unwrap_or(1), args.seeds),
    };
    std::panic::set_hook(Box::new(|panic| {
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            eprintln!("{panic}\n{}", std::backtrace::Backtrace::force_capture());
        }
    }));
    if args.child {
        print!("{}", run(first, args.log).render());
        return ExitCode::SUCCESS;
    }
    if args.sweep {
        return sweep(first, args.threads);
    }
    let start = Instant::now();
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..args.threads.min(count) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, SeqCst);
                    let late = args.time.is_some_and(|time| start.elapsed().as_secs() >= time);
                    if seed >= first + count || late || stop.load(SeqCst) {
                        return;
                    }
                    let outcome = run_apart(seed, args.log);
                    let mut violations = outcome.violations.clone();
                    let again = seed % TWICE == 1;
                    if again && violations.is_empty() {
                        let hash = run_apart(seed, args.log).hash;
                        if hash != outcome.hash {
                            violations.push(format!(
                                "two runs differ: {:016x} and {hash:016x}",
                                outcome.hash
                            ));
                        }
                    }
                    let mut sum = sum.lock().expect("no panic");
                    sum.add(&outcome, again);
                    if !violations.is_empty() {
                        sum.failed.insert(seed);
                        tell(&outcome, &violations, count > 1);
                        if sum.failed.len() >= 8 {
                            stop.store(true, SeqCst);
                        }
                    } else if args.log {
                        outcome.log.iter().for_each(|line| println!("{line}"));
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no panic");
    sum.print(start.elapsed());
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Counts the calls that a process makes, then has every mishap happen at each.
fn sweep(seed: u64, threads: u64) -> ExitCode {
    let start = Instant::now();
    let mut all = Vec::new();
    let mut failed = Vec::new();
    for scenario in SCENARIOS {
        let swept = run_scenario(seed, scenario, None);
        println!("{scenario:?}: {} calls", swept.calls);
        if !swept.violations.is_empty() {
            println!("{scenario:?} FAILED: {:?}", swept.violations);
            failed.push((scenario, 0, Mishap::Error));
        }
        let at = |call| MISHAPS.map(|mishap| (scenario, call, mishap));
        all.extend((1..=swept.calls).flat_map(at));
    }
    let (next, failed) = (AtomicU64::new(0), Mutex::new(failed));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((scenario, call, mishap)) =
                    all.get(usize::try_from(next.fetch_add(1, SeqCst)).unwrap_or(usize::MAX))
                {
                    let swept = run_scenario(seed, *scenario, Some((*call, *mishap)));
                    if !swept.violations.is_empty() {
                        println!("{scenario:?}, call {call}, {mishap:?}: {:?}", swept.violations);
                        failed.lock().expect("no panic").push((*scenario, *call, *mishap));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    println!(
        "seed {seed}: {} mishaps in {:.1} s, {} failed",
        all.len(),
        start.elapsed().as_secs_f64(),
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells what is wrong with a seed; runs it once more to tell what happened.
fn tell(outcome: &Outcome, violations: &[String], short: bool) {
    let seed = outcome.seed;
    println!("seed {seed} FAILED, hash {:016x}:", outcome.hash);
    violations.iter().take(10).for_each(|violation| println!("  {violation}"));
    println!("  run it again: ./dev.sh sim --seed {seed}");
    let log = run_apart(seed, true).log;
    let shown = if short { 12 } else { log.len() };
    println!("  the last {} of {} steps:", shown.min(log.len()), log.len());
    let from = log.len().saturating_sub(shown);
    log.iter().skip(from).for_each(|line| println!("  {line}"));
}

impl Sum {
    fn add(&mut self, outcome: &Outcome, twice: bool) {
        self.counts = self.counts.plus(outcome.counts);
        self.calls += outcome.calls;
        self.polls += outcome.polls;
        self.busy_virtual += outcome.busy_virtual;
        self.all_virtual += outcome.all_virtual;
        self.real += outcome.all_real;
        self.runs += 1;
        self.twice += u64::from(twice);
    }

    fn print(&self, elapsed: Duration) {
        let counts = self.counts;
        let seconds = elapsed.as_secs_f64().max(1e-3);
        println!(
            "{} seeds in {seconds:.1} s, {} failed, {} run twice; {} commits ({} as files), {} reads, \
             {} snapshots, {} conflicts, {} unknown outcomes, {} failures; {} files, {} deleted; \
             {} requests, {} turns",
            self.runs,
            self.failed.len(),
            self.twice,
            counts.commits,
            counts.bulk_commits,
            counts.reads,
            counts.snapshots,
            counts.conflicts,
            counts.unknown,
            counts.failed,
            counts.files,
            counts.deletions,
            self.calls,
            self.polls,
        );
        println!(
            "{:.0} operations a minute; {:.0} times real time while clients work, {:.0} times in all",
            counts.operations() as f64 / seconds * 60.0,
            self.busy_virtual.as_secs_f64() / seconds,
            self.all_virtual.as_secs_f64() / seconds,
        );
        if !self.failed.is_empty() {
            println!("failed: {:?}", self.failed);
        }
    }
}
