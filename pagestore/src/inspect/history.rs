//! The history of one page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Inspector;
use super::objects::Objects;
use crate::codec::{Encoding, StagedValue};
use crate::error::{Error, Result};
use crate::file::{FileEntry, FileTail, IndexEntry};
use crate::meta::records::StagedAs;
use crate::meta::{KeyRange, RangeRequest};
use crate::mirror::VolumeState;
use crate::types::{CommitId, ContentHash, FileId, PageNo, Revision};

/// One version of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageVersion {
    /// The revision that made it.
    pub revision: Revision,
    /// The commit that did; of a flushed version all commits of that revision, which a batch makes
    /// several.
    pub commits: Vec<CommitId>,
    /// The hash of its content.
    pub hash: ContentHash,
    /// How its content is stored.
    pub stored_as: StoredAs,
    /// Where its content is stored.
    pub stored_in: StoredIn,
    /// Bytes of the staged value, or of the frame that the page shares with its neighbours.
    pub stored_bytes: u64,
    /// The revision of the next version; `None` for the newest.
    pub superseded: Option<Revision>,
    /// True when some revision that shows it can be read.
    pub readable: bool,
}

/// How a version's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// Staged in the meta tier in this encoding.
    Staged(Encoding),
    /// Compressed with its neighbours in a frame of a file.
    Frame,
    /// Not at all: a page of zeros that was written.
    Zero,
    /// Not at all: the volume was truncated and the page was not in it.
    Truncated,
}

impl StoredAs {
    /// The name that people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StoredAs::Staged(encoding) => encoding.as_str(),
            StoredAs::Frame => "frame",
            StoredAs::Zero => "zero",
            StoredAs::Truncated => "truncated",
        }
    }
}

/// Where a version's content is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredIn {
    /// In no place.
    Nowhere,
    /// In the meta tier.
    Meta {
        /// The content that it is a delta against; `None` when whole.
        base: Option<ContentHash>,
    },
    /// In a file.
    File {
        /// The level of the file that lists the version.
        level: u8,
        /// The file that lists the version.
        listed_in: FileId,
        /// The file whose frame holds it: the same, or one that the first points into.
        file: FileId,
        /// Where the frame begins.
        offset: u64,
        /// Which page of the frame it is.
        slot: u16,
    },
}

type Versions = BTreeMap<Revision, PageVersion>;

