use std::collections::BTreeMap;

use bytes::Bytes;

use super::footer::Footer;
use super::section::Packer;
use super::*;
use crate::types::{
    CommitId, ContentHash, FileId, HashSecret, PageCount, PageNo, PageSize, Revision, SECRET_BYTES,
    VolumeId,
};

fn secret() -> HashSecret {
    HashSecret::new([9; SECRET_BYTES])
}

fn file_id(n: u8) -> FileId {
    FileId::from_bytes([n; 16])
}

fn params(page_bytes: u64, origin: Origin) -> FileParams {
    FileParams {
        identity: FileIdentity {
            volume: VolumeId(7),
            id: file_id(1),
            named_at: Revision(30),
            page_size: PageSize::new(page_bytes).unwrap(),
        },
        level: 0,
        origin,
    }
}

fn commit(revision: u64) -> CommitRecord {
    CommitRecord {
        revision: Revision(revision),
        commit: CommitId::from_bytes(
            u128::from(revision)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
                .to_be_bytes(),
        ),
        base: Revision(revision.saturating_sub(1)),
        written_count: revision % 5,
        kind: if revision == 0 { CommitKind::Bulk } else { CommitKind::Staged },
    }
}

/// A file as it lies in an object store, read as a reader would.
struct Stored {
    entry: FileEntry,
    bytes: Bytes,
}

impl Stored {
    fn new(built: BuiltFile) -> Stored {
        let bytes: Bytes = built.chunks.concat().into();
        assert_eq!(bytes.len() as u64, built.entry.bytes);
        let suffix = b"L";
        let value = built.entry.encode(suffix);
        let entry = FileEntry::decode(built.entry.place(), suffix, &value, Revision(1000)).unwrap();
        Stored { entry, bytes }
    }

    fn get(&self, range: std::ops::Range<u64>) -> Bytes {
        let start = usize::try_from(range.start).unwrap();
        let end = usize::try_from(range.end).unwrap();
        self.bytes.get(start..end).map(Bytes::copy_from_slice).unwrap_or_default()
    }

    fn tail(&self) -> Result<FileTail, FileError> {
        FileTail::decode(&self.entry, &self.get(self.entry.tail_range()))
    }

    fn find(&self, page: PageNo, revision: Revision) -> Result<Option<IndexEntry>, FileError> {
        let tail = self.tail()?;
        let Some(handle) = tail.block_for(page, revision) else { return Ok(None) };
        let block = IndexBlock::decode(handle, tail.published(), &self.get(handle.range()))?;
        Ok(block.find(page, revision).copied())
    }

    fn content(&self, entry: &IndexEntry) -> Result<Option<Bytes>, FileError> {
        let Some(location) = entry.location else { return Ok(None) };
        let tail = self.tail()?;
        let at = tail.resolve(location)?;
        assert_eq!(at.file, self.entry.id);
        let page_size = tail.identity().page_size;
        let frame = Frame::decode(at.frame, page_size, &self.get(at.frame.range()))?;
        frame.verified(entry, at.slot, &secret()).map(Some)
    }

