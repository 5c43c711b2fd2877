//! A volume of a million pages: what is left of it in etcd once it is flushed, and how fast it opens.

use std::time::{Duration, Instant};

use pagestore::{Env, PageCount, PageNo, PageSize, Volume, VolumeOptions};
use pagestore_compactor::{Compactor, CompactorOptions, Effort};
use pagestore_tests::harness::{TestStore, seed};
use pagestore_tests::image::{Image, Pages};
use pagestore_tests::worker;

const PAGES: u64 = 1_000_000;
const PAGE_BYTES: usize = 512;
/// Pages that come in one commit, as an import's would; the others in small ones.
const IMPORTED: u64 = 900_000;
/// Pages of a small commit.
const SMALL: u64 = 1_000;
const MOST_KEYS: u64 = 200;
/// From nothing to the content of a first page.
const OPENS_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_volume_of_a_million_pages_leaves_few_keys_and_opens_fast() {
    let mut place = TestStore::servers();
    let pages = Image { seed: seed().0, page_bytes: PAGE_BYTES, page_count: PAGES }.pages();
    let page_size = PageSize::new(PAGE_BYTES as u64).unwrap();
    let options = VolumeOptions { page_size, ..VolumeOptions::default() };
    let volume = place.open().await.create_volume("v", options).await.unwrap();
    let staged = write(&volume, &pages).await;
    // All but the empty ones, which were empty before.
    assert!(staged > (PAGES - IMPORTED) * 9 / 10, "{staged} pages are in the meta tier");
    let before = key_count(&mut place).await;
    assert!(before > staged, "{before} keys");

    let tiers = worker::tiers(place.tiers().await, Env::system());
    let compactor = Compactor::new(tiers, CompactorOptions::default());
    compactor.compact(volume.id(), Effort::Thorough).await.unwrap();
    assert_eq!(volume.snapshot().await.unwrap().page_count(), PageCount(PAGES));
    let keys = key_count(&mut place).await;
    println!("{before} keys before the flush, {keys} after it");
    assert!(keys < MOST_KEYS, "{keys} keys");

    for page in [0, 123_456, IMPORTED + 7, PAGES - 1] {
        let begun = Instant::now();
        let store = place.open().await;
        let volume = store.open_volume("v").await.unwrap();
        let snapshot = volume.snapshot().await.unwrap();
        let content = snapshot.read(PageNo(page)).await.unwrap();
        let took = begun.elapsed();
        assert_eq!(content, pages.page(page));
        println!("opened, and page {page} read, in {took:?}");
        assert!(took < OPENS_WITHIN, "{took:?}");
    }
    let snapshot = volume.snapshot().await.unwrap();
    for page in (0..PAGES).step_by(991) {
        assert_eq!(snapshot.read(PageNo(page)).await.unwrap(), pages.page(page), "page {page}");
    }
}

/// Writes all pages; gives how many of them wait for a flush.
async fn write(volume: &Volume, pages: &Pages) -> u64 {
    let mut tx = volume.begin().await.unwrap();
    for page in 0..IMPORTED {
        tx.write(PageNo(page), pages.page(page)).unwrap();
    }
    tx.commit().await.unwrap();
    for first in (IMPORTED..PAGES).step_by(SMALL as usize) {
        let mut tx = volume.begin().await.unwrap();
        for page in first..first + SMALL {
            tx.write(PageNo(page), pages.page(page)).unwrap();
        }
        tx.commit().await.unwrap();
    }
    volume.snapshot().await.unwrap();
    volume.state().unwrap().staged.len() as u64
}

/// All keys that the store has in etcd, asked of etcd itself.
async fn key_count(place: &mut TestStore) -> u64 {
    let endpoint = place.etcd().expect("it is on etcd").endpoint();
    let mut etcd = etcd_client::Client::connect([endpoint], None).await.unwrap();
    let counting = etcd_client::GetOptions::new().with_prefix().with_count_only();
    let count = etcd.get("test/", Some(counting)).await.unwrap().count();
    count.try_into().unwrap()
}
