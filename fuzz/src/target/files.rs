//! Parts of files, each packed and sealed anew, and whole tails.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use pagestore::internal::codec::Encoding;
use pagestore::internal::file::{
    BlockHandle, BodyAt, BuiltFile, CommitBlockHandle, CommitKind, CommitRecord, EntryKey,
    FileEntry, FileIdentity, FileParams, FileTail, FileWriter, Frame, FrameHandle, IndexBlock,
    Origin, SizeChange, decode_commits,
};
use pagestore::internal::types::{ContentHash, HashSecret, SECRET_BYTES};
use pagestore::{CommitId, FileId, PageCount, PageNo, PageSize, Revision, VolumeId};

use super::Target;

pub(super) const TARGETS: [Target; 5] = [
    Target { name: "tail", corpus: tail_corpus, run: tail },
    Target { name: "tail parts", corpus: part_corpus, run: tail_part },
    Target { name: "index block", corpus: index_corpus, run: index_block },
    Target { name: "commit block", corpus: commits_corpus, run: commit_block },
    Target { name: "frame", corpus: frame_corpus, run: frame },
];

const PAGE_BYTES: usize = 512;
const PUBLISHED: Revision = Revision(99);
/// Bytes of the footer: six ranges after its first 64 bytes, checksum, version, magic.
const FOOTER_BYTES: usize = 64 + 6 * 16 + 8 + 4 + 8;
/// Where the ranges of size history, references, filter and directory stand in it.
const PART_RANGES: [usize; 4] = [64 + 2 * 16, 64 + 3 * 16, 64 + 4 * 16, 64 + 5 * 16];

fn size() -> PageSize {
    PageSize::new(PAGE_BYTES as u64).expect("BUG: 512 is a page size")
}

/// A small file with everything in it: its object and its entry.
pub(super) fn example() -> (Bytes, FileEntry) {
    let secret = HashSecret::new([1; SECRET_BYTES]);
    let identity = FileIdentity {
        volume: VolumeId(7),
        id: FileId::from_bytes([6; 16]),
        named_at: Revision(4),
        page_size: size(),
    };
    let mut writer = FileWriter::new(FileParams { identity, level: 1, origin: Origin::Merge });
    for page in 3..40u64 {
        for revision in [20, 12] {
            let content: Vec<u8> = (0..PAGE_BYTES as u64)
                .map(|at| (at / 7 + page * revision).to_le_bytes()[0])
                .collect();
            writer.push_body(
                PageNo(page),
                Revision(revision),
                secret.hash(PageNo(page), &content),
                &content,
            );
        }
        writer.push_zero(PageNo(page), Revision(11));
    }
    let frame = FrameHandle { offset: 16, bytes: 300.try_into().expect("BUG: 300 is not 0") };
    for slot in 0..3u16 {
        let at = BodyAt { file: FileId::from_bytes([2; 16]), named_at: Revision(3), frame, slot };
        writer.push_ref(PageNo(50 + u64::from(slot)), Revision(5), ContentHash([0xab; 16]), at);
    }
    writer.push_zero(PageNo(u64::MAX - 1), Revision(13));
    for (revision, kind) in [(12, CommitKind::Staged), (20, CommitKind::Bulk)] {
        let commit = CommitId::from_bytes([revision; 16]);
        let base = Revision(u64::from(revision) - 1);
        writer.push_commit(CommitRecord {
            revision: Revision(revision.into()),
            commit,
            base,
            written_count: 74,
            kind,
        });
    }
    let lowest = Some(PageCount(2));
    writer.push_size_change(SizeChange { revision: Revision(11), lowest, last: PageCount(10) });
    writer.push_size_change(SizeChange {
        revision: Revision(13),
        lowest: None,
        last: PageCount(u64::MAX),
    });
    let BuiltFile { chunks, mut entry } = writer.finish();
    entry.published = Some(PUBLISHED);
    (chunks.concat().into(), entry)
}

fn start_of_tail(entry: &FileEntry) -> usize {
    usize::try_from(entry.tail_offset).expect("BUG: the example is small")
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("BUG: a footer is as long as it is"))
}

