//! Watches.

use std::time::Duration;

use futures::StreamExt as _;
use pagestore::internal::meta::{Event, KeyRange, MetaError, Op, WatchStream};
use pagestore::internal::types::Revision;

use super::{Store, all, b, delete, put, put_leased, run, set, when};

/// Long enough for any machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A watch that checks what must hold of every batch.
pub(super) struct Watch {
    stream: WatchStream,
    delivered: Revision,
}

impl Watch {
    pub(super) async fn start(store: &Store, keys: KeyRange, from: Revision) -> Watch {
        let stream = store.watch(keys, from).await.unwrap();
        Watch { stream, delivered: Revision(from.0 - 1) }
    }

    /// The events up to the batch with which there are at least `count`.
    pub(super) async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            let batch = next.expect("an event in time").expect("no end").unwrap();
            assert!(batch.revision > self.delivered, "{batch:?} after {}", self.delivered);
            for event in &batch.events {
                let revision = event.revision();
                assert!(revision > self.delivered, "split or repeated revision: {event:?}");
                assert!(revision <= batch.revision, "{event:?} in batch {}", batch.revision);
            }
            let sorted = batch.events.is_sorted_by_key(Event::revision);
            assert!(sorted, "{:?}", batch.events);
            self.delivered = batch.revision;
            events.extend(batch.events);
        }
        events
    }

    /// The error with which it ends.
    async fn failure(mut self) -> MetaError {
        let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        let error = next.expect("an error in time").expect("no end before it").unwrap_err();
        assert!(self.stream.next().await.is_none(), "an error is the end");
        error
    }
}

fn show(events: &[Event]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown: Vec<String> = events
        .iter()
        .map(|event| match event {
            Event::Put(kv) => {
                format!("{}:{}={}", kv.mod_revision, text(&kv.key), text(&kv.value))
            }
            Event::Delete { key, revision } => format!("{revision}:-{}", text(key)),
        })
        .collect();
    shown.join(" ")
}

