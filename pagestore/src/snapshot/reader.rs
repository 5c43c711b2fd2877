use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::version::{Place, Version};
use crate::cache::{PageCache, SingleFlight};
use crate::codec::{Expected, PageCodec};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::FileFetcher;
use crate::file::FileEntry;
use crate::levels::{FoundVersion, Lookup};
use crate::meta::keys::VolumeKeys;
use crate::meta::records::{StagedAs, VolumeRecord};
use crate::meta::{KeyRange, MetaStore, RangeRequest};
use crate::mirror::{Mirror, View, VolumeState};
use crate::session::Readability;
use crate::types::{CommitId, ContentHash, FileId, PageCount, PageNo, Revision};

/// Times that a read overtaken by flushes, merges and deletions looks again.
const MAX_TRIES: usize = 12;
/// Pause before looking again, times the number of the try.
const PAUSE: Duration = Duration::from_millis(5);

/// Reads pages of one volume: finds the version that a view shows, and its content.
///
/// Invariant: content is handed out only when its hash is the one that pointer or index names.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) keys: VolumeKeys,
    pub(crate) env: Env,
    pub(crate) record: Arc<VolumeRecord>,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) readability: Readability,
    pub(crate) files: Arc<FileFetcher>,
    pub(crate) pages: PageCache,
    pub(crate) zeros: Bytes,
    pub(crate) staged: SingleFlight<ContentHash, Option<Bytes>>,
}

impl Reader {
    /// The content of `page` as `view` shows it.
    ///
    /// # Errors
    /// `Expired`, `Unavailable`, `Corrupt`.
    pub(crate) async fn read(&self, view: &View, page: PageNo) -> Result<Bytes> {
        let mut missing = None;
        for attempt in 0..MAX_TRIES {
            let outcome = match self.find_among(view, page).await {
                Ok(version) => self.content(page, &version).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(Some(content)) => return Ok(content),
                Ok(None) => {}
                // An object that a newer list of files does not name any more.
                Err(error) if error.kind() == ErrorKind::NotFound => missing = Some(error),
                Err(error) => return Err(error),
            }
            self.look_again(attempt).await?;
        }
        Err(self.broken(view, page, missing))
    }

