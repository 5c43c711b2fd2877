//! Writes what is staged into files of level 0, and moves the floor.
//!
//! Written is every staged version that a readable revision shows, not only the newest of each page,
//! and made whole. The oldest readable revision has been raised before; what it no longer shows is left
//! out. The changelog, not the pointers, says what there is: the mirror's state is its fold at exactly
//! one revision, which becomes the floor.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use pagestore::Error;
use pagestore::internal::codec::{Expected, PageCodec};
use pagestore::internal::file::{CommitKind, CommitRecord, Origin, SizeChange};
use pagestore::internal::levels::{Retention, Version};
use pagestore::internal::meta::records::StagedAs;
use pagestore::internal::meta::{Op, OpResponse, Txn};
use pagestore::internal::mirror::VolumeState;
use pagestore::internal::types::{ContentHash, PageNo, Revision};

use super::bodies::{OpenFiles, read_by_hash};
use super::holds::read_readable;
use super::outputs::Outputs;
use crate::claim::Claim;
use crate::interrupt::Work;
use crate::merge::pick::TARGET_VERSIONS;
use crate::merge::room::Room;
use crate::progress::{Progress, Reporter};
use crate::publish::{Edit, Upload};
use crate::volume::Volume;

/// Bytes of pages that are read and written at a time: bounds what is held in memory.
const WINDOW_BYTES: usize = 8 << 20;
/// Staged pages read by one request.
const BATCH_KEYS: usize = 100;
/// Bytes read by one request, about: a reply of over 4 MiB is refused by etcd's clients.
const BATCH_BYTES: usize = 2 << 20;
/// Requests under way at once.
const CONCURRENT: usize = 4;

/// A staged version that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    page: PageNo,
    revision: Revision,
    hash: ContentHash,
    staged: Option<StagedAs>,
}

/// Flushes everything up to the revision of `state`; returns the revision at which that was published.
pub(crate) async fn flush(
    claim: &Claim,
    state: &VolumeState,
    open: &OpenFiles,
    report: &Reporter<'_>,
) -> Work<Revision> {
    let readable = read_readable(claim.volume(), state).await?;
    let sizes = decide_sizes(state);
    let retention = Retention {
        readable: &readable,
        sizes: &sizes.iter().copied().collect(),
        // What unflushed deltas are against stays in the meta tier.
        needed_bases: &HashSet::new(),
        bottom: planted!(ZerosLeftOut),
    };
    let kept = decide_kept(state, &retention);
    let commits = decide_commits(state);

    let upload = Upload::begin(claim, state.revision).await?;
    let mut outputs = Outputs::new(upload, 0, Origin::Flush, TARGET_VERSIONS, Room::new(&[], &[]));
    if !commits.is_empty() || !sizes.is_empty() {
        let writer = outputs.writer(claim, state).await?;
        commits.into_iter().for_each(|record| writer.push_commit(record));
        sizes.into_iter().for_each(|change| writer.push_size_change(change));
    }
    write_versions(claim, state, open, &kept, &mut outputs, report).await?;
    let (upload, entries) = outputs.finish(claim).await?;
    if planted!(RemovedBeforePublished) {
        super::remove::remove(claim, state.revision).await?;
    }
    let ahead = if planted!(FloorAhead) { state.revision.next() } else { state.revision };
    let edit = Edit { outputs: entries, floor: Some(ahead), ..Edit::default() };
    upload.publish(claim, state, edit).await
}

/// The staged versions that a readable revision shows, in index order.
fn decide_kept(state: &VolumeState, retention: &Retention<'_>) -> Vec<Kept> {
    let mut pages: BTreeMap<PageNo, Vec<Kept>> = BTreeMap::new();
    for ((revision, _), commit) in state.unflushed() {
        for change in &commit.pages {
            let (page, hash, staged) = (change.page, change.hash, change.staged);
            let kept = Kept { page, revision: *revision, hash, staged };
            pages.entry(page).or_default().push(kept);
        }
    }
    let mut kept = Vec::new();
    for (page, mut versions) in pages {
        versions.reverse();
        if planted!(NewestOnlyFlushed) {
            versions.truncate(1);
        }
        let version = |kept: &Kept| Version { revision: kept.revision, hash: kept.hash };
        let keep = retention.keep(page, &versions.iter().map(version).collect::<Vec<_>>());
        kept.extend(versions.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(v, _)| v));
    }
    kept
}