impl Inspector {
    /// The versions of `page` that are still stored, newest first, truncations among them.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn page_history(&self, page: PageNo) -> Result<Vec<PageVersion>> {
        self.look(|state| self.try_page_history(state, page)).await
    }

    async fn try_page_history(
        &self,
        state: Arc<VolumeState>,
        page: PageNo,
    ) -> Result<Vec<PageVersion>> {
        let mut versions = Versions::new();
        self.add_staged(&state, page, &mut versions).await?;
        let relevant = |entry: &FileEntry| {
            entry.may_hold(page)
                || entry.truncation.is_some_and(|truncation| !truncation.lowest.contains(page))
        };
        for (entry, tail) in self.tails(&state, relevant).await? {
            self.add_filed(&entry, &tail, page, &mut versions).await?;
        }
        let unnamed = versions.values().filter(|version| version.commits.is_empty());
        let unnamed: BTreeSet<Revision> = unnamed.map(|version| version.revision).collect();
        for (revision, commits) in self.commits_at(&state, &unnamed).await? {
            if let Some(version) = versions.get_mut(&revision) {
                version.commits = commits.into_iter().collect();
            }
        }
        let mut newest_first: Vec<PageVersion> = versions.into_values().rev().collect();
        let mut next = None;
        for version in &mut newest_first {
            version.superseded = next;
            version.readable = is_shown(&state, version.revision, next);
            next = Some(version.revision);
        }
        Ok(newest_first)
    }

    async fn add_staged(
        &self,
        state: &VolumeState,
        page: PageNo,
        versions: &mut Versions,
    ) -> Result<()> {
        for ((revision, id), commit) in state.unflushed() {
            if commit.size.and_then(|size| size.lowest).is_some_and(|lowest| !lowest.contains(page))
            {
                let truncated = PageVersion { commits: vec![*id], ..gone(*revision) };
                versions.entry(*revision).or_insert(truncated);
            }
            let Ok(at) = commit.pages.binary_search_by_key(&page, |change| change.page) else {
                continue;
            };
            let Some(change) = commit.pages.get(at) else { continue };
            let mut version =
                PageVersion { hash: change.hash, stored_as: StoredAs::Zero, ..gone(*revision) };
            version.commits = vec![*id];
            if let Some(staged) = change.staged {
                version.stored_as =
                    StoredAs::Staged(self.staged_encoding(change.hash, staged).await?);
                version.stored_in = StoredIn::Meta { base: staged.base };
                version.stored_bytes = staged.bytes.into();
            }
            versions.insert(*revision, version);
        }
        Ok(())
    }

    /// How a staged page is encoded: only its value says.
    async fn staged_encoding(&self, hash: ContentHash, staged: StagedAs) -> Result<Encoding> {
        let keys = &self.core.keys;
        let key = keys.staged(hash, staged.base);
        let place = || format!("volume {}, key {}", keys.id(), keys.suffix(&key).escape_ascii());
        let response = self.core.meta.range(RangeRequest::new(KeyRange::key(key.clone()))).await?;
        // Flushed since the state was read, perhaps: then a newer one says where it went.
        let kv = response
            .kvs
            .first()
            .ok_or_else(|| Error::not_found(format!("staged page: {}", place())))?;
        Ok(StagedValue::decode(&kv.value).map_err(|error| error.at(place()))?.encoding)
    }

    async fn add_filed(
        &self,
        entry: &FileEntry,
        tail: &FileTail,
        page: PageNo,
        versions: &mut Versions,
    ) -> Result<()> {
        for size in tail.sizes() {
            if size.lowest.is_some_and(|lowest| !lowest.contains(page)) {
                versions.entry(size.revision).or_insert_with(|| gone(size.revision));
            }
        }
        if !tail.holds(page) {
            return Ok(());
        }
        for block in tail.blocks_of(page..=page) {
            let block = Objects::of(&self.core).block(entry, tail, block).await?;
            for found in block.versions(page) {
                versions.insert(found.revision, filed(entry, tail, found)?);
            }
        }
        Ok(())
    }
}

/// A page that was truncated away at `revision`.
fn gone(revision: Revision) -> PageVersion {
    PageVersion {
        revision,
        commits: Vec::new(),
        hash: ContentHash::ZERO_PAGE,
        stored_as: StoredAs::Truncated,
        stored_in: StoredIn::Nowhere,
        stored_bytes: 0,
        superseded: None,
        readable: false,
    }
}

fn filed(entry: &FileEntry, tail: &FileTail, found: &IndexEntry) -> Result<PageVersion> {
    let version =
        PageVersion { hash: found.hash, stored_as: StoredAs::Zero, ..gone(found.revision) };
    let Some(location) = found.location else { return Ok(version) };
    let at = tail.resolve(location).map_err(|error| error.of(entry.id))?;
    let stored_in = StoredIn::File {
        level: entry.level,
        listed_in: entry.id,
        file: at.file,
        offset: at.frame.offset,
        slot: at.slot,
    };
    let stored_bytes = at.frame.bytes.get().into();
    Ok(PageVersion { stored_as: StoredAs::Frame, stored_in, stored_bytes, ..version })
}

/// True when a revision from `revision` up to, not including, `next` can be read.
fn is_shown(state: &VolumeState, revision: Revision, next: Option<Revision>) -> bool {
    let shows = |at: Revision| revision <= at && next.is_none_or(|next| at < next);
    next.is_none_or(|next| next > state.oldest.record.readable)
        || state.points.values().any(|point| shows(point.record.revision))
}
