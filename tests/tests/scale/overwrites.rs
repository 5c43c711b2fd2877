//! A volume that is written over and over, whole: its garbage goes.

use futures::TryStreamExt as _;
use pagestore::{Env, Keep, PageCount, PageNo, PageSize, Revision, VolumeOptions};
use pagestore_compactor::{Compactor, CompactorOptions, Effort};
use pagestore_tests::harness::{TestStore, seed};
use pagestore_tests::image::{Image, Pages};
use pagestore_tests::worker;

const PAGES: u64 = 10_000;
const PAGE_BYTES: usize = 512;
const ROUNDS: u64 = 100;
/// A compaction after so many rounds.
const COMPACT_EVERY: u64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_overwrites_of_ten_thousand_pages_leave_little_garbage_embedded() {
    leave_little_garbage(TestStore::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_overwrites_of_ten_thousand_pages_leave_little_garbage_on_etcd_and_s3() {
    leave_little_garbage(TestStore::servers()).await;
}

async fn leave_little_garbage(place: TestStore) {
    let seed = seed().0;
    let page_size = PageSize::new(PAGE_BYTES as u64).unwrap();
    let options = VolumeOptions { page_size, keep: Keep::Nothing };
    let store = place.open().await;
    store.create_volume("v", options).await.unwrap().close().await;
    let pages = |round: u64| {
        Image { seed: seed ^ round, page_bytes: PAGE_BYTES, page_count: PAGES }.pages()
    };
    let mut written = 0;
    for round in 1..=ROUNDS {
        let volume = store.open_volume("v").await.unwrap();
        let mut tx = volume.begin().await.unwrap();
        let image = pages(round);
        (0..PAGES).for_each(|page| tx.write(PageNo(page), image.page(page)).unwrap());
        tx.commit().await.unwrap();
        let id = volume.id();
        // What this process held is let go of now, and not when its lease has run out.
        volume.close().await;
        if round % COMPACT_EVERY == 0 {
            written += blob_bytes(&place).await;
            compactor(&place).await.compact(id, Effort::Thorough).await.unwrap();
        }
    }
    let bytes = blob_bytes(&place).await;
    let live = live_bytes(&pages(ROUNDS)).await;
    println!("{bytes} bytes for {live} that are alive");
    assert!(written > 50 * live, "it was written over and over: {written}");
    assert!(bytes < 2 * live, "{bytes} bytes for {live} that are alive");

    let volume = store.open_volume("v").await.unwrap();
    let snapshot = volume.snapshot().await.unwrap();
    let image = pages(ROUNDS);
    for page in 0..PAGES {
        assert_eq!(snapshot.read(PageNo(page)).await.unwrap(), image.page(page), "page {page}");
    }
    assert_eq!(volume.inspect().log_after(Revision::ZERO).await.unwrap().len(), ROUNDS as usize);
}

async fn compactor(place: &TestStore) -> Compactor {
    let tiers = worker::tiers(place.tiers().await, Env::system());
    Compactor::new(tiers, CompactorOptions::default())
}

/// Bytes of all objects below the store's place.
async fn blob_bytes(place: &TestStore) -> u64 {
    let blobs = place.tiers().await.blobs;
    let mut bytes = 0;
    for volume in blobs.list_volumes().await.unwrap() {
        let listed: Vec<_> = blobs.list(volume).try_collect().await.unwrap();
        bytes += listed.iter().map(|object| object.bytes).sum::<u64>();
    }
    bytes
}

/// What the pages take up in a store that never had any others.
async fn live_bytes(pages: &Pages) -> u64 {
    let place = TestStore::embedded();
    let page_size = PageSize::new(PAGE_BYTES as u64).unwrap();
    let options = VolumeOptions { page_size, keep: Keep::Nothing };
    let volume = place.open().await.create_volume("v", options).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    tx.truncate(PageCount(PAGES));
    (0..PAGES).for_each(|page| tx.write(PageNo(page), pages.page(page)).unwrap());
    tx.commit().await.unwrap();
    blob_bytes(&place).await
}
