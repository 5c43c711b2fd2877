//! The disk is full.

use std::process::Command;

use pagestore_tests::harness::Process;
use pagestore_tests::worker::{Fill, Role};

use super::{PATIENCE, WORKER};

/// A disk of its own for the process, which sees it alone.
const SCRIPT: &str = r#"mount -t tmpfs -o size=24m none "$1" && exec "$2" "$3""#;
const OWN_MOUNTS: [&str; 3] = ["--user", "--map-root-user", "--mount"];

#[test]
fn a_full_disk_is_said_to_be_and_what_was_acknowledged_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut probe = Command::new("unshare");
    probe.args(OWN_MOUNTS).args(["mount", "-t", "tmpfs", "none", "/mnt"]);
    if !probe.output().is_ok_and(|probed| probed.status.success()) {
        println!("not tried: {probe:?} does not work here");
        return;
    }
    let role = Role::Fill(Fill { dir: dir.path().to_owned() });
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("unshare");
    command.args(OWN_MOUNTS).args(["sh", "-c", SCRIPT, "sh"]);
    command.arg(dir.path()).arg(WORKER).arg(serde_json::to_string(&role).unwrap());
    let mut process = Process::spawn(command, log.path()).unwrap();
    let status = process.wait(PATIENCE).expect("it comes to an end");
    println!("{}", process.last_words());
    assert!(status.success(), "{status}: {}", process.last_words());
}
