//! The meta tier: an ordered, multi-version key-value store with etcd's semantics.
//!
//! Owns the trait, what keys and values look like ([`keys`], [`records`]) and which transactions
//! pagestore sends (`txn`). The backends ([`etcd`] and [`embedded`]) know nothing of what a key means.
//!
//! What every backend guarantees:
//! - every transaction that changes something gets the next revision, for all its changes;
//! - reads and transactions are linearizable;
//! - a transaction's compares, nested ones too, see the state before the transaction;
//! - a watch delivers every change from its start revision on, in order, whole revisions at a time.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::types::Revision;

pub mod embedded;
mod error;
pub mod etcd;
pub mod keys;
pub mod records;
pub mod txn;

pub use error::{MetaError, MetaResult};

/// Most operations in a transaction: compares, then and else counted apart; a nested transaction may
/// use what its parents leave. etcd's default, and so the limit everywhere.
pub const MAX_TXN_OPS: usize = 128;
/// Largest request in bytes: etcd's default.
pub const MAX_REQUEST_BYTES: usize = 1_572_864;
/// Longest key in bytes that the embedded backend's tree can hold.
pub const MAX_KEY_BYTES: usize = 511;

/// A set of keys: one, or all from `start` up to `end`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// First key.
    pub start: Bytes,
    /// The first key after the range; `None` for the single key `start`.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// The single key `key`.
    pub fn key(key: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: key.into(), end: None }
    }

    /// The keys from `start` up to, not including, `end`.
    pub fn span(start: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: start.into(), end: Some(end.into()) }
    }

    /// All keys that begin with `prefix`, which must not consist of `0xff` alone.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let keep = prefix
            .iter()
            .rposition(|byte| *byte != 0xff)
            .expect("BUG: a prefix of 0xff alone has no end");
        let mut end = prefix.get(..=keep).unwrap_or_default().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        KeyRange::span(prefix.to_vec(), end)
    }

    /// True when `key` belongs to the set.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            None => self.start == key,
            Some(end) => self.start.as_ref() <= key && key < end.as_ref(),
        }
    }
}

/// A key with its newest value at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
    /// Revision at which the key came to be (since it was last deleted).
    pub create_revision: Revision,
    /// Revision of the last put.
    pub mod_revision: Revision,
    /// Number of puts since the key came to be, from 1.
    pub version: u64,
    /// The lease the key is attached to; 0 for none.
    pub lease: LeaseId,
}

/// A lease; 0 stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

/// How much of each key a range returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Projection {
    /// Keys and values.
    #[default]
    Full,
    /// Keys and revisions, values empty.
    KeysOnly,
    /// Only how many there are.
    CountOnly,
}

/// A read of a key range, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    /// Which keys.
    pub keys: KeyRange,
    /// At which revision; `None` for now. Never given inside a transaction.
    pub revision: Option<Revision>,
    /// At most so many; `None` for all.
    pub limit: Option<usize>,
    /// Keys, values, or just a count.
    pub projection: Projection,
}

impl RangeRequest {
    /// All of `keys`, now, with values.
    #[must_use]
    pub fn new(keys: KeyRange) -> RangeRequest {
        RangeRequest { keys, revision: None, limit: None, projection: Projection::Full }
    }

    /// As of `revision`.
    #[must_use]
    pub fn at(mut self, revision: Revision) -> RangeRequest {
        self.revision = Some(revision);
        self
    }

    /// At most `limit` keys.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> RangeRequest {
        self.limit = Some(limit);
        self
    }

    /// Only what `projection` says.
    #[must_use]
    pub fn project(mut self, projection: Projection) -> RangeRequest {
        self.projection = projection;
        self
    }
}

/// What a range found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision when the range was read (not the revision asked for); in a transaction, the
    /// transaction's.
    pub revision: Revision,
    /// The keys found, in key order.
    pub kvs: Vec<KeyValue>,
    /// True when the limit cut the answer.
    pub more: bool,
    /// How many keys the range holds, whatever the limit.
    pub count: u64,
}

/// What a compare looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// [`KeyValue::create_revision`]; 0 for an absent key.
    CreateRevision(Revision),
    /// [`KeyValue::mod_revision`]; 0 for an absent key.
    ModRevision(Revision),
    /// [`KeyValue::version`]; 0 for an absent key.
    Version(u64),
    /// The value; every compare of the value of an absent key fails.
    Value(Bytes),
    /// [`KeyValue::lease`]; 0 for an absent key.
    Lease(LeaseId),
}

/// How a compare compares: the key's on the left, the given on the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Greater.
    Greater,
    /// Less.
    Less,
}

/// A condition on every key of a range. An empty range counts as one absent key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The keys it holds for.
    pub keys: KeyRange,
    /// How.
    pub op: CompareOp,
    /// What, with the right-hand side.
    pub target: Target,
}

impl Compare {
    /// The key does not exist.
    pub fn absent(key: impl Into<Bytes>) -> Compare {
        Compare::created(key, Revision::ZERO)
    }

    /// The key exists.
    pub fn exists(key: impl Into<Bytes>) -> Compare {
        let target = Target::CreateRevision(Revision::ZERO);
        Compare { keys: KeyRange::key(key), op: CompareOp::Greater, target }
    }

