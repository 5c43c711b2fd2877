//! Pragmas: those of ours, and those of SQLite's that cannot be had here.

use libsqlite3_sys as ffi;

use crate::failure::{Failure, Outcome};
use crate::group::{self, Handle};
use crate::guard::last_failure;
use crate::name::Writers;

/// What a pragma comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// SQLite's, or nobody's.
    NotOurs,
    /// One cell.
    Text(String),
}

/// A pragma was run on the database: `PRAGMA name` or `PRAGMA name=value`.
pub(crate) fn run(handle: &Handle, name: &str, value: Option<&str>) -> Outcome<Answer> {
    let name = name.to_ascii_lowercase();
    let value = value.map(str::to_ascii_lowercase);
    let database = handle.lock();
    let text = match (name.as_str(), value.as_deref()) {
        ("journal_mode", Some("wal")) => {
            return Err(Failure::new(
                ffi::SQLITE_ERROR,
                "pagestore needs no WAL and has none: readers and writers do not block one another anyway; leave the journal mode as it is",
            ));
        }
        ("locking_mode", Some("exclusive")) if database.target().writers == Writers::Optimistic => {
            return Err(Failure::new(
                ffi::SQLITE_ERROR,
                "locking_mode=EXCLUSIVE and writers=optimistic exclude each other; open the database with writers=queue",
            ));
        }
        ("locking_mode", Some(mode @ ("exclusive" | "normal"))) => {
            drop(database);
            group::keep_lock(handle, mode == "exclusive");
            return Ok(Answer::NotOurs);
        }
        ("pagestore_revision", None) => database.revision()?.to_string(),
        ("pagestore_version", None) => env!("CARGO_PKG_VERSION").to_owned(),
        ("pagestore_error", None) => {
            last_failure().map(|failure| failure.message).unwrap_or_default()
        }
        _ => return Ok(Answer::NotOurs),
    };
    Ok(Answer::Text(text))
}
