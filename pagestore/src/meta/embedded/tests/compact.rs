use std::time::Duration;

use super::super::batch::Batch;
use super::super::compact::is_pending;
use super::super::map::{FIRST_MAP_BYTES, Map, Outcome};
use super::*;
use crate::meta::MetaError;

impl Fixture {
    /// Compacts, and waits until everything is removed.
    async fn compact(&self, revision: u64) {
        self.store.compact(Revision(revision)).await.unwrap();
        self.compacted().await;
    }

    async fn compacted(&self) {
        while self.store.core.shared.map.read(is_pending).unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Entries of `cur` and `log`.
    fn entries(&self) -> (usize, usize) {
        self.store.core.shared.map.read(|view| view.entries()).unwrap()
    }
}

#[tokio::test]
async fn what_is_superseded_goes_and_what_can_be_read_stays() {
    let f = fixture();
    f.put(&[("a", "1"), ("b", "1"), ("c", "1")]).await; // 2
    f.put(&[("a", "2")]).await; // 3
    f.delete(KeyRange::key("b")).await; // 4
    f.put(&[("a", "3")]).await; // 5
    f.put(&[("b", "2")]).await; // 6
    f.delete(KeyRange::key("c")).await; // 7
    assert_eq!(f.entries(), (3, 8));
    f.compact(5).await;
    assert!(matches!(f.at(all(), 4).await, Err(MetaError::Compacted { oldest: Revision(5) })));
    let at = async |revision| pairs(&f.at(all(), revision).await.unwrap()).len();
    assert_eq!([at(5).await, at(6).await, at(7).await], [2, 3, 2]);
    // Left: c=1, a=3, b=2, and the deletion of c.
    assert_eq!(f.entries(), (3, 4));
    assert_eq!(numbers(&f.get("a").await.unwrap()), [2, 5, 3]);
    f.compact(7).await;
    // The deletion at the compacted revision itself stays for watches from there on.
    assert_eq!(f.entries(), (3, 3));
    f.put(&[("a", "4")]).await; // 8
    f.compact(8).await;
    assert_eq!(f.entries(), (2, 2));
    assert_eq!(pairs(&f.at(all(), 8).await.unwrap()).len(), 2);
}

#[tokio::test]
async fn a_key_made_anew_after_its_deletion_was_forgotten_is_absent_before() {
    let f = fixture();
    f.put(&[("a", "1")]).await; // 2
    f.delete(KeyRange::key("a")).await; // 3
    f.put(&[("a", "2")]).await; // 4
    f.put(&[("b", "1")]).await; // 5
    f.compact(4).await;
    assert_eq!(pairs(&f.at(all(), 4).await.unwrap()), [("a".into(), "2".into())]);
    let f = fixture();
    f.put(&[("a", "1")]).await; // 2
    f.delete(KeyRange::key("a")).await; // 3
    f.put(&[("b", "1")]).await; // 4
    f.put(&[("a", "2")]).await; // 5
    f.compact(4).await;
    assert_eq!(pairs(&f.at(all(), 4).await.unwrap()), [("b".into(), "1".into())]);
    assert_eq!(numbers(&f.get("a").await.unwrap()), [5, 5, 1]);
}

#[tokio::test]
async fn as_etcd_it_refuses_the_past_and_the_future() {
    let f = fixture();
    f.put(&[("a", "1")]).await;
    f.put(&[("a", "2")]).await;
    assert!(matches!(f.store.compact(Revision(4)).await, Err(MetaError::FutureRevision)));
    f.compact(2).await;
    for revision in [1, 2] {
        let refused = f.store.compact(Revision(revision)).await;
        assert!(matches!(refused, Err(MetaError::Compacted { oldest: Revision(2) })));
    }
}

#[tokio::test]
async fn a_compaction_broken_off_is_finished_by_who_opens_the_store() {
    let Fixture { store, dir } = fixture();
    for i in 0..60 {
        let puts = (0..100).map(|key| Op::put(format!("{key:03}"), i.to_string())).collect();
        store.txn(then(puts)).await.unwrap();
    }
    drop(store);
    {
        let closing = heed::env_closing_event(dir.path().canonicalize().unwrap());
        closing.into_iter().for_each(|event| event.wait());
        let env = Env::system();
        let map = Map::open(dir.path(), FIRST_MAP_BYTES, &env).unwrap();
        let one_chunk = |scheduling: bool| {
            map.write(|tables, txn| {
                let mut batch = Batch::begin(tables, txn, &env)?;
                if scheduling {
                    batch.schedule_compaction(51)?.unwrap();
                } else {
                    batch.compact_chunk()?;
                }
                Ok(Outcome::Changed(()))
            })
            .unwrap();
        };
        one_chunk(true);
        one_chunk(false);
        assert!(map.read(is_pending).unwrap());
        let left = map.read(|view| view.entries()).unwrap().1;
        assert!(left > 1_100 && left < 6_000, "{left}");
    }
    let f = Fixture { store: open(dir.path()), dir };
    f.compacted().await;
    // The versions of revision 51, and those of the ten after it.
    assert_eq!(f.entries(), (100, 1_100));
    assert!(f.at(all(), 50).await.is_err());
    assert_eq!(f.at(all(), 51).await.unwrap().count, 100);
}

#[tokio::test]
async fn a_second_mark_while_the_first_is_worked_on_forgets_no_deletion() {
    let f = fixture();
    f.put(&[("a", "1")]).await; // 2
    f.delete(KeyRange::key("a")).await; // 3
    f.put(&[("b", "1")]).await; // 4
    let env = Env::system();
    let shared = &f.store.core.shared;
    shared
        .map
        .write(|tables, txn| {
            let mut batch = Batch::begin(tables, txn, &env)?;
            batch.schedule_compaction(3)?.unwrap();
            batch.set_compaction_place(super::super::format::Stamp { main: 3, sub: 1 })?;
            batch.schedule_compaction(4)?.unwrap();
            Ok(Outcome::Changed(()))
        })
        .unwrap();
    f.put(&[("c", "1")]).await; // 5
    f.compacted().await;
    assert_eq!(f.entries().0, 2, "b and c");
}
