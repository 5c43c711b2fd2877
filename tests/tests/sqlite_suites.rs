//! SQLite's own test tools, from Debian's sources, on the extension: its Tcl suite, `speedtest1`, `kvtest`
//! and `mptester`. Nobody here wrote them, and what they say on a plain file is what they must say here.
//!
//! `PAGESTORE_SUITE_FILES` names files of the Tcl suite (parts of their paths, separated by spaces) to run only
//! these. What each file said is left in `sqlite/report.txt` in cargo's directory, and all that the failed ones
//! printed in `sqlite/failed`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pagestore_tests::harness::TestStore;
use pagestore_tests::suites::{Exclusions, Kind, Outcome, TclSuite, Tools, run};

/// Files of the Tcl suite that pass on a plain file.
const CLEAN_ON_FILES: usize = 1_094;
/// So many of them have no failure on volumes, no line in exclusions.txt, and make at least half of the
/// checks that they make on a plain file.
const CLEAN_AT_LEAST: usize = 1_020;
/// And so many of these make every check; the others ask whether there is WAL for a few.
const COMPLETE_AT_LEAST: usize = 1_003;
/// So many leave out most of their checks at most: they ask whether there is WAL.
const SKIPPED_AT_MOST: usize = 31;
/// Checks made on a plain file are 299,554: a suite that skips is not a suite that passes.
const CHECKS_AT_LEAST: u64 = 285_000;
/// What is said of a file that makes fewer than half of the checks that it makes on a plain file.
const SKIPPED: &str = "skipped";
/// Far beyond what a tool takes unless something hangs.
const TOOL_LIMIT: Duration = Duration::from_secs(600);

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

fn tools() -> &'static Tools {
    Tools::build(target())
}

#[test]
#[ignore = "takes minutes: ./dev.sh test --long runs it"]
fn the_tcl_suite_passes_but_for_what_is_listed() {
    let exclusions = include_str!("../../sqlite/suites/exclusions.txt");
    let mut exclusions = Exclusions::parse(exclusions);
    let mut suite = TclSuite::veryquick(tools());
    let on_files = checks_on_files();
    let known: BTreeSet<&str> = suite.files().iter().map(String::as_str).collect();
    assert!(known.iter().eq(on_files.keys()), "the list of files changed");
    assert_eq!(exclusions.unknown(|file| known.contains(file)), Vec::<String>::new());
    let wanted = std::env::var("PAGESTORE_SUITE_FILES").ok();
    if let Some(wanted) = &wanted {
        suite.retain(|file| wanted.split_whitespace().any(|part| file.contains(part)));
    }
    let like_files = include_str!("../../sqlite/suites/like_files.txt");
    let mut outcomes =
        suite.run(&like_files.lines().filter(|line| !line.starts_with('#')).collect());
    for outcome in &mut outcomes {
        if outcome.checks < on_files[outcome.file.as_str()] / 2 {
            outcome.failures.push(SKIPPED.to_owned());
        }
    }
    report(&outcomes);

    let mut failures = String::new();
    for outcome in &outcomes {
        let uncovered = exclusions.uncovered(&outcome.file, &outcome.failures);
        if !uncovered.is_empty() {
            writeln!(failures, "{}: {}", outcome.file, uncovered.join(" ")).unwrap();
        }
    }
    assert!(failures.is_empty(), "failures without a line in exclusions.txt:\n{failures}");
    let ran: BTreeSet<&str> = outcomes.iter().map(|outcome| outcome.file.as_str()).collect();
    let unused = exclusions.unused(|file| ran.contains(file));
    assert!(unused.is_empty(), "lines of exclusions.txt that nothing needs: {unused:#?}");
    if wanted.is_none() {
        check_totals(&outcomes, &on_files, &exclusions);
    }
}

/// The files of the suite, and how many checks each makes on a plain file.
fn checks_on_files() -> BTreeMap<&'static str, u64> {
    let lines = include_str!("../../sqlite/suites/checks.txt").lines();
    let pairs =
        lines.filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap());
    pairs.map(|(file, checks)| (file, checks.parse().unwrap())).collect()
}

