//! A page store for databases on etcd and S3, or in one directory.
//!
//! pagestore keeps the pages of databases (SQLite files, B-tree stores, block devices) so that any
//! number of processes on any number of machines can read and write them, each commit atomic, durable
//! and visible to all at once. It is a library: the process that owns the database links it; there is
//! no server of ours in between.
//!
//! An LSM tree whose memtable and log are etcd and whose levels are S3:
//!
//! ```text
//!   Store ── Volume ── Snapshot, Transaction            (this process)
//!      │        │
//!      │        ├─ commit ──────────────┐ one etcd transaction: compare, then put
//!      │        └─ mirror <── watch ──┐ │
//!   ┌──┴──────────────────────────────┴─▼──┐
//!   │ meta tier: etcd, or LMDB             │  pointers, changelog, head, staged pages,
//!   │ (milliseconds, replicated)           │  list of files
//!   └──────────────────┬───────────────────┘
//!                      │ compactor: flush, merge, delete
//!   ┌──────────────────▼───────────────────┐
//!   │ blob tier: S3, or a directory        │  immutable files: frames of pages and a
//!   │ (bottomless)                         │  sorted index, in levels
//!   └──────────────────────────────────────┘
//! ```
//!
//! Start at [`Store::open`]; [`blocking`] is the same without async, [`inspect`] shows what is stored.
//! `README.md` says how to run it, `schema.md` what every byte means.
//!
//! # A commit, in five lines
//!
//! 1. A [`Transaction`] is a snapshot at a revision R, the pages it read, and the pages it wrote.
//! 2. Each page written is staged in the smallest form (whole, XOR or prefix delta), under its hash.
//! 3. One etcd transaction compares that no page read or written, nor floor, barrier and volume, has
//!    changed since R, and puts pages, pointers, changelog entry and head. Its revision is the commit's.
//! 4. If a compare fails: rebase onto the newest revision when none of its pages changed (a flush moved
//!    the floor, a range was coarse), else `Conflict`.
//! 5. If the answer is lost: a transaction either finds the commit or makes sure that it never happens.
//!
//! Commits that wait in one process travel together as nested transactions, each with its own outcome.
//! What does not fit into one etcd transaction goes to the blob tier as a file first, and is published by
//! one: a commit of any size is atomic.
//!
//! # A read
//!
//! A snapshot is a persistent map (page to newest unflushed version), cloned off the mirror, and a
//! revision. The newest version at or below the revision wins, over the mirror and all files of level 0;
//! then level 1 and down. Content comes from memory, from etcd if it is staged, else from one ranged
//! GET of a frame of neighbouring pages. In a volume whose pages are in memory a read asks nobody.
//!
//! # What protects what
//!
//! | | by |
//! | --- | --- |
//! | a commit from others' commits | the mod revisions of the pointers of all pages it read or wrote, in etcd's compares |
//! | a commit from a flush, a bulk commit, a truncation | the mod revisions of floor and barrier |
//! | a commit from being applied twice, or late | its changelog entry must be absent; an abort marker takes its place |
//! | a snapshot from retention | its session's pin, under a lease, which a raise of the oldest revision compares |
//! | a reader from the deletion of a file | its session's level list; a dropped file waits for all of them |
//! | an upload from the clean-up | its intent, which publication and clean-up both must find |
//! | compactors from one another | the claim's create revision, compared by all that they do |
//! | a page from damage, or from another in its place | a hash over volume, page number and content |
//! | a volume from its successor of the same name | the create revision of its metadata |
//! | the store from an etcd that was restored from a backup | the cluster id in the store's record |
//!
//! Safety never rests on a clock. Leases decide only how long something is kept for a process that may be
//! dead; what comes later compares.
//!
//! # What is checked always
//!
//! In every build, where it could break, at the cost of a comparison or two. A check that fails stops what
//! would have broken the promise, with an error wherever it is not our own code alone that is to blame.
//!
//! | | where | if not |
//! | --- | --- | --- |
//! | a commit is newer than what it was made on | the answer of the meta tier | `Corrupt`: the meta tier went back |
//! | revision, newest commit, floor and oldest readable revision of a volume never go back | every step of the mirror, and when it is loaded anew | `Corrupt`; the volume is not followed any further |
//! | a snapshot reads nothing newer than itself, and only what is kept | every read | `Expired`; an assertion for our own mistakes |
//! | content is what its hash says, a page is of the volume's size | wherever bytes come in | `Corrupt`, with the place |
//! | no file is listed twice; below level 0 the files of a level do not overlap | every edit of the list | `Corrupt` |
//! | an entry's revisions, counts and ranges hold together | when it is read | `Corrupt` |
//! | a commit fits one transaction, and a group is bounded | before it is sent | `Invalid`, an assertion |
//! | the floor only rises, to no more than was read; nothing above it leaves level 0 | every publication | it is refused |
//! | what is no longer kept does not come back | every raise of the oldest revision | it is refused |
//! | what is staged goes only when it is in files | every removal, whatever the job that it goes on with says | it is refused |
//! | versions go into a file in order, each once; a page of zeros is stored nowhere | the writer of files | an assertion: our own mistake |
//!
//! # Modules and their walls
//!
//! A test (`tests/tests/walls.rs`) reads the imports and holds these.
//!
//! | | owns | |
//! | --- | --- | --- |
//! | `types`, `wire`, `error` | newtypes; varints and seals; the one public error | import nothing above |
//! | `env` | clock, randomness, sleeping, spawning | the only source of each |
//! | `codec` | one page to and from staged bytes | pure |
//! | `file` | the bytes of a file; reader and writer say what to fetch and put | pure |
//! | `levels` | which files make up a volume, which version a revision sees, what is kept | pure |
//! | `meta` | the trait of the meta tier; `keys`, `records`, `txn`: every transaction we send | pure, but for the trait |
//! | `meta::etcd`, `meta::embedded` | two backends of one behaviour | know nothing of what a key means |
//! | `blob` | create-only puts, ranged gets, listings, retries | never looks into an object |
//! | `cache`, `fetch` | pages, indexes and frames in memory; one request at a time for each | |
//! | `mirror` | all watched keys of a volume in memory, by one watch | folds, never guesses |
//! | `session` | lease, pin, level list of one open volume | |
//! | `snapshot` | lookup, and the way to a page's content | |
//! | `commit` | read and write sets, group, bulk, rebase, resolution | never reports what etcd did not decide |
//! | `lock` | write locks, for those who want to write one at a time | never decides a commit: compares do |
//! | `store`, `volume`, `connect` | the front door; URL to backends | only `connect` names a backend |
//! | `restore` | what an etcd restored from a backup has lost, and its acceptance | changes the store's record only |
//! | `inspect`, `blocking` | on top of the front door | |
//!
//! The compactor is a crate of its own (`pagestore-compactor`), a library and a sidecar; this crate does
//! not depend on it. It goes through [`internal`], as the tests do; nobody else should.
//!
//! # What is deliberately absent
//!
//! A server in the data path. A consensus protocol of our own. Reference counts. Deletion by age alone.
//! Objects that change. A hash index shared between volumes.
#![warn(missing_docs)]

