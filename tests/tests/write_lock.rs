//! The write lock of a volume, and the calls that SQLite's connections need, on both kinds of store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use bytes::Bytes;
use pagestore::{
    ErrorKind, PageCount, PageNo, PageSize, Store, TryLock, Volume, VolumeOptions, WriteLock,
    commit_all,
};
use pagestore_tests::harness::TestStore;
use pagestore_tests::on_both;

const PAGE: usize = 512;

fn page(fill: u8) -> Bytes {
    vec![fill; PAGE].into()
}

on_both! { files:
    one_at_a_time_has_the_lock_and_sees_what_the_last_one_wrote
    who_lost_the_lock_cannot_commit
    who_respects_the_lock_waits_for_it
    a_dead_holder_frees_the_lock_in_seconds
    a_tolerated_change_is_no_conflict
    what_is_as_it_was_is_not_committed
    volumes_begun_apart_commit_together
}

async fn volume(store: &Store, name: &str) -> Volume {
    let page_size = PageSize::new(PAGE as u64).unwrap();
    let options = VolumeOptions { page_size, ..VolumeOptions::default() };
    let volume = store.open_or_create_volume(name, options).await.unwrap();
    write(&volume, &[(0, 0), (1, 0), (2, 0)]).await;
    volume
}

async fn write(volume: &Volume, pages: &[(u64, u8)]) {
    let mut tx = volume.begin().await.unwrap();
    pages.iter().for_each(|(no, fill)| tx.write(PageNo(*no), page(*fill)).unwrap());
    tx.commit().await.unwrap();
}

async fn take(store: &Store, volume: &Volume) -> WriteLock {
    let base = volume.snapshot().await.unwrap();
    match store.try_lock("v", Some(&base)).await.unwrap() {
        TryLock::Taken(lock) => lock,
        other => panic!("{other:?}"),
    }
}

async fn one_at_a_time_has_the_lock_and_sees_what_the_last_one_wrote(place: &TestStore, a: Store) {
    let b = place.open().await;
    // Also of a volume that is not there yet.
    let TryLock::Taken(early) = a.try_lock("v", None).await.unwrap() else { panic!() };
    assert!(matches!(b.try_lock("v", None).await.unwrap(), TryLock::Held));
    early.release().await;

    let (mine, theirs) = (volume(&a, "v").await, b.open_volume("v").await.unwrap());
    assert!(matches!(a.try_lock("v", None).await.unwrap(), TryLock::Overtaken));
    let before = theirs.snapshot().await.unwrap();
    let lock = take(&a, &mine).await;
    assert!(matches!(b.try_lock("v", Some(&before)).await.unwrap(), TryLock::Held));
    assert!(b.is_locked("v").await.unwrap());
    let mut tx = mine.begin().await.unwrap();
    tx.write(PageNo(0), page(1)).unwrap();
    tx.require_lock(&lock, true);
    tx.commit().await.unwrap();
    assert!(!lock.is_held() && !b.is_locked("v").await.unwrap());
    // Free, but not for who has not seen the commit.
    assert!(matches!(b.try_lock("v", Some(&before)).await.unwrap(), TryLock::Overtaken));
    take(&b, &theirs).await.release().await;
}

async fn who_lost_the_lock_cannot_commit(place: &TestStore, store: Store) {
    let volume = volume(&store, "v").await;
    let lock = take(&store, &volume).await;
    let mut tx = volume.begin().await.unwrap();
    tx.write(PageNo(0), page(1)).unwrap();
    tx.require_lock(&lock, true);
    // Its lease ends, and another takes the lock, though it commits nothing.
    let tiers = place.tiers().await;
    let key = store.keys().write_lock(volume.name());
    let request =
        pagestore::internal::meta::RangeRequest::new(pagestore::internal::meta::KeyRange::key(key));
    let lease = tiers.meta.range(request).await.unwrap().kvs[0].lease;
    tiers.meta.lease_revoke(lease).await.unwrap();
    let other = place.open().await;
    let theirs = other.open_volume("v").await.unwrap();
    let _lock = take(&other, &theirs).await;
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("lock was lost"), "{error}");
    assert_eq!(theirs.snapshot().await.unwrap().read(PageNo(0)).await.unwrap(), page(0));
}

async fn who_respects_the_lock_waits_for_it(_: &TestStore, store: Store) {
    let volume = volume(&store, "v").await;
    let lock = take(&store, &volume).await;
    let mut waiting = volume.begin().await.unwrap();
    waiting.write(PageNo(1), page(2)).unwrap();
    waiting.respect_lock();
    let waiting = tokio::spawn(waiting.commit());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished(), "it did not wait");
    let mut tx = volume.begin().await.unwrap();
    tx.write(PageNo(0), page(1)).unwrap();
    tx.require_lock(&lock, false);
    let first = tx.commit().await.unwrap().revision;
    lock.release().await;
    assert!(waiting.await.unwrap().unwrap().revision > first);
}

