//! What every volume holds at every revision, by the changelog entries that etcd applied, and whether
//! what the clients saw and were told agrees with it.
//!
//! The order of commits is that of revisions. A commit is right when nothing that it read or wrote had
//! changed since its base: then the history is the same as that of one commit after the other. It also is
//! in the order of real time, because a snapshot must not be older than what was applied before it was
//! asked for. Nothing is sampled.

mod counts;
mod observe;
mod told;
mod volume;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pagestore::internal::blob::ObjectName;
use pagestore::internal::levels::Levels;
use pagestore::internal::meta::keys::{StoreKeys, VolumeKeys};
use pagestore::internal::types::{CommitId, FileId, VolumeId};
use xxhash_rust::xxh3::xxh3_64;

pub use counts::Counts;
use volume::at;

/// Marks the ids that the simulation's clients make.
pub const ID_MARK: u8 = 0xc5;

/// The transaction in a commit's id.
#[must_use]
pub fn tag_of(id: CommitId) -> Option<u32> {
    let bytes = id.bytes();
    let tag = u32::from_be_bytes(bytes[12..16].try_into().expect("four bytes"));
    (bytes[9] == ID_MARK && tag > 0).then_some(tag)
}

/// Names a page's content.
#[must_use]
pub fn digest(content: &[u8]) -> u64 {
    if content.iter().all(|byte| *byte == 0) { 0 } else { xxh3_64(content).max(1) }
}

/// What one transaction did to one volume.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The revision that it read.
    pub base: u64,
    /// The page count there.
    pub base_count: u64,
    /// True when it depends on that count.
    pub asks_count: bool,
    /// Pages that it read, with the revision up to which a change is the same to it.
    pub reads: BTreeMap<u64, u64>,
    /// The lowest page count it went through, when that is below the base's.
    pub lowest: Option<u64>,
    /// The page count afterwards, when it ever changed.
    pub last_count: Option<u64>,
    /// Pages that it writes, with the digests of their contents.
    pub writes: BTreeMap<u64, u64>,
    /// What it has to do with the volume's write lock.
    pub lock: LockUse,
}

/// What a commit has to do with a write lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LockUse {
    /// Nothing.
    #[default]
    None,
    /// It is its holder's, who got it at this revision.
    Held(Bytes, u64),
    /// It must not happen while anybody holds it.
    Respected(Bytes),
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Committed(u64),
    Failed,
}

/// A transaction.
#[derive(Clone, Debug)]
struct Intent {
    parts: BTreeMap<VolumeId, Part>,
    begun_at: u64,
    told: Told,
    happened: Option<(u64, CommitId)>,
}

/// One volume.
struct VolumeModel {
    keys: VolumeKeys,
    created: u64,
    deleted: bool,
    head: u64,
    /// Changes of each page: revision, digest.
    pages: BTreeMap<u64, Vec<(u64, u64)>>,
    /// When each page was last written, changed or not.
    touched: BTreeMap<u64, u64>,
    /// Truncations: revision, lowest count.
    truncations: Vec<(u64, u64)>,
    /// Changes of the page count.
    counts: Vec<(u64, u64)>,
    /// When the count was last put.
    count_put: u64,
    /// Everything below may be gone.
    oldest: u64,
    levels: Levels,
    dropped: BTreeSet<FileId>,
    /// When each file was last listed, or pointed into by one that was.
    needed_until: BTreeMap<FileId, u64>,
    /// What sessions say of the level lists they read by: since when, and which.
    level_lists: BTreeMap<Bytes, (u64, u64)>,
    /// Keys by which sessions hold revisions.
    holds: BTreeSet<Bytes>,
    floor: u64,
    commits: u64,
}

/// True when the object is there.
pub type ObjectCheck = Box<dyn Fn(&ObjectName) -> bool + Send>;

/// The model of a store.
pub struct Model {
    store: StoreKeys,
    object_is_there: ObjectCheck,
    volumes: BTreeMap<VolumeId, VolumeModel>,
    intents: Vec<Intent>,
    violations: Vec<String>,
    revision: u64,
    /// The objects that there are.
    objects: BTreeSet<String>,
    /// Who holds which write lock: its key, and when it was taken.
    locks: BTreeMap<Bytes, u64>,
    /// True while an older state of the store is shown.
    blind: bool,
    /// What was counted.
    pub counts: Counts,
}

impl LockUse {
    fn key(&self) -> &[u8] {
        match self {
            LockUse::None => &[],
            LockUse::Held(key, _) | LockUse::Respected(key) => key,
        }
    }

    /// May a commit happen while the lock is `held` since then, or by nobody?
    fn allows(&self, held: Option<u64>) -> bool {
        match self {
            LockUse::None => true,
            LockUse::Held(_, created) => held == Some(*created),
            LockUse::Respected(_) => held.is_none(),
        }
    }
}

