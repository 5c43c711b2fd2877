//! Leases.

use std::time::Duration;

use pagestore::internal::meta::{Event, LeaseId, MetaError};

use super::watch::Watch;
use super::{Store, all, attempt, delete, dump, get, put, put_leased, run, set};

const LONG: Duration = Duration::from_secs(600);
/// No lease of etcd's is shorter than 2 s.
const SHORT: Duration = Duration::from_secs(1);

pub async fn unknown_leases_are_not_found(store: Store) {
    let unknown = LeaseId(12_345);
    let error = store.lease_keep_alive(unknown).await.unwrap_err();
    assert!(matches!(error, MetaError::LeaseNotFound), "{error:?}");
    let error = store.lease_revoke(unknown).await.unwrap_err();
    assert!(matches!(error, MetaError::LeaseNotFound), "{error:?}");
    let lease = store.lease_grant(LONG).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    let error = store.lease_revoke(lease).await.unwrap_err();
    assert!(matches!(error, MetaError::LeaseNotFound), "{error:?}");
    let error = store.lease_keep_alive(lease).await.unwrap_err();
    assert!(matches!(error, MetaError::LeaseNotFound), "{error:?}");
}

pub async fn revoking_deletes_its_keys_in_one_revision(store: Store) {
    let lease = store.lease_grant(LONG).await.unwrap();
    let other = store.lease_grant(LONG).await.unwrap();
    assert_ne!(lease, other);
    assert!(lease.0 > 0 && other.0 > 0, "{lease:?} {other:?}");
    let ops = vec![
        put_leased("c", "1", lease),
        put_leased("a", "1", lease),
        put_leased("b", "1", other),
        put("d", "1"),
    ];
    let before = run(&store, ops).await.revision;
    assert_eq!(get(&store, "a").await.unwrap().lease, lease);
    let mut watch = Watch::start(&store, all(), before.next()).await;
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(dump(&store).await, "b=1 d=1");
    let revision = before.next();
    let events = watch.events(2).await;
    let want = ["a", "c"].map(|key| Event::Delete { key: key.into(), revision });
    assert_eq!(events, want, "in key order");
    // A lease without keys takes no revision.
    let empty = store.lease_grant(LONG).await.unwrap();
    store.lease_revoke(empty).await.unwrap();
    assert_eq!(set(&store, "d", "2").await, revision.next());
}

pub async fn expiring_deletes_its_keys(store: Store) {
    let lease = store.lease_grant(SHORT).await.unwrap();
    let ops = vec![put_leased("a", "1", lease), put_leased("b", "1", lease), put("c", "1")];
    let before = run(&store, ops).await.revision;
    let mut watch = Watch::start(&store, all(), before.next()).await;
    let revision = before.next();
    let want = ["a", "b"].map(|key| Event::Delete { key: key.into(), revision });
    assert_eq!(watch.events(2).await, want);
    assert_eq!(dump(&store).await, "c=1");
    let error = store.lease_keep_alive(lease).await.unwrap_err();
    assert!(matches!(error, MetaError::LeaseNotFound), "{error:?}");
}

pub async fn a_key_follows_its_last_put(store: Store) {
    let first = store.lease_grant(LONG).await.unwrap();
    let second = store.lease_grant(LONG).await.unwrap();
    let keys = ["detached", "moved", "deleted", "remade", "kept"];
    run(&store, keys.map(|key| put_leased(key, "1", first)).to_vec()).await;
    let ops = vec![
        put("detached", "2"),
        put_leased("moved", "2", second),
        delete("deleted"),
        delete("remade"),
        put_leased("kept", "2", first),
    ];
    run(&store, ops).await;
    set(&store, "remade", "2").await;
    assert_eq!(get(&store, "moved").await.unwrap().lease, second);
    assert_eq!(get(&store, "detached").await.unwrap().lease, LeaseId(0));
    store.lease_revoke(first).await.unwrap();
    assert_eq!(dump(&store).await, "detached=2 moved=2 remade=2");
    store.lease_revoke(second).await.unwrap();
    assert_eq!(dump(&store).await, "detached=2 remade=2");
}

pub async fn keeping_alive_gives_the_time_to_live(store: Store) {
    let lease = store.lease_grant(Duration::from_millis(599_001)).await.unwrap();
    assert_eq!(store.lease_keep_alive(lease).await.unwrap(), LONG, "rounded up to seconds");
    assert_eq!(store.lease_keep_alive(lease).await.unwrap(), LONG);
    let shortest = store.lease_grant(Duration::ZERO).await.unwrap();
    store.lease_revoke(shortest).await.unwrap();
}

pub async fn an_unknown_lease_spoils_the_whole_txn(store: Store) {
    let now = set(&store, "a", "1").await;
    let ops = vec![put("a", "2"), put_leased("b", "1", LeaseId(12_345))];
    let error = attempt(&store, ops).await.unwrap_err();
    assert!(matches!(error, MetaError::LeaseNotFound), "{error:?}");
    assert_eq!(dump(&store).await, "a=1");
    // What is not done need not be possible.
    let untaken = super::when(vec![], vec![], vec![put_leased("b", "1", LeaseId(12_345))]);
    assert!(store.txn(untaken).await.unwrap().succeeded);
    assert_eq!(set(&store, "a", "2").await, now.next());
}
