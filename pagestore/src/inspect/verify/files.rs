//! Every listed object has its length, and every section and frame of it its checksum and content.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;

use super::findings::{Damage, Finding};
use super::staged::is_damage;
use super::{Phase, Verification};
use crate::error::{Error, ErrorKind, Result};
use crate::file::{
    BodyAt, FileEntry, FileError, FileTail, Frame, FrameHandle, IndexBlock, IndexEntry,
};
use crate::inspect::objects::Objects;
use crate::inspect::{CONCURRENCY, Inspector};
use crate::types::{FileId, PageNo, Revision};

/// Bytes of frames fetched by one request.
const FETCH_BYTES: u64 = 2 << 20;

/// Pages that need not be tried: the index that would tell of them cannot be read, or their object is
/// missing. Both are found already.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    ranges: Vec<(PageNo, PageNo)>,
    pages: RoaringTreemap,
}

impl Unreadable {
    pub(super) fn contains(&self, page: PageNo) -> bool {
        self.pages.contains(page.0)
            || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&page))
    }
}

/// What a file's index says is in one frame.
type Frames = BTreeMap<(FileId, Revision, FrameHandle), Vec<(u16, IndexEntry)>>;

impl Verification<'_> {
    /// Checks the listed files: their tails, and, if `thorough`, all that is in them.
    pub(super) async fn check_files(
        &mut self,
        inspector: &Inspector,
        thorough: bool,
    ) -> Result<Unreadable> {
        let state = inspector.core.mirror.fresh().await?;
        // Which pages a missing object had only its index tells.
        let thorough = self.check_objects(inspector).await? || thorough;
        let total: u64 = state
            .levels
            .files()
            .map(|entry| if thorough { entry.bytes } else { tail_bytes(entry) })
            .sum();
        let mut unreadable = Unreadable::default();
        for entry in state.levels.files() {
            match Objects::of(&inspector.core).tail(entry).await {
                Ok(tail) => {
                    self.file_bytes_read(tail_bytes(entry), total);
                    if thorough {
                        unreadable.pages |= self.check_file(inspector, entry, &tail, total).await?;
                    }
                    self.report.files_read += 1;
                }
                Err(error) if is_gone(inspector, entry, &error).await? => {}
                Err(error) if is_damage(&error) => {
                    let damage = if error.kind() == ErrorKind::NotFound {
                        Damage::Object
                    } else {
                        Damage::File
                    };
                    let finding =
                        Finding::new(damage, error).in_file(entry.id, Some(entry.tail_offset));
                    self.findings.push(finding.of_pages(entry.first, entry.last));
                    unreadable.ranges.push((entry.first, entry.last));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unreadable)
    }

    fn file_bytes_read(&mut self, bytes: u64, total: u64) {
        self.report.file_bytes_read += bytes;
        self.tell(
            Phase::Files,
            self.report.file_bytes_read,
            total.max(self.report.file_bytes_read),
        );
    }

    /// Every object that a file needs is there, whole; counts those nobody names. True when one is
    /// missing.
    async fn check_objects(&mut self, inspector: &Inspector) -> Result<bool> {
        let core = &inspector.core;
        let objects = Objects::of(core);
        let mut listing = core.blobs.list(core.keys.id());
        let mut found = HashMap::new();
        while let Some(listed) = listing.try_next().await? {
            found.insert(listed.name, listed.bytes);
        }
        let state = core.mirror.fresh().await?;
        let mut is_missing = false;
        let listed = state.levels.files().map(|entry| (entry.id, entry.named_at, entry.bytes));
        let dropped = state
            .dropped
            .iter()
            .map(|(id, dropped)| (*id, dropped.record.named_at, dropped.record.bytes));
        for (id, named_at, bytes) in listed.chain(dropped) {
            let name = objects.name(id, named_at);
            // A file published since the listing is not in it.
            let length = match found.remove(&name) {
                Some(length) => Some(length),
                None => match core.blobs.head(&name).await {
                    Ok(length) => Some(length),
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                },
            };
            let message = match length {
                Some(length) if length == bytes => continue,
                Some(length) => format!("object is {length} bytes long, not {bytes}: {name}"),
                None if is_needed(inspector, id).await? => {
                    is_missing = true;
                    format!("object is missing: {name}")
                }
                None => continue,
            };
            self.findings.push(Finding::new(Damage::Object, message).in_file(id, length));
        }
        self.report.unnamed_objects = found.len() as u64;
        Ok(is_missing)
    }

    /// Everything in one file, and the frames of others that it points into; returns the pages whose
    /// frames are missing.
    async fn check_file(
        &mut self,
        inspector: &Inspector,
        entry: &FileEntry,
        tail: &FileTail,
        total: u64,
    ) -> Result<RoaringTreemap> {
        self.check_commits(inspector, entry, tail).await?;
        let objects = Objects::of(&inspector.core);
        let mut frames = Frames::new();
        let mut version_count = 0;
        let mut blocks = stream::iter(tail.blocks())
            .map(|block| async move { (block, objects.block(entry, tail, block).await) })
            .buffered(CONCURRENCY);
        while let Some((handle, block)) = blocks.next().await {
            match block {
                Ok(block) => {
                    version_count += block.entries().len() as u64;
                    self.check_block(entry, tail, &block, &mut frames);
                }
                Err(error) if is_gone(inspector, entry, &error).await? => {
                    return Ok(RoaringTreemap::new());
                }
                Err(error) => self.damaged_in(entry.id, handle.offset, error)?,
            }
            self.file_bytes_read(handle.bytes, total);
        }
        drop(blocks);
        self.report.versions_read += version_count;
        let is_whole = !self.findings.has_file(entry.id);
        if is_whole && version_count != entry.version_count {
            let message = format!(
                "index lists {version_count} versions, its entry says {}: file {}",
                entry.version_count, entry.id
            );
            self.findings.push(Finding::new(Damage::File, message).in_file(entry.id, None));
        }
        self.check_frames(inspector, entry, frames, total).await
    }

    async fn check_commits(
        &mut self,
        inspector: &Inspector,
        entry: &FileEntry,
        tail: &FileTail,
    ) -> Result<()> {
        for block in tail.commit_blocks() {
            match Objects::of(&inspector.core).commits(entry, tail, block).await {
                Ok(_) => {}
                Err(error) if is_gone(inspector, entry, &error).await? => return Ok(()),
                Err(error) => self.damaged_in(entry.id, block.offset, error)?,
            }
        }
        Ok(())
    }

    fn check_block(
        &mut self,
        entry: &FileEntry,
        tail: &FileTail,
        block: &IndexBlock,
        frames: &mut Frames,
    ) {
        for found in block.entries() {
            let (page, revision) = (found.page, found.revision);
            let is_in_place = tail.holds(page)
                && entry.may_hold(page)
                && (entry.oldest..=entry.newest).contains(&revision);
            if !is_in_place {
                let message = format!(
                    "index lists page {page} of revision {revision} against filter or entry: file {}",
                    entry.id
                );
                self.findings.push(
                    Finding::new(Damage::File, message)
                        .in_file(entry.id, None)
                        .of_pages(page, page),
                );
            }
            let Some(location) = found.location else { continue };
            match tail.resolve(location) {
                Ok(BodyAt { file, named_at, frame, slot }) => {
                    frames.entry((file, named_at, frame)).or_default().push((slot, *found));
                }
                Err(error) => self.findings.push(broken(entry.id, error).of_pages(page, page)),
            }
        }
    }

    /// Fetches and checks frames, neighbours together.
    async fn check_frames(
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

    /// Notes damage; hands back what is none.
    fn damaged_in(&mut self, file: FileId, offset: u64, error: Error) -> Result<()> {
        if !is_damage(&error) {
            return Err(error);
        }
        self.findings.push(Finding::new(Damage::File, error).in_file(file, Some(offset)));
        Ok(())
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

fn broken(file: FileId, error: FileError) -> Finding {
    let offset = match error {
        FileError::Broken { offset, .. } => Some(offset),
        FileError::NewerVersion { .. } => None,
    };
    Finding::new(Damage::File, error.of(file)).in_file(file, offset)
}

fn tail_bytes(entry: &FileEntry) -> u64 {
    entry.bytes.saturating_sub(entry.tail_offset)
}

/// True when an object is missing because a compactor took the file that needs it off the list.
async fn is_gone(inspector: &Inspector, entry: &FileEntry, error: &Error) -> Result<bool> {
    if error.kind() != ErrorKind::NotFound {
        return Ok(false);
    }
    let state = inspector.core.mirror.fresh().await?;
    Ok(state.levels.get(entry.id).is_none())
}

/// True when a level lists the file, or a listed file points into it.
async fn is_needed(inspector: &Inspector, file: FileId) -> Result<bool> {
    let state = inspector.core.mirror.fresh().await?;
    let mut files = state.levels.files();
    Ok(files.any(|entry| entry.id == file || entry.refs.iter().any(|to| to.id == file)))
}
