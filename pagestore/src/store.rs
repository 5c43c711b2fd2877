//! A store: one meta tier plus one blob tier, named by a URL.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;

use crate::blob::BlobStore;
use crate::cache::{Caches, DiskCache, IndexCache, PageCache};
use crate::commit::{Core, Group, Limits};
use crate::config::StoreOptions;
use crate::connect::{self, Tiers};
use crate::env::{Env, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::FileFetcher;
use crate::lock::{Locks, TryLock};
use crate::meta::keys::{StoreKeys, VolumeKeys, WatchedKey};
use crate::meta::records::{self, Record, StoreRecord, VolumeRecord};
use crate::meta::{
    Compare, KeyRange, MetaStore, Op, OpResponse, Projection, RangeRequest, Txn, txn,
};
use crate::mirror::{Mirror, scan};
use crate::session::Session;
use crate::snapshot::{Reader, Snapshot};
use crate::types::{HashSecret, Keep, PageSize, VolumeId, VolumeName};
use crate::volume::Volume;

/// How often the meta tier is asked how full it is.
const USAGE_TICK: Duration = Duration::from_secs(5);

/// An open store. A clone is cheap and shares everything.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    meta: Arc<dyn MetaStore>,
    blobs: BlobStore,
    keys: StoreKeys,
    env: Env,
    options: StoreOptions,
    caches: Caches,
    used_bytes: Arc<AtomicU64>,
    locks: Arc<Locks>,
    open: Mutex<HashMap<VolumeId, Weak<Core>>>,
    _usage: Task,
}

/// What a new volume is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeOptions {
    /// Bytes a page; for ever.
    pub page_size: PageSize,
    /// How long superseded versions stay readable.
    pub keep: Keep,
}

/// A volume as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// What it is called.
    pub name: VolumeName,
    /// Its id.
    pub id: VolumeId,
}

impl Store {
    /// Opens the store at `url`, and makes it if there is none:
    ///
    /// - a path or `file:///PATH`: embedded, everything in one directory;
    /// - `etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/ROOT?blobs=URL`: etcd, with blobs in
    ///   `s3://BUCKET/PREFIX` (credentials, region and endpoint from the usual `AWS_...` variables)
    ///   or `file:///PATH`. `etcds://` speaks TLS; `&ca=`, `&cert=` and `&key=` name PEM files.
    ///
    /// # Errors
    /// `Invalid` for a URL that makes no sense, a store of a newer format, or a meta tier that was
    /// restored from a backup; `Unavailable` when a tier does not answer.
    pub async fn open(url: &str) -> Result<Store> {
        Store::open_with(url, StoreOptions::default()).await
    }

