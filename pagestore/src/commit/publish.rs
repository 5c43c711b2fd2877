use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::budget::{Way, admit_files};
use super::bulk::{self, BulkFiles};
use super::conflict::{Overtaken, check_changelog};
use super::core::Core;
use super::encode::encode;
use super::group::{self, Answer, Refusal};
use super::resolve::{self, Resolution};
use super::sets::Footprint;
use super::transaction::{Committed, Transaction};
use crate::error::{CommitToken, Error, ErrorKind, Result};
use crate::meta::records::{Commit, PageChange, SizeChange};
use crate::meta::txn::{
    self, CommitPart, FilePut, LockGuard, MAX_FILE_GUARD_RANGES, StagedPut, guard_budget,
};
use crate::meta::{KeyRange, Op, OpResponse, RangeRequest, Txn};
use crate::mirror::{View, VolumeState};
use crate::types::{CommitId, PageNo, Revision};

/// Times that a transaction overtaken by others is rebased before the caller hears of it.
const MAX_REBASES: usize = 24;
/// Uploads of a commit's files that may lose their intents before the caller hears of it.
const MAX_UPLOADS: usize = 3;
/// First and longest pause between rebases, once the first few came to nothing.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// How long a commit waits for whoever holds the write lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);
/// Rebases without a pause.
const EAGER_REBASES: usize = 4;

/// One volume's part of a commit under way.
struct Part {
    transaction: Transaction,
    footprint: Arc<Footprint>,
    view: View,
    /// The files of a bulk part, once they are uploaded: no rebase changes them.
    files: Option<BulkFiles>,
}

/// Commits transactions over one volume or several, all of them or none.
pub(crate) async fn commit(transactions: Vec<Transaction>) -> Result<Committed> {
    let base = transactions.first().map(Transaction::revision).unwrap_or_default();
    if transactions.iter().all(|transaction| !transaction.wrote) {
        return Ok(Committed { revision: base, commit: None });
    }
    let mut parts: Vec<Part> = transactions.into_iter().map(Part::new).collect();
    parts.sort_by_key(|part| part.core().keys.id());
    let id = parts
        .first()
        .map(|part| part.core().env.commit_id())
        .expect("BUG: somebody wrote something");
    let mut publication = Publication { parts, id, sent_base: None, uploads: 0 };
    let committed = publication.run().await;
    if committed.is_ok() {
        let released =
            publication.parts.iter().filter_map(|part| part.transaction.released.as_ref());
        released.for_each(|released| released.store(true, Ordering::Relaxed));
    }
    publication.clean_up(committed.is_ok()).await;
    committed
}

struct Publication {
    /// In the order of their volumes' ids.
    parts: Vec<Part>,
    id: CommitId,
    /// The largest base with which the commit was ever sent.
    sent_base: Option<Revision>,
    /// Uploads that came to nothing, because the session's lease ended before they were published.
    uploads: usize,
}

impl Part {
    fn new(transaction: Transaction) -> Part {
        let Transaction { reads, writes, size, .. } = &transaction;
        let mut footprint = Footprint::new(reads, writes.pages(), size);
        footprint.lock = transaction.lock.clone();
        let footprint = Arc::new(footprint);
        let view = transaction.snapshot.view().clone();
        Part { transaction, footprint, view, files: None }
    }

    fn core(&self) -> &Arc<Core> {
        &self.transaction.core
    }

    /// What the transaction of the meta tier says of this part, on its present base.
    async fn build(&self, id: CommitId, parts: usize) -> Result<CommitPart> {
        let Transaction { writes, size, .. } = &self.transaction;
        let base = self.view.revision;
        let pages: Vec<StagedPut> = match &self.files {
            Some(_) => Vec::new(),
            None => encode(self.core(), &self.view, writes, size).await?,
        };
        let changes = pages.iter().map(|put| PageChange {
            page: put.page,
            hash: put.hash,
            staged: put.staged_as(),
        });
        let files = self.files.as_ref();
        let puts: Vec<FilePut> =
            files.map(|files| files.puts(&self.core().keys)).unwrap_or_default();
        let commit = Commit {
            base,
            pages: changes.collect(),
            files: puts.iter().map(|put| put.place.file).collect(),
            bulk_page_count: files.map_or(0, BulkFiles::page_count),
            size: (size.changed || planted!(CountPutByAll)).then(|| SizeChange {
                lowest: size.truncates().then_some(size.lowest),
                last: size.last,
            }),
        };
        let budget = guard_budget(parts);
        let budget = if files.is_some() { budget.min(MAX_FILE_GUARD_RANGES) } else { budget };
        let mut guards = self.footprint.guards(base, budget);
        if planted!(UnchangedWriteForgotten) && files.is_none() {
            let is_put = |page| pages.iter().any(|put| put.page == page);
            let is_kept = |page| is_put(page) || !self.footprint.writes(page);
            guards.ranges.retain(|(first, last)| first != last || is_kept(*first));
        }
        if planted!(LastOfRangeForgotten) {
            guards.ranges.iter_mut().for_each(|(first, last)| last.0 -= u64::from(first < last));
        }
        Ok(CommitPart {
            keys: self.core().keys.clone(),
            created: self.core().created,
            id,
            guards,
            commit,
            pages,
            files: puts,
        })
    }