fn check_totals(outcomes: &[Outcome], on_files: &BTreeMap<&str, u64>, exclusions: &Exclusions) {
    let passes = |file: &str| !exclusions.has(file, Kind::Plain);
    assert_eq!(on_files.keys().filter(|file| passes(file)).count(), CLEAN_ON_FILES);
    let count = |failures: &[&str], share: u64| {
        let is_counted = |one: &&Outcome| {
            let all = on_files[one.file.as_str()];
            passes(&one.file) && one.failures == failures && one.checks * 100 >= all * share
        };
        outcomes.iter().filter(is_counted).count()
    };
    let (clean, complete, skipped) = (count(&[], 0), count(&[], 100), count(&[SKIPPED], 0));
    let checks: u64 = outcomes.iter().map(|outcome| outcome.checks).sum();
    println!(
        "{clean} of {CLEAN_ON_FILES} files clean, {complete} of them with every check; \
         {skipped} more leave out most of theirs; {checks} checks"
    );
    assert!(clean >= CLEAN_AT_LEAST, "only {clean} files are clean");
    assert!(complete >= COMPLETE_AT_LEAST, "only {complete} files make every check");
    assert!(skipped <= SKIPPED_AT_MOST, "{skipped} files leave out most of their checks");
    assert!(checks >= CHECKS_AT_LEAST, "only {checks} checks were made");
}

/// Leaves what happened where a person can look.
fn report(outcomes: &[Outcome]) {
    let dir = target().join("sqlite");
    let failed = dir.join("failed");
    let _ = std::fs::remove_dir_all(&failed);
    std::fs::create_dir_all(&failed).unwrap();
    let mut text = String::new();
    for Outcome { file, checks, failures, took, output } in outcomes {
        let took = took.as_secs_f64();
        writeln!(text, "{took:7.2} s {checks:6} checks {file} {}", failures.join(" ")).unwrap();
        if !failures.is_empty() {
            std::fs::write(failed.join(file.replace('/', "_")), output).unwrap();
        }
    }
    std::fs::write(dir.join("report.txt"), text).unwrap();
}

/// Options of `speedtest1`, that change what reaches a VFS.
const SPEEDTESTS: [&[&str]; 12] = [
    &[],
    &["--testset", "cte"],
    &["--testset", "fp"],
    &["--testset", "orm"],
    &["--testset", "rtree"],
    &["--pagesize", "512", "--cachesize", "20"],
    &["--pagesize", "65536", "--big-transactions"],
    &["--autovacuum", "--journal", "memory", "--utf16be"],
    &["--incrvacuum", "--reserve", "16", "--strict", "--journal", "persist"],
    &["--without-rowid", "--primarykey", "--journal", "truncate", "--cachesize", "10"],
    &["--exclusive", "--nosync", "--shrink-memory"],
    &["--temp", "6", "--journal", "off", "--notnull"],
];

/// The hash of everything `speedtest1` read, and the seconds it took.
fn speedtest(store: Option<&TestStore>, size: &str, options: &[&str]) -> (String, f64) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = tools().command("speedtest1", store);
    command.args(["--verify", "--size", size]).args(options).arg("speed.db");
    let said = run(command, dir.path(), TOOL_LIMIT).expect_success(&format!("{options:?}"));
    let after = |words: &str| {
        let line = said.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{options:?} does not say {words}:\n{said}"));
        line.split_whitespace().next_back().unwrap().to_owned()
    };
    (after("Verification Hash:"), after("TOTAL").trim_end_matches('s').parse().unwrap())
}

fn speedtests_agree(store: &TestStore, size: &str) {
    for options in SPEEDTESTS {
        let (on_file, file_seconds) = speedtest(None, size, options);
        let (on_volume, seconds) = speedtest(Some(store), size, options);
        assert_eq!(on_volume, on_file, "speedtest1 {options:?} read something else");
        // Printed, not asserted: it says something on a quiet machine only.
        println!("speedtest1 {options:?}: {seconds:.3} s, on a file {file_seconds:.3} s");
    }
}

#[test]
fn speedtest1_reads_what_a_file_gives_on_an_embedded_store() {
    speedtests_agree(&TestStore::embedded(), "5");
}

#[test]
fn speedtest1_reads_what_a_file_gives_on_etcd_and_s3() {
    speedtests_agree(&TestStore::servers(), "2");
}

/// What `kvtest` does with blobs of about 10 kB: reads, in its own order and by the blob interface, and
/// overwrites, each in a transaction of its own or all in one.
const KVTESTS: [&[&str]; 6] = [
    &["--asc"],
    &["--random", "--blob-api"],
    &["--desc", "--cache-size", "5", "--multitrans"],
    &["--update", "--multitrans", "--random"],
    &["--update", "--blob-api", "--jmode", "persist"],
    &["--update", "--cache-size", "5", "--nosync"],
];

