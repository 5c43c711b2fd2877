//! A page store for databases on etcd and S3, or in one directory.
#![warn(missing_docs)]

#[doc(hidden)]
pub mod blob;
#[doc(hidden)]
pub mod cache;
#[doc(hidden)]
pub mod codec;
#[doc(hidden)]
pub mod env;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod file;
#[doc(hidden)]
pub mod levels;
#[doc(hidden)]
pub mod meta;
#[doc(hidden)]
pub mod types;
#[doc(hidden)]
pub mod wire;

pub use env::Env;
pub use error::{CommitToken, Error, ErrorKind, Result};
pub use types::{
    CommitId, FileId, Keep, PageCount, PageNo, PageSize, Revision, VolumeId, VolumeName,
};

/// The door for our own crates (compactor, CLI, tests). Nothing behind it is stable.
#[doc(hidden)]
pub mod internal {
    pub use crate::blob;
    pub use crate::cache;
    pub use crate::codec;
    pub use crate::env;
    pub use crate::error;
    pub use crate::file;
    pub use crate::levels;
    pub use crate::meta;
    pub use crate::types;
    pub use crate::wire;
}
