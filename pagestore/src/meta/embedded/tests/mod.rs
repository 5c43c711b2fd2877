//! Tests of the store as a whole; what is pure is tested beside its code.

mod compact;
mod lease;
mod open;
mod range;
mod schema;
mod trouble;
mod txn;
mod watch;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::EmbeddedStore;
use crate::env::Env;
use crate::meta::{
    KeyRange, KeyValue, LeaseId, MetaResult, MetaStore as _, Op, OpResponse, RangeRequest,
    RangeResponse, Txn, TxnResponse,
};
use crate::types::Revision;

/// A store in a directory that goes when the test does.
pub(super) struct Fixture {
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) dir: TempDir,
}

pub(super) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    Fixture { store: open(dir.path()), dir }
}

pub(super) fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir, &Env::system()).unwrap()
}

pub(super) fn then(ops: Vec<Op>) -> Txn {
    Txn { then: ops, ..Txn::default() }
}

pub(super) fn all() -> KeyRange {
    KeyRange::span(vec![0], vec![0xff; 600])
}

impl Fixture {
    pub(super) async fn txn(&self, txn: Txn) -> TxnResponse {
        self.store.txn(txn).await.unwrap()
    }

    /// Puts in one transaction; its revision.
    pub(super) async fn put(&self, pairs: &[(&str, &str)]) -> u64 {
        let puts = pairs.iter().map(|(k, v)| Op::put(k.to_string(), v.to_string())).collect();
        self.txn(then(puts)).await.revision.0
    }

    pub(super) async fn put_under(&self, key: &str, lease: LeaseId) -> MetaResult<TxnResponse> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.store.txn(then(vec![Op::Put { key, value: Bytes::new(), lease }])).await
    }

    pub(super) async fn delete(&self, keys: KeyRange) -> (u64, u64) {
        let response = self.txn(then(vec![Op::Delete(keys)])).await;
        match response.responses[..] {
            [OpResponse::Delete(count)] => (response.revision.0, count),
            _ => panic!("{response:?}"),
        }
    }

    pub(super) async fn get(&self, key: &str) -> Option<KeyValue> {
        let range = RangeRequest::new(KeyRange::key(key.to_owned()));
        self.store.range(range).await.unwrap().kvs.pop()
    }

    pub(super) async fn at(&self, keys: KeyRange, revision: u64) -> MetaResult<RangeResponse> {
        self.store.range(RangeRequest::new(keys).at(Revision(revision))).await
    }

    pub(super) async fn revision(&self) -> u64 {
        self.store.status().await.unwrap().revision.0
    }
}

pub(super) fn pairs(response: &RangeResponse) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    response.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

pub(super) fn numbers(kv: &KeyValue) -> [u64; 3] {
    [kv.create_revision.0, kv.mod_revision.0, kv.version]
}
