//! What simulated runs have found, each as small as it can be told.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use pagestore::internal::blob::{BlobStore, ObjectName};
use pagestore::internal::connect::Tiers;
use pagestore::internal::meta::keys::VolumeKeys;
use pagestore::internal::meta::records::{Oldest, Record};
use pagestore::internal::meta::{
    KeyRange, LeaseId, MetaError, MetaResult, MetaStatus, MetaStore, Op, RangeRequest,
    RangeResponse, Txn, TxnResponse, WatchStream,
};
use pagestore::{
    Committed, Env, ErrorKind, FileId, PageNo, PageSize, Result, Revision, Store, StoreOptions,
    Volume, VolumeId, VolumeOptions,
};
use pagestore_compactor::{Compactor, CompactorOptions, Effort};
use pagestore_sim::etcd::Etcd;
use pagestore_sim::process::Site;
use pagestore_sim::random::Random;

/// What the compactor waits before it takes an object for an orphan.
const GRACE: Duration = Duration::from_secs(600);

#[test]
fn an_object_that_nobody_published_goes_though_its_volume_is_idle() {
    let site = Site::new(1, false);
    let process = site.start(0);
    let compactor = process.clone();
    process.spawn(async move {
        let store = compactor.open(StoreOptions::default()).await.unwrap();
        let volume = store.create_volume("v", VolumeOptions::default()).await.unwrap();
        let (of, id) = (compactor.clone(), volume.id());
        compactor.spawn(async move {
            // After the first look, which finds nothing.
            of.env.sleep(Duration::from_secs(60)).await;
            let file: FileId = of.env.file_id();
            let name = ObjectName { volume: id, named_at: Revision(1), file };
            let path = name.to_string().into();
            of.site.bucket.objects().put(&path, "left behind".into()).await.unwrap();
        });
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let tiers = pagestore_compactor::Tiers::from(&store);
        Compactor::new(tiers, CompactorOptions::default()).run(None, &stopped).await.unwrap();
    });
    let objects = || {
        let listed = site.bucket.objects().list(None).collect::<Vec<_>>();
        futures::executor::block_on(listed).len()
    };
    let until = |time: Duration| site.world.run(time.as_micros() as u64, || false);
    until(GRACE);
    assert_eq!(objects(), 1);
    until(Duration::from_secs(3 * 3_600));
    assert_eq!(objects(), 0);
    site.world.end();
}

/// What stands between a process and its meta tier.
#[async_trait]
trait Mangle: std::fmt::Debug + Send + Sync + 'static {
    async fn txn(&self, inner: &dyn MetaStore, txn: Txn) -> MetaResult<TxnResponse> {
        inner.txn(txn).await
    }
    async fn lease_grant(&self, inner: &dyn MetaStore, ttl: Duration) -> MetaResult<LeaseId> {
        inner.lease_grant(ttl).await
    }
    fn watched(&self, batches: WatchStream) -> WatchStream {
        batches
    }
}

/// A meta tier with something in between.
#[derive(Debug)]
struct Mangled<M> {
    inner: Arc<dyn MetaStore>,
    mangle: M,
}

impl<M: Mangle> Mangled<M> {
    fn over(inner: Arc<dyn MetaStore>, mangle: M) -> Arc<dyn MetaStore> {
        Arc::new(Mangled { inner, mangle })
    }
}

#[async_trait]
impl<M: Mangle> MetaStore for Mangled<M> {
    async fn range(&self, request: RangeRequest) -> MetaResult<RangeResponse> {
        self.inner.range(request).await
    }
    async fn txn(&self, txn: Txn) -> MetaResult<TxnResponse> {
        self.mangle.txn(self.inner.as_ref(), txn).await
    }
    async fn watch(&self, keys: KeyRange, from: Revision) -> MetaResult<WatchStream> {
        Ok(self.mangle.watched(self.inner.watch(keys, from).await?))
    }
    async fn lease_grant(&self, ttl: Duration) -> MetaResult<LeaseId> {
        self.mangle.lease_grant(self.inner.as_ref(), ttl).await
    }
    async fn lease_keep_alive(&self, lease: LeaseId) -> MetaResult<Duration> {
        self.inner.lease_keep_alive(lease).await
    }
    async fn lease_revoke(&self, lease: LeaseId) -> MetaResult<()> {
        self.inner.lease_revoke(lease).await
    }
    async fn compact(&self, revision: Revision) -> MetaResult<()> {
        self.inner.compact(revision).await
    }
    async fn status(&self) -> MetaResult<MetaStatus> {
        self.inner.status().await
    }
    fn owns_history(&self) -> bool {
        true
    }
}

