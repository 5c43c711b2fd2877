//! What the threads of one process share of one open store.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak, mpsc};
use std::time::Duration;

use tokio::sync::watch::Sender;

use super::batch::Batch;
use super::compact;
use super::fault::{io_error, not_applied, unpoisoned};
use super::format::SYS_LEASE_DUE;
use super::map::{Map, Outcome};
use super::notice::{self, Notices, Notifier};
use super::queue::Queue;
use super::turnstile::Turnstile;
use super::watch::Watches;
use super::writer;
use crate::env::Env;
use crate::meta::{MetaError, MetaResult};

/// How long an open waits for its turn, and for an earlier handle's threads to let go of the tree.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// An open store. The writer and the noticing thread hold one, and so does [`Core`].
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) env: Env,
    /// The process that opened it.
    pid: u32,
    pub(super) map: Map,
    pub(super) turnstile: Turnstile,
    pub(super) queue: Queue,
    pub(super) notifier: Notifier,
    pub(super) watches: Watches,
    /// The newest revision that this process has noticed.
    pub(super) revision: Sender<u64>,
    /// The number of the commit that was looked at last.
    seen: AtomicUsize,
    /// When the first lease may be due, in ms of the boot clock.
    lease_due_ms: AtomicU64,
    /// A compaction is under way.
    compacting: AtomicBool,
    closing: AtomicBool,
    /// Held while looking, so that what was seen later is kept.
    looking: Mutex<()>,
}

/// What the handles and streams of a store hold: when the last lets go, the threads end.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.queue.close();
        // Wakes the noticing thread, too.
        self.shared.notifier.notify();
    }
}

/// Which directory, whatever path leads to it: device and inode.
type Place = (u64, u64);

type OpenStores = Vec<(Place, Weak<Core>)>;

/// The stores that this process has open.
static OPEN: LazyLock<Mutex<OpenStores>> = LazyLock::new(Mutex::default);

/// Opens the store in `dir`, or joins those who have it open.
pub(super) fn open(dir: &Path, env: &Env, first_map_bytes: usize) -> MetaResult<Arc<Core>> {
    let (dir, place) =
        locate(dir).map_err(|e| io_error(&format!("embedded store in {}", dir.display()), &e))?;
    let mut stores = unpoisoned(OPEN.lock());
    stores.retain(|(_, core)| core.strong_count() > 0);
    let open = stores.iter().find(|(at, _)| *at == place);
    if let Some(core) = open.and_then(|(_, core)| core.upgrade()) {
        core.shared.check_process()?;
        return Ok(core);
    }
    if let Some(closing) = heed::env_closing_event(&dir)
        && !closing.wait_timeout(OPEN_LIMIT)
    {
        let dir = dir.display();
        return Err(not_applied(format!("embedded store in {dir}: still being closed")));
    }
    let core = Shared::open(&dir, env, first_map_bytes)?;
    stores.push((place, Arc::downgrade(&core)));
    Ok(core)
}

fn locate(dir: &Path) -> std::io::Result<(PathBuf, Place)> {
    fs::create_dir_all(dir)?;
    let dir = dir.canonicalize()?;
    let metadata = fs::metadata(&dir)?;
    Ok((dir, (metadata.dev(), metadata.ino())))
}

/// Opens the tree in its turn.
fn open_map(dir: &Path, env: &Env, first_map_bytes: usize) -> MetaResult<(Turnstile, Map)> {
    let failed = |e: std::io::Error| io_error(&format!("embedded store in {}", dir.display()), &e);
    let turnstile = Turnstile::open(dir).map_err(failed)?;
    let turn = turnstile.wait().map_err(failed)?;
    let map = Map::open(dir, first_map_bytes, env)?;
    map.clear_stale_readers();
    map.write(|tables, txn| {
        let mut batch = Batch::begin(tables, txn, env)?;
        batch.restart_leases_after_boot()?;
        Ok(if batch.dirty { Outcome::Changed(()) } else { Outcome::Unchanged(()) })
    })?;
    drop(turn);
    Ok((turnstile, map))
}

impl Shared {
    fn open(dir: &Path, env: &Env, first_map_bytes: usize) -> MetaResult<Arc<Core>> {
        let failed =
            |e: std::io::Error| io_error(&format!("embedded store in {}", dir.display()), &e);
        let notifier = Notifier::open(dir).map_err(failed)?;
        let notices = Notices::open(dir);
        // A lock cannot be waited for with a limit, but a thread that waits for it can.
        let (sender, opened) = mpsc::channel();
        let opening = (dir.to_owned(), env.clone());
        let open = move || {
            let (dir, env) = opening;
            // If nobody waits any more, what was opened is closed again.
            let _ = sender.send(open_map(&dir, &env, first_map_bytes));
        };
        env.spawn_thread("embedded-open", open).map_err(failed)?;
        let late = |_| {
            let (dir, limit) = (dir.display(), OPEN_LIMIT.as_secs());
            not_applied(format!(
                "embedded store in {dir}: another process held its lock for {limit} s"
            ))
        };
        let (turnstile, map) = opened.recv_timeout(OPEN_LIMIT).map_err(late)??;
        let shared = Arc::new(Shared {
            env: env.clone(),
            pid: std::process::id(),
            map,
            turnstile,
            queue: Queue::new(),
            notifier,
            watches: Watches::default(),
            revision: Sender::new(0),
            seen: AtomicUsize::new(0),
            lease_due_ms: AtomicU64::new(u64::MAX),
            compacting: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            looking: Mutex::default(),
        });
        shared.look();
        // From here on a failure drops the core, which ends the threads already begun.
        let core = Arc::new(Core { shared: Arc::clone(&shared) });
        let for_writer = Arc::clone(&shared);
        env.spawn_thread("embedded-write", move || writer::run(&for_writer)).map_err(failed)?;
        env.spawn_thread("embedded-notice", move || notice::run(&shared, &notices))
            .map_err(failed)?;
        Ok(core)
    }

    /// Refuses a call from a process forked from the one that opened the store: neither its lock files
    /// nor its map nor its threads are any good there.
    pub(super) fn check_process(&self) -> MetaResult<()> {
        if self.pid == std::process::id() {
            return Ok(());
        }
        Err(MetaError::Refused(
            "embedded store: opened before this process was forked; open it after".to_owned(),
        ))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn is_compacting(&self) -> bool {
        self.compacting.load(Ordering::Relaxed)
    }

    pub(super) fn lease_due_ms(&self) -> u64 {
        self.lease_due_ms.load(Ordering::Relaxed)
    }

    /// True when there are commits that were not looked at.
    pub(super) fn is_behind(&self) -> bool {
        self.map.last_commit() != self.seen.load(Ordering::Relaxed)
    }

    /// Looks at what is committed, by whomever, and tells whom it concerns.
    pub(super) fn look(&self) {
        let _looking = unpoisoned(self.looking.lock());
        let looked = self.map.read(|view| {
            let due = view.sys_number(SYS_LEASE_DUE)?.unwrap_or(u64::MAX);
            Ok((view.commit(), view.revision()?, due, compact::is_pending(view)?))
        });
        let (commit, revision, due, compacting) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                tracing::warn!(%error, "embedded store: cannot be looked at");
                return;
            }
        };
        self.seen.store(commit, Ordering::Relaxed);
        let was_due = self.lease_due_ms.swap(due, Ordering::Relaxed);
        let was_compacting = self.compacting.swap(compacting, Ordering::Relaxed);
        self.revision.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = revision.max(*seen);
            newer
        });
        if due < was_due || (compacting && !was_compacting) {
            self.queue.nudge();
        }
    }
}