/// Looks at all that a tail tells.
fn look(tail: &FileTail) {
    for page in [0, 3, 39, 51, u64::MAX - 1] {
        let page = PageNo(page);
        let _ = (
            tail.holds(page),
            tail.block_for(page, Revision(20)),
            tail.blocks_of(PageNo(1)..=page),
        );
    }
    for handle in tail.commit_blocks() {
        if let Some(bytes) = tail.commit_block_bytes(handle) {
            let _ = decode_commits(handle, PUBLISHED, &bytes);
        }
    }
    let _ = (tail.identity(), tail.sizes(), tail.references(), tail.weight(), tail.pages().len());
    tail.blocks().iter().for_each(|block| drop(block.range()));
}

// --- tails -------------------------------------------------------------------------------------------

fn tail_corpus() -> Vec<Vec<u8>> {
    let (object, entry) = example();
    vec![object[start_of_tail(&entry)..].to_vec()]
}

/// Any bytes as a tail, under checksums that hold: that of the tail, of the footer, and of each part that the
/// footer's ranges name.
fn tail(input: &[u8]) -> bool {
    let (_, entry) = example();
    let mut bytes = input.to_vec();
    if let Some(start) = bytes.len().checked_sub(FOOTER_BYTES) {
        for at in PART_RANGES {
            let from =
                u64_at(&bytes, start + at).checked_sub(entry.tail_offset).map(usize::try_from);
            let length = usize::try_from(u64_at(&bytes, start + at + 8));
            let (Some(Ok(from)), Ok(length)) = (from, length) else { continue };
            let part = from.checked_add(length).and_then(|end| bytes.get_mut(from..end.min(start)));
            seal(part.unwrap_or_default());
        }
        let checksum = xxh3_64(&bytes[start..start + FOOTER_BYTES - 20]);
        bytes[start + FOOTER_BYTES - 20..start + FOOTER_BYTES - 12]
            .copy_from_slice(&checksum.to_le_bytes());
    }
    decode_tail(entry, bytes)
}

fn seal(part: &mut [u8]) {
    if let Some((checksum, rest)) = part.split_first_chunk_mut::<8>() {
        *checksum = xxh3_64(rest).to_le_bytes();
    }
}

fn decode_tail(entry: FileEntry, bytes: Vec<u8>) -> bool {
    let entry = FileEntry {
        bytes: entry.tail_offset + bytes.len() as u64,
        tail_checksum: xxh3_64(&bytes),
        ..entry
    };
    let Ok(tail) = FileTail::decode(&entry, &bytes.into()) else { return false };
    look(&tail);
    true
}

/// Which part, then what it is made from before it is packed.
fn part_corpus() -> Vec<Vec<u8>> {
    let (object, _) = example();
    let u32_at = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(*bytes[at..].first_chunk().expect("BUG: a part has its lengths"))
            as usize
    };
    let unpacked = (0u8..).zip(PART_RANGES).map(|(part, at)| {
        // Checksum and both lengths come before what is packed.
        let sealed = &object[part_of(&object, at)];
        let raw = zstd::bulk::decompress(&sealed[16..], u32_at(sealed, 8));
        [&[part][..], &raw.expect("BUG: a part does not unpack")].concat()
    });
    unpacked.collect()
}

/// A tail of which one part is made from any bytes.
fn tail_part(input: &[u8]) -> bool {
    let Some((chosen, raw)) = input.split_first() else { return false };
    let (object, entry) = example();
    let footer = object.len() - FOOTER_BYTES;
    let mut end = object[footer..].to_vec();
    let first = part_of(&object, PART_RANGES[0]).start;
    let mut bytes = object[start_of_tail(&entry)..first].to_vec();
    for (index, at) in PART_RANGES.into_iter().enumerate() {
        let part = match usize::from(*chosen) % PART_RANGES.len() == index {
            true => pack(raw, &[]),
            false => object[part_of(&object, at)].to_vec(),
        };
        let offset = entry.tail_offset + bytes.len() as u64;
        end[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        end[at + 8..at + 16].copy_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&part);
    }
    let checksum = xxh3_64(&end[..FOOTER_BYTES - 20]);
    end[FOOTER_BYTES - 20..FOOTER_BYTES - 12].copy_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&end);
    decode_tail(entry, bytes)
}

/// The bytes of the example that the range at `at` of its footer names.
fn part_of(object: &[u8], at: usize) -> std::ops::Range<usize> {
    let footer = &object[object.len() - FOOTER_BYTES..];
    let number = |at| usize::try_from(u64_at(footer, at)).expect("BUG: the example is small");
    number(at)..number(at) + number(at + 8)
}

