//! The tables of the embedded store are as `schema.md` says.

use std::collections::BTreeSet;

use super::super::format::{
    SYS_BOOT, SYS_COMPACT_NEXT, Stamp, decode_bytes, decode_change, decode_current, decode_lease,
    decode_lease_id, decode_number, encode_bytes, encode_change, encode_current, encode_lease,
    encode_lease_id, encode_number,
};

#[path = "../../../../../tests/src/schema.rs"]
#[allow(clippy::cast_possible_truncation, unreachable_pub)]
mod examples;

/// What the value under `key` of `table` says, and its bytes written anew.
fn read_and_write(table: &str, key: &[u8], value: &[u8]) -> (String, Vec<u8>) {
    let lease_id = || decode_lease_id(key).expect("a lease id");
    match table {
        "cur" => {
            let current = decode_current(key, value).expect("a value of cur");
            (format!("{current:?}"), encode_current(key, &current))
        }
        "log" => {
            let stamp = Stamp::decode(key).expect("a stamp");
            assert_eq!(stamp.encode(), key);
            let change = decode_change(stamp, value).expect("a value of log");
            (format!("{change:?}"), encode_change(stamp, &change))
        }
        "lease" => {
            let lease = decode_lease(lease_id(), value).expect("a value of lease");
            (format!("{lease:?}"), encode_lease(lease_id(), lease))
        }
        "held" => {
            assert_eq!(encode_lease_id(lease_id()), key);
            (format!("{:?}", value.escape_ascii().to_string()), value.to_vec())
        }
        "sys" => {
            let name = std::str::from_utf8(key).expect("a name");
            if [SYS_BOOT, SYS_COMPACT_NEXT].contains(&name) {
                let bytes = decode_bytes(name, value).expect("bytes of sys");
                return (format!("{bytes:?}"), encode_bytes(name, bytes));
            }
            let number = decode_number(name, value).expect("a number of sys");
            (format!("{number}"), encode_number(name, number))
        }
        table => panic!("no table {table}"),
    }
}

#[test]
fn every_example_of_a_table_decodes() {
    let mut seen = BTreeSet::new();
    for example in examples::examples("table") {
        let table = example.attribute("table").expect("the attribute asked for").to_owned();
        let (says, bytes) = read_and_write(&table, &example.hex_attribute("key"), &example.bytes);
        assert_eq!(example.says, Some(says), "schema.md:{}", example.line);
        assert_eq!(example.bytes, bytes, "schema.md:{}", example.line);
        seen.insert(table);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["cur", "held", "lease", "log", "sys"]);
}
