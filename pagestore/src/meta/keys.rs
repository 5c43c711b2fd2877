//! Names of the keys that pagestore keeps in the meta tier. Pure; numbers big-endian, so that keys sort.
//!
//! ```text
//! <root> s                                 the store
//! <root> n <volume name>                   a volume's id
//! <root> w <volume name>                   a volume's write lock
//! <root> v <volume id u64> <tag> ...       a volume's keys
//! ```
//!
//! Tags are one byte. **Upper case is what every open volume watches** (one range, `A` up to `[`);
//! lower case is only compared, fetched or swept: claims and pins (`a`), the barrier (`b`), staged
//! pages (`c`), and pointers (`p`), whose news the changelog carries already.

use bytes::Bytes;

use super::KeyRange;
use crate::types::{
    CommitId, ContentHash, FileId, HASH_BYTES, PageNo, PointName, Revision, SessionId, VolumeId,
    VolumeName,
};

/// The session whose pin is always there, with the largest revision: it keeps a compare over all
/// pins from meeting an empty range, which would fail.
pub const SENTINEL_SESSION: SessionId = SessionId(u64::MAX);

/// What names of branches begin with, among the named revisions of a volume.
const BRANCH: &str = "@";

/// Keys of a store.
#[derive(Clone, Debug)]
pub struct StoreKeys {
    root: Bytes,
}

impl StoreKeys {
    /// Keys below `root`, which may be empty.
    pub fn new(root: impl Into<Bytes>) -> StoreKeys {
        StoreKeys { root: root.into() }
    }

    fn join(&self, tag: u8, rest: &[u8]) -> Bytes {
        [&self.root, &[tag][..], rest].concat().into()
    }

    /// What the store says of itself.
    #[must_use]
    pub fn store(&self) -> Bytes {
        self.join(b's', &[])
    }

    /// The id of the volume called `name`.
    #[must_use]
    pub fn name(&self, name: &VolumeName) -> Bytes {
        self.join(b'n', name.as_str().as_bytes())
    }

    /// All volume names.
    #[must_use]
    pub fn names(&self) -> KeyRange {
        KeyRange::prefix(&self.join(b'n', &[]))
    }

    /// The volume name in a key of [`StoreKeys::names`].
    #[must_use]
    pub fn parse_name(&self, key: &[u8]) -> Option<VolumeName> {
        let rest = key.strip_prefix(self.root.as_ref())?.strip_prefix(b"n")?;
        VolumeName::new(std::str::from_utf8(rest).ok()?).ok()
    }

    /// The write lock of the volume called `name`, whether it exists or not.
    #[must_use]
    pub fn write_lock(&self, name: &VolumeName) -> Bytes {
        self.join(b'w', name.as_str().as_bytes())
    }

    /// Everything that belongs to any volume.
    #[must_use]
    pub fn volumes(&self) -> KeyRange {
        KeyRange::prefix(&self.join(b'v', &[]))
    }

    /// Keys of one volume.
    #[must_use]
    pub fn volume(&self, volume: VolumeId) -> VolumeKeys {
        VolumeKeys { volume, prefix: self.join(b'v', &volume.0.to_be_bytes()) }
    }
}

/// Where a file stands among the levels: the key of its entry says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePlace {
    /// 0 for files in commit order, from 1 on sorted runs.
    pub level: u8,
    /// First page it may hold.
    pub first: PageNo,
    /// Last page it may hold.
    pub last: PageNo,
    /// The file.
    pub file: FileId,
}

/// A key that open volumes watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchedKey {
    /// A dropped file.
    Dropped(FileId),
    /// The floor.
    Floor,
    /// A file entry.
    File(FilePlace),
    /// The volume's metadata.
    Metadata,
    /// The oldest readable revision.
    Oldest,
    /// A named snapshot or branch.
    Point(PointName),
    /// The head.
    Head,
    /// A changelog entry.
    Commit(CommitId),
    /// The page count.
    PageCount,
}

/// Keys of one volume.
#[derive(Clone, Debug)]
pub struct VolumeKeys {
    volume: VolumeId,
    prefix: Bytes,
}

impl VolumeKeys {
    /// The volume.
    #[must_use]
    pub fn id(&self) -> VolumeId {
        self.volume
    }

    fn join(&self, parts: &[&[u8]]) -> Bytes {
        let mut key = Vec::with_capacity(
            self.prefix.len() + parts.iter().map(|part| part.len()).sum::<usize>(),
        );
        key.extend_from_slice(&self.prefix);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key.into()
    }

