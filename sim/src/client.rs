//! What clients do: transactions and snapshots of all kinds, each of which the model hears of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::{
    CommitToken, Error, ErrorKind, Keep, PageCount, PageNo, PageSize, Resolution, Revision,
    Snapshot, Store, StoreOptions, Transaction, TryLock, Volume, VolumeId, VolumeOptions,
    WriteLock, begin_all, commit_all,
};

use crate::model::{LockUse, Part, digest};
use crate::process::{Process, ROOT};
use crate::random::Random;

/// Pages of a transaction that is to become files.
const BULK_PAGES: u64 = 80;

/// What clients are to do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Volumes.
    pub volumes: u64,
    /// How long their superseded versions are kept.
    pub keep: Keep,
    /// Pages that they are about.
    pub pages: u64,
    /// Of these, pages that most of the work is about.
    pub hot_pages: u64,
    /// Bytes a page: mostly the least there are, so that much happens in little time.
    pub page_bytes: usize,
    /// Tasks of a client.
    pub tasks: u64,
    /// What each of them does.
    pub operations: u64,
    /// Longest pause between two, in milliseconds.
    pub pause_ms: u64,
    /// Bytes that may be staged.
    pub staged_budget_bytes: u64,
    /// Bytes of pages kept in memory: 0, or more than there are.
    pub page_cache_bytes: u64,
    /// Volumes are deleted now and then.
    pub deletes: bool,
    /// Of what is done, so much besides the usual: commits of many pages.
    pub bulk_percent: u64,
    /// And looks at the past.
    pub look_back_percent: u64,
    /// And deletions of volumes.
    pub delete_percent: u64,
}

/// Tasks under way.
#[derive(Clone, Debug, Default)]
pub struct UnderWay(Arc<AtomicU64>);

impl UnderWay {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(SeqCst)
    }

    fn begin(&self) -> OneUnderWay {
        self.0.fetch_add(1, SeqCst);
        OneUnderWay(self.clone())
    }
}

struct OneUnderWay(UnderWay);

impl Drop for OneUnderWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

/// What a page of so many bytes holds: made from number and page, so that no two pages are the same.
#[must_use]
pub fn content(kind: Kind, number: u64, page: u64, bytes: usize) -> Bytes {
    let mut content = vec![0u8; bytes];
    match kind {
        Kind::Zeros => return content.into(),
        Kind::Change => {
            let mut pattern = Random::new(page);
            for chunk in content.chunks_mut(16) {
                let word = pattern.number() & 0x0f0f_0f0f_0f0f_0f0f;
                chunk[..8].copy_from_slice(&word.to_le_bytes());
            }
        }
        Kind::Noise => Random::new(number ^ page << 40).fill(&mut content),
    }
    content[8..16].copy_from_slice(&number.to_le_bytes());
    content[40..48].copy_from_slice(&page.to_le_bytes());
    content.into()
}

/// Kinds of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Zeros.
    Zeros,
    /// The page's own pattern with a few bytes changed.
    Change,
    /// Noise.
    Noise,
}

/// A transaction, with what the model has to know of it.
pub(crate) struct Tracked {
    transaction: Transaction,
    volume: VolumeId,
    part: Part,
    last: u64,
    lowest: u64,
    wrote: bool,
}

impl Tracked {
    fn new(process: &Process, volume: &Volume, transaction: Transaction, count: u64) -> Tracked {
        let base = transaction.revision().0;
        let part = Part { base, base_count: count, ..Part::default() };
        // Looked at, so that the model can hold it against what it should be.
        let right = process.site.model().page_count(volume.id(), base);
        if count != right {
            let what = format!("{} at {base} has {right} pages, not {count}", volume.id());
            process.site.model().violate(what);
        }
        Tracked { transaction, volume: volume.id(), part, last: count, lowest: count, wrote: false }
    }

