//! Reading the tables at a revision.
//!
//! Owns what a key's record means at a revision: `cur` has each key's newest change, and each change in
//! `log` names the one before it, so an older version is found by walking back. Invariant: at or above
//! the compacted revision the walk finds what was there; it never reads what a compaction may have
//! removed.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use heed::types::Bytes as RawBytes;
use heed::{Database, RoTxn};

use super::fault::Step;
use super::format::{
    Change, Current, Facts, Lease, Live, SYS_CLUSTER, SYS_COMPACT_SCHEDULED, SYS_REVISION, Stamp,
    corrupt, decode_bytes, decode_change, decode_current, decode_lease, decode_lease_id,
    decode_number, encode_lease_id,
};
use crate::meta::{
    KeyRange, KeyValue, LeaseId, MetaError, Projection, RangeRequest, RangeResponse,
};
use crate::types::Revision;

/// A table: bytes to bytes.
pub(super) type Table = Database<'static, RawBytes, RawBytes>;

/// The tables; see [`super::format`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    pub(super) cur: Table,
    pub(super) log: Table,
    pub(super) sys: Table,
    pub(super) lease: Table,
    pub(super) held: Table,
}

/// The tables as one transaction of the tree sees them.
#[derive(Clone, Copy)]
pub(super) struct View<'t> {
    tables: Tables,
    txn: &'t RoTxn<'t>,
}

/// A key that exists at the revision looked at.
#[derive(Clone, Copy)]
pub(super) struct Found<'t> {
    pub(super) key: &'t [u8],
    pub(super) stamp: Stamp,
    pub(super) facts: Facts,
    inline: Option<&'t [u8]>,
}

