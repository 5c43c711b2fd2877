//! The compactor of pagestore: moves pages out of the meta tier into files, and keeps the files few and
//! small.
//!
//! Any number of compactors may run beside one another, in the processes that host a store or on their
//! own; for each volume one of them has the claim. It may be killed at any instant, run twice, or stall
//! for an hour and go on: every change is one transaction that compares what it was planned on.
//!
//! Reading order: [`plan`] says what is to be done, [`merge`] which files are to be merged, [`gc`] what
//! can be deleted; all pure. `execute` does it, `publish` makes it visible, `claim` makes sure that one
//! does it at a time, `worker` waits until something is due.
//!
//! # Inside a process
//!
//! Whoever hosts an embedded store runs one beside its own work:
//!
//! ```
//! # #[tokio::main] async fn main() -> pagestore::Result<()> {
//! # let directory = tempfile::tempdir().expect("a directory");
//! # let url = directory.path().display().to_string();
//! use pagestore_compactor::{Compactor, CompactorOptions, Tiers};
//!
//! let store = pagestore::Store::open(&url).await?;
//! let compactor = Compactor::new(Tiers::from(&store), CompactorOptions::default()).start();
//! // ... the host's own work ...
//! compactor.stop().await;
//! # Ok(()) }
//! ```
#![warn(missing_docs)]

#[macro_use(planted)]
extern crate pagestore;

mod claim;
mod compactor;
mod execute;
pub mod gc;
mod interrupt;
pub mod merge;
mod options;
pub mod plan;
mod progress;
mod publish;
#[cfg(test)]
mod testing;
mod tiers;
mod timeline;
mod volume;
mod worker;

pub use compactor::{Compactor, Running};
pub use merge::pick::Effort;
pub use options::{CompactorOptions, ProgressFn};
pub use progress::Progress;
pub use tiers::Tiers;
