//! What clients do: transactions and snapshots of all kinds, each of which the model hears of.

mod commits;
mod looks;
mod tracked;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use pagestore::{
    DiskCacheOptions, Error, ErrorKind, Keep, PageSize, Store, StoreOptions, Volume, VolumeId,
    VolumeOptions,
};

use crate::process::Process;
use crate::random::Random;
pub(crate) use tracked::Tracked;
pub(crate) use worker::Worker;

pub(crate) const READ_HELD: &str = "read what is held";

/// What was wanted, of which volume, and why it was not done.
pub(crate) type Failure = (&'static str, VolumeId, Error);

/// More than there ever is: what goes first would depend on the time at which real files were written.
const DISK_BYTES: u64 = 1 << 40;

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
    /// What was fetched is kept on the machine's disk, too.
    pub disk_cache: bool,
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

/// A client: a process with an open store and some tasks.
#[derive(Clone, Debug)]
pub struct Client {
    process: Process,
    work: Arc<Work>,
    under_way: UnderWay,
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
            disk_cache: self.work.disk_cache.then(|| DiskCacheOptions {
                directory: self.process.site.disks.of(self.process.id),
                max_bytes: DISK_BYTES,
            }),
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