    pub(crate) async fn read(
        &mut self,
        process: &Process,
        page: u64,
        tolerated: Option<u64>,
    ) -> Result<(), Error> {
        if page >= self.last {
            return Ok(());
        }
        let own = match self.part.writes.get(&page) {
            Some(digest) => Some(*digest),
            None => (page >= self.lowest).then_some(0),
        };
        let content = match tolerated {
            None => self.transaction.read(PageNo(page)).await?,
            Some(to) => self.transaction.read_tolerating(PageNo(page), Revision(to)).await?,
        };
        match own {
            Some(own) if own != digest(&content) => {
                process.site.model().violate(format!("own page {page} reads as another"));
            }
            Some(_) => {}
            None => {
                process.site.model().check_read(self.volume, self.part.base, page, &content);
                let to = tolerated.unwrap_or(0);
                // Read as of the base is read as of the base; of two tolerant reads the later counts.
                let old = self.part.reads.get(&page).copied();
                let to = if old == Some(0) || to == 0 { 0 } else { to.max(old.unwrap_or(0)) };
                self.part.reads.insert(page, to);
            }
        }
        Ok(())
    }

    fn resize(&mut self, count: u64) {
        if count != self.last {
            self.lowest = self.lowest.min(count);
            self.last = count;
            self.part.last_count = Some(count);
            self.part.lowest = (self.lowest < self.part.base_count).then_some(self.lowest);
        }
    }

    pub(crate) fn write(&mut self, page: u64, content: Bytes) -> Result<(), Error> {
        let digest = digest(&content);
        self.transaction.write(PageNo(page), content)?;
        self.part.writes.insert(page, digest);
        self.wrote = true;
        if page >= self.last {
            self.resize(page + 1);
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, count: u64) {
        self.transaction.truncate(PageCount(count));
        self.part.asks_count = true;
        self.part.writes.split_off(&count);
        self.wrote = true;
        self.resize(count);
    }

    fn require_lock(&mut self, lock: &WriteLock, release: bool) {
        self.transaction.require_lock(lock, release);
        let (key, created) = lock.key();
        self.part.lock = LockUse::Held(key.clone(), created.0);
    }

    fn respect_lock(&mut self, volume: &Volume) {
        self.transaction.respect_lock();
        self.part.lock = LockUse::Respected(StoreKeys::new(ROOT).write_lock(volume.name()));
    }

    fn ask_count(&mut self, process: &Process) {
        let count = self.transaction.page_count().0;
        self.part.asks_count = true;
        if count != self.last {
            process.site.model().violate(format!("own page count {count} is not {}", self.last));
        }
    }
}

/// A client: a process with an open store and some tasks.
#[derive(Clone, Debug)]
pub struct Client {
    process: Process,
    work: Arc<Work>,
    under_way: UnderWay,
}

/// One task of a client.
pub(crate) struct Worker {
    client: Client,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) store: Store,
    random: Random,
    held: Vec<(Volume, Snapshot)>,
    unknown: Vec<(u32, Volume, CommitToken)>,
}

impl Client {
    /// A client in `process` that does nothing yet.
    pub(crate) fn new(process: &Process, work: &Arc<Work>, under_way: &UnderWay) -> Client {
        Client { process: process.clone(), work: work.clone(), under_way: under_way.clone() }
    }

