//! What a worker process does, and how a test starts one.

mod compact;
mod fill;
mod hold;
mod import;
pub mod rewrite;

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

pub use compact::{Compact, tiers};
pub use fill::Fill;
pub use hold::Hold;
pub use import::Import;
pub use rewrite::Rewrite;

use crate::chaos::checker::{self, Check};
use crate::chaos::writer::{self, Work};
use crate::harness::{Process, TestStore};

/// What a worker process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Role {
    /// Writes at random.
    Write(Work),
    /// Reads all there is.
    Check(Check),
    /// Compacts whatever there is, until it is told to end.
    Compact(Compact),
    /// Imports an image.
    Import(Import),
    /// Makes one large commit after another.
    Rewrite(Rewrite),
    /// Holds a snapshot.
    Hold(Hold),
    /// Fills its disk.
    Fill(Fill),
}

/// Does it.
pub async fn run(role: Role) {
    match role {
        Role::Write(work) => writer::run(work).await,
        Role::Check(work) => checker::run(work).await,
        Role::Compact(work) => compact::run(work).await,
        Role::Import(work) => import::run(work).await,
        Role::Rewrite(work) => rewrite::run(work).await,
        Role::Hold(work) => hold::run(work).await,
        Role::Fill(work) => fill::run(work).await,
    }
}

/// Starts `program`, the worker, in a role on a store; what it prints goes to `log`.
#[must_use]
pub fn start(program: &str, role: &Role, store: &TestStore, log: &Path) -> Process {
    start_with(program, role, &store.vars(), log)
}

/// As [`start`], with the variables by which the store is found.
#[must_use]
pub fn start_with(program: &str, role: &Role, vars: &[(&str, String)], log: &Path) -> Process {
    let mut command = Command::new(program);
    command.arg(serde_json::to_string(role).unwrap()).envs(vars.iter().cloned());
    Process::spawn(command, log).unwrap_or_else(|error| panic!("{error}"))
}
