//! Our requests in etcd's words. Pure.

use bytes::Bytes;
use etcd_client::{
    Compare as EtcdCompare, CompareOp as EtcdCompareOp, DeleteOptions, GetOptions, PutOptions,
    Txn as EtcdTxn, TxnOp,
};

use crate::meta::{Compare, CompareOp, KeyRange, Op, Projection, RangeRequest, Target, Txn};
use crate::types::Revision;

/// Stands for every range that holds no key. etcd gives two ends a meaning of their own: an empty one
/// is a single key, and `\0` is no end at all.
const EMPTY_RANGE: &[u8] = b"\0\0";

/// A key and, unless it is a single key, the end of the range that begins there.
pub(super) fn encode_keys(keys: &KeyRange) -> (Vec<u8>, Option<Vec<u8>>) {
    match &keys.end {
        None => (keys.start.to_vec(), None),
        Some(end) if *end <= keys.start => (EMPTY_RANGE.to_vec(), Some(EMPTY_RANGE.to_vec())),
        Some(end) => (keys.start.to_vec(), Some(end.to_vec())),
    }
}

/// A revision as etcd counts them; what lies beyond its numbers is its largest.
pub(super) fn encode_revision(revision: Revision) -> i64 {
    clamp(revision.0)
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A read: its first key and the rest.
pub(super) fn encode_range(request: &RangeRequest) -> (Vec<u8>, GetOptions) {
    let (start, end) = encode_keys(&request.keys);
    let mut options = GetOptions::new();
    if let Some(end) = end {
        options = options.with_range(end);
    }
    if let Some(revision) = request.revision {
        options = options.with_revision(encode_revision(revision));
    }
    if let Some(limit) = request.limit {
        options = options.with_limit(i64::try_from(limit).unwrap_or(i64::MAX));
    }
    let options = match request.projection {
        Projection::Full => options,
        Projection::KeysOnly => options.with_keys_only(),
        Projection::CountOnly => options.with_count_only(),
    };
    (start, options)
}

/// A transaction with all that is nested in it.
pub(super) fn encode_txn(txn: &Txn) -> EtcdTxn {
    EtcdTxn::new()
        .when(txn.compares.iter().map(encode_compare).collect::<Vec<_>>())
        .and_then(txn.then.iter().map(encode_op).collect::<Vec<_>>())
        .or_else(txn.or_else.iter().map(encode_op).collect::<Vec<_>>())
}

fn encode_op(op: &Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => {
            let options = PutOptions::new().with_lease(lease.0);
            TxnOp::put(Bytes::clone(key), Bytes::clone(value), Some(options))
        }
        Op::Delete(keys) => {
            let (start, end) = encode_keys(keys);
            let options = end.map(|end| DeleteOptions::new().with_range(end));
            TxnOp::delete(start, options)
        }
        Op::Range(request) => {
            let (start, options) = encode_range(request);
            TxnOp::get(start, Some(options))
        }
        Op::Txn(txn) => TxnOp::txn(encode_txn(txn)),
    }
}

fn encode_compare(compare: &Compare) -> EtcdCompare {
    let (start, end) = encode_keys(&compare.keys);
    let op = match compare.op {
        CompareOp::Equal => EtcdCompareOp::Equal,
        CompareOp::NotEqual => EtcdCompareOp::NotEqual,
        CompareOp::Greater => EtcdCompareOp::Greater,
        CompareOp::Less => EtcdCompareOp::Less,
    };
    let encoded = match &compare.target {
        Target::CreateRevision(revision) => {
            EtcdCompare::create_revision(start, op, encode_revision(*revision))
        }
        Target::ModRevision(revision) => {
            EtcdCompare::mod_revision(start, op, encode_revision(*revision))
        }
        Target::Version(version) => EtcdCompare::version(start, op, clamp(*version)),
        Target::Value(value) => EtcdCompare::value(start, op, Bytes::clone(value)),
        Target::Lease(lease) => EtcdCompare::lease(start, op, lease.0),
    };
    match end {
        Some(end) => encoded.with_range(end),
        None => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_a_meaning_in_etcd_are_never_sent_by_accident() {
        let single = KeyRange::key("a");
        assert_eq!(encode_keys(&single), (b"a".to_vec(), None));
        let several = KeyRange::span("a", "b");
        assert_eq!(encode_keys(&several), (b"a".to_vec(), Some(b"b".to_vec())));
        for (start, end) in [("a", ""), ("a", "\0"), ("b", "a"), ("\0", "\0")] {
            let none = KeyRange::span(start, end);
            let want = (b"\0\0".to_vec(), Some(b"\0\0".to_vec()));
            assert_eq!(encode_keys(&none), want, "{start:?} {end:?}");
        }
    }

    #[test]
    fn revisions_beyond_etcds_are_its_largest() {
        assert_eq!(encode_revision(Revision(7)), 7);
        assert_eq!(encode_revision(Revision::MAX), i64::MAX);
    }
}