    fn worker(&self, store: Store, volumes: Vec<Volume>) -> Worker {
        Worker {
            client: self.clone(),
            volumes,
            store,
            random: self.process.site.world.draw(Random::fork),
            held: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// A task of it that is told what to do, once the store and its volumes are open.
    pub(crate) async fn open_worker(&self) -> Worker {
        let (store, volumes) = self.open_all().await;
        self.worker(store, volumes)
    }

    /// Starts a client in `process`; `under_way` counts its tasks.
    pub fn start(process: &Process, work: &Arc<Work>, under_way: &UnderWay, operations: u64) {
        let client = Client::new(process, work, under_way);
        let going = under_way.begin();
        process.spawn(async move {
            let (store, volumes) = client.open_all().await;
            for _ in 0..client.work.tasks {
                let worker = client.worker(store.clone(), volumes.clone());
                let one = client.under_way.begin();
                client.process.spawn(async move {
                    worker.run(operations).await;
                    drop(one);
                });
            }
            drop(going);
        });
    }

    fn options(&self) -> StoreOptions {
        StoreOptions {
            page_cache_bytes: self.work.page_cache_bytes,
            index_cache_bytes: self.work.page_cache_bytes,
            staged_budget_bytes: self.work.staged_budget_bytes,
            ..StoreOptions::default()
        }
    }

    async fn open_all(&self) -> (Store, Vec<Volume>) {
        let store = loop {
            match self.process.open(self.options()).await {
                Ok(store) => break store,
                Err(error) => self.judge("open the store", None, &error),
            }
            self.process.sleep_ms(500).await;
        };
        let mut volumes = Vec::new();
        for number in 0..self.work.volumes {
            volumes.push(self.open_one(&store, number).await);
        }
        (store, volumes)
    }

    async fn open_one(&self, store: &Store, number: u64) -> Volume {
        let page_size = PageSize::new(self.work.page_bytes as u64).expect("a page size");
        let options = VolumeOptions { page_size, keep: self.work.keep };
        loop {
            match store.open_or_create_volume(&format!("v{number}"), options).await {
                Ok(volume) => return volume,
                // Others make and delete it, too.
                Err(error)
                    if [ErrorKind::NotFound, ErrorKind::AlreadyExists].contains(&error.kind()) => {}
                Err(error) => self.judge("open a volume", None, &error),
            }
            self.process.sleep_ms(300).await;
        }
    }

    /// Holds an error against what may be.
    fn judge(&self, doing: &str, volume: Option<VolumeId>, error: &Error) {
        let site = &self.process.site;
        site.sky.log(&site.world, || format!("process {} {doing}: {error}", self.process.id.0));
        let lost = site.sky.lost_a_lease(self.process.id);
        let fine = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Backpressure => true,
            ErrorKind::Expired => lost,
            // What is held outlives its volume.
            ErrorKind::NotFound => {
                let deleted = volume.is_some_and(|volume| site.model().is_deleted(volume));
                (deleted && doing != READ_HELD) || site.sky.was_missing()
            }
            ErrorKind::Corrupt => site.sky.was_missing(),
            // What is read back to be compared may have been damaged on the way.
            ErrorKind::AlreadyExists => site.sky.was_damaged(),
            _ => false,
        };
        if !fine {
            let what = format!(
                "process {} must not get this when it wants to {doing}: {:?}: {error}",
                self.process.id.0,
                error.kind()
            );
            site.model().violate(what);
        }
    }
}

impl Worker {
    async fn run(mut self, operations: u64) {
        for _ in 0..operations {
            if self.random.below(3) > 0 {
                let pause = self.random.skewed(self.client.work.pause_ms);
                self.client.process.sleep_ms(pause).await;
            }
            if let Err((doing, volume, error)) = self.operate().await {
                self.client.judge(doing, Some(volume), &error);
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) {
                    self.reopen(volume).await;
                }
                let pause = self.random.range(1, 200);
                self.client.process.sleep_ms(pause).await;
            }
        }
        self.held.clear();
        self.resolve_all().await;
    }

    /// Asks until it is known of every commit what became of it.
    pub(crate) async fn resolve_all(&mut self) {
        while !self.unknown.is_empty() {
            self.resolve().await;
        }
    }

    /// Where it runs.
    pub(crate) fn process(&self) -> &Process {
        &self.client.process
    }

    /// Holds the error of something that was told to do against what may be.
    pub(crate) fn judge(&self, outcome: Result<(), Failure>) {
        if let Err((doing, volume, error)) = outcome {
            self.client.judge(doing, Some(volume), &error);
        }
    }

    async fn reopen(&mut self, id: VolumeId) {
        let Some(number) = self.volumes.iter().position(|volume| volume.id() == id) else { return };
        self.volumes[number] = self.client.open_one(&self.store, number as u64).await;
    }

