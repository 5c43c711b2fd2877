use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;

use crate::blob::faulty::{Fault, Faulty, store as blob_store};
use crate::connect::Tiers;
use crate::error::ErrorKind;
use crate::meta::embedded::EmbeddedStore;
use crate::meta::keys::{StoreKeys, VolumeKeys};
use crate::meta::records::{Floor, Oldest, Record};
use crate::meta::{MetaStore, Op, Txn};
use crate::mirror::scan;
use crate::{
    Env, PageCount, PageNo, PageSize, Result, Revision, Snapshot, Store, StoreOptions, Transaction,
    Volume, VolumeOptions,
};

const PAGE: usize = 512;
/// Pages that do not fit into one transaction of the meta tier.
const MANY: u64 = 2_000;

struct Place {
    env: Env,
    meta: Arc<dyn MetaStore>,
    faulty: Arc<Faulty>,
    _dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::seeded(1);
        let meta = EmbeddedStore::open(dir.path(), &env).unwrap();
        Place { env, meta, faulty: Arc::default(), _dir: dir }
    }

    async fn store(&self) -> Store {
        let blobs = blob_store(&self.faulty);
        let tiers = Tiers { meta: self.meta.clone(), blobs, root: Bytes::new(), local: true };
        Store::over(tiers, StoreOptions::default(), self.env.clone()).await.unwrap()
    }

    async fn create(&self) -> Volume {
        let page_size = PageSize::new(PAGE as u64).unwrap();
        let options = VolumeOptions { page_size, ..VolumeOptions::default() };
        self.store().await.create_volume("v", options).await.unwrap()
    }

    async fn intents(&self, keys: &VolumeKeys) -> usize {
        scan(self.meta.as_ref(), &keys.intents(), None).await.unwrap().kvs.len()
    }

    async fn objects(&self, volume: &Volume) -> usize {
        let listed: Vec<_> =
            blob_store(&self.faulty).list(volume.id()).try_collect().await.unwrap();
        listed.len()
    }
}

fn keys(volume: &Volume) -> VolumeKeys {
    StoreKeys::new("").volume(volume.id())
}

fn page(fill: u8) -> Bytes {
    vec![fill; PAGE].into()
}

async fn resize(volume: &Volume, count: u64) {
    let mut tx = volume.begin().await.unwrap();
    tx.truncate(PageCount(count));
    tx.commit().await.unwrap();
}

async fn write_many(volume: &Volume) -> Transaction {
    let mut tx = volume.begin().await.unwrap();
    (0..MANY).for_each(|number| tx.write(PageNo(number), page(7)).unwrap());
    tx
}

