//! A large image in one commit, by a process that uses the library.

use pagestore::{PageCount, PageNo, Revision, Volume, VolumeOptions};
use pagestore_tests::harness::{TestStore, seed};
use pagestore_tests::image::Image;
use pagestore_tests::worker::{self, Import, Role};

use super::{MIB, PATIENCE, WORKER};

const PAGE_BYTES: usize = 4096;
const BYTES: u64 = 1024 * MIB;
/// Memory that the importing process may use.
const MEMORY: u64 = 512 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn a_gib_goes_into_an_embedded_store_at_once() {
    goes_in_at_once(TestStore::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gib_goes_into_etcd_and_s3_at_once() {
    goes_in_at_once(TestStore::servers()).await;
}

async fn goes_in_at_once(place: TestStore) {
    let image =
        Image { seed: seed().0, page_bytes: PAGE_BYTES, page_count: BYTES / PAGE_BYTES as u64 };
    let volume = place.open().await.create_volume("v", VolumeOptions::default()).await.unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let role = Role::Import(Import { url: place.url(), volume: "v".to_owned(), image });
    let mut importer = worker::start(WORKER, &role, &place, log.path());
    let watcher = tokio::spawn(all_or_nothing(volume.clone(), PageCount(image.page_count)));
    let ended = tokio::task::spawn_blocking(move || {
        let (status, peak) = importer.wait_for_peak(PATIENCE).expect("it comes to an end");
        assert!(status.success(), "{status}: {}", importer.last_words());
        peak
    });
    let peak = ended.await.unwrap();
    println!("{} MiB of memory", peak / MIB);
    assert!(peak < MEMORY, "{} MiB of memory", peak / MIB);
    let looks = watcher.await.unwrap();
    assert!(looks > 1, "nobody looked while it was under way");

    let commits = volume.inspect().log_after(Revision::ZERO).await.unwrap();
    assert_eq!(commits.len(), 1, "{commits:?}");
    let pages = image.pages();
    let snapshot = volume.snapshot().await.unwrap();
    for page in 0..image.page_count {
        assert_eq!(snapshot.read(PageNo(page)).await.unwrap(), pages.page(page), "page {page}");
    }
}

/// Looks at the volume until it has all pages; it never has a part of them.
async fn all_or_nothing(volume: Volume, all: PageCount) -> usize {
    let mut looks = 0;
    loop {
        looks += 1;
        match volume.snapshot().await.unwrap().page_count() {
            PageCount(0) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            count => {
                assert_eq!(count, all);
                return looks;
            }
        }
    }
}
