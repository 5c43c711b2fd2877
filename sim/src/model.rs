//! What every volume holds at every revision, by the changelog entries that etcd applied, and whether
//! what the clients saw and were told agrees with it.
//!
//! The order of commits is that of revisions. A commit is right when nothing that it read or wrote had
//! changed since its base: then the history is the same as that of one commit after the other. It also is
//! in the order of real time, because a snapshot must not be older than what was applied before it was
//! asked for. Nothing is sampled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use pagestore::internal::blob::ObjectName;
use pagestore::internal::file::FileEntry;
use pagestore::internal::levels::{Edit, Levels};
use pagestore::internal::meta::keys::{SENTINEL_SESSION, StoreKeys, VolumeKeys, WatchedKey};
use pagestore::internal::meta::records::{ChangelogEntry, Commit, Oldest, Record, decode_pin};
use pagestore::internal::meta::{Event, KeyRange, KeyValue};
use pagestore::internal::types::{CommitId, FileId, Revision, VolumeId};
use xxhash_rust::xxh3::xxh3_64;

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

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commits that happened.
    pub commits: u64,
    /// Of these, commits as files.
    pub bulk_commits: u64,
    /// Pages read.
    pub reads: u64,
    /// Snapshots opened.
    pub snapshots: u64,
    /// Transactions that conflicted.
    pub conflicts: u64,
    /// Outcomes that were unknown at first.
    pub unknown: u64,
    /// Transactions that failed otherwise.
    pub failed: u64,
    /// Files published.
    pub files: u64,
    /// Objects deleted.
    pub deletions: u64,
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

impl Counts {
    /// Operations of clients.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.commits + self.reads + self.snapshots + self.conflicts + self.failed
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Counts) -> Counts {
        let (mut sum, other) = (self.to_array(), other.to_array());
        sum.iter_mut().zip(other).for_each(|(sum, more)| *sum += more);
        Counts::from_array(sum)
    }

    /// As numbers.
    #[must_use]
    pub fn to_array(self) -> [u64; 9] {
        [
            self.commits,
            self.bulk_commits,
            self.reads,
            self.snapshots,
            self.conflicts,
            self.unknown,
            self.failed,
            self.files,
            self.deletions,
        ]
    }

    /// What [`Counts::to_array`] gave.
    #[must_use]
    pub fn from_array(numbers: [u64; 9]) -> Counts {
        let [commits, bulk_commits, reads, snapshots, conflicts, unknown, failed, files, deletions] =
            numbers;
        Counts {
            commits,
            bulk_commits,
            reads,
            snapshots,
            conflicts,
            unknown,
            failed,
            files,
            deletions,
        }
    }
}

fn at<T: Copy + Default>(changes: &[(u64, T)], revision: u64) -> T {
    let count = changes.partition_point(|(at, _)| *at <= revision);
    count.checked_sub(1).map_or_else(T::default, |last| changes[last].1)
}

impl VolumeModel {
    fn new(keys: VolumeKeys, created: u64) -> VolumeModel {
        VolumeModel {
            keys,
            created,
            deleted: false,
            head: created,
            pages: BTreeMap::new(),
            touched: BTreeMap::new(),
            truncations: Vec::new(),
            counts: vec![(created, 0)],
            count_put: created,
            oldest: 0,
            levels: Levels::default(),
            dropped: BTreeSet::new(),
            needed_until: BTreeMap::new(),
            level_lists: BTreeMap::new(),
            holds: BTreeSet::new(),
            floor: 0,
            commits: 0,
        }
    }

    fn digest_at(&self, page: u64, revision: u64) -> u64 {
        self.pages.get(&page).map_or(0, |changes| at(changes, revision))
    }

    fn changed(&self, page: u64) -> u64 {
        self.pages.get(&page).and_then(|changes| changes.last()).map_or(0, |(at, _)| *at)
    }

