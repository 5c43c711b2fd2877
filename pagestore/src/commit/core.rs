use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::budget::Budget;
use super::group::Group;
use crate::blob::BlobStore;
use crate::env::Env;
use crate::meta::MetaStore;
use crate::meta::keys::VolumeKeys;
use crate::meta::records::VolumeRecord;
use crate::mirror::{Mirror, VolumeState};
use crate::session::Session;
use crate::snapshot::Reader;
use crate::types::Revision;

/// Everything that an open volume's snapshots and transactions share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) keys: VolumeKeys,
    /// The key of the volume's write lock.
    pub(crate) lock_key: Bytes,
    pub(crate) created: Revision,
    pub(crate) record: Arc<VolumeRecord>,
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) blobs: BlobStore,
    pub(crate) env: Env,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) session: Session,
    pub(crate) reader: Reader,
    pub(crate) group: Arc<Group>,
    pub(crate) limits: Limits,
    /// Bytes in use in the meta tier, as last heard, and what was staged since; shared by the volumes of a
    /// store.
    pub(crate) used_bytes: Arc<AtomicU64>,
}

/// How much the meta tier may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) staged_budget_bytes: u64,
    pub(crate) meta_quota_bytes: u64,
}

/// What the meta tier takes for a byte staged, about: with keys, history and pages that are half full.
const OVERHEAD: u64 = 2;

impl Core {
    /// Counts what is about to be staged, until the meta tier is asked again how full it is: a busy
    /// process would fill it in between.
    pub(crate) fn count_staged(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes.saturating_mul(OVERHEAD), Ordering::Relaxed);
    }

    /// What a commit does that has to slow down.
    pub(super) async fn pause(&self, pause: Duration) {
        // Even a sleep of nothing may take a tick of the timer.
        if !pause.is_zero() {
            self.env.sleep(pause).await;
        }
    }

    pub(crate) fn budget(&self, state: &VolumeState) -> Budget {
        Budget {
            staged: state.staged_bytes,
            staged_max: self.limits.staged_budget_bytes,
            used: self.used_bytes.load(Ordering::Relaxed),
            quota: self.limits.meta_quota_bytes,
        }
    }
}
