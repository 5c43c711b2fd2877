//! What went wrong, in one line, and the exit code that says so to scripts.

use std::io::{self, ErrorKind as IoKind};
use std::path::Path;
use std::process::ExitCode;

use pagestore::{Error, ErrorKind};
use tokio::signal::unix::SignalKind;

/// The exit codes, as `--help` prints them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a tier, the disk or a file did not answer, refused, or is full
  2  what was asked makes no sense as asked; nothing was changed
  3  there is no such volume, revision or file
  4  stored bytes are damaged
  5  the revision is no longer kept
  6  another writer was first
  7  it is unknown whether the commit happened
  8  the name is taken
  9  a check of the demo failed

Environment:
  PAGESTORE_STORE  the store, when --store is not given
  PAGESTORE_LOG    what the library logs to stderr, e.g. debug
  AWS_...          credentials, region and endpoint of s3:// blobs";

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// What was asked makes no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure { code: 2, message: message.into() }
    }

    /// A signal ended the work; the exit code is the shell's for it.
    pub(crate) fn interrupted(by: SignalKind) -> Failure {
        let code = u8::try_from(by.as_raw_value()).map_or(1, |signal| signal.saturating_add(128));
        Failure { code, message: "interrupted; what was not finished was not done".to_owned() }
    }

    /// Something named is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Failure {
        Failure { code: 3, message: message.into() }
    }

    /// Stored bytes are damaged.
    pub(crate) fn damaged(message: impl Into<String>) -> Failure {
        Failure { code: 4, message: message.into() }
    }

    /// Another writer was first.
    pub(crate) fn overtaken(message: impl Into<String>) -> Failure {
        Failure { code: 6, message: message.into() }
    }

    /// A check of the demo failed.
    pub(crate) fn check(message: impl Into<String>) -> Failure {
        Failure { code: 9, message: message.into() }
    }

    /// Something outside the store refused.
    pub(crate) fn refused(message: impl Into<String>) -> Failure {
        Failure { code: 1, message: message.into() }
    }

    /// The operating system refused while `doing`.
    pub(crate) fn io(doing: &str, error: &io::Error) -> Failure {
        if error.kind() == IoKind::BrokenPipe {
            // Whoever read the output has seen enough.
            return Failure { code: 1, message: String::new() };
        }
        Failure { code: 1, message: format!("{doing}: {error}") }
    }

    /// The operating system refused to do something with the file at `path`.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Failure {
        let code = if error.kind() == IoKind::NotFound { 3 } else { 1 };
        Failure { code, message: format!("{}: {error}", path.display()) }
    }

    /// Says it on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            let line: Vec<&str> = self.message.split_whitespace().collect();
            eprintln!("error: {}", line.join(" "));
        }
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error: {}", self.message)
    }
}

impl From<io::Error> for Failure {
    /// Only what goes to stdout fails without a file to name.
    fn from(error: io::Error) -> Failure {
        Failure::io("cannot write the output", &error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match error.kind() {
            ErrorKind::Invalid => 2,
            ErrorKind::NotFound => 3,
            ErrorKind::Corrupt => 4,
            ErrorKind::Expired => 5,
            ErrorKind::Conflict => 6,
            ErrorKind::Unknown => 7,
            ErrorKind::AlreadyExists => 8,
            _ => 1,
        };
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        if let Some(hint) = hint(error.kind()) {
            message = format!("{message}; {hint}");
        }
        Failure { code, message }
    }
}

/// What to do, where the error does not say it.
fn hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::NotFound => Some("`volume list` and `volume stat` show what there is"),
        ErrorKind::AlreadyExists => Some("choose another name, or `volume delete` that one"),
        ErrorKind::Expired => Some("`volume stat` shows the oldest revision that is kept"),
        ErrorKind::Corrupt => Some("`verify` lists everything that is damaged"),
        ErrorKind::Backpressure => Some("run `compact`, or start a compactor"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_asks_for_something_else_has_its_code() {
        let code = |kind| Failure::from(Error::new(kind, "x")).code;
        assert_eq!(code(ErrorKind::Unavailable), 1);
        assert_eq!(code(ErrorKind::Invalid), 2);
        assert_eq!(code(ErrorKind::NotFound), 3);
        assert_eq!(code(ErrorKind::Corrupt), 4);
        assert_eq!(code(ErrorKind::Expired), 5);
    }

    #[test]
    fn causes_are_said_once() {
        let cause = io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Unavailable, "cannot write").with_source(cause);
        assert_eq!(Failure::from(error).message, "cannot write: disk on fire");
        let cause = io::Error::other("disk on fire");
        let error =
            Error::new(ErrorKind::Unavailable, "cannot write: disk on fire").with_source(cause);
        assert_eq!(Failure::from(error).message, "cannot write: disk on fire");
    }
}
