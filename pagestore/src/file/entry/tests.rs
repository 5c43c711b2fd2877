use super::*;
use crate::ErrorKind;

fn id(n: u8) -> FileId {
    FileId::from_bytes([n; 16])
}

fn entry() -> FileEntry {
    FileEntry {
        id: id(1),
        named_at: Revision(40),
        level: 1,
        first: PageNo(3),
        last: PageNo(u64::MAX - 1),
        published: Some(Revision(44)),
        origin: Origin::Merge,
        bytes: 1_000_000,
        tail_offset: 990_000,
        tail_checksum: 0x1122_3344_5566_7788,
        version_count: 300,
        page_count: 200,
        oldest: Revision(2),
        newest: Revision(41),
        commit_count: 12,
        newest_commit_ms: 1_700_000_000_000,
        size_change_count: 2,
        truncation: Some(Truncation { newest: Revision(9), lowest: PageCount(100) }),
        refs: vec![
            FileRef {
                id: id(2),
                named_at: Revision(5),
                frame_bytes: 700,
                frame_count: 2,
                page_count: 30,
            },
            FileRef {
                id: id(3),
                named_at: Revision(6),
                frame_bytes: 0,
                frame_count: 0,
                page_count: 0,
            },
        ],
        own_frame_bytes: 900_000,
        raw_bytes: 1_800_000,
    }
}

fn decode(place: FilePlace, value: &[u8]) -> Result<FileEntry> {
    FileEntry::decode(place, b"L", value, Revision(77))
}

#[test]
fn entries_are_frozen() {
    let value = entry().encode(b"L");
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "010303887766554433221128c0843db0b63cac02c80102290c80d095ffbc3102a0f736c0ee6d2c0964020202020202020202020202020202020205bc05021e030303030303030303030303030303030600000033e23ae7"
    );
    assert_eq!(decode(entry().place(), &value).unwrap(), entry());
    for len in 0..value.len() {
        let error = decode(entry().place(), &value[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn an_unpublished_entry_takes_the_revision_of_its_put() {
    let unpublished = FileEntry {
        published: None,
        origin: Origin::Bulk,
        oldest: Revision::ZERO,
        newest: Revision::ZERO,
        truncation: Some(Truncation { newest: Revision::ZERO, lowest: PageCount(5) }),
        ..entry()
    };
    let found = decode(entry().place(), &unpublished.encode(b"L")).unwrap();
    assert_eq!(found.published, Some(Revision(77)));
    assert_eq!((found.oldest, found.newest), (Revision(77), Revision(77)));
    assert_eq!(found.truncation.unwrap().newest, Revision(77));

    let moved = FileEntry { level: 2, ..found.clone() };
    let found_again = FileEntry::decode(moved.place(), b"L", &moved.encode(b"L"), Revision(99));
    assert_eq!(found_again.unwrap(), moved);
}

#[test]
fn a_newer_version_and_nonsense_are_refused() {
    let error = decode(entry().place(), &seal(b"L", 2, &[1])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("version 2, this build reads up to version 1"), "{error}");

    let late_tail = FileEntry { tail_offset: 1_000_001, ..entry() };
    let no_pages = FileEntry { page_count: 0, ..entry() };
    let backwards = FileEntry { oldest: Revision(42), ..entry() };
    // Revision 0 stands for that of the publication, which was 44.
    let backwards_since = FileEntry { oldest: Revision::ZERO, newest: Revision(3), ..entry() };
    for bad in [late_tail, no_pages, backwards, backwards_since] {
        let error = decode(bad.place(), &bad.encode(b"L")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("entry of file 01010101"), "{error}");
    }
}
