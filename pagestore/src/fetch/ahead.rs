//! Reading ahead: from a step that is due to frames under way. Planning looks only at what is in
//! memory; what it lacks is fetched in the background and planned with when the reader comes by
//! again.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use super::find_body;
use super::frames::{FrameAt, Frames, coalesce};
use super::index::{Access, Indexes};
use super::streams::{Step, Streams};
use crate::env::{Env, Task};
use crate::file::{BlockHandle, EntryKey, FileEntry, FileTail, IndexBlock, IndexEntry};
use crate::types::{FileId, PageNo, Revision};

/// Requests that read ahead for one volume at a time: with steps of 2 MiB, four of them for one
/// reader of one file, and as many more for others, or for files that share a range of pages.
const MAX_TASKS: usize = 16;

/// Reads ahead for the readers of one volume. Dropping it ends what is under way.
#[derive(Debug)]
pub(super) struct ReadAhead {
    streams: Mutex<Streams>,
    tasks: Mutex<Vec<Task>>,
    /// Index blocks under way, by file and offset.
    blocks: Arc<Mutex<HashSet<(FileId, u64)>>>,
    env: Env,
}

impl ReadAhead {
    pub(super) fn new(streams: Streams, env: Env) -> ReadAhead {
        let (streams, tasks) = (Mutex::new(streams), Mutex::default());
        ReadAhead { streams, tasks, blocks: Arc::default(), env }
    }

    /// A reader at `revision` looks for `page`. How it seems to go through the volume.
    pub(super) fn note(&self, page: PageNo, revision: Revision) -> Access {
        // Readers that meet here need not wait for each other: one note more or less is no matter.
        let comes_forward =
            self.streams.try_lock().is_ok_and(|mut streams| streams.note(page, revision));
        if comes_forward { Access::Sequential } else { Access::Random }
    }

    /// A reader takes `page` from the index of a file. Begins to fetch what it will want next.
    pub(super) fn advance(
        &self,
        entry: &Arc<FileEntry>,
        page: PageNo,
        is_miss: bool,
        (indexes, frames): (&Indexes, &Frames),
    ) {
        let step = match self.streams.try_lock() {
            Ok(mut streams) => streams.due(entry.id, page, is_miss),
            Err(_) if is_miss => lock(&self.streams).due(entry.id, page, is_miss),
            Err(_) => None,
        };
        let Some(step) = step else { return };
        let Some(tail) = indexes.cache.tail(entry.id, entry.tail_offset) else { return };
        let mut tasks = lock(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        if tasks.len() >= MAX_TASKS {
            return;
        }
        let cached = |handle: &BlockHandle| indexes.cache.block(entry.id, handle.offset);
        let wanted = |found: &IndexEntry| !frames.pages.contains(&found.hash);
        let plan = plan_step(entry, &tail, &step, &cached, &wanted);
        if plan.next > step.from {
            lock(&self.streams).taken(entry.id, &step, plan.next);
        }
        let due = plan.frames.iter().filter_map(|at| frames.undertake(*at)).collect();
        for run in coalesce(due) {
            let frames = frames.clone();
            tasks.push(self.env.spawn(async move { frames.fetch_run(run).await }));
        }
        if let Some(handle) = plan.lacks {
            tasks.extend(self.fetch_block(entry, tail, handle, indexes));
        }
    }

    /// Fetches an index block, and those after it, unless that is under way.
    fn fetch_block(
        &self,
        entry: &Arc<FileEntry>,
        tail: Arc<FileTail>,
        handle: BlockHandle,
        indexes: &Indexes,
    ) -> Option<Task> {
        let key = (entry.id, handle.offset);
        if !lock(&self.blocks).insert(key) {
            return None;
        }
        let (entry, indexes) = (Arc::clone(entry), indexes.clone());
        let under_way = UnderWay { blocks: Arc::clone(&self.blocks), key };
        Some(self.env.spawn(async move {
            let _under_way = under_way;
            // The reader will meet the same failure, and tell.
            if let Err(error) = indexes.block(&entry, &tail, &handle, Access::Sequential).await {
                tracing::debug!(%error, "reading ahead failed");
            }
        }))
    }
}

struct UnderWay {
    blocks: Arc<Mutex<HashSet<(FileId, u64)>>>,
    key: (FileId, u64),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.blocks).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("BUG: nothing panics while it reads ahead")
}

/// What a step comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    frames: BTreeSet<FrameAt>,
    /// First page that was not planned for.
    next: PageNo,
    /// The index block that was not in memory.
    lacks: Option<BlockHandle>,
}

/// The frames to fetch for a step: in index order, until each file that the pages lie in is asked
/// for as much as the step says.
fn plan_step(
    entry: &FileEntry,
    tail: &FileTail,
    step: &Step,
    cached: &dyn Fn(&BlockHandle) -> Option<Arc<IndexBlock>>,
    wanted: &dyn Fn(&IndexEntry) -> bool,
) -> Plan {
    let mut plan = Plan { next: step.from, ..Plan::default() };
    let mut files = HashSet::new();
    let mut bytes = 0;
    let start = EntryKey::new(step.from, Revision::MAX);
    let from = tail.blocks().partition_point(|block| block.last < start);
    for handle in tail.blocks().iter().skip(from) {
        let Some(block) = cached(handle) else {
            plan.lacks = Some(*handle);
            return plan;
        };
        // `next` is behind the page of the last entry taken: its older versions are passed over.
        for found in block.entries().iter().filter(|found| found.revision <= step.revision) {
            if found.page < plan.next {
                continue;
            }
            if found.page >= step.before {
                return plan;
            }
            let at = found.location.and_then(|location| find_body(entry, location));
            if let Some(at) = at.map(FrameAt::from).filter(|at| !plan.frames.contains(at)) {
                if bytes >= step.bytes.saturating_mul(files.len().max(1) as u64) {
                    return plan;
                }
                if wanted(found) {
                    files.insert(at.file);
                    bytes += u64::from(at.frame.bytes.get());
                    plan.frames.insert(at);
                }
            }
            plan.next = PageNo(found.page.0.saturating_add(1));
        }
    }
    plan.next = PageNo(u64::MAX);
    plan
}
