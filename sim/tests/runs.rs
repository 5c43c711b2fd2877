//! Whole runs: few, because `./dev.sh sim` does many.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::process::Command;

use pagestore_sim::link::MISHAPS;
use pagestore_sim::run::Outcome;
use pagestore_sim::scenario::{SCENARIOS, run_scenario};

fn run(seed: u64, log: bool) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagestore-sim"));
    command.args(["--child", "--seed", &seed.to_string()]);
    if log {
        command.arg("--log");
    }
    let output = command.output().unwrap();
    Outcome::parse(seed, &String::from_utf8(output.stdout).unwrap()).unwrap()
}

#[test]
fn one_seed_gives_one_run() {
    let (first, second, other) = (run(3, false), run(3, false), run(4, false));
    assert_eq!(first.violations, Vec::<String>::new());
    assert_eq!((first.hash, first.counts), (second.hash, second.counts));
    assert_ne!(first.hash, other.hash);
    assert!(first.counts.commits > 50, "{:?}", first.counts);
}

#[test]
fn telling_what_happens_changes_nothing() {
    let (silent, told) = (run(5, false), run(5, true));
    assert_eq!(silent.hash, told.hash);
    assert!(told.log.len() > 100 && silent.log.is_empty());
}

#[test]
fn a_mishap_at_any_call_harms_nobody() {
    for scenario in SCENARIOS {
        let fine = run_scenario(2, scenario, None);
        assert_eq!(fine.violations, Vec::<String>::new(), "{scenario:?}");
        assert!(fine.calls > 0, "{scenario:?}");
        // All of them at each call is what `./dev.sh sim --sweep` does.
        for call in (1..=fine.calls).step_by(5) {
            let mishap = MISHAPS[call as usize % MISHAPS.len()];
            let swept = run_scenario(2, scenario, Some((call, mishap)));
            assert_eq!(swept.violations, Vec::<String>::new(), "{scenario:?}, {call}, {mishap:?}");
        }
    }
}
