//! Random requests over few keys, so that they meet.

use bytes::Bytes;
use pagestore::internal::meta::{
    Compare, CompareOp, KeyRange, LeaseId, MAX_TXN_OPS, Op, Projection, RangeRequest, Target, Txn,
};
use pagestore::internal::types::Revision;
use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::leases::random_lease;

/// Deepest nesting of transactions.
const MAX_DEPTH: usize = 3;
/// Most operations in a branch of an ordinary transaction.
const MAX_OPS: usize = 5;

pub(super) fn everything() -> KeyRange {
    KeyRange::span("\0", b"\xff\xff\xff\xff".to_vec())
}

/// One of a few keys; some are prefixes of others, some have bytes with a meaning elsewhere.
fn random_key(rng: &mut SmallRng) -> Bytes {
    let stem = [&b"a"[..], b"b/", b"\0", b"p\xff", b"long/"][rng.random_range(0..5)];
    let mut key = stem.to_vec();
    match rng.random_range(0..10) {
        0 => {}
        1 => key.push(0),
        2 => key.push(0xff),
        3 if stem == b"long/" => key.extend([b'x'; 400]),
        _ => key.push(b'0' + rng.random_range(0..8)),
    }
    key.into()
}

/// Keys to read, to watch, to compare or to delete; sometimes none.
pub(super) fn random_keys(rng: &mut SmallRng) -> KeyRange {
    match rng.random_range(0..20) {
        0..10 => KeyRange::key(random_key(rng)),
        10..14 => KeyRange::prefix(&random_key(rng)),
        14 => everything(),
        // An end before the start is as good as any.
        _ => KeyRange::span(random_key(rng), random_key(rng)),
    }
}

/// Few values, so that some are equal; some too large to be kept inline.
pub(super) fn random_value(rng: &mut SmallRng) -> Bytes {
    match rng.random_range(0..40) {
        0 => vec![rng.random::<u8>(); rng.random_range(500..6_000)].into(),
        1..20 => vec![b'v'; rng.random_range(0..4)].into(),
        _ => rng.random::<[u8; 24]>().to_vec().into(),
    }
}

/// A read now or at a revision, compacted and future ones included.
pub(super) fn random_range(rng: &mut SmallRng, compacted: Revision, now: Revision) -> RangeRequest {
    let request = random_read(rng);
    match rng.random_range(0..10) {
        0..3 => request,
        3 => request.at(Revision(rng.random_range(1..now.0 + 3))),
        4 => {
            let near = rng.random_range(compacted.0.saturating_sub(2)..compacted.0 + 3);
            request.at(Revision(near.max(1)))
        }
        5..8 => request.at(Revision(rng.random_range(now.0.saturating_sub(20).max(1)..=now.0))),
        _ => request.at(Revision(rng.random_range(compacted.0.max(1)..=now.0))),
    }
}

fn random_read(rng: &mut SmallRng) -> RangeRequest {
    let keys = random_keys(rng);
    let request = RangeRequest::new(keys).project(match rng.random_range(0..6) {
        0 => Projection::KeysOnly,
        1 => Projection::CountOnly,
        _ => Projection::Full,
    });
    match rng.random_range(0..3) {
        0 => request.limit(rng.random_range(1..12)),
        _ => request,
    }
}

/// A transaction, sometimes about as large as is allowed.
pub(super) fn random_txn(rng: &mut SmallRng, now: Revision, lease_count: usize) -> Txn {
    let context = Context { now, lease_count };
    if rng.random_range(0..100) == 0 {
        return large_txn(rng);
    }
    context.txn(rng, MAX_DEPTH)
}

/// About as many operations as are allowed, over one or two levels.
fn large_txn(rng: &mut SmallRng) -> Txn {
    let near = |rng: &mut SmallRng, most: usize| rng.random_range(most - 2..most + 2);
    let puts = |rng: &mut SmallRng, count: usize| -> Vec<Op> {
        let start = rng.random_range(0..3) * 10;
        (0..count).map(|i| Op::put(format!("b/large {:03}", start + i), "")).collect()
    };
    let compares = |count: usize| vec![Compare::exists("a1"); count];
    let outer = rng.random_range(0..MAX_TXN_OPS - 2);
    let count = near(rng, MAX_TXN_OPS - outer.max(1));
    match rng.random_range(0..4) {
        0 => {
            let count = near(rng, MAX_TXN_OPS);
            Txn { then: puts(rng, count), ..Txn::default() }
        }
        1 => Txn { compares: compares(near(rng, MAX_TXN_OPS)), ..Txn::default() },
        2 => {
            let nested = Txn { then: puts(rng, count), or_else: puts(rng, 3), ..Txn::default() };
            Txn { compares: compares(outer), then: vec![Op::Txn(nested)], ..Txn::default() }
        }
        _ => {
            let nested = Txn { compares: compares(count), then: puts(rng, 3), ..Txn::default() };
            Txn { compares: compares(outer), or_else: vec![Op::Txn(nested)], ..Txn::default() }
        }
    }
}

struct Context {
    now: Revision,
    lease_count: usize,
}

impl Context {
    fn txn(&self, rng: &mut SmallRng, depth: usize) -> Txn {
        // Most have one condition that is as likely to hold as not.
        let compares = (0..rng.random_range(0..3)).map(|_| self.compare(rng)).collect();
        Txn { compares, then: self.ops(rng, depth), or_else: self.ops(rng, depth) }
    }

    fn ops(&self, rng: &mut SmallRng, depth: usize) -> Vec<Op> {
        (0..rng.random_range(0..=MAX_OPS)).map(|_| self.op(rng, depth)).collect()
    }

    fn op(&self, rng: &mut SmallRng, depth: usize) -> Op {
        match rng.random_range(0..20) {
            0..8 => Op::Put {
                key: random_key(rng),
                value: random_value(rng),
                lease: if rng.random_range(0..4) == 0 { self.lease(rng) } else { LeaseId(0) },
            },
            8..10 => Op::Delete(KeyRange::key(random_key(rng))),
            10 => Op::Delete(random_keys(rng)),
            11..17 => Op::Range(random_read(rng)),
            _ if depth > 1 => Op::Txn(self.txn(rng, depth - 1)),
            _ => Op::get(random_key(rng)),
        }
    }

    fn lease(&self, rng: &mut SmallRng) -> LeaseId {
        random_lease(rng, self.lease_count)
    }

    fn compare(&self, rng: &mut SmallRng) -> Compare {
        let keys = random_keys(rng);
        let mut op = [CompareOp::Equal, CompareOp::NotEqual, CompareOp::Greater, CompareOp::Less]
            [rng.random_range(0..4)];
        let revision = match rng.random_range(0..4) {
            0 => Revision::ZERO,
            _ => Revision(rng.random_range(self.now.0.saturating_sub(30)..=self.now.0)),
        };
        let target = match rng.random_range(0..10) {
            0..2 => Target::CreateRevision(revision),
            2..6 => Target::ModRevision(revision),
            6 => Target::Version(rng.random_range(0..4)),
            7..9 => Target::Value(random_value(rng)),
            // Which of two ids is the larger is chance.
            _ if rng.random() => {
                op = if rng.random() { CompareOp::Equal } else { CompareOp::NotEqual };
                Target::Lease(self.lease(rng))
            }
            _ => Target::Lease(LeaseId(0)),
        };
        Compare { keys, op, target }
    }
}
