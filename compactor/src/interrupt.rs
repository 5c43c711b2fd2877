//! Why a piece of work ends early.

use pagestore::Error;
use pagestore::internal::meta::MetaError;

/// What a piece of work comes to.
pub(crate) type Work<T> = Result<T, Interrupt>;

/// Why a piece of work ended early. Whatever it left behind is resumed or thrown away by the next
/// holder of the claim.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// Another compactor has the volume, or may have it: nothing more may be published.
    ClaimLost,
    /// What was planned on has changed meanwhile: plan again.
    Overtaken,
    /// A tier failed, or holds what it should not.
    Failed(Error),
}

impl From<Error> for Interrupt {
    fn from(error: Error) -> Interrupt {
        Interrupt::Failed(error)
    }
}

impl From<MetaError> for Interrupt {
    fn from(error: MetaError) -> Interrupt {
        match error {
            // The only lease that a compactor puts anything under is its claim's.
            MetaError::LeaseNotFound => Interrupt::ClaimLost,
            error => Interrupt::Failed(error.into()),
        }
    }
}