    fn commits(&self) -> Result<Vec<CommitRecord>, FileError> {
        let tail = self.tail()?;
        let mut commits = Vec::new();
        for handle in tail.commit_blocks() {
            let bytes = tail.commit_block_bytes(handle).unwrap_or_else(|| self.get(handle.range()));
            commits.extend(decode_commits(handle, tail.published(), &bytes)?);
        }
        Ok(commits)
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn page(&mut self, bytes: usize) -> Vec<u8> {
        let (words, period) = (self.next(), 1 + self.next() % 300);
        (0..bytes as u64).map(|i| (words ^ (i % period)).to_le_bytes()[0]).collect()
    }
}

type Versions = BTreeMap<PageNo, BTreeMap<Revision, Vec<u8>>>;

fn random_versions(random: &mut Random, page_bytes: usize, pages: u64) -> Versions {
    let mut versions = Versions::new();
    for _ in 0..pages {
        let page = match random.next() % 10 {
            0 => u64::MAX - 1 - random.next() % 3,
            _ => random.next() % (pages * 2),
        };
        let count = if random.next().is_multiple_of(50) { 700 } else { 1 + random.next() % 3 };
        for _ in 0..count {
            let zero = random.next().is_multiple_of(8);
            let content = if zero { vec![0; page_bytes] } else { random.page(page_bytes) };
            let revision = Revision(1 + random.next() % 100_000);
            versions.entry(PageNo(page)).or_default().insert(revision, content);
        }
    }
    versions
}

fn write(params: FileParams, versions: &Versions) -> FileWriter {
    let mut writer = FileWriter::new(params);
    for (page, history) in versions {
        for (revision, content) in history.iter().rev() {
            writer.push_body(*page, *revision, secret().hash(*page, content), content);
        }
    }
    writer
}

#[test]
fn every_version_written_is_found_and_nothing_else() {
    let mut random = Random(11);
    for (page_bytes, pages) in [(512, 300), (4096, 40), (65_536, 8)] {
        let versions = random_versions(&mut random, page_bytes, pages);
        let stored =
            Stored::new(write(params(page_bytes as u64, Origin::Flush), &versions).finish());
        let tail = stored.tail().unwrap();
        let total: usize = versions.values().map(BTreeMap::len).sum();
        assert_eq!(stored.entry.version_count, total as u64);
        assert_eq!(stored.entry.page_count, versions.len() as u64);
        assert_eq!(stored.entry.first, *versions.keys().next().unwrap());
        assert_eq!(stored.entry.last, *versions.keys().next_back().unwrap());

        for (page, history) in &versions {
            assert!(tail.holds(*page));
            for (revision, content) in history {
                let entry = stored.find(*page, *revision).unwrap().unwrap();
                assert_eq!((entry.page, entry.revision), (*page, *revision));
                let zero = content.iter().all(|byte| *byte == 0);
                let found = stored.content(&entry).unwrap();
                assert_eq!(found.as_deref(), (!zero).then_some(content.as_slice()));
                let before = history.range(..revision).next_back().map(|(revision, _)| *revision);
                let found = stored.find(*page, Revision(revision.0 - 1)).unwrap();
                assert_eq!(found.map(|entry| entry.revision), before);
            }
            let found = tail.blocks_of(*page..=*page).iter().flat_map(|handle| {
                let bytes = stored.get(handle.range());
                let block = IndexBlock::decode(handle, tail.published(), &bytes).unwrap();
                block.versions(*page).to_vec()
            });
            assert!(found.map(|entry| entry.revision).eq(history.keys().rev().copied()));
        }
        for page in (0..pages * 2).map(PageNo).filter(|page| !versions.contains_key(page)) {
            assert!(!tail.holds(page));
            assert_eq!(stored.find(page, Revision::MAX), Ok(None));
        }
    }
}

#[test]
fn newest_versions_lie_in_page_order_before_all_older_ones() {
    let mut writer = FileWriter::new(params(4096, Origin::Flush));
    let mut random = Random(3);
    for page in 0..200 {
        for revision in [9, 8, 7] {
            let content = random.page(4096);
            let page = PageNo(page);
            writer.push_body(page, Revision(revision), secret().hash(page, &content), &content);
        }
    }
    let stored = Stored::new(writer.finish());
    let at = |page, revision| {
        let entry = stored.find(PageNo(page), Revision(revision)).unwrap().unwrap();
        let location = entry.location.unwrap();
        (location.frame.offset, location.slot)
    };
    let newest: Vec<_> = (0..200).map(|page| at(page, 9)).collect();
    let older: Vec<_> = (0..200).flat_map(|page| [at(page, 8), at(page, 7)]).collect();
    assert!(newest.is_sorted() && older.is_sorted());
    assert!(newest.last() < older.first());
    assert_eq!(stored.entry.raw_bytes, 600 * 4096);
}

#[test]
fn a_bulk_file_takes_the_revision_of_its_publication() {
    let mut writer = FileWriter::new(params(512, Origin::Bulk));
    for page in 0..600 {
        writer.push_body(
            PageNo(page),
            Revision::ZERO,
            secret().hash(PageNo(page), &[1; 512]),
            &[1; 512],
        );
    }
    writer.push_commit(commit(0));
    let lowest = Some(PageCount(5));
    writer.push_size_change(SizeChange { revision: Revision::ZERO, lowest, last: PageCount(600) });
    let stored = Stored::new(writer.finish());
    assert_eq!((stored.entry.oldest, stored.entry.newest), (Revision(1000), Revision(1000)));
    let truncation = Truncation { newest: Revision(1000), lowest: PageCount(5) };
    assert_eq!(stored.entry.truncation, Some(truncation));
    for page in [0, 255, 256, 599] {
        assert_eq!(stored.find(PageNo(page), Revision(999)), Ok(None));
        let entry = stored.find(PageNo(page), Revision(1000)).unwrap().unwrap();
        assert_eq!(entry.revision, Revision(1000));
        assert_eq!(stored.content(&entry).unwrap().unwrap(), [1; 512].as_slice());
    }
    assert_eq!(stored.commits().unwrap()[0].revision, Revision(1000));
    assert_eq!(stored.tail().unwrap().sizes()[0].revision, Revision(1000));
}

#[test]
fn a_file_of_commits_alone_matches_no_page() {
    for count in [1, 3000] {
        let mut writer = FileWriter::new(params(4096, Origin::Flush));
        assert!(writer.is_empty());
        let commits: Vec<_> = (1..=count).map(commit).collect();
        commits.iter().rev().for_each(|record| writer.push_commit(*record));
        writer.push_size_change(SizeChange {
            revision: Revision(2),
            lowest: None,
            last: PageCount(9),
        });
        let stored = Stored::new(writer.finish());
        assert!(stored.entry.is_pageless());
        assert!(!stored.entry.may_hold(PageNo(0)) && !stored.entry.may_hold(PageNo(u64::MAX)));
        assert_eq!(stored.entry.newest, Revision(count.max(2)));
        assert_eq!(stored.commits().unwrap(), commits);
        let tail = stored.tail().unwrap();
        let in_tail = tail.commit_blocks().iter().all(|at| tail.commit_block_bytes(at).is_some());
        assert_eq!(in_tail, count == 1);
        let (last, wanted) = (tail.commit_blocks().last().unwrap(), commits.last().unwrap());
        assert!(last.may_hold(wanted.commit) && !last.may_hold(CommitId::from_bytes([0; 16])));
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let stored = Stored::new(FileWriter::new(params(4096, Origin::Merge)).finish());
    assert!(stored.tail().unwrap().blocks().is_empty());
    assert_eq!(stored.find(PageNo(0), Revision::MAX), Ok(None));
}

#[test]
fn an_index_points_into_many_files() {
    let mut writer = FileWriter::new(params(4096, Origin::Merge));
    let handle = |offset| FrameHandle { offset, bytes: 1000.try_into().unwrap() };
    for page in 0..1000u64 {
        let file = file_id(2 + (page % 3).to_le_bytes()[0]);
        let frame = handle(16 + page / 30 * 1000);
        let slot = u16::try_from(page % 30).unwrap();
        let at = BodyAt { file, named_at: Revision(page % 3), frame, slot };
        writer.push_ref(PageNo(page), Revision(5), ContentHash([1; 16]), at);
    }
    assert!(writer.can_refer_to(file_id(9)));
    let stored = Stored::new(writer.finish());
    assert_eq!(stored.entry.refs.len(), 3);
    assert_eq!(
        stored.entry.refs[0],
        FileRef {
            id: file_id(2),
            named_at: Revision(0),
            frame_bytes: 34_000,
            frame_count: 34,
            page_count: 334,
        }
    );
    assert_eq!(stored.entry.own_frame_bytes, 0);
    let tail = stored.tail().unwrap();
    for page in 0..1000u64 {
        let entry = stored.find(PageNo(page), Revision(5)).unwrap().unwrap();
        let at = tail.resolve(entry.location.unwrap()).unwrap();
        assert_eq!(at.file, file_id(2 + (page % 3).to_le_bytes()[0]));
        assert_eq!((at.named_at, at.frame), (Revision(page % 3), handle(16 + page / 30 * 1000)));
    }
    let lost = Location { frame: handle(0), file: 4, slot: 0 };
    assert!(matches!(
        tail.resolve(lost),
        Err(FileError::Broken { section: Section::References, .. })
    ));
}

#[test]
fn references_are_bounded() {
    let mut writer = FileWriter::new(params(4096, Origin::Merge));
    let frame = FrameHandle { offset: 16, bytes: 9.try_into().unwrap() };
    for n in 0..MAX_REFS as u64 {
        let file = FileId::from_bytes((u128::from(n) << 64).to_be_bytes());
        let at = BodyAt { file, named_at: Revision(1), frame, slot: 0 };
        writer.push_ref(PageNo(n), Revision(1), ContentHash([1; 16]), at);
    }
    assert!(!writer.can_refer_to(file_id(9)));
    assert!(writer.can_refer_to(FileId::from_bytes([0; 16])));
    let stored = Stored::new(writer.finish());
    assert!(stored.entry.encode(b"L").len() < 128 * 1024);
}

#[test]
fn the_writer_tells_how_large_the_file_has_become() {
    let mut random = Random(5);
    let versions = random_versions(&mut random, 4096, 100);
    let writer = write(params(4096, Origin::Flush), &versions);
    let about = writer.written_bytes();
    let built = writer.finish();
    assert!(about < built.entry.bytes * 3 && built.entry.bytes < about * 3);
}

fn small_file() -> BuiltFile {
    let mut writer = FileWriter::new(params(512, Origin::Flush));
    let page = |page, fill: u8| {
        let content: Vec<u8> = (0..512u32).map(|i| fill ^ (i / 7).to_le_bytes()[0]).collect();
        (PageNo(page), secret().hash(PageNo(page), &content), content)
    };
    for (page, hash, content) in [page(3, 1), page(9, 2)] {
        writer.push_body(page, Revision(20), hash, &content);
    }
    let (number, hash, content) = page(9, 3);
    writer.push_body(number, Revision(12), hash, &content);
    writer.push_zero(PageNo(9), Revision(11));
    let frame = FrameHandle { offset: 16, bytes: 300.try_into().unwrap() };
    let at = BodyAt { file: file_id(2), named_at: Revision(4), frame, slot: 5 };
    writer.push_ref(PageNo(10), Revision(5), ContentHash([0xab; 16]), at);
    writer.push_zero(PageNo(u64::MAX - 1), Revision(13));
    writer.push_commit(commit(12));
    writer.push_commit(commit(20));
    let lowest = Some(PageCount(2));
    writer.push_size_change(SizeChange { revision: Revision(11), lowest, last: PageCount(10) });
    writer.push_size_change(SizeChange {
        revision: Revision(13),
        lowest: None,
        last: PageCount(u64::MAX),
    });
    writer.finish()
}

/// Everything that a reader can learn from the small file.
fn read_all(stored: &Stored) -> Result<Vec<String>, FileError> {
    let tail = stored.tail()?;
    let mut all = vec![format!("{:?} {:?}", tail.sizes(), tail.references())];
    for page in [0, 3, 9, 10, u64::MAX - 1] {
        for revision in [20, 12, 11, 10] {
            let entry = stored.find(PageNo(page), Revision(revision))?;
            let content = match &entry {
                Some(entry) if entry.location.is_some_and(|location| location.file == 0) => {
                    stored.content(entry)?
                }
                _ => None,
            };
            all.push(format!("{entry:?} {content:?}"));
        }
    }
    all.push(format!("{:?}", stored.commits()?));
    Ok(all)
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed_or_harmless() {
    let whole = Stored::new(small_file());
    let expected = read_all(&whole).unwrap();
    let mut harmless = 0;
    for bit in 0..whole.bytes.len() * 8 {
        let mut bytes = whole.bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match read_all(&Stored { entry: whole.entry.clone(), bytes: bytes.into() }) {
            Ok(read) => {
                assert_eq!(read, expected, "bit {bit}");
                harmless += 1;
            }
            Err(error) => {
                let public = error.of(whole.entry.id);
                assert_eq!(public.kind(), crate::ErrorKind::Corrupt);
                assert!(public.to_string().contains("offset"), "{public}");
            }
        }
    }
    assert_eq!(harmless, 16 * 8, "only the header is not read");
    for len in 0..whole.bytes.len() {
        let cut = Stored { entry: whole.entry.clone(), bytes: whole.bytes.slice(..len) };
        assert!(read_all(&cut).is_err(), "length {len}");
    }
}

/// Damage that comes with right checksums must be an error too.
#[test]
fn parts_that_lie_under_right_checksums_never_panic() {
    let mut random = Random(99);
    let whole = Stored::new(small_file());
    let tail_start = usize::try_from(whole.entry.tail_offset).unwrap();
    for _ in 0..20_000 {
        let mut bytes = whole.bytes.to_vec();
        for _ in 0..=random.next() % 3 {
            let at =
                tail_start + usize::try_from(random.next()).unwrap() % (bytes.len() - tail_start);
            bytes[at] = random.next().to_le_bytes()[0];
        }
        let mut entry = whole.entry.clone();
        entry.tail_checksum = xxhash_rust::xxh3::xxh3_64(&bytes[tail_start..]);
        let _ = read_all(&Stored { entry, bytes: bytes.into() });
    }
    for section in [Section::Filter, Section::Directory, Section::Sizes, Section::References] {
        for _ in 0..5000 {
            let len = usize::try_from(random.next() % 60).unwrap();
            let raw: Vec<u8> = (0..len).map(|_| random.next().to_le_bytes()[0]).collect();
            match section {
                Section::Filter => drop(directory::decode_filter(&raw)),
                Section::Sizes => drop(directory::decode_sizes(&raw, Revision(1))),
                Section::References => drop(directory::decode_references(&raw)),
                _ => drop(directory::Directory::decode(&raw, 0..60, 60..90, Revision(1))),
            }
        }
    }
}

/// A few bytes may stand for many: how many there can be, entry and footer say.
#[test]
fn a_part_of_a_tail_is_not_unpacked_to_more_than_there_can_be() {
    let whole = Stored::new(small_file());
    let tail_start = usize::try_from(whole.entry.tail_offset).unwrap();
    let footer = Footer::decode(&whole.entry, &whole.bytes[tail_start..]).unwrap();
    let at = |range: &std::ops::Range<u64>| {
        usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
    };
    let parts = [&footer.sizes, &footer.references, &footer.filter, &footer.directory];
    for swollen in 0..parts.len() {
        let mut bytes = whole.bytes[..at(parts[0]).start].to_vec();
        let mut ranges = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let start = bytes.len() as u64;
            if index == swollen {
                bytes.extend(Packer::new().sealed(&vec![0; 1 << 20]));
            } else {
                bytes.extend_from_slice(&whole.bytes[at(part)]);
            }
            ranges.push(start..bytes.len() as u64);
        }
        let mut footer = footer.clone();
        [footer.sizes, footer.references, footer.filter, footer.directory] =
            ranges.try_into().unwrap();
        bytes.extend(footer.encode());
        let mut entry = whole.entry.clone();
        entry.bytes = bytes.len() as u64;
        entry.tail_checksum = xxhash_rust::xxh3::xxh3_64(&bytes[tail_start..]);
        let error = Stored { entry, bytes: bytes.into() }.tail().unwrap_err();
        assert!(error.to_string().contains("unpacks to more than it may"), "{swollen}: {error}");
    }
}

#[test]
fn a_newer_version_names_both() {
    let mut whole = Stored::new(small_file());
    let mut bytes = whole.bytes.to_vec();
    let at = bytes.len() - 12;
    bytes[at] = 2;
    let tail_start = usize::try_from(whole.entry.tail_offset).unwrap();
    whole.entry.tail_checksum = xxhash_rust::xxh3::xxh3_64(&bytes[tail_start..]);
    whole.bytes = bytes.into();
    let error = whole.tail().unwrap_err();
    assert_eq!(error, FileError::NewerVersion { found: 2, newest: 1 });
    let public = error.of(whole.entry.id);
    assert_eq!(public.kind(), crate::ErrorKind::Invalid);
    assert!(public.to_string().contains("version 2, this build reads up to version 1"), "{public}");
}

#[test]
fn the_tail_of_another_file_is_noticed() {
    let whole = Stored::new(small_file());
    let entry = FileEntry { id: file_id(8), ..whole.entry.clone() };
    let stored = Stored { entry, bytes: whole.bytes };
    let error = stored.tail().unwrap_err();
    assert!(error.to_string().ends_with("is that of another file"), "{error}");
}

/// A file written by the first release; it is read for ever.
#[test]
fn the_frozen_file_is_read() {
    let bytes = include_bytes!("../../../tests/testdata/v1/small.file");
    let value = include_bytes!("../../../tests/testdata/v1/small.entry");
    let fresh = Stored::new(small_file());
    let entry = FileEntry::decode(fresh.entry.place(), b"L", value, Revision(1000)).unwrap();
    let frozen = Stored { entry, bytes: Bytes::from_static(bytes) };
    assert_eq!(read_all(&frozen).unwrap(), read_all(&fresh).unwrap());
}
