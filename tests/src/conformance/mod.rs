//! What every backend of the meta tier must do, point by point.
//!
//! Each case gets a fresh store to itself. A case says what etcd does: a backend that differs is wrong,
//! however sensible.

use std::sync::Arc;

use pagestore::internal::meta::{
    Compare, CompareOp, KeyRange, KeyValue, LeaseId, MetaResult, MetaStore, Op, RangeRequest,
    RangeResponse, Target, Txn, TxnResponse,
};
use pagestore::internal::types::Revision;

pub mod compact;
pub mod compare;
pub mod lease;
pub mod limits;
pub mod range;
pub mod txn;
pub mod watch;

/// The store under test.
pub type Store = Arc<dyn MetaStore>;

/// Hands the list of all cases, as `module::case`, to the macro `$run`.
#[macro_export]
macro_rules! for_each_case {
    ($run:ident) => {
        $run! {
            compact::forgets_what_was_superseded,
            compact::keeps_what_is_current,
            compact::of_a_compacted_or_future_revision_is_an_error,
            compare::every_operator_on_every_target,
            compare::a_range_holds_for_every_key,
            compare::an_empty_range_is_one_absent_key,
            compare::all_must_hold,
            lease::unknown_leases_are_not_found,
            lease::revoking_deletes_its_keys_in_one_revision,
            lease::expiring_deletes_its_keys,
            lease::a_key_follows_its_last_put,
            lease::keeping_alive_gives_the_time_to_live,
            lease::an_unknown_lease_spoils_the_whole_txn,
            limits::operations_are_counted_apart,
            limits::nested_txns_share_what_is_left,
            limits::four_thousand_puts_fit,
            limits::a_request_has_a_size,
            limits::a_key_is_put_once,
            limits::a_key_is_put_or_deleted,
            limits::keys_must_not_be_empty,
            range::a_fresh_store_is_at_revision_one,
            range::keys_come_in_byte_order,
            range::a_span_has_no_end_in_it,
            range::a_limit_cuts_and_says_so,
            range::projections_leave_things_out,
            range::the_past_can_be_read,
            range::the_future_cannot_be_read,
            range::values_of_all_sizes_come_back,
            txn::a_put_tells_its_revisions_and_version,
            txn::a_deleted_key_starts_anew,
            txn::all_changes_have_one_revision,
            txn::what_changes_nothing_takes_no_revision,
            txn::a_delete_says_how_many,
            txn::operations_see_those_before_them,
            txn::nested_compares_see_the_state_before,
            txn::nested_outcomes_are_independent,
            txn::status_tells_of_the_store,
            watch::new_changes_arrive,
            watch::past_changes_arrive,
            watch::only_its_keys_arrive,
            watch::revisions_are_never_split,
            watch::a_long_past_arrives_in_order,
            watch::it_may_begin_in_the_future,
            watch::it_begins_at_revision_one_or_later,
            watch::a_compacted_past_is_an_error_and_then_the_end,
            watch::the_compacted_revision_is_whole_or_past,
            watch::many_see_the_same,
        }
    };
}

fn b(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

fn all() -> KeyRange {
    KeyRange::span("\0", "\u{10ffff}")
}

fn put(key: &str, value: &str) -> Op {
    Op::put(b(key), b(value))
}

fn put_leased(key: &str, value: &str, lease: LeaseId) -> Op {
    Op::Put { key: b(key), value: b(value), lease }
}

fn delete(key: &str) -> Op {
    Op::delete(b(key))
}

fn when(compares: Vec<Compare>, then: Vec<Op>, or_else: Vec<Op>) -> Txn {
    Txn { compares, then, or_else }
}

fn compare(keys: KeyRange, op: CompareOp, target: Target) -> Compare {
    Compare { keys, op, target }
}

/// Runs operations unconditionally.
async fn run(store: &Store, ops: Vec<Op>) -> TxnResponse {
    attempt(store, ops).await.unwrap()
}

async fn attempt(store: &Store, ops: Vec<Op>) -> MetaResult<TxnResponse> {
    store.txn(when(Vec::new(), ops, Vec::new())).await
}

/// Puts a key and gives the revision.
async fn set(store: &Store, key: &str, value: &str) -> Revision {
    run(store, vec![put(key, value)]).await.revision
}

async fn read(store: &Store, keys: KeyRange) -> RangeResponse {
    store.range(RangeRequest::new(keys)).await.unwrap()
}

async fn get(store: &Store, key: &str) -> Option<KeyValue> {
    read(store, KeyRange::key(b(key))).await.kvs.pop()
}

/// `key=value` of everything, for a look at the whole state.
async fn dump(store: &Store) -> String {
    show(&read(store, all()).await)
}

async fn dump_at(store: &Store, revision: Revision) -> String {
    show(&store.range(RangeRequest::new(all()).at(revision)).await.unwrap())
}

fn show(response: &RangeResponse) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs: Vec<String> =
        response.kvs.iter().map(|kv| format!("{}={}", text(&kv.key), text(&kv.value))).collect();
    pairs.join(" ")
}
