//! etcd's key-value store: versions by revision, transactions, leases' keys, compaction. Pure, and
//! written anew, so that it can be held against the backends that ship.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use pagestore::internal::meta::{
    Compare, CompareOp, Event, KeyRange, KeyValue, LeaseId, MetaError, MetaResult, Op, OpResponse,
    Projection, RangeRequest, RangeResponse, Target, Txn, TxnResponse,
};
use pagestore::internal::types::Revision;

/// A version of a key; `None`: deleted.
#[derive(Clone, Debug)]
struct Version {
    at: u64,
    live: Option<KeyValue>,
}

/// The store.
#[derive(Clone, Debug)]
pub struct Mvcc {
    revision: u64,
    compacted: u64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Changes by revision, from the compacted one on.
    log: BTreeMap<u64, Vec<Event>>,
    leases: BTreeMap<LeaseId, BTreeSet<Bytes>>,
    live_bytes: u64,
}

/// Which branch is taken, here and in what is nested in it.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

impl Default for Mvcc {
    fn default() -> Mvcc {
        Mvcc {
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            log: BTreeMap::new(),
            leases: BTreeMap::new(),
            live_bytes: 0,
        }
    }
}

impl Mvcc {
    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }

    /// The compacted revision; 0 before the first compaction.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        Revision(self.compacted)
    }

    /// Bytes of the newest versions.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Reads keys.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`.
    pub fn range(&self, request: &RangeRequest) -> MetaResult<RangeResponse> {
        let at = request.revision.map(|at| at.0).filter(|at| *at != 0);
        if at.is_some_and(|at| at > self.revision) {
            return Err(MetaError::FutureRevision);
        }
        if at.is_some_and(|at| at < self.compacted) {
            return Err(MetaError::Compacted { oldest: Revision(self.compacted) });
        }
        let limit = match (request.projection, request.limit) {
            (Projection::CountOnly, _) => 0,
            (_, None | Some(0)) => usize::MAX,
            (_, Some(limit)) => limit,
        };
        let mut response = RangeResponse { revision: self.revision(), ..RangeResponse::default() };
        for found in self.each(&request.keys, at) {
            response.count += 1;
            if response.kvs.len() < limit {
                let mut kv = found.clone();
                if request.projection == Projection::KeysOnly {
                    kv.value = Bytes::new();
                }
                response.kvs.push(kv);
            }
        }
        let is_count = request.projection == Projection::CountOnly;
        response.more = !is_count && response.count > response.kvs.len() as u64;
        Ok(response)
    }

    fn each<'a>(
        &'a self,
        keys: &'a KeyRange,
        at: Option<u64>,
    ) -> impl Iterator<Item = &'a KeyValue> + 'a {
        let bounds = match &keys.end {
            None => Some((Bound::Included(&keys.start), Bound::Included(&keys.start))),
            Some(end) if end <= &keys.start => None,
            Some(end) => Some((Bound::Included(&keys.start), Bound::Excluded(end))),
        };
        let range = bounds.map(|bounds| self.keys.range::<Bytes, _>(bounds));
        let at = at.unwrap_or(u64::MAX);
        range.into_iter().flatten().filter_map(move |(_, versions)| {
            let version = versions.iter().rev().find(|version| version.at <= at)?;
            version.live.as_ref()
        })
    }

    /// Runs a transaction that passed the limits; returns what changed, too.
    ///
    /// # Errors
    /// `LeaseNotFound`: nothing was done then.
    pub fn txn(&mut self, txn: &Txn) -> MetaResult<(TxnResponse, Vec<Event>)> {
        let path = self.decide(txn);
        self.check_leases(txn, &path)?;
        let mut events = Vec::new();
        let mut response = self.run(txn, &path, &mut events);
        self.close(&events);
        set_revision(&mut response, self.revision());
        Ok((response, events))
    }

    /// Ends the present revision, if anything changed.
    fn close(&mut self, events: &[Event]) {
        if !events.is_empty() {
            self.revision += 1;
            self.log.insert(self.revision, events.to_vec());
        }
    }

    fn decide(&self, txn: &Txn) -> Path {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let nested = branch(txn, succeeded).iter().filter_map(|op| match op {
            Op::Txn(nested) => Some(self.decide(nested)),
            _ => None,
        });
        Path { succeeded, nested: nested.collect() }
    }

    fn check_leases(&self, txn: &Txn, path: &Path) -> MetaResult<()> {
        let mut nested = path.nested.iter();
        for op in branch(txn, path.succeeded) {
            match op {
                Op::Put { lease, .. } if lease.0 != 0 && !self.leases.contains_key(lease) => {
                    return Err(MetaError::LeaseNotFound);
                }
                Op::Txn(inner) => self.check_leases(inner, next(&mut nested))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let (mut any, mut all) = (false, true);
        for kv in self.each(&compare.keys, None) {
            any = true;
            let order = match &compare.target {
                Target::CreateRevision(right) => kv.create_revision.cmp(right),
                Target::ModRevision(right) => kv.mod_revision.cmp(right),
                Target::Version(right) => kv.version.cmp(right),
                Target::Value(right) => kv.value.cmp(right),
                Target::Lease(right) => kv.lease.cmp(right),
            };
            all &= fits(order, compare.op);
        }
        if any {
            return all;
        }
        let right = match &compare.target {
            Target::CreateRevision(right) | Target::ModRevision(right) => right.0,
            Target::Version(right) => *right,
            Target::Lease(right) => return fits(0.cmp(&right.0), compare.op),
            Target::Value(_) => return false,
        };
        fits(0.cmp(&right), compare.op)
    }

    fn run(&mut self, txn: &Txn, path: &Path, events: &mut Vec<Event>) -> TxnResponse {
        let mut nested = path.nested.iter();
        let mut responses = Vec::new();
        for op in branch(txn, path.succeeded) {
            responses.push(match op {
                Op::Put { key, value, lease } => {
                    self.put(key, value, *lease, events);
                    OpResponse::Put
                }
                Op::Delete(keys) => OpResponse::Delete(self.delete(keys, events)),
                Op::Range(request) => {
                    OpResponse::Range(self.range(request).expect("BUG: a read of now"))
                }
                Op::Txn(inner) => OpResponse::Txn(self.run(inner, next(&mut nested), events)),
            });
        }
        TxnResponse { succeeded: path.succeeded, revision: Revision::ZERO, responses }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: LeaseId, events: &mut Vec<Event>) {
        let at = self.revision + 1;
        let versions = self.keys.entry(key.clone()).or_default();
        let old = versions.last().and_then(|version| version.live.clone());
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: old.as_ref().map_or(Revision(at), |old| old.create_revision),
            mod_revision: Revision(at),
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease,
        };
        versions.push(Version { at, live: Some(kv.clone()) });
        self.forget(old.as_ref());
        self.live_bytes += bytes_of(&kv);
        if lease.0 != 0 {
            self.leases.entry(lease).or_default().insert(key.clone());
        }
        events.push(Event::Put(kv));
    }

    /// What becomes of a version that is no longer the newest.
    fn forget(&mut self, old: Option<&KeyValue>) {
        let Some(old) = old else { return };
        self.live_bytes -= bytes_of(old);
        if let Some(keys) = self.leases.get_mut(&old.lease) {
            keys.remove(&old.key);
        }
    }

    fn delete(&mut self, keys: &KeyRange, events: &mut Vec<Event>) -> u64 {
        let at = self.revision + 1;
        let found: Vec<KeyValue> = self.each(keys, None).cloned().collect();
        for kv in &found {
            self.forget(Some(kv));
            let versions = self.keys.get_mut(&kv.key).expect("BUG: the key was just found");
            versions.push(Version { at, live: None });
            events.push(Event::Delete { key: kv.key.clone(), revision: Revision(at) });
        }
        found.len() as u64
    }

    /// A lease from now on.
    pub fn grant(&mut self, lease: LeaseId) {
        self.leases.entry(lease).or_default();
    }

    /// True while the lease lives.
    #[must_use]
    pub fn has_lease(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    /// Ends a lease and deletes its keys; returns what changed.
    pub fn revoke(&mut self, lease: LeaseId) -> Vec<Event> {
        let keys = self.leases.remove(&lease).unwrap_or_default();
        let mut events = Vec::new();
        for key in keys {
            self.delete(&KeyRange::key(key), &mut events);
        }
        self.close(&events);
        events
    }

    /// Forgets what was superseded at or before `revision`.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`.
    pub fn compact(&mut self, revision: Revision) -> MetaResult<()> {
        if revision.0 > self.revision {
            return Err(MetaError::FutureRevision);
        }
        if revision.0 <= self.compacted {
            return Err(MetaError::Compacted { oldest: Revision(self.compacted) });
        }
        self.compacted = revision.0;
        self.log = self.log.split_off(&(revision.0 + 1));
        self.keys.retain(|_, versions| {
            let newest = versions.iter().rposition(|version| version.at <= revision.0);
            if let Some(newest) = newest {
                let deleted = versions[newest].live.is_none();
                versions.drain(..newest + usize::from(deleted));
            }
            !versions.is_empty()
        });
        Ok(())
    }

    /// The changes of `keys` from `from` on, by revision.
    ///
    /// # Errors
    /// `Compacted`.
    pub fn changes(&self, keys: &KeyRange, from: Revision) -> MetaResult<Vec<(u64, Vec<Event>)>> {
        if from.0 <= self.compacted && self.compacted > 0 {
            return Err(MetaError::Compacted { oldest: Revision(self.compacted) });
        }
        let changes = self.log.range(from.0..).map(|(at, events)| (*at, of(keys, events)));
        Ok(changes.filter(|(_, events)| !events.is_empty()).collect())
    }
}

/// Those of `events` that are of `keys`, in the order in which etcd sends them.
pub(super) fn of(keys: &KeyRange, events: &[Event]) -> Vec<Event> {
    events.iter().filter(|event| keys.contains(event.key())).cloned().collect()
}

fn bytes_of(kv: &KeyValue) -> u64 {
    (kv.key.len() + kv.value.len() + 64) as u64
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded { &txn.then } else { &txn.or_else }
}

fn next<'p>(nested: &mut std::slice::Iter<'p, Path>) -> &'p Path {
    nested.next().expect("BUG: what is nested was decided")
}

fn fits(order: Ordering, op: CompareOp) -> bool {
    match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::Less => order.is_lt(),
    }
}

fn set_revision(response: &mut TxnResponse, revision: Revision) {
    response.revision = revision;
    for response in &mut response.responses {
        match response {
            OpResponse::Range(found) => found.revision = revision,
            OpResponse::Txn(nested) => set_revision(nested, revision),
            OpResponse::Put | OpResponse::Delete(_) => {}
        }
    }
}
