//! What reading costs in requests, on an S3-compatible server, on a volume as imported.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use bytes::Bytes;
use pagestore::internal::blob::BlobStore;
use pagestore::internal::env::Env;
use pagestore::{PageNo, Snapshot, Store, StoreOptions, VolumeOptions};
use pagestore_tests::harness::TestStore;

const PAGE: usize = 4096;
const MIB: u64 = 1 << 20;

/// About half of it compresses away.
fn content(page: u64) -> Bytes {
    let mut state = page.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![b'x'; PAGE];
    for word in bytes.chunks_exact_mut(8).step_by(2) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

async fn import(place: &TestStore, pages: u64) {
    let volume = place.open().await.create_volume("v", VolumeOptions::default()).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    for page in 0..pages {
        tx.write(PageNo(page), content(page)).unwrap();
    }
    tx.commit().await.unwrap();
}

/// A snapshot of the volume by a process that has read nothing yet, and what counts its requests.
async fn cold(place: &TestStore) -> (Snapshot, BlobStore) {
    let tiers = place.tiers().await;
    let blobs = tiers.blobs.clone();
    let store = Store::over(tiers, StoreOptions::default(), Env::system()).await.unwrap();
    let volume = store.open_volume("v").await.unwrap();
    (volume.snapshot().await.unwrap(), blobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_scan_costs_about_a_request_a_mib_and_a_page_one() {
    let place = TestStore::servers();
    let pages = 64 * MIB / PAGE as u64;
    import(&place, pages).await;

    let (snapshot, blobs) = cold(&place).await;
    let start = Instant::now();
    for page in 0..pages {
        assert_eq!(snapshot.read(PageNo(page)).await.unwrap(), content(page), "{page}");
    }
    let counts = blobs.counts();
    let seconds = start.elapsed().as_secs_f64();
    println!("{} requests for {} bytes in {seconds:.2} s", counts.gets, counts.bytes_in);
    assert!(counts.bytes_in > 30 * MIB, "{counts:?}");
    assert!(counts.gets * MIB * 10 <= counts.bytes_in * 11, "{counts:?}");
    assert_eq!(counts.heads + counts.lists + counts.puts + counts.deletes, 0, "{counts:?}");

    // The whole again, from memory as far as that reaches: nothing that is there is fetched.
    let recent = pages - 1000..pages;
    for page in recent {
        snapshot.read(PageNo(page)).await.unwrap();
    }
    assert_eq!(blobs.counts(), counts);

    let (snapshot, blobs) = cold(&place).await;
    // The first read fetches tail and index of its file too.
    let pages = [7, 16_000, 8_001, 3_000, 12_345, 5_555, 9_876];
    snapshot.read(PageNo(1)).await.unwrap();
    snapshot.read(PageNo(pages[1] - 100)).await.unwrap();
    for page in pages {
        let before = blobs.counts().gets;
        assert_eq!(snapshot.read(PageNo(page)).await.unwrap(), content(page));
        assert!(blobs.counts().gets - before <= 1, "page {page}");
    }
}
