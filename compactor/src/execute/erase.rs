//! Erases what is left of deleted volumes: objects first, then keys, so that it can be begun again.
//!
//! A request to create an object that its sender has long given up may still arrive. So a volume is emptied
//! twice, with [`LATE`] in between, and its last keys, by which compactors know that there was such a
//! volume, go only then.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};

use pagestore::internal::meta::keys::{SENTINEL_SESSION, StoreKeys};
use pagestore::internal::meta::{Compare, KeyRange, MetaStore, Op, Projection, RangeRequest};
use pagestore::internal::types::VolumeId;

use crate::claim::Claim;
use crate::interrupt::{Interrupt, Work};
use crate::volume::Volume;

/// Keys deleted by one transaction.
const BATCH_KEYS: usize = 5_000;
/// Names of objects held in memory.
const BATCH_OBJECTS: usize = 1_000;
/// Deletions of objects that are under way at once.
const CONCURRENT: usize = 8;

/// How long after it was sent a request may arrive, and more: S3 refuses those signed over 15 minutes ago.
pub(crate) const LATE: Duration = Duration::from_secs(3600);

/// Which time a volume is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The first one, as far as this compactor knows.
    First,
    /// [`LATE`] after the first one.
    Last,
}

/// What erasing a volume came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Erased {
    /// Nothing is left but a few keys, which the last pass takes away.
    Contents,
    /// Nothing of the volume is left.
    All,
    /// A session still holds a snapshot of it, or a writer an upload: try again later.
    Held,
}

/// The ids of all volumes that have keys, deleted ones too. One request each.
pub(crate) async fn find_volumes(
    meta: &dyn MetaStore,
    keys: &StoreKeys,
) -> Work<BTreeSet<VolumeId>> {
    let all = keys.volumes();
    let mut request = RangeRequest::new(all.clone()).limit(1).project(Projection::KeysOnly);
    let mut found = BTreeSet::new();
    loop {
        let response = meta.range(request.clone()).await?;
        let Some(kv) = response.kvs.first() else { return Ok(found) };
        let id = kv.key.strip_prefix(all.start.as_ref()).and_then(|rest| rest.first_chunk::<8>());
        let Some(id) = id.map(|id| VolumeId(u64::from_be_bytes(*id))) else {
            // None of ours; pass over it.
            request.keys.start = [&kv.key, &[0][..]].concat().into();
            continue;
        };
        found.insert(id);
        let Some(next) = keys.volume(id).everything().end else { return Ok(found) };
        request.keys.start = next;
    }
}

/// True when the volume was deleted: its metadata is gone, and never comes back.
pub(crate) async fn is_deleted(volume: &Volume) -> Work<bool> {
    let key = KeyRange::key(volume.keys.metadata());
    let request = RangeRequest::new(key).project(Projection::KeysOnly);
    Ok(volume.meta.range(request).await?.kvs.is_empty())
}

/// Erases a deleted volume. Of one that is not, nothing is touched.
pub(crate) async fn erase(claim: Claim, pass: Pass) -> Work<Erased> {
    let volume = claim.volume().clone();
    if !is_deleted(&volume).await? {
        claim.release().await;
        return Err(Interrupt::Overtaken);
    }
    if is_held(&volume).await? && !planted!(PinnedVolumeErased) {
        claim.release().await;
        return Ok(Erased::Held);
    }
    if !planted!(KeysErasedFirst) {
        erase_objects(&volume).await?;
    }
    for range in [volume.keys.commits(), volume.keys.all_pointers(), volume.keys.all_staged()] {
        erase_keys(&claim, range).await?;
    }
    if pass == Pass::First {
        claim.release().await;
        return Ok(Erased::Contents);
    }
    // What is left are few keys, the claim among them.
    let gone = Compare::absent(volume.keys.metadata());
    claim.txn(vec![gone], vec![Op::Delete(volume.keys.everything())]).await?;
    if planted!(KeysErasedFirst) {
        erase_objects(&volume).await?;
    }
    claim.release().await;
    tracing::info!(volume = %volume.id(), "erased a deleted volume");
    Ok(Erased::All)
}

