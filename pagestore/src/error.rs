//! The one error of the public interface: opaque, with a kind that tells the caller what to do.

use std::error::Error as StdError;
use std::fmt;

use crate::types::{CommitId, PageNo, Revision, VolumeId};

/// Result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another transaction changed what this one read or wrote: run the transaction again.
    Conflict,
    /// A tier did not answer in time, or refused: nothing was done; try again later.
    Unavailable,
    /// A commit may or may not have happened: ask again with [`Error::commit_token`].
    Unknown,
    /// The volume, revision, page or file named does not exist.
    NotFound,
    /// What was asked makes no sense as asked; asking again will not help.
    Invalid,
    /// A name is taken.
    AlreadyExists,
    /// Stored bytes fail their checksum, hash or format; the message names the place.
    Corrupt,
    /// The revision is no longer kept, or the lease that held it was lost: open a new snapshot.
    Expired,
    /// The compactor lags: etcd's room is kept for it, or too many files wait to be merged. Slow down, then
    /// try again.
    Backpressure,
}

impl ErrorKind {
    /// The kind's name, as the CLI prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Conflict => "conflict",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Unknown => "unknown outcome",
            ErrorKind::NotFound => "not found",
            ErrorKind::Invalid => "invalid",
            ErrorKind::AlreadyExists => "already exists",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Expired => "expired",
            ErrorKind::Backpressure => "backpressure",
        }
    }
}

/// Names a commit whose outcome is unknown, so that it can be asked for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitToken {
    /// The volume committed to (of several, the one with the lowest id).
    pub volume: VolumeId,
    /// The commit.
    pub commit: CommitId,
    /// The largest base revision with which the commit was ever sent.
    pub base: Revision,
}

#[derive(Debug)]
enum Detail {
    None,
    Pages(Vec<PageNo>),
    Token(CommitToken),
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    detail: Detail,
}

/// Any failure of this crate. [`Error::kind`] tells what to do; the text tells a person why.
#[derive(Debug)]
pub struct Error(Box<Inner>);

impl Error {
    /// An error of `kind` that says `message`: lower case, values last.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), source: None, detail: Detail::None }))
    }

    pub(crate) fn conflict(mut pages: Vec<PageNo>) -> Error {
        pages.sort_unstable();
        pages.dedup();
        let shown: Vec<String> = pages.iter().take(8).map(ToString::to_string).collect();
        let more = if pages.len() > 8 { ", ..." } else { "" };
        let mut error = Error::new(
            ErrorKind::Conflict,
            format!(
                "another transaction changed what this one read or wrote; run it again (pages {}{more})",
                shown.join(", ")
            ),
        );
        error.0.detail = Detail::Pages(pages);
        error
    }

    pub(crate) fn unknown(token: CommitToken) -> Error {
        let mut error = Error::new(
            ErrorKind::Unknown,
            format!(
                "the meta tier did not say whether the commit happened; ask again later (volume {}, commit {}, base {})",
                token.volume, token.commit, token.base
            ),
        );
        error.0.detail = Detail::Token(token);
        error
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::NotFound, message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Expired, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unavailable, message)
    }

    /// Stored bytes at `place` (a key, or a file with an offset) are not what was written.
    pub fn corrupt(place: impl fmt::Display, why: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Corrupt, format!("{why}: {place}"))
    }

    /// Adds what caused this error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// Says what was being done: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Error {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// The same without what caused it: for others who waited for what failed.
    pub(crate) fn copy(&self) -> Error {
        Error::new(self.kind(), self.to_string())
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The pages that conflict, of a [`ErrorKind::Conflict`]; empty when only the page count does.
    #[must_use]
    pub fn conflicting_pages(&self) -> &[PageNo] {
        match &self.0.detail {
            Detail::Pages(pages) => pages,
            _ => &[],
        }
    }

    /// The commit to ask for later, of a [`ErrorKind::Unknown`].
    #[must_use]
    pub fn commit_token(&self) -> Option<CommitToken> {
        match self.0.detail {
            Detail::Token(token) => Some(token),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
