use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::blob::faulty::{Fault, Faulty, store};
use crate::cache::{DiskCache, IndexCache, PageCache};
use crate::env::Env;
use crate::file::{
    CommitKind, FileIdentity, FileParams, FileWriter, FrameHandle, Origin, SizeChange,
};
use crate::types::{FileId, HashSecret, Keep, PageCount, PageSize, SECRET_BYTES};

const VOLUME: VolumeId = VolumeId(7);
const MIB: u64 = 1 << 20;

fn record() -> VolumeRecord {
    VolumeRecord::new(PageSize::DEFAULT, Keep::Forever, 0, HashSecret::new([9; SECRET_BYTES]))
}

/// About half of it compresses away.
fn content(page: u64, version: u64) -> Bytes {
    let mut state =
        page.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version.wrapping_mul(0xbf58_476d) | 1;
    let mut bytes = vec![b'x'; PageSize::DEFAULT.bytes()];
    for word in bytes[..2048].chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// Builds files and puts them where a fetcher finds them.
struct Volume {
    faulty: Arc<Faulty>,
    files: u8,
}

impl Volume {
    fn new(faulty: Faulty) -> Volume {
        Volume { faulty: Arc::new(faulty), files: 0 }
    }

    fn writer(&mut self) -> FileWriter {
        self.files += 1;
        let identity = FileIdentity {
            volume: VOLUME,
            id: FileId::from_bytes([self.files; 16]),
            named_at: Revision(30),
            page_size: PageSize::DEFAULT,
        };
        FileWriter::new(FileParams { identity, level: 1, origin: Origin::Merge })
    }

    async fn put(&self, writer: FileWriter) -> Arc<FileEntry> {
        let built = writer.finish();
        let mut entry = built.entry;
        entry.published = Some(Revision(40));
        let name = ObjectName { volume: VOLUME, named_at: entry.named_at, file: entry.id };
        store(&self.faulty).put_create(&name, built.chunks).await.unwrap();
        Arc::new(entry)
    }

    /// A file of these versions: page -> revisions.
    async fn file(&mut self, versions: &BTreeMap<u64, Vec<u64>>) -> Arc<FileEntry> {
        let mut writer = self.writer();
        for (page, revisions) in versions {
            for revision in revisions.iter().rev() {
                let bytes = content(*page, *revision);
                let hash = record().secret.hash(PageNo(*page), &bytes);
                writer.push_body(PageNo(*page), Revision(*revision), hash, &bytes);
            }
        }
        self.put(writer).await
    }

    async fn imported(&mut self, pages: u64) -> Arc<FileEntry> {
        self.file(&(0..pages).map(|page| (page, vec![20])).collect()).await
    }

    fn cold(&self) -> Reader {
        Reader::new(&self.faulty, Caches::default())
    }
}

struct Reader {
    files: FileFetcher,
    blobs: BlobStore,
}

impl Reader {
    fn new(faulty: &Arc<Faulty>, caches: Caches) -> Reader {
        let blobs = store(faulty);
        Reader { files: FileFetcher::new(VOLUME, &record(), blobs.clone(), caches), blobs }
    }

    async fn read(&self, entry: &Arc<FileEntry>, page: u64, at: u64) -> Result<Bytes> {
        let found = self.files.find(entry, PageNo(page), Revision(at)).await?;
        self.files.page(entry, &found.expect("the page is in the file")).await
    }

    /// Reads the pages in order and returns the number of requests it took.
    async fn scan(&self, entry: &Arc<FileEntry>, pages: Range<u64>, at: u64, version: u64) -> u64 {
        for page in pages {
            assert_eq!(self.read(entry, page, at).await.unwrap(), content(page, version), "{page}");
        }
        self.blobs.counts().gets
    }
}

#[tokio::test]
async fn a_page_costs_one_request_once_the_index_is_known() {
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(500).await;
    let reader = volume.cold();
    assert_eq!(reader.read(&entry, 100, 99).await.unwrap(), content(100, 20));
    assert_eq!(reader.blobs.counts().gets, 3, "tail, index, frame");
    assert_eq!(reader.read(&entry, 300, 99).await.unwrap(), content(300, 20));
    assert_eq!(reader.blobs.counts().gets, 4);
    assert_eq!(reader.read(&entry, 301, 99).await.unwrap(), content(301, 20));
    assert_eq!(reader.blobs.counts().gets, 4, "the neighbour came with it");
    assert!(reader.files.find(&entry, PageNo(500), Revision(99)).await.unwrap().is_none());
    assert!(reader.files.find(&entry, PageNo(7), Revision(19)).await.unwrap().is_none());
    assert_eq!(reader.blobs.counts().gets, 4);
}

#[tokio::test]
async fn a_scan_costs_about_one_request_a_mib() {
    let mut volume = Volume::new(Faulty::default());
    let pages = 16 * 1024;
    let entry = volume.imported(pages).await;
    let gets = volume.cold().scan(&entry, 0..pages, 99, 20).await;
    assert!(gets * 10 <= 11 * entry.bytes / MIB, "{gets} for {} MiB", entry.bytes / MIB);
    // A quarter of that is what steps of 2 MiB come to when all goes well.
    assert!(gets <= entry.bytes / MIB * 3 / 4, "{gets} for {} MiB", entry.bytes / MIB);
}

#[tokio::test]
async fn a_scan_fetches_nothing_twice_and_nothing_past_the_end() {
    let mut volume = Volume::new(Faulty::default());
    let pages = 4 * 1024;
    let entry = volume.imported(pages).await;
    let reader = volume.cold();
    reader.scan(&entry, 0..pages, 99, 20).await;
    let fetched = reader.blobs.counts().bytes_in;
    // All but the header, and each byte once.
    assert!(fetched <= entry.bytes && fetched + 64 > entry.bytes, "{fetched} of {}", entry.bytes);
}

#[tokio::test(start_paused = true)]
async fn a_scan_does_not_wait_for_every_request() {
    let latency = Duration::from_millis(20);
    let mut volume = Volume::new(Faulty::slow(latency));
    let pages = 16 * 1024;
    let entry = volume.imported(pages).await;
    let reader = volume.cold();
    let start = tokio::time::Instant::now();
    let gets = reader.scan(&entry, 0..pages, 99, 20).await;
    let waits = u32::try_from(start.elapsed().as_millis() / latency.as_millis()).unwrap();
    // Tail, index, first frame, first steps; from then on four requests are under way at once.
    assert!(u64::from(waits) <= 8 + gets / 2, "{waits} waits for {gets} requests");
}

#[tokio::test]
async fn a_warm_scan_asks_for_nothing() {
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(2048).await;
    let reader = volume.cold();
    let gets = reader.scan(&entry, 0..2048, 99, 20).await;
    assert_eq!(reader.scan(&entry, 0..2048, 99, 20).await, gets);
}

#[tokio::test]
async fn a_scan_of_an_earlier_revision_reads_its_versions_ahead() {
    let mut volume = Volume::new(Faulty::default());
    let pages = 4 * 1024;
    let entry = volume.file(&(0..pages).map(|page| (page, vec![10, 20])).collect()).await;
    let half = entry.bytes / MIB / 2;
    let gets = volume.cold().scan(&entry, 0..pages, 19, 10).await;
    assert!(gets <= half + 6, "{gets} for {half} MiB of old versions");
    let gets = volume.cold().scan(&entry, 0..pages, 20, 20).await;
    assert!(gets <= half + 6, "{gets} for {half} MiB of new versions");
}

#[tokio::test]
async fn a_scan_over_a_merged_index_reads_each_file_ahead() {
    let mut volume = Volume::new(Faulty::default());
    let pages = 8 * 1024;
    let of = |page: u64| page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
    let mut bodies = Vec::new();
    for part in 0..4 {
        let versions = (0..pages).filter(|page| of(*page) == part).map(|page| (page, vec![20]));
        bodies.push(volume.file(&versions.collect()).await);
    }
    let reader = volume.cold();
    let mut writer = volume.writer();
    for page in (0..pages).map(PageNo) {
        let entry = &bodies[usize::try_from(of(page.0)).unwrap()];
        let found = reader.files.find(entry, page, Revision::MAX).await.unwrap().unwrap();
        let at = body(entry, found.location.unwrap()).unwrap();
        writer.push_ref(page, found.revision, found.hash, at);
    }
    let merged = volume.put(writer).await;
    let mib = bodies.iter().map(|entry| entry.bytes).sum::<u64>() / MIB;
    let gets = volume.cold().scan(&merged, 0..pages, 99, 20).await;
    assert!(gets <= 2 * mib, "{gets} for {mib} MiB in four files");
}

#[tokio::test]
async fn those_who_want_one_page_share_one_request() {
    let mut volume = Volume::new(Faulty::slow(Duration::from_millis(2)));
    let entry = volume.imported(100).await;
    let reader = volume.cold();
    let reads = (0..64).map(|n| reader.read(&entry, 40 + n % 2, 99));
    for result in futures::future::join_all(reads).await {
        result.unwrap();
    }
    assert_eq!(reader.blobs.counts().gets, 3, "tail, index, frame");
}

#[tokio::test]
async fn a_reader_that_gives_up_leaves_the_others_their_page() {
    let mut volume = Volume::new(Faulty::slow(Duration::from_millis(2)));
    let entry = volume.imported(100).await;
    let reader = volume.cold();
    let impatient = tokio::time::timeout(Duration::from_millis(1), reader.read(&entry, 1, 99));
    let (gone, page) = tokio::join!(impatient, reader.read(&entry, 2, 99));
    assert!(gone.is_err());
    assert_eq!(page.unwrap(), content(2, 20));
}

#[tokio::test(start_paused = true)]
async fn failures_that_pass_are_not_seen() {
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(500).await;
    for fault in [Fault::ServerError, Fault::ShortBody(3), Fault::Hang, Fault::WrongByte(40)] {
        for before in 0..3 {
            let reader = volume.cold();
            volume.faulty.plan(std::iter::repeat_n(Fault::None, before).chain([fault]));
            let page = reader.read(&entry, 77, 99).await;
            assert_eq!(page.unwrap(), content(77, 20), "{fault:?} after {before}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn damage_is_told_with_file_and_offset() {
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(500).await;
    for (before, part) in [(0, "tail"), (1, "index block"), (2, "frame")] {
        let damage = std::iter::repeat_n(Fault::None, before).chain([Fault::WrongByte(40); 2]);
        volume.faulty.plan(damage);
        let error = volume.cold().read(&entry, 77, 99).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let text = error.to_string();
        let named = [part, "offset", &entry.id.to_string()];
        assert!(named.iter().all(|name| text.contains(name)), "{text}");
        assert_eq!(volume.cold().read(&entry, 77, 99).await.unwrap(), content(77, 20));
    }
}

#[tokio::test(start_paused = true)]
async fn failures_that_stay_are_told_whoever_fetched() {
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(2000).await;
    let reader = volume.cold();
    reader.scan(&entry, 0..16, 99, 20).await;
    volume.faulty.plan([Fault::ServerError; 100]);
    // The one who reads finds its frame under way in a step of read-ahead.
    let error = reader.read(&entry, 16, 99).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    volume.faulty.plan([]);
    reader.scan(&entry, 16..2000, 99, 20).await;
}

#[tokio::test]
async fn an_object_that_is_gone_is_not_found() {
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(10).await;
    let other = Arc::new(FileEntry { id: FileId::from_bytes([99; 16]), ..(*entry).clone() });
    let error = volume.cold().read(&other, 1, 99).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn content_other_than_the_index_says_is_never_handed_out() {
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(40).await;
    let reader = volume.cold();
    let found = |page| reader.files.find(&entry, PageNo(page), Revision(99));
    let right = found(5).await.unwrap().unwrap();
    let other_slot = IndexEntry { location: found(6).await.unwrap().unwrap().location, ..right };
    let other_hash = IndexEntry { hash: ContentHash([1; 16]), ..right };
    let mut other_file = right;
    other_file.location.as_mut().unwrap().file = 3;
    let mut other_frame = right;
    let bytes = 100.try_into().unwrap();
    other_frame.location.as_mut().unwrap().frame = FrameHandle { offset: 17, bytes };
    for wrong in [other_slot, other_hash, other_file, other_frame] {
        let reader = volume.cold();
        let error = reader.files.page(&entry, &wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{wrong:?}: {error}");
    }
    assert_eq!(reader.files.page(&entry, &right).await.unwrap(), content(5, 20));
}

#[tokio::test]
async fn another_volumes_file_is_refused() {
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(10).await;
    let smaller = VolumeRecord { page_size: PageSize::new(512).unwrap(), ..record() };
    let files = FileFetcher::new(VOLUME, &smaller, store(&volume.faulty), Caches::default());
    assert_eq!(files.tail(&entry).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn pages_of_zeros_need_no_frame() {
    let mut volume = Volume::new(Faulty::default());
    let mut writer = volume.writer();
    writer.push_zero(PageNo(3), Revision(9));
    let entry = volume.put(writer).await;
    let reader = volume.cold();
    assert_eq!(reader.read(&entry, 3, 9).await.unwrap(), vec![0; 4096]);
    assert_eq!(reader.blobs.counts().gets, 2, "tail, index");
}

#[tokio::test]
async fn versions_are_found_by_revision_and_by_hash() {
    let mut volume = Volume::new(Faulty::default());
    let many: Vec<u64> = (1..=600).map(|n| n * 2).collect();
    let pages = BTreeMap::from([(4, vec![7]), (5, many.clone()), (6, vec![8])]);
    let entry = volume.file(&pages).await;
    let reader = volume.cold();
    let versions = reader.files.versions(&entry, PageNo(5)).await.unwrap();
    let revisions: Vec<u64> = versions.iter().map(|found| found.revision.0).collect();
    assert_eq!(revisions, many.iter().rev().copied().collect::<Vec<_>>());
    for at in [2, 3, 511, 1200, 9999] {
        let version = at.min(1200) & !1;
        assert_eq!(reader.read(&entry, 5, at).await.unwrap(), content(5, version));
        let hash = record().secret.hash(PageNo(5), &content(5, version));
        let found = reader.files.find_by_hash(&entry, PageNo(5), hash).await.unwrap();
        assert_eq!(found.unwrap().revision, Revision(version));
        assert!(reader.files.find_by_hash(&entry, PageNo(6), hash).await.unwrap().is_none());
    }
    assert!(reader.files.versions(&entry, PageNo(9)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_large_index_is_read_in_groups_and_by_the_mib() {
    let mut volume = Volume::new(Faulty::default());
    let small = volume.imported(16).await;
    let reader = volume.cold();
    let found = reader.files.find(&small, PageNo(0), Revision(99)).await.unwrap().unwrap();
    let at = body(&small, found.location.unwrap()).unwrap();
    let mut writer = volume.writer();
    let pages = 200_000;
    for page in (0..pages).map(PageNo) {
        let mut hash = found.hash;
        hash.0[..8].copy_from_slice(&page.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        writer.push_ref(page, Revision(20), hash, at);
    }
    let entry = volume.put(writer).await;
    let index = entry.bytes - entry.own_frame_bytes;
    assert!(index > 3 * MIB, "{index}");

    let reader = volume.cold();
    for page in [100_000, 100_001, 103_000, 10, 199_999] {
        let found = reader.files.find(&entry, PageNo(page), Revision(99)).await.unwrap();
        assert_eq!(found.unwrap().page, PageNo(page));
    }
    assert_eq!(reader.blobs.counts().gets, 5, "tail, and the group of each block");
    assert!(reader.blobs.counts().bytes_in < MIB);

    let reader = volume.cold();
    for page in 0..pages {
        reader.files.find(&entry, PageNo(page), Revision(99)).await.unwrap().unwrap();
    }
    assert!(reader.blobs.counts().gets <= 3 + index / MIB);

    let reader = volume.cold();
    let blocks: Vec<_> = reader.files.blocks(entry.clone()).try_collect().await.unwrap();
    let found = blocks.iter().flat_map(|block| block.entries()).map(|found| found.page.0);
    assert!(found.eq(0..pages));
    assert!(reader.blobs.counts().gets <= 2 + index / MIB);
}

#[tokio::test]
async fn caches_too_small_for_anything_change_nothing_but_speed() {
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(300).await;
    let (pages, indexes) = (PageCache::new(0), IndexCache::new(0));
    let reader = Reader::new(&volume.faulty, Caches { pages, indexes, disk: None });
    reader.scan(&entry, 0..300, 99, 20).await;
}

#[tokio::test]
async fn a_local_disk_saves_the_requests_for_frames() {
    let dir = tempfile::tempdir().unwrap();
    let mut volume = Volume::new(Faulty::default());
    let entry = volume.imported(500).await;
    let open = || async {
        let disk = DiskCache::open(dir.path().into(), 64 * MIB, &Env::system()).await.unwrap();
        Reader::new(&volume.faulty, Caches { disk: Some(Arc::new(disk)), ..Caches::default() })
    };
    let first = open().await;
    first.scan(&entry, 0..500, 99, 20).await;
    let frames = 500 / 16 + 1;
    while walk(dir.path()).len() < frames {
        tokio::task::yield_now().await;
    }
    assert_eq!(open().await.scan(&entry, 0..500, 99, 20).await, 2, "tail and index");

    // A broken frame is fetched again, not handed out.
    for path in walk(dir.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(open().await.scan(&entry, 0..500, 99, 20).await > 2);
}

fn walk(root: &std::path::Path) -> Vec<std::path::PathBuf> {
    let list = |path: &std::path::Path| {
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let files = list(root).iter().flat_map(|folder| list(folder)).collect::<Vec<_>>();
    files.into_iter().filter(|path| !path.to_string_lossy().contains("tmp-")).collect()
}

#[tokio::test]
async fn commits_are_read_from_the_tail_or_from_their_blocks() {
    let mut volume = Volume::new(Faulty::default());
    for (count, gets) in [(3, 1), (5000, 2)] {
        let env = Env::seeded(count);
        let commits: Vec<CommitRecord> = (1..=count)
            .map(|n| CommitRecord {
                revision: Revision(n),
                commit: env.commit_id(),
                base: Revision(n - 1),
                written_count: 1,
                kind: CommitKind::Staged,
            })
            .collect();
        let mut writer = volume.writer();
        commits.iter().for_each(|record| writer.push_commit(*record));
        let change = SizeChange { revision: Revision(2), lowest: None, last: PageCount(9) };
        writer.push_size_change(change);
        let entry = volume.put(writer).await;

        let reader = volume.cold();
        assert_eq!(reader.files.commits(&entry).await.unwrap(), commits);
        assert_eq!(reader.blobs.counts().gets, gets);
        let middle = commits[commits.len() / 2];
        for _ in 0..2 {
            let found = reader.files.find_commit(&entry, middle.commit).await.unwrap();
            assert_eq!(found, Some(middle));
            assert_eq!(reader.blobs.counts().gets, 2 * gets - 1, "a block is kept");
        }
        assert_eq!(reader.files.find_commit(&entry, env.commit_id()).await.unwrap(), None);
        assert_eq!(reader.files.tail(&entry).await.unwrap().sizes(), [change]);
        let tail = reader.files.tail(&entry).await.unwrap();
        let last = tail.commit_blocks().last().unwrap();
        let block = reader.files.commit_block(&entry, last).await.unwrap();
        assert_eq!(block.last(), commits.last());
    }
}