    async fn operate(&mut self) -> Result<(), Failure> {
        let work = &self.client.work;
        let delete = work.delete_percent;
        let (bulk, look_back) = (delete + work.bulk_percent, work.look_back_percent);
        match self.random.below(100) {
            draw if draw < delete => return self.delete().await,
            draw if draw < bulk => return self.change(true).await,
            draw if draw < bulk + look_back => return self.look_back().await,
            _ => {}
        }
        let draw = self.random.below(100);
        match draw {
            0..38 => self.change(false).await,
            38..44 => self.change_locked().await,
            44..48 => self.change(true).await,
            48..54 => self.transfer().await,
            54..74 => self.look().await,
            74..84 => self.look_at_held().await,
            84..90 => self.look_back().await,
            90..95 => self.look_stale().await,
            95..98 => {
                self.resolve().await;
                Ok(())
            }
            98 if self.client.work.deletes && self.random.one_in(3) => self.delete().await,
            _ => self.identity().await,
        }
    }

    fn volume(&mut self) -> Volume {
        let at = self.random.skewed(self.volumes.len() as u64 - 1);
        self.volumes[at as usize].clone()
    }

    fn page(&mut self) -> u64 {
        let work = &self.client.work;
        match self.random.below(4) {
            0 => self.random.below(work.pages),
            _ => self.random.below(work.hot_pages),
        }
    }

    fn kind(&mut self) -> Kind {
        match self.random.below(16) {
            0 => Kind::Zeros,
            1..4 => Kind::Noise,
            _ => Kind::Change,
        }
    }

    pub(crate) async fn begin(&mut self, volume: &Volume) -> Result<Tracked, Failure> {
        let snapshot = self.snapshot(volume).await?;
        let count = snapshot.page_count().0;
        let transaction = volume.begin_on(snapshot);
        Ok(Tracked::new(&self.client.process, volume, transaction, count))
    }

    async fn snapshot(&mut self, volume: &Volume) -> Result<Snapshot, Failure> {
        let site = self.client.process.site.clone();
        let not_before = site.model().head(volume.id());
        let snapshot =
            volume.snapshot().await.map_err(|error| ("open a snapshot", volume.id(), error))?;
        let (revision, count) = (snapshot.revision().0, snapshot.page_count().0);
        site.model().check_snapshot(volume.id(), revision, count, not_before);
        Ok(snapshot)
    }

    /// Changes some pages of one volume, or very many.
    pub(crate) async fn change(&mut self, bulk: bool) -> Result<(), Failure> {
        let volume = self.volume();
        let mut tracked = self.begin(&volume).await?;
        self.fill(&mut tracked, bulk).await.map_err(|error| ("read", volume.id(), error))?;
        if self.random.one_in(4) {
            tracked.respect_lock(&volume);
        }
        self.commit(vec![(volume, tracked)]).await
    }

    /// Changes some pages as the only one of those who ask for the write lock.
    async fn change_locked(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let snapshot = self.snapshot(&volume).await?;
        let count = snapshot.page_count().0;
        let asked = self.store.try_lock(volume.name().as_str(), Some(&snapshot)).await;
        let asked = asked.map_err(|error| ("ask for the write lock", volume.id(), error))?;
        let TryLock::Taken(lock) = asked else { return Ok(()) };
        let transaction = volume.begin_on(snapshot);
        let mut tracked = Tracked::new(&self.client.process, &volume, transaction, count);
        self.fill(&mut tracked, false).await.map_err(|error| ("read", volume.id(), error))?;
        if self.random.one_in(4) {
            let pause = self.random.below(9_000);
            self.client.process.sleep_ms(pause).await;
        }
        tracked.require_lock(&lock, self.random.one_in(2));
        let outcome = self.commit(vec![(volume, tracked)]).await;
        if self.random.one_in(2) {
            lock.release().await;
        }
        outcome
    }

