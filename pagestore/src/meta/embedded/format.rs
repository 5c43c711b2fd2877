//! What is in the tables: keys and values of `cur`, `log`, `sys` and `lease`. Pure.
//!
//! | table | key | value (sealed: version, body, check over key and value) |
//! | --- | --- | --- |
//! | `cur` | the key | flags, stamp; unless a tombstone: create, version, lease, the value if inline |
//! | `log` | stamp: main u64, sub u32, big-endian | flags, stamp before (0, 0: none), key length, key; unless a tombstone: create, version, lease, value |
//! | `sys` | a name | one varint, or bytes |
//! | `lease` | lease id u64 big-endian | time to live in s, deadline in ms of the boot clock |
//! | `held` | lease id u64 big-endian | the key itself, one entry for each key the lease holds |
//!
//! Numbers in values are varints. Invariant: what does not decode to exactly what was encoded is
//! [`MetaError::Corrupt`], naming table and key.

use crate::meta::{LeaseId, MetaError, MetaResult};
use crate::wire::{Cursor, Malformed, put_varint, seal, unseal};

/// The version of the tables' layout, in `sys` under [`SYS_FORMAT`].
pub(super) const FORMAT: u64 = 1;
/// The version in each value's seal.
const VALUE_VERSION: u8 = 1;
/// A value up to this size lies in `cur` too, so that a range need not look into `log`.
pub(super) const INLINE_BYTES: usize = 1024;

const FLAG_TOMBSTONE: u8 = 1;
const FLAG_INLINE: u8 = 2;

/// Layout version of the store.
pub(super) const SYS_FORMAT: &str = "format";
/// Random number drawn when the store was made.
pub(super) const SYS_CLUSTER: &str = "cluster";
/// The newest revision.
pub(super) const SYS_REVISION: &str = "revision";
/// The revision below which nothing can be read: set before anything is deleted.
pub(super) const SYS_COMPACT_SCHEDULED: &str = "compact.scheduled";
/// The revision up to which superseded versions are deleted.
pub(super) const SYS_COMPACT_FINISHED: &str = "compact.finished";
/// The first stamp of `log` that the compaction under way has not looked at.
pub(super) const SYS_COMPACT_NEXT: &str = "compact.next";
/// The boot of the machine that lease deadlines belong to.
pub(super) const SYS_BOOT: &str = "boot";
/// No lease ends before this, in ms of the boot clock.
pub(super) const SYS_LEASE_DUE: &str = "lease.due";

/// Where a change stands in the order of all changes. `ZERO` is before every change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    /// Revision of the transaction.
    pub(super) main: u64,
    /// Number of the change in the transaction.
    pub(super) sub: u32,
}

/// Bytes of a stamp as a key of `log`.
pub(super) const STAMP_BYTES: usize = 12;

impl Stamp {
    pub(super) const ZERO: Stamp = Stamp { main: 0, sub: 0 };

    /// The first stamp of revision `main`.
    pub(super) fn first_of(main: u64) -> Stamp {
        Stamp { main, sub: 0 }
    }

    pub(super) fn next(self) -> Stamp {
        match self.sub.checked_add(1) {
            Some(sub) => Stamp { sub, ..self },
            None => Stamp { main: self.main + 1, sub: 0 },
        }
    }

    pub(super) fn encode(self) -> [u8; STAMP_BYTES] {
        let mut out = [0; STAMP_BYTES];
        let (main, sub) = out.split_at_mut(8);
        main.copy_from_slice(&self.main.to_be_bytes());
        sub.copy_from_slice(&self.sub.to_be_bytes());
        out
    }

    pub(super) fn decode(key: &[u8]) -> MetaResult<Stamp> {
        let mut cursor = Cursor::new(key);
        let read = |cursor: &mut Cursor<'_>| {
            let main = u64::from_be_bytes(cursor.array()?);
            Ok(Stamp { main, sub: u32::from_be_bytes(cursor.array()?) })
        };
        let stamp = read(&mut cursor).map_err(|e: Malformed| corrupt("log", key, e))?;
        cursor.finish().map_err(|e| corrupt("log", key, e))?;
        Ok(stamp)
    }
}

