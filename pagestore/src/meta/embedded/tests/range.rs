use super::*;
use crate::meta::{MetaError, Projection};

#[tokio::test]
async fn ranges_are_ordered_limited_and_counted() {
    let f = fixture();
    f.put(&[("a", "1"), ("b", "22"), ("c", "3"), ("d", "4")]).await;
    f.delete(KeyRange::key("c")).await;
    let range = RangeRequest::new(KeyRange::span("a", "e"));
    let two = f.store.range(range.clone().limit(2)).await.unwrap();
    assert_eq!(pairs(&two), [("a".into(), "1".into()), ("b".into(), "22".into())]);
    assert_eq!((two.more, two.count, two.revision), (true, 3, Revision(3)));
    let three = f.store.range(range.clone().limit(3)).await.unwrap();
    assert_eq!((three.more, three.count, three.kvs.len()), (false, 3, 3));
    let keys = f.store.range(range.clone().project(Projection::KeysOnly)).await.unwrap();
    assert!(keys.kvs.iter().all(|kv| kv.value.is_empty()));
    assert_eq!(keys.kvs.len(), 3);
    let count = f.store.range(range.limit(1).project(Projection::CountOnly)).await.unwrap();
    assert_eq!((count.more, count.count, count.kvs.len()), (false, 3, 0));
    let empty = f.store.range(RangeRequest::new(KeyRange::span("d", "a"))).await.unwrap();
    assert_eq!((empty.more, empty.count), (false, 0));
}

#[tokio::test]
async fn every_revision_can_be_read() {
    let f = fixture();
    f.put(&[("a", "1")]).await;
    f.put(&[("b", "1")]).await;
    f.put(&[("a", "2")]).await;
    f.delete(KeyRange::key("a")).await;
    f.put(&[("a", "3")]).await;
    let mut seen = Vec::new();
    for revision in 1..=6 {
        let response = f.at(all(), revision).await.unwrap();
        assert_eq!(response.revision, Revision(6));
        let text: Vec<String> = pairs(&response).iter().map(|(k, v)| format!("{k}{v}")).collect();
        seen.push(text.join(" "));
    }
    assert_eq!(seen, ["", "a1", "a1 b1", "a2 b1", "b1", "a3 b1"]);
    let a2 = f.at(KeyRange::key("a"), 4).await.unwrap().kvs.pop().unwrap();
    assert_eq!(numbers(&a2), [2, 4, 2]);
    assert!(matches!(f.at(all(), 7).await, Err(MetaError::FutureRevision)));
    assert_eq!(f.at(all(), 0).await.unwrap().kvs.len(), 2, "as in etcd, 0 is now");
}

#[tokio::test]
async fn values_of_any_size_come_back_now_and_later() {
    let f = fixture();
    let mut revisions = Vec::new();
    for bytes in [0, 1, 1024, 1025, 4096, 1_000_000] {
        let value = vec![b'x'; bytes];
        let revision = f.txn(then(vec![Op::put("k", value.clone())])).await.revision.0;
        assert_eq!(f.get("k").await.unwrap().value, value);
        revisions.push((revision, value));
    }
    for (revision, value) in revisions {
        let old = f.at(KeyRange::key("k"), revision).await.unwrap();
        assert_eq!(old.kvs[0].value, value);
    }
}

#[tokio::test]
async fn the_longest_keys_are_put_and_ranges_may_begin_and_end_beyond_them() {
    let f = fixture();
    let longest = vec![7u8; 511];
    f.txn(then(vec![Op::put(longest.clone(), "v")])).await;
    assert!(f.store.txn(then(vec![Op::put(vec![7u8; 512], "v")])).await.is_err());
    let mut after = longest.clone();
    after.push(0);
    for (keys, count) in [
        (KeyRange::key(longest.clone()), 1),
        (KeyRange::span(longest.clone(), after.clone()), 1),
        (KeyRange::key(after.clone()), 0),
        (KeyRange::span(after, vec![8u8; 600]), 0),
        (KeyRange::span(vec![6u8; 600], vec![8u8; 600]), 1),
    ] {
        assert_eq!(f.store.range(RangeRequest::new(keys)).await.unwrap().count, count);
    }
    assert_eq!(f.delete(KeyRange::key(longest)).await.1, 1);
}
