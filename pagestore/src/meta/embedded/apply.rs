//! Running a transaction against the tables.
//!
//! Invariants: all compares, nested ones too, are decided before anything is applied; all changes of a
//! transaction have one main revision, the one after the newest, and consecutive sub revisions; a
//! transaction that changes nothing takes no revision. What may be refused is refused before the first
//! change, so a transaction is applied wholly or not at all.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use heed::{PutFlags, RwTxn};

use super::fault::Step;
use super::format::{
    Change, Current, Facts, INLINE_BYTES, Live, Stamp, encode_change, encode_current,
    encode_lease_id,
};
use super::view::{Tables, View};
use crate::meta::{
    Compare, CompareOp, KeyRange, LeaseId, MetaError, Op, OpResponse, Target, Txn, TxnResponse,
};
use crate::types::Revision;

/// Keys of a range looked up at a time while it is deleted.
const DELETE_CHUNK_KEYS: usize = 1_000;

/// Which branch was chosen, here and in the nested transactions of that branch, in order.
#[derive(Debug)]
pub(super) struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

/// Decides all compares.
pub(super) fn decide(view: &View<'_>, txn: &Txn) -> Step<Path> {
    let mut succeeded = true;
    for compare in &txn.compares {
        if !holds(view, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut nested = Vec::new();
    for op in branch(txn, succeeded) {
        if let Op::Txn(inner) = op {
            nested.push(decide(view, inner)?);
        }
    }
    Ok(Path { succeeded, nested })
}

/// Refuses a put under a lease that does not exist, on the way that is taken.
pub(super) fn check_leases(view: &View<'_>, txn: &Txn, path: &Path) -> Step<()> {
    let mut nested = path.nested.iter();
    for op in branch(txn, path.succeeded) {
        match op {
            Op::Put { lease, .. } if lease.0 != 0 && view.lease(*lease)?.is_none() => {
                return Err(MetaError::LeaseNotFound.into());
            }
            Op::Txn(inner) => check_leases(view, inner, next_path(&mut nested))?,
            Op::Put { .. } | Op::Delete(_) | Op::Range(_) => {}
        }
    }
    Ok(())
}

/// Runs a transaction that changes nothing.
pub(super) fn run_read_only(view: &View<'_>, txn: &Txn) -> Step<TxnResponse> {
    let path = decide(view, txn)?;
    let revision = Revision(view.revision()?);
    read_branch(view, txn, &path, revision)
}

fn read_branch(view: &View<'_>, txn: &Txn, path: &Path, revision: Revision) -> Step<TxnResponse> {
    let mut nested = path.nested.iter();
    let mut responses = Vec::new();
    for op in branch(txn, path.succeeded) {
        responses.push(match op {
            Op::Range(request) => OpResponse::Range(view.range(request)?),
            Op::Txn(inner) => {
                OpResponse::Txn(read_branch(view, inner, next_path(&mut nested), revision)?)
            }
            Op::Put { .. } | Op::Delete(_) => unreachable!("BUG: a read-only transaction writes"),
        });
    }
    Ok(TxnResponse { succeeded: path.succeeded, revision, responses })
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded { &txn.then } else { &txn.or_else }
}

fn next_path<'p>(nested: &mut std::slice::Iter<'p, Path>) -> &'p Path {
    nested.next().expect("BUG: every nested transaction of the branch taken was decided")
}

