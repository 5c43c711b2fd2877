//! Clock, randomness, sleeping and spawning: the only source of each, so that a test can replace them.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use uuid::Uuid;

use crate::types::{CommitId, FileId, SessionId, VolumeId};

/// Where wall-clock time and random bytes come from.
pub trait Source: Send + Sync {
    /// Milliseconds since the Unix epoch. May be wrong by any amount: nothing's safety rests on it.
    fn wall_ms(&self) -> u64;
    /// Fills `bytes` with random ones.
    fn fill(&self, bytes: &mut [u8]);
    /// Milliseconds since the machine was booted, sleep included: the same for all processes, and set
    /// by nobody. Unless a source says otherwise, that is what the operating system says.
    fn boot_ms(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let ms = now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000);
        u64::try_from(ms).unwrap_or(0)
    }
    /// Names the boot that [`Source::boot_ms`] counts from; empty where the system does not say.
    fn boot_id(&self) -> String {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        id.map(|id| id.trim().to_owned()).unwrap_or_default()
    }
    /// What runs tasks and measures time; tokio's runtime, on which the caller is, unless a source says
    /// otherwise.
    fn executor(&self) -> Option<&dyn Executor> {
        None
    }
}

/// Runs tasks and measures time in the place of tokio's runtime: a simulation's, which decides in what
/// order tasks go on, and ends or halts those of one process together.
pub trait Executor: Send + Sync {
    /// Now, for measuring spans.
    fn now(&self) -> Instant;
    /// Comes to an end when `duration` has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Runs `task` beside the caller.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> Box<dyn Spawned>;
}

/// A task that an [`Executor`] runs.
pub trait Spawned: fmt::Debug + Send + Sync {
    /// Drops the task, if it has not come to its end.
    fn abort(&self);
    /// True once the task has come to its end.
    fn is_finished(&self) -> bool;
    /// Waits for the task's end.
    fn finished(&self) -> BoxFuture<'static, ()>;
}

/// The environment of a store: clone it freely.
#[derive(Clone)]
pub struct Env(Arc<dyn Source>);

impl Env {
    /// The operating system's clock and randomness.
    #[must_use]
    pub fn system() -> Env {
        Env(Arc::new(System))
    }

    /// Randomness that depends on `seed` alone; the clock starts at a fixed time and moves by one
    /// millisecond a call. For tests.
    #[must_use]
    pub fn seeded(seed: u64) -> Env {
        Env(Arc::new(Seeded(Mutex::new((seed, 1_700_000_000_000)))))
    }

    /// An environment of one's own.
    pub fn new(source: impl Source + 'static) -> Env {
        Env(Arc::new(source))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.0.wall_ms()
    }

    /// Milliseconds since the machine was booted; see [`Source::boot_ms`].
    #[must_use]
    pub fn boot_ms(&self) -> u64 {
        self.0.boot_ms()
    }

    /// Names the machine's present boot; see [`Source::boot_id`].
    #[must_use]
    pub fn boot_id(&self) -> String {
        self.0.boot_id()
    }

    /// `N` random bytes.
    #[must_use]
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    /// A random number.
    #[must_use]
    pub fn random_u64(&self) -> u64 {
        u64::from_le_bytes(self.random_bytes())
    }

