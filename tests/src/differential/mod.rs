//! The same random requests on two stores, with every answer compared.
//!
//! Both start fresh, so revisions are the same numbers. Lease ids are not: requests name leases by
//! [`leases`]' numbers, which are translated on the way in and back.

use std::sync::Arc;

use pagestore::internal::meta::{
    MetaError, MetaResult, MetaStore, Op, RangeRequest, RangeResponse, Txn, TxnResponse,
};
use pagestore::internal::types::Revision;
use rand::RngExt as _;
use rand::rngs::SmallRng;

use crate::harness::Seed;

mod generate;
mod leases;
mod watches;

use generate::{random_keys, random_range, random_txn};
use leases::Leases;
use watches::Watches;

/// Fewer accepted transactions than one in so many, and the test tests little.
const ACCEPTED_AT_LEAST_ONE_IN: usize = 2;

/// The two stores, and what is known of both.
#[derive(Debug)]
pub struct Pair {
    stores: [Arc<dyn MetaStore>; 2],
    leases: Leases,
    watches: Watches,
    rng: SmallRng,
    now: Revision,
    compacted: Revision,
    txns: usize,
    accepted: usize,
}

impl Pair {
    /// Two fresh stores.
    #[must_use]
    pub fn new(stores: [Arc<dyn MetaStore>; 2], seed: Seed) -> Pair {
        Pair {
            stores,
            leases: Leases::default(),
            watches: Watches::default(),
            rng: seed.rng(),
            now: Revision(1),
            compacted: Revision::ZERO,
            txns: 0,
            accepted: 0,
        }
    }

    /// Sends so many random requests, and compares the answers and in the end everything.
    pub async fn run(&mut self, requests: usize) {
        for step in 0..requests {
            if let Err(difference) = self.step().await {
                panic!("step {step}: {difference}");
            }
        }
        self.close_watches().await.unwrap();
        self.compare_all().await.unwrap();
        assert!(self.accepted * ACCEPTED_AT_LEAST_ONE_IN >= self.txns, "most were refused");
    }

