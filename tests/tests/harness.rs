//! The servers that the other tests stand on.

use futures::future::join_all;
use object_store::{Error, ObjectStoreExt as _, PutMode};
use pagestore_tests::harness::{EtcdCluster, EtcdServer, MotoServer, RgwServer};

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
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "1");
}

#[tokio::test]
async fn of_sixteen_creates_at_once_the_gateway_lets_one_win() {
    let gateway = RgwServer::start();
    let store = gateway.s3().store();
    for round in 0..20 {
        let path = object_store::path::Path::from(format!("race/{round}"));
        let create = |writer: u32| {
            let body = format!("writer {writer}").repeat(1_000);
            store.put_opts(&path, body.into(), PutMode::Create.into())
        };
        let outcomes = join_all((0..16).map(create)).await;
        let winners: Vec<usize> = (0..16).filter(|writer| outcomes[*writer].is_ok()).collect();
        let [winner] = winners[..] else { panic!("round {round}: {outcomes:?}") };
        for (writer, outcome) in outcomes.into_iter().enumerate() {
            let lost = matches!(outcome, Err(Error::AlreadyExists { .. }));
            assert!(lost || writer == winner, "round {round}: {outcome:?}");
        }
        let found = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(found, format!("writer {winner}").repeat(1_000));
    }
}