    async fn fill(&mut self, tracked: &mut Tracked, bulk: bool) -> Result<(), Error> {
        let process = self.client.process.clone();
        if self.random.one_in(24) {
            let count = self.random.below(tracked.last + 2);
            tracked.truncate(count);
        }
        if bulk {
            let first = self.random.below(self.client.work.pages);
            // What does not shrink goes into files where little may be staged.
            let kind = if self.random.one_in(2) { Kind::Noise } else { self.kind() };
            let number = self.number();
            for page in first..first + BULK_PAGES {
                tracked.write(page, self.content(kind, number, page))?;
            }
            return Ok(());
        }
        let changes = 1 + self.random.skewed(5);
        for _ in 0..changes {
            let page = self.page();
            let (kind, number) = (self.kind(), self.number());
            match self.random.below(8) {
                0 => tracked.read(&process, page, None).await?,
                1 => {
                    let later = tracked.part.base + self.random.skewed(40);
                    let plainly = self.random.below(3);
                    if plainly == 0 {
                        tracked.read(&process, page, None).await?;
                    }
                    tracked.read(&process, page, Some(later)).await?;
                    if plainly == 1 {
                        tracked.read(&process, page, None).await?;
                    }
                }
                2 => tracked.ask_count(&process),
                3 => tracked.write(page, self.content(kind, number, page))?,
                _ => {
                    tracked.read(&process, page, None).await?;
                    tracked.write(page, self.content(kind, number, page))?;
                }
            }
        }
        if self.random.one_in(20) {
            let count = self.random.range(tracked.last / 2, tracked.last + 3);
            tracked.truncate(count);
        }
        Ok(())
    }

    pub(crate) fn page_bytes(&self) -> usize {
        self.client.work.page_bytes
    }

    /// Content that there never was.
    pub(crate) fn unlike_any(&mut self, kind: Kind, page: u64) -> Bytes {
        let number = self.random.number() | 1;
        self.content(kind, number, page)
    }

    /// Mostly one that there never was; now and then one of a few, so that content comes back.
    fn number(&mut self) -> u64 {
        let number = self.random.number() | 1;
        if self.random.one_in(4) { number % 6 } else { number }
    }

    fn content(&self, kind: Kind, number: u64, page: u64) -> Bytes {
        content(kind, number, page, self.page_bytes())
    }

    /// Changes pages of several volumes in one commit.
    pub(crate) async fn transfer(&mut self) -> Result<(), Failure> {
        if self.volumes.len() < 2 {
            return self.change(false).await;
        }
        let mut volumes = self.volumes.clone();
        volumes.sort_by_key(Volume::id);
        volumes.dedup_by_key(|volume| volume.id());
        let count = self.random.range(2, volumes.len() as u64 + 1) as usize;
        volumes.truncate(count);
        let mut parts = self.begin_together(&volumes).await?;
        for (volume, tracked) in &mut parts {
            self.fill(tracked, false).await.map_err(|error| ("read", volume.id(), error))?;
            tracked.ask_count(&self.client.process);
        }
        self.commit(parts).await
    }

    /// Transactions on several volumes, which are in the order of their ids, all as of one revision.
    pub(crate) async fn begin_together(
        &mut self,
        volumes: &[Volume],
    ) -> Result<Vec<(Volume, Tracked)>, Failure> {
        let site = self.client.process.site.clone();
        let first = volumes[0].id();
        let heads: Vec<u64> = volumes.iter().map(|volume| site.model().head(volume.id())).collect();
        let begun = begin_all(volumes).await.map_err(|error| {
            let gone = volumes.iter().find(|volume| site.model().is_deleted(volume.id()));
            ("begin on several", gone.map_or(first, Volume::id), error)
        })?;
        let mut parts = Vec::new();
        for ((volume, transaction), head) in volumes.iter().zip(begun).zip(heads) {
            if transaction.revision().0 < head {
                let what = format!("a joint view of {} misses {head}", volume.id());
                site.model().violate(what);
            }
            let base = transaction.revision().0;
            let count = site.model().page_count(volume.id(), base);
            let tracked = Tracked::new(&self.client.process, volume, transaction, count);
            parts.push((volume.clone(), tracked));
        }
        Ok(parts)
    }