    fn all(&self, tag: &[u8]) -> KeyRange {
        KeyRange::prefix(&self.join(&[tag]))
    }

    /// The part of a key of this volume after the volume id: what a value's seal covers.
    #[must_use]
    pub fn suffix<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.strip_prefix(self.prefix.as_ref()).unwrap_or(key)
    }

    /// Every key of the volume.
    #[must_use]
    pub fn everything(&self) -> KeyRange {
        KeyRange::prefix(&self.prefix)
    }

    /// What every open volume watches.
    #[must_use]
    pub fn watched(&self) -> KeyRange {
        KeyRange::span(self.join(&[b"A"]), self.join(&[b"["]))
    }

    /// Of the watched keys those that say where versions are: dropped files, floor and files, and the
    /// metadata.
    #[must_use]
    pub fn whereabouts(&self) -> KeyRange {
        KeyRange::span(self.join(&[b"D"]), [&self.metadata()[..], &[0]].concat())
    }

    /// The compactor's claim.
    #[must_use]
    pub fn claim(&self) -> Bytes {
        self.join(&[b"ag"])
    }

    /// What the compactor is doing.
    #[must_use]
    pub fn job(&self) -> Bytes {
        self.join(&[b"aj"])
    }

    /// The oldest revision that a session holds.
    #[must_use]
    pub fn pin(&self, session: SessionId) -> Bytes {
        self.join(&[b"ar", &session.0.to_be_bytes()])
    }

    /// All pins.
    #[must_use]
    pub fn pins(&self) -> KeyRange {
        self.all(b"ar")
    }

    /// The revision of the level list that a session uses.
    #[must_use]
    pub fn level_list(&self, session: SessionId) -> Bytes {
        self.join(&[b"av", &session.0.to_be_bytes()])
    }

    /// All sessions' level lists.
    #[must_use]
    pub fn level_lists(&self) -> KeyRange {
        self.all(b"av")
    }

    /// A session's hold on a named revision.
    #[must_use]
    pub fn hold(&self, session: SessionId, revision: Revision) -> Bytes {
        self.join(&[b"ah", &session.0.to_be_bytes(), &revision.0.to_be_bytes()])
    }

    /// All holds.
    #[must_use]
    pub fn holds(&self) -> KeyRange {
        self.all(b"ah")
    }

    /// The revision in a key of [`VolumeKeys::holds`].
    #[must_use]
    pub fn parse_hold(&self, key: &[u8]) -> Option<Revision> {
        let (_, revision) = self.suffix(key).strip_prefix(b"ah")?.split_first_chunk::<8>()?;
        Some(Revision(u64::from_be_bytes(revision.try_into().ok()?)))
    }

    /// The intent to upload a file.
    #[must_use]
    pub fn intent(&self, file: FileId) -> Bytes {
        self.join(&[b"au", &file.bytes()])
    }

    /// All upload intents.
    #[must_use]
    pub fn intents(&self) -> KeyRange {
        self.all(b"au")
    }

    /// The file in a key of [`VolumeKeys::intents`].
    #[must_use]
    pub fn parse_intent(&self, key: &[u8]) -> Option<FileId> {
        file_id(self.suffix(key).strip_prefix(b"au")?)
    }

    /// The barrier that bulk commits and truncations put.
    #[must_use]
    pub fn barrier(&self) -> Bytes {
        self.join(&[b"b"])
    }

    /// A staged page: content `hash`, whole, or as a delta over `base`.
    #[must_use]
    pub fn staged(&self, hash: ContentHash, base: Option<ContentHash>) -> Bytes {
        let base = base.filter(|_| !planted!(StagedKeyWithoutBase));
        self.join(&[b"c", &hash.0, base.as_ref().map_or(&[][..], |base| &base.0)])
    }

    /// All staged pages.
    #[must_use]
    pub fn all_staged(&self) -> KeyRange {
        self.all(b"c")
    }

    /// The hash and base in a key of [`VolumeKeys::all_staged`].
    #[must_use]
    pub fn parse_staged(&self, key: &[u8]) -> Option<(ContentHash, Option<ContentHash>)> {
        let rest = self.suffix(key).strip_prefix(b"c")?;
        let (hash, base) = rest.split_first_chunk::<HASH_BYTES>()?;
        let base = if base.is_empty() { None } else { Some(ContentHash(base.try_into().ok()?)) };
        Some((ContentHash(*hash), base))
    }

    /// The pointer of a page.
    #[must_use]
    pub fn pointer(&self, page: PageNo) -> Bytes {
        self.join(&[b"p", &page.0.to_be_bytes()])
    }

    /// The pointers of the pages from `first` to `last`, both included.
    #[must_use]
    pub fn pointers(&self, first: PageNo, last: PageNo) -> KeyRange {
        if first == last {
            return KeyRange::key(self.pointer(first));
        }
        let end = last
            .0
            .checked_add(1)
            .map_or_else(|| self.join(&[b"q"]), |next| self.pointer(PageNo(next)));
        KeyRange::span(self.pointer(first), end)
    }

    /// All pointers.
    #[must_use]
    pub fn all_pointers(&self) -> KeyRange {
        self.all(b"p")
    }

    /// The page in a key of [`VolumeKeys::all_pointers`].
    #[must_use]
    pub fn parse_pointer(&self, key: &[u8]) -> Option<PageNo> {
        let page = self.suffix(key).strip_prefix(b"p")?;
        Some(PageNo(u64::from_be_bytes(page.try_into().ok()?)))
    }

    /// A dropped file.
    #[must_use]
    pub fn dropped(&self, file: FileId) -> Bytes {
        self.join(&[b"D", &file.bytes()])
    }

    /// All dropped files.
    #[must_use]
    pub fn all_dropped(&self) -> KeyRange {
        self.all(b"D")
    }

    /// The floor.
    #[must_use]
    pub fn floor(&self) -> Bytes {
        self.join(&[b"F"])
    }

    /// A file's entry.
    #[must_use]
    pub fn file(&self, place: FilePlace) -> Bytes {
        let FilePlace { level, first, last, file } = place;
        self.join(&[b"L", &[level], &first.0.to_be_bytes(), &last.0.to_be_bytes(), &file.bytes()])
    }

    /// All file entries.
    #[must_use]
    pub fn files(&self) -> KeyRange {
        self.all(b"L")
    }

    /// The volume's metadata.
    #[must_use]
    pub fn metadata(&self) -> Bytes {
        self.join(&[b"M"])
    }

    /// The oldest readable revision.
    #[must_use]
    pub fn oldest(&self) -> Bytes {
        self.join(&[b"O"])
    }

    /// All branches.
    #[must_use]
    pub fn branches(&self) -> KeyRange {
        KeyRange::prefix(&self.join(&[b"S", BRANCH.as_bytes()]))
    }

    /// A named snapshot or branch.
    #[must_use]
    pub fn point(&self, name: &PointName) -> Bytes {
        self.join(&[b"S", name.as_str().as_bytes()])
    }

    /// All named snapshots and branches.
    #[must_use]
    pub fn points(&self) -> KeyRange {
        self.all(b"S")
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> Bytes {
        self.join(&[b"T"])
    }

    /// A changelog entry.
    #[must_use]
    pub fn commit(&self, commit: CommitId) -> Bytes {
        self.join(&[b"X", &commit.bytes()])
    }

    /// The whole changelog.
    #[must_use]
    pub fn commits(&self) -> KeyRange {
        self.all(b"X")
    }

    /// The page count.
    #[must_use]
    pub fn page_count(&self) -> Bytes {
        self.join(&[b"Z"])
    }

    /// What a key of [`VolumeKeys::watched`] is; `None` when it is none of ours.
    #[must_use]
    pub fn parse_watched(&self, key: &[u8]) -> Option<WatchedKey> {
        let (tag, rest) = key.strip_prefix(self.prefix.as_ref())?.split_first()?;
        Some(match tag {
            b'D' => WatchedKey::Dropped(file_id(rest)?),
            b'F' if rest.is_empty() => WatchedKey::Floor,
            b'L' => WatchedKey::File(file_place(rest)?),
            b'M' if rest.is_empty() => WatchedKey::Metadata,
            b'O' if rest.is_empty() => WatchedKey::Oldest,
            b'S' => WatchedKey::Point(PointName::new(std::str::from_utf8(rest).ok()?).ok()?),
            b'T' if rest.is_empty() => WatchedKey::Head,
            b'X' => WatchedKey::Commit(CommitId::from_bytes(rest.try_into().ok()?)),
            b'Z' if rest.is_empty() => WatchedKey::PageCount,
            _ => return None,
        })
    }
}

