//! The executor of a simulation: tasks in an order that the seed chooses, time that passes only when
//! nothing else can happen, and processes, whose tasks end and halt together.
//!
//! Invariant: what runs next depends on the seed alone. Tasks that were woken are sorted before one of
//! them is drawn, so it does not matter in what order something woke them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use pagestore::internal::env::{Executor, Spawned};
use tokio::time::Instant;

use crate::random::Random;

/// Names a process of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub usize);

/// The servers and the simulation itself: never killed, never halted.
pub const WORLD: ProcessId = ProcessId(0);

/// Polls without a tick of the clock: more means that something spins.
const MAX_POLLS_A_TICK: u64 = 5_000_000;

/// How much was going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Turns that tasks had.
    pub polls: u64,
    /// Virtual time.
    pub now_us: u64,
}

/// The executor; clone it freely.
#[derive(Clone)]
pub struct World(Arc<Shared>);

struct Shared {
    start: Instant,
    inner: Mutex<Inner>,
    /// Tasks that were woken since the last turn.
    woken: Arc<Mutex<Vec<usize>>>,
}

struct Inner {
    now_us: u64,
    random: Random,
    hash: u64,
    polls: u64,
    polls_this_tick: u64,
    slots: Vec<Slot>,
    free: Vec<usize>,
    ready: Vec<usize>,
    timers: BinaryHeap<Reverse<(u64, u64)>>,
    timer_wakers: std::collections::HashMap<u64, Waker>,
    next_timer: u64,
    processes: Vec<Process>,
    current: Option<usize>,
    /// Processes to be killed once the present turn is over.
    doomed: Vec<ProcessId>,
}

#[derive(Default)]
struct Slot {
    /// `None` while the task has its turn.
    future: Option<BoxFuture<'static, ()>>,
    task: Option<Arc<TaskState>>,
}

struct Process {
    alive: bool,
    halted: bool,
    /// Tasks that were ready while the process was halted.
    parked: Vec<usize>,
}

/// What is known of a task, also by those who wake it.
struct TaskState {
    slot: usize,
    process: ProcessId,
    queued: AtomicBool,
    done: AtomicBool,
    woken: Arc<Mutex<Vec<usize>>>,
    waiting: Mutex<Vec<Waker>>,
    tag: Mutex<u32>,
}

impl Wake for TaskState {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.done.load(SeqCst) && !self.queued.swap(true, SeqCst) {
            unpoisoned(&self.woken).push(self.slot);
        }
    }
}

impl TaskState {
    fn finish(&self) {
        self.done.store(true, SeqCst);
        for waker in std::mem::take(&mut *unpoisoned(&self.waiting)) {
            waker.wake();
        }
    }
}

/// Set when the future that is driven is to be polled.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Locks what only the run's own thread uses: whoever had to wait would wait for itself.
pub(crate) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => panic!("BUG: the simulation waits for itself"),
    }
}

impl World {
    /// A world of its own, in which everything depends on `seed`.
    #[must_use]
    pub fn new(seed: u64) -> World {
        let inner = Inner {
            now_us: 0,
            random: Random::new(seed),
            hash: 0xcbf2_9ce4_8422_2325,
            polls: 0,
            polls_this_tick: 0,
            slots: Vec::new(),
            free: Vec::new(),
            ready: Vec::new(),
            timers: BinaryHeap::new(),
            timer_wakers: std::collections::HashMap::new(),
            next_timer: 0,
            processes: vec![Process { alive: true, halted: false, parked: Vec::new() }],
            current: None,
            doomed: Vec::new(),
        };
        let shared =
            Shared { start: Instant::now(), inner: Mutex::new(inner), woken: Arc::default() };
        World(Arc::new(shared))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        unpoisoned(&self.0.inner)
    }