impl<'t> View<'t> {
    pub(super) fn new(tables: Tables, txn: &'t RoTxn<'t>) -> View<'t> {
        View { tables, txn }
    }

    pub(super) fn sys_number(&self, name: &str) -> Step<Option<u64>> {
        match self.tables.sys.get(self.txn, name.as_bytes())? {
            None => Ok(None),
            Some(value) => Ok(Some(decode_number(name, value)?)),
        }
    }

    pub(super) fn sys_bytes(&self, name: &str) -> Step<Option<&'t [u8]>> {
        match self.tables.sys.get(self.txn, name.as_bytes())? {
            None => Ok(None),
            Some(value) => Ok(Some(decode_bytes(name, value)?)),
        }
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> Step<u64> {
        let missing = || corrupt("sys", SYS_REVISION.as_bytes(), "is missing");
        Ok(self.sys_number(SYS_REVISION)?.ok_or_else(missing)?)
    }

    /// Drawn at random when the store was made.
    pub(super) fn cluster(&self) -> Step<u64> {
        let missing = || corrupt("sys", SYS_CLUSTER.as_bytes(), "is missing");
        Ok(self.sys_number(SYS_CLUSTER)?.ok_or_else(missing)?)
    }

    /// The oldest revision that can be read; 0 before the first compaction.
    pub(super) fn compacted(&self) -> Step<u64> {
        Ok(self.sys_number(SYS_COMPACT_SCHEDULED)?.unwrap_or(0))
    }

    /// The number of the commit that is looked at.
    pub(super) fn commit(&self) -> usize {
        self.txn.id()
    }

    /// Entries of `cur` and of `log`.
    #[cfg(test)]
    pub(super) fn entries(&self) -> Step<(usize, usize)> {
        let count = |table: Table| Ok::<_, heed::Error>(table.stat(self.txn)?.entries);
        Ok((count(self.tables.cur)?, count(self.tables.log)?))
    }

    /// The newest change of `key`.
    pub(super) fn current(&self, key: &[u8]) -> Step<Option<Current<'t>>> {
        match self.tables.cur.get(self.txn, key)? {
            None => Ok(None),
            Some(value) => Ok(Some(decode_current(key, value)?)),
        }
    }

    pub(super) fn change(&self, stamp: Stamp) -> Step<Option<Change<'t>>> {
        match self.tables.log.get(self.txn, &stamp.encode())? {
            None => Ok(None),
            Some(value) => Ok(Some(decode_change(stamp, value)?)),
        }
    }

    pub(super) fn lease(&self, id: LeaseId) -> Step<Option<Lease>> {
        match self.tables.lease.get(self.txn, &encode_lease_id(id))? {
            None => Ok(None),
            Some(value) => Ok(Some(decode_lease(id, value)?)),
        }
    }

    pub(super) fn leases(&self) -> Step<Vec<(LeaseId, Lease)>> {
        let mut leases = Vec::new();
        for entry in self.tables.lease.iter(self.txn)? {
            let (key, value) = entry?;
            let id = decode_lease_id(key)?;
            leases.push((id, decode_lease(id, value)?));
        }
        Ok(leases)
    }

    /// The keys that `lease` holds, in order.
    pub(super) fn held_by(&self, lease: LeaseId) -> Step<Vec<Bytes>> {
        let mut keys = Vec::new();
        if let Some(entries) = self.tables.held.get_duplicates(self.txn, &encode_lease_id(lease))? {
            for entry in entries {
                let (_, key) = entry?;
                keys.push(Bytes::copy_from_slice(key));
            }
        }
        Ok(keys)
    }

    /// The changes from `from` on, until `f` breaks.
    pub(super) fn each_change(
        &self,
        from: Stamp,
        mut f: impl FnMut(Stamp, Change<'t>) -> Step<ControlFlow<()>>,
    ) -> Step<()> {
        let from = from.encode();
        let bounds = (Bound::Included(&from[..]), Bound::Unbounded);
        for entry in self.tables.log.range(self.txn, &bounds)? {
            let (key, value) = entry?;
            let stamp = Stamp::decode(key)?;
            if f(stamp, decode_change(stamp, value)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The keys of `keys` that exist at revision `at` (`None`: now), in order, until `f` breaks.
    pub(super) fn each_key(
        &self,
        keys: &KeyRange,
        at: Option<u64>,
        mut f: impl FnMut(Found<'t>) -> Step<ControlFlow<()>>,
    ) -> Step<()> {
        let (from, to) = match &keys.end {
            None => (&keys.start, Bound::Included(keys.start.as_ref())),
            Some(end) if end <= &keys.start => return Ok(()),
            Some(end) => (&keys.start, Bound::Excluded(end.as_ref())),
        };
        for entry in self.tables.cur.range(self.txn, &(Bound::Included(from.as_ref()), to))? {
            let (key, value) = entry?;
            let current = decode_current(key, value)?;
            if let Some(found) = self.version_at(key, current, at)?
                && f(found)?.is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn version_at(
        &self,
        key: &'t [u8],
        current: Current<'t>,
        at: Option<u64>,
    ) -> Step<Option<Found<'t>>> {
        let at = at.unwrap_or(u64::MAX);
        if current.stamp.main <= at {
            let found =
                |Live { facts, value }| Found { key, stamp: current.stamp, facts, inline: value };
            return Ok(current.live.map(found));
        }
        let mut stamp = current.stamp;
        // Ends because each change is checked to be older than the one that named it.
        loop {
            let Some(change) = self.change(stamp)? else {
                // Only a deletion can be gone: what else a compaction removes has a successor that
                // every revision still readable sees in its place.
                let expected = stamp.main <= self.compacted()?;
                return if expected { Ok(None) } else { Err(missing(stamp).into()) };
            };
            if change.key != key {
                return Err(corrupt("log", &stamp.encode(), "is of another key").into());
            }
            if stamp.main <= at {
                let found = |(facts, value)| Found { key, stamp, facts, inline: Some(value) };
                return Ok(change.put.map(found));
            }
            if change.before >= stamp {
                return Err(corrupt("log", &stamp.encode(), "is older than its predecessor").into());
            }
            if change.before == Stamp::ZERO {
                return Ok(None);
            }
            stamp = change.before;
        }
    }

    /// The value of a key found.
    pub(super) fn value_of(&self, found: &Found<'t>) -> Step<&'t [u8]> {
        if let Some(value) = found.inline {
            return Ok(value);
        }
        match self.change(found.stamp)? {
            Some(Change { key, put: Some((_, value)), .. }) if key == found.key => Ok(value),
            _ => Err(missing(found.stamp).into()),
        }
    }

    /// etcd's range.
    pub(super) fn range(&self, request: &RangeRequest) -> Step<RangeResponse> {
        let revision = self.revision()?;
        // As in etcd, revision 0 is now.
        let at = request.revision.map(|at| at.0).filter(|at| *at != 0);
        if let Some(at) = at {
            if at > revision {
                return Err(MetaError::FutureRevision.into());
            }
            let oldest = self.compacted()?;
            if at < oldest {
                return Err(MetaError::Compacted { oldest: Revision(oldest) }.into());
            }
        }
        let limit = match (request.projection, request.limit) {
            (Projection::CountOnly, _) => 0,
            (_, None | Some(0)) => usize::MAX,
            (_, Some(limit)) => limit,
        };
        let mut response =
            RangeResponse { revision: Revision(revision), ..RangeResponse::default() };
        self.each_key(&request.keys, at, |found| {
            response.count += 1;
            if response.kvs.len() < limit {
                response.kvs.push(self.key_value(&found, request.projection)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let counted_only = request.projection == Projection::CountOnly;
        response.more = !counted_only && response.count > response.kvs.len() as u64;
        Ok(response)
    }

    fn key_value(&self, found: &Found<'t>, projection: Projection) -> Step<KeyValue> {
        let value = match projection {
            Projection::Full => Bytes::copy_from_slice(self.value_of(found)?),
            Projection::KeysOnly | Projection::CountOnly => Bytes::new(),
        };
        Ok(key_value(found.key, found.stamp, found.facts, value))
    }
}

/// A put, as callers see it.
pub(super) fn key_value(key: &[u8], stamp: Stamp, facts: Facts, value: Bytes) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        value,
        create_revision: Revision(facts.create),
        mod_revision: Revision(stamp.main),
        version: facts.version,
        lease: facts.lease,
    }
}

fn missing(stamp: Stamp) -> MetaError {
    corrupt("log", &stamp.encode(), "is missing")
}