    /// As [`Store::open`], with options.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(url: &str, options: StoreOptions) -> Result<Store> {
        let env = Env::system();
        if options.must_exist {
            connect::check_directory(url)?;
        }
        let tiers = connect::connect(url, &env).await?;
        Store::over(tiers, options, env).await
    }

    /// A store over tiers of one's own.
    #[doc(hidden)]
    pub async fn over(tiers: Tiers, options: StoreOptions, env: Env) -> Result<Store> {
        let Tiers { meta, blobs, root, local } = tiers;
        let keys = StoreKeys::new(root);
        if options.must_exist {
            check_made(meta.as_ref(), &keys).await?;
        }
        check_store(meta.as_ref(), &blobs, &keys, &env, local).await?;
        let used_bytes = Arc::new(AtomicU64::new(0));
        let usage = env.spawn(watch_usage(meta.clone(), env.clone(), used_bytes.clone()));
        let shared = Shared {
            locks: Locks::new(meta.clone(), keys.clone(), env.clone()),
            meta,
            blobs,
            keys,
            caches: open_caches(&options, &env).await?,
            env,
            options,
            used_bytes,
            open: Mutex::default(),
            _usage: usage,
        };
        Ok(Store { shared: Arc::new(shared) })
    }

    /// Makes a volume of no pages.
    ///
    /// # Errors
    /// `Invalid` for a bad name, `AlreadyExists`, `Unavailable`.
    pub async fn create_volume(&self, name: &str, options: VolumeOptions) -> Result<Volume> {
        let name = valid(name)?;
        let Shared { meta, keys, env, .. } = self.shared.as_ref();
        let volume = keys.volume(env.volume_id());
        let record = VolumeRecord::new(
            options.page_size,
            options.keep,
            env.wall_ms(),
            HashSecret::new(env.random_bytes()),
        );
        let key = keys.name(&name);
        let id = records::VolumeName { volume: volume.id() }.encode(&key);
        let response = meta.txn(txn::create_volume(key, id, &volume, &record)).await?;
        if !response.succeeded {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("a volume of this name exists: {name}"),
            ));
        }
        self.open_id(name, volume).await
    }

    /// Opens a volume: loads what the meta tier has of it, and watches it from there on.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Corrupt`.
    pub async fn open_volume(&self, name: &str) -> Result<Volume> {
        let name = valid(name)?;
        let keys = self.find(&name).await?;
        self.open_id(name, keys).await
    }

    /// Opens a volume, and makes it first if there is none.
    ///
    /// # Errors
    /// As [`Store::open_volume`] and [`Store::create_volume`].
    pub async fn open_or_create_volume(
        &self,
        name: &str,
        options: VolumeOptions,
    ) -> Result<Volume> {
        match self.open_volume(name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            opened => return opened,
        }
        match self.create_volume(name, options).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.open_volume(name).await,
            created => created,
        }
    }

    /// Asks for the write lock of the volume called `name`, without waiting for it. It is given only if
    /// the volume is as `base` shows it, or, without one, does not exist: so whoever gets it sees what
    /// its last holder wrote.
    ///
    /// # Errors
    /// `Invalid` for a bad name, `Unavailable`.
    pub async fn try_lock(&self, name: &str, base: Option<&Snapshot>) -> Result<TryLock> {
        self.shared.locks.try_lock(&valid(name)?, base).await
    }

    /// True when somebody holds the write lock of the volume called `name`.
    ///
    /// # Errors
    /// As [`Store::try_lock`].
    pub async fn is_locked(&self, name: &str) -> Result<bool> {
        let Shared { meta, keys, .. } = self.shared.as_ref();
        let key = KeyRange::key(keys.write_lock(&valid(name)?));
        Ok(!meta.range(RangeRequest::new(key)).await?.kvs.is_empty())
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn volumes(&self) -> Result<Vec<VolumeInfo>> {
        let Shared { meta, keys, .. } = self.shared.as_ref();
        let scan = scan(meta.as_ref(), &keys.names(), None).await?;
        let mut volumes = Vec::with_capacity(scan.kvs.len());
        for kv in &scan.kvs {
            let name = keys.parse_name(&kv.key).ok_or_else(|| {
                Error::corrupt(kv.key.escape_ascii(), "not the key of a volume name")
            })?;
            volumes.push(VolumeInfo {
                name,
                id: records::VolumeName::decode(&kv.key, &kv.value)?.volume,
            });
        }
        Ok(volumes)
    }

    /// Deletes a volume. From here on its commits, snapshots and reads fail; the compactor removes
    /// what it held.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`; `Invalid` while a branch still reads through to it.
    pub async fn delete_volume(&self, name: &str) -> Result<()> {
        let name = valid(name)?;
        let Shared { meta, keys, .. } = self.shared.as_ref();
        let volume = self.find(&name).await?;
        let metadata = RangeRequest::new(KeyRange::key(volume.metadata()));
        let found = meta.range(metadata.project(Projection::KeysOnly)).await?;
        let created = found.kvs.first().ok_or_else(|| no_such(&name))?.create_revision;
        let response = meta.txn(txn::delete_volume(keys.name(&name), &volume, created)).await?;
        if response.succeeded {
            return Ok(());
        }
        let branch = match response.responses.first() {
            Some(OpResponse::Range(found)) => found.kvs.first(),
            _ => None,
        };
        match branch.and_then(|kv| volume.parse_watched(&kv.key)) {
            Some(WatchedKey::Point(branch)) => Err(Error::invalid(format!(
                "a branch still reads through to the volume; delete it first: {branch}"
            ))),
            _ => Err(no_such(&name)),
        }
    }

    async fn find(&self, name: &VolumeName) -> Result<VolumeKeys> {
        let Shared { meta, keys, .. } = self.shared.as_ref();
        let response = meta.range(RangeRequest::new(KeyRange::key(keys.name(name)))).await?;
        let kv = response.kvs.first().ok_or_else(|| no_such(name))?;
        Ok(keys.volume(records::VolumeName::decode(&kv.key, &kv.value)?.volume))
    }

    async fn open_id(&self, name: VolumeName, keys: VolumeKeys) -> Result<Volume> {
        let id = keys.id();
        let before = self.shared.open().get(&id).and_then(Weak::upgrade);
        let usable = |core: &Arc<Core>| core.mirror.state().is_ok() && !core.session.is_closed();
        if let Some(core) = before.filter(usable) {
            return Ok(Volume::new(name, core));
        }
        let core = Arc::new(self.shared.open_core(&name, keys).await?);
        let mut open = self.shared.open();
        open.retain(|_, core| core.strong_count() > 0);
        open.insert(id, Arc::downgrade(&core));
        Ok(Volume::new(name, core))
    }

    /// The meta tier, for our own crates.
    #[doc(hidden)]
    #[must_use]
    pub fn meta(&self) -> &Arc<dyn MetaStore> {
        &self.shared.meta
    }

    /// The blob tier, for our own crates.
    #[doc(hidden)]
    #[must_use]
    pub fn blobs(&self) -> &BlobStore {
        &self.shared.blobs
    }

    /// The keys of the store, for our own crates.
    #[doc(hidden)]
    #[must_use]
    pub fn keys(&self) -> &StoreKeys {
        &self.shared.keys
    }

    /// Clock and randomness of the store, for our own crates.
    #[doc(hidden)]
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.shared.env
    }
}