    /// Microseconds since the beginning.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.inner().now_us
    }

    /// What the executor has done so far.
    #[must_use]
    pub fn effort(&self) -> Effort {
        let inner = self.inner();
        Effort { polls: inner.polls, now_us: inner.now_us }
    }

    /// Draws from the world's random numbers.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.inner().random)
    }

    /// Adds to the trace's hash.
    pub fn note(&self, words: &[u64]) {
        let mut inner = self.inner();
        for word in words.iter().copied().chain([inner.now_us]) {
            inner.hash = (inner.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    }

    /// Hash of everything that was noted.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        let inner = self.inner();
        inner.hash ^ inner.polls
    }

    /// A new process.
    pub fn add_process(&self) -> ProcessId {
        let mut inner = self.inner();
        inner.processes.push(Process { alive: true, halted: false, parked: Vec::new() });
        ProcessId(inner.processes.len() - 1)
    }

    /// True until the process was killed.
    #[must_use]
    pub fn is_alive(&self, process: ProcessId) -> bool {
        self.inner().processes[process.0].alive
    }

    /// Ends a process once the present turn is over: its tasks are dropped where they stand.
    pub fn kill(&self, process: ProcessId) {
        assert_ne!(process, WORLD, "BUG: the world does not end");
        let mut inner = self.inner();
        inner.processes[process.0].alive = false;
        inner.doomed.push(process);
    }

    /// Halts a process: its tasks get no turn until [`World::resume`].
    pub fn halt(&self, process: ProcessId) {
        assert_ne!(process, WORLD, "BUG: the world does not stand still");
        self.inner().processes[process.0].halted = true;
    }

    /// Lets a halted process go on.
    pub fn resume(&self, process: ProcessId) {
        let mut inner = self.inner();
        let process = &mut inner.processes[process.0];
        process.halted = false;
        let parked = std::mem::take(&mut process.parked);
        inner.ready.extend(parked);
    }

    /// The tag of the task that has its turn; 0 for none. It is part of the ids that the task makes.
    #[must_use]
    pub fn tag(&self) -> u32 {
        let inner = self.inner();
        let task = inner.current.and_then(|slot| inner.slots[slot].task.clone());
        drop(inner);
        task.map_or(0, |task| *unpoisoned(&task.tag))
    }

    /// Sets the tag of the task that has its turn.
    pub fn set_tag(&self, tag: u32) {
        let inner = self.inner();
        let task = inner.current.and_then(|slot| inner.slots[slot].task.clone());
        drop(inner);
        *unpoisoned(&task.expect("BUG: tags are for tasks").tag) = tag;
    }

    /// Runs `future` in `process`.
    pub fn spawn_in(
        &self,
        process: ProcessId,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> SimTask {
        self.spawn_boxed(process, Box::pin(future))
    }

    fn spawn_boxed(&self, process: ProcessId, future: BoxFuture<'static, ()>) -> SimTask {
        let mut inner = self.inner();
        let alive = inner.processes[process.0].alive;
        let slot = match inner.free.pop() {
            Some(slot) => slot,
            None => {
                inner.slots.push(Slot::default());
                inner.slots.len() - 1
            }
        };
        let task = Arc::new(TaskState {
            slot,
            process,
            queued: AtomicBool::new(true),
            done: AtomicBool::new(!alive),
            woken: self.0.woken.clone(),
            waiting: Mutex::default(),
            tag: Mutex::new(0),
        });
        let handle = SimTask { world: Arc::downgrade(&self.0), task: task.clone() };
        if alive {
            inner.slots[slot] = Slot { future: Some(future), task: Some(task) };
            inner.ready.push(slot);
        } else {
            // What the dead begin never happens.
            inner.free.push(slot);
            drop(inner);
            drop(future);
        }
        handle
    }

    /// Comes to an end when `duration` has passed.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let until = self.now_us().saturating_add(micros);
        Sleep { world: self.clone(), until, timer: None }
    }

    /// Runs until `done` says so, nothing is left to happen, or virtual time has come to `until_us`.
    /// True when `done` did.
    pub fn run(&self, until_us: u64, mut done: impl FnMut() -> bool) -> bool {
        loop {
            if done() {
                return true;
            }
            if !self.turn() && !self.pass_time(until_us) {
                return false;
            }
        }
    }

    /// Drives a future of nobody's until it ends, or `time` has passed.
    pub fn drive<T>(&self, time: Duration, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(flag.clone());
        let mut output = None;
        let until = self.now_us().saturating_add(time.as_micros() as u64);
        self.run(until, || {
            while flag.0.swap(false, SeqCst) {
                if let Poll::Ready(ready) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    output = Some(ready);
                    return true;
                }
            }
            false
        });
        output
    }

    /// Gives one task its turn; false when none is ready.
    fn turn(&self) -> bool {
        self.bury();
        let Some((slot, mut future, task)) = self.next_task() else { return false };
        task.queued.store(false, SeqCst);
        let waker = Waker::from(task.clone());
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut inner = self.inner();
        inner.current = None;
        let alive = inner.processes[task.process.0].alive && !task.done.load(SeqCst);
        if polled.is_pending() && alive {
            inner.slots[slot].future = Some(future);
            drop(inner);
        } else {
            inner.slots[slot] = Slot::default();
            inner.free.push(slot);
            drop(inner);
            task.finish();
            drop(future);
        }
        true
    }

    fn next_task(&self) -> Option<(usize, BoxFuture<'static, ()>, Arc<TaskState>)> {
        let mut woken = std::mem::take(&mut *unpoisoned(&self.0.woken));
        woken.sort_unstable();
        let mut inner = self.inner();
        inner.ready.append(&mut woken);
        while !inner.ready.is_empty() {
            let count = inner.ready.len() as u64;
            let at = inner.random.below(count) as usize;
            let slot = inner.ready.swap_remove(at);
            let Some(task) = inner.slots[slot].task.clone() else { continue };
            let process = &mut inner.processes[task.process.0];
            if !process.alive {
                continue;
            }
            if process.halted {
                process.parked.push(slot);
                continue;
            }
            let Some(future) = inner.slots[slot].future.take() else { continue };
            inner.current = Some(slot);
            inner.polls += 1;
            inner.polls_this_tick += 1;
            assert!(inner.polls_this_tick < MAX_POLLS_A_TICK, "tasks spin without time passing");
            return Some((slot, future, task));
        }
        None
    }

    /// Drops the tasks of processes that were killed.
    fn bury(&self) {
        loop {
            let mut dropped = Vec::new();
            {
                let mut inner = self.inner();
                let Some(process) = inner.doomed.pop() else { return };
                inner.processes[process.0].parked.clear();
                for slot in 0..inner.slots.len() {
                    let of = inner.slots[slot].task.as_ref().map(|task| task.process);
                    if of == Some(process) {
                        dropped.push(std::mem::take(&mut inner.slots[slot]));
                        inner.free.push(slot);
                    }
                }
            }
            // All are over before any is dropped: what is dropped may end others.
            dropped.iter().filter_map(|slot| slot.task.as_ref()).for_each(|task| task.finish());
            drop(dropped);
        }
    }

    /// Moves the clock to the next timer; false when there is none before `until_us`.
    fn pass_time(&self, until_us: u64) -> bool {
        let mut wakers = Vec::new();
        {
            let mut inner = self.inner();
            let next = inner.timers.peek().map(|Reverse((at, _))| *at);
            let Some(at) = next.or((until_us < u64::MAX).then_some(u64::MAX)) else {
                return false;
            };
            if at > until_us {
                inner.now_us = until_us;
                return false;
            }
            inner.now_us = inner.now_us.max(at);
            inner.polls_this_tick = 0;
            while let Some(Reverse((time, id))) = inner.timers.peek().copied() {
                if time > at {
                    break;
                }
                inner.timers.pop();
                wakers.extend(inner.timer_wakers.remove(&id));
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// The executor as the processes' environments see it.
    #[must_use]
    pub fn of(&self, process: ProcessId) -> ProcessWorld {
        ProcessWorld { world: self.clone(), process }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Futures may hold the world, so they are dropped first and outside of the lock.
        let inner = self.inner.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slots = std::mem::take(&mut inner.slots);
        drop(slots);
    }
}

impl World {
    /// Ends everything: to be called last, because tasks hold the world.
    pub fn end(&self) {
        let slots = {
            let mut inner = self.inner();
            inner.processes.iter_mut().for_each(|process| process.alive = false);
            (inner.timers, inner.timer_wakers) = Default::default();
            std::mem::take(&mut inner.slots)
        };
        slots.iter().filter_map(|slot| slot.task.as_ref()).for_each(|task| task.finish());
        drop(slots);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World(..)")
    }
}

/// A timer.
#[derive(Debug)]
pub struct Sleep {
    world: World,
    until: u64,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        let mut inner = world.inner();
        if inner.now_us >= self.until {
            if let Some(id) = self.timer.take() {
                inner.timer_wakers.remove(&id);
            }
            return Poll::Ready(());
        }
        let id = match self.timer {
            Some(id) => id,
            None => {
                let id = inner.next_timer;
                inner.next_timer += 1;
                inner.timers.push(Reverse((self.until, id)));
                id
            }
        };
        inner.timer_wakers.insert(id, context.waker().clone());
        drop(inner);
        self.timer = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.timer.take() {
            let waker = self.world.inner().timer_wakers.remove(&id);
            drop(waker);
        }
    }
}

/// A task of the simulation.
pub struct SimTask {
    world: Weak<Shared>,
    task: Arc<TaskState>,
}

impl SimTask {
    /// True once the task has come to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.task.done.load(SeqCst)
    }
}

