use super::*;

fn place(file: u16, offset: u64, bytes: u32, slot: u16) -> Option<Location> {
    let frame = FrameHandle { offset, bytes: NonZeroU32::new(bytes).unwrap() };
    Some(Location { frame, file, slot })
}

fn entry(page: u64, revision: u64, location: Option<Location>) -> IndexEntry {
    let hash = location.map_or(ContentHash::ZERO_PAGE, |_| {
        ContentHash((u128::from(page) << 64 | u128::from(revision)).to_be_bytes())
    });
    IndexEntry { page: PageNo(page), revision: Revision(revision), hash, location }
}

fn encoded(entries: &[IndexEntry]) -> (BlockHandle, Vec<u8>) {
    let bytes = encode_block(entries, &mut Packer::new());
    let last = entries.last().unwrap().key();
    (BlockHandle { offset: 99, bytes: bytes.len() as u64, last }, bytes)
}

#[test]
fn blocks_round_trip_and_are_searched_by_revision_and_hash() {
    let entries = [
        entry(2, 9, place(0, 16, 100, 0)),
        entry(2, 5, place(0, 900, 50, 0)),
        entry(2, 3, None),
        entry(3, 9, place(0, 16, 100, 1)),
        entry(4, 7, place(0, 116, 80, 0)),
        entry(7, 8, place(3, 1 << 40, u32::MAX, u16::MAX)),
        entry(u64::MAX - 1, u64::MAX, place(3, u64::MAX, 1, 0)),
    ];
    let (handle, bytes) = encoded(&entries);
    let block = IndexBlock::decode(&handle, Revision(1), &bytes).unwrap();
    assert_eq!(block.entries(), entries);
    let found = |page, revision| block.find(PageNo(page), Revision(revision)).map(|e| e.revision.0);
    assert_eq!(found(2, u64::MAX), Some(9));
    assert_eq!(found(2, 8), Some(5));
    assert_eq!(found(2, 4), Some(3));
    assert_eq!(found(2, 2), None);
    assert_eq!(found(1, 9), None);
    assert_eq!(found(5, 9), None);
    assert_eq!(found(u64::MAX - 1, u64::MAX), Some(u64::MAX));
    assert_eq!(block.find_hash(PageNo(2), entries[1].hash), Some(&entries[1]));
    assert_eq!(block.find_hash(PageNo(3), entries[1].hash), None);
    assert_eq!(block.versions(PageNo(2)).len(), 3);
    assert!(block.weight() >= entries.len() * 48);
}

#[test]
fn entries_without_a_revision_take_the_publications() {
    let (handle, bytes) = encoded(&[entry(1, 0, None), entry(2, 0, None)]);
    let handle = BlockHandle { last: EntryKey::new(PageNo(2), Revision(50)), ..handle };
    let block = IndexBlock::decode(&handle, Revision(50), &bytes).unwrap();
    assert!(block.entries().iter().all(|entry| entry.revision == Revision(50)));
    assert!(block.find(PageNo(1), Revision(49)).is_none());
}

#[test]
fn another_block_in_its_place_is_noticed() {
    let (handle, _) = encoded(&[entry(1, 4, None)]);
    let (_, bytes) = encoded(&[entry(1, 5, None)]);
    let error = IndexBlock::decode(&handle, Revision(1), &bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "index block at offset 99 ends with another entry than the directory says"
    );
    let (handle, bytes) = encoded(&[entry(1, 4, None), entry(1, 4, None)]);
    let error = IndexBlock::decode(&handle, Revision(1), &bytes).unwrap_err();
    assert_eq!(error.to_string(), "index block at offset 99 is out of order");
}

#[test]
fn neighbours_in_one_frame_take_a_few_bits() {
    let entries: Vec<IndexEntry> =
        (0..256).map(|i| entry(u64::from(i), 7, place(0, 16, 1000, i))).collect();
    let (_, bytes) = encoded(&entries);
    assert!(bytes.len() < 256 * 16 + 80, "{}", bytes.len());
}

#[test]
fn zigzag_keeps_small_differences_small() {
    for difference in [0, 1, u64::MAX, 63, 63u64.wrapping_neg()] {
        assert_eq!(unzigzag(zigzag(difference)), difference);
        assert!(zigzag(difference) < 128);
    }
    assert_eq!(unzigzag(zigzag(1 << 63)), 1 << 63);
}