    /// Why this commit must not have happened.
    fn objection(&self, part: &Part, commit: &Commit) -> Option<String> {
        if commit.base.0 < part.base {
            return Some(format!("on {}, but it read {}", commit.base, part.base));
        }
        let written = part.writes.keys().map(|page| (*page, 0));
        for (page, tolerated) in part.reads.iter().map(|(page, at)| (*page, *at)).chain(written) {
            let changed = self.changed(page);
            if changed > part.base.max(tolerated) {
                return Some(format!(
                    "page {page} changed at {changed}, after its base {}",
                    part.base
                ));
            }
        }
        let counted = self.counts.last().map_or(0, |(at, _)| *at);
        if (part.asks_count || part.last_count.is_some()) && counted > part.base {
            return Some(format!("the page count changed at {counted}, after {}", part.base));
        }
        let size = commit.size.map(|size| (size.lowest.map(|count| count.0), size.last.0));
        // A count that grew and is as it was again may count as left alone.
        let as_before = part.lowest.is_none() && part.last_count == Some(part.base_count);
        let is_right = size == part.last_count.map(|last| (part.lowest, last));
        if !(is_right || as_before && size.is_none()) {
            return Some(format!("its page count is {size:?}, not {:?}", part.last_count));
        }
        if commit.files.is_empty() {
            let staged: BTreeSet<u64> = commit.pages.iter().map(|change| change.page.0).collect();
            if let Some(page) = staged.iter().find(|page| !part.writes.contains_key(*page)) {
                return Some(format!("it wrote page {page}, which it was not asked to"));
            }
            for (page, digest) in &part.writes {
                let cut = part.lowest.is_some_and(|lowest| *page >= lowest);
                let before = if cut { 0 } else { self.digest_at(*page, u64::MAX) };
                if before != *digest && !staged.contains(page) {
                    return Some(format!("page {page} is missing from it"));
                }
            }
        } else if commit.bulk_page_count != part.writes.len() as u64 {
            return Some(format!("its files have {} pages", commit.bulk_page_count));
        }
        None
    }

    /// Does neither write what the other reads or writes?
    fn is_disjoint(&self, a: &Part, b: &Part) -> bool {
        let one_way = |a: &Part, b: &Part| {
            let count = |part: &Part| part.asks_count || part.last_count.is_some();
            let changes = |page: &u64, digest: &u64| self.digest_at(*page, u64::MAX) != *digest;
            (a.last_count.is_some() && count(b))
                || a.writes.iter().any(|(page, digest)| {
                    changes(page, digest)
                        && (b.reads.contains_key(page) || b.writes.contains_key(page))
                })
        };
        !one_way(a, b) && !one_way(b, a)
    }

    fn apply(&mut self, revision: u64, part: &Part, bulk: bool) {
        self.head = revision;
        self.commits += 1;
        if let Some(lowest) = part.lowest {
            self.truncations.push((revision, lowest));
            for (_, changes) in self.pages.range_mut(lowest..) {
                set(changes, revision, 0);
            }
        }
        for (page, digest) in &part.writes {
            let changes = self.pages.entry(*page).or_default();
            let before = changes.last().map_or(0, |(_, digest)| *digest);
            set(changes, revision, *digest);
            if bulk || before != *digest {
                self.touched.insert(*page, revision);
            }
        }
        if let Some(last) = part.last_count {
            self.count_put = revision;
            if self.counts.last().is_some_and(|(_, count)| *count != last) {
                self.counts.push((revision, last));
            }
        }
    }
}

/// The file itself and those that its index points into.
fn files_of(entry: &FileEntry) -> impl Iterator<Item = FileId> {
    entry.refs.iter().map(|to| to.id).chain([entry.id])
}

