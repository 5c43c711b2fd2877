//! Reads which revisions are still readable.

use std::collections::BTreeSet;

use pagestore::internal::levels::Readable;
use pagestore::internal::mirror::{self, VolumeState};
use pagestore::internal::types::Revision;

use crate::interrupt::Work;
use crate::volume::Volume;

/// The readable revisions: those at or above the oldest, the named ones, and those that sessions hold.
///
/// `state` must not be older than the last raise of the oldest revision: then a name or a hold that
/// comes later is on a revision at or above it, or on one that is named in `state` already. Holds are
/// read after the names, so that one whose name was deleted meanwhile is seen.
pub(crate) async fn read_readable(volume: &Volume, state: &VolumeState) -> Work<Readable> {
    let points = read_points(volume, state).await?;
    Ok(Readable::new(state.oldest.record.readable, points.into_iter().collect()))
}

/// The revisions that are named or held, whether or not they are below the oldest readable one.
pub(crate) async fn read_points(volume: &Volume, state: &VolumeState) -> Work<BTreeSet<Revision>> {
    let holds = mirror::scan(volume.meta.as_ref(), &volume.keys.holds(), None).await?;
    let holds = holds.kvs.iter().filter_map(|kv| volume.keys.parse_hold(&kv.key));
    let names = state.points.values().map(|point| point.record.revision);
    Ok(names.chain(holds).collect())
}
