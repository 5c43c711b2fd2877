use super::*;
use crate::meta::{Compare, CompareOp, MetaError, Target};

#[tokio::test]
async fn revisions_count_transactions_that_change_something() {
    let f = fixture();
    assert_eq!(f.revision().await, 1);
    assert_eq!(f.put(&[("a", "1"), ("b", "1")]).await, 2);
    assert_eq!(f.put(&[("a", "2")]).await, 3);
    assert_eq!(f.delete(KeyRange::key("nothing")).await, (3, 0));
    assert_eq!(f.txn(Txn::default()).await.revision, Revision(3));
    assert_eq!(f.delete(all()).await, (4, 2));
    assert_eq!(f.delete(all()).await, (4, 0));
    assert_eq!(f.put(&[("a", "2")]).await, 5);
    assert_eq!(f.revision().await, 5);
}

#[tokio::test]
async fn a_key_counts_anew_after_its_deletion() {
    let f = fixture();
    f.put(&[("a", "1")]).await;
    f.put(&[("a", "2")]).await;
    f.put(&[("b", "1")]).await;
    assert_eq!(numbers(&f.get("a").await.unwrap()), [2, 3, 2]);
    f.delete(KeyRange::key("a")).await;
    assert_eq!(f.get("a").await, None);
    f.put(&[("a", "3")]).await;
    assert_eq!(numbers(&f.get("a").await.unwrap()), [6, 6, 1]);
}

#[tokio::test]
async fn compares_hold_for_every_key_of_a_range() {
    let f = fixture();
    f.put(&[("a", "1"), ("b", "2")]).await;
    f.put(&[("b", "3")]).await;
    f.delete(KeyRange::key("a")).await;
    f.put(&[("c", "1")]).await;
    let some = KeyRange::span("a", "d");
    let none = KeyRange::span("x", "z");
    let value = |v: &str| Target::Value(v.to_owned().into());
    use CompareOp::{Equal, Greater, Less, NotEqual};
    // Now: b created at 2, put at 3, version 2, "3"; c created and put at 5, "1".
    let rows = [
        (&some, Greater, Target::ModRevision(Revision(2)), true),
        (&some, Greater, Target::ModRevision(Revision(3)), false),
        (&some, Less, Target::ModRevision(Revision(6)), true),
        (&some, Less, Target::ModRevision(Revision(5)), false),
        (&some, NotEqual, Target::CreateRevision(Revision(0)), true),
        (&some, Less, Target::Version(3), true),
        (&some, Equal, Target::Version(2), false),
        (&some, Greater, value("0"), true),
        (&some, Equal, value("1"), false),
        (&some, Equal, Target::Lease(LeaseId(0)), true),
        (&none, Equal, Target::CreateRevision(Revision(0)), true),
        (&none, Less, Target::ModRevision(Revision(1)), true),
        (&none, Greater, Target::Version(0), false),
        (&none, Equal, Target::Lease(LeaseId(0)), true),
        (&none, Equal, value(""), false),
        (&none, NotEqual, value(""), false),
    ];
    for (keys, op, target, holds) in rows {
        let compare = Compare { keys: keys.clone(), op, target };
        let txn = Txn { compares: vec![compare.clone()], ..Txn::default() };
        assert_eq!(f.txn(txn).await.succeeded, holds, "{compare:?}");
    }
    let absent = Txn { compares: vec![Compare::absent("a")], ..Txn::default() };
    assert!(f.txn(absent).await.succeeded, "a deleted key is invisible");
}

#[tokio::test]
async fn one_compare_that_fails_takes_the_other_branch() {
    let f = fixture();
    f.put(&[("a", "1")]).await;
    let txn = Txn {
        compares: vec![Compare::exists("a"), Compare::exists("b")],
        then: vec![Op::put("c", "then")],
        or_else: vec![Op::get("a"), Op::put("c", "else")],
    };
    let response = f.txn(txn).await;
    assert!(!response.succeeded);
    assert_eq!(response.responses.len(), 2);
    assert_eq!(f.get("c").await.unwrap().value, "else");
}

#[tokio::test]
async fn nested_compares_see_the_state_before_the_outermost() {
    let f = fixture();
    let inner = |then: &'static str, or_else: &'static str| {
        Op::Txn(Txn {
            compares: vec![Compare::absent("a")],
            then: vec![Op::put("b", then)],
            or_else: vec![Op::put("b", or_else)],
        })
    };
    let response = f.txn(super::then(vec![Op::put("a", "1"), inner("absent", "present")])).await;
    assert_eq!(f.get("b").await.unwrap().value, "absent");
    let OpResponse::Txn(nested) = &response.responses[1] else { panic!("{response:?}") };
    assert!(nested.succeeded);
    assert_eq!(nested.revision, Revision(2));
    f.txn(super::then(vec![Op::delete("a"), inner("absent", "present")])).await;
    assert_eq!(f.get("b").await.unwrap().value, "present");
}

