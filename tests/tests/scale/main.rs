//! What a store does with much: of pages, of bytes, of commits. On real servers with their default
//! settings, and on embedded stores.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod atomic;
mod budget;
mod import;
mod keys;
mod overwrites;

use std::time::Duration;

/// The program that does what a test wants a process of its own for.
const WORKER: &str = env!("CARGO_BIN_EXE_pagestore-test-worker");
/// Far beyond what anything here takes unless it hangs.
const PATIENCE: Duration = Duration::from_secs(600);
const MIB: u64 = 1 << 20;
