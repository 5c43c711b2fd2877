//! Which requests are refused before they are tried: etcd's limits and rules. Pure.
//!
//! Invariant: what passes here is not refused by a default etcd for its shape or size, so that nothing
//! works in a directory and fails on a cluster.

use std::collections::HashSet;

use bytes::Bytes;

use crate::meta::{
    Compare, KeyRange, MAX_KEY_BYTES, MAX_REQUEST_BYTES, MAX_TXN_OPS, MetaError, MetaResult, Op,
    RangeRequest, Target, Txn,
};

/// What etcd wraps around a transaction before it holds it against its limit: a header with a 64-bit
/// id, and the tag and length of the transaction.
const ENVELOPE_BYTES: usize = 14 + 1 + 4;

/// What a transaction that passed is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// It changes nothing, whichever branches are taken.
    pub(super) read_only: bool,
    /// Its size on etcd's wire.
    pub(super) bytes: usize,
}

/// Checks a transaction as etcd does.
pub(super) fn check_txn(txn: &Txn) -> MetaResult<Checked> {
    check_ops(txn, MAX_TXN_OPS)?;
    check_puts(&txn.then)?;
    check_puts(&txn.or_else)?;
    let bytes = txn_bytes(txn) + ENVELOPE_BYTES;
    if bytes > MAX_REQUEST_BYTES {
        return Err(MetaError::Refused(format!(
            "request is too large: {bytes} bytes, at most {MAX_REQUEST_BYTES}"
        )));
    }
    Ok(Checked { read_only: is_read_only(txn), bytes })
}

/// Checks a read outside a transaction.
pub(super) fn check_range(request: &RangeRequest) -> MetaResult<()> {
    check_keys(&request.keys)
}

/// Checks the keys of a read, a deletion, a compare or a watch.
pub(super) fn check_keys(keys: &KeyRange) -> MetaResult<()> {
    if keys.start.is_empty() { Err(no_key()) } else { Ok(()) }
}

fn no_key() -> MetaError {
    MetaError::Refused("key is not provided".to_owned())
}

/// Counts as etcd does: of compares, then and else the largest number; what that leaves of `limit` is
/// for each nested transaction.
fn check_ops(txn: &Txn, limit: usize) -> MetaResult<()> {
    let ops = txn.compares.len().max(txn.then.len()).max(txn.or_else.len());
    let Some(left) = limit.checked_sub(ops) else {
        return Err(MetaError::Refused(format!(
            "too many operations in txn request: {ops} where {limit} are left of {MAX_TXN_OPS}"
        )));
    };
    txn.compares.iter().try_for_each(|compare| check_keys(&compare.keys))?;
    txn.then.iter().chain(&txn.or_else).try_for_each(|op| match op {
        Op::Put { key, .. } if key.is_empty() => Err(no_key()),
        Op::Put { key, .. } if key.len() > MAX_KEY_BYTES => Err(MetaError::Refused(format!(
            "key is too long: {} bytes, at most {MAX_KEY_BYTES}",
            key.len()
        ))),
        Op::Put { .. } => Ok(()),
        Op::Delete(keys) => check_keys(keys),
        Op::Range(RangeRequest { revision: Some(_), .. }) => {
            Err(MetaError::Refused("a range in a txn request is given a revision".to_owned()))
        }
        Op::Range(request) => check_keys(&request.keys),
        Op::Txn(nested) => check_ops(nested, left),
    })
}

/// The keys put and the keys deleted by some operations.
#[derive(Default)]
struct Touched<'a> {
    puts: HashSet<&'a Bytes>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Touched<'a> {
    fn put(&mut self, key: &'a Bytes) -> MetaResult<()> {
        let deleted = self.deletes.iter().any(|keys| keys.contains(key));
        if deleted || !self.puts.insert(key) {
            return Err(MetaError::Refused(format!(
                "duplicate key given in txn request: {}",
                key.escape_ascii()
            )));
        }
        Ok(())
    }
}