impl fmt::Debug for SimTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimTask({})", self.task.slot)
    }
}

impl Spawned for SimTask {
    fn abort(&self) {
        let Some(shared) = self.world.upgrade() else { return };
        let world = World(shared);
        if self.task.done.swap(true, SeqCst) {
            return;
        }
        let mut inner = world.inner();
        // A task that ends itself is dropped when its turn is over.
        let slot = self.task.slot;
        if inner.current != Some(slot) {
            let dropped = std::mem::take(&mut inner.slots[slot]);
            inner.free.push(slot);
            drop(inner);
            self.task.finish();
            drop(dropped);
        }
    }

    fn is_finished(&self) -> bool {
        self.is_done()
    }

    fn finished(&self) -> BoxFuture<'static, ()> {
        let task = self.task.clone();
        Box::pin(std::future::poll_fn(move |context| {
            if task.done.load(SeqCst) {
                return Poll::Ready(());
            }
            unpoisoned(&task.waiting).push(context.waker().clone());
            Poll::Pending
        }))
    }
}

/// The executor of one process.
#[derive(Clone, Debug)]
pub struct ProcessWorld {
    world: World,
    process: ProcessId,
}

impl Executor for ProcessWorld {
    fn now(&self) -> Instant {
        self.world.0.start + Duration::from_micros(self.world.now_us())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.world.sleep(duration))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) -> Box<dyn Spawned> {
        Box::new(self.world.spawn_boxed(self.process, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> (Vec<u64>, u64) {
        let world = World::new(seed);
        let log: Arc<Mutex<Vec<u64>>> = Arc::default();
        let process = world.add_process();
        for task in 0..8 {
            let (of, log) = (world.clone(), log.clone());
            world.spawn_in(process, async move {
                for step in 0..3 {
                    of.sleep(Duration::from_millis(step)).await;
                    log.lock().unwrap().push(task * 10 + step);
                }
            });
        }
        assert!(!world.run(u64::MAX, || false));
        let log = log.lock().unwrap().clone();
        (log, world.now_us())
    }

    #[test]
    fn one_seed_gives_one_order() {
        assert_eq!(order(3), order(3));
        assert_ne!(order(3).0, order(4).0);
        assert_eq!(order(3).1, 3_000);
    }

    #[test]
    fn a_process_halts_goes_on_and_ends() {
        let world = World::new(1);
        let process = world.add_process();
        let count: Arc<Mutex<u64>> = Arc::default();
        let (of, counted) = (world.clone(), count.clone());
        world.spawn_in(process, async move {
            loop {
                of.sleep(Duration::from_secs(1)).await;
                *counted.lock().unwrap() += 1;
            }
        });
        let count = || *count.lock().unwrap();
        world.run(3_500_000, || false);
        assert_eq!(count(), 3);
        world.halt(process);
        world.run(9_500_000, || false);
        assert_eq!(count(), 3);
        world.resume(process);
        world.run(10_000_000, || false);
        assert_eq!(count(), 4);
        world.kill(process);
        world.run(60_000_000, || false);
        assert!(count() <= 5 && !world.is_alive(process));
    }
}
