use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem};
use tempfile::TempDir;

use pagestore::internal::blob::BlobStore;
use pagestore::internal::connect::Tiers;
use pagestore::internal::meta::embedded::EmbeddedStore;
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::internal::meta::{KeyRange, MetaStore, RangeRequest};
use pagestore::internal::mirror;
use pagestore::{CommitId, Env, Revision, VolumeId};

use super::tiers::{FlippedMeta, Wrong};
use super::{Flip, Of};

/// What a volume shows at a revision.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) volume: String,
    pub(super) revision: Revision,
    pub(super) pages: Vec<Bytes>,
}

type Log = Vec<(Revision, CommitId)>;

/// A copy of a frozen store: its meta tier in a directory, its objects in memory.
pub(super) struct Place {
    meta: Arc<dyn MetaStore>,
    wrong: Arc<Mutex<Wrong>>,
    objects: Arc<InMemory>,
    whole: BTreeMap<String, Bytes>,
    values: BTreeMap<Bytes, Bytes>,
    volumes: BTreeMap<VolumeId, String>,
    shown: Vec<Shown>,
    logs: Mutex<BTreeMap<String, &'static Log>>,
    _dir: TempDir,
}

fn in_memory() -> TempDir {
    let made = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
    made.expect("a directory for the meta tier")
}

impl Place {
    pub(super) async fn open(frozen: &FilePath) -> Place {
        let dir = in_memory();
        let meta_dir = dir.path().join("meta");
        std::fs::create_dir(&meta_dir).expect("a directory for the meta tier");
        std::fs::copy(frozen.join("embedded/meta/data.mdb"), meta_dir.join("data.mdb"))
            .expect("the frozen store is there");
        let meta: Arc<dyn MetaStore> =
            EmbeddedStore::open(&meta_dir, &Env::system()).expect("it can be opened");
        let objects = Arc::new(InMemory::new());
        let whole = load_objects(&frozen.join("embedded/blobs"), &objects).await;
        let keys = StoreKeys::new("");
        let everything = KeyRange::span("\0", vec![0xff; 16]);
        let found = mirror::scan(meta.as_ref(), &everything, None).await.expect("all values");
        let values: BTreeMap<Bytes, Bytes> =
            found.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect();
        let named = values.iter().filter_map(|(key, value)| {
            let id: [u8; 8] = value.get(1..9)?.try_into().ok()?;
            Some((VolumeId(u64::from_be_bytes(id)), keys.parse_name(key)?.to_string()))
        });
        let volumes = named.collect();
        let shown = read_shown(frozen);
        let logs = Mutex::default();
        let wrong = Arc::default();
        Place { meta, wrong, objects, whole, values, volumes, shown, logs, _dir: dir }
    }

    pub(super) fn tiers(&self) -> Tiers {
        let meta = FlippedMeta { inner: self.meta.clone(), wrong: self.wrong.clone() };
        let blobs = BlobStore::new(self.objects.clone(), "memory", Env::system());
        Tiers { meta: Arc::new(meta), blobs, root: Bytes::new(), local: true }
    }

    pub(super) fn volumes(&self) -> impl Iterator<Item = &str> {
        self.volumes.values().map(String::as_str)
    }

    pub(super) fn shown<'a>(
        &'a self,
        volume: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a Shown> {
        self.shown.iter().filter(move |shown| shown.volume == volume)
    }

