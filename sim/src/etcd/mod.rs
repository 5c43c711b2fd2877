//! A simulated etcd: the store, its leases on virtual time, its watches, and the way to it.
//!
//! [`Etcd`] is the server. What a process has of it is an [`EtcdClient`], whose [`Link`] says what becomes
//! of each request; without one every request arrives at once and is answered.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use pagestore::internal::env::Env;
use pagestore::internal::meta::{
    Event, KeyRange, LeaseId, MetaError, MetaResult, MetaStatus, MetaStore, Op, RangeRequest,
    RangeResponse, Txn, TxnResponse, WatchBatch, WatchStream,
};
use pagestore::internal::types::Revision;

use crate::link::{Fate, Link};

mod limits;
mod mvcc;

pub use mvcc::Mvcc;

/// Ids of leases are large, as etcd's are: no small number names one.
const FIRST_LEASE: i64 = 0x0326_9a5c_0000_0001;

/// Told of every change, in the order of revisions, before anybody else hears of it.
pub type Observer = Box<dyn FnMut(Revision, &[Event]) + Send>;

/// Told of every lease that ends.
pub type LeaseObserver = Box<dyn FnMut(LeaseId) + Send>;

/// The server; clone it freely.
#[derive(Clone)]
pub struct Etcd(Arc<Server>);

struct Server {
    env: Env,
    state: Mutex<State>,
}

struct State {
    mvcc: Mvcc,
    cluster_id: u64,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: i64,
    watches: Vec<Weak<Watch>>,
    observer: Option<Observer>,
    lease_observer: Option<LeaseObserver>,
    full: bool,
    /// Whether it has said so; only then it refuses.
    alarmed: bool,
}

#[derive(Clone, Copy)]
struct Lease {
    ttl: Duration,
    deadline: tokio::time::Instant,
}

/// A backup: everything as it was.
#[derive(Clone, Debug)]
pub struct Backup {
    mvcc: Mvcc,
    cluster_id: u64,
}

/// What a watch has still to deliver.
struct Watch {
    keys: KeyRange,
    from: Revision,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<(u64, Vec<Event>)>,
    end: Option<MetaError>,
    waker: Option<Waker>,
}

