//! Reads.

use bytes::Bytes;
use pagestore::internal::meta::{KeyRange, MetaError, Op, Projection, RangeRequest};
use pagestore::internal::types::Revision;

use super::{Store, all, b, delete, dump, dump_at, get, put, read, run, set};

pub async fn a_fresh_store_is_at_revision_one(store: Store) {
    let found = read(&store, all()).await;
    assert_eq!(found.revision, Revision(1));
    assert!(found.kvs.is_empty() && !found.more && found.count == 0, "{found:?}");
    assert_eq!(set(&store, "a", "1").await, Revision(2));
    assert_eq!(read(&store, all()).await.revision, Revision(2));
}

pub async fn keys_come_in_byte_order(store: Store) {
    let keys: [&[u8]; 7] = [b"\0", b"\0\0", b"a", b"a\0", b"a\xff", b"b", b"\xff\xff\xfe"];
    let ops = keys.iter().rev().map(|key| Op::put(key.to_vec(), *key)).collect();
    run(&store, ops).await;
    let found = read(&store, KeyRange::span("\0", b"\xff\xff\xff".to_vec())).await;
    let found: Vec<&[u8]> = found.kvs.iter().map(|kv| kv.key.as_ref()).collect();
    assert_eq!(found, keys);
    let prefixed = read(&store, KeyRange::prefix(b"a")).await;
    assert_eq!(prefixed.kvs.len(), 3, "{prefixed:?}");
    let prefixed = read(&store, KeyRange::prefix(b"a\xff")).await;
    assert_eq!(prefixed.kvs.len(), 1, "{prefixed:?}");
}

pub async fn a_span_has_no_end_in_it(store: Store) {
    run(&store, vec![put("a", "1"), put("b", "2"), put("c", "3")]).await;
    let rows = [
        (KeyRange::key("b"), "b=2"),
        (KeyRange::key("bb"), ""),
        (KeyRange::span("a", "c"), "a=1 b=2"),
        (KeyRange::span("a\0", "c\0"), "b=2 c=3"),
        (KeyRange::span("b", "b"), ""),
        (KeyRange::span("c", "a"), ""),
        (KeyRange::span("a", ""), ""),
        (KeyRange::span("a", "\0"), ""),
        (KeyRange::span("\0", "\0"), ""),
    ];
    for (keys, want) in rows {
        assert_eq!(super::show(&read(&store, keys.clone()).await), want, "{keys:?}");
    }
}

pub async fn a_limit_cuts_and_says_so(store: Store) {
    run(&store, vec![put("a", "1"), put("b", "2"), put("c", "3")]).await;
    for (limit, want, more) in [(1, 1, true), (2, 2, true), (3, 3, false), (4, 3, false)] {
        let found = store.range(RangeRequest::new(all()).limit(limit)).await.unwrap();
        assert_eq!((found.kvs.len(), found.more, found.count), (want, more, 3), "limit {limit}");
    }
}

pub async fn projections_leave_things_out(store: Store) {
    run(&store, vec![put("a", "1"), put("b", "2")]).await;
    let keys = RangeRequest::new(all()).project(Projection::KeysOnly);
    let found = store.range(keys.clone()).await.unwrap();
    assert_eq!(super::show(&found), "a= b=");
    assert_eq!(found.kvs[0].mod_revision, found.revision);
    let found = store.range(keys.limit(1)).await.unwrap();
    assert_eq!((super::show(&found).as_str(), found.more, found.count), ("a=", true, 2));
    let count = RangeRequest::new(all()).project(Projection::CountOnly);
    let found = store.range(count.clone()).await.unwrap();
    assert_eq!((found.kvs.len(), found.more, found.count), (0, false, 2));
    let found = store.range(count.limit(1)).await.unwrap();
    assert_eq!((found.kvs.len(), found.more, found.count), (0, false, 2));
}

pub async fn the_past_can_be_read(store: Store) {
    let first = set(&store, "a", "1").await;
    let second = run(&store, vec![put("a", "2"), put("b", "1")]).await.revision;
    let third = run(&store, vec![delete("a")]).await.revision;
    let fourth = set(&store, "a", "3").await;
    for (revision, want) in [
        (Revision(1), ""),
        (first, "a=1"),
        (second, "a=2 b=1"),
        (third, "b=1"),
        (fourth, "a=3 b=1"),
    ] {
        assert_eq!(dump_at(&store, revision).await, want, "at {revision}");
    }
    // The revision in the answer is now's, whatever was asked for.
    let past = store.range(RangeRequest::new(all()).at(first)).await.unwrap();
    assert_eq!((past.revision, past.count), (fourth, 1));
    assert_eq!(dump(&store).await, "a=3 b=1");
}

pub async fn the_future_cannot_be_read(store: Store) {
    let now = set(&store, "a", "1").await;
    let future = RangeRequest::new(all()).at(now.next());
    let error = store.range(future).await.unwrap_err();
    assert!(matches!(error, MetaError::FutureRevision), "{error:?}");
}

pub async fn values_of_all_sizes_come_back(store: Store) {
    for size in [0, 1, 1_000, 5_000, 100_000, 1_400_000] {
        let value: Bytes = (0..size).map(|i| (i % 251) as u8).collect();
        let key = format!("size {size:07}");
        run(&store, vec![Op::put(b(&key), value.clone())]).await;
        assert_eq!(get(&store, &key).await.unwrap().value, value);
    }
    assert_eq!(read(&store, all()).await.kvs.len(), 6);
}
