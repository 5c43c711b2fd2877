use std::pin::Pin;

use futures::{Stream, StreamExt as _};

use super::*;
use crate::meta::{Event, MetaError, WatchBatch, WatchStream};

fn show(batch: &WatchBatch) -> String {
    let events: Vec<String> = batch
        .events
        .iter()
        .map(|event| match event {
            Event::Put(kv) => format!("{}={}", kv.key.escape_ascii(), kv.value.escape_ascii()),
            Event::Delete { key, .. } => format!("-{}", key.escape_ascii()),
        })
        .collect();
    format!("{}: {}", batch.revision, events.join(" "))
}

/// Batches until one comes up to `revision`; all their events.
async fn until(stream: &mut WatchStream, revision: u64) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let batch = stream.next().await.unwrap().unwrap();
        events.extend(batch.events);
        if batch.revision.0 >= revision {
            return events;
        }
    }
}

fn is_idle(stream: &mut WatchStream) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    Pin::new(stream).poll_next(&mut context).is_pending()
}

#[tokio::test]
async fn a_watch_delivers_the_past_and_what_comes() {
    let f = fixture();
    f.put(&[("a", "1"), ("b", "1"), ("x", "1")]).await;
    f.put(&[("a", "2")]).await;
    f.delete(KeyRange::span("a", "c")).await;
    let mut watch = f.store.watch(KeyRange::span("a", "c"), Revision(2)).await.unwrap();
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(show(&batch), "4: a=1 b=1 a=2 -a -b");
    let revisions: Vec<u64> = batch.events.iter().map(|event| event.revision().0).collect();
    assert_eq!(revisions, [2, 2, 3, 4, 4]);
    let Event::Put(kv) = &batch.events[2] else { panic!() };
    assert_eq!(numbers(kv), [2, 3, 2]);
    assert!(is_idle(&mut watch));
    f.put(&[("b", "2"), ("x", "2")]).await;
    assert_eq!(show(&watch.next().await.unwrap().unwrap()), "5: b=2");
}

#[tokio::test]
async fn a_watch_may_begin_within_the_past_or_in_the_future() {
    let f = fixture();
    f.put(&[("a", "1")]).await;
    f.put(&[("a", "2")]).await;
    let mut later = f.store.watch(all(), Revision(5)).await.unwrap();
    let mut earlier = f.store.watch(all(), Revision(3)).await.unwrap();
    assert_eq!(show(&earlier.next().await.unwrap().unwrap()), "3: a=2");
    f.put(&[("a", "3")]).await;
    assert!(is_idle(&mut later));
    f.put(&[("a", "4")]).await;
    assert_eq!(show(&later.next().await.unwrap().unwrap()), "5: a=4");
    assert!(f.store.watch(all(), Revision::ZERO).await.is_err());
}

#[tokio::test]
async fn changes_of_other_keys_are_progress() {
    let f = fixture();
    let mut watch = f.store.watch(KeyRange::key("a"), Revision(2)).await.unwrap();
    f.put(&[("b", "1")]).await;
    assert_eq!(show(&watch.next().await.unwrap().unwrap()), "2: ");
    f.put(&[("a", "1")]).await;
    assert_eq!(show(&watch.next().await.unwrap().unwrap()), "3: a=1");
}

#[tokio::test]
async fn revisions_are_never_split_however_large() {
    let f = fixture();
    for chunk in 0..30 {
        let puts = (0..100).map(|i| Op::put(format!("k{chunk:02}{i:02}"), "v")).collect();
        f.txn(then(puts)).await;
    }
    f.delete(KeyRange::prefix(b"k")).await;
    let mut watch = f.store.watch(all(), Revision(1)).await.unwrap();
    let (mut last, mut total, mut batches) = (0, 0, 0);
    while last < 32 {
        let batch = watch.next().await.unwrap().unwrap();
        assert!(
            batch.events.iter().all(|e| e.revision().0 > last && e.revision() <= batch.revision)
        );
        total += batch.events.len();
        last = batch.revision.0;
        batches += 1;
    }
    assert_eq!(total, 6_000);
    assert!(batches > 3);
}

#[tokio::test]
async fn a_watch_of_what_is_forgotten_is_refused() {
    let f = fixture();
    for value in ["1", "2", "3"] {
        f.put(&[("a", value)]).await;
    }
    f.store.compact(Revision(3)).await.unwrap();
    let refused = f.store.watch(all(), Revision(2)).await.err();
    assert!(matches!(refused, Some(MetaError::Compacted { oldest: Revision(3) })));
    let mut watch = f.store.watch(all(), Revision(3)).await.unwrap();
    assert_eq!(show(&watch.next().await.unwrap().unwrap()), "4: a=2 a=3");
}

#[tokio::test]
async fn a_compaction_does_not_end_a_watch_that_has_not_read_yet() {
    let f = fixture();
    let mut watch = f.store.watch(all(), Revision(2)).await.unwrap();
    f.put(&[("a", "1")]).await;
    f.put(&[("a", "2")]).await;
    f.delete(KeyRange::key("a")).await;
    f.put(&[("b", "1")]).await;
    f.store.compact(Revision(5)).await.unwrap();
    f.put(&[("b", "2")]).await;
    assert_eq!(until(&mut watch, 6).await.len(), 5);
}

#[tokio::test]
async fn a_watch_keeps_the_store_open() {
    let f = fixture();
    let mut watch = f.store.watch(all(), Revision(2)).await.unwrap();
    let Fixture { store, dir } = f;
    drop(store);
    let store = open(dir.path());
    store.txn(then(vec![Op::put("a", "1")])).await.unwrap();
    assert_eq!(until(&mut watch, 2).await.len(), 1);
}