async fn a_dead_holder_frees_the_lock_in_seconds(place: &TestStore, store: Store) {
    let volume = volume(&store, "v").await;
    // Nobody keeps a lease of another's alive: as when its process died.
    let tiers = place.tiers().await;
    let lease = tiers.meta.lease_grant(Duration::from_secs(1)).await.unwrap();
    let put = pagestore::internal::meta::Op::Put {
        key: store.keys().write_lock(volume.name()),
        value: Bytes::from_static(b"dead"),
        lease,
    };
    let txn = pagestore::internal::meta::Txn { then: vec![put], ..Default::default() };
    tiers.meta.txn(txn).await.unwrap();
    let base = volume.snapshot().await.unwrap();
    let mut tries = 0;
    loop {
        match store.try_lock("v", Some(&base)).await.unwrap() {
            TryLock::Taken(lock) => return lock.release().await,
            other => assert!(matches!(other, TryLock::Held) && tries < 600, "{other:?}"),
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_tolerated_change_is_no_conflict(_: &TestStore, store: Store) {
    let volume = volume(&store, "v").await;
    let even = |_: &[u8], after: &[u8]| after[0].is_multiple_of(2);
    for (fill, conflicts) in [(2, false), (3, true)] {
        let mut tx = volume.begin().await.unwrap();
        tx.depend_on_unless(PageNo(0), even);
        tx.depend_on(PageNo(2));
        tx.write(PageNo(1), page(fill)).unwrap();
        write(&volume, &[(0, fill)]).await;
        let committed = tx.commit().await;
        assert_eq!(committed.is_err(), conflicts, "{committed:?}");
    }
    let mut tx = volume.begin().await.unwrap();
    tx.depend_on_unless(PageNo(0), even);
    tx.depend_on(PageNo(2));
    tx.write(PageNo(1), page(9)).unwrap();
    write(&volume, &[(0, 4), (2, 4)]).await;
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.conflicting_pages(), [PageNo(2)]);
}

async fn what_is_as_it_was_is_not_committed(_: &TestStore, store: Store) {
    let volume = volume(&store, "v").await;
    let mut tx = volume.begin().await.unwrap();
    tx.write(PageNo(0), page(0)).unwrap();
    tx.write(PageNo(7), page(1)).unwrap();
    tx.truncate(PageCount(3));
    assert!(!tx.forget_unchanged().await.unwrap());
    assert_eq!(tx.commit().await.unwrap().commit, None);
    let mut tx = volume.begin().await.unwrap();
    tx.write(PageNo(0), page(0)).unwrap();
    tx.write(PageNo(1), page(1)).unwrap();
    assert!(tx.forget_unchanged().await.unwrap());
    assert_eq!(tx.written_count(), 1);
    // It still depends on what it left out.
    let before = volume.snapshot().await.unwrap();
    write(&volume, &[(0, 5)]).await;
    let now = volume.snapshot().await.unwrap().revision();
    assert!(volume.changed_by_others(before.revision(), now, None).unwrap());
    assert!(!volume.changed_by_others(now, now, None).unwrap());
    assert_eq!(tx.commit().await.unwrap_err().conflicting_pages(), [PageNo(0)]);
}

async fn volumes_begun_apart_commit_together(_: &TestStore, store: Store) {
    let (a, b) = (volume(&store, "v").await, volume(&store, "w").await);
    for conflicts in [false, true] {
        let mut first = a.begin().await.unwrap();
        first.write(PageNo(0), page(8)).unwrap();
        write(&b, &[(2, 3 + u8::from(conflicts))]).await;
        let mut second = b.begin().await.unwrap();
        second.write(PageNo(1), page(8 + u8::from(conflicts))).unwrap();
        assert_ne!(first.revision(), second.revision());
        if conflicts {
            write(&a, &[(0, 7)]).await;
        }
        let committed = commit_all(vec![first, second]).await;
        assert_eq!(committed.is_err(), conflicts, "{committed:?}");
    }
    assert_eq!(a.snapshot().await.unwrap().read(PageNo(0)).await.unwrap(), page(7));
    assert_eq!(b.snapshot().await.unwrap().read(PageNo(1)).await.unwrap(), page(8));
}

#[test]
fn a_lock_that_is_held_when_the_runtime_ends_is_left_to_its_lease() {
    let place = TestStore::embedded();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    first.block_on(async {
        let store = place.open().await;
        let volume = volume(&store, "v").await;
        let snapshot = volume.snapshot().await.unwrap();
        let TryLock::Taken(lock) = store.try_lock("v", Some(&snapshot)).await.unwrap() else {
            panic!("nobody has it");
        };
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(lock);
        });
    });
    drop(first);
    runtime().block_on(async {
        let store = place.open().await;
        while store.is_locked("v").await.unwrap() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}