    /// Writes what is there already.
    async fn identity(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let mut tracked = self.begin(&volume).await?;
        let failure = |error| ("read", volume.id(), error);
        let page = self.page();
        if page < tracked.last {
            let content = tracked.transaction.peek(PageNo(page)).await.map_err(failure)?;
            tracked.write(page, content).map_err(failure)?;
        }
        let other = self.page();
        let number = self.number();
        let changed = self.content(Kind::Change, number, other);
        tracked.write(other, changed).map_err(failure)?;
        self.commit(vec![(volume, tracked)]).await
    }

    pub(crate) async fn commit(&mut self, parts: Vec<(Volume, Tracked)>) -> Result<(), Failure> {
        let site = self.client.process.site.clone();
        if parts.iter().all(|(_, tracked)| !tracked.wrote) {
            return Ok(());
        }
        let first = parts.iter().map(|(volume, _)| volume.clone()).min_by_key(Volume::id).unwrap();
        let ids: Vec<VolumeId> = parts.iter().map(|(volume, _)| volume.id()).collect();
        let known: BTreeMap<VolumeId, Part> =
            parts.iter().map(|(volume, tracked)| (volume.id(), tracked.part.clone())).collect();
        let tag = site.model().intend(known);
        site.sky.log(&site.world, || {
            format!("process {} commits transaction {tag}", self.client.process.id.0)
        });
        site.world.set_tag(tag);
        let mut transactions: Vec<Transaction> =
            parts.into_iter().map(|(_, tracked)| tracked.transaction).collect();
        let committed = match transactions.len() {
            1 => transactions.pop().unwrap().commit().await,
            _ => commit_all(transactions).await,
        };
        site.world.set_tag(0);
        site.sky.log(&site.world, || format!("transaction {tag}: {committed:?}"));
        let error = match committed {
            Ok(committed) => {
                site.model().told_committed(tag, committed.revision, committed.commit);
                return Ok(());
            }
            Err(error) => error,
        };
        site.world.note(&[u64::from(tag), error.kind() as u64]);
        match error.kind() {
            ErrorKind::Conflict => {
                let pages: Vec<u64> = error.conflicting_pages().iter().map(|page| page.0).collect();
                site.model().told_conflict(tag, &pages, &error.to_string());
                Ok(())
            }
            ErrorKind::Unknown => {
                site.model().counts.unknown += 1;
                let token = error.commit_token().expect("an unknown outcome has a token");
                self.unknown.push((tag, first, token));
                Ok(())
            }
            _ => {
                site.model().counts.failed += 1;
                // Of a volume that is gone nobody can tell what happened to it before.
                if error.kind() != ErrorKind::NotFound {
                    site.model().told_failed(tag, &error.to_string());
                }
                let gone = ids.iter().find(|id| site.model().is_deleted(**id)).copied();
                Err(("commit", gone.unwrap_or(first.id()), error))
            }
        }
    }

    /// Asks what became of a commit that nobody answered.
    async fn resolve(&mut self) {
        let Some((tag, volume, token)) = self.unknown.pop() else { return };
        let site = self.client.process.site.clone();
        match volume.resolve(token).await {
            Ok(Resolution::Committed(revision)) => {
                site.model().told_committed(tag, revision, Some(token.commit));
            }
            Ok(Resolution::Aborted) => site.model().told_failed(tag, "resolved"),
            Ok(Resolution::Forgotten) => {
                site.model().violate(format!("transaction {tag} is forgotten within the day"));
            }
            Err(error) if error.kind() == ErrorKind::Unknown => {
                self.unknown.insert(0, (tag, volume, token));
                self.client.process.sleep_ms(1_000).await;
            }
            Err(error) => self.client.judge("resolve", Some(volume.id()), &error),
        }
    }

