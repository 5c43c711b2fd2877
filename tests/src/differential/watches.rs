//! The same watch on both stores.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use pagestore::internal::meta::{
    Event, KeyRange, MetaError, MetaResult, MetaStore, Op, WatchBatch, WatchStream,
};
use pagestore::internal::types::Revision;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::leases::Leases;

/// Watches at once.
const MOST: usize = 12;
/// Only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Watches(Vec<WatchPair>);

/// A watch on both, read from all the time so that neither lags behind.
#[derive(Debug)]
pub(super) struct WatchPair {
    keys: KeyRange,
    pub(super) from: Revision,
    batches: [UnboundedReceiver<MetaResult<WatchBatch>>; 2],
}

impl Watches {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn are_enough(&self) -> bool {
        self.0.len() >= MOST
    }

    /// Starts a watch, of keys if `keys` are none; one that begins in the compacted past must fail.
    pub(super) async fn start(
        &mut self,
        stores: &[Arc<dyn MetaStore>; 2],
        keys: KeyRange,
        from: Revision,
        compacted: Revision,
    ) -> Result<(), String> {
        let keys = match &keys.end {
            Some(end) if *end <= keys.start => KeyRange::key(keys.start),
            _ => keys,
        };
        let (left, right) =
            tokio::join!(stores[0].watch(keys.clone(), from), stores[1].watch(keys.clone(), from));
        if from < compacted {
            for watch in [left, right] {
                must_be_compacted(watch, compacted).await?;
            }
            return Ok(());
        }
        let batches = [left, right].map(|stream| follow(stream.expect("a watch is registered")));
        self.0.push(WatchPair { keys, from, batches });
        Ok(())
    }

    pub(super) fn take_any(&mut self, rng: &mut SmallRng) -> Option<WatchPair> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.0.swap_remove(rng.random_range(0..self.0.len())))
    }
}

impl WatchPair {
    /// A change that the watch sees.
    pub(super) fn mark(&self) -> Op {
        Op::put(self.keys.start.clone(), Bytes::from_static(b"mark"))
    }

    /// Compares all that was seen up to `last`, at which there was a change to see.
    pub(super) async fn compare(self, last: Revision, leases: &Leases) -> Result<(), String> {
        let WatchPair { keys, from, batches } = self;
        let [left, right] = batches;
        let left = collect(left, from, last).await?;
        let right = collect(right, from, last).await?;
        let recognise = |side: usize, mut events: Vec<Event>| {
            events.iter_mut().for_each(|event| leases.recognise_event(side, event));
            events
        };
        let (left, right) = (recognise(0, left), recognise(1, right));
        let differ = left.iter().zip(&right).position(|(left, right)| left != right);
        if differ.is_none() && left.len() == right.len() {
            return Ok(());
        }
        let at = differ.unwrap_or(left.len().min(right.len()));
        Err(format!(
            "watches of {keys:?} from {from} differ at event {at} of {} and {}\nleft: {:#?}\nright: {:#?}",
            left.len(),
            right.len(),
            left.get(at),
            right.get(at),
        ))
    }
}

fn follow(mut stream: WatchStream) -> UnboundedReceiver<MetaResult<WatchBatch>> {
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(batch) = stream.next().await {
            if sender.send(batch).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The events up to revision `last`; checks that revisions come whole and in order.
async fn collect(
    mut batches: UnboundedReceiver<MetaResult<WatchBatch>>,
    from: Revision,
    last: Revision,
) -> Result<Vec<Event>, String> {
    let mut delivered = Revision(from.0 - 1);
    let mut events: Vec<Event> = Vec::new();
    while delivered < last {
        let next = tokio::time::timeout(PATIENCE, batches.recv()).await;
        let batch = next
            .map_err(|_| format!("only up to {delivered} of {last} came in time"))?
            .ok_or("the watch ended")?
            .map_err(|error| format!("the watch failed: {error}"))?;
        let revisions = batch.events.iter().map(Event::revision);
        let whole = revisions.clone().all(|r| delivered < r && r <= batch.revision);
        if !whole || !revisions.is_sorted() {
            return Err(format!("after {delivered} came {batch:#?}"));
        }
        delivered = batch.revision;
        events.extend(batch.events);
    }
    Ok(events)
}

async fn must_be_compacted(
    watch: MetaResult<WatchStream>,
    compacted: Revision,
) -> Result<(), String> {
    let outcome = match watch {
        Err(error) => Err(error),
        Ok(mut stream) => stream.next().await.unwrap_or(Err(MetaError::FutureRevision)),
    };
    match outcome {
        Err(MetaError::Compacted { oldest }) if oldest == compacted => Ok(()),
        other => Err(format!("a watch below {compacted} gave {other:?}")),
    }
}
