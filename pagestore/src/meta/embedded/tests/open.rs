use super::super::format::{FORMAT, SYS_FORMAT};
use super::super::map::Outcome;
use super::super::queue::Job;
use super::*;
use crate::meta::{MetaError, MetaStore as _};

#[tokio::test]
async fn opens_of_one_directory_are_one_store() {
    let f = fixture();
    let link = f.dir.path().join("link");
    std::os::unix::fs::symlink(f.dir.path(), &link).unwrap();
    let other = open(&link);
    f.put(&[("a", "1")]).await;
    assert_eq!(other.status().await.unwrap().revision, Revision(2));
    assert!(Arc::ptr_eq(&f.store.core, &other.core));
    drop(other);
    f.put(&[("a", "2")]).await;
}

#[tokio::test]
async fn a_store_is_opened_and_closed_over_and_over() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = open(dir.path()).status().await.unwrap().cluster_id;
    for i in 0..20 {
        let store = open(dir.path());
        store.txn(then(vec![Op::put("n", i.to_string())])).await.unwrap();
        let status = store.status().await.unwrap();
        assert_eq!((status.revision, status.cluster_id), (Revision(i + 2), cluster));
    }
    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(other.path()).status().await.unwrap().cluster_id, cluster);
}

#[tokio::test]
async fn what_waits_when_the_store_is_closed_is_still_done() {
    let Fixture { store, dir } = fixture();
    let mut tickets = Vec::new();
    for i in 0..100 {
        let put = Job::Txn(then(vec![Op::put(i.to_string(), "v")]));
        tickets.push(store.core.shared.queue.push(put, 1).await.unwrap());
    }
    drop(store);
    for ticket in tickets {
        ticket.answer.await.unwrap().unwrap();
    }
    let count = open(dir.path()).range(RangeRequest::new(all())).await.unwrap().count;
    assert_eq!(count, 100);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_naming_both() {
    let Fixture { store, dir } = fixture();
    let map = &store.core.shared.map;
    map.write(|tables, txn| {
        let newer = super::super::format::encode_number(SYS_FORMAT, FORMAT + 1);
        tables.sys.put(txn, SYS_FORMAT.as_bytes(), &newer)?;
        Ok(Outcome::Changed(()))
    })
    .unwrap();
    drop(store);
    let error = EmbeddedStore::open(dir.path(), &Env::system()).unwrap_err();
    assert!(matches!(error, MetaError::Refused(_)));
    let text = error.to_string();
    assert!(text.contains("version 2") && text.contains("version 1"), "{text}");
}

#[test]
fn what_is_no_directory_or_no_store_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(EmbeddedStore::open(&file, &Env::system()).is_err());
    let damaged = dir.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("data.mdb"), vec![7; 65_536]).unwrap();
    let error = EmbeddedStore::open(&damaged, &Env::system()).unwrap_err();
    assert!(matches!(error, MetaError::Corrupt(_)), "{error:?}");
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_directory_made_anew_is_another_store() {
    let Fixture { store, dir } = fixture();
    store.txn(then(vec![Op::put("a", "1")])).await.unwrap();
    let cluster = store.status().await.unwrap().cluster_id;
    drop(store);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let store = open(dir.path());
    let status = store.status().await.unwrap();
    assert_ne!(status.cluster_id, cluster);
    assert_eq!(status.revision, Revision(1));
}

#[tokio::test]
async fn a_store_that_moved_is_found_in_its_new_place() {
    let above = tempfile::tempdir().unwrap();
    let (old, new) = (above.path().join("old"), above.path().join("new"));
    let store = open(&old);
    store.txn(then(vec![Op::put("a", "1")])).await.unwrap();
    let cluster = store.status().await.unwrap().cluster_id;
    drop(store);
    // Waits until the store's threads have let go of it.
    drop(open(&old));
    std::fs::rename(&old, &new).unwrap();
    let (moved, other) = (open(&new), open(&old));
    let status = moved.status().await.unwrap();
    assert_eq!((status.cluster_id, status.revision), (cluster, Revision(2)));
    assert_ne!(other.status().await.unwrap().cluster_id, cluster);
}

/// A thread that has read gives its place in the table of readers back when it ends.
#[test]
fn threads_may_end_while_the_store_closes() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..1000 {
        let store = open(dir.path());
        let ready = std::sync::Barrier::new(9);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let (store, ready) = (store.clone(), &ready);
                scope.spawn(move || {
                    let read = store.range(RangeRequest::new(all()));
                    futures::FutureExt::now_or_never(read).unwrap().unwrap();
                    drop(store);
                    ready.wait();
                });
            }
            ready.wait();
            drop(store);
        });
    }
}