/// What a put leaves of a key beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) create: u64,
    pub(super) version: u64,
    pub(super) lease: LeaseId,
}

/// A record of `cur`: the newest change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Current<'a> {
    pub(super) stamp: Stamp,
    /// `None` when the change was a deletion.
    pub(super) live: Option<Live<'a>>,
}

/// The newest change was a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live<'a> {
    pub(super) facts: Facts,
    /// `None` when the value is in `log` only.
    pub(super) value: Option<&'a [u8]>,
}

/// A record of `log`: one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change<'a> {
    /// The change of the same key before this one; [`Stamp::ZERO`] when there was none.
    pub(super) before: Stamp,
    pub(super) key: &'a [u8],
    /// What was put; `None` for a deletion.
    pub(super) put: Option<(Facts, &'a [u8])>,
}

/// A record of `lease`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) ttl_s: u64,
    pub(super) deadline_ms: u64,
}

pub(super) fn encode_current(key: &[u8], current: &Current<'_>) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    let flags = match current.live {
        None => FLAG_TOMBSTONE,
        Some(Live { value: Some(_), .. }) => FLAG_INLINE,
        Some(Live { value: None, .. }) => 0,
    };
    body.push(flags);
    put_stamp(&mut body, current.stamp);
    if let Some(live) = current.live {
        put_facts(&mut body, live.facts);
        body.extend_from_slice(live.value.unwrap_or_default());
    }
    seal(key, VALUE_VERSION, &body)
}

pub(super) fn decode_current<'a>(key: &[u8], value: &'a [u8]) -> MetaResult<Current<'a>> {
    let read = || -> Result<Current<'a>, Malformed> {
        let mut cursor = open(key, value)?;
        let flags = cursor.u8()?;
        let stamp = read_stamp(&mut cursor)?;
        if flags == FLAG_TOMBSTONE {
            cursor.finish()?;
            return Ok(Current { stamp, live: None });
        }
        let facts = read_facts(&mut cursor)?;
        let value = match flags {
            FLAG_INLINE => Some(cursor.bytes(cursor.remaining())?),
            0 => None,
            _ => return Err(cursor.malformed("has unknown flags")),
        };
        cursor.finish()?;
        Ok(Current { stamp, live: Some(Live { facts, value }) })
    };
    read().map_err(|e| corrupt("cur", key, e))
}

pub(super) fn encode_change(stamp: Stamp, change: &Change<'_>) -> Vec<u8> {
    let value_bytes = change.put.map_or(0, |(_, value)| value.len());
    let mut body = Vec::with_capacity(64 + change.key.len() + value_bytes);
    body.push(if change.put.is_none() { FLAG_TOMBSTONE } else { 0 });
    put_stamp(&mut body, change.before);
    put_varint(&mut body, change.key.len() as u64);
    body.extend_from_slice(change.key);
    if let Some((facts, value)) = change.put {
        put_facts(&mut body, facts);
        body.extend_from_slice(value);
    }
    seal(&stamp.encode(), VALUE_VERSION, &body)
}

pub(super) fn decode_change(stamp: Stamp, value: &[u8]) -> MetaResult<Change<'_>> {
    let log_key = stamp.encode();
    let read = || -> Result<Change<'_>, Malformed> {
        let mut cursor = open(&log_key, value)?;
        let flags = cursor.u8()?;
        let before = read_stamp(&mut cursor)?;
        let key_bytes = cursor.count(1)?;
        let key = cursor.bytes(key_bytes)?;
        let put = match flags {
            FLAG_TOMBSTONE => None,
            0 => {
                let facts = read_facts(&mut cursor)?;
                Some((facts, cursor.bytes(cursor.remaining())?))
            }
            _ => return Err(cursor.malformed("has unknown flags")),
        };
        cursor.finish()?;
        Ok(Change { before, key, put })
    };
    read().map_err(|e| corrupt("log", &log_key, e))
}

