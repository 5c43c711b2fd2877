//! Throws away files that were begun and not published.

use std::collections::HashSet;

use pagestore::internal::meta::Op;
use pagestore::internal::mirror;
use pagestore::internal::types::{FileId, Revision};

use crate::claim::Claim;
use crate::interrupt::Work;

/// Ends the job that wrote `files` and deletes those that were not published; returns those that were.
///
/// From the first transaction on nothing of the job can be published any more: a publication compares
/// both the job and the intents.
pub(crate) async fn discard(
    claim: &Claim,
    named_at: Revision,
    files: &[FileId],
) -> Work<HashSet<FileId>> {
    let volume = claim.volume();
    claim.end().await?;
    let intents = files.iter().map(|file| Op::delete(volume.keys.intent(*file))).collect();
    claim.txn(vec![], intents).await?;
    let watched = mirror::scan(volume.meta.as_ref(), &volume.keys.watched(), None).await?;
    let mut published = watched.published_files(&volume.keys);
    published.retain(|file| files.contains(file) && !planted!(PublishedThrownAway));
    for file in files.iter().filter(|file| !published.contains(file)) {
        volume.blobs.delete(&volume.object(*file, named_at)).await?;
    }
    Ok(published)
}