/// A sealed part: checksum, both lengths, `raw` packed, `rest` as it is.
fn pack(raw: &[u8], rest: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(raw, 1).expect("BUG: zstd fails");
    let mut part = vec![0; 8];
    for length in [raw.len(), packed.len()] {
        part.extend_from_slice(
            &u32::try_from(length).expect("BUG: an input is short").to_le_bytes(),
        );
    }
    part.extend_from_slice(&packed);
    part.extend_from_slice(rest);
    seal(&mut part);
    part
}

// --- index blocks ------------------------------------------------------------------------------------

/// Bytes of columns as `u16`, columns, hashes.
fn index_corpus() -> Vec<Vec<u8>> {
    let columns = |columns: &[u8], hashes: usize| {
        let length = u16::try_from(columns.len()).expect("BUG: an example is short");
        [&length.to_le_bytes()[..], columns, &vec![3; 16 * hashes]].concat()
    };
    // Pages 2 and 5; revisions 9 and 7 (zigzag); a location of its own, then the next slot.
    vec![
        columns(&[2, 2, 3, 18, 3, 3, 0, 16, 172, 2, 0, 1], 2),
        columns(&[3, 2, 3, 3, 18, 3, 3, 3, 1, 16, 172, 2, 0, 2, 9, 0], 2),
        columns(&[1, 2, 18, 0], 0),
        columns(&[0], 0),
    ]
}

fn index_block(input: &[u8]) -> bool {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return false };
    let (columns, hashes) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    let block = pack(columns, hashes);
    // The last key is the directory's to say: any block of two entries or fewer is tried under its own.
    let mut accepted = columns == [0];
    for (page, revision) in [(2, 9), (5, 7), (8, 5), (8, 7)] {
        let handle = BlockHandle {
            offset: 16,
            bytes: block.len() as u64,
            last: EntryKey::new(PageNo(page), Revision(revision)),
        };
        let Ok(block) = IndexBlock::decode(&handle, PUBLISHED, &block) else { continue };
        accepted = true;
        assert!(block.entries().len() <= columns.len());
        for entry in block.entries() {
            assert!(
                block
                    .find(entry.page, entry.revision)
                    .is_some_and(|found| found.page == entry.page)
            );
            assert!(block.find_hash(entry.page, entry.hash).is_some());
        }
        let _ = (block.weight(), block.find(PageNo(u64::MAX), Revision(0)));
    }
    accepted
}

// --- commit blocks -----------------------------------------------------------------------------------

fn commits_corpus() -> Vec<Vec<u8>> {
    // Count; per commit: revision, id, base, pages written, kind.
    let one = [&[1, 24][..], &[12; 16], &[1, 74, 1]].concat();
    let two = [&[2, 24][..], &[12; 16], &[1, 74, 1], &[16], &[20; 16], &[1, 200, 1, 2]].concat();
    vec![one, two]
}

fn commit_block(input: &[u8]) -> bool {
    let block = pack(input, &[]);
    (1..=2).any(|commit_count| {
        let handle = CommitBlockHandle {
            offset: 16,
            bytes: block.len() as u64,
            commit_count,
            first: Revision(12),
            last: Revision(20),
            min_id: CommitId::from_bytes([0; 16]),
            max_id: CommitId::from_bytes([255; 16]),
        };
        decode_commits(&handle, PUBLISHED, &block).is_ok()
    })
}

// --- frames ------------------------------------------------------------------------------------------

fn frame_corpus() -> Vec<Vec<u8>> {
    let page = |fill: u8| vec![fill; PAGE_BYTES];
    vec![
        [&[1, 3][..], &page(1)].concat(),
        [&[3, 3, 0, 6][..], &page(1), &page(2), &page(3)].concat(),
    ]
}

fn frame(input: &[u8]) -> bool {
    let block = pack(input, &[]);
    let bytes = u32::try_from(block.len()).ok().and_then(std::num::NonZeroU32::new);
    let Some(bytes) = bytes else { return false };
    let Ok(frame) = Frame::decode(FrameHandle { offset: 16, bytes }, size(), &block) else {
        return false;
    };
    assert_eq!(frame.pages().count(), frame.slot_count());
    assert!(frame.pages().all(|(_, content)| content.len() == PAGE_BYTES));
    let _ = Encoding::from_tag(input[0]);
    true
}
