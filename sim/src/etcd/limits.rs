//! What etcd refuses before it tries. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use pagestore::internal::meta::{
    KeyRange, MAX_KEY_BYTES, MAX_REQUEST_BYTES, MAX_TXN_OPS, MetaError, MetaResult, Op, Target, Txn,
};

/// Bytes that a request's header and an operation take, about, beside keys and values.
const HEADER_BYTES: usize = 19;

pub(super) fn check_keys(keys: &KeyRange) -> MetaResult<()> {
    if keys.start.is_empty() {
        return Err(MetaError::Refused("key is not provided".into()));
    }
    Ok(())
}

/// Refuses what etcd's limits and rules do not allow; returns the size of the request.
pub(super) fn check_txn(txn: &Txn) -> MetaResult<usize> {
    check_ops(txn, MAX_TXN_OPS)?;
    check_touched(&txn.then)?;
    check_touched(&txn.or_else)?;
    let bytes = HEADER_BYTES + txn_bytes(txn);
    if bytes > MAX_REQUEST_BYTES {
        return Err(MetaError::Refused(format!("request is too large: {bytes} bytes")));
    }
    Ok(bytes)
}

/// Of a level the largest of its three numbers of operations is used up; the rest is for what is nested.
fn check_ops(txn: &Txn, limit: usize) -> MetaResult<()> {
    let used = txn.compares.len().max(txn.then.len()).max(txn.or_else.len());
    if used > limit {
        return Err(MetaError::Refused(format!("too many operations: {used} of {limit}")));
    }
    for compare in &txn.compares {
        check_keys(&compare.keys)?;
    }
    for op in txn.then.iter().chain(&txn.or_else) {
        match op {
            Op::Put { key, .. } if key.is_empty() || key.len() > MAX_KEY_BYTES => {
                return Err(MetaError::Refused(format!("a key of {} bytes", key.len())));
            }
            Op::Put { .. } => {}
            Op::Delete(keys) => check_keys(keys)?,
            Op::Range(request) if request.revision.is_some() => {
                return Err(MetaError::Refused("a revision inside a transaction".into()));
            }
            Op::Range(request) => check_keys(&request.keys)?,
            Op::Txn(nested) => check_ops(nested, limit - used)?,
        }
    }
    Ok(())
}

#[derive(Default)]
struct Touched<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Touched<'a> {
    fn add(&mut self, key: &'a Bytes) -> MetaResult<()> {
        if self.deletes.iter().any(|keys| keys.contains(key)) || !self.puts.insert(key) {
            return Err(MetaError::Refused(format!("duplicate key: {}", key.escape_ascii())));
        }
        Ok(())
    }
}

/// A key is put once, and not deleted too: etcd looks at a level's deletions, then at what is nested in
/// it, then at its puts; of two branches one is taken.
fn check_touched(ops: &[Op]) -> MetaResult<Touched<'_>> {
    let mut touched = Touched::default();
    for op in ops {
        if let Op::Delete(keys) = op {
            touched.deletes.push(keys);
        }
    }
    for op in ops {
        let Op::Txn(nested) = op else { continue };
        let (then, or_else) = (check_touched(&nested.then)?, check_touched(&nested.or_else)?);
        for key in then.puts.union(&or_else.puts) {
            touched.add(key)?;
        }
        touched.deletes.extend(then.deletes);
        touched.deletes.extend(or_else.deletes);
    }
    for op in ops {
        if let Op::Put { key, .. } = op {
            touched.add(key)?;
        }
    }
    Ok(touched)
}

fn txn_bytes(txn: &Txn) -> usize {
    let compares = txn.compares.iter().map(|compare| {
        let value = match &compare.target {
            Target::Value(value) => value.len() + 3,
            _ => 6,
        };
        compare.keys.start.len() + compare.keys.end.as_ref().map_or(0, Bytes::len) + value + 10
    });
    let ops = txn.then.iter().chain(&txn.or_else).map(|op| match op {
        Op::Put { key, value, .. } => key.len() + value.len() + 14,
        Op::Delete(keys) => keys.start.len() + keys.end.as_ref().map_or(0, Bytes::len) + 10,
        Op::Range(request) => {
            request.keys.start.len() + request.keys.end.as_ref().map_or(0, Bytes::len) + 14
        }
        Op::Txn(nested) => txn_bytes(nested) + 6,
    });
    compares.sum::<usize>() + ops.sum::<usize>()
}