#[tokio::test]
async fn operations_see_those_before_them() {
    let f = fixture();
    f.put(&[("a", "old"), ("b", "old")]).await;
    let ops = vec![
        Op::Range(RangeRequest::new(all())),
        Op::put("c", "new"),
        Op::delete("a"),
        Op::Range(RangeRequest::new(all())),
        Op::delete("a"),
        Op::Delete(KeyRange::span("a", "c")),
        Op::Range(RangeRequest::new(all())),
    ];
    let response = f.txn(then(ops)).await;
    let seen: Vec<Vec<String>> = response
        .responses
        .iter()
        .filter_map(|response| match response {
            OpResponse::Range(range) => Some(range),
            _ => None,
        })
        .inspect(|range| assert_eq!(range.revision, Revision(3)))
        .map(|range| pairs(range).into_iter().map(|(key, _)| key).collect())
        .collect();
    assert_eq!(seen, [vec!["a", "b"], vec!["b", "c"], vec!["c"]]);
    assert_eq!(response.responses[4], OpResponse::Delete(0));
    assert_eq!(response.responses[5], OpResponse::Delete(1));
}

#[tokio::test]
async fn a_key_put_and_deleted_in_one_transaction_leaves_both_events() {
    let f = fixture();
    let put = Op::Txn(then(vec![Op::put("a", "1")]));
    let delete = Op::Txn(then(vec![Op::delete("a")]));
    assert_eq!(f.txn(then(vec![put, delete])).await.revision, Revision(2));
    assert_eq!(f.get("a").await, None);
    assert!(f.at(all(), 2).await.unwrap().kvs.is_empty());
}

#[tokio::test]
async fn what_is_refused_changes_nothing_and_harms_no_neighbour() {
    let f = fixture();
    f.put(&[("a", "1")]).await;
    let bad = Op::Put { key: "b".into(), value: "1".into(), lease: LeaseId(77) };
    let (refused, done) = tokio::join!(
        f.store.txn(then(vec![Op::put("a", "2"), bad.clone()])),
        f.store.txn(then(vec![Op::put("c", "1")])),
    );
    assert!(matches!(refused, Err(MetaError::LeaseNotFound)));
    assert_eq!(done.unwrap().revision, Revision(3));
    assert_eq!(f.get("a").await.unwrap().value, "1");
    // On the way not taken an unknown lease does not matter.
    let txn = Txn { compares: vec![Compare::exists("a")], then: vec![], or_else: vec![bad] };
    assert!(f.txn(txn).await.succeeded);
}

#[tokio::test]
async fn a_large_deletion_is_one_revision() {
    let f = fixture();
    for chunk in 0..25 {
        let puts = (0..100).map(|i| Op::put(format!("k{chunk:02}{i:03}"), "v")).collect();
        f.txn(then(puts)).await;
    }
    assert_eq!(f.delete(KeyRange::prefix(b"k")).await, (27, 2_500));
    assert_eq!(f.delete(KeyRange::prefix(b"k")).await, (27, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_increments_are_all_counted() {
    let f = fixture();
    f.put(&[("n", "0")]).await;
    let tasks = (0..8).map(|_| {
        let store = Arc::clone(&f.store);
        tokio::spawn(async move {
            for _ in 0..20 {
                loop {
                    let kv = store.range(RangeRequest::new(KeyRange::key("n"))).await.unwrap();
                    let kv = &kv.kvs[0];
                    let n: u64 = std::str::from_utf8(&kv.value).unwrap().parse().unwrap();
                    let txn = Txn {
                        compares: vec![Compare::modified("n", kv.mod_revision)],
                        then: vec![Op::put("n", (n + 1).to_string())],
                        or_else: vec![],
                    };
                    if store.txn(txn).await.unwrap().succeeded {
                        break;
                    }
                }
            }
        })
    });
    futures::future::join_all(tasks).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(f.get("n").await.unwrap().value, "160");
    assert_eq!(f.revision().await, 162);
}

#[tokio::test]
async fn what_waits_is_committed_together() {
    let f = fixture();
    let puts = (0..200).map(|i| {
        let store = Arc::clone(&f.store);
        async move { store.txn(then(vec![Op::put(format!("k{i}"), "v")])).await }
    });
    let mut revisions: Vec<u64> =
        futures::future::join_all(puts).await.into_iter().map(|r| r.unwrap().revision.0).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (2..202).collect::<Vec<u64>>());
    let metrics = f.store.metrics();
    assert_eq!(metrics.requests, 200);
    assert!(metrics.commits < 100, "{metrics:?}");
}