pub(super) fn encode_lease_id(lease: LeaseId) -> [u8; 8] {
    lease.0.to_be_bytes()
}

pub(super) fn decode_lease_id(key: &[u8]) -> MetaResult<LeaseId> {
    let id = key.try_into().map_err(|_| {
        corrupt("lease", key, Malformed { offset: 0, why: "key is not 8 bytes long" })
    })?;
    Ok(LeaseId(i64::from_be_bytes(id)))
}

pub(super) fn encode_lease(id: LeaseId, lease: Lease) -> Vec<u8> {
    let mut body = Vec::with_capacity(16);
    put_varint(&mut body, lease.ttl_s);
    put_varint(&mut body, lease.deadline_ms);
    seal(&encode_lease_id(id), VALUE_VERSION, &body)
}

pub(super) fn decode_lease(id: LeaseId, value: &[u8]) -> MetaResult<Lease> {
    let key = encode_lease_id(id);
    let read = || -> Result<Lease, Malformed> {
        let mut cursor = open(&key, value)?;
        let lease = Lease { ttl_s: cursor.varint()?, deadline_ms: cursor.varint()? };
        cursor.finish()?;
        Ok(lease)
    };
    read().map_err(|e| corrupt("lease", &key, e))
}

pub(super) fn encode_number(name: &str, number: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(10);
    put_varint(&mut body, number);
    seal(name.as_bytes(), VALUE_VERSION, &body)
}

pub(super) fn decode_number(name: &str, value: &[u8]) -> MetaResult<u64> {
    let read = || -> Result<u64, Malformed> {
        let mut cursor = open(name.as_bytes(), value)?;
        let number = cursor.varint()?;
        cursor.finish()?;
        Ok(number)
    };
    read().map_err(|e| corrupt("sys", name.as_bytes(), e))
}

pub(super) fn encode_bytes(name: &str, bytes: &[u8]) -> Vec<u8> {
    seal(name.as_bytes(), VALUE_VERSION, bytes)
}

pub(super) fn decode_bytes<'a>(name: &str, value: &'a [u8]) -> MetaResult<&'a [u8]> {
    let read = || {
        let mut cursor = open(name.as_bytes(), value)?;
        cursor.bytes(cursor.remaining())
    };
    read().map_err(|e| corrupt("sys", name.as_bytes(), e))
}

/// What the value under `key` of `table` says, written anew: the same bytes. For whoever feeds the decoders.
///
/// # Errors
/// `Corrupt` for what no store has written; `Refused` for a table that there is not.
#[doc(hidden)]
pub fn read_and_write(table: &str, key: &[u8], value: &[u8]) -> MetaResult<Vec<u8>> {
    match table {
        "cur" => Ok(encode_current(key, &decode_current(key, value)?)),
        "log" => {
            let stamp = Stamp::decode(key)?;
            Ok(encode_change(stamp, &decode_change(stamp, value)?))
        }
        "lease" => {
            let lease = decode_lease_id(key)?;
            Ok(encode_lease(lease, decode_lease(lease, value)?))
        }
        "sys" => {
            let name = str::from_utf8(key).map_err(|why| corrupt(table, key, why))?;
            if [SYS_BOOT, SYS_COMPACT_NEXT].contains(&name) {
                return Ok(encode_bytes(name, decode_bytes(name, value)?));
            }
            Ok(encode_number(name, decode_number(name, value)?))
        }
        _ => Err(MetaError::Refused(format!("no such table: {table}"))),
    }
}

/// The value of `key` in `table` is not what was written.
pub(super) fn corrupt(table: &str, key: &[u8], why: impl std::fmt::Display) -> MetaError {
    MetaError::Corrupt(format!("{why} (embedded store, table {table}, key {})", key.escape_ascii()))
}

fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<Cursor<'a>, Malformed> {
    let sealed = unseal(key, value)?;
    if sealed.version != VALUE_VERSION {
        return Err(Malformed { offset: 0, why: "has an unknown version" });
    }
    Ok(Cursor::new(sealed.body))
}

fn put_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    put_varint(out, stamp.main);
    put_varint(out, u64::from(stamp.sub));
}

fn read_stamp(cursor: &mut Cursor<'_>) -> Result<Stamp, Malformed> {
    let main = cursor.varint()?;
    let sub = u32::try_from(cursor.varint()?);
    Ok(Stamp { main, sub: sub.map_err(|_| cursor.malformed("has a sub revision over 32 bits"))? })
}

fn put_facts(out: &mut Vec<u8>, facts: Facts) {
    put_varint(out, facts.create);
    put_varint(out, facts.version);
    put_varint(out, facts.lease.0.cast_unsigned());
}

fn read_facts(cursor: &mut Cursor<'_>) -> Result<Facts, Malformed> {
    let (create, version) = (cursor.varint()?, cursor.varint()?);
    Ok(Facts { create, version, lease: LeaseId(cursor.varint()?.cast_signed()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts { create: 2, version: 300, lease: LeaseId(-7) };

    #[test]
    fn stamps_sort_as_they_are_ordered() {
        let stamps = [
            Stamp::ZERO,
            Stamp { main: 1, sub: 255 },
            Stamp { main: 1, sub: 256 },
            Stamp { main: 256, sub: 0 },
            Stamp { main: u64::MAX, sub: u32::MAX },
        ];
        assert!(stamps.map(Stamp::encode).is_sorted());
        for stamp in stamps {
            assert_eq!(Stamp::decode(&stamp.encode()).unwrap(), stamp);
        }
        assert!(Stamp::decode(&[0; 11]).is_err());
        assert!(Stamp::decode(&[0; 13]).is_err());
    }

    #[test]
    fn values_round_trip() {
        let stamp = Stamp { main: 500, sub: 3 };
        for live in [
            None,
            Some(Live { facts: FACTS, value: None }),
            Some(Live { facts: FACTS, value: Some(b"") }),
            Some(Live { facts: FACTS, value: Some(b"value") }),
        ] {
            let current = Current { stamp, live };
            let bytes = encode_current(b"k", &current);
            assert_eq!(decode_current(b"k", &bytes).unwrap(), current);
        }
        for put in [None, Some((FACTS, &b"value"[..]))] {
            let change = Change { before: Stamp { main: 2, sub: 1 }, key: b"key", put };
            let bytes = encode_change(stamp, &change);
            assert_eq!(decode_change(stamp, &bytes).unwrap(), change);
        }
        let lease = Lease { ttl_s: 60, deadline_ms: 123_456 };
        let bytes = encode_lease(LeaseId(9), lease);
        assert_eq!(decode_lease(LeaseId(9), &bytes).unwrap(), lease);
        let bytes = encode_number(SYS_REVISION, 77);
        assert_eq!(decode_number(SYS_REVISION, &bytes).unwrap(), 77);
    }

    #[test]
    fn a_damaged_value_is_named_by_table_and_key() {
        let current = Current { stamp: Stamp::ZERO, live: None };
        let mut bytes = encode_current(b"a\xff", &current);
        bytes[1] ^= 1;
        let error = decode_current(b"a\xff", &bytes).unwrap_err().to_string();
        assert!(error.contains("table cur, key a\\xff"), "{error}");
        for len in 0..bytes.len() {
            assert!(decode_current(b"a\xff", &bytes[..len]).is_err());
            assert!(decode_change(Stamp::ZERO, &bytes[..len]).is_err());
        }
    }

    #[test]
    fn a_value_under_anothers_key_is_noticed() {
        let bytes = encode_lease(LeaseId(9), Lease { ttl_s: 1, deadline_ms: 1 });
        assert!(decode_lease(LeaseId(8), &bytes).is_err());
        assert!(decode_number(SYS_REVISION, &encode_number(SYS_CLUSTER, 1)).is_err());
    }
}
