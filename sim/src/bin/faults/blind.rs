//! The search for seeds that have a fault noticed.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pagestore::internal::fault::Fault;

use crate::{Args, Sound, caught, check_of, each, kept, run_apart};

/// Seeds tried at most.
const MAX_SEEDS: u64 = 100_000;

/// How a search went.
pub(crate) struct Searched {
    /// The seed, and what was noticed.
    pub(crate) caught: Option<(u64, String)>,
    /// Seeds that were run.
    pub(crate) tried: u64,
    /// How long it took.
    pub(crate) time: Duration,
}

/// Runs seeds from `first` on, one after the other, until the fault is noticed.
pub(crate) fn seeds(
    fault: Fault,
    first: u64,
    most: u64,
    limit: Duration,
    sound: &Sound,
) -> Searched {
    let (start, mut sound_time, mut tried) = (Instant::now(), Duration::ZERO, 0);
    let mut found = None;
    while tried < most && start.elapsed() < limit {
        let seed = first + tried;
        tried += 1;
        let Some(outcome) = run_apart(seed, Some(fault), false) else { continue };
        let Some(what) = caught(&outcome) else { continue };
        let asked = Instant::now();
        let is_sound = sound.is(seed);
        sound_time += asked.elapsed();
        if is_sound {
            found = Some((seed, what.to_owned()));
            break;
        }
    }
    Searched { caught: found, tried, time: start.elapsed() - sound_time }
}

/// Searches for every fault, from seeds that depend on the time of day alone.
pub(crate) fn search(faults: &[Fault], args: &Args) -> ExitCode {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = args.seed.unwrap_or(u64::from(now.subsec_nanos()));
    println!("from seed {first} on, {} at a time", args.threads);
    let (sound, all) = (Sound::default(), Mutex::new(BTreeMap::new()));
    let found = Mutex::new(kept::read());
    let limit = Duration::from_secs(args.time);
    each(faults, args.threads, |fault| {
        let searched = seeds(*fault, first, MAX_SEEDS, limit, &sound);
        let seconds = searched.time.as_secs_f64();
        let by = searched.caught.as_ref().map_or("NOTHING", |(_, what)| check_of(what));
        println!("| `{}` | {} | {seconds:.1} | {by} |", fault.name(), searched.tried);
        if let Some((seed, what)) = &searched.caught {
            let what: String = what.chars().take(140).collect();
            println!("    seed {seed}: {what}");
            found.lock().expect("no panic").insert(fault.name().to_owned(), Some(*seed));
        }
        all.lock().expect("no panic").insert(*fault, (searched.caught.is_some(), searched.time));
    });
    if args.keep {
        kept::write(&found.into_inner().expect("no panic"));
    }
    let all = all.into_inner().expect("no panic");
    let mut times: Vec<Duration> = all.values().map(|(_, time)| *time).collect();
    times.sort_unstable();
    let missed = all.iter().filter(|(_, (caught, _))| !caught).map(|(fault, _)| fault.name());
    let missed: Vec<&str> = missed.collect();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!(
        "{} faults, {} not noticed {missed:?}; median {:.1} s, longest {:.1} s",
        all.len(),
        missed.len(),
        median.as_secs_f64(),
        times.last().copied().unwrap_or_default().as_secs_f64()
    );
    if missed.is_empty() && sound.are_all() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
