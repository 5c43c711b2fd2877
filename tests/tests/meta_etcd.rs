//! The etcd backend in bad weather.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use pagestore::internal::env::Env;
use pagestore::internal::meta::etcd::{EtcdOptions, EtcdStore, EtcdTls};
use pagestore::internal::meta::{
    KeyRange, MetaError, MetaResult, MetaStore as _, Op, RangeRequest, Txn, WatchStream,
};
use pagestore::internal::types::Revision;
use pagestore_tests::harness::{EtcdCluster, EtcdServer, Fault, Proxy, TlsFiles, seed};

/// Only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// For calls that are to time out.
const SHORT: Duration = Duration::from_millis(1_500);

fn put(key: &str, value: impl Into<bytes::Bytes>) -> Txn {
    let key = bytes::Bytes::copy_from_slice(key.as_bytes());
    Txn { then: vec![Op::put(key, value)], ..Txn::default() }
}

async fn connect(options: EtcdOptions) -> MetaResult<Arc<EtcdStore>> {
    EtcdStore::connect(options, &Env::system()).await
}

async fn connect_short(endpoint: String) -> Arc<EtcdStore> {
    let options = EtcdOptions { request_timeout: SHORT, ..EtcdOptions::new([endpoint]) };
    connect(options).await.unwrap()
}

async fn count(store: &EtcdStore) -> MetaResult<u64> {
    let all = KeyRange::span("\0", "\u{10ffff}");
    Ok(store.range(RangeRequest::new(all)).await?.count)
}

async fn watch(store: &EtcdStore) -> WatchStream {
    store.watch(KeyRange::prefix(b"a"), Revision(1)).await.unwrap()
}

async fn end_of(mut stream: WatchStream) -> MetaError {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    let error = next.expect("an end in time").expect("an error first").unwrap_err();
    assert!(stream.next().await.is_none(), "an error is the end");
    error
}

#[tokio::test]
async fn a_lost_answer_is_an_unknown_outcome_and_not_sent_again() {
    let server = EtcdServer::start();
    let proxy = Proxy::before(server.address(), seed());
    let store = connect_short(proxy.endpoint()).await;
    assert_eq!(store.txn(put("a", "1")).await.unwrap().revision, Revision(2));
    proxy.set(Fault::LoseAnswers);
    let error = store.txn(put("b", "1")).await.unwrap_err();
    assert!(error.maybe_applied(), "{error:?}");
    proxy.set(Fault::None);
    let found = store.range(RangeRequest::new(KeyRange::key("b"))).await.unwrap();
    assert_eq!(found.revision, Revision(3), "once and only once");
    assert_eq!(found.kvs[0].version, 1);
}

#[tokio::test]
async fn a_server_that_is_gone_surely_did_nothing() {
    let mut server = EtcdServer::start();
    let store = connect_short(server.endpoint()).await;
    server.kill9();
    // The first may still be sent on the old connection.
    let _ = store.txn(put("a", "1")).await;
    let error = store.txn(put("a", "2")).await.unwrap_err();
    assert!(matches!(error, MetaError::Unavailable { maybe_applied: false, .. }), "{error:?}");
    server.restart();
    store.txn(put("a", "3")).await.unwrap();
    assert_eq!(count(&store).await.unwrap(), 1);
}

#[tokio::test]
async fn a_frozen_server_is_unavailable_in_bounded_time() {
    let mut server = EtcdServer::start();
    let store = connect_short(server.endpoint()).await;
    server.stop();
    let error = store.txn(put("a", "1")).await.unwrap_err();
    assert!(error.maybe_applied(), "{error:?}");
    let error = count(&store).await.unwrap_err();
    assert!(matches!(error, MetaError::Unavailable { maybe_applied: false, .. }), "{error:?}");
    server.cont();
    store.txn(put("b", "1")).await.unwrap();
}

#[tokio::test]
async fn a_watch_notices_a_cut_and_a_dead_connection() {
    let server = EtcdServer::start();
    let proxy = Proxy::before(server.address(), seed());
    let store = connect(EtcdOptions::new([proxy.endpoint()])).await.unwrap();
    let cut = watch(&store).await;
    proxy.cut();
    let error = end_of(cut).await;
    assert!(matches!(error, MetaError::Unavailable { .. }), "{error:?}");
    // Nothing comes and nothing is closed: only the missing answers to pings tell.
    let stalled = watch(&store).await;
    proxy.set(Fault::Stall);
    let error = end_of(stalled).await;
    assert!(matches!(error, MetaError::Unavailable { .. }), "{error:?}");
    proxy.set(Fault::None);
    let mut again = watch(&store).await;
    store.txn(put("a", "1")).await.unwrap();
    assert_eq!(again.next().await.unwrap().unwrap().events.len(), 1);
}

