use std::collections::HashSet;

use super::state::VolumeState;
use crate::error::Result;
use crate::meta::keys::{VolumeKeys, WatchedKey};
use crate::meta::{KeyRange, KeyValue, MetaError, MetaResult, MetaStore, RangeRequest};
use crate::types::{FileId, Revision};

/// Keys read by one request.
const CHUNK_KEYS: usize = 10_000;
/// Times that a load overtaken by a compaction of the meta tier begins anew.
const MAX_RESTARTS: usize = 5;

/// Keys as they all were at one revision.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The revision.
    pub revision: Revision,
    /// The keys, in order.
    pub kvs: Vec<KeyValue>,
}

impl Scan {
    /// The files that these watched keys of a volume list, or say to be dropped: those that somebody may
    /// still read.
    #[must_use]
    pub fn published_files(&self, keys: &VolumeKeys) -> HashSet<FileId> {
        let file = |kv: &KeyValue| match keys.parse_watched(&kv.key) {
            Some(WatchedKey::File(place)) => Some(place.file),
            Some(WatchedKey::Dropped(file)) => Some(file),
            _ => None,
        };
        self.kvs.iter().filter_map(file).collect()
    }
}

/// Reads all of `keys` as of one revision (now, when none is given), in chunks.
///
/// # Errors
/// [`MetaError::Compacted`] when the meta tier forgets the revision meanwhile.
pub async fn scan(meta: &dyn MetaStore, keys: &KeyRange, at: Option<Revision>) -> MetaResult<Scan> {
    let mut request =
        RangeRequest { revision: at, ..RangeRequest::new(keys.clone()).limit(CHUNK_KEYS) };
    let mut kvs = Vec::new();
    loop {
        let response = meta.range(request.clone()).await?;
        let revision = request.revision.unwrap_or(response.revision);
        kvs.extend(response.kvs);
        let Some(last) = kvs.last().filter(|_| response.more) else {
            return Ok(Scan { revision, kvs });
        };
        request.revision = Some(revision);
        request.keys.start = [&last.key, &[0][..]].concat().into();
    }
}

/// Reads a volume's watched keys as of one revision.
///
/// # Errors
/// `NotFound` when the volume was deleted, `Corrupt` when a value is broken, `Unavailable`.
pub async fn load(meta: &dyn MetaStore, keys: &VolumeKeys) -> Result<VolumeState> {
    let scan = scan_watched(meta, keys).await?;
    VolumeState::load(keys, &scan.kvs, scan.revision)
}

/// Reads the watched keys of a volume whose state was `before`, and which may have been deleted since.
pub(super) async fn reload(
    meta: &dyn MetaStore,
    keys: &VolumeKeys,
    before: &VolumeState,
) -> Result<VolumeState> {
    let scan = scan_watched(meta, keys).await?;
    before.reload(keys, &scan.kvs, scan.revision)
}

async fn scan_watched(meta: &dyn MetaStore, keys: &VolumeKeys) -> MetaResult<Scan> {
    for _ in 1..MAX_RESTARTS {
        match scan(meta, &keys.watched(), None).await {
            Err(MetaError::Compacted { .. }) => {}
            scanned => return scanned,
        }
    }
    scan(meta, &keys.watched(), None).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Env;
    use crate::error::ErrorKind;
    use crate::meta::embedded::EmbeddedStore;
    use crate::meta::keys::StoreKeys;
    use crate::meta::txn;
    use crate::mirror::testing::{NAME, create_volume};
    use crate::types::VolumeId;

    #[tokio::test]
    async fn a_volume_deleted_meanwhile_is_loaded_again_as_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let meta = EmbeddedStore::open(dir.path(), &Env::seeded(1)).unwrap();
        let keys = StoreKeys::new("").volume(VolumeId(1));
        let created = create_volume(meta.as_ref(), &keys).await;
        let before = load(meta.as_ref(), &keys).await.unwrap();
        assert!(!reload(meta.as_ref(), &keys, &before).await.unwrap().deleted);

        let deletion = meta.txn(txn::delete_volume(NAME.into(), &keys, created)).await.unwrap();
        let after = reload(meta.as_ref(), &keys, &before).await.unwrap();
        assert!(after.deleted);
        assert_eq!((after.created, after.revision), (created, deletion.revision));
        assert_eq!((after.head, &after.record), (before.head, &before.record));
        let error = load(meta.as_ref(), &keys).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
