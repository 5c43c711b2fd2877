//! `schema.md` is true: every example in it is decoded by the decoders that the store uses, says what
//! comes out, and is what the encoders write; and nothing that is stored lacks an example.
#![allow(clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::num::NonZeroU32;
use std::path::Path;

use bytes::Bytes;
use pagestore::internal::blob::ObjectName;
use pagestore::internal::codec::{Encoding, Expected, PageCodec, Staged, StagedValue};
use pagestore::internal::file::{
    BodyAt, BuiltFile, CommitKind, CommitRecord, FileEntry, FileIdentity, FileParams, FileTail,
    FileWriter, Frame, FrameHandle, IndexBlock, Origin, SizeChange, decode_commits,
};
use pagestore::internal::meta::keys::{
    FilePlace, SENTINEL_SESSION, StoreKeys, VolumeKeys, WatchedKey,
};
use pagestore::internal::meta::records::{
    ChangelogEntry, Claim, Dropped, Floor, Intent, Job, Oldest, PageCountRecord, Point, Pointer,
    Record, StoreRecord, VolumeName, VolumeRecord, WriteLockRecord, decode_pin, encode_pin,
};
use pagestore::internal::meta::{KeyValue, LeaseId};
use pagestore::internal::types::{
    CommitId, ContentHash, FileId, HashSecret, PageCount, PageNo, PageSize, PointName, Revision,
    SECRET_BYTES, SessionId, VolumeId,
};
use pagestore_tests::schema::{Example, SCHEMA, examples};

// What `schema.md` says that its examples are about.
const ROOT: &str = "r/";
const VOLUME: VolumeId = VolumeId(0x0102);
const PAGE_BYTES: usize = 512;

fn secret() -> HashSecret {
    HashSecret::new([0x5e; SECRET_BYTES])
}

fn keys() -> VolumeKeys {
    StoreKeys::new(ROOT).volume(VOLUME)
}

fn file(n: u8) -> FileId {
    format!("0192f7a1-7c00-7000-8000-0000000000{n:02x}").parse().expect("a file id")
}

fn commit_id(n: u8) -> CommitId {
    CommitId::from_bytes(file(n).bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fails unless `example` says what was decoded and holds what is encoded.
fn hold(example: &Example, decoded: &dyn Debug, encoded: &[u8]) {
    let line = example.line;
    let decoded = format!("{decoded:?}");
    assert_eq!(example.says.as_deref(), Some(decoded.as_str()), "schema.md:{line}");
    assert_eq!(hex(&example.bytes), hex(encoded), "schema.md:{line}: {decoded}");
}

// --- values ----------------------------------------------------------------------------------------

fn check_record<R: Record + Debug>(example: &Example) {
    let key = example.hex_attribute("key");
    let record = R::decode(&key, &example.bytes)
        .unwrap_or_else(|error| panic!("schema.md:{}: {error}", example.line));
    hold(example, &record, &record.encode(&key));
    let other = [&key[..], b"x"].concat();
    assert!(R::decode(&other, &example.bytes).is_err(), "schema.md:{}: any key", example.line);
}

type Check = fn(&Example);

fn records() -> Vec<(&'static str, Check)> {
    fn row<R: Record + Debug>() -> (&'static str, Check) {
        (R::NAME, check_record::<R>)
    }
    vec![
        row::<StoreRecord>(),
        row::<VolumeName>(),
        row::<VolumeRecord>(),
        row::<Floor>(),
        row::<Oldest>(),
        row::<PageCountRecord>(),
        row::<Pointer>(),
        row::<ChangelogEntry>(),
        row::<Dropped>(),
        row::<Intent>(),
        row::<WriteLockRecord>(),
        row::<Point>(),
        row::<Claim>(),
        row::<Job>(),
    ]
}

#[test]
fn every_example_of_a_record_decodes() {
    let records = records();
    let mut seen = BTreeSet::new();
    for example in examples("record") {
        let name = example.attribute("record").expect("the attribute asked for");
        let (name, check) = records
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("schema.md:{}: no record {name}", example.line));
        check(&example);
        seen.insert(*name);
    }
    // A record that is new in the code is missing in the table above, or in the schema.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pagestore/src/meta/records");
    for source in std::fs::read_dir(sources).expect("the records' sources") {
        let source = source.expect("a source").path();
        let text = std::fs::read_to_string(&source).expect("a source of text");
        for line in text.lines() {
            let name = line.trim().strip_prefix("const NAME: &'static str = \"");
            let Some(name) = name.and_then(|name| name.strip_suffix("\";")) else { continue };
            assert!(seen.contains(name), "schema.md has no example of a {name:?}");
        }
    }
    assert_eq!(seen.len(), records.len());
}

#[test]
fn the_example_of_a_pin_decodes() {
    let found = examples("pin");
    assert_eq!(found.len(), 1);
    let kv = KeyValue {
        key: keys().pin(SessionId(7)),
        value: found[0].bytes.clone().into(),
        create_revision: Revision(1),
        mod_revision: Revision(1),
        version: 1,
        lease: LeaseId(0),
    };
    let revision = decode_pin(&keys(), &kv).expect("a pin");
    hold(&found[0], &revision, &encode_pin(revision));
}

// --- staged pages ----------------------------------------------------------------------------------

/// The noise of the schema: bytes that nothing compresses.
fn noise() -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        state.to_be_bytes()[0]
    };
    (0..PAGE_BYTES).map(|_| next()).collect()
}