impl Model {
    /// Of an empty store.
    #[must_use]
    pub fn new(store: StoreKeys, object_is_there: ObjectCheck) -> Model {
        Model {
            store,
            object_is_there,
            volumes: BTreeMap::new(),
            intents: Vec::new(),
            violations: Vec::new(),
            revision: 1,
            objects: BTreeSet::new(),
            locks: BTreeMap::new(),
            blind: false,
            counts: Counts::default(),
        }
    }

    /// Adds to what is wrong.
    pub fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into().replace('\n', " "));
    }

    /// What is wrong.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Looks away while an older state of the store is shown.
    pub fn set_blind(&mut self, blind: bool) {
        self.blind = blind;
    }

    /// A transaction is about to be committed; its tag.
    pub fn intend(&mut self, parts: BTreeMap<VolumeId, Part>) -> u32 {
        let begun_at = self.revision;
        self.intents.push(Intent { parts, begun_at, told: Told::Nothing, happened: None });
        self.intents.len() as u32
    }

    fn volume(&mut self, id: VolumeId) -> &mut VolumeModel {
        self.volumes.get_mut(&id).expect("BUG: the volume is known")
    }

    fn volume_of(&self, key: &[u8]) -> Option<(VolumeId, VolumeKeys)> {
        let all = self.store.volumes();
        let rest = key.strip_prefix(all.start.as_ref())?;
        let id = VolumeId(u64::from_be_bytes(*rest.first_chunk::<8>()?));
        let known = self.volumes.get(&id).map(|volume| volume.keys.clone());
        Some((id, known.unwrap_or_else(|| self.store.volume(id))))
    }

    /// Commits of which clients heard that they happened, of this volume alone: base, id and revision.
    #[must_use]
    pub fn acknowledged(&self, id: VolumeId) -> Vec<(u64, CommitId, u64)> {
        let told = self
            .intents
            .iter()
            .filter(|intent| matches!(intent.told, Told::Committed(_)) && intent.parts.len() == 1);
        let commits = told.filter_map(|intent| {
            let (at, commit) = intent.happened?;
            Some((intent.parts.get(&id)?.base, commit, at))
        });
        commits.collect()
    }

    /// The newest commit of a volume, and what was applied last of all.
    #[must_use]
    pub fn head(&self, id: VolumeId) -> u64 {
        self.volumes.get(&id).map_or(0, |volume| volume.head)
    }

    /// True once the volume was deleted.
    #[must_use]
    pub fn is_deleted(&self, id: VolumeId) -> bool {
        self.volumes.get(&id).is_none_or(|volume| volume.deleted)
    }

    /// The oldest revision that is kept of a volume.
    #[must_use]
    pub fn oldest(&self, id: VolumeId) -> u64 {
        self.volumes.get(&id).map_or(0, |volume| volume.oldest)
    }

    /// When the volume was made.
    #[must_use]
    pub fn created(&self, id: VolumeId) -> u64 {
        self.volumes.get(&id).map_or(0, |volume| volume.created)
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Pages of a volume at a revision.
    #[must_use]
    pub fn page_count(&self, id: VolumeId, revision: u64) -> u64 {
        self.volumes.get(&id).map_or(0, |volume| at(&volume.counts, revision))
    }

    /// True when everything of the volume is in files.
    #[must_use]
    pub fn is_flushed(&self, id: VolumeId) -> bool {
        self.volumes.get(&id).is_none_or(|volume| {
            volume.deleted || volume.floor >= volume.head || volume.commits == 0
        })
    }

    /// All volumes there ever were, and which of them were deleted.
    #[must_use]
    pub fn volumes(&self) -> Vec<(VolumeId, bool)> {
        self.volumes.iter().map(|(id, volume)| (*id, volume.deleted)).collect()
    }

    /// Dropped files that no listed one points into.
    #[must_use]
    pub fn dropped_for_good(&self, id: VolumeId) -> usize {
        let Some(volume) = self.volumes.get(&id) else { return 0 };
        let listed = volume.levels.files().flat_map(|entry| &entry.refs);
        let needed: BTreeSet<FileId> = listed.map(|to| to.id).collect();
        volume.dropped.difference(&needed).count()
    }

    /// Files that are listed or dropped.
    #[must_use]
    pub fn known_files(&self) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        for volume in self.volumes.values().filter(|volume| !volume.deleted) {
            known.extend(volume.levels.files().map(|entry| entry.id.to_string()));
            known.extend(volume.dropped.iter().map(ToString::to_string));
        }
        known
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model(at {})", self.revision)
    }
}
