//! What a store can be told. Everything has a default that suits most.

use std::path::PathBuf;

use crate::cache::{IndexCache, PageCache};
use crate::commit::{DEFAULT_META_QUOTA, DEFAULT_STAGED_BUDGET};

/// Options of an open store; they hold for this process only.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of pages kept in memory, for all volumes together. 64 MiB by default.
    pub page_cache_bytes: u64,
    /// Bytes of file indexes kept in memory, for all volumes together. 32 MiB by default.
    pub index_cache_bytes: u64,
    /// Where to keep parts of files on a local disk too. None by default.
    pub disk_cache: Option<DiskCacheOptions>,
    /// Bytes that one volume may have staged in the meta tier: from half of it on large commits go
    /// straight to files, from three quarters on commits are slowed, at all of it they are refused.
    /// Commits that are under way at the same time may go beyond it by what they stage.
    /// 512 MiB by default.
    pub staged_budget_bytes: u64,
    /// The quota of the meta tier (etcd's `--quota-backend-bytes`): commits are refused at four
    /// fifths of it. 2 GiB by default, as etcd's.
    pub meta_quota_bytes: u64,
    /// Refuses to make a store where there is none. False by default.
    pub must_exist: bool,
}

/// A cache on a local disk. Processes may share it; it survives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCacheOptions {
    /// A directory of its own, made if it is not there.
    pub directory: PathBuf,
    /// Bytes to keep there, about.
    pub max_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            page_cache_bytes: PageCache::DEFAULT_BYTES,
            index_cache_bytes: IndexCache::DEFAULT_BYTES,
            disk_cache: None,
            staged_budget_bytes: DEFAULT_STAGED_BUDGET,
            meta_quota_bytes: DEFAULT_META_QUOTA,
            must_exist: false,
        }
    }
}