fn staged_contents() -> Vec<(Encoding, Vec<u8>)> {
    let mut changed = noise();
    changed[100..104].copy_from_slice(b"abcd");
    let masked = noise().iter().map(|byte| byte ^ 0x33).collect();
    vec![
        (Encoding::Raw, noise()),
        (Encoding::Whole, vec![0x33; PAGE_BYTES]),
        (Encoding::Xor, masked),
        (Encoding::Prefix, changed),
    ]
}

#[test]
fn every_example_of_a_staged_page_decodes() {
    let (page, secret, base) = (PageNo(300), secret(), noise());
    let base_hash = secret.hash(page, &base);
    let page_size = PageSize::new(PAGE_BYTES as u64).expect("a page size");
    let contents = staged_contents();
    let found = examples("staged");
    assert_eq!(found.len(), contents.len(), "one example for each encoding");
    for (example, (encoding, content)) in found.iter().zip(contents) {
        let line = example.line;
        assert_eq!(example.attribute("staged"), Some(encoding.as_str()), "schema.md:{line}");
        let hash = secret.hash(page, &content);
        let key = keys().staged(hash, encoding.is_delta().then_some(base_hash));
        assert_eq!(
            example.attribute("key"),
            Some(hex(keys().suffix(&key)).as_str()),
            "schema.md:{line}"
        );
        let value = StagedValue::decode(&example.bytes).expect("a staged value");
        let StagedValue { encoding: found, page: of, body } = value;
        assert_eq!((found, of), (encoding, page), "schema.md:{line}");
        let expected = Expected { page, hash, secret: &secret, page_size };
        let mut codec = PageCodec::new();
        let decoded = codec.decode(&example.bytes, &expected, Some(&base));
        assert_eq!(decoded.expect("the page"), content, "schema.md:{line}");
        let staged = Staged { encoding, base: None, body: body.to_vec() };
        assert_eq!(hex(&staged.value(page)), hex(&example.bytes), "schema.md:{line}");
    }
}

// --- keys ------------------------------------------------------------------------------------------

fn place() -> FilePlace {
    FilePlace { level: 1, first: PageNo(3), last: PageNo(9), file: file(1) }
}

fn all_keys() -> Vec<(&'static str, Bytes)> {
    let (store, keys) = (StoreKeys::new(ROOT), keys());
    let name = pagestore::VolumeName::new("app.db").expect("a name");
    let (hash, base) = (ContentHash([0xaa; 16]), ContentHash([0xbb; 16]));
    let point = PointName::new("@dev").expect("a name");
    vec![
        ("s", store.store()),
        ("n", store.name(&name)),
        ("w", store.write_lock(&name)),
        ("ag", keys.claim()),
        ("aj", keys.job()),
        ("ar", keys.pin(SENTINEL_SESSION)),
        ("av", keys.level_list(SessionId(7))),
        ("ah", keys.hold(SessionId(7), Revision(300))),
        ("au", keys.intent(file(1))),
        ("b", keys.barrier()),
        ("c", keys.staged(hash, None)),
        ("c", keys.staged(hash, Some(base))),
        ("p", keys.pointer(PageNo(300))),
        ("D", keys.dropped(file(1))),
        ("F", keys.floor()),
        ("L", keys.file(place())),
        ("M", keys.metadata()),
        ("O", keys.oldest()),
        ("S", keys.point(&point)),
        ("T", keys.head()),
        ("X", keys.commit(commit_id(1))),
        ("Z", keys.page_count()),
    ]
}

