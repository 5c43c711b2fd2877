//! etcd's answers in our words. Pure; nothing etcd could send panics here.

use bytes::Bytes;
use etcd_client::proto::{
    PbEvent, PbKeyValue, PbRangeResponse, PbResponseHeader, PbTxnOpResponse, PbTxnResponse,
};

use crate::meta::{
    Event, KeyValue, LeaseId, MetaError, MetaResult, OpResponse, RangeResponse, TxnResponse,
};
use crate::types::Revision;

const EVENT_PUT: i32 = 0;
const EVENT_DELETE: i32 = 1;

/// What a read found.
pub(super) fn decode_range(response: PbRangeResponse) -> MetaResult<RangeResponse> {
    let revision = decode_header(response.header.as_ref())?;
    decode_found(response, revision)
}

/// How a transaction went.
pub(super) fn decode_txn(response: PbTxnResponse) -> MetaResult<TxnResponse> {
    let revision = decode_header(response.header.as_ref())?;
    decode_branch(response, revision)
}

/// One change.
pub(super) fn decode_event(event: PbEvent) -> MetaResult<Event> {
    let kv = event.kv.ok_or_else(|| malformed("event without a key"))?;
    match event.r#type {
        EVENT_PUT => Ok(Event::Put(decode_kv(kv)?)),
        EVENT_DELETE => {
            let revision = decode_revision(kv.mod_revision)?;
            Ok(Event::Delete { key: kv.key.into(), revision })
        }
        other => Err(malformed(format!("event of unknown type {other}"))),
    }
}

/// The revision in a header.
pub(super) fn decode_header(header: Option<&PbResponseHeader>) -> MetaResult<Revision> {
    let header = header.ok_or_else(|| malformed("response without a header"))?;
    decode_revision(header.revision)
}

pub(super) fn decode_revision(revision: i64) -> MetaResult<Revision> {
    decode_count(revision).map(Revision)
}

/// A number that cannot be negative.
pub(super) fn decode_count(number: i64) -> MetaResult<u64> {
    u64::try_from(number).map_err(|_| malformed(format!("negative number {number}")))
}

/// An answer that no etcd gives.
pub(super) fn malformed(what: impl std::fmt::Display) -> MetaError {
    MetaError::Corrupt(format!("malformed answer from etcd: {what}"))
}

/// Operations and nested transactions carry headers that say less: all are of `revision`.
fn decode_branch(response: PbTxnResponse, revision: Revision) -> MetaResult<TxnResponse> {
    let responses = response
        .responses
        .into_iter()
        .map(|op| match op.response {
            Some(PbTxnOpResponse::ResponsePut(_)) => Ok(OpResponse::Put),
            Some(PbTxnOpResponse::ResponseDeleteRange(delete)) => {
                decode_count(delete.deleted).map(OpResponse::Delete)
            }
            Some(PbTxnOpResponse::ResponseRange(range)) => {
                decode_found(range, revision).map(OpResponse::Range)
            }
            Some(PbTxnOpResponse::ResponseTxn(txn)) => {
                decode_branch(txn, revision).map(OpResponse::Txn)
            }
            None => Err(malformed("operation without an outcome")),
        })
        .collect::<MetaResult<Vec<_>>>()?;
    Ok(TxnResponse { succeeded: response.succeeded, revision, responses })
}

fn decode_found(response: PbRangeResponse, revision: Revision) -> MetaResult<RangeResponse> {
    let kvs = response.kvs.into_iter().map(decode_kv).collect::<MetaResult<Vec<_>>>()?;
    Ok(RangeResponse { revision, kvs, more: response.more, count: decode_count(response.count)? })
}

fn decode_kv(kv: PbKeyValue) -> MetaResult<KeyValue> {
    Ok(KeyValue {
        key: Bytes::from(kv.key),
        value: Bytes::from(kv.value),
        create_revision: decode_revision(kv.create_revision)?,
        mod_revision: decode_revision(kv.mod_revision)?,
        version: decode_count(kv.version)?,
        lease: LeaseId(kv.lease),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::proto::PbResponseOp;

    fn header(revision: i64) -> Option<PbResponseHeader> {
        Some(PbResponseHeader { revision, ..PbResponseHeader::default() })
    }

    #[test]
    fn a_nested_answer_has_the_revision_of_the_outermost() {
        let inner = PbTxnResponse { header: header(0), succeeded: true, responses: Vec::new() };
        let response = Some(PbTxnOpResponse::ResponseTxn(inner));
        let responses = vec![PbResponseOp { response }];
        let outer = PbTxnResponse { header: header(9), succeeded: false, responses };
        let inner = TxnResponse { succeeded: true, revision: Revision(9), responses: Vec::new() };
        let responses = vec![OpResponse::Txn(inner)];
        let want = TxnResponse { succeeded: false, revision: Revision(9), responses };
        assert_eq!(decode_txn(outer).unwrap(), want);
    }

    #[test]
    fn garbage_is_an_error() {
        let op = PbResponseOp { response: None };
        let txn = PbTxnResponse { header: header(1), succeeded: true, responses: vec![op] };
        assert!(matches!(decode_txn(txn), Err(MetaError::Corrupt(_))));
        let range = PbRangeResponse { header: header(-1), ..PbRangeResponse::default() };
        assert!(matches!(decode_range(range), Err(MetaError::Corrupt(_))));
        assert!(matches!(decode_range(PbRangeResponse::default()), Err(MetaError::Corrupt(_))));
        let event = PbEvent { r#type: 7, kv: Some(PbKeyValue::default()), prev_kv: None };
        assert!(matches!(decode_event(event), Err(MetaError::Corrupt(_))));
    }
}
