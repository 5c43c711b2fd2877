//! A sequential scan of files that are far away.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt};
use pagestore::internal::blob::BlobStore;
use pagestore::internal::connect::{self, Tiers};
use pagestore::{Env, PageNo, Store, StoreOptions};

use crate::Result;
use crate::figure::{Figure, Target};
use crate::pages::{self, PAGE_BYTES};
use crate::rounds::Plan;

/// Added to each request.
const DISTANCE: Duration = Duration::from_millis(20);
/// Bytes of the volume scanned; of that about half is stored.
const VOLUME_BYTES: usize = 96 << 20;
/// The same for a plan with short rounds.
const SMALL_VOLUME_BYTES: usize = 24 << 20;
/// Ranges that the raw reader has under way: as many as our read-ahead.
const RAW_AT_ONCE: usize = 4;
/// Bytes of a range of the raw reader.
const RAW_BYTES: u64 = 1 << 20;

/// A new process that reads all pages in order, over one that reads the files' bytes.
pub(super) async fn scan(plan: Plan) -> Result<Vec<Figure>> {
    let small = plan.span < Duration::from_millis(200);
    let volume_bytes = if small { SMALL_VOLUME_BYTES } else { VOLUME_BYTES };
    let directory = tempfile::tempdir()?;
    let url = directory.path().to_string_lossy().into_owned();
    let store = Store::open(&url).await?;
    let mut random = pages::seeded(5);
    let page_count = volume_bytes / PAGE_BYTES;
    let image: Vec<u8> = (0..page_count).flat_map(|_| pages::page(&mut random)).collect();
    pages::imported_volume(&store, "far", &image).await?;
    drop((store, image));

    let objects = far_away(&directory.path().join("blobs")).await?;
    let ours = async || {
        let (megabytes, gets) = scan_volume(&url, objects.clone()).await?;
        Ok([megabytes, gets])
    };
    let other = async || {
        let (bytes, seconds) = read_raw(objects.as_ref()).await?;
        // A raw byte stands for as many as were stored in it.
        let stored_as = volume_bytes as f64 / bytes as f64;
        Ok([bytes as f64 * stored_as / seconds / 1e6, bytes as f64 / f64::from(1 << 20)])
    };
    let rounds = plan.run(ours, other).await?;
    Ok(vec![
        rounds.figure(0, "cold scan, 20 ms a request", "MB/s", Target::AtLeast(0.8)),
        rounds.figure(1, "requests of a cold scan, a MiB stored", "", Target::AtMost(1.1)),
    ])
}

/// The objects in memory, so that no disk is measured, and each request late.
async fn far_away(blobs: &FilePath) -> Result<Arc<dyn ObjectStore>> {
    let (files, memory) = (LocalFileSystem::new_with_prefix(blobs)?, InMemory::new());
    let mut listed = files.list(None);
    while let Some(object) = listed.try_next().await? {
        let content = files.get(&object.location).await?.bytes().await?;
        memory.put(&object.location, content.into()).await?;
    }
    let config = ThrottleConfig { wait_get_per_call: DISTANCE, ..ThrottleConfig::default() };
    Ok(Arc::new(ThrottledStore::new(memory, config)))
}

/// Megabytes of pages a second, and requests made.
async fn scan_volume(url: &str, objects: Arc<dyn ObjectStore>) -> Result<(f64, f64)> {
    let env = Env::system();
    let near = connect::connect(url, &env).await?;
    let place = near.blobs.place().to_owned();
    let tiers = Tiers { blobs: BlobStore::new(objects, place, env.clone()), ..near };
    let store = Store::over(tiers, StoreOptions::default(), env).await?;
    let snapshot = store.open_volume("far").await?.snapshot().await?;
    let before = store.blobs().counts().gets;
    let (start, mut bytes) = (Instant::now(), 0);
    for page in 0..snapshot.page_count().0 {
        bytes += snapshot.read(PageNo(page)).await?.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok((bytes as f64 / seconds / 1e6, (store.blobs().counts().gets - before) as f64))
}

/// Reads all objects of volumes in ranges; how many bytes, in how many seconds.
async fn read_raw(objects: &dyn ObjectStore) -> Result<(u64, f64)> {
    let files: Vec<_> = objects.list(None).try_collect().await?;
    let ranges = files.iter().flat_map(|file| {
        let steps = (0..file.size).step_by(1 << 20);
        steps.map(|start| (&file.location, start..file.size.min(start + RAW_BYTES)))
    });
    let start = Instant::now();
    let bytes = stream::iter(ranges)
        .map(|(location, range)| objects.get_range(location, range))
        .buffered(RAW_AT_ONCE)
        .try_fold(0, async |sum, bytes| Ok(sum + bytes.len() as u64))
        .await?;
    Ok((bytes, start.elapsed().as_secs_f64()))
}