    async fn step(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..1_000) {
            0..700 => {
                let txn = random_txn(&mut self.rng, self.now, self.leases.count());
                self.txn(txn).await
            }
            700..900 => {
                let request = random_range(&mut self.rng, self.compacted, self.now);
                self.range(request).await
            }
            900..940 => self.grant_or_revoke().await,
            940..960 => self.keep_alive().await,
            960..980 => self.start_watch().await,
            980..995 => self.close_a_watch().await,
            _ => self.compact().await,
        }
    }

    async fn txn(&mut self, txn: Txn) -> Result<(), String> {
        let send = |side: usize| self.stores[side].txn(self.leases.translate(side, &txn));
        let (left, right) = tokio::join!(send(0), send(1));
        let answers = [self.leases.recognise_txn(0, left), self.leases.recognise_txn(1, right)];
        self.txns += 1;
        if let Some(response) = agreed(&txn, answers)? {
            self.accepted += 1;
            self.now = response.revision;
        }
        Ok(())
    }

    async fn range(&mut self, request: RangeRequest) -> Result<(), String> {
        let send = |side: usize| self.stores[side].range(request.clone());
        let (left, right) = tokio::join!(send(0), send(1));
        let answers = [self.leases.recognise_range(0, left), self.leases.recognise_range(1, right)];
        agreed(&request, answers)?;
        Ok(())
    }

    async fn grant_or_revoke(&mut self) -> Result<(), String> {
        if self.leases.count() < leases::MOST && self.rng.random() {
            return self.leases.grant(&self.stores).await;
        }
        let lease = self.leases.any(&mut self.rng);
        let send = |side: usize| self.stores[side].lease_revoke(self.leases.id(side, lease));
        let (left, right) = tokio::join!(send(0), send(1));
        agreed(&("revoke", lease), [left, right])?;
        // Its keys are gone, with a revision, if it had any.
        let look = RangeRequest::new(generate::everything());
        let (left, right) =
            tokio::join!(self.stores[0].range(look.clone()), self.stores[1].range(look.clone()));
        let answers = [self.leases.recognise_range(0, left), self.leases.recognise_range(1, right)];
        if let Some(found) = agreed(&look, answers)? {
            self.now = found.revision;
        }
        Ok(())
    }

    async fn keep_alive(&mut self) -> Result<(), String> {
        let lease = self.leases.any(&mut self.rng);
        let send = |side: usize| self.stores[side].lease_keep_alive(self.leases.id(side, lease));
        let (left, right) = tokio::join!(send(0), send(1));
        agreed(&("keep alive", lease), [left, right]).map(drop)
    }

    async fn start_watch(&mut self) -> Result<(), String> {
        if self.watches.are_enough() {
            return self.close_a_watch().await;
        }
        let keys = random_keys(&mut self.rng);
        // What is left of the compacted revision itself depends on etcd's release.
        let from = match self.rng.random_range(0..10) {
            0 if self.compacted.0 > 1 => self.rng.random_range(1..self.compacted.0),
            _ => self.rng.random_range(self.compacted.0 + 1..self.now.0 + 4),
        };
        self.watches.start(&self.stores, keys, Revision(from), self.compacted).await
    }

    async fn close_a_watch(&mut self) -> Result<(), String> {
        let Some(watch) = self.watches.take_any(&mut self.rng) else { return Ok(()) };
        // A change that it sees tells that it has seen all before.
        self.txn(Txn { then: vec![watch.mark()], ..Txn::default() }).await?;
        while self.now < watch.from {
            self.txn(Txn { then: vec![watch.mark()], ..Txn::default() }).await?;
        }
        watch.compare(self.now, &self.leases).await
    }

    async fn close_watches(&mut self) -> Result<(), String> {
        while !self.watches.is_empty() {
            self.close_a_watch().await?;
        }
        Ok(())
    }

    async fn compact(&mut self) -> Result<(), String> {
        // A watch that lags is cut off by it, and which one lags is chance.
        self.close_watches().await?;
        let revision = Revision(self.rng.random_range(self.compacted.0..self.now.0 + 2));
        let send = |side: usize| self.stores[side].compact(revision);
        let (left, right) = tokio::join!(send(0), send(1));
        if agreed(&("compact", revision), [left, right])?.is_some() {
            self.compacted = revision;
        }
        Ok(())
    }

    async fn compare_all(&mut self) -> Result<(), String> {
        let oldest = self.compacted.0.max(1);
        for revision in (oldest..=self.now.0).step_by(1 + self.now.0 as usize / 500) {
            self.range(RangeRequest::new(generate::everything()).at(Revision(revision))).await?;
        }
        let txn = Txn { then: vec![Op::Delete(generate::everything())], ..Txn::default() };
        self.txn(txn).await
    }
}

/// What both answered; `None` when both refused for the same reason.
fn agreed<T: PartialEq + std::fmt::Debug>(
    request: &impl std::fmt::Debug,
    [left, right]: [MetaResult<T>; 2],
) -> Result<Option<T>, String> {
    match (left, right) {
        (Ok(left), Ok(right)) if left == right => Ok(Some(left)),
        (Err(left), Err(right)) if kind(&left) == kind(&right) => Ok(None),
        (left, right) => Err(format!(
            "answers differ\nrequest: {request:#?}\nleft: {left:#?}\nright: {right:#?}"
        )),
    }
}

/// The kind of an error that both must give. Others mean that the test did not work.
fn kind(error: &MetaError) -> &'static str {
    match error {
        MetaError::Refused(_) => "refused",
        MetaError::Compacted { .. } => "compacted",
        MetaError::FutureRevision => "future revision",
        MetaError::LeaseNotFound => "lease not found",
        other => panic!("{other:?}"),
    }
}

type RangeAnswer = MetaResult<RangeResponse>;
type TxnAnswer = MetaResult<TxnResponse>;