#[test]
fn every_example_of_a_key_is_built_and_parsed() {
    let found = examples("tag");
    for (example, (tag, key)) in found.iter().zip(all_keys()) {
        assert_eq!(example.attribute("tag"), Some(tag), "schema.md:{}", example.line);
        assert_eq!(hex(&example.bytes), hex(&key), "schema.md:{}", example.line);
        let watched = keys().watched().contains(&key);
        assert_eq!(keys().parse_watched(&key).is_some(), watched, "{tag}");
        assert_eq!(watched, tag.starts_with(|c: char| c.is_ascii_uppercase()), "{tag}");
    }
    assert_eq!(found.len(), all_keys().len());
    assert_eq!(keys().parse_watched(&keys().file(place())), Some(WatchedKey::File(place())));
}

/// What stands in `b"..."` or `b'...'`, where it is a tag: one or two bytes.
fn byte_literals(code: &str, quote: char) -> Vec<&str> {
    let (begin, mut rest, mut found) = (format!("b{quote}"), code, Vec::new());
    while let Some((_, after)) = rest.split_once(&begin) {
        let Some((literal, after)) = after.split_once(quote) else { break };
        rest = after;
        if (1..=2).contains(&literal.len()) {
            found.push(literal);
        }
    }
    found
}

#[test]
fn every_tag_in_the_code_has_its_row_and_its_example() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pagestore/src/meta/keys.rs");
    let text = std::fs::read_to_string(sources).expect("the keys' source");
    let code = text.split("#[cfg(test)]").next().expect("code before its tests");
    let known: BTreeSet<&str> = all_keys().into_iter().map(|(tag, _)| tag).collect();
    let tags: BTreeSet<&str> =
        ['"', '\''].iter().flat_map(|quote| byte_literals(code, *quote)).collect();
    // What the watch ends before, what pointers end before, and what holds all of a volume's keys.
    let bounds = ["[", "A", "q", "v"];
    for tag in tags.iter().filter(|tag| !bounds.contains(tag)) {
        assert!(known.contains(tag), "no example of the key {tag}");
        assert!(SCHEMA.contains(&format!("| `{tag}`")), "schema.md has no row for the key {tag}");
    }
    assert!(known.iter().all(|tag| tags.contains(tag)));
}

#[test]
fn the_example_of_an_objects_name_parses() {
    let name = ObjectName { volume: VOLUME, named_at: Revision(40), file: file(1) };
    assert!(SCHEMA.contains(&format!("```text\n{name}\n```")), "{name}");
    assert_eq!(name.to_string().parse(), Ok(name));
}

// --- a file ----------------------------------------------------------------------------------------

/// The file of the schema.
fn build_file() -> BuiltFile {
    let page_size = PageSize::new(PAGE_BYTES as u64).expect("a page size");
    let identity = FileIdentity { volume: VOLUME, id: file(1), named_at: Revision(40), page_size };
    let mut writer = FileWriter::new(FileParams { identity, level: 1, origin: Origin::Merge });
    let secret = secret();
    for (page, revision, fill) in [(3, 12, 0x33), (3, 10, 0x11)] {
        let (page, content) = (PageNo(page), [fill; PAGE_BYTES]);
        writer.push_body(page, Revision(revision), secret.hash(page, &content), &content);
    }
    writer.push_zero(PageNo(4), Revision(12));
    let at = BodyAt {
        file: file(2),
        named_at: Revision(5),
        frame: FrameHandle { offset: 16, bytes: NonZeroU32::new(100).expect("not 0") },
        slot: 2,
    };
    writer.push_ref(PageNo(9), Revision(11), ContentHash([0xaa; 16]), at);
    for (n, revision) in [(3, 10), (4, 11), (5, 12)] {
        writer.push_commit(CommitRecord {
            revision: Revision(revision),
            commit: commit_id(n),
            base: Revision(revision - 1),
            written_count: 1,
            kind: if n == 4 { CommitKind::Bulk } else { CommitKind::Staged },
        });
    }
    let sizes = [(10, None, 20), (12, Some(PageCount(8)), 10)];
    for (revision, lowest, last) in sizes {
        writer.push_size_change(SizeChange {
            revision: Revision(revision),
            lowest,
            last: PageCount(last),
        });
    }
    writer.finish()
}