fn kvtest(store: &TestStore) {
    let dir = tempfile::tempdir().unwrap();
    let kvtest = |arguments: &[&str]| {
        let mut command = tools().command("kvtest", Some(store));
        command.args(arguments);
        run(command, dir.path(), TOOL_LIMIT).expect_success(&format!("kvtest {arguments:?}"))
    };
    kvtest(&["init", "kv.db", "--count", "200", "--size", "10000", "--variance", "3000"]);
    // It looks whether there is a file of whole sectors before it asks SQLite.
    std::fs::write(dir.path().join("kv.db"), "").unwrap();
    for options in KVTESTS {
        let mut arguments = vec!["run", "kv.db", "--count", "200", "--max-id", "200"];
        arguments.push("--integrity-check");
        arguments.extend(options);
        let said = kvtest(&arguments);
        assert!(said.contains("integrity-check: ok"), "{options:?}:\n{said}");
        assert!(said.contains("Content "), "{options:?}:\n{said}");
    }
    let said = kvtest(&["stat", "kv.db", "--vacuum"]);
    for line in ["Number of entries:       200", "Integrity-check:    ok"] {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }
    std::fs::create_dir(dir.path().join("out")).unwrap();
    kvtest(&["export", "kv.db", "out"]);
    let exported = std::fs::read_dir(dir.path().join("out")).unwrap();
    let sizes: Vec<u64> = exported.map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 200);
    assert!(sizes.iter().all(|size| (7_000..=13_000).contains(size)), "{sizes:?}");
}

#[test]
fn kvtest_finds_its_blobs_on_an_embedded_store() {
    kvtest(&TestStore::embedded());
}

#[test]
fn kvtest_finds_its_blobs_on_etcd_and_s3() {
    kvtest(&TestStore::servers());
}

/// Five processes on one database: the script's checks, all of them passed.
fn mptest(store: &TestStore, script: &str, checks: u64) {
    let dir = tempfile::tempdir().unwrap();
    copy_scripts(&tools().source().join("mptest"), dir.path());
    count_every_check(&dir.path().join(script));
    let mut command = tools().command("mptester", Some(store));
    // One that died keeps the others waiting for its lease, one after the other.
    command.args(["mp.db", "--timeout", "60000", &format!("./{script}")]);
    let said = run(command, dir.path(), TOOL_LIMIT).expect_success(script);
    let summary = said.lines().rfind(|line| line.contains("Summary:")).expect("a summary");
    let expected = format!("Summary: 0 errors out of {checks} tests");
    assert!(summary.contains(&expected), "{summary}, not {expected}:\n{said}");
}

/// The scripts, without what asks for another page size than the one that the volume was made with.
fn copy_scripts(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // One of them runs on the unix VFS only, for the page sizes.
        let left_out = ["PRAGMA page_size=", "--if vfsname()"];
        let kept =
            text.lines().filter(|line| !left_out.iter().any(|start| line.starts_with(start)));
        let kept: String =
            kept.map(|line| with_patience(&with_one_page_size(line)) + "\n").collect();
        std::fs::write(to.join(path.file_name().unwrap()), kept).unwrap();
    }
}

/// A process adds what it checked to the sum when it takes its next task, and the first one does not
/// wait for that before it reads the sum. So each gets one more task, without a check of its own.
fn count_every_check(script: &Path) {
    let mut text = std::fs::read_to_string(script).unwrap();
    for client in 1..=5 {
        text.push_str(&format!("--task {client} count\n--end\n"));
    }
    text.push_str(&with_patience("--wait all"));
    text.push('\n');
    std::fs::write(script, text).unwrap();
}

/// Where a script waits it gives the others ten seconds, which a busy machine does not promise.
fn with_patience(line: &str) -> String {
    if line.trim_end() == "--wait all" { "--wait all 120000".to_owned() } else { line.to_owned() }
}

/// What the five processes say of the page size: it is still the first one, SQLite's default.
fn with_one_page_size(line: &str) -> String {
    let mut words = line.split_whitespace();
    let sizes: Vec<&str> = words.by_ref().skip(1).collect();
    let are_sizes = sizes.len() == 5 && sizes.iter().all(|size| *size == sizes[0]);
    if line.starts_with("--match ") && are_sizes {
        format!("--match {}", ["4096"; 5].join(" "))
    } else {
        line.to_owned()
    }
}

#[test]
fn mptester_finds_no_error_on_an_embedded_store() {
    let store = TestStore::embedded();
    mptest(&store, "crash01.test", 94);
    mptest(&store, "multiwrite01.test", 81);
}

#[test]
fn mptester_finds_no_error_on_etcd_and_s3() {
    let store = TestStore::servers();
    mptest(&store, "crash01.test", 94);
    mptest(&store, "multiwrite01.test", 81);
}

/// The processes differ: in journal mode, in what they would map into memory, in how they crash.
#[test]
#[ignore = "takes minutes: ./dev.sh test --long runs it"]
fn mptester_finds_no_error_however_its_processes_are_configured() {
    let store = TestStore::embedded();
    mptest(&store, "config01.test", 163);
    mptest(&store, "config02.test", 627);
}
