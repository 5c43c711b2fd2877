use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use pagestore::Revision;
use pagestore::internal::meta::{
    Event, KeyRange, KeyValue, LeaseId, MetaResult, MetaStatus, MetaStore, OpResponse,
    RangeRequest, RangeResponse, Txn, TxnResponse, WatchStream,
};

/// A value that reads as another.
pub(super) type Wrong = Option<(Bytes, Bytes)>;

/// A meta tier of which one value is not what was put.
#[derive(Debug)]
pub(super) struct FlippedMeta {
    pub(super) inner: Arc<dyn MetaStore>,
    pub(super) wrong: Arc<Mutex<Wrong>>,
}

fn flip(wrong: &Mutex<Wrong>, kvs: &mut [KeyValue]) {
    let wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((key, value)) = wrong.as_ref() else { return };
    for kv in kvs.iter_mut().filter(|kv| kv.key == key && !kv.value.is_empty()) {
        kv.value = value.clone();
    }
}

fn flip_response(wrong: &Mutex<Wrong>, response: &mut TxnResponse) {
    for response in &mut response.responses {
        match response {
            OpResponse::Range(found) => flip(wrong, &mut found.kvs),
            OpResponse::Txn(nested) => flip_response(wrong, nested),
            OpResponse::Put | OpResponse::Delete(_) => {}
        }
    }
}

#[async_trait]
impl MetaStore for FlippedMeta {
    async fn range(&self, request: RangeRequest) -> MetaResult<RangeResponse> {
        let mut response = self.inner.range(request).await?;
        flip(&self.wrong, &mut response.kvs);
        Ok(response)
    }
    async fn txn(&self, txn: Txn) -> MetaResult<TxnResponse> {
        let mut response = self.inner.txn(txn).await?;
        flip_response(&self.wrong, &mut response);
        Ok(response)
    }
    async fn watch(&self, keys: KeyRange, from: Revision) -> MetaResult<WatchStream> {
        let wrong = self.wrong.clone();
        let batches = self.inner.watch(keys, from).await?.map(move |batch| {
            let mut batch = batch?;
            for event in &mut batch.events {
                if let Event::Put(kv) = event {
                    flip(&wrong, std::slice::from_mut(kv));
                }
            }
            Ok(batch)
        });
        Ok(batches.boxed())
    }
    async fn lease_grant(&self, ttl: Duration) -> MetaResult<LeaseId> {
        self.inner.lease_grant(ttl).await
    }
    async fn lease_keep_alive(&self, lease: LeaseId) -> MetaResult<Duration> {
        self.inner.lease_keep_alive(lease).await
    }
    async fn lease_revoke(&self, lease: LeaseId) -> MetaResult<()> {
        self.inner.lease_revoke(lease).await
    }
    async fn compact(&self, revision: Revision) -> MetaResult<()> {
        self.inner.compact(revision).await
    }
    async fn status(&self) -> MetaResult<MetaStatus> {
        self.inner.status().await
    }
    fn owns_history(&self) -> bool {
        self.inner.owns_history()
    }
}
