//! Every frame has its checksum, and holds the content that the index says.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, stream};
use roaring::RoaringTreemap;

use super::Verification;
use super::findings::{Damage, Finding};
use super::sections::{broken, is_gone};
use super::staged::is_damage;
use crate::error::Result;
use crate::file::{FileEntry, Frame, FrameHandle, IndexEntry};
use crate::inspect::objects::Objects;
use crate::inspect::{CONCURRENCY, Inspector};
use crate::types::{FileId, PageNo, Revision};

/// Bytes of frames fetched by one request.
const FETCH_BYTES: u64 = 2 << 20;

/// What a file's index says is in one frame.
pub(super) type Frames = BTreeMap<(FileId, Revision, FrameHandle), Vec<(u16, IndexEntry)>>;

impl Verification<'_> {
    /// Fetches and checks frames, neighbours together; returns the pages whose frames are missing.
    pub(super) async fn check_frames(
        &mut self,
        inspector: &Inspector,
        entry: &FileEntry,
        frames: Frames,
        total: u64,
    ) -> Result<RoaringTreemap> {
        let objects = Objects::of(&inspector.core);
        let mut missing = RoaringTreemap::new();
        let mut fetches = stream::iter(batches(frames))
            .map(|batch| async move {
                let bytes = objects.get(batch.file, batch.named_at, batch.range.clone()).await;
                (batch, bytes)
            })
            .buffered(CONCURRENCY);
        while let Some((batch, bytes)) = fetches.next().await {
            match bytes {
                Ok(bytes) => self.check_batch(inspector, &batch, &bytes),
                Err(error) if is_gone(inspector, entry, &error).await? => return Ok(missing),
                Err(error) if is_damage(&error) => {
                    missing.extend(batch.pages().iter().map(|page| page.0));
                    let mut finding = Finding::new(Damage::Object, error)
                        .in_file(batch.file, Some(batch.range.start));
                    for page in batch.pages() {
                        finding = finding.of_pages(page, page);
                    }
                    self.findings.push(finding);
                }
                Err(error) => return Err(error),
            }
            self.file_bytes_read(batch.range.end - batch.range.start, total);
        }
        Ok(missing)
    }

    fn check_batch(&mut self, inspector: &Inspector, batch: &Batch, bytes: &Bytes) {
        let record = &inspector.core.record;
        for (handle, entries) in &batch.frames {
            let part = slice(bytes, batch.range.start, *handle);
            let frame = match Frame::decode(*handle, record.page_size, &part) {
                Ok(frame) => frame,
                Err(error) => {
                    for (_, entry) in entries {
                        self.findings
                            .push(broken(batch.file, error).of_pages(entry.page, entry.page));
                    }
                    continue;
                }
            };
            for (slot, entry) in entries {
                if let Err(error) = frame.verified(entry, *slot, &record.secret) {
                    self.findings.push(broken(batch.file, error).of_pages(entry.page, entry.page));
                }
            }
        }
    }
}

/// Frames of one file that lie side by side.
#[derive(Debug)]
struct Batch {
    file: FileId,
    named_at: Revision,
    range: std::ops::Range<u64>,
    frames: Vec<(FrameHandle, Vec<(u16, IndexEntry)>)>,
}

impl Batch {
    fn pages(&self) -> Vec<PageNo> {
        let mut pages: Vec<PageNo> = self
            .frames
            .iter()
            .flat_map(|(_, entries)| entries)
            .map(|(_, entry)| entry.page)
            .collect();
        pages.sort_unstable();
        pages
    }
}

fn batches(frames: Frames) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for ((file, named_at, handle), entries) in frames {
        let range = handle.range();
        match batches.last_mut() {
            Some(batch)
                if batch.file == file
                    && batch.range.end == range.start
                    && range.end - batch.range.start <= FETCH_BYTES =>
            {
                batch.range.end = range.end;
                batch.frames.push((handle, entries));
            }
            _ => batches.push(Batch { file, named_at, range, frames: vec![(handle, entries)] }),
        }
    }
    batches
}

fn slice(bytes: &Bytes, start: u64, handle: FrameHandle) -> Bytes {
    let at = usize::try_from(handle.offset - start).unwrap_or(usize::MAX);
    let length = usize::try_from(handle.bytes.get()).unwrap_or(usize::MAX);
    let end = at.saturating_add(length).min(bytes.len());
    bytes.slice(at.min(end)..end)
}
