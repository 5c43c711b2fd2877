//! Flips bytes of everything that a store keeps, and reads it all: the answer is what was written, or an error
//! that names the place. Never another page, never a panic, never more memory than reading it took before.
//!
//! The store is the frozen embedded one of the tests, with every kind of object and value in it. Every byte of
//! every object and of every value has its turn before any has another; bits are drawn anew each time. Each
//! time the store is opened anew, through nothing but the front door, with no cache of pages; the volume's head,
//! one revision of its past, drawn anew, and its log are read.

mod place;
mod tiers;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use pagestore::{Env, Error, ErrorKind, PageNo, Result, Revision, Snapshot, Store, StoreOptions};

use crate::memory;
use place::{Place, Shown};

/// Bytes of a page of the frozen store.
const PAGE_BYTES: usize = 512;
/// Memory that reading may take beyond what it took when nothing was wrong.
const FREE_BYTES: usize = 1 << 20;
/// Flips between two times that the meta tier's history of opened and closed volumes is forgotten.
const FORGET_EVERY: u64 = 2_000;

/// Panics of this process, tasks' too; [`count_panics`] counts them.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// One wrong byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// In an object, or in a value.
    pub of: Of,
    /// Which byte.
    pub at: usize,
    /// Which of its bits are wrong.
    pub mask: u8,
}

/// What has bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// The object of this path.
    Object(String),
    /// The value of this key.
    Value(Bytes),
}

/// How it went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flipped {
    /// Flips.
    pub flips: u64,
    /// Of these, those that some read noticed.
    pub noticed: u64,
    /// Bytes that objects and values have.
    pub bytes: u64,
    /// Pages that were read.
    pub pages: u64,
}

/// Where the frozen store is.
#[must_use]
pub fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/testdata/v1/stores")
}

/// From here on panics are counted, and not printed.
pub fn count_panics() {
    std::panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::SeqCst);
    }));
}

/// Flips `count` bytes of a copy of the store in `frozen`, one at a time.
///
/// # Errors
/// The first flip that had a consequence that it must not have, and which.
///
/// # Panics
/// When the store cannot be read as it is.
pub fn run(
    frozen: &Path,
    seed: u64,
    count: u64,
    mut done: impl FnMut(u64),
) -> std::result::Result<Flipped, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("BUG: a runtime is not built");
    runtime.block_on(async {
        let place = Place::open(frozen).await;
        let mut random = SmallRng::seed_from_u64(seed);
        let mut all = place.bytes().await;
        let mut flipped = Flipped { bytes: all.len() as u64, ..Flipped::default() };
        all.shuffle(&mut random);
        // The second time, for what the first one sets up once for all.
        let mut usual = 0;
        for _ in 0..2 {
            memory::begin();
            for volume in place.volumes() {
                let read = Reading::of(&place, volume, None).await;
                assert!(read.errors.is_empty(), "it is damaged already: {:?}", read.errors);
            }
            usual = memory::end();
        }
        for flip in 0..count {
            let index = usize::try_from(flip % all.len() as u64).unwrap_or(0);
            let (of, at) = &all[index];
            let flip_now = Flip { of: of.clone(), at: *at, mask: random.random_range(1..=255) };
            let read = try_one(&place, &flip_now, usual, &mut random).await?;
            flipped.flips += 1;
            flipped.noticed += u64::from(!read.errors.is_empty());
            flipped.pages += read.pages;
            if flip % FORGET_EVERY == 0 {
                place.forget_history().await;
            }
            done(flip);
        }
        Ok(flipped)
    })
}

async fn try_one(
    place: &Place,
    flip: &Flip,
    usual: usize,
    random: &mut SmallRng,
) -> std::result::Result<Reading, String> {
    let found = |what: String| Err(format!("{flip:?}: {what}"));
    let volume = place.volume_of(&flip.of);
    let past: Vec<Revision> = place.shown(volume).map(|shown| shown.revision).collect();
    let chosen = past.get(random.random_range(0..past.len())).copied();
    let before = PANICS.load(Ordering::SeqCst);
    place.set(flip).await;
    memory::begin();
    let read = Reading::of(place, volume, chosen).await;
    let most = memory::end();
    place.unset(flip).await;
    if let Some(wrong) = &read.wrong {
        return found(wrong.clone());
    }
    if PANICS.load(Ordering::SeqCst) > before {
        return found("something panicked".to_owned());
    }
    if most > usual + FREE_BYTES {
        return found(format!("took {most} bytes of memory, and {usual} without it"));
    }
    match read.errors.iter().find(|error| !names(error, flip, place)) {
        Some(error) => found(format!("an error that does not name it: {error}")),
        None => Ok(read),
    }
}

/// Whether an error names what is damaged. A version that is none looks like that of a newer pagestore.
fn names(error: &str, flip: &Flip, place: &Place) -> bool {
    let (kind, text) = error.split_once(": ").unwrap_or_default();
    let kind = kind == ErrorKind::Corrupt.as_str()
        || kind == ErrorKind::Invalid.as_str() && text.contains("format version");
    kind && place.names(&flip.of).iter().any(|name| text.contains(name))
}

/// All that a process read of a volume.
#[derive(Default)]
struct Reading {
    pages: u64,
    /// With their causes, the kind first.
    errors: Vec<String>,
    /// What was read and is not right.
    wrong: Option<String>,
}

impl Reading {
    /// Of the past, `chosen` only, or all.
    async fn of(place: &Place, volume: &str, chosen: Option<Revision>) -> Reading {
        let mut reading = Reading::default();
        if let Err(error) = reading.go(place, volume, chosen).await {
            reading.failed(&error);
        }
        reading
    }

    async fn go(&mut self, place: &Place, name: &str, chosen: Option<Revision>) -> Result<()> {
        let options = StoreOptions { page_cache_bytes: 1, ..StoreOptions::default() };
        let store = Store::over(place.tiers(), options, Env::system()).await?;
        let volume = store.open_volume(name).await?;
        for shown in
            place.shown(name).filter(|shown| chosen.is_none_or(|one| shown.revision == one))
        {
            match volume.snapshot_at(shown.revision).await {
                Ok(snapshot) => self.read(&snapshot, shown).await,
                Err(error) => self.failed(&error),
            }
        }
        if let Some(newest) = place.shown(name).last() {
            self.read(&volume.snapshot().await?, newest).await;
        }
        let log = volume.inspect().log_after(Revision::ZERO).await;
        volume.close().await;
        let commits = log?.iter().map(|commit| (commit.revision, commit.commit)).collect();
        if place.log(name).is_some_and(|right| right != &commits) {
            self.wrong = Some(format!("the log is {commits:?}"));
        }
        place.set_log(name, commits);
        Ok(())
    }

    async fn read(&mut self, snapshot: &Snapshot, shown: &Shown) {
        let what = || format!("{} at {}", shown.volume, shown.revision);
        if snapshot.page_count().0 != shown.pages.len() as u64 {
            self.wrong = Some(format!("{} has {} pages", what(), snapshot.page_count()));
            return;
        }
        for (page, right) in (0..).zip(&shown.pages) {
            self.pages += 1;
            match snapshot.read(PageNo(page)).await {
                Ok(content) if content == right => {}
                Ok(_) => self.wrong = Some(format!("page {page} of {} is another", what())),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &Error) {
        let first: &dyn std::error::Error = error;
        let chain = std::iter::successors(Some(first), |error| error.source());
        let text: Vec<String> = chain.map(ToString::to_string).collect();
        let text = format!("{}: {}", error.kind().as_str(), text.join(": "));
        if !self.errors.contains(&text) {
            self.errors.push(text);
        }
    }
}