#[tokio::test]
async fn a_truncation_to_the_present_count_depends_on_the_count() {
    let place = Place::new();
    let volume = place.create().await;
    resize(&volume, 10).await;
    let mut tx = volume.begin().await.unwrap();
    tx.truncate(PageCount(10));
    tx.write(PageNo(5), page(1)).unwrap();
    // Reads page 5 as it was and makes the volume longer: neither order of the two would do.
    resize(&volume, 20).await;
    assert_eq!(tx.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn what_was_left_out_below_the_oldest_revision_is_no_proof_that_nothing_changed() {
    let place = Place::new();
    let writer = place.create().await;
    resize(&writer, 10).await;
    let mut tx = writer.begin().await.unwrap();
    tx.write(PageNo(5), page(1)).unwrap();
    let base = tx.commit().await.unwrap().revision;
    let mut tx = writer.begin().await.unwrap();
    tx.write(PageNo(5), page(0)).unwrap();
    let last = tx.commit().await.unwrap().revision;

    let keys = keys(&writer);
    let floor = Floor { up_to: last }.put(&keys, keys.floor());
    let oldest = Oldest { readable: last, log_from: last }.put(&keys, keys.oldest());
    let put = |op| place.meta.txn(Txn { then: vec![op], ..Txn::default() });
    // As after a flush and a merge that left out everything: the page is all zeros.
    put(floor.clone()).await.unwrap();
    let volume = place.store().await.open_volume("v").await.unwrap();
    let mut tx = volume.begin_on(volume.snapshot_at(base).await.unwrap());
    tx.write(PageNo(5), page(2)).unwrap();
    put(oldest).await.unwrap();
    put(floor).await.unwrap();
    assert_eq!(tx.commit().await.unwrap_err().kind(), ErrorKind::Expired);
}

#[tokio::test]
async fn a_bulk_commit_whose_upload_fails_leaves_nothing_behind() {
    let place = Place::new();
    let volume = place.create().await;
    let tx = write_many(&volume).await;
    place.faulty.plan([Fault::Denied]);
    tx.commit().await.unwrap_err();
    assert_eq!(place.intents(&keys(&volume)).await, 0);
    assert_eq!(place.objects(&volume).await, 0);
}

#[tokio::test]
async fn a_bulk_commit_that_nobody_waits_for_leaves_nothing_behind() {
    let place = Place::new();
    let volume = place.create().await;
    let keys = keys(&volume);
    let tx = write_many(&volume).await;
    place.faulty.plan([Fault::Hang]);
    let commit = tokio::spawn(tx.commit());
    while place.intents(&keys).await == 0 {
        tokio::task::yield_now().await;
    }
    commit.abort();
    while place.intents(&keys).await > 0 {
        tokio::task::yield_now().await;
    }
    let snapshot = volume.snapshot().await.unwrap();
    assert_eq!(snapshot.page_count(), PageCount(0));
    assert!(snapshot.revision() > Revision::ZERO);
}

#[tokio::test]
async fn a_bulk_commit_that_happened_keeps_its_files() {
    let place = Place::new();
    let volume = place.create().await;
    write_many(&volume).await.commit().await.unwrap();
    assert_eq!(place.intents(&keys(&volume)).await, 0);
    let snapshot = place.store().await.open_volume("v").await.unwrap().snapshot().await.unwrap();
    assert_eq!(snapshot.read(PageNo(MANY - 1)).await.unwrap(), page(7));
    assert_eq!(place.objects(&volume).await, 1);
}

/// Ends the volume's lease, as its running out would.
async fn end_lease(place: &Place, volume: &Volume) {
    place.meta.lease_revoke(volume.core().session.lease().await).await.unwrap();
}

/// A bulk commit whose every upload so often waits until the lease has ended.
async fn commit_while_leases_end(place: &Place, volume: &Volume, uploads: usize) -> Result<()> {
    let keys = keys(volume);
    let tx = write_many(volume).await;
    place.faulty.plan(vec![Fault::Wait; uploads]);
    let commit = tokio::spawn(tx.commit());
    for _ in 0..uploads {
        while place.intents(&keys).await == 0 {
            assert!(!commit.is_finished(), "without another upload: {:?}", commit.await);
            tokio::task::yield_now().await;
        }
        end_lease(place, volume).await;
        assert_eq!(place.intents(&keys).await, 0);
        place.faulty.go_on.notify_one();
    }
    commit.await.unwrap().map(drop)
}

#[tokio::test]
async fn a_bulk_commit_whose_lease_ends_while_it_uploads_uploads_again() {
    let place = Place::new();
    let volume = place.create().await;
    commit_while_leases_end(&place, &volume, 2).await.unwrap();
    assert_eq!(place.intents(&keys(&volume)).await, 0);
    let snapshot = place.store().await.open_volume("v").await.unwrap().snapshot().await.unwrap();
    assert_eq!(snapshot.read(PageNo(MANY - 1)).await.unwrap(), page(7));
}

#[tokio::test]
async fn a_bulk_commit_that_loses_its_lease_whenever_it_uploads_says_so() {
    let place = Place::new();
    let volume = place.create().await;
    let error = commit_while_leases_end(&place, &volume, 3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("lease"), "{error}");
    assert_eq!(volume.snapshot().await.unwrap().page_count(), PageCount(0));
}

#[tokio::test]
async fn a_bulk_commit_right_after_the_lease_ended_happens() {
    let place = Place::new();
    let volume = place.create().await;
    let tx = write_many(&volume).await;
    end_lease(&place, &volume).await;
    tx.commit().await.unwrap();
    let pins = scan(place.meta.as_ref(), &keys(&volume).pins(), None).await.unwrap();
    assert_eq!(pins.kvs.len(), 2, "that of the session is there again, beside the sentinel");
}

#[tokio::test]
async fn a_snapshot_that_is_overtaken_before_it_is_held_is_opened_anew() {
    let place = Place::new();
    let writer = place.create().await;
    resize(&writer, 10).await;
    let old = writer.state().unwrap().head;
    resize(&writer, 20).await;
    let volume = place.store().await.open_volume("v").await.unwrap();
    let core = volume.core();
    let keys = keys(&volume);
    let oldest = Oldest { readable: old.next(), log_from: old }.put(&keys, keys.oldest());
    let put = place.meta.txn(Txn { then: vec![oldest], ..Txn::default() }).await.unwrap();
    core.mirror.reach(put.revision).await.unwrap();

    let overtaken = core.mirror.state().unwrap().view_at(old);
    let error = Snapshot::open(core.clone(), overtaken.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Expired);
    let snapshot = Snapshot::open_newest(core, overtaken).await.unwrap();
    assert_eq!(snapshot.page_count(), PageCount(20));
}

#[tokio::test]
async fn an_upload_that_outlives_its_volume_takes_its_file_away() {
    let place = Place::new();
    let volume = place.create().await;
    let keys = keys(&volume);
    let tx = write_many(&volume).await;
    place.faulty.plan([Fault::Wait]);
    let commit = tokio::spawn(tx.commit());
    while place.intents(&keys).await == 0 {
        assert!(!commit.is_finished(), "without an upload: {:?}", commit.await);
        tokio::task::yield_now().await;
    }
    // Its lease ends, and the volume is deleted and erased as the compactor does it.
    place.store().await.delete_volume("v").await.unwrap();
    end_lease(&place, &volume).await;
    let everything = Op::Delete(keys.everything());
    place.meta.txn(Txn { then: vec![everything], ..Txn::default() }).await.unwrap();
    place.faulty.go_on.notify_one();
    assert_eq!(commit.await.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(place.objects(&volume).await, 0);
}

#[tokio::test]
async fn a_published_file_of_a_deleted_volume_is_left_to_the_eraser() {
    let place = Place::new();
    let volume = place.create().await;
    write_many(&volume).await.commit().await.unwrap();
    let state = volume.core().mirror.fresh().await.unwrap();
    let files: Vec<_> = state.levels.files().collect();
    assert_eq!(files.len(), 1);
    place.store().await.delete_volume("v").await.unwrap();
    // As whoever did not hear that the commit had happened gives up its files.
    super::bulk::give_up(volume.core(), files[0]).await;
    assert_eq!(place.objects(&volume).await, 1);
}

#[tokio::test]
async fn a_volume_that_goes_back_is_not_followed() {
    let place = Place::new();
    let volume = place.create().await;
    resize(&volume, 10).await;
    let keys = keys(&volume);
    let put = async |up_to: Revision| {
        let then = vec![Floor { up_to }.put(&keys, keys.floor())];
        place.meta.txn(Txn { then, ..Txn::default() }).await.unwrap().revision
    };
    let flushed = volume.snapshot().await.unwrap().revision();
    put(flushed).await;
    let back = put(Revision(flushed.0 - 1)).await;
    let error = volume.snapshot_since(back).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("its floor went back"), "{error}");
}
