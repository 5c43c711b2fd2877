//! Runs the binary and takes its word for nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pagestore_tests::harness::TestStore;
use serde_json::Value;
use tempfile::TempDir;

/// A store of its own, and a directory of its own.
pub(crate) struct Cli {
    directory: TempDir,
    /// Where the store is, if it is not in the directory.
    place: Option<TestStore>,
}

impl Cli {
    /// No store yet.
    pub(crate) fn new() -> Cli {
        Cli { directory: TempDir::new().unwrap(), place: None }
    }

    /// With the store in `place`.
    pub(crate) fn on(place: TestStore) -> Cli {
        Cli { place: Some(place), ..Cli::new() }
    }

    /// Where the store is, when it is on servers.
    pub(crate) fn place(&mut self) -> &mut TestStore {
        self.place.as_mut().expect("it is on servers")
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path in the directory, as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Where the store is, once there is one.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Writes a file of the directory and returns it as an argument.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.arg(name)
    }

    /// The command, not run yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagestore-cli"));
        command
            .env("PAGESTORE_STORE", self.store())
            .env_remove("PAGESTORE_LOG")
            .args(args)
            .stdin(Stdio::null());
        if let Some(place) = &self.place {
            command.envs(place.vars()).env("PAGESTORE_STORE", place.url());
        }
        command
    }

    /// Runs it.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it to success and returns what it printed.
    #[track_caller]
    pub(crate) fn ok_bytes(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {}: {stderr}", output.status);
        assert_eq!(stderr, "", "{args:?} said something on stderr");
        output.stdout
    }

    /// Runs it to success and returns the text it printed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        String::from_utf8(self.ok_bytes(args)).unwrap()
    }

    /// Runs it with `--json` to success and returns the document.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--json"]].concat());
        assert_eq!(text.lines().count(), 1, "{args:?}: one document is one line");
        serde_json::from_str(&text).unwrap()
    }

    /// Runs it to failure and returns its one line of error.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        stderr
            .strip_prefix("error: ")
            .unwrap_or_else(|| panic!("{args:?}: {stderr}"))
            .trim_end()
            .to_owned()
    }

    /// Everything that can be seen of the store: what a refused command must leave as it was.
    pub(crate) fn everything(&self) -> Option<Vec<Value>> {
        if !self.store().exists() {
            return None;
        }
        let volumes = self.json(&["volume", "list"]);
        let names =
            volumes.as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap());
        let seen = names.map(|name| {
            let export = self.ok_bytes(&["export", name, "-"]);
            serde_json::json!({ "name": name, "log": self.json(&["log", name]), "export": export })
        });
        Some(seen.collect())
    }

    /// The one object of the blob tier.
    #[track_caller]
    pub(crate) fn only_object(&self) -> PathBuf {
        let objects = objects(&self.store().join("blobs"));
        assert_eq!(objects.len(), 1, "{objects:?}");
        objects[0].clone()
    }

    /// Runs `work` on the store as a program would.
    pub(crate) fn program<T>(&self, work: impl AsyncFnOnce(pagestore::Store) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = pagestore::Store::open(&self.store().display().to_string()).await.unwrap();
            work(store).await
        })
    }
}

/// All files of pages below `directory`.
fn objects(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(objects(&path));
        } else if path.extension().is_some_and(|extension| extension == "pages") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// `count` pages of 512 bytes that do not compress; equal seeds give equal pages.
pub(crate) fn pages(count: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..count * 64).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}