    /// Turns the part into files.
    async fn go_bulk(&mut self, id: CommitId) -> Result<()> {
        let Transaction { core, writes, size, .. } = &self.transaction;
        let pause = admit_files(core.mirror.state()?.levels.level_0_overlap())?;
        core.pause(pause).await;
        self.files = Some(bulk::upload(core, writes, size, id, self.view.revision).await?);
        Ok(())
    }
}

impl Publication {
    async fn run(&mut self) -> Result<Committed> {
        let mut bases = self.parts.iter().map(|part| part.view.revision);
        let first = bases.next();
        if bases.any(|base| Some(base) != first) {
            // What is committed together is validated as of one revision.
            self.rebase().await?;
        }
        let mut pause = PAUSE.0;
        for round in 0..=MAX_REBASES {
            let built = self.build().await?;
            match self.send(built).await {
                Answer::Committed(revision) => return Ok(self.committed(revision)),
                Answer::Failed(kind, message) => return Err(Error::new(kind, message)),
                Answer::Unknown if planted!(OtherIdAfterUnknown) => {
                    self.id = self.first().env.commit_id();
                }
                Answer::Unknown => {
                    let resolved = self.resolve().await;
                    if planted!(SentAfterResolution)
                        && resolved.is_err()
                        && self.rebase().await.is_ok()
                        && let Ok(built) = self.build().await
                    {
                        self.send(built).await;
                    }
                    return resolved;
                }
                Answer::Full(message) => return self.after_full(message).await,
                Answer::Refused(refusal) => {
                    if let Some(committed) = self.sent_before(&refusal).await? {
                        return Ok(committed);
                    }
                }
            }
            self.check_locks().await?;
            self.check_intents().await?;
            if round >= EAGER_REBASES {
                let env = &self.first().env;
                env.sleep(env.jittered(pause)).await;
                pause = (pause * 2).min(PAUSE.1);
            }
            self.rebase().await?;
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "other commits overtook this one {MAX_REBASES} times, though none changed its pages; run it again"
            ),
        ))
    }

    fn first(&self) -> &Arc<Core> {
        self.parts.first().map(Part::core).expect("BUG: a publication has a part")
    }

    fn token(&self) -> CommitToken {
        let base = self.sent_base.unwrap_or_default();
        CommitToken { volume: self.first().keys.id(), commit: self.id, base }
    }

    fn committed(&self, revision: Revision) -> Committed {
        Committed { revision, commit: Some(self.id) }
    }

    /// Builds every part, as files where it does not fit or the meta tier is too full.
    async fn build(&mut self) -> Result<Vec<CommitPart>> {
        let count = self.parts.len();
        let mut built = Vec::with_capacity(count);
        for part in &mut self.parts {
            let pages = part.transaction.writes.len();
            if part.files.is_none() && pages * 2 > txn::MAX_STAGED_PUTS {
                part.go_bulk(self.id).await?;
            }
            let mut next = part.build(self.id, count).await?;
            if part.files.is_none() && !next.pages.is_empty() {
                let bytes = next.bytes();
                let core = part.core().clone();
                let way = match bytes > txn::MAX_COMMIT_BYTES / count {
                    true => Way::Bulk,
                    false => core.budget(core.mirror.state()?.as_ref()).admit(bytes as u64)?,
                };
                if let Way::Staged(_) = way {
                    core.count_staged(bytes as u64);
                }
                match way {
                    Way::Staged(pause) => core.pause(pause).await,
                    Way::Bulk => {
                        part.go_bulk(self.id).await?;
                        next = part.build(self.id, count).await?;
                    }
                }
            }
            built.push(next);
        }
        if !txn::fits(&built) {
            // Each part alone would fit, but not all together: the largest becomes files.
            for (part, next) in self.parts.iter_mut().zip(&mut built) {
                if part.files.is_none() && next.put_count() * count > txn::MAX_STAGED_PUTS {
                    part.go_bulk(self.id).await?;
                    *next = part.build(self.id, count).await?;
                }
            }
        }
        if txn::fits(&built) {
            Ok(built)
        } else {
            Err(Error::invalid("the commit names too many files for one transaction"))
        }
    }

    async fn send(&mut self, mut built: Vec<CommitPart>) -> Answer {
        let base = self.parts.first().map(|part| part.view.revision);
        self.sent_base = self.sent_base.max(base);
        if built.len() > 1 {
            return group::send_alone(self.first().meta.as_ref(), &built).await;
        }
        let (Some(part), Some(next)) = (self.parts.first(), built.pop()) else {
            return Answer::Failed(ErrorKind::Invalid, "nothing to commit".into());
        };
        part.core().group.send(next, part.footprint.clone()).await
    }

    /// The commit's outcome when it was applied before and only the answer was lost.
    async fn sent_before(&self, refusal: &Refusal) -> Result<Option<Committed>> {
        if planted!(RefusalUnread) {
            return Ok(None);
        }
        match resolve::of_refusal(self.first(), self.token(), refusal).await? {
            Some(Resolution::Committed(revision)) => Ok(Some(self.committed(revision))),
            Some(_) => Err(did_not_happen()),
            None => Ok(None),
        }
    }

    async fn resolve(&self) -> Result<Committed> {
        match resolve::resolve(self.first(), self.token()).await? {
            Resolution::Committed(revision) => Ok(self.committed(revision)),
            Resolution::Aborted => Err(did_not_happen()),
            Resolution::Forgotten => Err(Error::unknown(self.token())),
        }
    }

    /// The outcome of a commit to which the meta tier said that it is full. An abort marker would need
    /// room, and is not needed: nothing of the commit is under way any more.
    async fn after_full(&self, message: String) -> Result<Committed> {
        match resolve::of_answered(self.first(), self.token()).await? {
            Resolution::Committed(revision) => Ok(self.committed(revision)),
            Resolution::Aborted => Err(Error::new(ErrorKind::Backpressure, message)),
            Resolution::Forgotten => Err(Error::unknown(self.token())),
        }
    }

    /// Sees to it that what is refused again was not refused for a write lock.
    async fn check_locks(&self) -> Result<()> {
        for part in &self.parts {
            let core = part.core();
            match &part.footprint.lock {
                LockGuard::None => {}
                LockGuard::Held { key, created, .. } => {
                    if lock_created(core, key).await? != Some(*created) {
                        return Err(Error::new(
                            ErrorKind::Conflict,
                            "the volume's write lock was lost, because this process was not heard of for too long; \
                             run the transaction again",
                        ));
                    }
                }
                LockGuard::Free(key) => wait_for_lock(core, key).await?,
            }
        }
        Ok(())
    }

    /// After a refusal: files whose intents went with the session's lease are given up, and written
    /// anew under a new one.
    async fn check_intents(&mut self) -> Result<()> {
        for part in &mut self.parts {
            let Some(files) = &mut part.files else { continue };
            if files.are_intended().await? {
                continue;
            }
            self.uploads += 1;
            if self.uploads == MAX_UPLOADS {
                return Err(Error::unavailable(
                    "the process lost its lease in the meta tier whenever it had uploaded the commit's files; \
                     the commit did not happen, run it again",
                ));
            }
            files.give_up().await;
            part.files = None;
        }
        Ok(())
    }

    /// Moves every part to the newest revision, or says what conflicts.
    async fn rebase(&mut self) -> Result<()> {
        let cores: Vec<Arc<Core>> = self.parts.iter().map(|part| part.core().clone()).collect();
        let fresh = match cores.as_slice() {
            [core] => {
                let state = core.mirror.fresh().await?;
                let view = state.view();
                vec![(state, view)]
            }
            _ => joint_views(&cores).await?,
        };
        let mut conflicts = None;
        for (part, (state, view)) in self.parts.iter_mut().zip(fresh) {
            if let Some(pages) = part.conflicts(&state, &view).await? {
                conflicts.get_or_insert_with(Vec::new).extend(pages);
            }
            part.view = view;
        }
        conflicts.map_or(Ok(()), |pages| Err(Error::conflict(pages)))
    }

    /// Files that were not published go at once. After an unknown outcome too: if the commit happened,
    /// it took their intents, and nothing is given up; if not, it cannot happen without them.
    async fn clean_up(&mut self, published: bool) {
        for files in self.parts.iter_mut().filter_map(|part| part.files.as_mut()) {
            if published {
                files.set_published();
            } else {
                files.give_up().await;
            }
        }
    }
}

