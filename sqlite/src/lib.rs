//! SQLite on pagestore: a VFS, so that any SQLite database may live in a volume.
//!
//! ```text
//!   SQLite ── vfs, file ── database ── pagestore
//!      C       unsafe         safe
//! ```
//!
//! `api` is the table of SQLite's functions, `guard` the door that no panic passes; `vfs` and `file` turn
//! C into Rust; `database` is one connection's view of one database, `group` the commit of several;
//! `name` and `header` are pure, `pragma` and `report` show what there is to show. `unsafe` stands in `api`, `entry`, `file`, `vfs` and `vtab` only.
#![warn(missing_docs)]

mod api;
mod database;
mod entry;
mod failure;
mod file;
mod group;
mod guard;
mod header;
mod journal;
mod name;
mod pragma;
mod report;
mod runtime;
mod stores;
mod vfs;
mod vtab;

pub use api::Api;
pub use entry::{is_complete, load, register};
#[doc(hidden)]
pub use guard::fail_call;
pub use guard::last_error;
