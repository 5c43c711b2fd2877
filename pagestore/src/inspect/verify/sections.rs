//! Every section of a file has its checksum, and says what the sections around it say.

use futures::{StreamExt, stream};
use roaring::RoaringTreemap;

use super::Verification;
use super::findings::{Damage, Finding};
use super::frames::Frames;
use super::staged::is_damage;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{BodyAt, FileEntry, FileError, FileTail, IndexBlock, check_header, header_range};
use crate::inspect::objects::Objects;
use crate::inspect::{CONCURRENCY, Inspector};
use crate::types::FileId;

impl Verification<'_> {
    /// Everything in one file, and the frames of others that it points into; returns the pages whose
    /// frames are missing.
    pub(super) async fn check_file(
        &mut self,
        inspector: &Inspector,
        entry: &FileEntry,
        tail: &FileTail,
        total: u64,
    ) -> Result<RoaringTreemap> {
        self.check_header(inspector, entry).await?;
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

    async fn check_header(&mut self, inspector: &Inspector, entry: &FileEntry) -> Result<()> {
        let range = header_range();
        match Objects::of(&inspector.core).get(entry.id, entry.named_at, range.clone()).await {
            Ok(bytes) => {
                if let Err(error) = check_header(&bytes, inspector.core.record.page_size) {
                    self.findings.push(broken(entry.id, error));
                }
                Ok(())
            }
            Err(error) if is_gone(inspector, entry, &error).await? => Ok(()),
            Err(error) => self.damaged_in(entry.id, range.start, error),
        }
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

    /// Notes damage; hands back what is none.
    fn damaged_in(&mut self, file: FileId, offset: u64, error: Error) -> Result<()> {
        if !is_damage(&error) {
            return Err(error);
        }
        self.findings.push(Finding::new(Damage::File, error).in_file(file, Some(offset)));
        Ok(())
    }
}

pub(super) fn broken(file: FileId, error: FileError) -> Finding {
    let offset = match error {
        FileError::Broken { offset, .. } => Some(offset),
        FileError::NewerVersion { .. } => None,
    };
    Finding::new(Damage::File, error.of(file)).in_file(file, offset)
}

/// True when an object is missing because a compactor took the file that needs it off the list.
pub(super) async fn is_gone(
    inspector: &Inspector,
    entry: &FileEntry,
    error: &Error,
) -> Result<bool> {
    if error.kind() != ErrorKind::NotFound {
        return Ok(false);
    }
    let state = inspector.core.mirror.fresh().await?;
    Ok(state.levels.get(entry.id).is_none())
}