/// The commits to be remembered. A bulk commit's own file remembers it.
fn decide_commits(state: &VolumeState) -> Vec<CommitRecord> {
    if planted!(CommitsNotFlushed) {
        return Vec::new();
    }
    let staged = state.unflushed().filter(|(_, commit)| commit.files.is_empty());
    let records = staged.map(|((revision, id), commit)| CommitRecord {
        revision: *revision,
        commit: *id,
        base: commit.base,
        written_count: commit.written_count(),
        kind: CommitKind::Staged,
    });
    records.collect()
}

/// The changes of the page count to be remembered, one a revision. A bulk commit's own file remembers
/// its.
fn decide_sizes(state: &VolumeState) -> Vec<SizeChange> {
    let mut sizes: Vec<SizeChange> = Vec::new();
    for ((revision, _), commit) in state.unflushed() {
        let Some(mut size) = commit.size.filter(|_| commit.files.is_empty()) else { continue };
        if planted!(TruncationNotFlushed) {
            size.lowest = None;
        }
        match sizes.last_mut().filter(|last| last.revision == *revision) {
            Some(last) => {
                last.lowest = last.lowest.into_iter().chain(size.lowest).min();
                last.last = size.last;
            }
            None => {
                sizes.push(SizeChange {
                    revision: *revision,
                    lowest: size.lowest,
                    last: size.last,
                });
            }
        }
    }
    sizes
}

async fn write_versions(
    claim: &Claim,
    state: &VolumeState,
    open: &OpenFiles,
    kept: &[Kept],
    outputs: &mut Outputs,
    report: &Reporter<'_>,
) -> Work<()> {
    let window_versions = (WINDOW_BYTES / state.record.page_size.bytes()).max(1);
    let mut done = 0;
    for window in kept.chunks(window_versions) {
        let contents = fetch(claim.volume(), state, open, window).await?;
        for version in window {
            // Compressing takes a while: others get the thread in between.
            tokio::task::consume_budget().await;
            let Kept { page, revision, hash, .. } = *version;
            outputs.close_before(claim, page, &[]).await?;
            let writer = outputs.writer(claim, state).await?;
            match contents.get(&(page, hash)) {
                Some(content) => writer.push_body(page, revision, hash, content),
                None => {
                    assert!(hash.is_zero_page(), "BUG: a staged version was not fetched");
                    writer.push_zero(page, revision);
                }
            }
        }
        done += window.len() as u64;
        report.tell(Progress::Flushing { done, total: kept.len() as u64 });
    }
    Ok(())
}

/// `kept` in runs that one request each can read.
fn batches(kept: &[Kept], page_bytes: usize) -> Vec<&[Kept]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes, mut keys) = (0, 0, 0);
    for (at, version) in kept.iter().enumerate() {
        let takes = version.staged.map_or((0, 0), |staged| {
            let base = staged.base.map_or((0, 0), |_| (1, page_bytes));
            (1 + base.0, staged.bytes as usize + base.1)
        });
        if keys + takes.0 > BATCH_KEYS || bytes + takes.1 > BATCH_BYTES {
            batches.push(kept.get(start..at).unwrap_or_default());
            (start, bytes, keys) = (at, 0, 0);
        }
        (keys, bytes) = (keys + takes.0, bytes + takes.1);
    }
    batches.push(kept.get(start..).unwrap_or_default());
    batches.retain(|batch| !batch.is_empty());
    batches
}

type Contents = HashMap<(PageNo, ContentHash), Bytes>;