#[tokio::test]
async fn an_idle_watch_is_not_taken_for_abuse() {
    let server = EtcdServer::start();
    let store = connect(EtcdOptions::new([server.endpoint()])).await.unwrap();
    let mut watch = watch(&store).await;
    // Several pings pass; etcd drops clients that ping too often at the third.
    tokio::time::sleep(Duration::from_secs(25)).await;
    store.txn(put("a", "1")).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 1);
}

#[tokio::test]
async fn reads_and_writes_move_to_another_member() {
    let mut cluster = EtcdCluster::start::<3>();
    let store = cluster.connect().await;
    for node in 0..3 {
        cluster.nodes[node].stop();
        count(&store).await.unwrap_or_else(|error| panic!("without node {node}: {error}"));
        store.txn(put("a", "1")).await.unwrap_or_else(|error| panic!("without {node}: {error}"));
        cluster.nodes[node].cont();
    }
}

#[tokio::test]
async fn a_member_without_a_leader_ends_its_watches() {
    let mut cluster = EtcdCluster::start::<3>();
    let store = connect(EtcdOptions::new([cluster.nodes[0].endpoint()])).await.unwrap();
    let watch = watch(&store).await;
    cluster.nodes[1].kill9();
    cluster.nodes[2].kill9();
    let error = end_of(watch).await;
    assert!(matches!(error, MetaError::Unavailable { .. }), "{error:?}");
    let error = store.txn(put("a", "1")).await.unwrap_err();
    assert!(matches!(error, MetaError::Unavailable { .. }), "{error:?}");
    cluster.restart();
    // A read finds the way back; a transaction might still be sent on the dead connection.
    count(&store).await.unwrap();
    store.txn(put("b", "1")).await.unwrap();
}

#[tokio::test]
async fn a_full_etcd_is_out_of_space_and_still_read() {
    let server = EtcdServer::start_with(&["--quota-backend-bytes=16777216"]);
    let store = server.connect().await;
    let value = bytes::Bytes::from(vec![7; 1 << 20]);
    let mut outcome = Ok(());
    // The size that is held against the quota lags behind.
    for i in 0..256 {
        outcome = store.txn(put(&format!("a{i}"), value.clone())).await.map(drop);
        if outcome.is_err() {
            break;
        }
    }
    let error = outcome.unwrap_err();
    assert!(matches!(error, MetaError::NoSpace(_)), "{error:?}");
    let error = store.lease_grant(PATIENCE).await.unwrap_err();
    assert!(matches!(error, MetaError::NoSpace(_)), "{error:?}");
    assert!(count(&store).await.unwrap() > 0);
    let delete = Txn { then: vec![Op::Delete(KeyRange::prefix(b"a"))], ..Txn::default() };
    // On releases from 3.5 on only a delete outside a transaction would pass.
    let deleted = store.txn(delete).await;
    assert!(matches!(deleted, Ok(_) | Err(MetaError::NoSpace(_))), "{deleted:?}");
}