fn holds(view: &View<'_>, compare: &Compare) -> Step<bool> {
    let (mut any, mut all) = (false, true);
    view.each_key(&compare.keys, None, |found| {
        any = true;
        let order = match &compare.target {
            Target::CreateRevision(right) => found.facts.create.cmp(&right.0),
            Target::ModRevision(right) => found.stamp.main.cmp(&right.0),
            Target::Version(right) => found.facts.version.cmp(right),
            Target::Value(right) => view.value_of(&found)?.cmp(right.as_ref()),
            Target::Lease(right) => found.facts.lease.cmp(right),
        };
        all = order_fits(order, compare.op);
        Ok(if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    if any {
        return Ok(all);
    }
    // An empty range counts as one absent key: all its numbers are 0, and it has no value to compare.
    let order = match &compare.target {
        Target::CreateRevision(right) | Target::ModRevision(right) => 0.cmp(&right.0),
        Target::Version(right) => 0.cmp(right),
        Target::Lease(right) => 0.cmp(&right.0),
        Target::Value(_) => return Ok(false),
    };
    Ok(order_fits(order, compare.op))
}

fn order_fits(order: Ordering, op: CompareOp) -> bool {
    match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::Less => order.is_lt(),
    }
}

/// The changes of one revision under way.
pub(super) struct Changes<'a, 'p> {
    tables: Tables,
    txn: &'a mut RwTxn<'p>,
    next: Stamp,
}

impl<'a, 'p> Changes<'a, 'p> {
    /// Changes at the revision after `newest`.
    pub(super) fn begin(tables: Tables, txn: &'a mut RwTxn<'p>, newest: u64) -> Changes<'a, 'p> {
        Changes { tables, txn, next: Stamp::first_of(newest + 1) }
    }

    /// The newest revision once these changes are done.
    pub(super) fn revision(&self) -> u64 {
        if self.next.sub == 0 { self.next.main - 1 } else { self.next.main }
    }

    fn view(&self) -> View<'_> {
        View::new(self.tables, self.txn)
    }

    /// Runs a transaction whose branches are chosen and whose leases are checked.
    pub(super) fn run(&mut self, txn: &Txn, path: &Path) -> Step<TxnResponse> {
        let mut response = self.run_branch(txn, path)?;
        set_revision(&mut response, Revision(self.revision()));
        Ok(response)
    }

    fn run_branch(&mut self, txn: &Txn, path: &Path) -> Step<TxnResponse> {
        let mut nested = path.nested.iter();
        let mut responses = Vec::new();
        for op in branch(txn, path.succeeded) {
            responses.push(match op {
                Op::Put { key, value, lease } => {
                    self.put(key, value, *lease)?;
                    OpResponse::Put
                }
                Op::Delete(keys) => OpResponse::Delete(self.delete(keys)?),
                Op::Range(request) => OpResponse::Range(self.view().range(request)?),
                Op::Txn(inner) => OpResponse::Txn(self.run_branch(inner, next_path(&mut nested))?),
            });
        }
        // The revision is not known before the last operation.
        Ok(TxnResponse { succeeded: path.succeeded, revision: Revision::ZERO, responses })
    }

    fn put(&mut self, key: &Bytes, value: &[u8], lease: LeaseId) -> Step<()> {
        let stamp = self.next;
        let old = self.view().current(key)?.map(|old| (old.stamp, old.live.map(|live| live.facts)));
        let (before, facts) = match old {
            None => (Stamp::ZERO, Facts { create: stamp.main, version: 1, lease }),
            Some((before, None)) => (before, Facts { create: stamp.main, version: 1, lease }),
            Some((before, Some(old))) => {
                self.detach(old.lease, key)?;
                (before, Facts { version: old.version + 1, lease, ..old })
            }
        };
        if lease.0 != 0 {
            self.tables.held.put(self.txn, &encode_lease_id(lease), key)?;
        }
        let inline = (value.len() <= INLINE_BYTES).then_some(value);
        let live = Some(Live { facts, value: inline });
        self.record(
            key,
            &Current { stamp, live },
            &Change { before, key, put: Some((facts, value)) },
        )
    }

    /// Deletes what exists of `keys` and says how many that were.
    pub(super) fn delete(&mut self, keys: &KeyRange) -> Step<u64> {
        let mut rest = keys.clone();
        let mut deleted = 0;
        loop {
            let mut chunk: Vec<(Bytes, Stamp, LeaseId)> = Vec::new();
            self.view().each_key(&rest, None, |found| {
                let key = Bytes::copy_from_slice(found.key);
                chunk.push((key, found.stamp, found.facts.lease));
                let full = chunk.len() == DELETE_CHUNK_KEYS;
                Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            for (key, before, lease) in &chunk {
                self.detach(*lease, key)?;
                let stamp = self.next;
                let change = Change { before: *before, key, put: None };
                self.record(key, &Current { stamp, live: None }, &change)?;
            }
            deleted += chunk.len() as u64;
            match chunk.last() {
                Some((last, ..)) if chunk.len() == DELETE_CHUNK_KEYS && rest.end.is_some() => {
                    rest.start = [last.as_ref(), b"\0"].concat().into();
                }
                _ => return Ok(deleted),
            }
        }
    }

    fn detach(&mut self, lease: LeaseId, key: &[u8]) -> Step<()> {
        if lease.0 != 0 {
            self.tables.held.delete_one_duplicate(self.txn, &encode_lease_id(lease), key)?;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], current: &Current<'_>, change: &Change<'_>) -> Step<()> {
        let stamp = self.next;
        self.tables.cur.put(self.txn, key, &encode_current(key, current))?;
        let value = encode_change(stamp, change);
        self.tables.log.put_with_flags(self.txn, PutFlags::APPEND, &stamp.encode(), &value)?;
        self.next = stamp.next();
        Ok(())
    }
}

fn set_revision(response: &mut TxnResponse, revision: Revision) {
    response.revision = revision;
    for response in &mut response.responses {
        match response {
            OpResponse::Range(range) => range.revision = revision,
            OpResponse::Txn(nested) => set_revision(nested, revision),
            OpResponse::Put | OpResponse::Delete(_) => {}
        }
    }
}
