use super::super::map::Outcome;
use super::super::turnstile::Turnstile;
use super::super::view::Tables;
use super::*;
use crate::meta::MetaError;

impl Fixture {
    /// Does to the tables what only a damaged disk does.
    fn damage(&self, f: impl Fn(Tables, &mut heed::RwTxn<'_>) -> heed::Result<()>) {
        let damaged = self.store.core.shared.map.write(|tables, txn| {
            f(tables, txn)?;
            Ok(Outcome::Changed(()))
        });
        damaged.unwrap();
    }
}

fn corrupt<T: std::fmt::Debug>(result: MetaResult<T>) -> String {
    match result {
        Err(MetaError::Corrupt(text)) => text,
        other => panic!("not corrupt: {other:?}"),
    }
}

#[tokio::test]
async fn a_map_too_small_is_made_larger() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::system();
    let store = EmbeddedStore::open_with_map(dir.path(), &env, 1 << 20).unwrap();
    let mut watch = store.watch(all(), Revision(2)).await.unwrap();
    let value = vec![b'x'; 100_000];
    for i in 0..100 {
        let put = then(vec![Op::put(format!("{i:03}"), value.clone())]);
        assert_eq!(store.txn(put).await.unwrap().revision, Revision(i + 2));
    }
    let all = store.range(RangeRequest::new(all())).await.unwrap();
    assert!(all.kvs.iter().all(|kv| kv.value == value));
    assert_eq!(all.count, 100);
    let mut seen = 0;
    while seen < 100 {
        seen += futures::StreamExt::next(&mut watch).await.unwrap().unwrap().events.len();
    }
}

#[tokio::test]
async fn a_damaged_value_is_named_and_harms_nobody_else() {
    let f = fixture();
    f.put(&[("a", "1"), ("b", "1"), ("c", "1")]).await;
    f.damage(|tables, txn| tables.cur.put(txn, b"b", b"garbage"));
    let b = RangeRequest::new(KeyRange::key("b"));
    let text = corrupt(f.store.range(b).await);
    assert!(text.contains("table cur") && text.contains("key b"), "{text}");
    let (bad, good, more) = tokio::join!(
        f.store.txn(then(vec![Op::put("a", "2"), Op::put("b", "2")])),
        f.store.txn(then(vec![Op::put("c", "2")])),
        f.store.txn(then(vec![Op::put("d", "2")])),
    );
    corrupt(bad);
    let revisions = [good.unwrap().revision.0, more.unwrap().revision.0];
    assert_eq!(revisions, [3, 4]);
    assert_eq!(f.get("a").await.unwrap().value, "1");
}

#[tokio::test]
async fn damaged_history_is_named() {
    let f = fixture();
    f.put(&[("a", "1")]).await;
    f.put(&[("a", "2")]).await;
    f.put(&[("a", "3")]).await;
    let stamp = super::super::format::Stamp::first_of(3).encode();
    f.damage(|tables, txn| tables.log.delete(txn, &stamp).map(drop));
    let text = corrupt(f.at(all(), 2).await);
    assert!(text.contains("table log") && text.contains("missing"), "{text}");
    f.damage(|tables, txn| tables.log.put(txn, &stamp, b""));
    let text = corrupt(f.at(all(), 2).await);
    assert!(text.contains("table log"), "{text}");
    let mut watch = f.store.watch(all(), Revision(2)).await.unwrap();
    corrupt(futures::StreamExt::next(&mut watch).await.unwrap());
    assert!(futures::StreamExt::next(&mut watch).await.is_none());
}

#[tokio::test]
async fn a_call_that_never_gets_its_turn_ends_and_is_not_applied() {
    let f = fixture();
    f.put(&[("a", "1")]).await;
    let stalled = Turnstile::open(f.dir.path()).unwrap();
    let turn = stalled.wait().unwrap();
    // With the clock paused, the limit is over at once.
    tokio::time::pause();
    let late = f.store.txn(then(vec![Op::put("a", "2")])).await.unwrap_err();
    tokio::time::resume();
    assert!(matches!(late, MetaError::Unavailable { maybe_applied: false, .. }), "{late:?}");
    // Reads need no turn.
    assert_eq!(f.get("a").await.unwrap().value, "1");
    drop(turn);
    assert_eq!(f.put(&[("b", "1")]).await, 3);
    assert_eq!(f.get("a").await.unwrap().value, "1");
}
