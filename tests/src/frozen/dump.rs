//! All changes of etcd's keys below a root as text, and back into an etcd with the same revisions.
//!
//! A line is a change: its revision, then `put`, key and value, or `delete` and key; bytes in hexadecimal
//! digits, `-` for none. Each revision that the store has given has its line. Leases are not kept: what was
//! under one is gone.

use std::fmt::Write as _;

use bytes::Bytes;
use futures::StreamExt as _;
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::internal::meta::records::{Record as _, StoreRecord};
use pagestore::internal::meta::{Event, KeyRange, MetaStore, Op, RangeRequest, Txn};
use pagestore::{Env, Revision};

/// Where a frozen store says that its blobs are; where they are is known when it is loaded.
const BLOBS: &str = "s3://frozen/store";
/// The first revision that an etcd gives to a change.
const FIRST: u64 = 2;

/// The changes that `meta` remembers, from its beginning, of a store at `root`.
pub async fn write(meta: &dyn MetaStore, root: &str) -> String {
    let record = StoreKeys::new(Bytes::from(format!("{root}/"))).store();
    let everything = KeyRange::span("\0", [0xff; 16].to_vec());
    let now = meta.range(RangeRequest::new(KeyRange::key("none"))).await.unwrap().revision;
    let mut watch = meta.watch(everything, Revision(1)).await.unwrap();
    let mut text = String::new();
    loop {
        let batch = watch.next().await.unwrap().unwrap();
        for event in batch.events {
            match event {
                Event::Put(kv) => {
                    let mut value = kv.value;
                    if kv.key == record {
                        value = with_blobs(&kv.key, &value, BLOBS, None);
                    }
                    let (at, key, value) = (kv.mod_revision, hex(&kv.key), hex(&value));
                    writeln!(text, "{at} put {key} {value}").unwrap();
                }
                Event::Delete { key, revision } => {
                    writeln!(text, "{revision} delete {}", hex(&key)).unwrap();
                }
            }
        }
        if batch.revision >= now {
            return text;
        }
    }
}

/// Makes all changes of `text` in a new etcd, each at its revision, for a store whose blobs are at `blobs`.
///
/// # Panics
/// When the etcd is not new.
pub async fn load(meta: &dyn MetaStore, text: &str, root: &str, blobs: &str) {
    let lines: Vec<(u64, Op)> = text.lines().map(parse).collect();
    assert_eq!(lines[0].0, FIRST);
    let record = StoreKeys::new(Bytes::from(format!("{root}/"))).store();
    let cluster_id = meta.status().await.unwrap().cluster_id;
    for changes in lines.chunk_by(|a, b| a.0 == b.0) {
        let then = changes.iter().map(|(_, op)| match op {
            // Another cluster, and blobs in another place, which the store says of itself.
            Op::Put { key, value, .. } if *key == record => {
                Op::put(key.clone(), with_blobs(key, value, blobs, Some(cluster_id)))
            }
            op => op.clone(),
        });
        let txn = Txn { then: then.collect(), ..Txn::default() };
        let response = meta.txn(txn).await.unwrap();
        assert_eq!(response.revision.0, changes[0].0, "the etcd is not new");
    }
}

/// The store's record, saying that its blobs are at `blobs`, and that it was made on a cluster.
fn with_blobs(key: &Bytes, value: &Bytes, blobs: &str, cluster_id: Option<u64>) -> Bytes {
    let old = StoreRecord::decode(key, value).unwrap();
    let cluster_id = cluster_id.unwrap_or(old.cluster_id);
    StoreRecord { cluster_id, blobs: blobs.to_owned(), ..old }.encode(key)
}

fn parse(line: &str) -> (u64, Op) {
    let words: Vec<&str> = line.split(' ').collect();
    let op = match words[1..] {
        ["put", key, value] => Op::put(unhex(key), unhex(value)),
        ["delete", key] => Op::delete(unhex(key)),
        _ => panic!("{line}"),
    };
    (words[0].parse().unwrap(), op)
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim_start_matches('-').as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// An environment for what is frozen: the same each time.
#[must_use]
pub fn env() -> Env {
    Env::seeded(1)
}
