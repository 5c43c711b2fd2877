//! Frames: from the local disk or the blob tier, one fetch at a time, every page checked.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::read_checked;
use crate::blob::{BlobStore, ObjectName};
use crate::cache::{DiskCache, Flight, FrameKey, Leader, PageCache, SingleFlight};
use crate::error::Result;
use crate::file::{BodyAt, Frame, FrameHandle, IndexEntry};
use crate::types::{FileId, HashSecret, PageSize, Revision, VolumeId};

/// Frames of one file closer to each other than this are fetched together, with what lies between:
/// about what a request costs in time.
const MAX_GAP_BYTES: u64 = 64 << 10;
/// Bytes of one request for several frames at most: a step of read-ahead, with room for its last
/// frame and for gaps.
const MAX_RUN_BYTES: u64 = 4 << 20;

/// A frame of a file of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FrameAt {
    pub(super) file: FileId,
    pub(super) named_at: Revision,
    pub(super) frame: FrameHandle,
}

impl FrameAt {
    pub(super) fn key(&self) -> FrameKey {
        FrameKey { file: self.file, offset: self.frame.offset }
    }
}

impl From<BodyAt> for FrameAt {
    fn from(at: BodyAt) -> FrameAt {
        FrameAt { file: at.file, named_at: at.named_at, frame: at.frame }
    }
}

/// A frame that one has undertaken to fetch.
pub(super) type Due = (FrameAt, Leader<FrameKey, Arc<Frame>>);

/// Reads frames of one volume's files. What is read goes into the page cache, all pages of a frame.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    pub(super) volume: VolumeId,
    pub(super) page_size: PageSize,
    pub(super) secret: HashSecret,
    pub(super) blobs: BlobStore,
    pub(super) pages: PageCache,
    pub(super) disk: Option<Arc<DiskCache>>,
    pub(super) flights: SingleFlight<FrameKey, Arc<Frame>>,
}

impl Frames {
    /// The content of the version `found`, which is not in the page cache, from the frame at `at`.
    ///
    /// # Errors
    /// `Corrupt` when the frame is broken or holds other content than the index says; those of
    /// [`BlobStore::get_range`].
    pub(super) async fn page(&self, found: &IndexEntry, at: BodyAt) -> Result<Bytes> {
        let frame = loop {
            match self.flights.join(FrameAt::from(at).key(), || None) {
                Flight::Here(frame) => break frame,
                Flight::Lead(leader) => {
                    // The frame may have landed between the look into the cache and here.
                    if let Some(page) = self.pages.get(&found.hash) {
                        return Ok(page);
                    }
                    break leader.land(self.fetch(at.into()).await)?;
                }
                Flight::Follow(follower) => {
                    if let Some(result) = follower.result().await {
                        break result?;
                    }
                }
            }
        };
        let page = frame.verified(found, at.slot, &self.secret);
        page.map(|page| Bytes::copy_from_slice(&page)).map_err(|error| error.of(at.file))
    }

    /// Undertakes to fetch the frame, unless another does already.
    pub(super) fn undertake(&self, at: FrameAt) -> Option<Due> {
        match self.flights.join(at.key(), || None) {
            Flight::Lead(leader) => Some((at, leader)),
            Flight::Here(_) | Flight::Follow(_) => None,
        }
    }

    /// Fetches a run of frames of one file, and tells those who wait for them.
    pub(super) async fn fetch_run(&self, run: Vec<Due>) {
        let mut wanted = Vec::with_capacity(run.len());
        for (at, leader) in run {
            match self.read_disk(at).await {
                Some(frame) => drop(leader.land(Ok(frame))),
                None => wanted.push((at, leader)),
            }
        }
        for run in coalesce(wanted) {
            self.fetch_together(run).await;
        }
    }

    async fn fetch_together(&self, run: Vec<Due>) {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return };
        let range = first.frame.offset..last.frame.range().end;
        let bytes = self.blobs.get_range(&self.name(first), range.clone()).await;
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                for (_, leader) in run {
                    drop(leader.land(Err(error.copy())));
                }
                return;
            }
        };
        for (at, leader) in run {
            let part = slice(&bytes, &range, &at.frame.range());
            let frame = match self.decode(at, &part) {
                Ok(frame) => Ok(self.keep(at, frame, Some(part))),
                Err(_) => self.fetch(at).await,
            };
            drop(leader.land(frame));
            tokio::task::yield_now().await;
        }
    }

    async fn fetch(&self, at: FrameAt) -> Result<Arc<Frame>> {
        if let Some(frame) = self.read_disk(at).await {
            return Ok(frame);
        }
        let decode = |bytes: &Bytes| Ok((self.decode(at, bytes)?, bytes.clone()));
        let range = at.frame.range();
        let (frame, bytes) = read_checked(&self.blobs, &self.name(&at), range, decode).await?;
        Ok(self.keep(at, frame, Some(bytes)))
    }

    async fn read_disk(&self, at: FrameAt) -> Option<Arc<Frame>> {
        let disk = self.disk.as_ref()?;
        let len = usize::try_from(at.frame.bytes.get()).ok()?;
        let bytes = disk.get(at.key(), len).await?;
        match self.decode(at, &bytes) {
            Ok(frame) => Some(self.keep(at, frame, None)),
            Err(_) => {
                disk.discard(at.key()).await;
                None
            }
        }
    }

    fn decode(&self, at: FrameAt, bytes: &[u8]) -> Result<Frame> {
        Frame::decode(at.frame, self.page_size, bytes).map_err(|error| error.of(at.file))
    }

    /// Puts the pages of a frame into the cache, each under the hash that its content has, and what
    /// came from the blob tier onto the disk.
    fn keep(&self, at: FrameAt, frame: Frame, fetched: Option<Bytes>) -> Arc<Frame> {
        for (page, content) in frame.pages() {
            let hash = self.secret.hash(page, &content);
            if !hash.is_zero_page() && !self.pages.contains(&hash) {
                // A copy of its own: a slice would keep the whole frame in memory.
                self.pages.insert(hash, Bytes::copy_from_slice(&content));
            }
        }
        if let (Some(disk), Some(bytes)) = (&self.disk, fetched) {
            disk.offer(at.key(), bytes);
        }
        Arc::new(frame)
    }

    fn name(&self, at: &FrameAt) -> ObjectName {
        ObjectName { volume: self.volume, named_at: at.named_at, file: at.file }
    }
}

/// Splits frames into runs, each of one file and worth one request.
pub(super) fn coalesce(mut frames: Vec<Due>) -> Vec<Vec<Due>> {
    frames.sort_by_key(|(at, _)| *at);
    let mut runs: Vec<Vec<Due>> = Vec::new();
    for due in frames {
        let joins = runs
            .last()
            .and_then(|run| run.first().zip(run.last()))
            .is_some_and(|((first, _), (last, _))| belongs(first, last, &due.0));
        match runs.last_mut() {
            Some(run) if joins => run.push(due),
            _ => runs.push(vec![due]),
        }
    }
    runs
}

fn belongs(first: &FrameAt, last: &FrameAt, next: &FrameAt) -> bool {
    let (end, next_range) = (last.frame.range().end, next.frame.range());
    first.file == next.file
        && next_range.start >= end
        && next_range.start - end <= MAX_GAP_BYTES
        && next_range.end - first.frame.offset <= MAX_RUN_BYTES
}

fn slice(bytes: &Bytes, whole: &Range<u64>, part: &Range<u64>) -> Bytes {
    bytes.slice_ref(super::index::within(bytes, whole, part))
}
