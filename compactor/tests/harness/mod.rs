//! A store in a directory, a workload with a model of what it wrote, and tiers that die at call k.
// Each test uses a part of it.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod dying;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;

use pagestore::internal::blob::BlobStore;
use pagestore::internal::connect;
use pagestore::internal::env::Source;
use pagestore::internal::meta::embedded::EmbeddedStore;
use pagestore::internal::meta::keys::{StoreKeys, VolumeKeys};
use pagestore::internal::meta::{KeyRange, LeaseId, MetaError, MetaStore};
use pagestore::internal::mirror;
use pagestore::{
    Env, Keep, PageCount, PageNo, PageSize, Revision, Snapshot, Store, StoreOptions, Volume,
    VolumeOptions,
};
use pagestore_compactor::{Compactor, CompactorOptions, Tiers};

pub const PAGE_BYTES: usize = 512;

/// Randomness that depends on a seed alone, and a clock that can be put forward.
#[derive(Debug)]
struct Adjustable {
    env: Env,
    ahead_ms: Arc<AtomicU64>,
}

impl Source for Adjustable {
    fn wall_ms(&self) -> u64 {
        self.env.wall_ms() + self.ahead_ms.load(Ordering::SeqCst)
    }

    fn fill(&self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.env.random_bytes::<1>()[0]);
    }
}

/// A store in a directory of its own, with its objects in memory.
pub struct World {
    pub env: Env,
    ahead_ms: Arc<AtomicU64>,
    pub meta: Arc<dyn MetaStore>,
    pub objects: Arc<InMemory>,
    pub blobs: BlobStore,
    _dir: tempfile::TempDir,
}

impl World {
    pub fn new(seed: u64) -> World {
        // What a real disk would do is tested elsewhere; here only its syncs would be waited for.
        let memory = std::path::Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let env = Env::new(Adjustable { env: Env::seeded(seed), ahead_ms: ahead_ms.clone() });
        let meta = EmbeddedStore::open(dir.path(), &env).unwrap();
        let objects = Arc::new(InMemory::new());
        let blobs = BlobStore::new(objects.clone(), "memory:", env.clone());
        World { env, ahead_ms, meta, objects, blobs, _dir: dir }
    }