/// Refuses a key put twice, or put and deleted, in the same order as etcd: a level's deletions, then
/// its nested transactions in turn, then its puts. What only one of two branches touches is counted
/// once. (So a put in one nested transaction and a deletion of its key in a later one pass, as they do
/// in etcd.)
fn check_puts(ops: &[Op]) -> MetaResult<Touched<'_>> {
    let mut touched = Touched::default();
    for op in ops {
        if let Op::Delete(keys) = op {
            touched.deletes.push(keys);
        }
    }
    for op in ops {
        if let Op::Txn(nested) = op {
            let then = check_puts(&nested.then)?;
            let or_else = check_puts(&nested.or_else)?;
            then.puts.iter().try_for_each(|key| touched.put(key))?;
            let only_else = or_else.puts.difference(&then.puts);
            only_else.into_iter().try_for_each(|key| touched.put(key))?;
            touched.deletes.extend(then.deletes);
            touched.deletes.extend(or_else.deletes);
        }
    }
    for op in ops {
        if let Op::Put { key, .. } = op {
            touched.put(key)?;
        }
    }
    Ok(touched)
}

fn is_read_only(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.or_else).all(|op| match op {
        Op::Put { .. } | Op::Delete(_) => false,
        Op::Range(_) => true,
        Op::Txn(nested) => is_read_only(nested),
    })
}

/// Size of a transaction as a protobuf message.
fn txn_bytes(txn: &Txn) -> usize {
    let compares: usize = txn.compares.iter().map(|c| field_bytes(1, compare_bytes(c))).sum();
    let ops = txn.then.iter().chain(&txn.or_else);
    compares + ops.map(|op| field_bytes(1, op_bytes(op))).sum::<usize>()
}

fn compare_bytes(compare: &Compare) -> usize {
    // Field numbers from 16 on take two bytes; that of the end of a range is 64.
    let end = compare.keys.end.as_ref().map_or(0, |end| field_bytes(2, end.len()));
    let right = match &compare.target {
        Target::CreateRevision(revision) | Target::ModRevision(revision) => {
            varint_field(revision.0)
        }
        Target::Version(version) => varint_field(*version),
        Target::Value(value) => field_bytes(1, value.len()),
        Target::Lease(lease) => varint_field(lease.0.cast_unsigned()),
    };
    let result_and_target = 4;
    result_and_target + field_bytes(1, compare.keys.start.len()) + end + right
}

fn op_bytes(op: &Op) -> usize {
    let inner = match op {
        Op::Put { key, value, lease } => {
            let lease = if lease.0 == 0 { 0 } else { varint_field(lease.0.cast_unsigned()) };
            field_bytes(1, key.len()) + field_bytes(1, value.len()) + lease
        }
        Op::Delete(keys) => keys_bytes(keys),
        Op::Range(request) => {
            let limit = request.limit.map_or(0, |limit| varint_field(limit as u64));
            let projection = 2;
            keys_bytes(&request.keys) + limit + projection
        }
        Op::Txn(txn) => txn_bytes(txn),
    };
    field_bytes(1, inner)
}

fn keys_bytes(keys: &KeyRange) -> usize {
    let end = keys.end.as_ref().map_or(0, |end| field_bytes(1, end.len()));
    field_bytes(1, keys.start.len()) + end
}

/// A field of bytes: tag, length, content.
fn field_bytes(tag_bytes: usize, content_bytes: usize) -> usize {
    tag_bytes + varint_bytes(content_bytes as u64) + content_bytes
}

fn varint_field(value: u64) -> usize {
    1 + varint_bytes(value)
}

