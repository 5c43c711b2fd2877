//! The requests that wait for this process's turn to write.
//!
//! Invariants: what waits is bounded in number and bytes (who would exceed it waits outside); a request
//! that is given up while it waits is never applied; after the queue is closed nothing enters.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::fault::{not_applied, unpoisoned};
use crate::meta::{LeaseId, MetaResult, Txn, TxnResponse};

/// Room of the queue, in units: 16 MiB of requests, or 4096 of them.
const ROOM_UNITS: u32 = 4096;
/// Bytes a unit stands for; a request takes one unit and one for each of these.
const UNIT_BYTES: usize = 4096;
/// Most requests committed with one sync: bounds what one failed sync takes with it, and how long
/// another process waits for its turn.
const BATCH_REQUESTS: usize = 512;
/// Most bytes of requests committed with one sync, for the same reason.
const BATCH_BYTES: usize = 4 << 20;

/// What is to be done under the lock.
#[derive(Debug)]
pub(super) enum Job {
    Txn(Txn),
    /// A lease of so many seconds.
    Grant(u64),
    KeepAlive(LeaseId),
    Revoke(LeaseId),
    Compact(u64),
}

/// How a job went.
#[derive(Debug)]
pub(super) enum Done {
    Txn(TxnResponse),
    Granted(LeaseId),
    /// Kept alive for so many seconds.
    Alive(u64),
    Revoked,
    Compacted,
}

/// A job with its size and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    id: u64,
    bytes: usize,
    pub(super) job: Job,
    pub(super) answer: oneshot::Sender<MetaResult<Done>>,
    _room: OwnedSemaphorePermit,
}

/// A request under way, as its caller sees it.
#[derive(Debug)]
pub(super) struct Ticket {
    id: u64,
    pub(super) answer: oneshot::Receiver<MetaResult<Done>>,
}

/// Why the writer was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// There are requests.
    Requests,
    /// The time is up, or it was nudged.
    Idle,
    /// The queue is closed and empty.
    Closed,
}

#[derive(Debug)]
pub(super) struct Queue {
    room: Arc<Semaphore>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Request>,
    next_id: u64,
    closed: bool,
    nudged: bool,
}

impl Queue {
    pub(super) fn new() -> Queue {
        let room = Arc::new(Semaphore::new(ROOM_UNITS as usize));
        Queue { room, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds a job of `bytes` once there is room.
    pub(super) async fn push(&self, job: Job, bytes: usize) -> MetaResult<Ticket> {
        let units = u32::try_from(1 + bytes / UNIT_BYTES).unwrap_or(ROOM_UNITS).min(ROOM_UNITS);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        let room = room.map_err(|_| stopped())?;
        let (sender, answer) = oneshot::channel();
        let mut state = self.state();
        if state.closed {
            return Err(stopped());
        }
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.push_back(Request { id, bytes, job, answer: sender, _room: room });
        drop(state);
        self.changed.notify_one();
        Ok(Ticket { id, answer })
    }

    /// Takes the request back. False when it was taken to be applied before.
    pub(super) fn give_up(&self, ticket: &Ticket) -> bool {
        let mut state = self.state();
        let place = state.waiting.iter().position(|request| request.id == ticket.id);
        place.and_then(|place| state.waiting.remove(place)).is_some()
    }

    /// Waits for something to do, at most for `limit`.
    pub(super) fn wait(&self, limit: Duration) -> Wake {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed && !state.nudged;
        let waited = self.changed.wait_timeout_while(self.state(), limit, idle);
        let (mut state, _) = unpoisoned(waited);
        state.nudged = false;
        match (state.waiting.is_empty(), state.closed) {
            (false, _) => Wake::Requests,
            (true, true) => Wake::Closed,
            (true, false) => Wake::Idle,
        }
    }

    /// Takes the oldest requests, as many as go into one batch.
    pub(super) fn take(&self) -> Vec<Request> {
        let mut state = self.state();
        let mut bytes = 0usize;
        let mut count = 0;
        for request in state.waiting.iter().take(BATCH_REQUESTS) {
            bytes = bytes.saturating_add(request.bytes);
            if count > 0 && bytes > BATCH_BYTES {
                break;
            }
            count += 1;
        }
        state.waiting.drain(..count).collect()
    }

    /// Takes all that waits.
    pub(super) fn take_all(&self) -> Vec<Request> {
        self.state().waiting.drain(..).collect()
    }

    /// Wakes the writer to look at what is due.
    pub(super) fn nudge(&self) {
        self.state().nudged = true;
        self.changed.notify_one();
    }

    /// Lets nothing more in; what waits is still done.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.room.close();
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        unpoisoned(self.state.lock())
    }
}

fn stopped() -> crate::meta::MetaError {
    not_applied("embedded store: closed, or its writer has stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job::Txn(Txn::default())
    }

    #[tokio::test]
    async fn a_request_can_be_given_up_until_it_is_taken() {
        let queue = Queue::new();
        let first = queue.push(job(), 10).await.unwrap();
        let second = queue.push(job(), 10).await.unwrap();
        assert!(queue.give_up(&first));
        assert!(!queue.give_up(&first));
        let taken = queue.take();
        assert_eq!(taken.len(), 1);
        assert!(!queue.give_up(&second));
    }

    #[tokio::test]
    async fn a_batch_is_bounded_and_holds_at_least_one() {
        let queue = Queue::new();
        queue.push(job(), BATCH_BYTES + 1).await.unwrap();
        queue.push(job(), BATCH_BYTES).await.unwrap();
        queue.push(job(), 1).await.unwrap();
        assert_eq!(queue.take().len(), 1);
        assert_eq!(queue.take().len(), 1);
        assert_eq!(queue.take().len(), 1);
        assert_eq!(queue.take().len(), 0);
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_until_there_is() {
        let queue = Queue::new();
        let all = ROOM_UNITS as usize * UNIT_BYTES;
        queue.push(job(), all).await.unwrap();
        let mut next = Box::pin(queue.push(job(), 1));
        assert!(futures::poll!(&mut next).is_pending());
        drop(queue.take());
        assert!(futures::poll!(&mut next).is_ready());
    }

    #[tokio::test]
    async fn a_closed_queue_lets_nothing_in_and_is_emptied() {
        let queue = Queue::new();
        queue.push(job(), 1).await.unwrap();
        queue.close();
        assert!(queue.push(job(), 1).await.is_err());
        assert_eq!(queue.wait(Duration::ZERO), Wake::Requests);
        queue.take();
        assert_eq!(queue.wait(Duration::ZERO), Wake::Closed);
    }
}
