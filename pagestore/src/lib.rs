//! A page store for databases on etcd and S3, or in one directory.
#![warn(missing_docs)]

pub mod env;
pub mod error;
pub mod meta;
pub mod types;
pub mod wire;

pub use error::{Error, ErrorKind, Result};
