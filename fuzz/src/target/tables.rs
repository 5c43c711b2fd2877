//! The tables of an embedded store's directory.

use pagestore::internal::meta::embedded::read_and_write;
use pagestore::internal::wire;

/// Each with a key as it has them.
const TABLES: [(&str, &[u8]); 5] = [
    ("cur", b"key"),
    ("log", &[0, 0, 0, 0, 0, 0, 1, 44, 0, 0, 0, 1]),
    ("lease", &[0, 0, 0, 0, 0, 0, 0, 7]),
    ("sys", b"revision"),
    ("sys", b"boot"),
];

/// Which table; whether its key is what follows, its length first; version and body of the value.
pub(super) fn corpus() -> Vec<Vec<u8>> {
    let facts = [2, 3, 7];
    vec![
        // Flags, stamp (300, 1), facts, value.
        [&[0, 0, 1, 2, 0xac, 2, 1][..], &facts, b"value"].concat(),
        [&[0, 0, 1, 0, 0xac, 2, 1][..], &facts].concat(),
        vec![0, 0, 1, 1, 0xac, 2, 1],
        // Flags, stamp before, key, facts, value.
        [&[1, 0, 1, 0, 5, 0, 3][..], b"key", &facts, b"value"].concat(),
        [&[1, 0, 1, 1, 5, 0, 3][..], b"key"].concat(),
        vec![2, 0, 1, 20, 0x90, 0xbf, 5],
        vec![3, 0, 1, 0xac, 2],
        [&[4, 0, 1][..], b"a boot"].concat(),
        // A key of its own: a stamp.
        [&[1, 1, 12][..], &[0; 11], &[9, 1, 1, 5, 0, 1, 97]].concat(),
    ]
}

/// What is understood is written as the same bytes.
pub(super) fn tables(input: &[u8]) -> bool {
    let [table, own_key, rest @ ..] = input else { return false };
    let (table, usual) = TABLES[usize::from(*table) % TABLES.len()];
    let (key, value) = match own_key % 2 == 1 {
        false => (usual, rest),
        true => {
            let Some((length, rest)) = rest.split_first() else { return false };
            rest.split_at(rest.len().min(usize::from(*length)))
        }
    };
    let Some((version, body)) = value.split_first() else { return false };
    let sealed = wire::seal(key, *version, body);
    match read_and_write(table, key, &sealed) {
        Ok(again) => {
            assert_eq!(again, sealed, "written again it is something else");
            true
        }
        Err(_) => false,
    }
}
