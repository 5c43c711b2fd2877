//! Seeds that were kept: each has the fault beside it noticed, and nothing without it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pagestore::internal::fault::{ALL, Fault};

use crate::{Args, Sound, blind, caught, each, run_apart};

/// The seeds: one line a fault, with `-` where none was found yet.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/faults.txt");

/// Seeds tried for a fault whose kept seed does no more, because the code or the worlds changed.
const TRIES: u64 = 400;

/// The seeds that were kept; `None` of faults that none was found for.
pub(crate) fn read() -> BTreeMap<String, Option<u64>> {
    let text = std::fs::read_to_string(KEPT).expect("the seeds that were kept");
    let mut kept = BTreeMap::new();
    for line in text.lines() {
        let (name, seed) = line.split_once(' ').expect("a fault and its seed");
        let seed = (seed != "-").then(|| seed.parse().expect("a seed"));
        assert!(kept.insert(name.to_owned(), seed).is_none(), "twice in {KEPT}: {name}");
    }
    for fault in ALL {
        assert!(kept.contains_key(fault.name()), "not in {KEPT}: {}", fault.name());
    }
    assert_eq!(kept.len(), ALL.len(), "a fault in {KEPT} is none any more");
    kept
}

/// Keeps seeds.
pub(crate) fn write(kept: &BTreeMap<String, Option<u64>>) {
    let seed = |seed: &Option<u64>| seed.map_or("-".to_owned(), |seed| seed.to_string());
    let lines: Vec<String> =
        kept.iter().map(|(name, of)| format!("{name} {}\n", seed(of))).collect();
    std::fs::write(KEPT, lines.concat()).expect("the seeds");
}

/// How it went with one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Noticed,
    NotNoticed,
    /// No seed was found for it yet.
    Unknown,
}

/// Runs what was kept; says which faults are not noticed.
pub(crate) fn check(faults: &[Fault], args: &Args) -> ExitCode {
    let (start, sound, kept) = (Instant::now(), Sound::default(), Mutex::new(read()));
    let all = Mutex::new(Vec::new());
    each(faults, args.threads, |fault| {
        let seed = kept.lock().expect("no panic").get(fault.name()).copied().flatten();
        let (went, found) = check_one(*fault, seed, args, &sound);
        kept.lock().expect("no panic").insert(fault.name().to_owned(), found.or(seed));
        all.lock().expect("no panic").push(went);
    });
    if args.keep {
        write(&kept.into_inner().expect("no panic"));
    }
    let all = all.into_inner().expect("no panic");
    let count = |went: Went| all.iter().filter(|other| **other == went).count();
    println!(
        "{} faults planted in {:.1} s: {} noticed, {} not, {} without a seed",
        all.len(),
        start.elapsed().as_secs_f64(),
        count(Went::Noticed),
        count(Went::NotNoticed),
        count(Went::Unknown)
    );
    let is_right = count(Went::NotNoticed) == 0 && sound.are_all();
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plants one fault; the seed that has it noticed, if that is another one than the one kept.
fn check_one(fault: Fault, kept: Option<u64>, args: &Args, sound: &Sound) -> (Went, Option<u64>) {
    let start = Instant::now();
    let is_caught = |seed: u64| {
        let outcome = run_apart(seed, Some(fault), false)?;
        caught(&outcome).filter(|_| sound.is(seed)).map(ToOwned::to_owned)
    };
    if let Some(what) = kept.and_then(is_caught) {
        tell(fault, kept.unwrap_or_default(), start.elapsed(), &what);
        return (Went::Noticed, None);
    }
    if kept.is_none() && !args.keep {
        println!("{:<30} has no seed yet: ./dev.sh faults --keep --fault {0}", fault.name());
        return (Went::Unknown, None);
    }
    let limit = Duration::from_secs(args.time);
    let searched = blind::seeds(fault, args.seed.unwrap_or(1), TRIES, limit, sound);
    let Some((other, what)) = searched.caught else {
        println!("{:<30} NOT NOTICED: {}", fault.name(), fault.rule());
        return (Went::NotNoticed, None);
    };
    tell(fault, other, start.elapsed(), &what);
    println!("  seed {other} is to be kept now: ./dev.sh faults --keep");
    (Went::Noticed, Some(other))
}

fn tell(fault: Fault, seed: u64, time: Duration, what: &str) {
    let what: String = what.chars().take(110).collect();
    println!("{:<30} seed {seed:>6} {:>5.1} s  {what}", fault.name(), time.as_secs_f64());
}