/// True while a session reads the volume or a writer uploads to it.
async fn is_held(volume: &Volume) -> Work<bool> {
    let sentinel = volume.keys.pin(SENTINEL_SESSION);
    for range in [volume.keys.pins(), volume.keys.holds(), volume.keys.intents()] {
        let request = RangeRequest::new(range).limit(2).project(Projection::KeysOnly);
        let found = volume.meta.range(request).await?;
        if found.kvs.iter().any(|kv| kv.key != sentinel) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes all objects of the volume. Any failure of the listing ends it.
pub(crate) async fn erase_objects(volume: &Volume) -> Work<()> {
    let mut batches = volume.blobs.list(volume.id()).try_chunks(BATCH_OBJECTS);
    while let Some(batch) = batches.try_next().await.map_err(|error| error.1)? {
        let deletes: Vec<_> =
            batch.iter().map(|listed| volume.blobs.delete(&listed.name)).collect();
        stream::iter(deletes).buffer_unordered(CONCURRENT).try_collect::<()>().await?;
    }
    Ok(())
}

/// Deletes the keys of `range`, a bounded number at a time.
async fn erase_keys(claim: &Claim, range: KeyRange) -> Work<()> {
    let volume = claim.volume();
    loop {
        let request = RangeRequest::new(range.clone()).project(Projection::KeysOnly);
        let found = volume.meta.range(request.limit(BATCH_KEYS)).await?;
        let (Some(first), Some(last)) = (found.kvs.first(), found.kvs.last()) else {
            return Ok(());
        };
        let end = [&last.key, &[0][..]].concat();
        let batch = KeyRange::span(first.key.clone(), end);
        let gone = Compare::absent(volume.keys.metadata());
        if !claim.txn(vec![gone], vec![Op::Delete(batch)]).await?.succeeded {
            return Err(Interrupt::Overtaken);
        }
    }
}

#[cfg(test)]
mod tests {
    use pagestore::internal::blob::ObjectName;
    use pagestore::internal::meta::txn;
    use pagestore::internal::types::{FileId, Revision};

    use super::*;
    use crate::testing::{NAME, new_volume};

    #[tokio::test]
    async fn only_a_deleted_volume_is_erased() {
        let (_dir, volume, created) = new_volume().await;
        let (meta, keys) = (&volume.meta, &volume.keys);
        let file = FileId::from_bytes([9; 16]);
        let name = ObjectName { volume: keys.id(), named_at: Revision(1), file };
        volume.blobs.put_create(&name, vec!["object".into()]).await.unwrap();

        let claim = Claim::take(&volume, "test").await.unwrap().unwrap();
        assert!(matches!(erase(claim, Pass::First).await, Err(Interrupt::Overtaken)));
        assert_eq!(volume.blobs.head(&name).await.unwrap(), 6);

        meta.txn(txn::delete_volume(NAME.into(), keys, created)).await.unwrap();
        let claim = Claim::take(&volume, "test").await.unwrap().unwrap();
        assert_eq!(erase(claim, Pass::First).await.unwrap(), Erased::Contents);
        assert!(volume.blobs.head(&name).await.is_err());
        let found = find_volumes(meta.as_ref(), &StoreKeys::new("")).await.unwrap();
        assert_eq!(found, [keys.id()].into());

        // Of a request that was sent before.
        volume.blobs.put_create(&name, vec!["object".into()]).await.unwrap();
        let claim = Claim::take(&volume, "test").await.unwrap().unwrap();
        assert_eq!(erase(claim, Pass::Last).await.unwrap(), Erased::All);
        assert!(volume.blobs.head(&name).await.is_err());
        let left = meta.range(RangeRequest::new(keys.everything())).await.unwrap();
        assert!(left.kvs.is_empty());
    }
}