async fn open_caches(options: &StoreOptions, env: &Env) -> Result<Caches> {
    let disk = match &options.disk_cache {
        None => None,
        Some(disk) => {
            Some(Arc::new(DiskCache::open(disk.directory.clone(), disk.max_bytes, env).await?))
        }
    };
    Ok(Caches {
        pages: PageCache::new(options.page_cache_bytes),
        indexes: IndexCache::new(options.index_cache_bytes),
        disk,
    })
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<VolumeId, Weak<Core>>> {
        self.open.lock().expect("BUG: nothing panics while it holds the list of open volumes")
    }

    async fn open_core(&self, name: &VolumeName, keys: VolumeKeys) -> Result<Core> {
        let (meta, env) = (self.meta.clone(), self.env.clone());
        let mirror = Arc::new(Mirror::open(meta.clone(), keys.clone(), env.clone()).await?);
        let session =
            Session::open(meta.clone(), keys.clone(), env.clone(), mirror.clone()).await?;
        let state = mirror.state()?;
        let record = state.record.clone();
        let files = FileFetcher::new(keys.id(), &record, self.blobs.clone(), self.caches.clone());
        let reader = Reader {
            meta: meta.clone(),
            keys: keys.clone(),
            env: env.clone(),
            record: record.clone(),
            mirror: mirror.clone(),
            readability: session.readability(),
            files: Arc::new(files),
            pages: self.caches.pages.clone(),
            zeros: Bytes::from(vec![0; record.page_size.bytes()]),
            staged: Default::default(),
        };
        Ok(Core {
            created: state.created,
            lock_key: self.keys.write_lock(name),
            keys,
            record,
            group: Group::new(meta.clone(), env.clone()),
            meta,
            blobs: self.blobs.clone(),
            env,
            mirror,
            session,
            reader,
            limits: Limits {
                staged_budget_bytes: self.options.staged_budget_bytes,
                meta_quota_bytes: self.options.meta_quota_bytes,
            },
            used_bytes: self.used_bytes.clone(),
        })
    }
}

