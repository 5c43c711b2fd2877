//! Where a volume's pages are stored: in the meta tier, in each level, in dropped files.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::Inspector;
use crate::error::Result;
use crate::file::{FileEntry, FileTail, Origin};
use crate::meta::{KeyRange, Projection, RangeRequest};
use crate::mirror::VolumeState;
use crate::types::{FileId, Keep, PageCount, PageNo, PageSize, Revision, VolumeId};

/// A volume in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its id.
    pub id: VolumeId,
    /// Bytes a page.
    pub page_size: PageSize,
    /// Pages now.
    pub page_count: PageCount,
    /// How long superseded versions stay readable.
    pub keep: Keep,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The newest commit; of an empty volume its making.
    pub head: Revision,
    /// When the newest commit was made, in milliseconds since the Unix epoch.
    pub head_ms: Option<u64>,
    /// Up to here everything is in files.
    pub floor: Revision,
    /// The oldest revision that can be read without being named.
    pub oldest: Revision,
    /// What is staged in the meta tier.
    pub staged: StagedInfo,
    /// The deepest level with files; `None` without files.
    pub deepest_level: Option<u8>,
    /// Listed files.
    pub file_count: u64,
    /// Bytes of their objects.
    pub file_bytes: u64,
    /// Dropped files, kept for whom still reads them or points into them.
    pub dropped_count: u64,
    /// Bytes of their objects.
    pub dropped_bytes: u64,
}

/// What a volume has in the meta tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedInfo {
    /// Commits that are not flushed.
    pub commit_count: u64,
    /// Pages of which a version is not flushed.
    pub page_count: u64,
    /// Bytes of those versions' staged values.
    pub bytes: u64,
    /// Keys of staged values, flushed ones that are not removed yet among them.
    pub value_keys: u64,
    /// All keys of the volume.
    pub keys: u64,
}

/// Where a volume's pages are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// What is in the meta tier.
    pub staged: StagedInfo,
    /// The levels that have files, from 0.
    pub levels: Vec<LevelInfo>,
    /// The listed files, in the order of their level, then of their pages.
    pub files: Vec<FileInfo>,
    /// The dropped files.
    pub dropped: Vec<FileInfo>,
}

/// One level. A live version is one that the newest revision shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelInfo {
    /// Which.
    pub level: u8,
    /// Its files.
    pub file_count: u64,
    /// Bytes of their objects.
    pub bytes: u64,
    /// Versions of pages that they list.
    pub version_count: u64,
    /// Live versions among them.
    pub live_count: u64,
}

/// One file. A live version is one that the newest revision shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its id.
    pub id: FileId,
    /// Its level; `None` when it is dropped.
    pub level: Option<u8>,
    /// What made it; `None` when it is dropped.
    pub origin: Option<Origin>,
    /// First and last page that it has versions of.
    pub pages: Option<(PageNo, PageNo)>,
    /// Oldest and newest revision of its versions.
    pub revisions: Option<(Revision, Revision)>,
    /// Length of its object.
    pub bytes: u64,
    /// Versions that its index lists; of a dropped file, pages whose content it holds.
    pub version_count: u64,
    /// Live versions among them; of a dropped file, versions in listed files that point into it.
    pub live_count: u64,
    /// Other files that its index points into.
    pub reference_count: u64,
}

impl LevelInfo {
    /// The share of the versions that is live.
    #[must_use]
    pub fn live_share(&self) -> f64 {
        share(self.live_count, self.version_count)
    }
}

impl FileInfo {
    /// The share of the versions that is live.
    #[must_use]
    pub fn live_share(&self) -> f64 {
        share(self.live_count, self.version_count)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { (part as f64 / whole as f64).min(1.0) }
}

impl Inspector {
    /// The volume in figures.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn stat(&self) -> Result<Stat> {
        let newest = self.log(1).await?;
        let state = self.core.mirror.fresh().await?;
        let files = || state.levels.files();
        Ok(Stat {
            id: self.core.keys.id(),
            page_size: state.record.page_size,
            page_count: state.page_count,
            keep: state.record.keep,
            created_ms: state.record.created_ms,
            head: state.head,
            head_ms: newest.first().map(|commit| commit.made_ms),
            floor: state.floor.up_to,
            oldest: state.oldest.record.readable,
            staged: self.staged_info(&state).await?,
            deepest_level: files().map(|entry| entry.level).max(),
            file_count: files().count() as u64,
            file_bytes: files().map(|entry| entry.bytes).sum(),
            dropped_count: state.dropped.len() as u64,
            dropped_bytes: state.dropped.values().map(|dropped| dropped.record.bytes).sum(),
        })
    }

