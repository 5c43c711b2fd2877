use std::sync::Arc;

use imbl::OrdMap;

use super::truncations::Truncations;
use super::view::View;
use crate::error::{Error, Result};
use crate::file::FileEntry;
use crate::levels::{Edit, Levels};
use crate::meta::keys::{VolumeKeys, WatchedKey};
use crate::meta::records::{
    ChangelogEntry, Commit, Dropped, Floor, Oldest, PageCountRecord, Point, Record, StagedAs,
    VolumeRecord,
};
use crate::meta::{Event, KeyValue, WatchBatch};
use crate::types::{CommitId, ContentHash, FileId, PageCount, PageNo, PointName, Revision};

/// Flushed commits that a mirror remembers, so that a transaction overtaken by a flush is checked
/// against memory and not against files.
const RETAINED_COMMITS: usize = 4096;
/// Pages that the remembered flushed commits may name in all.
const RETAINED_PAGES: usize = 65_536;

/// The newest version of a page that is not in a file yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedVersion {
    /// When it was committed.
    pub revision: Revision,
    /// Its content.
    pub hash: ContentHash,
    /// Where its content is staged; `None` for a zero page.
    pub staged: Option<StagedAs>,
}

/// The floor, with the revision at which it was put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloorState {
    /// Everything up to here is in files.
    pub up_to: Revision,
    /// The mod revision of the key: what commits compare.
    pub modified: Revision,
}

/// A record with the mod revision of its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At<T> {
    /// The record.
    pub record: T,
    /// When it was last put.
    pub modified: Revision,
}

/// Everything that a volume's watched keys say, at one revision. Persistent: a clone is cheap.
#[derive(Clone, Debug)]
pub struct VolumeState {
    /// Every change up to here is in.
    pub revision: Revision,
    /// What the volume is.
    pub record: Arc<VolumeRecord>,
    /// When the volume was made: the create revision of its metadata.
    pub created: Revision,
    /// True once the volume was deleted.
    pub deleted: bool,
    /// The newest commit: mod revision of the head.
    pub head: Revision,
    /// How far the volume has been flushed.
    pub floor: FloorState,
    /// What is still kept.
    pub oldest: At<Oldest>,
    /// Pages now.
    pub page_count: PageCount,
    /// When the page count last changed.
    pub page_count_modified: Revision,
    /// The newest unflushed version of each page that has one.
    pub staged: OrdMap<PageNo, StagedVersion>,
    /// Unflushed truncations.
    pub truncations: Truncations,
    /// All commits after `changelog_from`, by revision.
    pub changelog: OrdMap<(Revision, CommitId), Arc<Commit>>,
    /// Where `changelog` begins: at the floor or before it.
    pub changelog_from: Revision,
    /// The files.
    pub levels: Levels,
    /// Named snapshots and branches.
    pub points: OrdMap<PointName, At<Point>>,
    /// Files that no level lists any more; `modified` is the revision of the drop.
    pub dropped: OrdMap<FileId, At<Dropped>>,
    /// Bytes staged in the meta tier and not yet flushed.
    pub staged_bytes: u64,
}

impl VolumeState {
    /// The state that `kvs`, all watched keys at `revision`, say.
    ///
    /// # Errors
    /// `NotFound` when the volume has no metadata, `Corrupt` when a value is broken.
    pub fn load(keys: &VolumeKeys, kvs: &[KeyValue], revision: Revision) -> Result<VolumeState> {
        let metadata = find_metadata(keys, kvs)
            .ok_or_else(|| Error::not_found(format!("volume was deleted: {}", keys.id())))?;
        let record = Arc::new(VolumeRecord::of(keys, metadata)?);
        VolumeState::empty(record, metadata.create_revision).fold(keys, kvs, revision)
    }

    /// As [`VolumeState::load`], for a volume that was this one: it may have been deleted since.
    ///
    /// # Errors
    /// `Corrupt` when a value is broken.
    pub(super) fn reload(
        &self,
        keys: &VolumeKeys,
        kvs: &[KeyValue],
        revision: Revision,
    ) -> Result<VolumeState> {
        let mut state = VolumeState::empty(self.record.clone(), self.created);
        state.deleted = find_metadata(keys, kvs).is_none();
        state.fold(keys, kvs, revision)
    }

    fn empty(record: Arc<VolumeRecord>, created: Revision) -> VolumeState {
        VolumeState {
            revision: Revision::ZERO,
            record,
            created,
            deleted: false,
            head: Revision::ZERO,
            floor: FloorState::default(),
            oldest: At::default(),
            page_count: PageCount::default(),
            page_count_modified: Revision::ZERO,
            staged: OrdMap::new(),
            truncations: Truncations::default(),
            changelog: OrdMap::new(),
            changelog_from: Revision::ZERO,
            levels: Levels::default(),
            points: OrdMap::new(),
            dropped: OrdMap::new(),
            staged_bytes: 0,
        }
    }