impl Watch {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn update(&self, update: impl FnOnce(&mut Queue)) {
        let waker = {
            let mut queue = self.queue();
            update(&mut queue);
            queue.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Waits until there is something to deliver.
    async fn news(&self) {
        std::future::poll_fn(|context| {
            let mut queue = self.queue();
            if queue.end.is_some() || !queue.pending.is_empty() {
                return Poll::Ready(());
            }
            queue.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Etcd {
    /// A fresh server, whose time is `env`'s.
    #[must_use]
    pub fn new(env: Env) -> Etcd {
        let cluster_id = env.random_u64();
        let state = State {
            mvcc: Mvcc::default(),
            cluster_id,
            leases: BTreeMap::new(),
            next_lease: FIRST_LEASE,
            watches: Vec::new(),
            observer: None,
            lease_observer: None,
            full: false,
            alarmed: false,
        };
        Etcd(Arc::new(Server { env, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Who is told of every change.
    pub fn observe(&self, observer: Observer, lease_observer: LeaseObserver) {
        let mut state = self.state();
        (state.observer, state.lease_observer) = (Some(observer), Some(lease_observer));
    }

    /// What a process has of the server.
    #[must_use]
    pub fn client(&self, link: Option<Link>) -> Arc<EtcdClient> {
        Arc::new(EtcdClient { etcd: self.clone(), link })
    }

    /// Looks into the store.
    pub fn look<T>(&self, look: impl FnOnce(&Mvcc) -> T) -> T {
        look(&self.state().mvcc)
    }

    /// Whether puts are refused for want of room.
    pub fn set_full(&self, full: bool) {
        let mut state = self.state();
        (state.full, state.alarmed) = (full, false);
    }

    /// Everything as it is.
    #[must_use]
    pub fn backup(&self) -> Backup {
        let state = self.state();
        Backup { mvcc: state.mvcc.clone(), cluster_id: state.cluster_id }
    }

    /// Puts a backup in the place of everything: as another cluster, as etcd does, unless `same`.
    pub fn restore(&self, backup: &Backup, same: bool) {
        let mut state = self.state();
        state.mvcc = backup.mvcc.clone();
        state.cluster_id = if same { backup.cluster_id } else { self.0.env.random_u64() };
        drop(state);
        self.cut_watches();
    }

    /// Ends all watches, as a member does that goes.
    pub fn cut_watches(&self) {
        let watches = std::mem::take(&mut self.state().watches);
        for watch in watches.iter().filter_map(Weak::upgrade) {
            watch.update(|queue| queue.end = Some(unavailable("the watch was cut", false)));
        }
    }

    /// Another member leads: watches end, and every lease begins its time anew, because how much of it was
    /// left only the leader before knew.
    pub fn change_leader(&self) {
        let now = self.0.env.now();
        for lease in self.state().leases.values_mut() {
            lease.deadline = now + lease.ttl;
        }
        self.cut_watches();
    }

    /// Compacts up to `revision`; of watches that lag behind it `cut` says which are ended.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`.
    pub fn compact(&self, revision: Revision, mut cut: impl FnMut() -> bool) -> MetaResult<()> {
        let mut state = self.state();
        state.mvcc.compact(revision)?;
        let watches: Vec<Arc<Watch>> = state.watches.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        for watch in watches {
            let lags = watch.queue().pending.front().is_some_and(|(at, _)| *at <= revision.0);
            if lags && cut() {
                let end = Some(MetaError::Compacted { oldest: revision });
                watch.update(|queue| queue.end = end);
            }
        }
        Ok(())
    }

    fn txn(&self, txn: &Txn) -> MetaResult<TxnResponse> {
        limits::check_txn(txn)?;
        let mut state = self.state();
        if state.full && has_puts(txn) {
            // etcd applies what makes it full, and says that it is full; from then on it refuses.
            if !std::mem::replace(&mut state.alarmed, true) {
                let (_, events) = state.mvcc.txn(txn)?;
                state.publish(&events);
            }
            return Err(MetaError::NoSpace("database space exceeded".into()));
        }
        let (response, events) = state.mvcc.txn(txn)?;
        state.publish(&events);
        Ok(response)
    }

    fn range(&self, request: &RangeRequest) -> MetaResult<RangeResponse> {
        limits::check_keys(&request.keys)?;
        self.state().mvcc.range(request)
    }

    fn grant(&self, ttl: Duration) -> MetaResult<LeaseId> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let ttl = Duration::from_secs(seconds.max(1));
        let mut state = self.state();
        if state.full {
            return Err(MetaError::NoSpace("database space exceeded".into()));
        }
        let lease = LeaseId(state.next_lease);
        state.next_lease += 1;
        state.mvcc.grant(lease);
        state.leases.insert(lease, Lease { ttl, deadline: self.0.env.now() + ttl });
        drop(state);
        self.0.env.spawn_detached(reap(Arc::downgrade(&self.0), self.0.env.clone(), lease, ttl));
        Ok(lease)
    }

    fn keep_alive(&self, lease: LeaseId) -> MetaResult<Duration> {
        let now = self.0.env.now();
        let mut state = self.state();
        if !state.mvcc.has_lease(lease) {
            return Err(MetaError::LeaseNotFound);
        }
        // One that a restored store knows of and this server does not.
        let ttl = Duration::from_secs(20);
        let lease = state.leases.entry(lease).or_insert(Lease { ttl, deadline: now + ttl });
        lease.deadline = now + lease.ttl;
        Ok(lease.ttl)
    }

    /// Ends a lease, and deletes its keys.
    ///
    /// # Errors
    /// `LeaseNotFound`.
    pub fn revoke(&self, lease: LeaseId) -> MetaResult<()> {
        let mut state = self.state();
        if !state.mvcc.has_lease(lease) {
            return Err(MetaError::LeaseNotFound);
        }
        state.leases.remove(&lease);
        let events = state.mvcc.revoke(lease);
        state.publish(&events);
        if let Some(observer) = &mut state.lease_observer {
            observer(lease);
        }
        Ok(())
    }

    /// All leases that live.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseId> {
        self.state().leases.keys().copied().collect()
    }

    fn register(&self, keys: &KeyRange, from: Revision) -> MetaResult<Arc<Watch>> {
        limits::check_keys(keys)?;
        if from == Revision::ZERO {
            return Err(MetaError::Refused("a watch begins at revision 1 or later".into()));
        }
        let mut state = self.state();
        let pending: VecDeque<_> = state.mvcc.changes(keys, from)?.into();
        let queue = Queue { pending, ..Queue::default() };
        let watch = Arc::new(Watch { keys: keys.clone(), from, queue: Mutex::new(queue) });
        state.watches.retain(|watch| watch.strong_count() > 0);
        state.watches.push(Arc::downgrade(&watch));
        Ok(watch)
    }

    fn status(&self) -> MetaStatus {
        let state = self.state();
        MetaStatus {
            revision: state.mvcc.revision(),
            cluster_id: state.cluster_id,
            size_bytes: state.mvcc.live_bytes(),
            used_bytes: state.mvcc.live_bytes(),
            version: "simulated".into(),
        }
    }
}

impl State {
    fn publish(&mut self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let revision = self.mvcc.revision();
        if let Some(observer) = &mut self.observer {
            observer(revision, events);
        }
        let watches = self.watches.iter().filter_map(Weak::upgrade);
        for watch in watches.filter(|watch| watch.from <= revision) {
            let events = mvcc::of(&watch.keys, events);
            if !events.is_empty() {
                watch.update(|queue| queue.pending.push_back((revision.0, events)));
            }
        }
    }
}

fn has_puts(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.or_else).any(|op| match op {
        Op::Put { .. } => true,
        Op::Txn(nested) => has_puts(nested),
        Op::Delete(_) | Op::Range(_) => false,
    })
}

/// Ends a lease once its time is over.
async fn reap(server: Weak<Server>, env: Env, lease: LeaseId, ttl: Duration) {
    let mut wait = ttl;
    loop {
        env.sleep(wait).await;
        let Some(server) = server.upgrade() else { return };
        let etcd = Etcd(server);
        let deadline = etcd.state().leases.get(&lease).map(|lease| lease.deadline);
        let Some(deadline) = deadline else { return };
        wait = deadline.saturating_duration_since(env.now());
        if wait.is_zero() {
            let _ = etcd.revoke(lease);
            return;
        }
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Etcd(at {})", self.state().mvcc.revision())
    }
}

pub(crate) fn unavailable(message: &str, maybe_applied: bool) -> MetaError {
    MetaError::Unavailable { message: message.into(), maybe_applied }
}

/// What a process has of the server.
#[derive(Debug)]
pub struct EtcdClient {
    etcd: Etcd,
    link: Option<Link>,
}

impl EtcdClient {
    /// Sends a request over the link, if there is one.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        apply: impl FnOnce(&Etcd) -> MetaResult<T> + Send + 'static,
    ) -> MetaResult<T> {
        let Some(link) = &self.link else { return apply(&self.etcd) };
        let etcd = self.etcd.clone();
        match link.begin(what).await {
            Fate::Answered => {
                let answer = link.carry(move || apply(&etcd)).await;
                link.end(what, answer.is_ok()).await;
                answer
            }
            Fate::Refused => {
                link.end(what, false).await;
                Err(unavailable("tcp connect error", false))
            }
            Fate::RequestLost => {
                link.lose(what).await;
                Err(unavailable("request timed out", true))
            }
            Fate::AnswerLost(late) => {
                link.later(late, move || drop(apply(&etcd)));
                link.lose(what).await;
                Err(unavailable("request timed out", true))
            }
        }
    }
}

#[async_trait]
impl MetaStore for EtcdClient {
    async fn range(&self, request: RangeRequest) -> MetaResult<RangeResponse> {
        self.call("range", move |etcd| etcd.range(&request)).await
    }

    async fn txn(&self, txn: Txn) -> MetaResult<TxnResponse> {
        let repeat = self.link.clone().and_then(|link| Some((link.draw_repeat()?, link)));
        self.call("txn", move |etcd| match repeat {
            None => etcd.txn(&txn),
            // Of two that arrive at once the second is answered.
            Some((Duration::ZERO, _)) => {
                drop(etcd.txn(&txn));
                etcd.txn(&txn)
            }
            Some((late, link)) => {
                // What was refused outright does not come again.
                let answer = etcd.txn(&txn)?;
                let again = etcd.clone();
                link.later(late, move || drop(again.txn(&txn)));
                Ok(answer)
            }
        })
        .await
    }

    async fn watch(&self, keys: KeyRange, from: Revision) -> MetaResult<WatchStream> {
        let watch = self.call("watch", move |etcd| etcd.register(&keys, from)).await?;
        let state = Some((watch, self.etcd.clone(), self.link.clone()));
        let batches = stream::unfold(state, |state| async {
            let (watch, etcd, link) = state?;
            watch.news().await;
            if let Some(link) = &link {
                link.delay_watch().await;
            }
            match deliver(&watch, &etcd, link.as_ref()) {
                Ok(batch) => Some((Ok(batch), Some((watch, etcd, link)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(batches.boxed())
    }

    async fn lease_grant(&self, ttl: Duration) -> MetaResult<LeaseId> {
        let link = self.link.clone();
        self.call("grant", move |etcd| {
            let lease = etcd.grant(ttl)?;
            link.into_iter().for_each(|link| link.granted(lease));
            Ok(lease)
        })
        .await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> MetaResult<Duration> {
        self.call("keep alive", move |etcd| etcd.keep_alive(lease)).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> MetaResult<()> {
        self.call("revoke", move |etcd| etcd.revoke(lease)).await
    }

    async fn compact(&self, revision: Revision) -> MetaResult<()> {
        let link = self.link.clone();
        self.call("compact", move |etcd| {
            etcd.compact(revision, || link.as_ref().is_some_and(Link::draws_gap))
        })
        .await
    }

    async fn status(&self) -> MetaResult<MetaStatus> {
        self.call("status", |etcd| Ok(etcd.status())).await
    }

    fn owns_history(&self) -> bool {
        true
    }
}

/// The next batch of a watch that has news.
fn deliver(watch: &Watch, etcd: &Etcd, link: Option<&Link>) -> MetaResult<WatchBatch> {
    // Under the server's lock nothing is added.
    let state = etcd.state();
    let mut queue = watch.queue();
    if let Some(error) = queue.end.take() {
        return Err(error);
    }
    let count = queue.pending.len();
    let taken = link.map_or(count, |link| link.draw_batch(count));
    let mut batch = WatchBatch { revision: Revision::ZERO, events: Vec::new() };
    for (at, events) in queue.pending.drain(..taken) {
        batch.revision = Revision(at);
        batch.events.extend(events);
    }
    if queue.pending.is_empty() && link.is_some_and(Link::draws_progress) {
        batch.revision = state.mvcc.revision();
    }
    Ok(batch)
}
