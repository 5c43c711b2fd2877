//! One volume and the tiers it lives in: what every piece of work is done with.

use std::sync::Arc;

use pagestore::Env;
use pagestore::internal::blob::{BlobStore, ObjectName};
use pagestore::internal::meta::MetaStore;
use pagestore::internal::meta::keys::VolumeKeys;
use pagestore::internal::types::{FileId, Revision, VolumeId};

/// A volume's tiers and keys. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) blobs: BlobStore,
    pub(crate) env: Env,
    pub(crate) keys: VolumeKeys,
}

impl Volume {
    pub(crate) fn id(&self) -> VolumeId {
        self.keys.id()
    }

    /// The object of a file.
    pub(crate) fn object(&self, file: FileId, named_at: Revision) -> ObjectName {
        ObjectName { volume: self.id(), named_at, file }
    }
}
