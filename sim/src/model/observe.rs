//! What etcd applied and what became of objects, held against what must be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pagestore::internal::blob::ObjectName;
use pagestore::internal::file::FileEntry;
use pagestore::internal::levels::Edit;
use pagestore::internal::meta::keys::{SENTINEL_SESSION, VolumeKeys, WatchedKey};
use pagestore::internal::meta::records::{ChangelogEntry, Commit, Oldest, Record, decode_pin};
use pagestore::internal::meta::{Event, KeyRange, KeyValue};
use pagestore::internal::types::{CommitId, FileId, Revision, VolumeId};

use super::{Model, Part, Told, VolumeModel, tag_of};

impl Model {
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
}

/// The file itself and those that its index points into.
fn files_of(entry: &FileEntry) -> impl Iterator<Item = FileId> {
    entry.refs.iter().map(|to| to.id).chain([entry.id])
}
