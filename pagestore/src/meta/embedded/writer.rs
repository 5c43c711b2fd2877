//! The writing thread: takes the turn, then what waits, and commits it with one sync.
//!
//! Invariant: a request is answered exactly once, and not before what it changed is on disk. The queue is
//! drained after the turn has come, so whatever arrived while another process wrote goes along.

use std::cell::Cell;
use std::time::Duration;

use super::batch::Batch;
use super::fault::{Step, io_error};
use super::map::Outcome;
use super::queue::{Done, Job, Request, Wake};
use super::shared::Shared;
use crate::meta::{MetaError, MetaResult};

/// The longest sleep: then it is looked whether a lease is due, should a notice have been lost.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// While a compaction is under way, one batch of so many does a chunk of it even if others wait.
const COMPACT_EVERY: u32 = 16;
/// How long the disk is left alone after it failed, unless there are requests.
const RETRY: Duration = Duration::from_secs(1);
/// Reader slots of dead processes are given back once in so many batches.
const CLEAR_READERS_EVERY: u32 = 1024;

/// What lies between batches.
#[derive(Default)]
struct Round {
    count: u32,
    failed: bool,
}

/// Until the queue is closed and empty.
pub(super) fn run(shared: &Shared) {
    let _closing = CloseQueue(shared);
    let mut round = Round::default();
    loop {
        match shared.queue.wait(sleep(shared, &round)) {
            Wake::Closed => return,
            Wake::Requests => turn(shared, &mut round),
            Wake::Idle => {
                shared.look();
                // Still behind: a writer was killed at the very end of its commit, and the next one has
                // to show it to readers.
                if is_due(shared) || shared.is_behind() {
                    turn(shared, &mut round);
                }
            }
        }
    }
}

/// If this thread ends in any way, nobody is left waiting.
struct CloseQueue<'s>(&'s Shared);

impl Drop for CloseQueue<'_> {
    fn drop(&mut self) {
        self.0.queue.close();
        drop(self.0.queue.take_all());
    }
}

/// Something is to be done without being asked.
fn is_due(shared: &Shared) -> bool {
    shared.is_compacting() || shared.lease_due_ms() <= shared.env.boot_ms()
}

fn sleep(shared: &Shared, round: &Round) -> Duration {
    let due = if shared.is_compacting() {
        Duration::ZERO
    } else {
        Duration::from_millis(shared.lease_due_ms().saturating_sub(shared.env.boot_ms()))
    };
    due.max(if round.failed { RETRY } else { Duration::ZERO }).min(LONGEST_SLEEP)
}

fn turn(shared: &Shared, round: &mut Round) {
    round.count = round.count.wrapping_add(1);
    let turn = match shared.turnstile.wait() {
        Ok(turn) => turn,
        Err(error) => {
            round.failed = true;
            refuse_all(shared.queue.take(), &io_error("embedded store: lock file", &error));
            return;
        }
    };
    if round.count.is_multiple_of(CLEAR_READERS_EVERY) {
        shared.map.clear_stale_readers();
    }
    let before = shared.map.last_commit();
    let requests = shared.queue.take();
    let compact = shared.is_compacting()
        && (requests.is_empty() || round.count.is_multiple_of(COMPACT_EVERY));
    if requests.iter().any(|request| matches!(request.job, Job::Compact(_))) {
        shared.watches.read_out(shared);
    }
    let (answers, committed) = commit(shared, requests);
    round.failed = !committed;
    // While we have the turn, nobody else commits.
    let changed = shared.map.last_commit() != before;
    let turn = compact.then_some(turn);
    if changed || shared.is_behind() {
        shared.look();
        shared.notifier.notify();
    }
    for (request, answer) in answers {
        // Whoever asked may have gone.
        let _ = request.answer.send(answer);
    }
    if turn.is_some() {
        if let Err(error) = write(shared, |batch| batch.compact_chunk()) {
            round.failed = true;
            tracing::warn!(%error, "embedded store: compaction waits");
        }
        shared.look();
    }
}

type Answered = Vec<(Request, MetaResult<Done>)>;

/// Commits the requests, all with one sync unless one of them breaks. False if nothing could be.
fn commit(shared: &Shared, mut requests: Vec<Request>) -> (Answered, bool) {
    let mut answered = Vec::with_capacity(requests.len());
    // Ends: each round commits everything, fails as a whole, or is rid of one request.
    loop {
        let broken = Cell::new(None);
        let done = write(shared, |batch| {
            batch.expire_leases()?;
            let mut answers = Vec::with_capacity(requests.len());
            for (place, request) in requests.iter().enumerate() {
                broken.set(Some(place));
                answers.push(batch.run(&request.job)?);
            }
            broken.set(None);
            Ok(answers)
        });
        match (done, broken.get()) {
            (Ok(answers), _) => {
                shared.map.meter.count_requests(requests.len());
                answered.extend(requests.into_iter().zip(answers));
                return (answered, true);
            }
            (Err(error @ MetaError::Corrupt(_)), Some(place)) => {
                answered.push((requests.remove(place), Err(error)));
            }
            (Err(error), _) => {
                shared.map.meter.count_failure();
                tracing::warn!(%error, requests = requests.len(), "embedded store: commit failed");
                refuse_all(requests, &error);
                return (answered, false);
            }
        }
    }
}

fn write<T>(shared: &Shared, mut f: impl FnMut(&mut Batch<'_, '_>) -> Step<T>) -> MetaResult<T> {
    shared.map.write(|tables, txn| {
        let mut batch = Batch::begin(tables, txn, &shared.env)?;
        let done = f(&mut batch)?;
        Ok(if batch.dirty { Outcome::Changed(done) } else { Outcome::Unchanged(done) })
    })
}

fn refuse_all(requests: Vec<Request>, error: &MetaError) {
    for request in requests {
        let _ = request.answer.send(Err(error.clone()));
    }
}
