//! The tools as programs: built once, started on a store or on plain files.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use crate::harness::{Process, TestStore};

/// Where SQLite's tools and their sources are.
#[derive(Debug)]
pub struct Tools {
    dir: PathBuf,
    extension: PathBuf,
}

/// A tool that ended.
#[derive(Debug)]
pub struct Ended {
    /// `None`: it did not end in time, and was killed.
    pub status: Option<ExitStatus>,
    /// All that it printed.
    pub output: String,
}

impl Ended {
    /// What it printed, if it ended well.
    #[must_use]
    pub fn expect_success(self, what: &str) -> String {
        let well = self.status.is_some_and(|status| status.success());
        assert!(well, "{what}: {:?}\n{}", self.status, self.output);
        self.output
    }
}

impl Tools {
    /// Builds them below `target`, cargo's directory, unless they are there.
    #[must_use]
    pub fn build(target: &Path) -> &'static Tools {
        static TOOLS: OnceLock<Tools> = OnceLock::new();
        TOOLS.get_or_init(|| {
            let dir = target.join("sqlite");
            let built = Command::new(scripts().join("build.sh")).arg(&dir).status();
            let built = built.expect("build.sh can be run").success();
            assert!(built, "SQLite's test tools cannot be built: see above, or run ./dev.sh setup");
            Tools { dir, extension: extension(target) }
        })
    }

    /// A tool, on a store if there is one, else on plain files.
    #[must_use]
    pub fn command(&self, tool: &str, store: Option<&TestStore>) -> Command {
        let mut command = Command::new(self.dir.join("build").join(tool));
        if let Some(store) = store {
            command.env("PAGESTORE_STORE", store.url()).envs(store.vars());
            self.load_extension(&mut command);
        }
        command
    }

    /// Lets a tool load the extension.
    pub(super) fn load_extension(&self, command: &mut Command) {
        command
            .env("PAGESTORE_SUITE_EXTENSION", &self.extension)
            .env("PAGESTORE_SQLITE_DEFAULT", "1");
    }

    /// The sources that the tools were built from.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        self.dir.join("source")
    }
}

/// Runs `command` to its end in the folder `dir`.
#[must_use]
pub fn run(mut command: Command, dir: &Path, limit: Duration) -> Ended {
    let log = dir.join("output.txt");
    command.current_dir(dir);
    let mut process = Process::spawn(command, &log).unwrap_or_else(|error| panic!("{error}"));
    let status = process.wait(limit);
    drop(process);
    let output = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    std::fs::remove_file(&log).unwrap();
    Ended { status, output }
}

/// `sqlite/suites` in this repository.
pub(super) fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sqlite/suites").canonicalize().unwrap()
}

/// The extension, built by a call of its own, so that nothing else decides what is in it.
fn extension(target: &Path) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--package", "pagestore-sqlite-extension", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells a test of its package, some build scripts take for a change, and all is built anew.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            build.env_remove(name);
        }
    }
    let built = build.status();
    assert!(built.expect("cargo can be run").success(), "the extension cannot be built");
    target.join("debug/libpagestore_sqlite.so")
}
