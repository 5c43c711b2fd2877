//! What a request to the blob tier can come to, and how that is told to the caller.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use object_store::Error as StoreError;

use crate::error::{Error, ErrorKind};

/// What the system says of a disk that is full, of which the client keeps nothing but the text.
const DISK_FULL: &str = "No space left on device";

/// Why one attempt at a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The object store said so.
    Store(StoreError),
    /// There was no answer in time.
    TimedOut(Duration),
    /// Fewer bytes came than the answer announced.
    ShortBody { wanted: u64, got: u64 },
    /// The object itself ends within the range asked for.
    ShortObject { bytes: u64 },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

impl Failure {
    /// True when another attempt may do better.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Failure::Store(error) => {
                matches!(error, StoreError::Generic { .. } | StoreError::JoinError { .. })
                    && !names_bucket(error)
                    && !is_denied(error)
                    && !says(error, DISK_FULL)
            }
            Failure::TimedOut(_) | Failure::ShortBody { .. } => true,
            Failure::ShortObject { .. } => false,
        }
    }

    /// True when the store says that the object is not there; a missing bucket is another matter.
    pub(super) fn is_missing_object(&self) -> bool {
        matches!(self, Failure::Store(error @ StoreError::NotFound { .. }) if !names_bucket(error))
    }

    /// True when a create was refused because the name is taken.
    pub(super) fn is_taken(&self) -> bool {
        matches!(
            self,
            Failure::Store(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. })
        )
    }

    /// The error for the caller: `doing what: why`.
    pub(super) fn into_error(self, doing: &dyn fmt::Display) -> Error {
        let (kind, why) = match &self {
            Failure::Store(error) => explain(error),
            Failure::TimedOut(limit) => {
                (ErrorKind::Unavailable, format!("no answer from the blob store in {limit:?}"))
            }
            Failure::ShortBody { wanted, got } => (
                ErrorKind::Unavailable,
                format!("the answer broke off after {got} of {wanted} bytes"),
            ),
            Failure::ShortObject { bytes } => {
                (ErrorKind::Corrupt, format!("the object ends too early, at byte {bytes}"))
            }
        };
        let error = Error::new(kind, why).context(doing);
        match self {
            Failure::Store(source) => error.with_source(source),
            _ => error,
        }
    }
}

fn explain(error: &StoreError) -> (ErrorKind, String) {
    let (kind, why) = match error {
        _ if names_bucket(error) => (ErrorKind::NotFound, "the bucket does not exist"),
        _ if is_denied(error) => (ErrorKind::Unavailable, "access denied by the blob store"),
        StoreError::NotFound { .. } => {
            (ErrorKind::NotFound, "the object, or its bucket or directory, does not exist")
        }
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
            (ErrorKind::AlreadyExists, "the name is taken")
        }
        StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => {
            (ErrorKind::Invalid, "the blob store does not take the name or its configuration")
        }
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => {
            (ErrorKind::Invalid, "the blob store cannot do this")
        }
        _ if says(error, DISK_FULL) => {
            (ErrorKind::Unavailable, "the blob store's disk is full; make room on it")
        }
        _ => (ErrorKind::Unavailable, "the blob store failed"),
    };
    (kind, why.to_owned())
}

/// A server says of a missing bucket the same 404 as of a missing object; only the body tells. Of
/// listings the client keeps nothing but the text.
fn names_bucket(error: &StoreError) -> bool {
    says(error, "NoSuchBucket")
}

fn is_denied(error: &StoreError) -> bool {
    match error {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => true,
        StoreError::Generic { .. } => says(error, "status code: 403"),
        _ => false,
    }
}

fn says(error: &StoreError, text: &str) -> bool {
    let mut cause: Option<&dyn StdError> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains(text) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What was being done to which object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing<'a, T> {
    /// `putting`, `deleting` ...
    pub(super) verb: &'static str,
    /// Where the store is.
    pub(super) place: &'a str,
    /// The object.
    pub(super) object: T,
}

impl<T: fmt::Display> fmt::Display for Doing<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}", self.verb, self.object, self.place)
    }
}

/// An object and the bytes of it that were asked for.
#[derive(Clone, Debug)]
pub(super) struct Part<T>(pub(super) T, pub(super) Range<u64>);

impl<T: fmt::Display> fmt::Display for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}..{} of {}", self.1.start, self.1.end, self.0)
    }
}