    fn uuid_v7(&self) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(self.wall_ms(), &self.random_bytes()).into_uuid()
    }

    /// A new commit id.
    #[must_use]
    pub fn commit_id(&self) -> CommitId {
        CommitId(self.uuid_v7())
    }

    /// A new file id.
    #[must_use]
    pub fn file_id(&self) -> FileId {
        FileId(self.uuid_v7())
    }

    /// A new volume id.
    #[must_use]
    pub fn volume_id(&self) -> VolumeId {
        VolumeId(self.random_u64())
    }

    /// A new session id.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        SessionId(self.random_u64() >> 1)
    }

    /// Time for measuring spans; follows tokio's clock, so a paused runtime pauses it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.executor().map_or_else(Instant::now, Executor::now)
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        match self.0.executor() {
            None => tokio::time::sleep(duration).await,
            Some(executor) => executor.sleep(duration).await,
        }
    }

    /// What `future` comes to, or `None` when `limit` passes first; then it is dropped.
    pub async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        // Also when the future has used up the task's turn.
        let mut limit = pin!(unconstrained(self.sleep(limit)));
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => limit.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// `duration` lengthened at random by up to a half, so that retries of many do not march in step.
    #[must_use]
    pub fn jittered(&self, duration: Duration) -> Duration {
        let half = u64::try_from(duration.as_micros() / 2).unwrap_or(u64::MAX);
        duration + Duration::from_micros(self.random_u64() % half.saturating_add(1))
    }

    /// Runs `work`, which may wait for a disk, off the async workers. `None` when the runtime is
    /// being shut down.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.0.executor().is_some() {
            return Some(work());
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => Some(done),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_shut_down) => None,
            },
        }
    }

    /// Runs `task` beside the caller; dropping the handle aborts it.
    pub fn spawn<F>(&self, task: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self.0.executor() {
            None => Task(Handle::Tokio(tokio::spawn(task))),
            Some(executor) => Task(Handle::Own(executor.spawn(Box::pin(task)))),
        }
    }

    /// Runs `body` on a thread of its own, named `name`, until it returns.
    pub fn spawn_thread(
        &self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
    }

    /// Runs `task` to its end if the caller is on a runtime; else does nothing. For what is only
    /// tidiness.
    pub fn spawn_if_running<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(executor) = self.0.executor() {
            drop(executor.spawn(Box::pin(task)));
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(task));
        }
    }

    /// Runs `task` to its end, whatever becomes of the caller.
    pub fn spawn_detached<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self.0.executor() {
            None => drop(tokio::spawn(task)),
            Some(executor) => drop(executor.spawn(Box::pin(task))),
        }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env(..)")
    }
}

/// A spawned task, aborted when this is dropped.
#[derive(Debug)]
pub struct Task(Handle);

#[derive(Debug)]
enum Handle {
    Tokio(tokio::task::JoinHandle<()>),
    Own(Box<dyn Spawned>),
}

impl Task {
    /// True once the task has come to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Handle::Tokio(task) => task.is_finished(),
            Handle::Own(task) => task.is_finished(),
        }
    }

    /// Waits for the task's end.
    ///
    /// # Panics
    /// When the task did.
    pub async fn join(mut self) {
        match &mut self.0 {
            Handle::Tokio(task) => {
                if let Err(error) = task.await
                    && let Ok(panic) = error.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            }
            Handle::Own(task) => task.finished().await,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        match &self.0 {
            Handle::Tokio(task) => task.abort(),
            Handle::Own(task) => task.abort(),
        }
    }
}

struct System;

impl Source for System {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(16) {
            // A v4 UUID has six fixed bits; folding two hides them.
            let (a, b) = (Uuid::new_v4().as_u128(), Uuid::new_v4().as_u128().rotate_left(61));
            let random = (a ^ b).to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(random) {
                *to = from;
            }
        }
    }
}

/// State: (splitmix64 state, wall clock in milliseconds).
struct Seeded(Mutex<(u64, u64)>);

impl Seeded {
    fn state(&self) -> std::sync::MutexGuard<'_, (u64, u64)> {
        self.0.lock().expect("BUG: no code panics while it holds the seeded state")
    }
}

impl Source for Seeded {
    fn wall_ms(&self) -> u64 {
        let mut state = self.state();
        state.1 += 1;
        state.1
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state();
        for chunk in bytes.chunks_mut(8) {
            state.0 = state.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            for (to, from) in chunk.iter_mut().zip((z ^ (z >> 31)).to_le_bytes()) {
                *to = from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let (a, b) = (Env::seeded(7), Env::seeded(7));
        assert_eq!(a.commit_id(), b.commit_id());
        assert_ne!(a.file_id(), a.file_id());
        assert_ne!(Env::seeded(8).random_u64(), Env::seeded(9).random_u64());
    }

    #[test]
    fn ids_carry_the_wall_clock() {
        assert_eq!(Env::seeded(1).commit_id().made_ms(), 1_700_000_000_001);
    }
}