    /// Where the volume's pages are stored.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn levels(&self) -> Result<Levels> {
        self.look(|state| self.try_levels(state)).await
    }

    async fn try_levels(&self, state: Arc<VolumeState>) -> Result<Levels> {
        let tails = self.tails(&state, |_| true).await?;
        let mut files = listed(&state, &tails);
        files.sort_by_key(|file| (file.level, file.pages, file.revisions, file.id));
        let mut levels: BTreeMap<u8, LevelInfo> = BTreeMap::new();
        for file in &files {
            let level = file.level.expect("BUG: a listed file has a level");
            let empty =
                LevelInfo { level, file_count: 0, bytes: 0, version_count: 0, live_count: 0 };
            let info = levels.entry(level).or_insert(empty);
            info.file_count += 1;
            info.bytes += file.bytes;
            info.version_count += file.version_count;
            info.live_count += file.live_count;
        }
        Ok(Levels {
            staged: self.staged_info(&state).await?,
            levels: levels.into_values().collect(),
            files,
            dropped: dropped(&state),
        })
    }

    async fn staged_info(&self, state: &VolumeState) -> Result<StagedInfo> {
        let keys = &self.core.keys;
        Ok(StagedInfo {
            commit_count: state.unflushed().count() as u64,
            page_count: state.staged.len() as u64,
            bytes: state.staged_bytes,
            value_keys: self.count(keys.all_staged()).await?,
            keys: self.count(keys.everything()).await?,
        })
    }

    async fn count(&self, keys: KeyRange) -> Result<u64> {
        let request = RangeRequest::new(keys).project(Projection::CountOnly);
        Ok(self.core.meta.range(request).await?.count)
    }
}

/// The listed files. What is live in each is told from the sets of pages alone: a page counts for the
/// newest file that has it, unless it is staged or beyond the end.
fn listed(state: &VolumeState, tails: &[(Arc<FileEntry>, FileTail)]) -> Vec<FileInfo> {
    let mut newest_first: Vec<&(Arc<FileEntry>, FileTail)> = tails.iter().collect();
    newest_first.sort_by_key(|(entry, _)| (entry.level, Reverse(entry.newest), entry.id));
    let mut covered: RoaringTreemap = state.staged.keys().map(|page| page.0).collect();
    let mut files = Vec::with_capacity(tails.len());
    for (entry, tail) in newest_first {
        let mut live = tail.pages() - &covered;
        live.remove_range(state.page_count.0..);
        covered |= tail.pages();
        files.push(FileInfo {
            id: entry.id,
            level: Some(entry.level),
            origin: Some(entry.origin),
            pages: (!entry.is_pageless()).then_some((entry.first, entry.last)),
            revisions: Some((entry.oldest, entry.newest)),
            bytes: entry.bytes,
            version_count: entry.version_count,
            live_count: live.len(),
            reference_count: entry.refs.len() as u64,
        });
    }
    files
}

fn dropped(state: &VolumeState) -> Vec<FileInfo> {
    let mut pointing: BTreeMap<FileId, u64> = BTreeMap::new();
    for reference in state.levels.files().flat_map(|entry| &entry.refs) {
        *pointing.entry(reference.id).or_default() += reference.page_count;
    }
    let info =
        |(id, dropped): (&FileId, &crate::mirror::At<crate::meta::records::Dropped>)| FileInfo {
            id: *id,
            level: None,
            origin: None,
            pages: None,
            revisions: None,
            bytes: dropped.record.bytes,
            version_count: dropped.record.body_count,
            live_count: pointing.get(id).copied().unwrap_or_default(),
            reference_count: 0,
        };
    state.dropped.iter().map(info).collect()
}
