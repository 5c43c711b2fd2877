use bytes::Bytes;

use pagestore::internal::connect;
use pagestore::internal::file::FileEntry;
use pagestore::internal::meta::keys::{FilePlace, StoreKeys, VolumeKeys, WatchedKey};
use pagestore::internal::meta::records::{
    ChangelogEntry, Claim, Commit, Dropped, Floor, Intent, Job, Oldest, PageChange,
    PageCountRecord, Parent, Point, PointKind, Pointer, Record, SizeChange, StagedAs, StoreRecord,
    VolumeName, VolumeRecord, WriteLockRecord,
};
use pagestore::internal::types::{ContentHash, HashSecret, PointName, SECRET_BYTES, SessionId};
use pagestore::internal::wire;
use pagestore::{
    CommitId, ErrorKind, FileId, Keep, PageCount, PageNo, PageSize, Revision, VolumeId,
};

fn volume_keys() -> VolumeKeys {
    StoreKeys::new("root/").volume(VolumeId(7))
}

fn commit_id() -> CommitId {
    CommitId::from_bytes([5; 16])
}

fn file_id() -> FileId {
    FileId::from_bytes([6; 16])
}

fn place() -> FilePlace {
    FilePlace { level: 1, first: PageNo(3), last: PageNo(900), file: file_id() }
}

// --- keys --------------------------------------------------------------------------------------------

/// The part of a key after the volume's prefix.
pub(super) fn key_corpus() -> Vec<Vec<u8>> {
    let keys = volume_keys();
    let hash = ContentHash([9; 16]);
    let name = PointName::new("release").expect("BUG: a plain name is refused");
    let all = [
        keys.pointer(PageNo(77)),
        keys.staged(hash, None),
        keys.staged(hash, Some(hash)),
        keys.intent(file_id()),
        keys.hold(SessionId(1), Revision(5)),
        keys.dropped(file_id()),
        keys.floor(),
        keys.file(place()),
        keys.metadata(),
        keys.oldest(),
        keys.point(&name),
        keys.head(),
        keys.commit(commit_id()),
        keys.page_count(),
    ];
    all.iter().map(|key| keys.suffix(key).to_vec()).collect()
}

/// A key that is understood is the one that is made of what was understood.
pub(super) fn keys(input: &[u8]) -> bool {
    let keys = volume_keys();
    let key = Bytes::from([keys.everything().start.as_ref(), input].concat());
    let watched = keys.parse_watched(&key).map(|watched| match watched {
        WatchedKey::Dropped(file) => keys.dropped(file),
        WatchedKey::Floor => keys.floor(),
        WatchedKey::File(place) => keys.file(place),
        WatchedKey::Metadata => keys.metadata(),
        WatchedKey::Oldest => keys.oldest(),
        WatchedKey::Point(name) => keys.point(&name),
        WatchedKey::Head => keys.head(),
        WatchedKey::Commit(commit) => keys.commit(commit),
        WatchedKey::PageCount => keys.page_count(),
    });
    let pointer = keys.parse_pointer(&key).map(|page| keys.pointer(page));
    let staged = keys.parse_staged(&key).map(|(hash, base)| keys.staged(hash, base));
    let intent = keys.parse_intent(&key).map(|file| keys.intent(file));
    let understood = [watched, pointer, staged, intent].into_iter().flatten();
    let understood: Vec<Bytes> = understood.inspect(|again| assert_eq!(*again, key)).collect();
    assert!(understood.len() <= 1, "one key means two things");
    let is_hold = keys.parse_hold(&key).is_some();
    let _ = StoreKeys::new("root/").parse_name(&key);
    !understood.is_empty() || is_hold
}

// --- records -----------------------------------------------------------------------------------------

/// A kind of record: how its bytes are made good again, decoded and written once more.
type Kind = fn(&[u8]) -> bool;

const SUFFIX: &[u8] = b"suffix";

const KINDS: [Kind; 15] = [
    record::<ChangelogEntry>,
    record::<Claim>,
    record::<Job>,
    record::<Dropped>,
    record::<Floor>,
    record::<Intent>,
    record::<Oldest>,
    record::<PageCountRecord>,
    record::<Point>,
    record::<Pointer>,
    record::<VolumeName>,
    record::<WriteLockRecord>,
    record::<StoreRecord>,
    record::<VolumeRecord>,
    file_entry,
];

fn record<R: Record + PartialEq + std::fmt::Debug>(version_and_body: &[u8]) -> bool {
    let Some((version, body)) = version_and_body.split_first() else { return false };
    let sealed = wire::seal(SUFFIX, *version, body);
    let Ok(found) = R::decode(SUFFIX, &sealed) else { return false };
    let again =
        R::decode(SUFFIX, &found.encode(SUFFIX)).expect("BUG: what was written is not read");
    assert_eq!(again, found, "written again it means something else");
    true
}

