//! A process of the simulation: its clock, its randomness, its way to the tiers.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pagestore::internal::blob::BlobStore;
use pagestore::internal::connect::Tiers;
use pagestore::internal::env::{Executor, Source};
use pagestore::internal::file::FileEntry;
use pagestore::internal::meta::keys::{StoreKeys, VolumeKeys, WatchedKey};
use pagestore::internal::meta::records::{ChangelogEntry, Floor, Oldest, PageCountRecord, Record};
use pagestore::internal::meta::{Event, KeyValue};
use pagestore::{Env, Result, Store, StoreOptions, VolumeId};

use crate::disk::Disks;
use crate::etcd::Etcd;
use crate::exec::{ProcessId, ProcessWorld, WORLD, World, unpoisoned};
use crate::link::{Link, Sky};
use crate::model::{ID_MARK, Model, tag_of};
use crate::objects::Bucket;

/// What all keys of the store begin with.
pub const ROOT: &str = "sim/";
/// Where the blobs are, for people.
const PLACE: &str = "simulated:";
/// When the world begins, in milliseconds since the Unix epoch.
pub const EPOCH_MS: u64 = 1_700_000_000_000;
/// Random bytes of an id.
const ID_BYTES: usize = 10;

/// Everything that processes share; clone it freely.
#[derive(Clone, Debug)]
pub struct Site {
    /// The executor.
    pub world: World,
    /// The weather.
    pub sky: Sky,
    /// The meta tier.
    pub etcd: Etcd,
    /// The blob tier.
    pub bucket: Bucket,
    /// The machines' disks.
    pub disks: Disks,
    model: Arc<Mutex<Model>>,
}

impl Site {
    /// A world with servers and nothing stored.
    #[must_use]
    pub fn new(seed: u64, logs: bool) -> Site {
        let (world, sky) = (World::new(seed), Sky::new(logs));
        let etcd = Etcd::new(Env::new(Clock::new(&world, WORLD, 0)));
        let model: Arc<Mutex<Option<Arc<Mutex<Model>>>>> = Arc::default();
        let told = model.clone();
        let bucket = Bucket::new(Arc::new(move |path, is_put| {
            let model = told.lock().unwrap().clone().expect("BUG: there is a model");
            let mut model = model.lock().unwrap();
            match is_put {
                true => model.observe_put(path.as_ref()),
                false => model.observe_deletion(path.as_ref()),
            }
        }));
        let objects = bucket.objects().clone();
        let is_there = move |name: &pagestore::internal::blob::ObjectName| {
            use object_store::ObjectStoreExt;
            futures::executor::block_on(objects.head(&name.to_string().into())).is_ok()
        };
        let own = Arc::new(Mutex::new(Model::new(StoreKeys::new(ROOT), Box::new(is_there))));
        *model.lock().unwrap() = Some(own.clone());
        let (observing, ended, of, log_world) =
            (own.clone(), sky.clone(), sky.clone(), world.clone());
        etcd.observe(
            Box::new(move |revision, events| {
                of.log(&log_world, || format!("revision {revision}: {}", show(events)));
                observing.lock().unwrap().observe(revision, events);
            }),
            Box::new(move |lease| ended.lease_ended(lease)),
        );
        Site { world, sky, etcd, bucket, disks: Disks::default(), model: own }
    }

    /// The model.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        unpoisoned(&self.model)
    }

    /// A new process, whose clock is wrong by so much.
    #[must_use]
    pub fn start(&self, skew_ms: i64) -> Process {
        let id = self.world.add_process();
        let link = Link::new(self.world.clone(), id, self.sky.clone());
        let env = Env::new(Clock::new(&self.world, id, skew_ms));
        Process { site: self.clone(), id, link, env }
    }
}

/// What changed, for people.
fn show(events: &[Event]) -> String {
    let keys = StoreKeys::new(ROOT);
    let volumes = keys.volumes().start;
    let mut text = String::new();
    for event in events {
        let key = event.key();
        let rest = key.strip_prefix(volumes.as_ref()).and_then(|rest| rest.split_at_checked(8));
        let Some((id, rest)) = rest else {
            text.push_str(&format!(" {}", key.escape_ascii()));
            continue;
        };
        let id = VolumeId(u64::from_be_bytes(id.try_into().expect("eight bytes")));
        let volume = keys.volume(id);
        let what = show_key(&volume, key).unwrap_or_else(|| rest.escape_ascii().to_string());
        match event {
            Event::Put(kv) => {
                text.push_str(&format!("\n    put {what}{}", show_value(&volume, kv)))
            }
            Event::Delete { .. } => text.push_str(&format!("\n    delete {what}")),
        }
    }
    text
}