fn varint_bytes(value: u64) -> usize {
    let bits = (u64::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::LeaseId;

    fn puts(from: usize, count: usize) -> Vec<Op> {
        (from..from + count).map(|i| Op::put(format!("k{i:04}"), "v")).collect()
    }

    fn then(ops: Vec<Op>) -> Txn {
        Txn { then: ops, ..Txn::default() }
    }

    fn refused(txn: &Txn) -> String {
        match check_txn(txn) {
            Err(MetaError::Refused(why)) => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_level_may_have_as_many_operations_as_its_parents_leave() {
        assert!(check_txn(&then(puts(0, 128))).is_ok());
        assert!(refused(&then(puts(0, 129))).contains("too many operations"));
        let nested = |outer: usize, inner: usize| {
            let mut ops = puts(1000, outer - 1);
            ops.push(Op::Txn(then(puts(0, inner))));
            then(ops)
        };
        assert!(check_txn(&nested(100, 28)).is_ok());
        assert!(refused(&nested(100, 29)).contains("too many operations"));
        let compares = vec![Compare::absent("a"); 100];
        let mut by_compares = nested(1, 28);
        by_compares.compares = compares;
        assert!(check_txn(&by_compares).is_ok());
        by_compares.then = vec![Op::Txn(then(puts(0, 29)))];
        assert!(refused(&by_compares).contains("too many operations"));
    }

    #[test]
    fn a_key_is_put_once() {
        let twice = then(vec![Op::put("a", "1"), Op::put("a", "2")]);
        assert!(refused(&twice).contains("duplicate key"));
        let range = Op::Delete(KeyRange::span("a", "c"));
        for ops in [[Op::put("b", "1"), range.clone()], [range.clone(), Op::put("b", "1")]] {
            assert!(refused(&then(ops.to_vec())).contains("duplicate key"));
        }
        assert!(check_txn(&then(vec![range.clone(), Op::put("c", "1")])).is_ok());
        let branches = Txn {
            then: vec![Op::put("a", "1")],
            or_else: vec![Op::put("a", "2")],
            ..Txn::default()
        };
        assert!(check_txn(&branches).is_ok());
        assert!(check_txn(&then(vec![Op::Txn(branches.clone())])).is_ok());
        let siblings = then(vec![Op::Txn(branches.clone()), Op::Txn(branches.clone())]);
        assert!(refused(&siblings).contains("duplicate key"));
        let with_parent = then(vec![Op::Txn(branches), Op::put("a", "3")]);
        assert!(refused(&with_parent).contains("duplicate key"));
    }

    #[test]
    fn a_later_siblings_deletion_of_a_put_key_passes_as_in_etcd() {
        let put = Op::Txn(then(vec![Op::put("a", "1")]));
        let delete = Op::Txn(then(vec![Op::delete("a")]));
        assert!(check_txn(&then(vec![put.clone(), delete.clone()])).is_ok());
        assert!(refused(&then(vec![delete, put])).contains("duplicate key"));
    }

    #[test]
    fn keys_are_neither_empty_nor_too_long() {
        assert!(refused(&then(vec![Op::put("", "v")])).contains("not provided"));
        assert!(refused(&then(vec![Op::delete("")])).contains("not provided"));
        assert!(refused(&then(vec![Op::get("")])).contains("not provided"));
        let compare = Txn { compares: vec![Compare::absent("")], ..Txn::default() };
        assert!(refused(&compare).contains("not provided"));
        assert!(check_txn(&then(vec![Op::put(vec![1; MAX_KEY_BYTES], "v")])).is_ok());
        assert!(
            refused(&then(vec![Op::put(vec![1; MAX_KEY_BYTES + 1], "v")])).contains("too long")
        );
    }

    #[test]
    fn a_range_inside_has_no_revision() {
        let range = RangeRequest::new(KeyRange::key("a")).at(crate::types::Revision(1));
        assert!(refused(&then(vec![Op::Range(range)])).contains("revision"));
    }

    #[test]
    fn sizes_are_those_of_the_wire() {
        let put = Op::Put { key: "key".into(), value: vec![0; 200].into(), lease: LeaseId(300) };
        // put: 2 + 3, 1 + 2 + 200, 1 + 2 = 211; operation: 1 + 2 + 211; transaction: 1 + 2 + 214.
        assert_eq!(txn_bytes(&then(vec![put])), 217);
        // compare: 2 + 2 + (2 + 1) + 2 = 9; transaction: 2 + 9.
        let compare = Txn { compares: vec![Compare::absent("a")], ..Txn::default() };
        assert_eq!(txn_bytes(&compare), 11);
    }

    #[test]
    fn a_request_over_the_limit_is_refused() {
        let of = |bytes: usize| then(vec![Op::put("k", vec![0; bytes])]);
        assert!(check_txn(&of(MAX_REQUEST_BYTES - 64)).is_ok());
        assert!(refused(&of(MAX_REQUEST_BYTES)).contains("too large"));
    }

    #[test]
    fn read_only_means_in_all_branches() {
        let mut txn = then(vec![Op::get("a"), Op::Txn(then(vec![Op::get("b")]))]);
        assert!(check_txn(&txn).unwrap().read_only);
        txn.or_else = vec![Op::Txn(then(vec![Op::delete("b")]))];
        assert!(!check_txn(&txn).unwrap().read_only);
    }
}
