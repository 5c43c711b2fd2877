//! What a compactor's host decides.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pagestore::VolumeId;

use crate::progress::Progress;

/// Staged bytes at which a volume is flushed: small enough that etcd stays small, large enough that
/// a flush is worth its files.
const FLUSH_BYTES: u64 = 160 << 20;
/// Staged versions of pages at which a volume is flushed: bounds what every open volume keeps in
/// memory.
const FLUSH_VERSIONS: u64 = 250_000;
/// Age of the oldest staged commit at which a volume is flushed.
const FLUSH_AGE: Duration = Duration::from_secs(5 * 60);

/// Who is told how the work goes.
pub type ProgressFn = Arc<dyn Fn(VolumeId, Progress) + Send + Sync>;

/// What a compactor's host decides. The defaults suit a server; a host with a smaller byte budget
/// flushes earlier.
#[derive(Clone)]
pub struct CompactorOptions {
    /// Staged bytes at which a volume is flushed.
    pub flush_bytes: u64,
    /// Staged versions of pages at which a volume is flushed.
    pub flush_versions: u64,
    /// Age of the oldest staged commit at which a volume is flushed.
    pub flush_age: Duration,
    /// Who compacts, for people who look at the claim: host and process, say.
    pub owner: String,
    /// Told how the work goes.
    pub progress: Option<ProgressFn>,
}

impl Default for CompactorOptions {
    fn default() -> CompactorOptions {
        CompactorOptions {
            flush_bytes: FLUSH_BYTES,
            flush_versions: FLUSH_VERSIONS,
            flush_age: FLUSH_AGE,
            owner: format!("process {}", std::process::id()),
            progress: None,
        }
    }
}

impl fmt::Debug for CompactorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactorOptions")
            .field("flush_bytes", &self.flush_bytes)
            .field("flush_versions", &self.flush_versions)
            .field("flush_age", &self.flush_age)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