/// The sections of a file with two frames, one index block and one commit block.
const SECTIONS: [&str; 10] = [
    "header",
    "frame",
    "history frame",
    "index block",
    "commit block",
    "size history",
    "references",
    "filter",
    "directory",
    "footer",
];

#[test]
fn the_example_of_a_file_is_what_the_writer_writes() {
    let (found, built) = (examples("section"), build_file());
    let names: Vec<_> = found.iter().map(|example| example.attribute("section")).collect();
    assert_eq!(names, SECTIONS.map(Some), "an example for each section, in order");
    assert_eq!(built.chunks.len(), SECTIONS.len());
    for (example, chunk) in found.iter().zip(&built.chunks) {
        // A newer zstd may write other bytes: then take these into the schema. All else is a change
        // of the format.
        assert_eq!(hex(&example.bytes), hex(chunk), "schema.md:{}", example.line);
    }
}

fn documented_entry() -> (Example, FileEntry) {
    let mut found = examples("entry");
    assert_eq!(found.len(), 1);
    let example = found.remove(0);
    let key = keys().file(place());
    let suffix = keys().suffix(&key).to_vec();
    assert_eq!(example.attribute("entry"), Some(hex(&suffix).as_str()));
    let entry = FileEntry::decode(place(), &suffix, &example.bytes, Revision(77));
    (example, entry.expect("a file entry"))
}

#[test]
fn the_example_of_a_file_entry_decodes() {
    let (example, entry) = documented_entry();
    let key = keys().file(place());
    hold(&example, &entry, &entry.encode(keys().suffix(&key)));
    let written = FileEntry { published: Some(Revision(44)), ..build_file().entry };
    assert_eq!(entry, written);
}

#[test]
fn the_example_of_a_file_is_read() {
    let bytes: Bytes =
        examples("section").iter().flat_map(|example| example.bytes.clone()).collect();
    let (_, entry) = documented_entry();
    let get = |range: std::ops::Range<u64>| {
        let at = |offset| usize::try_from(offset).expect("a small file");
        bytes.slice(at(range.start)..at(range.end))
    };
    let tail = FileTail::decode(&entry, &get(entry.tail_range())).expect("a tail");
    assert_eq!(tail.references(), [(file(2), Revision(5))]);
    assert_eq!(tail.pages().iter().collect::<Vec<_>>(), [3, 4, 9]);
    assert_eq!(tail.sizes().len(), 2);

    let handle = tail.blocks()[0];
    let block = IndexBlock::decode(&handle, tail.published(), &get(handle.range()));
    let block = block.expect("an index block");
    let keys: Vec<(u64, u64)> =
        block.entries().iter().map(|entry| (entry.page.0, entry.revision.0)).collect();
    assert_eq!(keys, [(3, 12), (3, 10), (4, 12), (9, 11)]);
    for (entry, fill) in block.entries().iter().zip([0x33, 0x11]) {
        let at = tail.resolve(entry.location.expect("a location")).expect("a place");
        let frame = Frame::decode(at.frame, tail.identity().page_size, &get(at.frame.range()));
        let content = frame.expect("a frame").verified(entry, at.slot, &secret());
        assert_eq!(content.expect("a page"), vec![fill; PAGE_BYTES]);
    }

    let handle = tail.commit_blocks()[0];
    let commits = decode_commits(&handle, tail.published(), &get(handle.range()));
    let commits = commits.expect("a commit block");
    assert_eq!(commits.iter().map(|c| c.revision.0).collect::<Vec<_>>(), [10, 11, 12]);
}