/// Notes a page's content from `revision` on, if it is another one.
fn set(changes: &mut Vec<(u64, u64)>, revision: u64, digest: u64) {
    if changes.last().is_some_and(|(at, _)| *at == revision) {
        changes.pop();
    }
    if changes.last().map_or(0, |(_, digest)| *digest) != digest {
        changes.push((revision, digest));
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

    /// Etcd has applied something.
    pub fn observe(&mut self, revision: Revision, events: &[Event]) {
        if self.blind {
            return;
        }
        self.revision = revision.0;
        let mut commits: BTreeMap<VolumeId, Vec<(CommitId, Commit)>> = BTreeMap::new();
        let mut edits: BTreeMap<VolumeId, Vec<Edit>> = BTreeMap::new();
        let mut heads = BTreeSet::new();
        let mut locks = self.locks.clone();
        for event in events {
            let Some((id, keys)) = self.volume_of(event.key()) else {
                match event {
                    Event::Put(kv) => locks.insert(kv.key.clone(), kv.create_revision.0),
                    Event::Delete { key, .. } => locks.remove(key),
                };
                continue;
            };
            match (keys.parse_watched(event.key()), event) {
                (Some(WatchedKey::Metadata), Event::Put(kv)) => {
                    let volume = VolumeModel::new(keys, kv.create_revision.0);
                    self.volumes.insert(id, volume);
                }
                (Some(WatchedKey::Metadata), Event::Delete { .. }) => {
                    self.volume(id).deleted = true;
                }
                (Some(WatchedKey::Commit(commit)), Event::Put(kv)) => {
                    match ChangelogEntry::of(&keys, kv) {
                        Ok(ChangelogEntry::Committed(entry)) => {
                            commits.entry(id).or_default().push((commit, entry));
                        }
                        Ok(ChangelogEntry::Aborted) => {}
                        Err(error) => self.violate(format!("a changelog entry: {error}")),
                    }
                }
                (Some(WatchedKey::Head), Event::Put(_)) => {
                    heads.insert(id);
                }
                (Some(key), event) => self.observe_other(id, &keys, key, event, &mut edits),
                (None, event) => self.observe_session(id, &keys, event),
            }
        }
        self.check_commits(revision.0, &commits, &heads);
        self.locks = locks;
        for (id, edits) in edits {
            self.check_levels(id, revision, &edits);
        }
    }

    fn observe_other(
        &mut self,
        id: VolumeId,
        keys: &VolumeKeys,
        key: WatchedKey,
        event: &Event,
        edits: &mut BTreeMap<VolumeId, Vec<Edit>>,
    ) {
        if !self.volumes.contains_key(&id) {
            return;
        }
        match (key, event) {
            (WatchedKey::File(place), Event::Put(kv)) => {
                match FileEntry::decode(place, keys.suffix(&kv.key), &kv.value, kv.mod_revision) {
                    Ok(entry) => edits.entry(id).or_default().push(Edit::Put(Arc::new(entry))),
                    Err(error) => self.violate(format!("a file's entry: {error}")),
                }
            }
            (WatchedKey::File(place), Event::Delete { .. }) => {
                let edit = Edit::Remove { level: place.level, file: place.file };
                edits.entry(id).or_default().push(edit);
            }
            (WatchedKey::Dropped(file), Event::Put(_)) => {
                self.volume(id).dropped.insert(file);
            }
            (WatchedKey::Dropped(file), Event::Delete { .. }) => {
                self.volume(id).dropped.remove(&file);
            }
            (WatchedKey::Oldest, Event::Delete { .. }) => self.observe_erasure(id),
            (WatchedKey::Oldest, Event::Put(kv)) => self.observe_oldest(id, keys, kv),
            (WatchedKey::Floor, Event::Put(kv)) => {
                let floor = pagestore::internal::meta::records::Floor::of(keys, kv);
                match floor {
                    Ok(floor) if floor.up_to.0 >= self.volume(id).floor => {
                        self.volume(id).floor = floor.up_to.0;
                    }
                    floor => self.violate(format!("the floor sank: {floor:?}")),
                }
            }
            _ => {}
        }
    }

    /// Notes what sessions hold, and by which lists they read.
    fn observe_session(&mut self, id: VolumeId, keys: &VolumeKeys, event: &Event) {
        let Some(volume) = self.volumes.get_mut(&id) else { return };
        let key = event.key();
        let is_in =
            |range: KeyRange| *key >= *range.start && range.end.is_some_and(|end| *key < *end);
        if is_in(keys.level_lists()) {
            let Event::Put(kv) = event else {
                volume.level_lists.remove(key);
                return;
            };
            let list = decode_pin(keys, kv).map_or(0, |list| list.0);
            volume.level_lists.insert(kv.key.clone(), (kv.create_revision.0, list));
        } else if is_in(keys.pins()) || is_in(keys.holds()) {
            match event {
                Event::Put(kv) if *key != keys.pin(SENTINEL_SESSION) => {
                    volume.holds.insert(kv.key.clone());
                }
                Event::Put(_) => {}
                Event::Delete { .. } => drop(volume.holds.remove(key)),
            }
        }
    }

    fn observe_oldest(&mut self, id: VolumeId, keys: &VolumeKeys, kv: &KeyValue) {
        match Oldest::of(keys, kv) {
            Ok(oldest) if oldest.readable.0 >= self.volume(id).oldest => {
                self.volume(id).oldest = oldest.readable.0;
            }
            oldest => self.violate(format!("the oldest revision sank: {oldest:?}")),
        }
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

    fn check_commits(
        &mut self,
        revision: u64,
        commits: &BTreeMap<VolumeId, Vec<(CommitId, Commit)>>,
        heads: &BTreeSet<VolumeId>,
    ) {
        let mut apply: Vec<(VolumeId, u32, bool)> = Vec::new();
        let mut seen: BTreeMap<u32, BTreeSet<VolumeId>> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (id, commits) in commits {
            if !heads.contains(id) {
                wrong.push(format!("a commit at {revision} left the head of {id} alone"));
            }
            let Some(volume) = self.volumes.get(id).filter(|volume| !volume.deleted) else {
                wrong.push(format!("a commit at {revision} to volume {id}, which is not there"));
                continue;
            };
            let mut here: Vec<Part> = Vec::new();
            for (commit_id, commit) in commits {
                let tag = tag_of(*commit_id).unwrap_or(0);
                let intent = (tag as usize).checked_sub(1).and_then(|at| self.intents.get_mut(at));
                let Some(intent) = intent.filter(|intent| intent.parts.contains_key(id)) else {
                    wrong.push(format!("nobody made commit {commit_id} at {revision}"));
                    continue;
                };
                let part = intent.parts[id].clone();
                let before = intent.happened.replace((revision, *commit_id));
                if before.is_some_and(|before| before != (revision, *commit_id)) {
                    wrong.push(format!("transaction {tag} happened at {before:?} and {revision}"));
                }
                if intent.told == Told::Failed {
                    wrong.push(format!("transaction {tag} at {revision} had failed before"));
                }
                let held = self.locks.get(part.lock.key()).copied();
                if !part.lock.allows(held) {
                    wrong.push(format!(
                        "transaction {tag} at {revision} on {id}: the lock is {held:?}: {part:?}"
                    ));
                }
                if let Some(why) = volume.objection(&part, commit) {
                    wrong.push(format!("transaction {tag} at {revision} on {id}: {why}: {part:?}"));
                }
                if here.iter().any(|other| !volume.is_disjoint(other, &part)) {
                    wrong.push(format!("transaction {tag} shares {revision} with what it touches"));
                }
                here.push(part);
                seen.entry(tag).or_default().insert(*id);
                apply.push((*id, tag, !commit.files.is_empty()));
            }
        }
        for (tag, volumes) in &seen {
            let parts: BTreeSet<VolumeId> =
                self.intents[*tag as usize - 1].parts.keys().copied().collect();
            if parts != *volumes {
                wrong
                    .push(format!("transaction {tag} at {revision} happened in part: {volumes:?}"));
            }
        }
        for (id, tag, bulk) in apply {
            self.counts.commits += 1;
            self.counts.bulk_commits += u64::from(bulk);
            let part = self.intents[tag as usize - 1].parts[&id].clone();
            self.volume(id).apply(revision, &part, bulk);
        }
        self.violations.extend(wrong);
    }

    fn check_levels(&mut self, id: VolumeId, revision: Revision, edits: &[Edit]) {
        let Some(volume) = self.volumes.get(&id) else { return };
        if volume.deleted {
            return;
        }
        let mut wrong = Vec::new();
        let mut needed_until = BTreeMap::new();
        for edit in edits {
            let gone = match edit {
                Edit::Remove { file, .. } => volume.levels.get(*file),
                Edit::Put(_) => None,
            };
            for file in gone.iter().flat_map(|entry| files_of(entry)) {
                needed_until.insert(file, revision.0);
            }
            let Edit::Put(entry) = edit else { continue };
            self.counts.files += 1;
            let own = ObjectName { volume: id, named_at: entry.named_at, file: entry.id };
            let refs = entry.refs.iter().map(|to| ObjectName {
                volume: id,
                named_at: to.named_at,
                file: to.id,
            });
            for name in refs.chain([own]) {
                if !(self.object_is_there)(&name) {
                    wrong.push(format!("published at {revision} without its object: {name}"));
                }
            }
        }
        match volume.levels.apply(edits) {
            Ok(levels) => {
                self.volume(id).levels = levels;
                self.volume(id).needed_until.extend(needed_until);
            }
            Err(error) => wrong.push(format!("at {revision}: {error}")),
        }
        self.violations.extend(wrong);
    }

    /// The last keys of a volume go: its objects have gone before.
    fn observe_erasure(&mut self, id: VolumeId) {
        let own = format!("{id}/");
        if let Some(path) = self.objects.iter().find(|path| path.starts_with(&own)) {
            self.violate(format!("volume {id} is erased, and nobody knows any more of {path}"));
        }
    }

    /// An object has come.
    pub fn observe_put(&mut self, path: &str) {
        self.objects.insert(path.to_owned());
    }

    /// An object is about to be deleted.
    pub fn observe_deletion(&mut self, path: &str) {
        self.counts.deletions += 1;
        self.objects.remove(path);
        let mut wrong = None;
        for volume in self.volumes.values() {
            // Of a deleted volume whoever held it before it was deleted needs what there was then.
            let is_held = !volume.deleted || !volume.holds.is_empty();
            let mut named = volume
                .levels
                .files()
                .flat_map(|entry| files_of(entry).map(|file| (file, entry.id)))
                .filter(|_| is_held);
            if let Some((_, of)) = named.find(|(file, _)| path.contains(&file.to_string())) {
                wrong = Some(format!("{path} is deleted, and {of} needs it"));
            }
            let listed = volume.needed_until.iter().filter(|_| !volume.deleted);
            for (_, until) in listed.filter(|(file, _)| path.contains(&file.to_string())) {
                let is_behind = |(since, list): &&(u64, u64)| since <= until && list < until;
                if let Some((_, list)) = volume.level_lists.values().find(is_behind) {
                    let what = format!("{path}, needed until {until}, is deleted, and a session");
                    wrong = Some(format!("{what} may read by the list of {list}"));
                }
            }
        }
        self.violations.extend(wrong);
    }

    /// The client was told that its transaction happened.
    pub fn told_committed(&mut self, tag: u32, revision: Revision, id: Option<CommitId>) {
        let intent = &mut self.intents[tag as usize - 1];
        let right = match (intent.happened, id) {
            (Some((at, as_id)), Some(id)) => at == revision.0 && as_id == id,
            (Some((at, _)), None) => at == revision.0,
            (None, _) => false,
        };
        if !right || intent.told == Told::Failed || revision.0 <= intent.begun_at {
            let what = format!(
                "transaction {tag}, begun at {}, is told to be at {revision}, and is at {:?}",
                intent.begun_at, intent.happened
            );
            self.violate(what);
            return;
        }
        intent.told = Told::Committed(revision.0);
    }

    /// The client was told that its transaction did not happen, and never will.
    pub fn told_failed(&mut self, tag: u32, why: &str) {
        let intent = &mut self.intents[tag as usize - 1];
        if let Some((at, _)) = intent.happened {
            let what = format!("transaction {tag} is told to have failed ({why}), and is at {at}");
            self.violate(what);
            return;
        }
        intent.told = Told::Failed;
    }

    /// The client was told that its transaction conflicts in `pages`.
    pub fn told_conflict(&mut self, tag: u32, pages: &[u64], message: &str) {
        self.counts.conflicts += 1;
        self.told_failed(tag, message);
        if message.starts_with("other commits overtook") {
            return;
        }
        let intent = self.intents[tag as usize - 1].clone();
        let lost = |lock: &LockUse| match lock {
            LockUse::None => false,
            LockUse::Held(key, created) => self.locks.get(key) != Some(created),
            LockUse::Respected(_) => true,
        };
        if message.contains("write lock") && intent.parts.values().any(|part| lost(&part.lock)) {
            return;
        }
        let counted = |id: &VolumeId, part: &Part| {
            (part.asks_count || part.last_count.is_some()) && self.volumes[id].count_put > part.base
        };
        if pages.is_empty() && !intent.parts.iter().any(|(id, part)| counted(id, part)) {
            let what = format!("transaction {tag} conflicts in nothing: {intent:?}");
            self.violate(what);
            return;
        }
        for page in pages {
            let known = intent.parts.iter().any(|(id, part)| {
                let volume = &self.volumes[id];
                let unchanged_to = match part.writes.contains_key(page) {
                    true => Some(part.base),
                    false => part.reads.get(page).map(|tolerated| part.base.max(*tolerated)),
                };
                let Some(unchanged_to) = unchanged_to else { return false };
                let cut = volume.truncations.iter().rev().take_while(|(at, _)| *at > unchanged_to);
                volume.touched.get(page).is_some_and(|at| *at > unchanged_to)
                    || cut.into_iter().any(|(_, lowest)| lowest <= page)
            });
            if !known {
                let what = format!("transaction {tag} conflicts in page {page}: {intent:?}");
                self.violate(what);
            }
        }
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

    /// A snapshot was opened at `revision`, with so many pages; `not_before` is the head when it was
    /// asked for.
    pub fn check_snapshot(&mut self, id: VolumeId, revision: u64, count: u64, not_before: u64) {
        self.counts.snapshots += 1;
        if revision < not_before {
            self.violate(format!("a snapshot of {id} at {revision} misses {not_before}"));
        }
        let right = self.page_count(id, revision);
        if count != right {
            self.violate(format!("{id} at {revision} has {right} pages, not {count}"));
        }
    }

    /// A page was read at a revision.
    pub fn check_read(&mut self, id: VolumeId, revision: u64, page: u64, content: &[u8]) {
        self.counts.reads += 1;
        let digest = digest(content);
        let right = self.volumes.get(&id).map(|volume| volume.digest_at(page, revision));
        if right.is_some_and(|right| right != digest) {
            let volume = &self.volumes[&id];
            let was = volume.pages.get(&page);
            let was = was.and_then(|changes| changes.iter().find(|(_, of)| *of == digest));
            let what = format!(
                "page {page} of {id} at {revision} is not as it was then, but as at {:?}; last changed at {:?}",
                was.map(|(at, _)| *at),
                volume.pages.get(&page).map(|changes| changes
                    .iter()
                    .rev()
                    .find(|(at, _)| *at <= revision)
                    .map_or(0, |(at, _)| *at)),
            );
            self.violate(what);
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model(at {})", self.revision)
    }
}
