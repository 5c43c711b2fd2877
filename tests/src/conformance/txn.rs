//! Transactions: revisions, versions, nesting.

use pagestore::internal::meta::{
    Compare, KeyRange, LeaseId, Op, OpResponse, RangeRequest, TxnResponse,
};
use pagestore::internal::types::Revision;

use super::{Store, all, b, delete, dump, get, put, run, set, show, when};

pub async fn a_put_tells_its_revisions_and_version(store: Store) {
    let first = set(&store, "a", "1").await;
    let second = set(&store, "a", "1").await;
    assert_eq!(second, first.next(), "the same value again is a change, too");
    let found = get(&store, "a").await.unwrap();
    assert_eq!((found.create_revision, found.mod_revision), (first, second));
    assert_eq!((found.version, found.lease), (2, LeaseId(0)));
}

pub async fn a_deleted_key_starts_anew(store: Store) {
    set(&store, "a", "1").await;
    set(&store, "a", "2").await;
    run(&store, vec![delete("a")]).await;
    assert_eq!(get(&store, "a").await, None);
    let again = set(&store, "a", "3").await;
    let found = get(&store, "a").await.unwrap();
    assert_eq!((found.create_revision, found.mod_revision, found.version), (again, again, 1));
}

pub async fn all_changes_have_one_revision(store: Store) {
    set(&store, "x", "0").await;
    let nested = Op::Txn(when(Vec::new(), vec![put("c", "3")], Vec::new()));
    let ops = vec![put("a", "1"), delete("x"), nested, put("b", "2")];
    let revision = run(&store, ops).await.revision;
    assert_eq!(revision, Revision(3));
    for key in ["a", "b", "c"] {
        assert_eq!(get(&store, key).await.unwrap().mod_revision, revision, "{key}");
    }
    assert_eq!(set(&store, "a", "2").await, Revision(4));
}

pub async fn what_changes_nothing_takes_no_revision(store: Store) {
    let now = set(&store, "a", "1").await;
    for ops in [vec![], vec![Op::get("a")], vec![delete("absent")]] {
        assert_eq!(run(&store, ops).await.revision, now);
    }
    let refused = when(vec![Compare::absent("a")], vec![put("a", "2")], vec![]);
    let response = store.txn(refused).await.unwrap();
    assert_eq!((response.succeeded, response.revision), (false, now));
    assert!(response.responses.is_empty());
    assert_eq!(set(&store, "a", "2").await, now.next());
}

pub async fn a_delete_says_how_many(store: Store) {
    run(&store, vec![put("a", "1"), put("b", "2"), put("c", "3")]).await;
    let span = || Op::Delete(KeyRange::span("a", "c"));
    let response = run(&store, vec![delete("absent"), span(), span()]).await;
    let want = [0, 2, 0].map(OpResponse::Delete);
    assert_eq!(response.responses, want, "the second finds what the first left");
    assert_eq!(dump(&store).await, "c=3");
}

pub async fn operations_see_those_before_them(store: Store) {
    set(&store, "a", "0").await;
    let look = || Op::Range(RangeRequest::new(all()));
    let nested = Op::Txn(when(vec![], vec![look(), put("b", "2")], vec![]));
    let ops = vec![look(), put("a", "1"), nested, delete("c"), look()];
    let response = run(&store, ops).await;
    let shown = |response: &OpResponse| match response {
        OpResponse::Range(found) => show(found),
        other => panic!("{other:?}"),
    };
    let OpResponse::Txn(nested) = &response.responses[2] else { panic!("{response:?}") };
    assert_eq!(shown(&response.responses[0]), "a=0");
    assert_eq!(shown(&nested.responses[0]), "a=1");
    assert_eq!(shown(&response.responses[4]), "a=1 b=2");
    let OpResponse::Range(last) = &response.responses[4] else { panic!("{response:?}") };
    assert_eq!(last.kvs[1].mod_revision, response.revision, "seen before it is committed");
    assert_eq!((last.revision, nested.revision), (response.revision, response.revision));
}

pub async fn nested_compares_see_the_state_before(store: Store) {
    let inner = |key: &str| {
        Op::Txn(when(
            vec![Compare::absent(b(key))],
            vec![put(&format!("{key} was absent"), "")],
            vec![put(&format!("{key} was there"), "")],
        ))
    };
    let deeper = Op::Txn(when(vec![], vec![inner("c")], vec![]));
    let ops = vec![put("a", "1"), inner("a"), inner("b"), put("c", "1"), deeper];
    let response = run(&store, ops).await;
    assert!(response.succeeded);
    assert_eq!(dump(&store).await, "a=1 a was absent= b was absent= c=1 c was absent=");
}

pub async fn nested_outcomes_are_independent(store: Store) {
    let now = set(&store, "a", "1").await;
    let inner = |holds: bool, mark: &str| {
        let compare = Compare::modified("a", if holds { now } else { Revision(1) });
        Op::Txn(when(vec![compare], vec![put(mark, "then")], vec![Op::get("a")]))
    };
    let txn = when(
        vec![Compare::exists("a")],
        vec![inner(true, "m"), inner(false, "n"), inner(true, "o")],
        vec![put("never", "")],
    );
    let response = store.txn(txn).await.unwrap();
    let succeeded: Vec<bool> = response.responses.iter().map(|r| nested(r).succeeded).collect();
    assert_eq!((response.succeeded, succeeded), (true, vec![true, false, true]));
    assert!(matches!(nested(&response.responses[1]).responses[..], [OpResponse::Range(_)]));
    assert!(response.responses.iter().all(|r| nested(r).revision == response.revision));
    assert_eq!(response.revision, now.next());
    assert_eq!(dump(&store).await, "a=1 m=then o=then");
}

fn nested(response: &OpResponse) -> &TxnResponse {
    match response {
        OpResponse::Txn(nested) => nested,
        other => panic!("{other:?}"),
    }
}

pub async fn status_tells_of_the_store(store: Store) {
    let now = set(&store, "a", "1").await;
    let (first, second) = (store.status().await.unwrap(), store.status().await.unwrap());
    assert_eq!(first.revision, now);
    assert_eq!(first.cluster_id, second.cluster_id);
    assert!(first.size_bytes > 0 && first.used_bytes > 0 && !first.version.is_empty(), "{first:?}");
}
