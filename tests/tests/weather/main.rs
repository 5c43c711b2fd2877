//! What bad weather gets, end to end: through the library as its users have it, on real servers.
//!
//! | weather | here | elsewhere |
//! | --- | --- | --- |
//! | unknown volume, revision not there or not kept, page beyond the end, a write of a wrong length | | `bad_input_is_refused_and_changes_nothing`, `snapshots_and_the_past_stay_as_they_were` (`volume.rs`); `an_unknown_volume_is_not_found` and its neighbours (the tool) |
//! | images that are no images, names that are no names | | `images_that_are_not_whole_are_refused_before_anything_is_written`, `sqlite_files_that_are_not_whole_are_refused`, `volume_names_are_checked_before_a_store_is_made` (the tool) |
//! | etcd down or frozen at open, lost in mid-commit, without a quorum, full, its history gone | `meta` | `etcd_that_is_gone_and_a_bucket_that_is_not_there_have_their_exit_codes` (the tool) |
//! | S3 that refuses, fails, is slow, answers in part or wrongly; no such bucket | `blob` | `broken_connections_lose_and_change_nothing` (`blob_s3.rs`) |
//! | a corrupted object, index, footer, LMDB value or etcd value; a newer version | `damage` | `every_section_of_a_file_is_checked` and its neighbours (the tool's `verify`) |
//! | two writers on one page | | `only_one_of_two_writers_of_a_page_commits` (`volume.rs`) |
//! | disk full | `disk` | `full_disk` (the embedded meta tier) |
//! | a failed fsync or write | | `failed_sync`, `failed_write` (the embedded meta tier) |
//! | kill -9 of etcd or the S3 server | `crash` | |
//! | kill -9 of a writer or a compactor | | `chaos.rs`; `large_commits_are_whole_whenever_their_writer_is_killed_embedded` and its neighbour (`scale`) |
//! | a process stopped beyond its lease | `frozen` | `cluster` |
//! | all of it at once, on a cluster | | `cluster` |
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod blob;
mod crash;
mod damage;
mod disk;
mod frozen;
mod meta;

use std::time::Duration;

use bytes::Bytes;
use pagestore::{Committed, PageNo, Result, Volume, VolumeOptions};
use pagestore_tests::harness::{Seed, TestStore};
use rand::RngExt as _;

/// The program that does what a test wants a process of its own for.
const WORKER: &str = env!("CARGO_BIN_EXE_pagestore-test-worker");
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