    /// Where much is about the past nothing is held for long, or the oldest revision would never rise.
    fn may_hold(&self) -> bool {
        self.held.len() < 3 && self.client.work.look_back_percent == 0
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let snapshot = self.snapshot(&volume).await?;
        let pages = 1 + self.random.skewed(8);
        self.read("read", &volume, &snapshot, pages).await?;
        if self.may_hold() && self.random.one_in(6) {
            self.held.push((volume, snapshot));
        }
        Ok(())
    }

    pub(crate) async fn read(
        &mut self,
        doing: &'static str,
        volume: &Volume,
        snapshot: &Snapshot,
        pages: u64,
    ) -> Result<(), Failure> {
        let site = self.client.process.site.clone();
        for _ in 0..pages {
            let page = self.page();
            if page < snapshot.page_count().0 {
                let content = snapshot.read(PageNo(page)).await;
                let content = content.map_err(|error| (doing, volume.id(), error))?;
                site.model().check_read(volume.id(), snapshot.revision().0, page, &content);
            }
        }
        Ok(())
    }

    async fn look_at_held(&mut self) -> Result<(), Failure> {
        if self.held.is_empty() {
            return self.look().await;
        }
        let at = self.random.below(self.held.len() as u64) as usize;
        let (volume, snapshot) = self.held[at].clone();
        let read = self.read(READ_HELD, &volume, &snapshot, 4).await;
        if read.is_err() || self.random.one_in(5) {
            self.held.retain(|(of, held)| {
                of.id() != volume.id() || held.revision() != snapshot.revision()
            });
        }
        read
    }

    async fn look_back(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let site = self.client.process.site.clone();
        let created = site.model().created(volume.id());
        let head = site.model().head(volume.id());
        let span = head.saturating_sub(created);
        let back = match self.random.below(3) {
            // Around the oldest one, which moves.
            0 => {
                let oldest = site.model().oldest(volume.id()).max(created);
                let about =
                    (oldest + self.random.skewed(32)).saturating_sub(self.random.skewed(32));
                head.saturating_sub(about)
            }
            _ => self.random.skewed(span),
        };
        self.look_back_to(volume, head - back.min(span)).await
    }

    /// Looks at a volume as it was at `revision`, which may be no longer readable.
    pub(crate) async fn look_back_to(
        &mut self,
        volume: Volume,
        revision: u64,
    ) -> Result<(), Failure> {
        let site = self.client.process.site.clone();
        match volume.snapshot_at(Revision(revision)).await {
            Ok(snapshot) => {
                let count = snapshot.page_count().0;
                site.model().check_snapshot(volume.id(), snapshot.revision().0, count, revision);
                self.read("read", &volume, &snapshot, 3).await?;
                if self.may_hold() && self.random.one_in(3) {
                    self.held.push((volume, snapshot));
                }
                Ok(())
            }
            Err(error)
                if error.kind() == ErrorKind::Expired
                    && revision < site.model().oldest(volume.id()) =>
            {
                Ok(())
            }
            Err(error) => Err(("look back", volume.id(), error)),
        }
    }

    async fn look_stale(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let site = self.client.process.site.clone();
        let snapshot = volume.snapshot_stale().await;
        let snapshot = snapshot.map_err(|error| ("look at what is known", volume.id(), error))?;
        let (revision, count) = (snapshot.revision().0, snapshot.page_count().0);
        site.model().check_snapshot(volume.id(), revision, count, 0);
        self.read("read", &volume, &snapshot, 3).await
    }

    async fn delete(&mut self) -> Result<(), Failure> {
        let number = self.random.below(self.volumes.len() as u64);
        let id = self.volumes[number as usize].id();
        match self.store.delete_volume(&format!("v{number}")).await {
            Ok(()) => self.reopen(id).await,
            Err(error) if error.kind() == ErrorKind::NotFound => self.reopen(id).await,
            Err(error) => return Err(("delete a volume", id, error)),
        }
        Ok(())
    }
}

pub(crate) const READ_HELD: &str = "read what is held";

/// What was wanted, of which volume, and why it was not done.
pub(crate) type Failure = (&'static str, VolumeId, Error);
