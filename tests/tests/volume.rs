//! What users of a volume are promised, on both kinds of store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use bytes::Bytes;
use pagestore::internal::meta::records::{Point, PointKind, Record};
use pagestore::internal::meta::{Op, Txn, txn};
use pagestore::internal::types::PointName;
use pagestore::{
    ErrorKind, PageCount, PageNo, PageSize, Revision, Store, VolumeId, VolumeName, VolumeOptions,
    begin_all, commit_all,
};
use pagestore_tests::harness::{TestStore, seed};
use pagestore_tests::on_both;
use rand::RngExt;

const PAGE: usize = 512;

fn options() -> VolumeOptions {
    VolumeOptions { page_size: PageSize::new(PAGE as u64).unwrap(), ..VolumeOptions::default() }
}

fn page(fill: u8) -> Bytes {
    vec![fill; PAGE].into()
}

on_both! { servers:
    what_is_committed_is_read_by_all
    only_one_of_two_writers_of_a_page_commits
    transactions_on_other_pages_do_not_conflict
    what_was_read_conflicts_too
    snapshots_and_the_past_stay_as_they_were
    the_past_of_a_quiet_volume_is_at_every_revision_of_the_store
    truncated_pages_read_as_zeros
    many_small_changes_fit_one_transaction_and_many_pages_become_a_file
    several_volumes_commit_together
    volumes_are_made_listed_and_deleted
    a_volume_that_a_branch_reads_through_to_is_not_deleted
    bad_input_is_refused_and_changes_nothing
    concurrent_writers_agree_with_a_model
}

async fn what_is_committed_is_read_by_all(place: &TestStore, store: Store) {
    let volume = store.create_volume("v", options()).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    assert_eq!(tx.page_count(), PageCount(0));
    tx.write(PageNo(3), page(7)).unwrap();
    assert_eq!(tx.read(PageNo(3)).await.unwrap(), page(7));
    assert_eq!(tx.read(PageNo(1)).await.unwrap(), page(0));
    let committed = tx.commit().await.unwrap();

    let snapshot = volume.snapshot().await.unwrap();
    assert!(snapshot.revision() >= committed.revision);
    assert_eq!(snapshot.page_count(), PageCount(4));
    assert_eq!(snapshot.read(PageNo(3)).await.unwrap(), page(7));

    let other = place.open().await.open_volume("v").await.unwrap();
    let snapshot = other.snapshot().await.unwrap();
    assert_eq!(snapshot.read(PageNo(3)).await.unwrap(), page(7));
    assert_eq!(snapshot.read(PageNo(0)).await.unwrap(), page(0));
}

async fn only_one_of_two_writers_of_a_page_commits(_: &TestStore, store: Store) {
    let volume = store.create_volume("v", options()).await.unwrap();
    let (mut a, mut b) = (volume.begin().await.unwrap(), volume.begin().await.unwrap());
    for tx in [&mut a, &mut b] {
        tx.truncate(PageCount(10));
        tx.write(PageNo(5), page(1)).unwrap();
    }
    a.commit().await.unwrap();
    assert_eq!(b.commit().await.unwrap_err().kind(), ErrorKind::Conflict);

    let (mut a, mut b) = (volume.begin().await.unwrap(), volume.begin().await.unwrap());
    a.write(PageNo(5), page(2)).unwrap();
    b.write(PageNo(5), page(3)).unwrap();
    b.write(PageNo(6), page(3)).unwrap();
    b.commit().await.unwrap();
    let error = a.commit().await.unwrap_err();
    assert_eq!((error.kind(), error.conflicting_pages()), (ErrorKind::Conflict, &[PageNo(5)][..]));
    assert_eq!(volume.snapshot().await.unwrap().read(PageNo(5)).await.unwrap(), page(3));
}

