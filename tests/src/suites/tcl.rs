//! SQLite's Tcl suite, a process and a folder for each file.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::tools::{Ended, Tools, run, scripts};

/// Far beyond what any file takes unless something hangs.
const FILE_LIMIT: Duration = Duration::from_secs(300);
/// Free bytes in memory without which the suite runs on disk: many times what it needs.
const MEMORY_BYTES: u64 = 4 << 30;
/// Files that take longest, so that none of them is the last to start.
const SLOW: [&str; 8] = [
    "test/multiplex.test",
    "test/quota.test",
    "ext/fts5/test/fts5synonym2.test",
    "ext/rtree/rtree2.test",
    "test/sort2.test",
    "test/avtrans.test",
    "test/trans.test",
    "test/vacuum6.test",
];

/// The suite: which files, on what.
#[derive(Debug)]
pub struct TclSuite {
    tools: &'static Tools,
    files: Vec<String>,
}

/// What came of one file.
#[derive(Debug)]
pub struct Outcome {
    pub file: String,
    /// Checks that were made; 0 when it ended before it said so.
    pub checks: u64,
    /// Checks that failed; `crash`, `timeout`, `leak`, `left-open`, `no-summary` and `exit` for what happened
    /// to the file as a whole.
    pub failures: Vec<String>,
    pub took: Duration,
    /// What it printed.
    pub output: String,
}

impl TclSuite {
    /// The files of the suite that are called "veryquick".
    #[must_use]
    pub fn veryquick(tools: &'static Tools) -> TclSuite {
        let dir = tempfile::tempdir().unwrap();
        let mut list = tools.command("testfixture", None);
        list.arg(scripts().join("list.tcl")).arg(tools.source());
        let listed = run(list, dir.path(), FILE_LIMIT).expect_success("list.tcl");
        let mut files: Vec<String> = listed.lines().map(str::to_owned).collect();
        files.sort_by_key(|file| (!SLOW.contains(&file.as_str()), file.clone()));
        TclSuite { tools, files }
    }

    /// Its files, by their paths below the sources.
    #[must_use]
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Keeps some of the files.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.files.retain(|file| keep(file));
    }

    /// Runs all files on volumes, some beside one another; those in `like_files` with locks and journals of files.
    #[must_use]
    pub fn run(&self, like_files: &BTreeSet<&str>) -> Vec<Outcome> {
        let folder = folder();
        let queue = Mutex::new(self.files.iter().collect::<VecDeque<_>>());
        let outcomes = Mutex::new(Vec::new());
        let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let Some(file) = queue.lock().unwrap().pop_front() else { break };
                        let outcome =
                            self.run_file(file, folder.path(), like_files.contains(file.as_str()));
                        outcomes.lock().unwrap().push(outcome);
                    }
                });
            }
        });
        let mut outcomes = outcomes.into_inner().unwrap();
        outcomes.sort_by(|a, b| a.file.cmp(&b.file));
        outcomes
    }

    fn run_file(&self, file: &str, folder: &Path, like_files: bool) -> Outcome {
        // Short: the name of a volume is the path of the database.
        let dir = tempfile::tempdir_in(folder).unwrap();
        let mut command = self.tools.command("testfixture", None);
        command.arg(self.tools.source().join(file));
        self.tools.load_extension(&mut command);
        command
            .env("PAGESTORE_STORE", dir.path().join("store"))
            .env("PAGESTORE_SUITE_OVERRIDES", scripts().join("overrides.tcl"))
            .env("PAGESTORE_SUITE_LIKE", if like_files { "file" } else { "volume" });
        let start = Instant::now();
        let ended = run(command, dir.path(), FILE_LIMIT);
        let (checks, failures) = judge(&ended);
        Outcome {
            file: file.to_owned(),
            checks,
            failures,
            took: start.elapsed(),
            output: ended.output,
        }
    }
}

/// Where the suite works: in memory if there is room, because it is its bytes that are tested, not a disk.
fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let room = rustix::fs::statvfs(&memory).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    let parent = if room >= MEMORY_BYTES { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).unwrap()
}

/// Checks that were made, and what failed.
fn judge(ended: &Ended) -> (u64, Vec<String>) {
    let Some(status) = ended.status else { return (0, vec!["timeout".to_owned()]) };
    let Some(summary) = ended.output.lines().rfind(|line| line.contains(" errors out of ")) else {
        let what = if status.code().is_none() { "crash" } else { "no-summary" };
        return (0, vec![what.to_owned()]);
    };
    let numbers: Vec<u64> = summary.split_whitespace().flat_map(str::parse).collect();
    let (errors, checks) = (numbers[0], numbers[1]);
    let listed = ended.output.lines().rfind(|line| line.starts_with("!Failures on these tests:"));
    let mut failures: Vec<String> = listed
        .into_iter()
        .flat_map(|line| line.split_whitespace().skip(4))
        .map(str::to_owned)
        .collect();
    if errors > 0 && failures.is_empty() {
        failures.push("unnamed".to_owned());
    }
    let says = |words: &str| ended.output.lines().any(|line| line.contains(words));
    if says(" files were left open") {
        failures.push("left-open".to_owned());
    }
    if says("Unfreed memory: ") {
        failures.push("leak".to_owned());
    }
    if !status.success() && failures.is_empty() {
        failures.push(if status.code().is_none() { "crash" } else { "exit" }.to_owned());
    }
    (checks, failures)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn judged(status: Option<i32>, output: &str) -> (u64, Vec<String>) {
        let status = status.map(ExitStatus::from_raw);
        judge(&Ended { status, output: output.to_owned() })
    }

    #[test]
    fn what_a_file_says_is_read() {
        let well = "a-1... Ok\n0 errors out of 27 tests on host Linux 64-bit\nAll memory freed\n";
        assert_eq!(judged(Some(0), well), (27, vec![]));
        let failed = "2 errors out of 30 tests on x\n!Failures on these tests: a-1 a-2.1\n";
        assert_eq!(judged(Some(256), failed), (30, vec!["a-1".to_owned(), "a-2.1".to_owned()]));
        let leak = "0 errors out of 3 tests on x\nUnfreed memory: 8 bytes in 1 allocations\n";
        assert_eq!(judged(Some(256), leak), (3, vec!["leak".to_owned()]));
        assert_eq!(judged(Some(256), "a-1... Ok\n").1, ["no-summary"]);
        assert_eq!(judged(Some(11), "a-1... Ok\n").1, ["crash"]);
        assert_eq!(judged(Some(11), well).1, ["crash"]);
        assert_eq!(judged(Some(256), well).1, ["exit"]);
        assert_eq!(judged(None, well).1, ["timeout"]);
    }
}
