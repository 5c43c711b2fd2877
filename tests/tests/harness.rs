//! The servers that the other tests stand on.

use object_store::{ObjectStoreExt as _, PutMode};
use pagestore_tests::harness::{EtcdCluster, EtcdServer, MotoServer};

use pagestore::internal::meta::{KeyRange, MetaStore as _, Op, RangeRequest, Txn};

fn put(key: &'static str, value: &'static str) -> Txn {
    Txn { then: vec![Op::put(key, value)], ..Txn::default() }
}

#[tokio::test]
async fn etcd_keeps_its_data_over_a_crash() {
    let mut server = EtcdServer::start();
    let store = server.connect().await;
    assert_eq!(store.txn(put("a", "1")).await.unwrap().revision.0, 2);
    server.kill9();
    server.restart();
    let found = store.range(RangeRequest::new(KeyRange::key("a"))).await.unwrap();
    assert_eq!(found.kvs.first().map(|kv| kv.value.as_ref()), Some(b"1".as_slice()));
}

#[tokio::test]
async fn a_cluster_survives_the_loss_of_any_node() {
    let mut cluster = EtcdCluster::start::<3>();
    let store = cluster.connect().await;
    store.txn(put("a", "1")).await.unwrap();
    for node in 0..3 {
        cluster.nodes[node].kill9();
        let found = store.range(RangeRequest::new(KeyRange::key("a"))).await.unwrap();
        assert_eq!(found.count, 1, "without node {node}");
        cluster.nodes[node].restart();
    }
}

#[tokio::test]
async fn moto_refuses_a_second_create() {
    let moto = MotoServer::start();
    let store = moto.s3().store();
    let path = "a/b".into();
    store.put_opts(&path, "1".into(), PutMode::Create.into()).await.unwrap();
    let again = store.put_opts(&path, "2".into(), PutMode::Create.into()).await;
    assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "1");
}