/// The create revision of a write lock's key; `None` when nobody holds it.
async fn lock_created(core: &Core, key: &Bytes) -> Result<Option<Revision>> {
    let found = core.meta.range(RangeRequest::new(KeyRange::key(key.clone()))).await?;
    Ok(found.kvs.first().map(|kv| kv.create_revision))
}

/// Waits until nobody holds a write lock.
async fn wait_for_lock(core: &Core, key: &Bytes) -> Result<()> {
    let deadline = core.env.now() + LOCK_PATIENCE;
    let mut pause = PAUSE.0;
    while lock_created(core, key).await?.is_some() {
        if core.env.now() >= deadline {
            return Err(Error::new(
                ErrorKind::Conflict,
                "another writer holds the volume's write lock for long; run the transaction again",
            ));
        }
        core.env.sleep(core.env.jittered(pause)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
    Ok(())
}

fn did_not_happen() -> Error {
    Error::unavailable(
        "the connection to the meta tier was lost in mid-commit; the commit did not happen, run it again",
    )
}

impl Part {
    /// The pages that somebody changed between this part's base and `view`; `None` when nothing
    /// conflicts, an empty list when only the page count does.
    async fn conflicts(&self, state: &VolumeState, view: &View) -> Result<Option<Vec<PageNo>>> {
        let base = self.view.revision;
        let reader = &self.core().reader;
        let footprint = self.tolerant_footprint(view).await?;
        let files = match check_changelog(state, &footprint, base) {
            Overtaken::Conflict(pages) => return Ok(Some(pages)),
            Overtaken::Files(files) if files.is_empty() => return Ok(None),
            Overtaken::Files(files) => Some(files),
            Overtaken::Lookup => None,
        };
        let mut conflicts = Vec::new();
        for (page, unchanged_to) in footprint.pages(base) {
            let changed = match &files {
                Some(files) => reader.changed_in_files(state, files, page, unchanged_to).await?,
                None => reader.last_change(view, page).await? > unchanged_to,
            };
            if changed {
                conflicts.push(page);
            }
        }
        if !conflicts.is_empty() {
            return Ok(Some(conflicts));
        }
        // Files may leave out what happened below the oldest readable revision. What was looked up
        // above was looked up in states no newer than this one.
        let newest = self.core().mirror.state()?;
        reader.readability.check(&newest, base).await?;
        Ok(None)
    }
}

impl Part {
    /// The footprint, tolerating up to `view` a change that the transaction says makes no difference.
    async fn tolerant_footprint(&self, view: &View) -> Result<Arc<Footprint>> {
        let Transaction { core, tolerates, .. } = &self.transaction;
        let unwritten = tolerates.filter(|(page, _)| !self.footprint.writes(*page));
        let Some((page, tolerates)) = unwritten else { return Ok(self.footprint.clone()) };
        let before = core.reader.read(&self.view, page).await?;
        let after = core.reader.read(view, page).await?;
        if before != after && tolerates(&before, &after) {
            return Ok(Arc::new(self.footprint.tolerating(page, view.revision)));
        }
        Ok(self.footprint.clone())
    }
}

/// Views of several volumes, all exactly at one revision: that of one linearizable read of every
/// head. A mirror that is ahead is rewound by its changelog.
pub(crate) async fn joint_views(cores: &[Arc<Core>]) -> Result<Vec<(Arc<VolumeState>, View)>> {
    let Some(first) = cores.first() else { return Ok(vec![]) };
    let gets =
        cores.iter().flat_map(|core| [Op::get(core.keys.head()), Op::get(core.keys.floor())]);
    let response = first.meta.txn(Txn { then: gets.collect(), ..Txn::default() }).await?;
    let modified = |index: usize| match response.responses.get(index) {
        Some(OpResponse::Range(found)) => {
            found.kvs.first().map_or(Revision::ZERO, |kv| kv.mod_revision)
        }
        _ => Revision::ZERO,
    };
    let mut views = Vec::with_capacity(cores.len());
    for (index, core) in cores.iter().enumerate() {
        // Neither a commit nor a flush up to the response's revision may be missing from the view.
        let newest = modified(2 * index).max(modified(2 * index + 1));
        let state = core.mirror.reach(newest).await?;
        let view = if state.revision > response.revision && !planted!(JointViewAhead) {
            state.view_at(response.revision)
        } else {
            View { revision: response.revision, ..state.view() }
        };
        views.push((state, view));
    }
    Ok(views)
}
