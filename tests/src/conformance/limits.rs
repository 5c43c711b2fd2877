//! What is refused before it is tried.

use bytes::Bytes;
use pagestore::internal::meta::{
    Compare, KeyRange, MAX_REQUEST_BYTES, MAX_TXN_OPS, MetaError, Op, RangeRequest, Txn,
};

use super::{Store, all, b, delete, dump, put, read, set, when};

async fn refused(store: &Store, txn: Txn) -> bool {
    match store.txn(txn).await {
        Ok(_) => false,
        Err(MetaError::Refused(_)) => true,
        Err(other) => panic!("{other:?}"),
    }
}

fn puts(prefix: &str, count: usize) -> Vec<Op> {
    (0..count).map(|i| put(&format!("{prefix} {i}"), "")).collect()
}

fn compares(count: usize) -> Vec<Compare> {
    (0..count).map(|i| Compare::absent(format!("absent {i}"))).collect()
}

pub async fn operations_are_counted_apart(store: Store) {
    let most = MAX_TXN_OPS;
    assert!(!refused(&store, when(compares(most), puts("a", most), puts("b", most))).await);
    assert!(refused(&store, when(compares(most + 1), vec![], vec![])).await);
    assert!(refused(&store, when(vec![], puts("c", most + 1), vec![])).await);
    assert!(refused(&store, when(vec![], vec![], puts("c", most + 1))).await);
    assert_eq!(read(&store, all()).await.count, most as u64);
}

pub async fn nested_txns_share_what_is_left(store: Store) {
    let nested = |txn| Op::Txn(txn);
    // One level: an outer with one operation leaves 127, as compares or as operations.
    let outer = |inner: Txn| when(vec![], vec![nested(inner)], vec![]);
    assert!(!refused(&store, outer(when(vec![], puts("a", 127), vec![]))).await);
    assert!(refused(&store, outer(when(vec![], puts("b", 128), vec![]))).await);
    assert!(!refused(&store, outer(when(compares(127), vec![], vec![]))).await);
    assert!(refused(&store, outer(when(compares(128), vec![], vec![]))).await);
    // The largest of the three numbers is what a level uses up.
    let wide = |inner: Txn| when(compares(100), vec![nested(inner)], vec![]);
    assert!(!refused(&store, wide(when(vec![], puts("c", 28), vec![]))).await);
    assert!(refused(&store, wide(when(vec![], puts("d", 29), vec![]))).await);
    // Two levels.
    let deep = outer(when(compares(27), vec![nested(when(compares(100), vec![], vec![]))], vec![]));
    assert!(!refused(&store, deep).await);
    let deep = outer(when(compares(27), vec![nested(when(compares(101), vec![], vec![]))], vec![]));
    assert!(refused(&store, deep).await);
}

pub async fn four_thousand_puts_fit(store: Store) {
    let nested = |i: usize| Op::Txn(when(vec![], puts(&format!("n{i}"), 64), vec![]));
    let response = store.txn(when(vec![], (0..64).map(nested).collect(), vec![])).await.unwrap();
    let found = read(&store, all()).await;
    assert_eq!(found.count, 4_096);
    assert!(found.kvs.iter().all(|kv| kv.mod_revision == response.revision));
}

pub async fn a_request_has_a_size(store: Store) {
    let of = |bytes: usize| when(vec![], vec![Op::put("a", Bytes::from(vec![7; bytes]))], vec![]);
    assert!(!refused(&store, of(MAX_REQUEST_BYTES - 200)).await);
    assert!(refused(&store, of(MAX_REQUEST_BYTES)).await);
    assert!(refused(&store, of(MAX_REQUEST_BYTES + (1 << 20))).await);
    assert!(refused(&store, of(8 << 20)).await);
    // All of a request counts, the branch not taken, too.
    let half = |key: &str| Op::put(b(key), Bytes::from(vec![7; MAX_REQUEST_BYTES / 2]));
    assert!(refused(&store, when(vec![], vec![half("b")], vec![half("c")])).await);
}

pub async fn a_key_is_put_once(store: Store) {
    let nest = |then, or_else| Op::Txn(when(vec![], then, or_else));
    assert!(refused(&store, when(vec![], vec![put("a", "1"), put("a", "2")], vec![])).await);
    assert!(refused(&store, when(vec![], vec![], vec![put("a", "1"), put("a", "2")])).await);
    let across = vec![put("a", "1"), nest(vec![put("a", "2")], vec![])];
    assert!(refused(&store, when(vec![], across, vec![])).await);
    let across = vec![put("a", "1"), nest(vec![], vec![put("a", "2")])];
    assert!(refused(&store, when(vec![], across, vec![])).await, "even if it is not taken");
    let siblings = vec![nest(vec![put("a", "1")], vec![]), nest(vec![put("a", "2")], vec![])];
    assert!(refused(&store, when(vec![], siblings, vec![])).await);
    // Only one branch of a transaction is taken.
    assert!(!refused(&store, when(vec![], vec![put("a", "1")], vec![put("a", "2")])).await);
    let branches = vec![nest(vec![put("a", "2")], vec![put("a", "3")])];
    assert!(!refused(&store, when(vec![], branches, vec![])).await);
    assert_eq!(dump(&store).await, "a=2");
}

pub async fn a_key_is_put_or_deleted(store: Store) {
    let nest = |ops| Op::Txn(when(vec![], ops, vec![]));
    let span = || Op::Delete(KeyRange::span("a", "c"));
    assert!(refused(&store, when(vec![], vec![delete("a"), put("a", "1")], vec![])).await);
    assert!(refused(&store, when(vec![], vec![put("b", "1"), span()], vec![])).await);
    assert!(!refused(&store, when(vec![], vec![put("c", "1"), span()], vec![])).await);
    assert!(refused(&store, when(vec![], vec![span(), nest(vec![put("b", "1")])], vec![])).await);
    assert!(refused(&store, when(vec![], vec![nest(vec![span()]), put("b", "1")], vec![])).await);
    assert!(!refused(&store, when(vec![], vec![span(), delete("a"), span()], vec![])).await);
    assert_eq!(dump(&store).await, "c=1");
}

pub async fn keys_must_not_be_empty(store: Store) {
    let none = || KeyRange::key("");
    for op in [put("", "1"), Op::Delete(none()), Op::Range(RangeRequest::new(none()))] {
        assert!(refused(&store, when(vec![], vec![op], vec![])).await);
    }
    assert!(refused(&store, when(vec![Compare::absent("")], vec![], vec![])).await);
    let error = store.range(RangeRequest::new(none())).await.unwrap_err();
    assert!(matches!(error, MetaError::Refused(_)), "{error:?}");
    set(&store, "a", "").await;
    assert_eq!(dump(&store).await, "a=");
}
