//! A process whose disk is small: it fills it, and goes on once there is room.

use std::path::PathBuf;

use bytes::Bytes;
use pagestore::{ErrorKind, PageNo, Result, Store, Volume, VolumeOptions};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::harness::Seed;

/// A file that takes up room, to be given back.
const BALLAST: &str = "ballast";
const BALLAST_BYTES: usize = 8 << 20;
/// Pages of a commit that goes to a file.
const LARGE: u64 = 400;

/// What a filler does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fill {
    /// On a disk of its own, small and empty.
    pub dir: PathBuf,
}

fn noise(number: u64) -> Bytes {
    let mut content = vec![0; 4096];
    Seed(number).rng().fill(&mut content[..]);
    content.into()
}

async fn put(volume: &Volume, first: u64, count: u64) -> Result<()> {
    let mut tx = volume.begin().await?;
    (first..first + count).for_each(|page| tx.write(PageNo(page), noise(page)).unwrap());
    tx.commit().await.map(drop)
}

/// All of `count` pages are there, and no other.
async fn check(store: &Store, count: u64) {
    let snapshot = store.open_volume("v").await.unwrap().snapshot().await.unwrap();
    assert_eq!(snapshot.page_count().0, count);
    for page in 0..count {
        assert_eq!(snapshot.read(PageNo(page)).await.unwrap(), noise(page), "page {page}");
    }
    let report = pagestore::inspect::verify(store, "v", None, &|_| {}).await.unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

pub(super) async fn run(work: Fill) {
    std::fs::write(work.dir.join(BALLAST), vec![1; BALLAST_BYTES]).unwrap();
    let url = work.dir.join("store").display().to_string();
    let store = Store::open(&url).await.unwrap();
    let volume = store.create_volume("v", VolumeOptions::default()).await.unwrap();
    put(&volume, 0, LARGE).await.unwrap();
    let mut count = LARGE;
    let refused = loop {
        match put(&volume, count, 8).await {
            Ok(()) => count += 8,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().contains("disk is full"), "{refused}");
    println!("full after {count} pages: {refused}");
    let large = put(&volume, count, LARGE).await.unwrap_err();
    println!("{large}");
    assert_eq!(large.kind(), ErrorKind::Unavailable, "{large}");
    assert!(large.to_string().contains("disk is full"), "{large}");
    check(&store, count).await;

    std::fs::remove_file(work.dir.join(BALLAST)).unwrap();
    put(&volume, count, 8).await.unwrap();
    put(&volume, count + 8, LARGE).await.unwrap();
    count += 8 + LARGE;
    check(&store, count).await;
    drop((volume, store));
    check(&Store::open(&url).await.unwrap(), count).await;
}