pub async fn new_changes_arrive(store: Store) {
    let now = set(&store, "a", "1").await;
    let mut watch = Watch::start(&store, all(), now.next()).await;
    let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    run(&store, vec![put_leased("a", "2", lease)]).await;
    let events = watch.events(1).await;
    let [Event::Put(kv)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((kv.key.as_ref(), kv.value.as_ref()), (&b"a"[..], &b"2"[..]));
    assert_eq!((kv.create_revision, kv.mod_revision), (now, now.next()));
    assert_eq!((kv.version, kv.lease), (2, lease));
    run(&store, vec![delete("a")]).await;
    run(&store, vec![delete("a")]).await;
    set(&store, "a", "3").await;
    assert_eq!(show(&watch.events(2).await), "4:-a 5:a=3");
}

pub async fn past_changes_arrive(store: Store) {
    set(&store, "a", "1").await;
    set(&store, "a", "2").await;
    run(&store, vec![delete("a"), put("b", "1")]).await;
    let mut watch = Watch::start(&store, all(), Revision(1)).await;
    assert_eq!(show(&watch.events(4).await), "2:a=1 3:a=2 4:-a 4:b=1");
    let mut watch = Watch::start(&store, all(), Revision(4)).await;
    assert_eq!(show(&watch.events(2).await), "4:-a 4:b=1");
    set(&store, "c", "1").await;
    assert_eq!(show(&watch.events(1).await), "5:c=1");
}

pub async fn only_its_keys_arrive(store: Store) {
    let mut single = Watch::start(&store, KeyRange::key("b"), Revision(2)).await;
    let mut span = Watch::start(&store, KeyRange::span("b", "d"), Revision(2)).await;
    run(&store, ["a", "b", "bb", "c", "d"].map(|key| put(key, "1")).to_vec()).await;
    run(&store, vec![Op::Delete(all())]).await;
    assert_eq!(show(&single.events(2).await), "2:b=1 3:-b");
    assert_eq!(show(&span.events(6).await), "2:b=1 2:bb=1 2:c=1 3:-b 3:-bb 3:-c");
}

pub async fn revisions_are_never_split(store: Store) {
    let large = |i: usize| {
        let nested = |j: usize| {
            let puts = (0..50).map(|k| put(&format!("{i:02} {j:02} {k:02}"), &"v".repeat(100)));
            Op::Txn(when(vec![], puts.collect(), vec![]))
        };
        when(vec![], (0..50).map(nested).collect(), vec![])
    };
    let mut live = Watch::start(&store, all(), Revision(2)).await;
    for i in 0..8 {
        store.txn(large(i)).await.unwrap();
    }
    let mut late = Watch::start(&store, all(), Revision(2)).await;
    // The watches check it of every batch.
    assert_eq!(live.events(20_000).await.len(), 20_000);
    assert_eq!(late.events(20_000).await.len(), 20_000);
}

pub async fn a_long_past_arrives_in_order(store: Store) {
    const CHANGES: u64 = 3_000;
    for i in 0..CHANGES {
        set(&store, "a", &i.to_string()).await;
    }
    let mut watch = Watch::start(&store, all(), Revision(2)).await;
    let events = watch.events(CHANGES as usize).await;
    for (i, event) in (0..CHANGES).zip(&events) {
        let Event::Put(kv) = event else { panic!("{event:?}") };
        assert_eq!((kv.mod_revision.0, &kv.value), (i + 2, &b(&i.to_string())));
    }
}

pub async fn it_may_begin_in_the_future(store: Store) {
    let now = set(&store, "a", "1").await;
    let mut watch = Watch::start(&store, all(), Revision(now.0 + 3)).await;
    for value in ["2", "3", "4", "5"] {
        set(&store, "a", value).await;
    }
    assert_eq!(show(&watch.events(2).await), "5:a=4 6:a=5");
}

pub async fn it_begins_at_revision_one_or_later(store: Store) {
    let error = store.watch(all(), Revision::ZERO).await.map(drop).unwrap_err();
    assert!(matches!(error, MetaError::Refused(_)), "{error:?}");
}

pub async fn a_compacted_past_is_an_error_and_then_the_end(store: Store) {
    for value in ["1", "2", "3", "4"] {
        set(&store, "a", value).await;
    }
    store.compact(Revision(4)).await.unwrap();
    let error = match store.watch(all(), Revision(3)).await {
        Ok(stream) => Watch { stream, delivered: Revision(2) }.failure().await,
        Err(error) => error,
    };
    let MetaError::Compacted { oldest } = error else { panic!("{error:?}") };
    assert_eq!(oldest, Revision(4));
    let mut watch = Watch::start(&store, all(), Revision(5)).await;
    assert_eq!(show(&watch.events(1).await), "5:a=4");
}

pub async fn the_compacted_revision_is_whole_or_past(store: Store) {
    set(&store, "a", "1").await;
    let at = run(&store, vec![delete("a"), put("b", "2")]).await;
    store.compact(at.revision).await.unwrap();
    let stream = match store.watch(all(), at.revision).await {
        Err(MetaError::Compacted { .. }) => return,
        stream => stream.unwrap(),
    };
    let mut watch = Watch { stream, delivered: Revision(at.revision.0 - 1) };
    match watch.stream.next().await.unwrap() {
        Err(MetaError::Compacted { .. }) => {}
        batch => assert_eq!(show(&batch.unwrap().events), "3:-a 3:b=2"),
    }
}

pub async fn many_see_the_same(store: Store) {
    let mut watches = Vec::new();
    for _ in 0..50 {
        watches.push(Watch::start(&store, all(), Revision(2)).await);
    }
    drop(watches.split_off(40));
    set(&store, "a", "1").await;
    run(&store, vec![delete("a"), put("b", "2")]).await;
    for watch in &mut watches {
        assert_eq!(show(&watch.events(3).await), "2:a=1 3:-a 3:b=2");
    }
}
