use crate::error::{Error, ErrorKind};
use crate::types::Revision;

/// Result of a meta tier call.
pub type MetaResult<T> = Result<T, MetaError>;

/// Why a meta tier call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// The store did not answer in time, or could not.
    #[error("meta tier unavailable: {message}")]
    Unavailable {
        /// What went wrong.
        message: String,
        /// False only when the request surely had no effect.
        maybe_applied: bool,
    },
    /// No room is left for puts (etcd's NOSPACE alarm). The request is over; but the one that makes etcd full
    /// is applied and answered so all the same (`quotaApplierV3` in etcd's `apply.go`).
    #[error("meta tier out of space: {0}")]
    NoSpace(String),
    /// No room is left on the disk. Nothing was applied.
    #[error("the meta tier's disk is full; make room on it: {0}")]
    DiskFull(String),
    /// Too many operations, a request too large, a key put twice, a key too long: a caller's bug.
    #[error("meta tier refused the request: {0}")]
    Refused(String),
    /// The revision asked for has been compacted.
    #[error("revision compacted; oldest readable: {oldest}")]
    Compacted {
        /// The oldest revision that can still be read; 0 when the store did not say.
        oldest: Revision,
    },
    /// The revision asked for has not come yet.
    #[error("revision in the future")]
    FutureRevision,
    /// The lease has ended.
    #[error("lease not found")]
    LeaseNotFound,
    /// Wrong user, password or certificate.
    #[error("meta tier denied access: {0}")]
    Denied(String),
    /// A stored value of the backend's own fails its check.
    #[error("corrupt meta tier: {0}")]
    Corrupt(String),
}

impl MetaError {
    /// False only when the request surely had no effect.
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        matches!(self, MetaError::Unavailable { maybe_applied: true, .. } | MetaError::NoSpace(_))
    }
}

impl From<MetaError> for Error {
    fn from(error: MetaError) -> Error {
        let kind = match &error {
            MetaError::Unavailable { .. } | MetaError::Denied(_) | MetaError::DiskFull(_) => {
                ErrorKind::Unavailable
            }
            MetaError::NoSpace(_) => ErrorKind::Backpressure,
            MetaError::Refused(_) | MetaError::FutureRevision => ErrorKind::Invalid,
            MetaError::Compacted { .. } | MetaError::LeaseNotFound => ErrorKind::Expired,
            MetaError::Corrupt(_) => ErrorKind::Corrupt,
        };
        Error::new(kind, error.to_string())
    }
}
