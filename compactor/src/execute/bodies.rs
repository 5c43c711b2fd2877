//! Reads pages' bodies out of files, many at a time: each index block and each frame is fetched once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use pagestore::Error;
use pagestore::internal::file::{BlockHandle, BodyAt, FileEntry, Frame, FrameHandle, IndexEntry};
use pagestore::internal::mirror::VolumeState;
use pagestore::internal::types::{ContentHash, FileId, PageNo};

use super::file::{OpenFile, Version};
use crate::interrupt::Work;
use crate::volume::Volume;

/// Requests under way at once.
const CONCURRENT: usize = 8;
/// Frames with at most this many unwanted bytes between them are fetched together.
const GAP_BYTES: u64 = 64 << 10;
/// Bytes fetched by one request.
const RUN_BYTES: u64 = 2 << 20;

/// Names one content of one page.
pub(crate) type ContentKey = (PageNo, ContentHash);

/// The files that were opened so far.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles(Mutex<HashMap<FileId, OpenFile>>);

impl OpenFiles {
    pub(crate) async fn open(&self, volume: &Volume, entry: &Arc<FileEntry>) -> Work<OpenFile> {
        let mut files = self.0.lock().await;
        if let Some(file) = files.get(&entry.id) {
            return Ok(file.clone());
        }
        let file = OpenFile::open(volume, entry).await?;
        files.insert(entry.id, file.clone());
        Ok(file)
    }

    /// Forgets all others.
    pub(crate) fn retain(&mut self, keep: impl Fn(FileId) -> bool) {
        self.0.get_mut().retain(|file, _| keep(*file));
    }
}

/// The contents of `wanted`, from whichever files list them. What none lists is missing from the answer.
pub(crate) async fn read_by_hash(
    volume: &Volume,
    state: &VolumeState,
    open: &OpenFiles,
    wanted: BTreeSet<ContentKey>,
) -> Work<HashMap<ContentKey, Bytes>> {
    let mut missing = wanted;
    let mut found: Vec<Version> = Vec::new();
    for entry in state.levels.files() {
        if missing.is_empty() {
            break;
        }
        let here: Vec<_> =
            missing.iter().filter(|(page, _)| entry.may_hold(*page)).copied().collect();
        if here.is_empty() {
            continue;
        }
        let file = open.open(volume, entry).await?;
        let versions = find_in(&file, &here).await?;
        for version in versions {
            if missing.remove(&content_key(&version)) {
                found.push(version);
            }
        }
    }
    let bodies = read_bodies(volume, state, &found).await?;
    Ok(found.iter().map(content_key).zip(bodies).collect())
}

fn content_key(version: &Version) -> ContentKey {
    (version.entry.page, version.entry.hash)
}

/// Those of `wanted` that one file lists.
async fn find_in(file: &OpenFile, wanted: &[ContentKey]) -> Work<Vec<Version>> {
    let mut blocks: BTreeMap<u64, (BlockHandle, Vec<ContentKey>)> = BTreeMap::new();
    for key in wanted.iter().filter(|(page, _)| file.tail().holds(*page)) {
        for handle in file.tail().blocks_of(key.0..=key.0) {
            blocks.entry(handle.offset).or_insert((*handle, Vec::new())).1.push(*key);
        }
    }
    let finds: Vec<_> =
        blocks.values().map(|(handle, keys)| file.find_in_block(handle, keys)).collect();
    let versions: Vec<Vec<Version>> =
        stream::iter(finds).buffered(CONCURRENT).try_collect().await?;
    // One whose page has versions in two blocks may have been found in both.
    Ok(versions.into_iter().flatten().collect())
}

/// The bodies of `versions`, which all have one, in their order.
pub(crate) async fn read_bodies(
    volume: &Volume,
    state: &VolumeState,
    versions: &[Version],
) -> Work<Vec<Bytes>> {
    let mut wanted: Vec<(BodyAt, usize)> = Vec::with_capacity(versions.len());
    for (place, version) in versions.iter().enumerate() {
        let at = version.at.ok_or_else(|| {
            let IndexEntry { page, revision, .. } = version.entry;
            let place = format!("volume {}, page {page}, revision {revision}", volume.id());
            Error::corrupt(place, "a version that is no page of zeros has no place")
        })?;
        wanted.push((at, place));
    }
    wanted.sort_by_key(|(at, place)| (at.file, at.frame.offset, *place));
    let reads: Vec<_> =
        runs(&wanted).into_iter().map(|run| read_run(volume, state, versions, run)).collect();
    let read: Vec<Vec<(usize, Bytes)>> =
        stream::iter(reads).buffer_unordered(CONCURRENT).try_collect().await?;
    let mut read: Vec<(usize, Bytes)> = read.into_iter().flatten().collect();
    read.sort_by_key(|(place, _)| *place);
    Ok(read.into_iter().map(|(_, content)| content).collect())
}

/// `wanted`, which is sorted by place, in runs that are worth one request each.
fn runs(wanted: &[(BodyAt, usize)]) -> Vec<&[(BodyAt, usize)]> {
    let mut runs = Vec::new();
    let mut start = 0;
    for (at, pair) in wanted.windows(2).enumerate() {
        let [(before, _), (after, _)] = pair else { continue };
        let first = wanted.get(start).map_or(0, |(first, _)| first.frame.offset);
        let is_near = before.file == after.file
            && after.frame.offset <= before.frame.range().end + GAP_BYTES
            && after.frame.range().end - first <= RUN_BYTES;
        if !is_near {
            runs.push(wanted.get(start..=at).unwrap_or_default());
            start = at + 1;
        }
    }
    runs.push(wanted.get(start..).unwrap_or_default());
    runs.retain(|run| !run.is_empty());
    runs
}

/// Fetches a run of frames by one request; keeps of each frame only what is wanted.
async fn read_run(
    volume: &Volume,
    state: &VolumeState,
    versions: &[Version],
    run: &[(BodyAt, usize)],
) -> Work<Vec<(usize, Bytes)>> {
    let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else {
        return Ok(Vec::new());
    };
    let start = first.frame.offset;
    let name = volume.object(first.file, first.named_at);
    let fetched = volume.blobs.get_range(&name, start..last.frame.range().end).await?;
    let mut contents = Vec::with_capacity(run.len());
    let mut open: Option<(FrameHandle, Frame)> = None;
    for (at, place) in run {
        if open.as_ref().is_none_or(|(handle, _)| *handle != at.frame) {
            let range = at.frame.range();
            let part = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
            let bytes = fetched.get(part(range.start)..part(range.end)).unwrap_or_default();
            let frame = Frame::decode(at.frame, state.record.page_size, bytes);
            open = Some((at.frame, frame.map_err(|error| error.of(at.file))?));
        }
        let (Some((_, frame)), Some(version)) = (&open, versions.get(*place)) else { continue };
        let content = frame.verified(&version.entry, at.slot, &state.record.secret);
        let content = content.map_err(|error| error.of(at.file))?;
        // A copy, so that a page does not keep its whole frame in memory.
        contents.push((*place, Bytes::copy_from_slice(&content)));
    }
    Ok(contents)
}