fn show_key(keys: &VolumeKeys, key: &[u8]) -> Option<String> {
    if let Some((hash, base)) = keys.parse_staged(key) {
        return Some(format!("staged {hash} on {base:?}"));
    }
    if let Some(page) = keys.parse_pointer(key) {
        return Some(format!("pointer of page {page}"));
    }
    if let Some(file) = keys.parse_intent(key) {
        return Some(format!("intent of {file}"));
    }
    Some(match keys.parse_watched(key)? {
        WatchedKey::File(place) => {
            format!("file {} in level {}", place.file, place.level)
        }
        WatchedKey::Commit(id) => match tag_of(id) {
            Some(tag) => format!("transaction {tag}"),
            None => format!("commit {id}"),
        },
        other => format!("{other:?}"),
    })
}

fn show_value(keys: &VolumeKeys, kv: &KeyValue) -> String {
    match keys.parse_watched(&kv.key) {
        Some(WatchedKey::Commit(_)) => match ChangelogEntry::of(keys, kv) {
            Ok(ChangelogEntry::Committed(commit)) => {
                let pages: Vec<u64> = commit.pages.iter().map(|change| change.page.0).collect();
                format!(
                    ": on {}, pages {pages:?}, files {:?}, size {:?}",
                    commit.base, commit.files, commit.size
                )
            }
            other => format!(": {other:?}"),
        },
        Some(WatchedKey::File(place)) => {
            match FileEntry::decode(place, keys.suffix(&kv.key), &kv.value, kv.mod_revision) {
                Ok(entry) => format!(
                    ": pages {} to {}, revisions {} to {}, {} versions, {:?}, {:?}",
                    entry.first,
                    entry.last,
                    entry.oldest,
                    entry.newest,
                    entry.version_count,
                    entry.origin,
                    entry.truncation
                ),
                Err(error) => format!(": {error}"),
            }
        }
        Some(WatchedKey::Floor) => format!(": {:?}", Floor::of(keys, kv)),
        Some(WatchedKey::Oldest) => format!(": {:?}", Oldest::of(keys, kv)),
        Some(WatchedKey::PageCount) => format!(": {:?}", PageCountRecord::of(keys, kv)),
        _ => String::new(),
    }
}

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Where it lives.
    pub site: Site,
    /// Its name.
    pub id: ProcessId,
    /// Its way to the tiers.
    pub link: Link,
    /// Its clock and randomness.
    pub env: Env,
}

impl Process {
    /// Runs a task in the process.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.site.world.spawn_in(self.id, task);
    }

    /// Waits.
    pub async fn sleep_ms(&self, ms: u64) {
        self.env.sleep(Duration::from_millis(ms)).await;
    }

    fn blobs(&self) -> BlobStore {
        let objects = self.site.bucket.client(self.link.clone());
        BlobStore::new(objects, PLACE, self.env.clone())
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open(&self, options: StoreOptions) -> Result<Store> {
        let tiers = Tiers {
            meta: self.site.etcd.client(Some(self.link.clone())),
            blobs: self.blobs(),
            root: ROOT.into(),
            local: false,
        };
        Store::over(tiers, options, self.env.clone()).await
    }
}

/// A process's clock and randomness.
struct Clock {
    world: World,
    own: ProcessWorld,
    skew_ms: i64,
}

impl Clock {
    fn new(world: &World, process: ProcessId, skew_ms: i64) -> Clock {
        Clock { world: world.clone(), own: world.of(process), skew_ms }
    }
}

impl Source for Clock {
    fn wall_ms(&self) -> u64 {
        (EPOCH_MS + self.world.now_us() / 1_000).saturating_add_signed(self.skew_ms)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.world.draw(|random| random.fill(bytes));
        if bytes.len() == ID_BYTES {
            // The tag of the transaction under way goes into every id that it makes.
            let tag = self.world.tag();
            bytes[3] = if tag > 0 { ID_MARK } else { 0 };
            bytes[6..].copy_from_slice(&tag.to_be_bytes());
        }
    }

    fn boot_ms(&self) -> u64 {
        self.world.now_us() / 1_000
    }

    fn boot_id(&self) -> String {
        "simulated".into()
    }

    fn executor(&self) -> Option<&dyn Executor> {
        Some(&self.own)
    }
}