fn file_id(bytes: &[u8]) -> Option<FileId> {
    Some(FileId::from_bytes(bytes.try_into().ok()?))
}

fn file_place(bytes: &[u8]) -> Option<FilePlace> {
    let (level, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first_chunk()?;
    let (last, rest) = rest.split_first_chunk()?;
    Some(FilePlace {
        level: *level,
        first: PageNo(u64::from_be_bytes(*first)),
        last: PageNo(u64::from_be_bytes(*last)),
        file: file_id(rest)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> VolumeKeys {
        StoreKeys::new("r/").volume(VolumeId(0x0102))
    }

    fn file() -> FileId {
        FileId::from_bytes([9; 16])
    }

    #[test]
    fn keys_are_frozen() {
        let store = StoreKeys::new("r/");
        assert_eq!(store.store(), "r/s");
        assert_eq!(store.name(&VolumeName::new("db").unwrap()), "r/ndb");
        let keys = keys();
        assert_eq!(keys.head().as_ref(), b"r/v\0\0\0\0\0\0\x01\x02T");
        assert_eq!(keys.pointer(PageNo(3)).as_ref(), b"r/v\0\0\0\0\0\0\x01\x02p\0\0\0\0\0\0\0\x03");
        let place = FilePlace { level: 1, first: PageNo(2), last: PageNo(3), file: file() };
        let expected =
            [&b"r/v\0\0\0\0\0\0\x01\x02L\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03"[..], &[9; 16]]
                .concat();
        assert_eq!(keys.file(place).as_ref(), expected);
    }

    #[test]
    fn every_watched_key_parses_back_and_lies_in_the_watch() {
        let keys = keys();
        let place = FilePlace { level: 3, first: PageNo(2), last: PageNo(u64::MAX), file: file() };
        let commit = CommitId::from_bytes([7; 16]);
        let name = PointName::new("@b").unwrap();
        for (key, watched) in [
            (keys.dropped(file()), WatchedKey::Dropped(file())),
            (keys.floor(), WatchedKey::Floor),
            (keys.file(place), WatchedKey::File(place)),
            (keys.metadata(), WatchedKey::Metadata),
            (keys.oldest(), WatchedKey::Oldest),
            (keys.point(&name), WatchedKey::Point(name)),
            (keys.head(), WatchedKey::Head),
            (keys.commit(commit), WatchedKey::Commit(commit)),
            (keys.page_count(), WatchedKey::PageCount),
        ] {
            assert!(keys.watched().contains(&key));
            assert_eq!(keys.parse_watched(&key), Some(watched));
        }
    }

    #[test]
    fn pointers_staged_pages_and_pins_are_not_watched() {
        let keys = keys();
        let hash = ContentHash([1; 16]);
        for key in [
            keys.pointer(PageNo(0)),
            keys.staged(hash, None),
            keys.pin(SENTINEL_SESSION),
            keys.barrier(),
        ] {
            assert!(!keys.watched().contains(&key));
            assert_eq!(keys.parse_watched(&key), None);
        }
    }

    #[test]
    fn unwatched_keys_parse_back() {
        let keys = keys();
        let (a, b) = (ContentHash([1; 16]), ContentHash([2; 16]));
        assert_eq!(keys.parse_staged(&keys.staged(a, None)), Some((a, None)));
        assert_eq!(keys.parse_staged(&keys.staged(a, Some(b))), Some((a, Some(b))));
        assert_eq!(keys.parse_pointer(&keys.pointer(PageNo(5))), Some(PageNo(5)));
        assert_eq!(keys.parse_intent(&keys.intent(file())), Some(file()));
        assert_eq!(keys.parse_hold(&keys.hold(SessionId(1), Revision(8))), Some(Revision(8)));
        assert_eq!(keys.parse_pointer(b"r/x"), None);
    }

    #[test]
    fn a_range_of_pointers_ends_after_its_last_page() {
        let keys = keys();
        let range = keys.pointers(PageNo(3), PageNo(4));
        assert!(
            range.contains(&keys.pointer(PageNo(4))) && !range.contains(&keys.pointer(PageNo(5)))
        );
        assert!(
            keys.pointers(PageNo(0), PageNo(u64::MAX)).contains(&keys.pointer(PageNo(u64::MAX)))
        );
        assert_eq!(keys.pointers(PageNo(3), PageNo(3)), KeyRange::key(keys.pointer(PageNo(3))));
    }
}