/// The contents of `window`, each held against its hash; nothing for pages of zeros.
async fn fetch(
    volume: &Volume,
    state: &VolumeState,
    open: &OpenFiles,
    window: &[Kept],
) -> Work<Contents> {
    let batches = batches(window, state.record.page_size.bytes());
    let fetches: Vec<_> = batches.into_iter().map(|batch| fetch_staged(volume, batch)).collect();
    let fetched: Vec<_> = stream::iter(fetches).buffer_unordered(CONCURRENT).try_collect().await?;
    let values: HashMap<Bytes, Bytes> = fetched.into_iter().flatten().collect();
    let mut bases = Contents::new();
    let mut in_files = BTreeSet::new();
    for version in window {
        let Some(base) = version.staged.and_then(|staged| staged.base) else { continue };
        let key = (version.page, base);
        match values.get(&volume.keys.staged(base, None)) {
            _ if bases.contains_key(&key) => {}
            Some(value) => {
                bases.insert(key, decode(volume, state, key, value, None)?);
            }
            None => {
                in_files.insert(key);
            }
        }
    }
    if !in_files.is_empty() {
        bases.extend(read_by_hash(volume, state, open, in_files).await?);
    }
    let mut contents = Contents::new();
    for version in window {
        tokio::task::consume_budget().await;
        let Some(staged) = version.staged else { continue };
        let key = (version.page, version.hash);
        let place = || place(volume, version.page, version.hash);
        let value = values
            .get(&volume.keys.staged(version.hash, staged.base))
            .ok_or_else(|| Error::corrupt(place(), "an unflushed version's content is gone"))?;
        let base = staged.base.map(|base| {
            let found = bases.get(&(version.page, base));
            found.ok_or_else(|| Error::corrupt(place(), "an unflushed version's base is gone"))
        });
        let content = decode(volume, state, key, value, base.transpose()?)?;
        contents.insert(key, content);
    }
    Ok(contents)
}

/// The staged values that `batch` names, those that are there.
async fn fetch_staged(volume: &Volume, batch: &[Kept]) -> Work<Vec<(Bytes, Bytes)>> {
    let mut keys = BTreeSet::new();
    for version in batch {
        let Some(staged) = version.staged else { continue };
        keys.insert(volume.keys.staged(version.hash, staged.base));
        keys.extend(staged.base.map(|base| volume.keys.staged(base, None)));
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let then = keys.into_iter().map(Op::get).collect();
    let response = volume.meta.txn(Txn { then, ..Txn::default() }).await?;
    let found = response.responses.into_iter().flat_map(|response| match response {
        OpResponse::Range(found) => found.kvs,
        _ => Vec::new(),
    });
    Ok(found.map(|kv| (kv.key, kv.value)).collect())
}

fn decode(
    volume: &Volume,
    state: &VolumeState,
    (page, hash): (PageNo, ContentHash),
    value: &[u8],
    base: Option<&Bytes>,
) -> Work<Bytes> {
    let record = &state.record;
    let expected = Expected { page, hash, secret: &record.secret, page_size: record.page_size };
    let decoded = PageCodec::with(|codec| codec.decode(value, &expected, base.map(|b| &b[..])));
    Ok(decoded.map_err(|error| error.at(place(volume, page, hash)))?)
}

fn place(volume: &Volume, page: PageNo, hash: ContentHash) -> String {
    format!("volume {}, page {page}, staged content {hash}", volume.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(page: u64, bytes: u32, base: bool) -> Kept {
        let base = base.then_some(ContentHash([9; 16]));
        let staged = Some(StagedAs { base, bytes });
        Kept { page: PageNo(page), revision: Revision(1), hash: ContentHash([1; 16]), staged }
    }

    #[test]
    fn batches_are_bounded_in_keys_and_bytes() {
        let whole: Vec<_> = (0..250).map(|page| kept(page, 10, false)).collect();
        let lens = |kept: &[Kept]| batches(kept, 4096).iter().map(|b| b.len()).collect::<Vec<_>>();
        assert_eq!(lens(&whole), [100, 100, 50]);
        let deltas: Vec<_> = (0..60).map(|page| kept(page, 10, true)).collect();
        assert_eq!(lens(&deltas), [50, 10]);
        let large: Vec<_> = (0..3).map(|page| kept(page, 1_500_000, false)).collect();
        assert_eq!(lens(&large), [1, 1, 1]);
        assert_eq!(lens(&[]), [0; 0]);
    }
}