    /// The version of `page` that `view` shows.
    ///
    /// # Errors
    /// `Expired`, `Unavailable`, `Corrupt`.
    pub(crate) async fn find(&self, view: &View, page: PageNo) -> Result<Version> {
        let mut missing = None;
        for attempt in 0..MAX_TRIES {
            match self.find_among(view, page).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    missing = Some(error);
                    self.look_again(attempt).await?
                }
                found => return found,
            }
        }
        Err(self.broken(view, page, missing))
    }

    /// When `page` last changed, as `view` shows it.
    ///
    /// # Errors
    /// As [`Reader::find`].
    pub(crate) async fn last_change(&self, view: &View, page: PageNo) -> Result<Revision> {
        Ok(self.find(view, page).await?.revision)
    }

    /// The content of `hash`, if it is in memory.
    pub(crate) fn recall(&self, hash: ContentHash) -> Option<Bytes> {
        self.pages.get(&hash)
    }

    /// Keeps the content of `hash` in memory.
    pub(crate) fn remember(&self, hash: ContentHash, content: Bytes) {
        self.pages.insert(hash, content);
    }

    /// Waits until the mirror has caught up, so that another look sees another list.
    async fn look_again(&self, attempt: usize) -> Result<()> {
        let times = u32::try_from(attempt).unwrap_or(u32::MAX);
        self.env.sleep(self.env.jittered(PAUSE * times)).await;
        self.mirror.abreast().await.map(drop)
    }

    /// `missing` says which object was not there, if it is that.
    fn broken(&self, view: &View, page: PageNo, missing: Option<Error>) -> Error {
        let error = Error::corrupt(
            format!("volume {}, page {page}, revision {}", self.keys.id(), view.revision),
            "content that a readable revision needs is neither staged nor in a listed file",
        );
        match missing {
            Some(missing) => error.with_source(missing),
            None => error,
        }
    }

    async fn find_among(&self, view: &View, page: PageNo) -> Result<Version> {
        let state = self.mirror.known()?;
        self.readability.check(&state, view.revision).await?;
        // What was flushed since is where a merge may have taken it: below level 0, with what a file of
        // then has that is newer.
        let staged = view.staged.get(&page).filter(|found| found.revision > state.floor.up_to);
        if planted!(StagedFirst)
            && let Some(found) = staged
        {
            let place = found.staged.map_or(Place::Zeros, Place::Staged);
            return Ok(Version { revision: found.revision, hash: found.hash, place });
        }
        let mut lookup =
            Lookup::new(&state.levels, page, view.revision, staged.map(|found| found.revision));
        while let Some(entry) = lookup.next_file() {
            let entry = entry.clone();
            lookup.answer(self.files.find(&entry, page, view.revision).await?);
        }
        let version = match (lookup.finish(), staged) {
            (Some(FoundVersion::InFile { file, entry }), _) => Version {
                revision: entry.revision,
                hash: entry.hash,
                place: if entry.hash.is_zero_page() {
                    Place::Zeros
                } else {
                    Place::InFile(file, entry)
                },
            },
            (Some(FoundVersion::Staged(_)), Some(found)) => Version {
                revision: found.revision,
                hash: found.hash,
                place: found.staged.map_or(Place::Zeros, Place::Staged),
            },
            _ => Version::ZEROS,
        };
        let truncated = self.last_truncation(&state, view, page, version.revision).await?;
        // Writes of the same revision as the truncation came after it.
        Ok(if truncated > version.revision { Version::zeros_since(truncated) } else { version })
    }

    /// When `page` was last truncated away, if that was after `since`; else something not after it.
    async fn last_truncation(
        &self,
        state: &VolumeState,
        view: &View,
        page: PageNo,
        since: Revision,
    ) -> Result<Revision> {
        let mut last = view.truncations.last_of(page).unwrap_or_default();
        for entry in state.levels.files() {
            let Some(truncation) = entry.truncation else { continue };
            if truncation.newest <= last.max(since) || truncation.lowest.contains(page) {
                continue;
            }
            let tail = self.files.tail(entry).await?;
            let hits = tail.sizes().iter().filter(|size| {
                size.revision <= view.revision
                    && size.lowest.is_some_and(|lowest| !lowest.contains(page))
            });
            last = hits.map(|size| size.revision).max().unwrap_or_default().max(last);
        }
        Ok(last)
    }

    /// The content of a version; `None` when it is no longer where the version says.
    pub(crate) async fn content(&self, page: PageNo, version: &Version) -> Result<Option<Bytes>> {
        match &version.place {
            Place::Zeros => Ok(Some(self.zeros.clone())),
            // Looks into the cache by itself, and notices who reads page after page.
            Place::InFile(entry, found) => self.files.page(entry, found).await.map(Some),
            Place::Staged(staged) => match self.pages.get(&version.hash) {
                Some(content) => Ok(Some(content)),
                None => self.staged(page, version.hash, *staged).await,
            },
        }
    }

    /// Content from the meta tier, one request at a time for each.
    async fn staged(
        &self,
        page: PageNo,
        hash: ContentHash,
        staged: StagedAs,
    ) -> Result<Option<Bytes>> {
        let cached = || self.pages.get(&hash).map(Some);
        self.staged.run(hash, cached, || self.fetch_staged(page, hash, staged)).await
    }

    async fn fetch_staged(
        &self,
        page: PageNo,
        hash: ContentHash,
        staged: StagedAs,
    ) -> Result<Option<Bytes>> {
        let key = self.keys.staged(hash, staged.base);
        let response = self.meta.range(RangeRequest::new(KeyRange::key(key.clone()))).await?;
        let Some(kv) = response.kvs.first() else { return Ok(None) };
        let base = match staged.base {
            None => None,
            Some(base) => match self.base(page, base).await? {
                None => return Ok(None),
                found => found,
            },
        };
        let expected =
            Expected { page, hash, secret: &self.record.secret, page_size: self.record.page_size };
        let content = PageCodec::with(|codec| codec.decode(&kv.value, &expected, base.as_deref()))
            .map_err(|error| {
                error.at(format!(
                    "volume {}, key {}",
                    self.keys.id(),
                    self.keys.suffix(&key).escape_ascii()
                ))
            })?;
        self.pages.insert(hash, content.clone());
        Ok(Some(content))
    }

    /// The content that a delta is against: whole in the meta tier, or in a file.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(crate) async fn base(&self, page: PageNo, base: ContentHash) -> Result<Option<Bytes>> {
        if let Some(content) = self.pages.get(&base) {
            return Ok(Some(content));
        }
        let key = KeyRange::key(self.keys.staged(base, None));
        let response = self.meta.range(RangeRequest::new(key)).await?;
        if let Some(kv) = response.kvs.first() {
            let expected = Expected {
                page,
                hash: base,
                secret: &self.record.secret,
                page_size: self.record.page_size,
            };
            let content = PageCodec::with(|codec| codec.decode(&kv.value, &expected, None))
                .map_err(|error| {
                    error.at(format!("volume {}, staged page {base}", self.keys.id()))
                })?;
            self.pages.insert(base, content.clone());
            return Ok(Some(content));
        }
        if planted!(BaseNotInFiles | BaseGone) {
            return Ok(None);
        }
        // Flushed since, then: the list of files that has it is at least as new as this answer.
        let state = self.mirror.abreast().await?;
        for entry in state.levels.candidates(page) {
            if let Some(found) = self.files.find_by_hash(entry, page, base).await? {
                return self.files.page(entry, &found).await.map(Some);
            }
        }
        Ok(None)
    }

    /// The number of pages that `view` shows.
    ///
    /// # Errors
    /// `Expired`, `Unavailable`, `Corrupt`.
    pub(crate) async fn page_count(&self, view: &View) -> Result<PageCount> {
        if let Some(count) = view.page_count {
            return Ok(count);
        }
        for attempt in 0..MAX_TRIES {
            match self.page_count_in_files(view).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.look_again(attempt).await?
                }
                found => return found,
            }
        }
        Err(Error::unavailable("the list of files changed too often to read the size history"))
    }

    async fn page_count_in_files(&self, view: &View) -> Result<PageCount> {
        let state = self.mirror.known()?;
        self.readability.check(&state, view.revision).await?;
        let mut newest = (Revision::ZERO, PageCount::default());
        for entry in state.levels.files().filter(|entry| entry.size_change_count > 0) {
            let tail = self.files.tail(entry).await?;
            let last = tail
                .sizes()
                .iter()
                .filter(|size| size.revision <= view.revision)
                .max_by_key(|size| size.revision);
            if let Some(size) = last.filter(|size| size.revision >= newest.0) {
                newest = (size.revision, size.last);
            }
        }
        Ok(newest.1)
    }

    /// When the commit `id`, sent on `base`, happened, by the files' commits sections.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(crate) async fn commit_in_files(
        &self,
        id: CommitId,
        base: Revision,
    ) -> Result<Option<Revision>> {
        for attempt in 0..MAX_TRIES {
            match self.try_commit_in_files(id, base).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.look_again(attempt).await?
                }
                found => return found,
            }
        }
        Err(Error::unavailable("the list of files changed too often to read the log"))
    }

    async fn try_commit_in_files(&self, id: CommitId, base: Revision) -> Result<Option<Revision>> {
        let state = self.mirror.state()?;
        for entry in state.levels.files().filter(|entry| entry.commit_count > 0) {
            let found = self.files.find_commit(entry, id).await?;
            if let Some(found) = found.filter(|record| record.revision > base) {
                return Ok(Some(found.revision));
            }
        }
        Ok(None)
    }

    /// True when one of these bulk files, published at the revision beside it, changed `page` after
    /// `unchanged_to`.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(crate) async fn changed_in_files(
        &self,
        state: &VolumeState,
        bulk: &[(Revision, FileId)],
        page: PageNo,
        unchanged_to: Revision,
    ) -> Result<bool> {
        for (_, file) in bulk.iter().filter(|(revision, _)| *revision > unchanged_to) {
            let entry: Option<&Arc<FileEntry>> = state.levels.get(*file);
            if entry.is_some_and(|entry| !entry.may_hold(page)) {
                continue;
            }
            let found = match entry {
                Some(entry) => match self.files.find(entry, page, Revision::MAX).await {
                    // Merged away and deleted, as a newer state knows.
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    found => Some(found?.is_some()),
                },
                None => None,
            };
            match found {
                Some(true) => return Ok(true),
                Some(false) => {}
                // The page's newest version, wherever it is now, tells.
                None => return Ok(self.last_change(&state.view(), page).await? > unchanged_to),
            }
        }
        Ok(false)
    }
}