/// Raises the oldest revision of a volume when a session asks for its lease.
#[derive(Debug)]
struct Raising {
    volume: VolumeId,
    armed: Arc<AtomicBool>,
}

#[async_trait]
impl Mangle for Raising {
    async fn lease_grant(&self, inner: &dyn MetaStore, ttl: Duration) -> MetaResult<LeaseId> {
        let lease = inner.lease_grant(ttl).await?;
        if self.armed.swap(false, SeqCst) {
            let keys = pagestore::internal::meta::keys::StoreKeys::new("").volume(self.volume);
            let commit = pagestore::internal::meta::Op::put(keys.head(), "");
            let then = vec![commit];
            let at = inner.txn(Txn { then, ..Txn::default() }).await?.revision;
            let oldest = Oldest { readable: at, log_from: Revision(0) };
            let then = vec![oldest.put(&keys, keys.oldest())];
            inner.txn(Txn { then, ..Txn::default() }).await?;
        }
        Ok(lease)
    }
}

/// Tells of changes late.
#[derive(Debug)]
struct Lagging(Duration);

#[async_trait]
impl Mangle for Lagging {
    fn watched(&self, batches: WatchStream) -> WatchStream {
        let lag = self.0;
        let late = batches.then(move |batch| async move {
            tokio::time::sleep(lag).await;
            batch
        });
        late.boxed()
    }
}

