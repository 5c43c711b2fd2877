//! Compaction.

use pagestore::internal::meta::{MetaError, RangeRequest};
use pagestore::internal::types::Revision;

use super::{Store, all, delete, dump, dump_at, get, run, set};

pub async fn forgets_what_was_superseded(store: Store) {
    let first = set(&store, "a", "1").await;
    let second = set(&store, "a", "2").await;
    let third = run(&store, vec![delete("a")]).await.revision;
    let fourth = set(&store, "b", "1").await;
    store.compact(third).await.unwrap();
    for revision in [first, second] {
        let error = store.range(RangeRequest::new(all()).at(revision)).await.unwrap_err();
        let MetaError::Compacted { oldest } = error else { panic!("{error:?}") };
        assert!(oldest == third || oldest == Revision::ZERO, "oldest {oldest}");
    }
    assert_eq!(dump_at(&store, third).await, "");
    assert_eq!(dump_at(&store, fourth).await, "b=1");
    assert_eq!(dump(&store).await, "b=1");
}

pub async fn keeps_what_is_current(store: Store) {
    let first = set(&store, "a", "1").await;
    set(&store, "b", "1").await;
    let third = set(&store, "b", "2").await;
    let last = set(&store, "b", "3").await;
    store.compact(third).await.unwrap();
    assert_eq!(dump_at(&store, third).await, "a=1 b=2");
    store.compact(last).await.unwrap();
    let found = get(&store, "a").await.unwrap();
    assert_eq!((found.create_revision, found.version), (first, 1));
    let found = get(&store, "b").await.unwrap();
    assert_eq!((found.mod_revision, found.version), (last, 3), "versions are not counted anew");
    assert_eq!(set(&store, "a", "2").await, last.next());
    assert_eq!(get(&store, "a").await.unwrap().version, 2);
}

pub async fn of_a_compacted_or_future_revision_is_an_error(store: Store) {
    set(&store, "a", "1").await;
    let now = set(&store, "a", "2").await;
    let error = store.compact(now.next()).await.unwrap_err();
    assert!(matches!(error, MetaError::FutureRevision), "{error:?}");
    store.compact(now).await.unwrap();
    for again in [now, Revision(1)] {
        let error = store.compact(again).await.unwrap_err();
        assert!(matches!(error, MetaError::Compacted { .. }), "{error:?}");
    }
}