    fn fold(mut self, keys: &VolumeKeys, kvs: &[KeyValue], revision: Revision) -> Result<Self> {
        self.revision = revision;
        let mut files = Vec::new();
        for kv in kvs {
            self.put(keys, kv, &mut files)?;
        }
        self.levels = self.levels.apply(&files)?;
        // Of what is flushed some may be removed and some not yet: begin at the floor, where all is.
        self.forget_until(self.floor.up_to);
        self.drop_flushed();
        Ok(self)
    }

    /// The state after `batch`, which must follow on this one.
    ///
    /// # Errors
    /// `Corrupt` when a value is broken.
    pub fn apply(&self, keys: &VolumeKeys, batch: &WatchBatch) -> Result<VolumeState> {
        assert!(batch.revision >= self.revision, "BUG: a watch goes forward only");
        let mut next = self.clone();
        for changes in batch.events.chunk_by(|a, b| a.revision() == b.revision()) {
            let mut files = Vec::new();
            for event in changes {
                match event {
                    Event::Put(kv) => next.put(keys, kv, &mut files)?,
                    Event::Delete { key, .. } => next.delete(keys, key, &mut files),
                }
            }
            // The levels hold together before and after a publication, not in the midst of it.
            next.levels = next.levels.apply(&files)?;
        }
        next.revision = batch.revision;
        self.check_successor(keys, &next)?;
        if next.floor != self.floor {
            next.drop_flushed();
        }
        Ok(next)
    }