    /// The key came to be at `revision` (0: does not exist).
    pub fn created(key: impl Into<Bytes>, revision: Revision) -> Compare {
        let target = Target::CreateRevision(revision);
        Compare { keys: KeyRange::key(key), op: CompareOp::Equal, target }
    }

    /// The key was last put at `revision` (0: does not exist).
    pub fn modified(key: impl Into<Bytes>, revision: Revision) -> Compare {
        let target = Target::ModRevision(revision);
        Compare { keys: KeyRange::key(key), op: CompareOp::Equal, target }
    }

    /// No key of the range was put after `revision`.
    #[must_use]
    pub fn unchanged_since(keys: KeyRange, revision: Revision) -> Compare {
        Compare { keys, op: CompareOp::Less, target: Target::ModRevision(revision.next()) }
    }
}

/// One operation of a transaction. No key may be put twice in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// The lease that deletes it when it ends; 0 for none.
        lease: LeaseId,
    },
    /// Deletes keys.
    Delete(KeyRange),
    /// Reads keys, with the effects of the operations before it in the transaction.
    Range(RangeRequest),
    /// Another transaction, whose compares see the state before the outermost one.
    Txn(Txn),
}

impl Op {
    /// A put without a lease.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Op {
        Op::Put { key: key.into(), value: value.into(), lease: LeaseId::default() }
    }

    /// Deletes one key.
    pub fn delete(key: impl Into<Bytes>) -> Op {
        Op::Delete(KeyRange::key(key))
    }

    /// Reads one key.
    pub fn get(key: impl Into<Bytes>) -> Op {
        Op::Range(RangeRequest::new(KeyRange::key(key)))
    }
}

/// If all compares hold then `then`, else `or_else`; atomically.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub compares: Vec<Compare>,
    /// Done when all hold.
    pub then: Vec<Op>,
    /// Done when one does not.
    pub or_else: Vec<Op>,
}

/// The outcome of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResponse {
    /// A put happened.
    Put,
    /// How many keys were deleted.
    Delete(u64),
    /// What was read.
    Range(RangeResponse),
    /// How a nested transaction went.
    Txn(TxnResponse),
}

/// How a transaction went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    /// True when all compares held.
    pub succeeded: bool,
    /// The store's revision after the transaction: the transaction's own when it changed anything.
    pub revision: Revision,
    /// One for each operation of the branch that was taken.
    pub responses: Vec<OpResponse>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key was put.
    Put(KeyValue),
    /// A key was deleted, at `revision`.
    Delete {
        /// The key.
        key: Bytes,
        /// When.
        revision: Revision,
    },
}

impl Event {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Event::Put(kv) => &kv.key,
            Event::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Event::Put(kv) => kv.mod_revision,
            Event::Delete { revision, .. } => *revision,
        }
    }
}

/// All changes of a watch's keys up to `revision`, after those of the batch before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Everything up to and including this revision has now been delivered.
    pub revision: Revision,
    /// The changes, in revision order, whole revisions at a time; may be empty (progress only).
    pub events: Vec<Event>,
}

/// A watch: ends with an error ([`MetaError::Compacted`] when its place in history is gone,
/// [`MetaError::Unavailable`] when the connection is), after which a new one is to be made.
pub type WatchStream = BoxStream<'static, MetaResult<WatchBatch>>;

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaStatus {
    /// Now.
    pub revision: Revision,
    /// Changes when a store is made anew or restored from a backup.
    pub cluster_id: u64,
    /// Bytes on disk, free pages included: what etcd's quota is held against.
    pub size_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Server version, for people.
    pub version: String,
}

/// The meta tier. Every call is bounded in time; see [`MetaError`] for what may have happened.
#[async_trait]
pub trait MetaStore: Debug + Send + Sync + 'static {
    /// Reads keys. Linearizable when no revision is given.
    async fn range(&self, request: RangeRequest) -> MetaResult<RangeResponse>;

    /// Runs a transaction. Never sent twice by the backend: a lost answer is
    /// [`MetaError::Unavailable`] with `maybe_applied`.
    async fn txn(&self, txn: Txn) -> MetaResult<TxnResponse>;

    /// Changes of `keys` from revision `from` (1 or later, possibly not reached yet) on. Returns once the
    /// watch is registered. One that begins at the compacted revision itself delivers all of it, or is
    /// [`MetaError::Compacted`].
    async fn watch(&self, keys: KeyRange, from: Revision) -> MetaResult<WatchStream>;

    /// A new lease of at least `ttl` (whole seconds, rounded up; at least 1).
    async fn lease_grant(&self, ttl: Duration) -> MetaResult<LeaseId>;

    /// Starts the lease's time anew and returns it; [`MetaError::LeaseNotFound`] when it has ended.
    async fn lease_keep_alive(&self, lease: LeaseId) -> MetaResult<Duration>;

    /// Ends the lease and deletes its keys; [`MetaError::LeaseNotFound`] when it has ended.
    async fn lease_revoke(&self, lease: LeaseId) -> MetaResult<()>;

    /// Forgets versions superseded at or before `revision`. Reads and watches below it get
    /// [`MetaError::Compacted`].
    async fn compact(&self, revision: Revision) -> MetaResult<()>;

    /// What the store says of itself.
    async fn status(&self) -> MetaResult<MetaStatus>;

    /// True when nobody but pagestore uses the store, so that its history may be compacted.
    fn owns_history(&self) -> bool;
}
