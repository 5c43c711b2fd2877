//! Watches: `log` read from a revision on.
//!
//! Invariants: a watch's place moves only over whole revisions, each read once; what it delivers is all
//! there is of its keys between two places. A place below the compacted revision is lost, and the watch
//! ends. So that a compaction in this process does not end a watch that was up to date, what it has not
//! read is read out into memory (bounded) before the mark is set.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;

use super::fault::{Step, not_applied, unpoisoned};
use super::format::{Change, Stamp};
use super::shared::{Core, Shared};
use super::view::{View, key_value};
use crate::meta::{Event, KeyRange, MetaError, MetaResult, WatchBatch, WatchStream};
use crate::types::Revision;

/// A batch is full when it has so many events; the revision under way is still finished.
const BATCH_EVENTS: usize = 1_000;
/// Likewise for bytes of keys and values.
const BATCH_BYTES: usize = 1 << 20;
/// Likewise for changes looked at, wanted or not: bounds how long a read transaction is open.
const BATCH_CHANGES: usize = 10_000;
/// What may be read out for one watch ahead of a compaction. A watch further behind ends.
const READ_OUT_BATCHES: usize = 16;

/// The watches of this process.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<Vec<Weak<Place>>>);

/// How far a watch has come.
#[derive(Debug)]
struct Place {
    keys: KeyRange,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The first revision not read yet.
    next: u64,
    /// Read out, not yet delivered.
    ready: VecDeque<WatchBatch>,
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        unpoisoned(self.state.lock())
    }

    /// The next batch, or `None` when there is nothing new.
    fn advance(&self, shared: &Shared) -> MetaResult<Option<WatchBatch>> {
        let mut state = self.state();
        if let Some(batch) = state.ready.pop_front() {
            return Ok(Some(batch));
        }
        self.read(&mut state, shared)
    }

    fn read(&self, state: &mut State, shared: &Shared) -> MetaResult<Option<WatchBatch>> {
        let batch = shared.map.read(|view| read_batch(view, &self.keys, state.next))?;
        if let Some(batch) = &batch {
            state.next = batch.revision.0 + 1;
        }
        Ok(batch)
    }

    fn read_out(&self, shared: &Shared) -> MetaResult<()> {
        let mut state = self.state();
        while state.ready.len() < READ_OUT_BATCHES {
            match self.read(&mut state, shared)? {
                Some(batch) => state.ready.push_back(batch),
                None => break,
            }
        }
        Ok(())
    }
}

impl Watches {
    /// Reads out what the watches have not read yet. Call before the compaction mark is set.
    pub(super) fn read_out(&self, shared: &Shared) {
        let places: Vec<Arc<Place>> = {
            let mut places = unpoisoned(self.0.lock());
            places.retain(|place| place.strong_count() > 0);
            places.iter().filter_map(Weak::upgrade).collect()
        };
        for place in places {
            // What fails now fails again when the watch itself reads, and is told then.
            let _ = place.read_out(shared);
        }
    }

    fn register(&self, keys: KeyRange, from: Revision) -> Arc<Place> {
        let state = Mutex::new(State { next: from.0, ready: VecDeque::new() });
        let place = Arc::new(Place { keys, state });
        let mut places = unpoisoned(self.0.lock());
        places.retain(|place| place.strong_count() > 0);
        places.push(Arc::downgrade(&place));
        place
    }
}

/// A watch of `keys` from revision `from` on.
pub(super) fn watch(core: &Arc<Core>, keys: KeyRange, from: Revision) -> MetaResult<WatchStream> {
    if from == Revision::ZERO {
        return Err(MetaError::Refused("a watch begins at revision 1 or later".to_owned()));
    }
    let place = core.shared.watches.register(keys, from);
    core.shared.map.read(|view| check_place(view, from.0))?;
    let revisions = core.shared.revision.subscribe();
    let state = Some((Arc::clone(core), place, revisions));
    let batches = stream::unfold(state, |state| async {
        let (core, place, mut revisions) = state?;
        loop {
            // First, so that what comes after is seen below or wakes us.
            revisions.borrow_and_update();
            match place.advance(&core.shared) {
                Ok(Some(batch)) => return Some((Ok(batch), Some((core, place, revisions)))),
                Ok(None) => {}
                Err(error) => return Some((Err(error), None)),
            }
            if revisions.changed().await.is_err() {
                return Some((Err(not_applied("embedded store: closed")), None));
            }
        }
    });
    Ok(batches.boxed())
}

fn check_place(view: &View<'_>, next: u64) -> Step<()> {
    let oldest = view.compacted()?;
    if next < oldest {
        return Err(MetaError::Compacted { oldest: Revision(oldest) }.into());
    }
    Ok(())
}

/// The changes of `keys` from revision `next` on: whole revisions, as many as make a batch.
fn read_batch(view: &View<'_>, keys: &KeyRange, next: u64) -> Step<Option<WatchBatch>> {
    check_place(view, next)?;
    let newest = view.revision()?;
    if next > newest {
        return Ok(None);
    }
    let mut batch = WatchBatch { revision: Revision(newest), events: Vec::new() };
    let (mut bytes, mut seen, mut last) = (0, 0, next);
    view.each_change(Stamp::first_of(next), |stamp, change| {
        let full =
            bytes >= BATCH_BYTES || seen >= BATCH_CHANGES || batch.events.len() >= BATCH_EVENTS;
        if stamp.main != last && full {
            batch.revision = Revision(last);
            return Ok(ControlFlow::Break(()));
        }
        last = stamp.main;
        seen += 1;
        if keys.contains(change.key) {
            bytes += change.key.len() + change.put.map_or(0, |(_, value)| value.len());
            batch.events.push(event(stamp, &change));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Some(batch))
}

fn event(stamp: Stamp, change: &Change<'_>) -> Event {
    match change.put {
        Some((facts, value)) => {
            Event::Put(key_value(change.key, stamp, facts, Bytes::copy_from_slice(value)))
        }
        None => Event::Delete {
            key: Bytes::copy_from_slice(change.key),
            revision: Revision(stamp.main),
        },
    }
}
