//! Deletes the objects of dropped files.

use pagestore::internal::meta::records::decode_pin;
use pagestore::internal::meta::{Compare, Op};
use pagestore::internal::mirror::{self, VolumeState};
use pagestore::internal::types::{FileId, Revision};

use crate::claim::Claim;
use crate::interrupt::Work;
use crate::volume::Volume;

/// The revisions of the level lists that sessions read by.
pub(crate) async fn read_level_lists(volume: &Volume) -> Work<Vec<Revision>> {
    let scan = mirror::scan(volume.meta.as_ref(), &volume.keys.level_lists(), None).await?;
    let lists: Result<_, _> = scan.kvs.iter().map(|kv| decode_pin(&volume.keys, kv)).collect();
    Ok(lists?)
}

/// Deletes the objects of `files` and then their records; returns the revision of the last record's
/// deletion. The records go last, so that a deletion cut short is begun again.
pub(crate) async fn delete(claim: &Claim, state: &VolumeState, files: &[FileId]) -> Work<Revision> {
    let volume = claim.volume();
    let mut deleted_at = state.revision;
    for file in files {
        let Some(dropped) = state.dropped.get(file) else { continue };
        volume.blobs.delete(&volume.object(*file, dropped.record.named_at)).await?;
        let key = volume.keys.dropped(*file);
        let unchanged = Compare::modified(key.clone(), dropped.modified);
        let response = claim.txn(vec![unchanged], vec![Op::delete(key)]).await?;
        // Of a refused transaction the revision is no change of the volume's.
        if response.succeeded {
            deleted_at = response.revision;
        }
    }
    Ok(deleted_at)
}
