//! A page store for databases on etcd and S3, or in one directory.
#![warn(missing_docs)]

#[doc(hidden)]
pub mod blob;
pub mod blocking;
#[doc(hidden)]
pub mod cache;
#[doc(hidden)]
pub mod codec;
mod commit;
mod config;
#[doc(hidden)]
pub mod connect;
#[doc(hidden)]
pub mod env;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod fetch;
#[doc(hidden)]
pub mod file;
pub mod inspect;
#[doc(hidden)]
pub mod levels;
#[doc(hidden)]
pub mod meta;
#[doc(hidden)]
pub mod mirror;
mod session;
mod snapshot;
mod store;
#[doc(hidden)]
pub mod types;
mod volume;
#[doc(hidden)]
pub mod wire;

pub use commit::{Committed, Resolution, Transaction};
pub use config::{DiskCacheOptions, StoreOptions};
pub use env::Env;
pub use error::{CommitToken, Error, ErrorKind, Result};
pub use snapshot::Snapshot;
pub use store::{Store, VolumeInfo, VolumeOptions};
pub use types::{
    CommitId, FileId, Keep, PageCount, PageNo, PageSize, Revision, VolumeId, VolumeName,
};
pub use volume::{Volume, begin_all, commit_all};

/// The door for our own crates (compactor, CLI, tests). Nothing behind it is stable.
#[doc(hidden)]
pub mod internal {
    pub use crate::{
        blob, cache, codec, connect, env, error, fetch, file, levels, meta, mirror, types, wire,
    };
}
