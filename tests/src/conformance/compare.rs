//! Compares.

use std::cmp::Ordering;

use pagestore::internal::meta::{Compare, CompareOp, KeyRange, LeaseId, Target};
use pagestore::internal::types::Revision;

use super::{Store, b, compare, delete, put, put_leased, run, set, when};

const OPS: [CompareOp; 4] =
    [CompareOp::Equal, CompareOp::NotEqual, CompareOp::Greater, CompareOp::Less];

fn fits(op: CompareOp, order: Ordering) -> bool {
    match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::Less => order.is_lt(),
    }
}

async fn holds(store: &Store, compares: Vec<Compare>) -> bool {
    store.txn(when(compares, vec![], vec![])).await.unwrap().succeeded
}

pub async fn every_operator_on_every_target(store: Store) {
    let lease = store.lease_grant(std::time::Duration::from_secs(600)).await.unwrap();
    let created = set(&store, "k", "0").await;
    let modified = run(&store, vec![put_leased("k", "m", lease)]).await.revision;
    use Ordering::{Equal, Greater, Less};
    // The key's on the left of each order.
    let present = [
        (Target::CreateRevision(created), Equal),
        (Target::CreateRevision(modified), Less),
        (Target::CreateRevision(Revision::ZERO), Greater),
        (Target::ModRevision(modified), Equal),
        (Target::ModRevision(created), Greater),
        (Target::ModRevision(Revision::MAX), Less),
        (Target::Version(2), Equal),
        (Target::Version(1), Greater),
        (Target::Version(3), Less),
        (Target::Value(b("m")), Equal),
        (Target::Value(b("")), Greater),
        (Target::Value(b("ma")), Less),
        (Target::Value(b("lzzz")), Greater),
        (Target::Lease(lease), Equal),
        (Target::Lease(LeaseId(0)), Greater),
        (Target::Lease(LeaseId(i64::MAX)), Less),
    ];
    let absent = [
        (Target::CreateRevision(Revision::ZERO), Equal),
        (Target::CreateRevision(created), Less),
        (Target::ModRevision(Revision::ZERO), Equal),
        (Target::ModRevision(Revision(1)), Less),
        (Target::Version(0), Equal),
        (Target::Version(1), Less),
        (Target::Lease(LeaseId(0)), Equal),
        (Target::Lease(lease), Less),
    ];
    for (key, rows) in [("k", &present[..]), ("absent", &absent[..])] {
        for (target, order) in rows {
            for op in OPS {
                let condition = compare(KeyRange::key(b(key)), op, target.clone());
                let got = holds(&store, vec![condition]).await;
                assert_eq!(got, fits(op, *order), "{key} {op:?} {target:?}");
            }
        }
    }
}

pub async fn a_range_holds_for_every_key(store: Store) {
    let first = set(&store, "a", "5").await;
    let second = set(&store, "b", "7").await;
    let span = |start, end| KeyRange::span(b(start), b(end));
    assert!(holds(&store, vec![Compare::unchanged_since(span("a", "z"), second)]).await);
    assert!(!holds(&store, vec![Compare::unchanged_since(span("a", "z"), first)]).await);
    assert!(holds(&store, vec![Compare::unchanged_since(span("a", "b"), first)]).await);
    for (value, want) in [("4", true), ("5", false), ("8", false)] {
        let target = Target::Value(b(value));
        let condition = compare(span("a", "z"), CompareOp::Greater, target);
        assert_eq!(holds(&store, vec![condition]).await, want, "values > {value}");
    }
    let condition = compare(span("a", "z"), CompareOp::NotEqual, Target::Value(b("7")));
    assert!(!holds(&store, vec![condition]).await, "one key is equal");
    // A deleted key is not seen.
    run(&store, vec![delete("b")]).await;
    assert!(holds(&store, vec![Compare::unchanged_since(span("a", "z"), first)]).await);
}

pub async fn an_empty_range_is_one_absent_key(store: Store) {
    set(&store, "z", "1").await;
    run(&store, vec![put("m", "1")]).await;
    run(&store, vec![delete("m")]).await;
    for keys in [KeyRange::span("a", "n"), KeyRange::span("b", "a"), KeyRange::key("m")] {
        let zero = Target::CreateRevision(Revision::ZERO);
        assert!(holds(&store, vec![compare(keys.clone(), CompareOp::Equal, zero)]).await);
        assert!(holds(&store, vec![Compare::unchanged_since(keys.clone(), Revision(1))]).await);
        for op in OPS {
            let value = compare(keys.clone(), op, Target::Value(b("")));
            assert!(!holds(&store, vec![value]).await, "{op:?}: there is no value to compare");
        }
        let version = compare(keys.clone(), CompareOp::Greater, Target::Version(0));
        assert!(!holds(&store, vec![version]).await);
    }
}

pub async fn all_must_hold(store: Store) {
    set(&store, "a", "1").await;
    let (yes, no) = (|| Compare::exists("a"), || Compare::absent("a"));
    assert!(holds(&store, vec![]).await);
    assert!(holds(&store, vec![yes(), yes()]).await);
    assert!(!holds(&store, vec![yes(), no()]).await);
    assert!(!holds(&store, vec![no(), yes()]).await);
}