async fn transactions_on_other_pages_do_not_conflict(_: &TestStore, store: Store) {
    let volume = store.create_volume("v", options()).await.unwrap();
    let mut grow = volume.begin().await.unwrap();
    grow.truncate(PageCount(100));
    grow.commit().await.unwrap();
    let mut transactions = Vec::new();
    for i in 0..100 {
        let mut tx = volume.begin().await.unwrap();
        tx.write(PageNo(i), page(1)).unwrap();
        transactions.push(tokio::spawn(tx.commit()));
    }
    for commit in transactions {
        commit.await.unwrap().unwrap();
    }
    let snapshot = volume.snapshot().await.unwrap();
    for i in 0..100 {
        assert_eq!(snapshot.read(PageNo(i)).await.unwrap(), page(1));
    }
}

async fn what_was_read_conflicts_too(_: &TestStore, store: Store) {
    let volume = store.create_volume("v", options()).await.unwrap();
    let mut grow = volume.begin().await.unwrap();
    grow.truncate(PageCount(10));
    grow.commit().await.unwrap();
    // Write skew: each reads what the other writes.
    let (mut a, mut b) = (volume.begin().await.unwrap(), volume.begin().await.unwrap());
    a.read(PageNo(1)).await.unwrap();
    a.write(PageNo(2), page(1)).unwrap();
    b.read(PageNo(2)).await.unwrap();
    b.write(PageNo(1), page(1)).unwrap();
    let (a, b) = tokio::join!(a.commit(), b.commit());
    assert_eq!(a.is_ok() as usize + b.is_ok() as usize, 1, "{a:?} {b:?}");

    // A page that is only looked at does not count; a write of what is there already does.
    let (mut a, mut b) = (volume.begin().await.unwrap(), volume.begin().await.unwrap());
    a.peek(PageNo(5)).await.unwrap();
    a.write(PageNo(6), page(6)).unwrap();
    let mut same = volume.begin().await.unwrap();
    same.write(PageNo(5), page(0)).unwrap();
    b.write(PageNo(5), page(5)).unwrap();
    b.commit().await.unwrap();
    a.commit().await.unwrap();
    assert_eq!(same.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
}

async fn snapshots_and_the_past_stay_as_they_were(_: &TestStore, store: Store) {
    let volume = store.create_volume("v", options()).await.unwrap();
    let mut revisions = Vec::new();
    let mut held = Vec::new();
    for i in 0..20u8 {
        let mut tx = volume.begin().await.unwrap();
        tx.write(PageNo(0), page(i)).unwrap();
        tx.write(PageNo(u64::from(i)), page(100 + i)).unwrap();
        revisions.push(tx.commit().await.unwrap().revision);
        held.push(volume.snapshot().await.unwrap());
    }
    for (i, revision) in revisions.iter().enumerate().skip(1) {
        let past = volume.snapshot_at(*revision).await.unwrap();
        for snapshot in [&held[i], &past] {
            assert_eq!(snapshot.page_count(), PageCount(i as u64 + 1));
            assert_eq!(snapshot.read(PageNo(0)).await.unwrap(), page(u8::try_from(i).unwrap()));
            assert_eq!(
                snapshot.read(PageNo(i as u64)).await.unwrap(),
                page(100 + u8::try_from(i).unwrap())
            );
        }
    }
    let future = Revision(revisions.last().unwrap().0 + 1_000_000);
    assert_eq!(volume.snapshot_at(future).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(volume.snapshot_at(Revision(1)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn the_past_of_a_quiet_volume_is_at_every_revision_of_the_store(_: &TestStore, store: Store) {
    let quiet = store.create_volume("quiet", options()).await.unwrap();
    let mut tx = quiet.begin().await.unwrap();
    tx.write(PageNo(0), page(1)).unwrap();
    tx.commit().await.unwrap();
    let busy = store.create_volume("busy", options()).await.unwrap();
    let mut tx = busy.begin().await.unwrap();
    tx.write(PageNo(0), page(2)).unwrap();
    let revision = tx.commit().await.unwrap().revision;

    let past = quiet.snapshot_at(revision).await.unwrap();
    assert_eq!(past.revision(), revision);
    assert_eq!(past.read(PageNo(0)).await.unwrap(), page(1));
    let mut on_it = quiet.begin_on(past);
    on_it.read(PageNo(0)).await.unwrap();
    on_it.write(PageNo(1), page(3)).unwrap();
    let later = on_it.commit().await.unwrap().revision;
    assert!(later > revision);
    let past = quiet.snapshot_at(revision).await.unwrap();
    assert_eq!(past.page_count(), PageCount(1));
    let not_yet = quiet.snapshot_at(Revision(later.0 + 1_000)).await.unwrap_err();
    assert_eq!(not_yet.kind(), ErrorKind::NotFound);
}

async fn truncated_pages_read_as_zeros(_: &TestStore, store: Store) {
    let volume = store.create_volume("v", options()).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    (0..20).for_each(|i| tx.write(PageNo(i), page(9)).unwrap());
    let full = tx.commit().await.unwrap().revision;
    let mut tx = volume.begin().await.unwrap();
    tx.truncate(PageCount(5));
    assert_eq!(tx.read(PageNo(5)).await.unwrap_err().kind(), ErrorKind::Invalid);
    tx.write(PageNo(9), page(1)).unwrap();
    assert_eq!(tx.read(PageNo(7)).await.unwrap(), page(0));
    tx.commit().await.unwrap();

    let snapshot = volume.snapshot().await.unwrap();
    assert_eq!(snapshot.page_count(), PageCount(10));
    for (i, fill) in [(4, 9), (5, 0), (8, 0), (9, 1)] {
        assert_eq!(snapshot.read(PageNo(i)).await.unwrap(), page(fill), "page {i}");
    }
    let mut tx = volume.begin().await.unwrap();
    tx.truncate(PageCount(20));
    tx.commit().await.unwrap();
    assert_eq!(volume.snapshot().await.unwrap().read(PageNo(15)).await.unwrap(), page(0));
    let past = volume.snapshot_at(full).await.unwrap();
    assert_eq!((past.page_count(), past.read(PageNo(15)).await.unwrap()), (PageCount(20), page(9)));

    // A truncation conflicts with a commit on a page that it took away.
    let (mut a, mut b) = (volume.begin().await.unwrap(), volume.begin().await.unwrap());
    a.write(PageNo(3), page(3)).unwrap();
    a.commit().await.unwrap();
    let mut c = volume.begin().await.unwrap();
    c.truncate(PageCount(12));
    c.commit().await.unwrap();
    b.write(PageNo(15), page(3)).unwrap();
    assert_eq!(b.commit().await.unwrap_err().conflicting_pages(), [PageNo(15)]);
}

fn noise(rng: &mut impl rand::Rng) -> Bytes {
    let mut content = vec![0; PAGE];
    rng.fill(&mut content[..]);
    content.into()
}

async fn many_small_changes_fit_one_transaction_and_many_pages_become_a_file(
    place: &TestStore,
    store: Store,
) {
    let mut rng = seed().rng();
    let volume = store.create_volume("v", options()).await.unwrap();
    let mut model = BTreeMap::new();
    let mut tx = volume.begin().await.unwrap();
    for i in 0..20_000 {
        let content = noise(&mut rng);
        tx.write(PageNo(i), content.clone()).unwrap();
        model.insert(i, content.to_vec());
    }
    tx.commit().await.unwrap();
    volume.snapshot().await.unwrap();
    assert_eq!(volume.state().unwrap().levels.files().count(), 1);

    let mut tx = volume.begin().await.unwrap();
    for i in 0..1500 {
        let (number, at) = (i * 13, rng.random_range(0..PAGE));
        tx.read(PageNo(number)).await.unwrap();
        let content = model.get_mut(&number).unwrap();
        content[at] ^= 0x55;
        tx.write(PageNo(number), content.clone()).unwrap();
    }
    let revision = tx.commit().await.unwrap().revision;
    volume.snapshot().await.unwrap();
    let state = volume.state().unwrap();
    let changed: Vec<_> =
        state.since(Revision(revision.0 - 1)).map(|(_, commit)| commit.pages.len()).collect();
    assert_eq!(changed, [1500], "one transaction of the meta tier, and no file");

    let other = place.open().await.open_volume("v").await.unwrap();
    let snapshot = other.snapshot().await.unwrap();
    for (i, content) in &model {
        assert_eq!(&snapshot.read(PageNo(*i)).await.unwrap(), content, "page {i}");
    }
    // A bulk commit and a small one conflict as any two.
    let (mut small, mut bulk) = (volume.begin().await.unwrap(), volume.begin().await.unwrap());
    let mut fine = volume.begin().await.unwrap();
    fine.write(PageNo(19_999), page(1)).unwrap();
    small.write(PageNo(77), page(1)).unwrap();
    (0..5_000).for_each(|i| bulk.write(PageNo(i), page(2)).unwrap());
    bulk.commit().await.unwrap();
    assert_eq!(small.commit().await.unwrap_err().conflicting_pages(), [PageNo(77)]);
    fine.commit().await.unwrap();
}

async fn several_volumes_commit_together(_: &TestStore, store: Store) {
    let mut volumes = Vec::new();
    for name in ["a", "b", "c"] {
        volumes.push(store.create_volume(name, options()).await.unwrap());
    }
    let mut transactions = begin_all(&volumes).await.unwrap();
    assert_eq!(transactions[0].revision(), transactions[2].revision());
    for (i, tx) in transactions.iter_mut().enumerate() {
        tx.write(PageNo(i as u64), page(4)).unwrap();
    }
    let committed = commit_all(transactions).await.unwrap();
    for (i, volume) in volumes.iter().enumerate() {
        let snapshot = volume.snapshot().await.unwrap();
        assert_eq!(snapshot.read(PageNo(i as u64)).await.unwrap(), page(4));
        assert_eq!(volume.state().unwrap().head, committed.revision);
    }
    // A conflict in one aborts all.
    let mut transactions = begin_all(&volumes).await.unwrap();
    let mut other = volumes[1].begin().await.unwrap();
    other.write(PageNo(1), page(5)).unwrap();
    other.commit().await.unwrap();
    for (i, tx) in transactions.iter_mut().enumerate() {
        tx.write(PageNo(i as u64), page(6)).unwrap();
    }
    assert_eq!(commit_all(transactions).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(volumes[0].snapshot().await.unwrap().read(PageNo(0)).await.unwrap(), page(4));

    // One of them large enough to become a file.
    let mut transactions = begin_all(&volumes).await.unwrap();
    (0..3000).for_each(|i| transactions[0].write(PageNo(i), page(8)).unwrap());
    transactions[1].write(PageNo(1), page(8)).unwrap();
    commit_all(transactions).await.unwrap();
    assert_eq!(volumes[0].snapshot().await.unwrap().read(PageNo(2999)).await.unwrap(), page(8));
    assert_eq!(volumes[1].snapshot().await.unwrap().read(PageNo(1)).await.unwrap(), page(8));
}

async fn volumes_are_made_listed_and_deleted(place: &TestStore, store: Store) {
    let volume = store.create_volume("one", options()).await.unwrap();
    store.create_volume("two", options()).await.unwrap();
    let error = store.create_volume("one", options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let names: Vec<String> =
        store.volumes().await.unwrap().iter().map(|info| info.name.to_string()).collect();
    assert_eq!(names, ["one", "two"]);
    let mut tx = volume.begin().await.unwrap();
    tx.write(PageNo(0), page(1)).unwrap();
    store.delete_volume("one").await.unwrap();
    assert_eq!(tx.commit().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.delete_volume("one").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        place.open().await.open_volume("one").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let anew = store.create_volume("one", options()).await.unwrap();
    assert_ne!(anew.id(), volume.id());
    assert_eq!(anew.snapshot().await.unwrap().page_count(), PageCount(0));
}

async fn a_volume_that_a_branch_reads_through_to_is_not_deleted(_: &TestStore, store: Store) {
    let volume = store.create_volume("v", options()).await.unwrap();
    let keys = store.keys().volume(volume.id());
    let branch = keys.point(&PointName::new("@dev").unwrap());
    let point = Point { revision: Revision(1), kind: PointKind::Branch(VolumeId(7)) };
    let change = async |op| {
        let txn = Txn { then: vec![op], ..Txn::default() };
        store.meta().txn(txn).await.unwrap().revision
    };
    // The transaction itself refuses, so no branch that is made at the last moment is overlooked.
    change(point.put(&keys, branch.clone())).await;
    let name = store.keys().name(&VolumeName::new("v").unwrap());
    let created = volume.state().unwrap().created;
    let response = store.meta().txn(txn::delete_volume(name, &keys, created)).await.unwrap();
    assert!(!response.succeeded);
    let error = store.delete_volume("v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("@dev"), "{error}");
    change(Op::delete(branch)).await;
    store.delete_volume("v").await.unwrap();
}

async fn bad_input_is_refused_and_changes_nothing(_: &TestStore, store: Store) {
    for name in ["", "a/b", "a\0b", &"x".repeat(256)] {
        assert_eq!(
            store.create_volume(name, options()).await.unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
    assert_eq!(store.open_volume("none").await.unwrap_err().kind(), ErrorKind::NotFound);
    let volume = store.create_volume("v", options()).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    for len in [0, 1, PAGE - 1, PAGE + 1] {
        assert_eq!(tx.write(PageNo(0), vec![1; len]).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(tx.write(PageNo(u64::MAX), page(1)).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(tx.read(PageNo(0)).await.unwrap_err().kind(), ErrorKind::Invalid);
    let committed = tx.commit().await.unwrap();
    assert_eq!(committed.commit, None, "nothing was written");
    let snapshot = volume.snapshot().await.unwrap();
    assert_eq!(snapshot.page_count(), PageCount(0));
    assert_eq!(snapshot.read(PageNo(0)).await.unwrap_err().kind(), ErrorKind::Invalid);
}

/// Writers on the same pages, each commit noted with its revision: afterwards every revision shows
/// exactly what the commits up to it wrote, and every commit had read what was there before it.
async fn concurrent_writers_agree_with_a_model(place: &TestStore, store: Store) {
    const PAGES: u64 = 24;
    const WRITERS: u64 = 6;
    const COMMITS: usize = 30;
    let seed = seed();
    let volume = store.create_volume("v", options()).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    tx.truncate(PageCount(PAGES));
    tx.commit().await.unwrap();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        // Half of them in this process's session, half as another process would.
        let volume = if writer % 2 == 0 {
            volume.clone()
        } else {
            place.open().await.open_volume("v").await.unwrap()
        };
        let mut rng = pagestore_tests::harness::Seed(seed.0 ^ (writer + 1)).rng();
        writers.push(tokio::spawn(async move {
            let mut done = Vec::new();
            while done.len() < COMMITS {
                let mut tx = volume.begin().await.unwrap();
                let mut reads = BTreeMap::new();
                let mut writes = BTreeMap::new();
                for _ in 0..rng.random_range(1..4) {
                    let number = rng.random_range(0..PAGES);
                    if !writes.contains_key(&number) {
                        reads.insert(number, tx.read(PageNo(number)).await.unwrap());
                    }
                    let mut content = tx.read(PageNo(number)).await.unwrap().to_vec();
                    content[rng.random_range(0..PAGE)] = rng.random();
                    tx.write(PageNo(number), content.clone()).unwrap();
                    writes.insert(number, content);
                }
                match tx.commit().await {
                    Ok(committed) => done.push((committed.revision, reads, writes)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            }
            done
        }));
    }
    let mut commits = Vec::new();
    for writer in writers {
        commits.extend(writer.await.unwrap());
    }
    commits.sort_by_key(|(revision, ..)| *revision);
    let mut model: BTreeMap<u64, Vec<u8>> = (0..PAGES).map(|i| (i, vec![0; PAGE])).collect();
    for same in commits.chunk_by(|a, b| a.0 == b.0) {
        // Commits of one revision saw the state before it.
        for (revision, reads, _) in same {
            for (number, content) in reads {
                assert_eq!(
                    content, &model[number],
                    "page {number} read by the commit of {revision}"
                );
            }
        }
        for (_, _, writes) in same {
            model.extend(writes.clone());
        }
        let snapshot = volume.snapshot_at(same[0].0).await.unwrap();
        for (number, content) in &model {
            assert_eq!(
                &snapshot.read(PageNo(*number)).await.unwrap(),
                content,
                "page {number} at {}",
                same[0].0
            );
        }
    }
}