#[tokio::test]
async fn a_process_notices_that_etcd_was_restored_under_it_before_it_changes_anything() {
    let mut server = EtcdServer::start();
    let (store, idle) = (server.connect().await, server.connect().await);
    store.txn(put("a", "1")).await.unwrap();
    let backup = tempfile::NamedTempFile::new().unwrap();
    server.save_snapshot(backup.path());
    store.txn(put("a", "2")).await.unwrap();
    let ended = watch(&idle).await;
    server.restore_snapshot(backup.path());
    end_of(ended).await;

    let error = idle.txn(put("b", "1")).await.unwrap_err();
    assert!(matches!(error, MetaError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("restored from a backup"), "{error}");
    let keys = KeyRange::key("\0");
    for refused in [
        store.range(RangeRequest::new(keys.clone())).await.unwrap_err(),
        store.watch(keys.clone(), Revision(1)).await.map(drop).unwrap_err(),
        store.lease_grant(PATIENCE).await.unwrap_err(),
    ] {
        assert!(matches!(refused, MetaError::Refused(_)), "{refused:?}");
    }
    // Whoever comes anew finds what was restored, and nothing else.
    let fresh = server.connect().await;
    assert_eq!(count(&fresh).await.unwrap(), 1);
}

#[tokio::test]
async fn a_transaction_that_a_restored_etcd_got_may_have_been_applied() {
    let mut server = EtcdServer::start();
    // Watches nothing, and so hears of no failure before.
    let store = server.connect().await;
    store.txn(put("a", "1")).await.unwrap();
    let backup = tempfile::NamedTempFile::new().unwrap();
    server.save_snapshot(backup.path());
    server.restore_snapshot(backup.path());
    let error = store.txn(put("b", "1")).await.unwrap_err();
    assert!(error.maybe_applied(), "{error:?}");
    let error = store.txn(put("c", "1")).await.unwrap_err();
    assert!(matches!(error, MetaError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_large_range_comes_whole() {
    let server = EtcdServer::start();
    let store = server.connect().await;
    let value = bytes::Bytes::from(vec![7; 1 << 20]);
    for i in 0..20 {
        store.txn(put(&format!("a{i:02}"), value.clone())).await.unwrap();
    }
    let request = RangeRequest::new(KeyRange::prefix(b"a"));
    assert_eq!(store.range(request).await.unwrap().kvs.len(), 20);
    let mut watch = watch(&store).await;
    let mut events = 0;
    while events < 20 {
        events += watch.next().await.unwrap().unwrap().events.len();
    }
}

fn with_user(server: &EtcdServer, password: &str) -> EtcdOptions {
    let user = Some(("root".to_owned(), password.to_owned()));
    EtcdOptions { user, ..EtcdOptions::new([server.endpoint()]) }
}

#[tokio::test]
async fn users_are_checked_and_expired_tokens_renewed() {
    let mut server = EtcdServer::start();
    let error = connect(with_user(&server, "secret")).await.unwrap_err();
    assert!(error.to_string().contains("authentication is not enabled"), "{error}");
    let mut admin = etcd_client::Client::connect([server.endpoint()], None).await.unwrap();
    admin.user_add("root", "secret", None).await.unwrap();
    admin.role_add("root").await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.auth_enable().await.unwrap();
    for options in [with_user(&server, "wrong"), EtcdOptions::new([server.endpoint()])] {
        let error = connect(options).await.unwrap_err();
        assert!(matches!(error, MetaError::Denied(_)), "{error:?}");
    }
    let store = connect(with_user(&server, "secret")).await.unwrap();
    store.txn(put("a", "1")).await.unwrap();
    let ended = end_after_restart(&store, &mut server).await;
    assert!(matches!(ended, MetaError::Unavailable { .. }), "{ended:?}");
    // etcd has forgotten all tokens.
    count(&store).await.unwrap();
    store.txn(put("a", "2")).await.unwrap();
    let mut watch = watch(&store).await;
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 2);
}

/// How a watch ends that has seen one event when its server restarts.
async fn end_after_restart(store: &EtcdStore, server: &mut EtcdServer) -> MetaError {
    let mut watch = watch(store).await;
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 1);
    server.restart();
    end_of(watch).await
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    let files = TlsFiles::make();
    let server = EtcdServer::start_tls(&files);
    let endpoint = format!("https://{}", server.endpoint());
    let options = |ca, cert, key| EtcdOptions {
        tls: Some(EtcdTls { ca, cert, key }),
        request_timeout: SHORT,
        ..EtcdOptions::new([endpoint.clone()])
    };
    let (ca, cert, key) = (files.ca.clone(), files.cert.clone(), files.key.clone());
    let store = connect(options(Some(ca.clone()), Some(cert), Some(key))).await.unwrap();
    store.txn(put("a", "1")).await.unwrap();
    let mut watch = watch(&store).await;
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 1);
    let without_certificate = connect(options(Some(ca), None, None)).await.unwrap_err();
    assert!(matches!(without_certificate, MetaError::Denied(_)), "{without_certificate:?}");
    let other = TlsFiles::make();
    let of_another_authority = connect(options(Some(other.ca.clone()), None, None)).await;
    assert!(matches!(of_another_authority, Err(MetaError::Denied(_))), "{of_another_authority:?}");
}
