//! Every listed object has its length.

use std::collections::HashMap;

use futures::TryStreamExt;
use roaring::RoaringTreemap;

use super::findings::{Damage, Finding};
use super::sections::is_gone;
use super::staged::is_damage;
use super::{Phase, Verification};
use crate::error::{ErrorKind, Result};
use crate::file::FileEntry;
use crate::inspect::Inspector;
use crate::inspect::objects::Objects;
use crate::types::{FileId, PageNo};

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

    pub(super) fn file_bytes_read(&mut self, bytes: u64, total: u64) {
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
}

fn tail_bytes(entry: &FileEntry) -> u64 {
    entry.bytes.saturating_sub(entry.tail_offset)
}

/// True when a level lists the file, or a listed file points into it.
async fn is_needed(inspector: &Inspector, file: FileId) -> Result<bool> {
    let state = inspector.core.mirror.fresh().await?;
    let mut files = state.levels.files();
    Ok(files.any(|entry| entry.id == file || entry.refs.iter().any(|to| to.id == file)))
}
