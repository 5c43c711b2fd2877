//! The two tiers of a store.

use std::sync::Arc;

use pagestore::internal::blob::BlobStore;
use pagestore::internal::meta::MetaStore;
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::internal::types::VolumeId;
use pagestore::{Env, Store};

use crate::volume::Volume;

/// A meta tier, a blob tier, and where in the meta tier the store is.
#[derive(Clone, Debug)]
pub struct Tiers {
    /// The meta tier.
    pub meta: Arc<dyn MetaStore>,
    /// The blob tier.
    pub blobs: BlobStore,
    /// The store's keys.
    pub keys: StoreKeys,
    /// Clock and randomness.
    pub env: Env,
}

impl From<&Store> for Tiers {
    /// The tiers of an open store: they stay open for as long as these live.
    fn from(store: &Store) -> Tiers {
        Tiers {
            meta: store.meta().clone(),
            blobs: store.blobs().clone(),
            keys: store.keys().clone(),
            env: store.env().clone(),
        }
    }
}

impl Tiers {
    pub(crate) fn volume(&self, volume: VolumeId) -> Volume {
        let Tiers { meta, blobs, keys, env } = self.clone();
        Volume { meta, blobs, env, keys: keys.volume(volume) }
    }
}