    /// The log of a volume as it was read first.
    pub(super) fn log(&self, volume: &str) -> Option<&'static Log> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).get(volume).copied()
    }

    pub(super) fn set_log(&self, volume: &str, log: Log) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        // One a volume, for as long as the process lives.
        logs.entry(volume.to_owned()).or_insert_with(|| Box::leak(Box::new(log)));
    }

    /// All bytes of all objects and values.
    pub(super) async fn bytes(&self) -> Vec<(Of, usize)> {
        let objects =
            self.whole.iter().map(|(name, bytes)| (Of::Object(name.clone()), bytes.len()));
        let values = self.values.iter().map(|(key, value)| (Of::Value(key.clone()), value.len()));
        let all = objects.chain(values);
        all.flat_map(|(of, length)| (0..length).map(move |at| (of.clone(), at))).collect()
    }

    /// The volume that has it; any, of what is the store's.
    pub(super) fn volume_of(&self, of: &Of) -> &str {
        let has = |id: &VolumeId, name: &str| match of {
            Of::Object(path) => path.starts_with(&format!("{id}/")),
            Of::Value(key) => {
                let keys = StoreKeys::new("");
                let by_name = keys.parse_name(key).is_some_and(|of| of.as_str() == name);
                by_name || keys.volume(*id).everything().contains(key)
            }
        };
        let found = self.volumes.iter().find(|(id, name)| has(id, name));
        found.or_else(|| self.volumes.first_key_value()).map_or("", |(_, name)| name)
    }

    /// What an error may call it.
    pub(super) fn names(&self, of: &Of) -> Vec<String> {
        match of {
            // Volume, revision and file id.
            Of::Object(path) => {
                let (_, name) = path.split_once('-').unwrap_or_default();
                vec![name.trim_end_matches(".pages").to_owned()]
            }
            Of::Value(key) => {
                let whole = key.escape_ascii().to_string();
                let volume = self.volumes.keys().map(|id| StoreKeys::new("").volume(*id));
                let volume = volume.into_iter().find(|keys| keys.everything().contains(key));
                let Some(keys) = volume else { return vec![whole] };
                let suffix = keys.suffix(key);
                let mut names = vec![whole, suffix.escape_ascii().to_string()];
                if let Some((hash, _)) = keys.parse_staged(key) {
                    names.push(hash.to_string());
                }
                names
            }
        }
    }

    pub(super) async fn set(&self, flip: &Flip) {
        match &flip.of {
            Of::Object(path) => self.put(path, wrong(&self.whole[path], flip)).await,
            Of::Value(key) => {
                self.read_as(Some((key.clone(), wrong(&self.values[key], flip))));
            }
        }
    }

    pub(super) async fn unset(&self, flip: &Flip) {
        match &flip.of {
            Of::Object(path) => self.put(path, self.whole[path].clone()).await,
            Of::Value(_) => self.read_as(None),
        }
    }

    fn read_as(&self, wrong: Wrong) {
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = wrong;
    }

    async fn put(&self, path: &str, bytes: Bytes) {
        let put = self.objects.put(&Path::from(path), bytes.into()).await;
        put.expect("BUG: memory refuses an object");
    }

    /// Forgets the sessions that came and went.
    pub(super) async fn forget_history(&self) {
        let request = RangeRequest::new(KeyRange::key("none"));
        let now = self.meta.range(request).await.expect("the meta tier answers").revision;
        // There may be nothing new.
        let _ = self.meta.compact(now).await;
    }
}

fn wrong(bytes: &Bytes, flip: &Flip) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[flip.at] ^= flip.mask;
    bytes.into()
}

async fn load_objects(dir: &FilePath, objects: &InMemory) -> BTreeMap<String, Bytes> {
    let frozen = LocalFileSystem::new_with_prefix(dir).expect("the frozen objects are there");
    let listed: Vec<_> = frozen.list(None).try_collect().await.expect("a listing");
    let mut whole = BTreeMap::new();
    for found in listed {
        let bytes = frozen.get(&found.location).await.expect("an object");
        let bytes = bytes.bytes().await.expect("an object");
        objects.put(&found.location, bytes.clone().into()).await.expect("memory takes it");
        whole.insert(found.location.to_string(), bytes);
    }
    whole
}

/// What `tests/src/frozen/expected.rs` says.
fn read_shown(frozen: &FilePath) -> Vec<Shown> {
    let read = |name| std::fs::read(frozen.join(name)).expect("the frozen store is there");
    let contents = Bytes::from(read("contents"));
    let text = String::from_utf8(read("embedded.pages")).expect("a text");
    let line = |line: &str| {
        let mut words = line.split(' ');
        let volume = words.next()?.to_owned();
        let revision = Revision(words.next()?.parse().ok()?);
        let content = |number: &str| {
            let at = number.parse::<usize>().ok()? * super::PAGE_BYTES;
            Some(contents.slice(at..at + super::PAGE_BYTES))
        };
        Some(Shown { volume, revision, pages: words.map(content).collect::<Option<_>>()? })
    };
    text.lines().map(|text| line(text).expect("a line of what is shown")).collect()
}
