//! From the store's errors to SQLite's codes. The message goes to SQLite's log, and
//! `PRAGMA pagestore_error` shows a connection's last one.

use std::ffi::c_int;
use std::fmt;

use libsqlite3_sys as ffi;
use pagestore::{Error, ErrorKind};

/// A SQLite error code, and what to tell the user beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: c_int,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: c_int, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }

    /// What `error` is to SQLite; `io` is the code of what was being done, where nothing fits better.
    pub(crate) fn of(error: &Error, io: c_int) -> Failure {
        let code = match error.kind() {
            ErrorKind::Conflict => ffi::SQLITE_BUSY_SNAPSHOT,
            ErrorKind::Backpressure => ffi::SQLITE_FULL,
            ErrorKind::Corrupt => ffi::SQLITE_CORRUPT,
            _ => io,
        };
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Failure { code, message }
    }

    /// `Failure::of` for `map_err`.
    pub(crate) fn io(code: c_int) -> impl Fn(Error) -> Failure {
        move |error| Failure::of(&error, code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

pub(crate) type Outcome<T> = Result<T, Failure>;
