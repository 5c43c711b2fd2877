//! What a store can be told. Everything has a default that suits most.

use crate::commit::{DEFAULT_META_QUOTA, DEFAULT_STAGED_BUDGET};

/// Bytes of pages kept in memory by default.
const DEFAULT_PAGE_CACHE_BYTES: u64 = 64 << 20;
/// Bytes of file indexes kept in memory by default.
const DEFAULT_INDEX_CACHE_BYTES: u64 = 32 << 20;

/// Options of an open store; they hold for this process only.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of pages kept in memory, for all volumes together. 64 MiB by default.
    pub page_cache_bytes: u64,
    /// Bytes of file indexes kept in memory, for all volumes together. 32 MiB by default.
    pub index_cache_bytes: u64,
    /// Bytes that one volume may have staged in the meta tier: from half of it on large commits go
    /// straight to files, from three quarters on commits are slowed, at all of it they are refused.
    /// 512 MiB by default.
    pub staged_budget_bytes: u64,
    /// The quota of the meta tier (etcd's `--quota-backend-bytes`): commits are refused at four
    /// fifths of it. 2 GiB by default, as etcd's.
    pub meta_quota_bytes: u64,
    /// Refuses to make a store where there is none. False by default.
    pub must_exist: bool,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            page_cache_bytes: DEFAULT_PAGE_CACHE_BYTES,
            index_cache_bytes: DEFAULT_INDEX_CACHE_BYTES,
            staged_budget_bytes: DEFAULT_STAGED_BUDGET,
            meta_quota_bytes: DEFAULT_META_QUOTA,
            must_exist: false,
        }
    }
}
