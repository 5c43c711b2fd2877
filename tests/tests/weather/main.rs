//! What bad weather gets, end to end: through the library as its users have it, on real servers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod blob;
mod crash;
mod damage;
mod meta;

use std::time::Duration;

use bytes::Bytes;
use pagestore::{Committed, PageNo, Result, Volume, VolumeOptions};
use pagestore_tests::harness::{Seed, TestStore};
use rand::RngExt as _;

/// No call may take longer, whatever is broken: retries, and the question what became of a commit, are
/// bounded.
const PATIENCE: Duration = Duration::from_secs(120);
const PAGE_BYTES: usize = 4096;

/// What comes of `call`, which must come to an end.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, call).await.expect("an answer in bounded time")
}

/// A page that does not compress; equal numbers give equal pages.
fn noise(number: u64) -> Bytes {
    let mut content = vec![0; PAGE_BYTES];
    Seed(number).rng().fill(&mut content[..]);
    content.into()
}

/// Makes the volume `v` of `count` pages, each of them `noise(0)`.
async fn pages(place: &TestStore, count: u64) -> Volume {
    let volume = place.open().await.create_volume("v", VolumeOptions::default()).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    (0..count).for_each(|page| tx.write(PageNo(page), noise(0)).unwrap());
    tx.commit().await.unwrap();
    volume
}

/// Commits one page.
async fn put(volume: &Volume, page: PageNo, content: &Bytes) -> Result<Committed> {
    let mut tx = volume.begin().await?;
    tx.write(page, content.clone())?;
    tx.commit().await
}

/// Whether the head shows `content`.
async fn shows(volume: &Volume, page: PageNo, content: &Bytes) -> bool {
    volume.snapshot().await.unwrap().read(page).await.unwrap() == content
}
