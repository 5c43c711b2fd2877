//! Leases by numbers of our own, since each store gives its own ids.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pagestore::internal::meta::{
    Compare, Event, KeyValue, LeaseId, MetaStore, Op, OpResponse, Target, Txn, TxnResponse,
};
use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::{RangeAnswer, TxnAnswer};

/// Leases granted in one run, the revoked ones included.
pub(super) const MOST: usize = 300;
/// Long: when a lease runs out is chance.
const TTL: Duration = Duration::from_secs(3_600);
/// An id that no store has given.
const UNKNOWN: LeaseId = LeaseId(99);

/// Number `n` (from 1) stands for the n-th lease granted; 0 for none.
#[derive(Debug, Default)]
pub(super) struct Leases {
    ids: Vec<[LeaseId; 2]>,
    numbers: [HashMap<LeaseId, LeaseId>; 2],
}

impl Leases {
    pub(super) fn count(&self) -> usize {
        self.ids.len()
    }

    pub(super) async fn grant(&mut self, stores: &[Arc<dyn MetaStore>; 2]) -> Result<(), String> {
        let (left, right) = tokio::join!(stores[0].lease_grant(TTL), stores[1].lease_grant(TTL));
        let ids = [left, right].map(|id| id.expect("a lease is granted"));
        self.ids.push(ids);
        let number = LeaseId(self.ids.len() as i64);
        for (numbers, id) in self.numbers.iter_mut().zip(ids) {
            if numbers.insert(id, number).is_some() {
                return Err(format!("lease given twice: {id:?}"));
            }
        }
        Ok(())
    }

    /// A number, mostly of a lease granted of late, sometimes of none that exists.
    pub(super) fn any(&self, rng: &mut SmallRng) -> LeaseId {
        random_lease(rng, self.count())
    }

    /// What `side` calls the lease with our number.
    pub(super) fn id(&self, side: usize, number: LeaseId) -> LeaseId {
        match usize::try_from(number.0) {
            Ok(0) => LeaseId(0),
            Ok(number) => self.ids.get(number - 1).map_or(UNKNOWN, |ids| ids[side]),
            Err(_) => UNKNOWN,
        }
    }

    pub(super) fn translate(&self, side: usize, txn: &Txn) -> Txn {
        let ops = |ops: &[Op]| ops.iter().map(|op| self.translate_op(side, op)).collect();
        Txn {
            compares: txn.compares.iter().map(|c| self.translate_compare(side, c)).collect(),
            then: ops(&txn.then),
            or_else: ops(&txn.or_else),
        }
    }

    fn translate_op(&self, side: usize, op: &Op) -> Op {
        match op {
            Op::Put { key, value, lease } => {
                let (key, value) = (key.clone(), value.clone());
                Op::Put { key, value, lease: self.id(side, *lease) }
            }
            Op::Txn(txn) => Op::Txn(self.translate(side, txn)),
            other => other.clone(),
        }
    }

    fn translate_compare(&self, side: usize, compare: &Compare) -> Compare {
        match compare.target {
            Target::Lease(number) => {
                Compare { target: Target::Lease(self.id(side, number)), ..compare.clone() }
            }
            _ => compare.clone(),
        }
    }

    pub(super) fn recognise_range(&self, side: usize, mut answer: RangeAnswer) -> RangeAnswer {
        if let Ok(found) = &mut answer {
            found.kvs.iter_mut().for_each(|kv| self.recognise(side, kv));
        }
        answer
    }

    pub(super) fn recognise_txn(&self, side: usize, mut answer: TxnAnswer) -> TxnAnswer {
        if let Ok(response) = &mut answer {
            self.recognise_response(side, response);
        }
        answer
    }

    pub(super) fn recognise_event(&self, side: usize, event: &mut Event) {
        if let Event::Put(kv) = event {
            self.recognise(side, kv);
        }
    }

    fn recognise_response(&self, side: usize, response: &mut TxnResponse) {
        for response in &mut response.responses {
            match response {
                OpResponse::Range(found) => {
                    found.kvs.iter_mut().for_each(|kv| self.recognise(side, kv));
                }
                OpResponse::Txn(nested) => self.recognise_response(side, nested),
                OpResponse::Put | OpResponse::Delete(_) => {}
            }
        }
    }

    fn recognise(&self, side: usize, kv: &mut KeyValue) {
        if kv.lease.0 != 0 {
            kv.lease = self.numbers[side][&kv.lease];
        }
    }
}

/// The number of a lease of `count`, mostly a late one, sometimes of one that was never granted.
pub(super) fn random_lease(rng: &mut SmallRng, count: usize) -> LeaseId {
    let newest = count as i64;
    LeaseId(rng.random_range((newest - 4).max(1)..newest + 2))
}