/// True in a simulated run with this fault, which breaks a rule; see `fault`. Never in a product.
#[cfg(feature = "planted-faults")]
#[doc(hidden)]
#[macro_export]
macro_rules! planted {
    ($($fault:ident)|+) => {
        $crate::internal::fault::is_planted(&[$($crate::internal::fault::Fault::$fault),+])
    };
}

/// Where the simulation can break a rule; see `fault`. Here nothing does.
#[cfg(not(feature = "planted-faults"))]
#[doc(hidden)]
#[macro_export]
macro_rules! planted {
    ($($fault:ident)|+) => {
        false
    };
}

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
#[cfg(feature = "planted-faults")]
#[doc(hidden)]
pub mod fault;
#[doc(hidden)]
pub mod fetch;
#[doc(hidden)]
pub mod file;
pub mod inspect;
#[doc(hidden)]
pub mod levels;
mod lock;
#[doc(hidden)]
pub mod meta;
#[doc(hidden)]
pub mod mirror;
pub mod restore;
mod session;
mod snapshot;
mod store;
#[doc(hidden)]
pub mod types;
mod volume;
#[doc(hidden)]
pub mod wire;

pub use commit::{Committed, Resolution, Tolerates, Transaction};
pub use config::{DiskCacheOptions, StoreOptions};
pub use env::Env;
pub use error::{CommitToken, Error, ErrorKind, Result};
pub use lock::{TryLock, WriteLock};
pub use snapshot::Snapshot;
pub use store::{Store, VolumeInfo, VolumeOptions};
pub use types::{
    CommitId, FileId, Keep, PageCount, PageNo, PageSize, Revision, VolumeId, VolumeName,
};
pub use volume::{Volume, begin_all, commit_all};

/// The door for our own crates (compactor, CLI, tests). Nothing behind it is stable.
#[doc(hidden)]
pub mod internal {
    #[cfg(feature = "planted-faults")]
    pub use crate::fault;
    pub use crate::{
        blob, cache, codec, connect, env, error, fetch, file, levels, meta, mirror, types, wire,
    };
}

/// The example in the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// In the product there are no faults to plant.
///
/// ```compile_fail
/// pagestore::internal::fault::plant(None);
/// ```
#[cfg(all(doctest, not(feature = "planted-faults")))]
struct NoFaults;