fn file_entry(version_and_body: &[u8]) -> bool {
    let Some((version, body)) = version_and_body.split_first() else { return false };
    let sealed = wire::seal(SUFFIX, *version, body);
    let Ok(found) = FileEntry::decode(place(), SUFFIX, &sealed, Revision(99)) else { return false };
    let again = FileEntry::decode(place(), SUFFIX, &found.encode(SUFFIX), Revision(99));
    assert_eq!(again.expect("BUG: what was written is not read"), found);
    let _ = (found.tail_range(), found.is_pageless(), found.may_hold(PageNo(5)));
    true
}

/// The index of a kind, then version and body.
fn of<R: Record>(kind: u8, record: &R) -> Vec<u8> {
    let sealed = record.encode(SUFFIX);
    let unsealed = wire::unseal(SUFFIX, &sealed).expect("BUG: a fresh seal is broken");
    [&[kind, unsealed.version], unsealed.body].concat()
}

pub(super) fn record_corpus() -> Vec<Vec<u8>> {
    let page =
        |number, staged| PageChange { page: PageNo(number), hash: ContentHash([3; 16]), staged };
    let hash = ContentHash([4; 16]);
    let commit = Commit {
        base: Revision(17),
        pages: vec![
            page(1, Some(StagedAs { base: Some(hash), bytes: 85 })),
            page(2, Some(StagedAs { base: None, bytes: 2608 })),
            PageChange { page: PageNo(900), hash: ContentHash::ZERO_PAGE, staged: None },
        ],
        files: vec![],
        bulk_page_count: 0,
        size: Some(SizeChange { lowest: Some(PageCount(4)), last: PageCount(901) }),
    };
    let bulk = Commit {
        pages: vec![],
        files: vec![file_id(); 3],
        bulk_page_count: 20_000,
        size: None,
        ..commit.clone()
    };
    let parent = Parent { volume: VolumeId(3), revision: Revision(8) };
    let volume = VolumeRecord {
        page_size: PageSize::DEFAULT,
        keep: Keep::Nothing,
        created_ms: 1_700_000_000_000,
        secret: HashSecret::new([1; SECRET_BYTES]),
        parent: Some(parent),
    };
    let point = Point { revision: Revision(5), kind: PointKind::Snapshot };
    let dropped = Dropped { named_at: Revision(5), bytes: 1 << 26, body_count: 16_384 };
    let files = vec![file_id(); 4];
    let (_, entry) = super::files::example();
    let entry_value = entry.encode(SUFFIX);
    let entry_value = wire::unseal(SUFFIX, &entry_value).expect("BUG: a fresh seal is broken");
    vec![
        of(0, &ChangelogEntry::Committed(commit)),
        of(0, &ChangelogEntry::Committed(bulk)),
        of(0, &ChangelogEntry::Aborted),
        of(1, &Claim::default()),
        of(2, &Job::Write { named_at: Revision(9), files }),
        of(2, &Job::Remove { up_to: Revision(9) }),
        of(3, &dropped),
        of(4, &Floor { up_to: Revision(300) }),
        of(5, &Intent { named_at: Revision(300) }),
        of(6, &Oldest::default()),
        of(7, &PageCountRecord(PageCount(70_000))),
        of(8, &point),
        of(9, &Pointer { hash }),
        of(13, &volume),
        [&[14, entry_value.version], entry_value.body].concat(),
    ]
}

pub(super) fn records(input: &[u8]) -> bool {
    let Some((kind, rest)) = input.split_first() else { return false };
    KINDS[usize::from(*kind) % KINDS.len()](rest)
}

// --- URLs --------------------------------------------------------------------------------------------

const PASSWORD: &str = "p%40ss";

pub(super) fn url_corpus() -> Vec<Vec<u8>> {
    [
        "/var/lib/app",
        "file:///var/lib/app",
        "etcd://127.0.0.1:2379/main?blobs=s3://pages/main",
        "etcd://a:1,b:2,[::1]:3/root?blobs=file:///srv/pages&history=shared",
        "etcd://user:p%40ss@etcd.example:2379/main?blobs=s3://pages/a%20b",
        "etcds://etcd:2379/main?blobs=s3://pages&ca=/ca.pem&cert=/cert.pem&key=/key.pem",
    ]
    .map(|url| url.as_bytes().to_vec())
    .to_vec()
}

/// A URL that is refused is refused without its password.
pub(super) fn url(input: &[u8]) -> bool {
    let Ok(url) = std::str::from_utf8(input) else { return false };
    let Err(error) = connect::check_directory(url) else { return true };
    if error.kind() == ErrorKind::NotFound {
        // A path, which has no password.
        return true;
    }
    if let Some((hidden, shown)) = url.rsplit_once('@')
        && hidden.contains(PASSWORD)
        && !shown.contains(PASSWORD)
    {
        assert!(!error.to_string().contains(PASSWORD), "shows a password: {error}");
    }
    false
}