    /// That what only goes forward has: a meta tier that went back (it was restored under a running process, or
    /// somebody put an old value) would show other bytes for revisions that were read before.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn check_successor(&self, keys: &VolumeKeys, next: &VolumeState) -> Result<()> {
        if next.deleted {
            // What is left of it goes, in no order.
            return Ok(());
        }
        let (oldest, next_oldest) = (self.oldest.record.readable, next.oldest.record.readable);
        let forward_only = [
            ("revision", self.revision, next.revision),
            ("newest commit", self.head, next.head),
            ("floor", self.floor.up_to, next.floor.up_to),
            ("oldest readable revision", oldest, next_oldest),
        ];
        match forward_only.into_iter().find(|(_, before, after)| before > after) {
            None => Ok(()),
            Some((what, before, after)) => Err(Error::corrupt(
                format!("volume {}", keys.id()),
                format!(
                    "its {what} went back from {before} to {after}; was the meta tier restored from a backup \
                     while this process ran? open the store anew"
                ),
            )),
        }
    }

    /// What the volume shows now.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            revision: self.revision,
            page_count: Some(self.page_count),
            staged: self.staged.clone(),
            truncations: self.truncations.clone(),
        }
    }

    /// What the volume showed at `revision`, which must not be ahead of this state.
    #[must_use]
    pub fn view_at(&self, revision: Revision) -> View {
        assert!(revision <= self.revision, "BUG: a view cannot be ahead of its mirror");
        if revision >= self.head {
            return View { revision, ..self.view() };
        }
        let (mut staged, mut truncations, mut page_count) =
            (OrdMap::new(), Truncations::default(), None);
        for ((at, _), commit) in self.unflushed().take_while(|((at, _), _)| *at <= revision) {
            stage(&mut staged, &mut truncations, *at, commit);
            page_count = commit.size.map(|size| size.last).or(page_count);
        }
        if self.page_count_modified <= revision {
            page_count = Some(self.page_count);
        }
        View { revision, page_count, staged, truncations }
    }

    /// Commits that are not in a file yet, oldest first.
    pub fn unflushed(&self) -> impl Iterator<Item = (&(Revision, CommitId), &Arc<Commit>)> {
        self.since(self.floor.up_to)
    }

    /// Commits after `revision`, oldest first; only those after `changelog_from` are known.
    pub fn since(
        &self,
        revision: Revision,
    ) -> impl Iterator<Item = (&(Revision, CommitId), &Arc<Commit>)> {
        self.changelog.range(after(revision)..)
    }

    /// True when `revision` can still be read: kept, or named.
    #[must_use]
    pub fn is_readable(&self, revision: Revision) -> bool {
        revision >= self.oldest.record.readable
            || self.points.values().any(|point| point.record.revision == revision)
    }

    fn put(&mut self, keys: &VolumeKeys, kv: &KeyValue, files: &mut Vec<Edit>) -> Result<()> {
        let Some(key) = keys.parse_watched(&kv.key) else {
            return Err(Error::corrupt(kv.key.escape_ascii(), "unknown key among a volume's"));
        };
        match key {
            WatchedKey::Dropped(file) => {
                let record = Dropped::of(keys, kv)?;
                self.dropped.insert(file, At { record, modified: kv.mod_revision });
            }
            WatchedKey::Floor => {
                self.floor =
                    FloorState { up_to: Floor::of(keys, kv)?.up_to, modified: kv.mod_revision };
            }
            WatchedKey::File(place) => {
                let entry =
                    FileEntry::decode(place, keys.suffix(&kv.key), &kv.value, kv.mod_revision)?;
                files.push(Edit::Put(Arc::new(entry)));
            }
            WatchedKey::Metadata => self.record = Arc::new(VolumeRecord::of(keys, kv)?),
            WatchedKey::Oldest => {
                self.oldest = At { record: Oldest::of(keys, kv)?, modified: kv.mod_revision };
            }
            WatchedKey::Point(name) => {
                let record = Point::of(keys, kv)?;
                self.points.insert(name, At { record, modified: kv.mod_revision });
            }
            WatchedKey::Head => self.head = kv.mod_revision,
            WatchedKey::Commit(commit) => {
                if let ChangelogEntry::Committed(entry) = ChangelogEntry::of(keys, kv)? {
                    self.commit(kv.mod_revision, commit, entry);
                }
            }
            WatchedKey::PageCount => {
                self.page_count = PageCountRecord::of(keys, kv)?.0;
                self.page_count_modified = kv.mod_revision;
            }
        }
        Ok(())
    }

    fn delete(&mut self, keys: &VolumeKeys, key: &[u8], files: &mut Vec<Edit>) {
        match keys.parse_watched(key) {
            Some(WatchedKey::Dropped(file)) => {
                self.dropped.remove(&file);
            }
            Some(WatchedKey::File(place)) => {
                files.push(Edit::Remove { level: place.level, file: place.file })
            }
            Some(WatchedKey::Metadata) => self.deleted = true,
            Some(WatchedKey::Point(name)) => {
                self.points.remove(&name);
            }
            // Changelog entries go once they are flushed; the mirror forgets them by the floor.
            _ => {}
        }
    }

    fn commit(&mut self, revision: Revision, id: CommitId, commit: Commit) {
        self.staged_bytes += stage(&mut self.staged, &mut self.truncations, revision, &commit);
        self.changelog.insert((revision, id), Arc::new(commit));
    }

    /// Leaves only what is above the floor staged, and bounds what is remembered below it.
    fn drop_flushed(&mut self) {
        let (mut staged, mut truncations, mut bytes) = (OrdMap::new(), Truncations::default(), 0);
        for ((revision, _), commit) in self.unflushed() {
            bytes += stage(&mut staged, &mut truncations, *revision, commit);
        }
        (self.staged, self.truncations, self.staged_bytes) = (staged, truncations, bytes);

        let (mut commits, mut pages) = (0, 0);
        let flushed = self.changelog.range(..after(self.floor.up_to));
        let overfull = flushed.rev().find(|(_, commit)| {
            commits += 1;
            pages += commit.pages.len();
            commits > RETAINED_COMMITS || pages > RETAINED_PAGES
        });
        if let Some(((revision, _), _)) = overfull {
            self.forget_until(*revision);
        }
    }

    fn forget_until(&mut self, revision: Revision) {
        self.changelog = self.since(revision).map(|(key, commit)| (*key, commit.clone())).collect();
        self.changelog_from = self.changelog_from.max(revision);
    }
}

fn find_metadata<'a>(keys: &VolumeKeys, kvs: &'a [KeyValue]) -> Option<&'a KeyValue> {
    kvs.iter().find(|kv| keys.parse_watched(&kv.key) == Some(WatchedKey::Metadata))
}

/// The first key of the changelog after `revision`.
fn after(revision: Revision) -> (Revision, CommitId) {
    (revision.next(), CommitId::from_bytes([0; 16]))
}

/// Applies a commit; returns the bytes that it staged.
fn stage(
    staged: &mut OrdMap<PageNo, StagedVersion>,
    truncations: &mut Truncations,
    revision: Revision,
    commit: &Commit,
) -> u64 {
    if let Some(lowest) = commit.size.and_then(|size| size.lowest) {
        truncations.push(revision, lowest);
    }
    for change in &commit.pages {
        let version = StagedVersion { revision, hash: change.hash, staged: change.staged };
        staged.insert(change.page, version);
    }
    commit
        .pages
        .iter()
        .filter_map(|change| change.staged)
        .map(|staged| u64::from(staged.bytes))
        .sum()
}
