//! What can go wrong inside the tree, and what is done about it.

use std::io;

use crate::meta::{MetaError, MetaResult};

/// Result of a step inside a transaction of the tree.
pub(super) type Step<T> = Result<T, Fault>;

/// Why a step failed. All but `Meta` are for [`super::map::Map`] to cure.
#[derive(Debug)]
pub(super) enum Fault {
    /// The map is too small for what is to be written.
    MapFull,
    /// Another process made the file larger than this process's map.
    MapResized,
    /// All reader slots are taken.
    ReadersFull,
    /// A commit failed at its last write: the tree refuses everything until it is opened anew.
    Poisoned,
    /// What the caller is to be told.
    Meta(MetaError),
}

impl From<MetaError> for Fault {
    fn from(error: MetaError) -> Fault {
        Fault::Meta(error)
    }
}

impl From<heed::Error> for Fault {
    fn from(error: heed::Error) -> Fault {
        use heed::MdbError;
        match error {
            heed::Error::Mdb(MdbError::MapFull) => Fault::MapFull,
            heed::Error::Mdb(MdbError::MapResized) => Fault::MapResized,
            heed::Error::Mdb(MdbError::ReadersFull) => Fault::ReadersFull,
            heed::Error::Mdb(MdbError::Panic) => Fault::Poisoned,
            heed::Error::Mdb(
                damage @ (MdbError::Corrupted
                | MdbError::PageNotFound
                | MdbError::Invalid
                | MdbError::VersionMismatch
                | MdbError::Problem),
            ) => Fault::Meta(MetaError::Corrupt(format!("embedded store: {damage}"))),
            heed::Error::Io(error) => Fault::Meta(io_error("embedded store", &error)),
            error => Fault::Meta(not_applied(format!("embedded store: {error}"))),
        }
    }
}

impl Fault {
    /// For what is not cured: the caller gets it as it is.
    pub(super) fn into_meta(self) -> MetaError {
        match self {
            Fault::Meta(error) => error,
            Fault::MapFull => {
                MetaError::NoSpace("embedded store: map is at its largest".to_owned())
            }
            Fault::MapResized => not_applied("embedded store: another process keeps growing it"),
            Fault::ReadersFull => not_applied("embedded store: too many threads read it at once"),
            Fault::Poisoned => {
                not_applied("embedded store: a write failed; it is to be opened anew")
            }
        }
    }
}

/// The operating system's refusal of `what`, before anything was applied.
pub(super) fn io_error(what: &str, error: &io::Error) -> MetaError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            MetaError::DiskFull(format!("{what}: {error}"))
        }
        _ => not_applied(format!("{what}: {error}")),
    }
}

/// Nothing was applied.
pub(super) fn not_applied(message: impl Into<String>) -> MetaError {
    MetaError::Unavailable { message: message.into(), maybe_applied: false }
}

/// Maybe applied, maybe not.
pub(super) fn unknown(message: impl Into<String>) -> MetaError {
    MetaError::Unavailable { message: message.into(), maybe_applied: true }
}

/// A lock whose holder panicked is used as it is: nothing of ours leaves half a change under a lock.
pub(super) fn unpoisoned<T>(locked: Result<T, std::sync::PoisonError<T>>) -> T {
    locked.unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The answer where no cure is left.
pub(super) fn final_answer<T>(step: Step<T>) -> MetaResult<T> {
    step.map_err(Fault::into_meta)
}