async fn open_over(
    meta: Arc<dyn MetaStore>,
    objects: &Arc<InMemory>,
    options: StoreOptions,
    env: &Env,
) -> Store {
    let blobs = BlobStore::new(objects.clone(), "memory:", env.clone());
    let tiers = Tiers { meta, blobs, root: "".into(), local: true };
    Store::over(tiers, options, env.clone()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_reader_whose_watch_lags_waits_for_news_of_the_flush() {
    let env = Env::seeded(3);
    let etcd = Etcd::new(env.clone());
    let objects = Arc::new(InMemory::new());
    let uncached = StoreOptions { page_cache_bytes: 0, index_cache_bytes: 0, ..Default::default() };
    let open = async |meta| open_over(meta, &objects, uncached.clone(), &env).await;
    let store = open(etcd.client(None)).await;
    let options = VolumeOptions { page_size: PageSize::new(512).unwrap(), ..Default::default() };
    let volume = store.create_volume("v", options).await.unwrap();
    let mut transaction = volume.begin().await.unwrap();
    transaction.write(PageNo(0), vec![7; 512]).unwrap();
    transaction.commit().await.unwrap();

    let lagging = Mangled::over(etcd.client(None), Lagging(Duration::from_secs(3)));
    let reading = open(lagging).await.open_volume("v").await.unwrap();
    let snapshot = reading.snapshot().await.unwrap();
    let tiers = pagestore_compactor::Tiers::from(&store);
    let compactor = Compactor::new(tiers, CompactorOptions::default());
    compactor.compact(volume.id(), Effort::Thorough).await.unwrap();
    assert_eq!(snapshot.read(PageNo(0)).await.unwrap()[0], 7);
}

#[tokio::test(start_paused = true)]
async fn a_commit_overtaken_by_files_that_have_gone_since_looks_for_what_took_their_place() {
    let env = Env::seeded(5);
    let etcd = Etcd::new(env.clone());
    let objects = Arc::new(InMemory::new());
    let frugal = StoreOptions { staged_budget_bytes: 64 << 10, ..Default::default() };
    let open = async |meta| open_over(meta, &objects, frugal.clone(), &env).await;
    let store = open(etcd.client(None)).await;
    let options = VolumeOptions { page_size: PageSize::new(512).unwrap(), ..Default::default() };
    let volume = store.create_volume("v", options).await.unwrap();
    let mut transaction = volume.begin().await.unwrap();
    transaction.write(PageNo(399), vec![9; 512]).unwrap();
    transaction.commit().await.unwrap();
    let lagging = Mangled::over(etcd.client(None), Lagging(Duration::from_secs(3)));
    let other = open(lagging).await.open_volume("v").await.unwrap();
    let mut overtaken = other.begin().await.unwrap();
    overtaken.read(PageNo(1)).await.unwrap();
    overtaken.write(PageNo(1), vec![1; 512]).unwrap();

    // All around it.
    commit_as_file(&volume, &mut Random::new(5)).await.unwrap();
    let listed: Vec<_> = objects.list(None).collect().await;
    assert_eq!(listed.len(), 1);
    // Now it knows of the file, and will hear late that it has gone.
    other.snapshot().await.unwrap();
    let tiers = pagestore_compactor::Tiers::from(&store);
    let compactor = Compactor::new(tiers, CompactorOptions::default());
    compactor.compact(volume.id(), Effort::Thorough).await.unwrap();
    for object in listed {
        objects.delete(&object.unwrap().location).await.unwrap();
    }
    overtaken.commit().await.unwrap();
}

/// Commits every other one of the first 400 pages: so much that it becomes a file if the budget is small.
async fn commit_as_file(volume: &Volume, random: &mut Random) -> Result<Committed> {
    let mut transaction = volume.begin().await.unwrap();
    for page in (0..400).step_by(2) {
        let noise: Vec<u8> = (0..512).map(|_| random.number() as u8).collect();
        transaction.write(PageNo(page), noise).unwrap();
    }
    transaction.commit().await
}

/// They piled up faster than a compactor that was killed now and then could flush: a flush looks into all
/// of them, so that each made the next flush slower.
#[tokio::test(start_paused = true)]
async fn commits_of_files_wait_for_the_compactor_when_it_is_far_behind() {
    let env = Env::seeded(6);
    let etcd = Etcd::new(env.clone());
    let objects = Arc::new(InMemory::new());
    let frugal = StoreOptions { staged_budget_bytes: 64 << 10, ..Default::default() };
    let store = open_over(etcd.client(None), &objects, frugal, &env).await;
    let options = VolumeOptions { page_size: PageSize::new(512).unwrap(), ..Default::default() };
    let volume = store.create_volume("v", options).await.unwrap();
    let mut random = Random::new(6);
    let mut files = 0;
    let refused = loop {
        match commit_as_file(&volume, &mut random).await {
            Ok(_) => files += 1,
            Err(error) => break error,
        }
        assert!(files <= 64);
    };
    assert_eq!((refused.kind(), files), (ErrorKind::Backpressure, 64), "{refused}");
    let mut small = volume.begin().await.unwrap();
    small.write(PageNo(1), vec![1; 512]).unwrap();
    small.commit().await.expect("what adds no file has no reason to wait");
    let tiers = pagestore_compactor::Tiers::from(&store);
    let compactor = Compactor::new(tiers, CompactorOptions::default());
    compactor.compact(volume.id(), Effort::Thorough).await.unwrap();
    volume.snapshot().await.unwrap();
    commit_as_file(&volume, &mut random).await.unwrap();
}

/// Loses the answer to a flush's publication, and dies before what was flushed is noted to be removed.
#[derive(Debug)]
struct Forgetful {
    keys: VolumeKeys,
    published: AtomicBool,
    dead: AtomicBool,
}

#[async_trait]
impl Mangle for Forgetful {
    async fn txn(&self, inner: &dyn MetaStore, txn: Txn) -> MetaResult<TxnResponse> {
        let gone = |maybe_applied| MetaError::Unavailable { message: "gone".into(), maybe_applied };
        if self.dead.load(SeqCst) {
            return Err(gone(false));
        }
        let puts_floor = txn
            .then
            .iter()
            .any(|op| matches!(op, Op::Put { key, .. } if *key == self.keys.floor()));
        let response = inner.txn(txn).await?;
        if puts_floor {
            self.published.store(true, SeqCst);
            return Err(gone(true));
        }
        // The next one ends the job.
        self.dead.store(self.published.load(SeqCst), SeqCst);
        Ok(response)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_flushed_goes_although_the_note_of_it_is_lost() {
    let env = Env::seeded(4);
    let etcd = Etcd::new(env.clone());
    let objects = Arc::new(InMemory::new());
    let tiers = Tiers {
        meta: etcd.client(None),
        blobs: BlobStore::new(objects, "memory:", env.clone()),
        root: "".into(),
        local: true,
    };
    let store = Store::over(tiers, StoreOptions::default(), env).await.unwrap();
    let options = VolumeOptions { page_size: PageSize::new(512).unwrap(), ..Default::default() };
    let volume = store.create_volume("v", options).await.unwrap();
    let mut transaction = volume.begin().await.unwrap();
    transaction.write(PageNo(0), vec![7; 512]).unwrap();
    transaction.commit().await.unwrap();

    let keys = store.keys().volume(volume.id());
    let whole = pagestore_compactor::Tiers::from(&store);
    let forgetful = Forgetful {
        keys: keys.clone(),
        published: AtomicBool::new(false),
        dead: AtomicBool::new(false),
    };
    let dying = pagestore_compactor::Tiers {
        meta: Mangled::over(etcd.client(None), forgetful),
        ..whole.clone()
    };
    let compact = |tiers| Compactor::new(tiers, CompactorOptions::default());
    compact(dying).compact(volume.id(), Effort::Thorough).await.unwrap_err();
    let staged = || {
        let all = RangeRequest::new(keys.all_staged());
        etcd.look(|store| store.range(&all).unwrap().count)
    };
    assert_eq!(staged(), 1);
    // A lease of what died keeps others away for a while.
    tokio::time::sleep(Duration::from_secs(60)).await;
    compact(whole).compact(volume.id(), Effort::Usual).await.unwrap();
    assert_eq!(staged(), 0);
}

#[tokio::test]
async fn a_volume_opens_while_its_oldest_revision_is_raised() {
    let env = Env::seeded(2);
    let etcd = Etcd::new(env.clone());
    let objects = Arc::new(InMemory::new());
    let tiers = |meta: Arc<dyn MetaStore>| Tiers {
        meta,
        blobs: BlobStore::new(objects.clone(), "memory:", env.clone()),
        root: "".into(),
        local: true,
    };
    let open = |meta| Store::over(tiers(meta), StoreOptions::default(), env.clone());
    let store = open(etcd.client(None)).await.unwrap();
    let options = VolumeOptions { page_size: PageSize::new(512).unwrap(), ..Default::default() };
    let volume = store.create_volume("v", options).await.unwrap();
    let mut transaction = volume.begin().await.unwrap();
    transaction.write(PageNo(0), vec![7; 512]).unwrap();
    transaction.commit().await.unwrap();

    let armed = Arc::new(AtomicBool::new(true));
    let raising = Raising { volume: volume.id(), armed: armed.clone() };
    let raising = Mangled::over(etcd.client(None), raising);
    let opened = open(raising).await.unwrap().open_volume("v").await.unwrap();
    assert!(!armed.load(SeqCst), "nobody asked for a lease");
    assert_eq!(opened.snapshot().await.unwrap().read(PageNo(0)).await.unwrap()[0], 7);
}

#[test]
fn a_commit_that_makes_etcd_full_has_happened_though_it_is_told_so() {
    let site = Site::new(1, false);
    let process = site.start(0);
    let client = process.clone();
    let done = Arc::new(AtomicBool::new(false));
    let finished = done.clone();
    process.spawn(async move {
        let etcd = client.site.etcd.clone();
        let store = client.open(StoreOptions::default()).await.unwrap();
        let volume = store.create_volume("v", VolumeOptions::default()).await.unwrap();
        let put = async |fill: u8| {
            let mut tx = volume.begin().await.unwrap();
            tx.write(PageNo(0), vec![fill; volume.page_size().bytes()]).unwrap();
            tx.commit().await
        };
        etcd.set_full(true);
        let committed = put(1).await.unwrap();
        let log = volume.inspect().log(9).await.unwrap();
        assert_eq!((log.len(), log[0].revision), (1, committed.revision));
        let error = put(2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backpressure, "{error}");
        assert_eq!(volume.inspect().log(9).await.unwrap().len(), 1);
        etcd.set_full(false);
        put(3).await.unwrap();
        finished.store(true, SeqCst);
    });
    site.world.run(Duration::from_secs(3_600).as_micros() as u64, || done.load(SeqCst));
    assert!(done.load(SeqCst), "it came to an end");
    site.world.end();
}