    /// Puts the clock forward.
    pub fn wait(&self, duration: Duration) {
        self.ahead_ms.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn tiers(&self) -> Tiers {
        Tiers {
            meta: self.meta.clone(),
            blobs: self.blobs.clone(),
            keys: StoreKeys::new(Bytes::new()),
            env: self.env.clone(),
        }
    }

    /// A compactor that flushes as soon as anything is staged, even with the usual effort.
    pub fn compactor(&self) -> Compactor {
        let options = CompactorOptions { flush_bytes: 1, ..CompactorOptions::default() };
        Compactor::new(self.tiers(), options)
    }

    /// A process of its own, as far as caches and sessions go.
    pub async fn store(&self) -> Store {
        let tiers = connect::Tiers {
            meta: self.meta.clone(),
            blobs: self.blobs.clone(),
            root: Bytes::new(),
            local: true,
        };
        Store::over(tiers, StoreOptions::default(), self.env.clone()).await.unwrap()
    }

    pub async fn create(&self, keep: Keep) -> Volume {
        self.create_with(PAGE_BYTES, keep).await
    }

    pub async fn create_with(&self, page_bytes: usize, keep: Keep) -> Volume {
        let page_size = PageSize::new(page_bytes as u64).unwrap();
        let options = VolumeOptions { page_size, keep };
        self.store().await.create_volume("v", options).await.unwrap()
    }

    pub async fn open(&self) -> Volume {
        self.store().await.open_volume("v").await.unwrap()
    }

    pub fn keys(&self, volume: &Volume) -> VolumeKeys {
        StoreKeys::new(Bytes::new()).volume(volume.id())
    }

    /// Ends all leases that something of the volume is under, as their running out would.
    pub async fn end_leases(&self, keys: &VolumeKeys) {
        let all = mirror::scan(self.meta.as_ref(), &keys.everything(), None).await.unwrap();
        let mut leases: Vec<LeaseId> = all.kvs.iter().map(|kv| kv.lease).collect();
        leases.sort_unstable();
        leases.dedup();
        for lease in leases.into_iter().filter(|lease| *lease != LeaseId::default()) {
            match self.meta.lease_revoke(lease).await {
                // A session that was dropped a moment ago gives its lease back itself.
                Ok(()) | Err(MetaError::LeaseNotFound) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub async fn count(&self, keys: KeyRange) -> usize {
        mirror::scan(self.meta.as_ref(), &keys, None).await.unwrap().kvs.len()
    }

    /// Bytes of all objects.
    pub async fn object_bytes(&self, keys: &VolumeKeys) -> u64 {
        use futures::TryStreamExt;
        let listed: Vec<_> = self.blobs.list(keys.id()).try_collect().await.unwrap();
        listed.iter().map(|listed| listed.bytes).sum()
    }

    pub async fn object_count(&self, keys: &VolumeKeys) -> usize {
        use futures::TryStreamExt;
        let listed: Vec<_> = self.blobs.list(keys.id()).try_collect().await.unwrap();
        listed.len()
    }
}

/// What a volume showed after each commit.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub commits: Vec<(Revision, Vec<Bytes>)>,
}

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// Content that zstd halves, about.
    pub fn page(&mut self, page_bytes: usize) -> Vec<u8> {
        let mut page = vec![7; page_bytes];
        page.iter_mut().step_by(2).for_each(|byte| *byte = self.below(256) as u8);
        page
    }
}

impl Model {
    pub fn pages(&self) -> Vec<Bytes> {
        self.commits.last().map(|(_, pages)| pages.clone()).unwrap_or_default()
    }

    /// Random commits: whole pages, small changes, zeros, growth and truncation.
    pub async fn write(&mut self, volume: &Volume, random: &mut Random, commits: usize) {
        for _ in 0..commits {
            let mut pages = self.pages();
            let mut tx = volume.begin().await.unwrap();
            if pages.len() > 12 && random.below(8) == 0 {
                let count = pages.len() as u64 - random.below(6) - 1;
                tx.truncate(PageCount(count));
                pages.truncate(count as usize);
            }
            for _ in 0..=random.below(4) {
                let page = random.below((pages.len() as u64 + 2).min(30)) as usize;
                if pages.len() <= page {
                    pages.resize(page + 1, Bytes::from(vec![0; PAGE_BYTES]));
                }
                let content = match random.below(10) {
                    0 => vec![0; PAGE_BYTES],
                    1..=3 => random.page(PAGE_BYTES),
                    _ => {
                        let mut content = pages[page].to_vec();
                        content[random.below(PAGE_BYTES as u64) as usize] ^= 0x55;
                        content
                    }
                };
                pages[page] = content.into();
                tx.write(PageNo(page as u64), pages[page].clone()).unwrap();
            }
            let committed = tx.commit().await.unwrap();
            self.commits.push((committed.revision, pages));
        }
    }

    /// One commit of all pages, each anew.
    pub async fn overwrite(&mut self, volume: &Volume, random: &mut Random, count: usize) {
        let page_bytes = volume.page_size().bytes();
        let pages: Vec<Bytes> = (0..count).map(|_| random.page(page_bytes).into()).collect();
        let mut tx = volume.begin().await.unwrap();
        for (page, content) in pages.iter().enumerate() {
            tx.write(PageNo(page as u64), content.clone()).unwrap();
        }
        let committed = tx.commit().await.unwrap();
        self.commits.push((committed.revision, pages));
    }

    /// Holds what `volume` shows at the head against the model.
    pub async fn check_head(&self, volume: &Volume) {
        self.check_newest(&volume.snapshot().await.unwrap()).await;
    }

    /// Holds a snapshot of the newest commit against the model.
    pub async fn check_newest(&self, snapshot: &Snapshot) {
        let pages = self.pages();
        assert_eq!(snapshot.page_count(), PageCount(pages.len() as u64));
        check_pages(snapshot, &pages).await;
    }

    /// Holds every commit at or above `oldest` against the model.
    pub async fn check_from(&self, volume: &Volume, oldest: Revision) {
        for (revision, pages) in self.commits.iter().filter(|(revision, _)| *revision >= oldest) {
            let snapshot = volume.snapshot_at(*revision).await.unwrap();
            assert_eq!(snapshot.page_count(), PageCount(pages.len() as u64), "at {revision}");
            check_pages(&snapshot, pages).await;
        }
    }
}

async fn check_pages(snapshot: &Snapshot, pages: &[Bytes]) {
    for (page, content) in pages.iter().enumerate() {
        let read = snapshot.read(PageNo(page as u64)).await.unwrap();
        assert_eq!(read, content, "page {page} at {}", snapshot.revision());
    }
}
