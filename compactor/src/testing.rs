//! A volume for unit tests, in a directory and in memory.

use std::sync::Arc;

use object_store::memory::InMemory;
use tempfile::TempDir;

use pagestore::Env;
use pagestore::internal::blob::BlobStore;
use pagestore::internal::meta::MetaStore;
use pagestore::internal::meta::embedded::EmbeddedStore;
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::internal::meta::records::VolumeRecord;
use pagestore::internal::meta::txn;
use pagestore::internal::types::{HashSecret, Keep, PageSize, Revision, SECRET_BYTES, VolumeId};

use crate::volume::Volume;

/// What a volume called `nv` is called in the meta tier.
pub(crate) const NAME: &str = "nv";

/// A volume that was just made, when that was, and its directory.
pub(crate) async fn new_volume() -> (TempDir, Volume, Revision) {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::seeded(1);
    let meta: Arc<dyn MetaStore> = EmbeddedStore::open(dir.path(), &env).unwrap();
    let blobs = BlobStore::new(Arc::new(InMemory::new()), "memory:", env.clone());
    let keys = StoreKeys::new("").volume(VolumeId(1));
    let secret = HashSecret::new([1; SECRET_BYTES]);
    let record = VolumeRecord::new(PageSize::DEFAULT, Keep::Nothing, 0, secret);
    let create = txn::create_volume(NAME.into(), "id".into(), &keys, &record);
    let created = meta.txn(create).await.unwrap().revision;
    (dir, Volume { meta, blobs, env, keys }, created)
}
