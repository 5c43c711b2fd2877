//! One page to and from the bytes that are staged in the meta tier. Pure.
//!
//! Owns the encodings of a staged page and the layout of its value. A page is staged in the form that
//! takes the fewest bytes; a delta is against a base that is itself whole or in a file, so that no
//! chain of deltas ever forms. Decoding never yields more than a page, never panics, and yields only
//! content whose hash is the expected one: a value needs no checksum of its own.
//!
//! Pages of zeros are not staged at all.

mod page;
mod value;
mod zstd;

pub use page::{Base, Encoding, Expected, PageCodec, Staged};
pub use value::StagedValue;

use crate::error::{Error, ErrorKind};
use crate::types::{ContentHash, PageNo};
use crate::wire::Malformed;

/// A staged value is not what was staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The value is not laid out as one.
    #[error("staged value {0}")]
    Malformed(#[from] Malformed),
    /// The value is of a newer format.
    #[error(
        "written in format version {found}, this build reads up to version {newest}; upgrade it"
    )]
    NewerVersion {
        /// The version it says.
        found: u8,
        /// The newest this build knows.
        newest: u8,
    },
    /// The value is another page's.
    #[error("staged value is of page {found}, not of page {expected}")]
    WrongPage {
        /// The page it says.
        found: PageNo,
        /// The page asked for.
        expected: PageNo,
    },
    /// The value is a delta, and no base, or one of the wrong length, was given.
    #[error("staged value is a delta without its base")]
    NoBase,
    /// The body does not decompress to a page.
    #[error("staged value does not decompress to a page")]
    BrokenBody,
    /// The body decompresses to other content.
    #[error("content of page {page} hashes to {found}, not to {expected}")]
    WrongHash {
        /// The page.
        page: PageNo,
        /// The hash of what was found.
        found: ContentHash,
        /// The hash it should have.
        expected: ContentHash,
    },
}

impl CodecError {
    /// The public error for a value found at `place`.
    #[must_use]
    pub fn at(self, place: impl std::fmt::Display) -> Error {
        match self {
            CodecError::NewerVersion { .. } => {
                Error::new(ErrorKind::Invalid, format!("{self}: {place}"))
            }
            _ => Error::corrupt(place, self),
        }
    }
}