fn valid(name: &str) -> Result<VolumeName> {
    VolumeName::new(name).map_err(Error::invalid)
}

fn no_such(name: &VolumeName) -> Error {
    Error::not_found(format!("no volume of this name: {name}"))
}

async fn check_made(meta: &dyn MetaStore, keys: &StoreKeys) -> Result<()> {
    let found = meta.range(RangeRequest::new(KeyRange::key(keys.store()))).await?;
    if found.kvs.is_empty() {
        return Err(Error::not_found(
            "there is no store in this place; importing or creating a volume makes one",
        ));
    }
    Ok(())
}

/// Makes the store if there is none, else checks that the tiers belong together: that this is the
/// meta tier it was made on, and these are its blobs.
async fn check_store(
    meta: &dyn MetaStore,
    blobs: &BlobStore,
    keys: &StoreKeys,
    env: &Env,
    local: bool,
) -> Result<()> {
    let status = meta.status().await?;
    let key = keys.store();
    let found = meta.range(RangeRequest::new(KeyRange::key(key.clone()))).await?;
    if let Some(kv) = found.kvs.first() {
        return check_record(
            &StoreRecord::decode(&key, &kv.value)?,
            status.cluster_id,
            blobs,
            local,
        );
    }
    blobs.probe_create_only().await?;
    let record = StoreRecord {
        cluster_id: status.cluster_id,
        created_ms: env.wall_ms(),
        blobs: if local { String::new() } else { blobs.place().to_owned() },
    };
    let put = Op::put(key.clone(), record.encode(&key));
    let txn = Txn {
        compares: vec![Compare::absent(key.clone())],
        then: vec![put],
        or_else: vec![Op::get(key.clone())],
    };
    let response = meta.txn(txn).await?;
    if response.succeeded {
        return Ok(());
    }
    let found = meta.range(RangeRequest::new(KeyRange::key(key.clone()))).await?;
    match found.kvs.first() {
        Some(kv) => {
            check_record(&StoreRecord::decode(&key, &kv.value)?, status.cluster_id, blobs, local)
        }
        None => Err(Error::unavailable("the store's record went away while it was opened")),
    }
}

fn check_record(
    record: &StoreRecord,
    cluster_id: u64,
    blobs: &BlobStore,
    local: bool,
) -> Result<()> {
    if record.cluster_id != cluster_id {
        return Err(Error::invalid(format!(
            "this etcd is not the one that the store was made on: it was restored from a backup, or rebuilt; commits \
             since the backup would be lost, and files newer than it deleted. Restore it with \
             `etcdutl snapshot restore --bump-revision 1000000000 --mark-compacted` while \
             nobody uses it, see what is lost with `pagestore-cli store accept-restore`, and accept it by the same with \
             `--yes` (cluster {:016x}, made on {:016x})",
            cluster_id, record.cluster_id
        )));
    }
    if !local && record.blobs != blobs.place() {
        return Err(Error::invalid(format!(
            "the store keeps its blobs elsewhere: {}, not {}",
            record.blobs,
            blobs.place()
        )));
    }
    Ok(())
}

/// Asks the meta tier now and then how full it is, while commits are being made.
async fn watch_usage(meta: Arc<dyn MetaStore>, env: Env, used_bytes: Arc<AtomicU64>) {
    loop {
        if let Ok(status) = meta.status().await {
            used_bytes.store(status.used_bytes, Ordering::Relaxed);
        }
        env.sleep(USAGE_TICK).await;
    }
}
