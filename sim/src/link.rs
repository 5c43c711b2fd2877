//! What lies between a process and the two tiers: delay, loss, and what a crash sweep wants to happen at
//! a certain call.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pagestore::internal::meta::LeaseId;

use crate::exec::{ProcessId, WORLD, World, unpoisoned};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is applied and answered.
    Answered,
    /// It surely is not applied, and the process hears so.
    Refused,
    /// It is not applied; the process does not know.
    RequestLost,
    /// It is applied after this time; the process does not know.
    AnswerLost(Duration),
}

/// What goes wrong at the moment, in requests of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Refused outright.
    pub refused: u64,
    /// Lost before they are applied.
    pub request_lost: u64,
    /// Applied, but their answer lost.
    pub answer_lost: u64,
    /// Applied long after the process gave up.
    pub late: u64,
    /// Slow.
    pub slow: u64,
    /// Batches of watches that come late by seconds.
    pub watch_stalls: u64,
    /// Watches that lag behind a compaction and are ended by it.
    pub gaps: u64,
    /// Of requests to the blob tier: failed, whatever became of them.
    pub blob_fails: u64,
    /// Transactions that arrive twice.
    pub twice: u64,
    /// Of objects read: damaged on the way, once each.
    pub damaged: u64,
    /// No request gets through to etcd.
    pub etcd_down: bool,
    /// No request gets through to the blob tier.
    pub blobs_down: bool,
    /// The blob tier says of everything that it is not there.
    pub blobs_missing: bool,
    /// Of listings: broken off.
    pub lists_break: u64,
    /// Of objects put: there, or said to be, only after many seconds.
    pub slow_puts: u64,
}

/// What is to happen at one call of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The process dies before it.
    CrashBefore,
    /// The process dies once it was applied.
    CrashAfter,
    /// It surely is not applied.
    Error,
    /// It is not applied; the process does not know.
    RequestLost,
    /// It is applied; the process does not know.
    AnswerLost,
    /// It is applied when all others have moved on; the process does not know.
    Late,
    /// The process stands still for longer than any lease lives, and goes on.
    Stall,
    /// It is applied after a while; the process waits.
    Slow,
}

/// All that can happen at a call.
pub const MISHAPS: [Mishap; 8] = [
    Mishap::CrashBefore,
    Mishap::CrashAfter,
    Mishap::Error,
    Mishap::RequestLost,
    Mishap::AnswerLost,
    Mishap::Late,
    Mishap::Stall,
    Mishap::Slow,
];

/// How late a request is that comes late.
const LATE: Duration = Duration::from_secs(45);
/// How long a request takes that is slow.
const SLOW: Duration = Duration::from_secs(2);
/// How long a process stands still.
const STALL: Duration = Duration::from_secs(90);

/// The weather, shared by all links of a world.
#[derive(Clone, Debug, Default)]
pub struct Sky(Arc<Mutex<SkyState>>);

#[derive(Debug, Default)]
struct SkyState {
    weather: Weather,
    log: Option<Vec<String>>,
    calls: u64,
    /// Of which process leases are, and who lost one.
    leases: std::collections::BTreeMap<LeaseId, ProcessId>,
    lost: std::collections::BTreeSet<ProcessId>,
    /// Reads may say that objects are not there, or could until a moment ago.
    missing: bool,
    /// Objects that arrived damaged once.
    damaged: std::collections::BTreeSet<String>,
    /// What is to happen to a process at its next call of a kind.
    ambush: Option<(ProcessId, &'static str, Mishap)>,
}

impl Sky {
    fn state(&self) -> MutexGuard<'_, SkyState> {
        unpoisoned(&self.0)
    }

    /// Fine weather; keeps a log of what happens if asked to.
    #[must_use]
    pub fn new(logs: bool) -> Sky {
        let sky = Sky::default();
        sky.state().log = logs.then(Vec::new);
        sky
    }

    /// The weather now.
    #[must_use]
    pub fn weather(&self) -> Weather {
        self.state().weather
    }

    /// Changes the weather.
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.state().weather);
    }

    /// Has `mishap` happen to `process` at its next call of the kind `what`.
    pub fn lie_in_wait(&self, process: ProcessId, what: &'static str, mishap: Mishap) {
        self.state().ambush = Some((process, what, mishap));
    }

    /// What lies in wait goes away.
    pub fn let_pass(&self) {
        self.state().ambush = None;
    }

    fn spring(&self, process: ProcessId, what: &str) -> Option<Mishap> {
        let is_it =
            |ambush: &mut (ProcessId, &str, Mishap)| ambush.0 == process && ambush.1 == what;
        self.state().ambush.take_if(is_it).map(|ambush| ambush.2)
    }

    /// Requests so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Adds a line to the log, if there is one.
    pub fn log(&self, world: &World, line: impl FnOnce() -> String) {
        if self.state().log.is_none() {
            return;
        }
        let line = format!("{:>14.6} {}", world.now_us() as f64 / 1e6, line());
        self.state().log.as_mut().expect("BUG: there was a log").push(line);
    }

    /// The log so far.
    #[must_use]
    pub fn take_log(&self) -> Vec<String> {
        self.state().log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whose lease it is.
    #[must_use]
    pub fn holder_of(&self, lease: LeaseId) -> Option<ProcessId> {
        self.state().leases.get(&lease).copied()
    }

    /// A lease has ended.
    pub fn lease_ended(&self, lease: LeaseId) {
        let mut state = self.state();
        if let Some(process) = state.leases.get(&lease).copied() {
            state.lost.insert(process);
        }
    }

    /// Whether the blob tier says that nothing is there. What was begun meanwhile may hear of it later:
    /// `forgive` says when all of it has ended.
    pub fn set_missing(&self, missing: bool) {
        let mut state = self.state();
        state.weather.blobs_missing = missing;
        state.missing |= missing;
    }

    /// Nobody may speak of missing objects any more.
    pub fn forgive(&self) {
        let mut state = self.state();
        state.missing = state.weather.blobs_missing;
    }

    /// True when somebody may have heard that objects are missing.
    #[must_use]
    pub fn was_missing(&self) -> bool {
        self.state().missing
    }

    /// True when any object ever arrived damaged.
    #[must_use]
    pub fn was_damaged(&self) -> bool {
        !self.state().damaged.is_empty()
    }

    /// True the first time that `object` is asked about.
    fn damages(&self, object: &str) -> bool {
        self.state().damaged.insert(object.to_owned())
    }

    /// True when any lease of the process ever ended.
    #[must_use]
    pub fn lost_a_lease(&self, process: ProcessId) -> bool {
        self.state().lost.contains(&process)
    }
}

/// The way from one process to both tiers; clone it freely.
#[derive(Clone, Debug)]
pub struct Link {
    world: World,
    process: ProcessId,
    sky: Sky,
    plan: Arc<Mutex<Plan>>,
}

/// What is to happen at which call of this process.
#[derive(Debug, Default)]
struct Plan {
    calls: u64,
    mishap: Option<(u64, Mishap)>,
    /// What is to happen after the call under way.
    then: Option<Mishap>,
    /// Its uploads are never slow.
    uploads_fast: bool,
}

impl Link {
    /// The way from `process`.
    #[must_use]
    pub fn new(world: World, process: ProcessId, sky: Sky) -> Link {
        Link { world, process, sky, plan: Arc::default() }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        unpoisoned(&self.plan)
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.plan().calls
    }

    /// Spares the process slow uploads.
    pub fn set_uploads_fast(&self) {
        self.plan().uploads_fast = true;
    }

    /// Has `mishap` happen at the call after so many.
    pub fn set_mishap(&self, call: u64, mishap: Mishap) {
        self.plan().mishap = Some((call, mishap));
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        self.process
    }

    /// The weather.
    #[must_use]
    pub fn sky(&self) -> &Sky {
        &self.sky
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// A request sets out.
    pub async fn begin(&self, what: &'static str) -> Fate {
        let planned = self.planned().or_else(|| self.sky.spring(self.process, what));
        let weather = self.sky.weather();
        let (delay, fate) = self.world.draw(|random| {
            let delay = match random.below(1000) {
                draw if draw < weather.slow => random.range(50_000, 3_000_000),
                draw if draw > 990 => random.range(2_000, 40_000),
                _ => random.range(150, 900),
            };
            let losses = [weather.refused, weather.request_lost, weather.answer_lost, weather.late];
            let mut draw = random.below(1000);
            let mut fate = Fate::Answered;
            for (index, share) in losses.into_iter().enumerate() {
                if draw < share {
                    fate = match index {
                        0 => Fate::Refused,
                        1 => Fate::RequestLost,
                        2 => Fate::AnswerLost(Duration::from_micros(random.range(100, 900))),
                        _ => Fate::AnswerLost(Duration::from_millis(random.skewed(120_000))),
                    };
                    break;
                }
                draw -= share;
            }
            (Duration::from_micros(delay), fate)
        });
        let fate = if weather.etcd_down && !what.starts_with("blob") {
            if self.world.draw(|random| random.one_in(2)) {
                Fate::Refused
            } else {
                Fate::RequestLost
            }
        } else if weather.blobs_down && what.starts_with("blob") {
            Fate::Refused
        } else {
            fate
        };
        let delay = delay.max(self.draw_slowness(what));
        let delay = if planned == Some(Mishap::Slow) { delay.max(SLOW) } else { delay };
        let fate = match planned {
            None => fate,
            Some(Mishap::Slow) => Fate::Answered,
            Some(Mishap::CrashBefore) => self.die().await,
            Some(Mishap::Stall) => {
                self.stand_still();
                fate
            }
            Some(Mishap::CrashAfter) => {
                self.plan().then = Some(Mishap::CrashAfter);
                Fate::Answered
            }
            Some(Mishap::Error) => Fate::Refused,
            Some(Mishap::RequestLost) => Fate::RequestLost,
            Some(Mishap::AnswerLost) => Fate::AnswerLost(Duration::from_micros(300)),
            Some(Mishap::Late) => Fate::AnswerLost(LATE),
        };
        self.sky.log(&self.world, || match fate {
            Fate::Answered => format!("process {} {what}", self.process.0),
            fate => format!("process {} {what}: {fate:?}", self.process.0),
        });
        self.world.sleep(delay).await;
        fate
    }

    fn planned(&self) -> Option<Mishap> {
        self.sky.state().calls += 1;
        let mut plan = self.plan();
        plan.calls += 1;
        match plan.mishap {
            Some((call, mishap)) if call == plan.calls => Some(mishap),
            _ => None,
        }
    }

    async fn die(&self) -> Fate {
        self.world.kill(self.process);
        std::future::pending().await
    }

    fn stand_still(&self) {
        self.world.halt(self.process);
        let (world, process) = (self.world.clone(), self.process);
        self.world.spawn_in(WORLD, async move {
            world.sleep(STALL).await;
            world.resume(process);
        });
    }

    /// Carries a request that will be answered: it may arrive although its process dies on the way.
    pub async fn carry<T: Send + 'static>(&self, apply: impl FnOnce() -> T + Send + 'static) -> T {
        if !self.world.draw(|random| random.one_in(4)) {
            return apply();
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (world, delay) =
            (self.world.clone(), self.world.draw(|random| random.range(10, 3_000)));
        self.world.spawn_in(WORLD, async move {
            world.sleep(Duration::from_micros(delay)).await;
            let _ = sender.send(apply());
        });
        match receiver.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    }

    /// Has a request applied later, whatever becomes of the process.
    pub fn later(&self, delay: Duration, apply: impl FnOnce() + Send + 'static) {
        let (world, sky, process) = (self.world.clone(), self.sky.clone(), self.process);
        self.world.spawn_in(WORLD, async move {
            world.sleep(delay).await;
            sky.log(&world, || format!("process {}'s request arrives", process.0));
            apply();
        });
    }

    /// How much later a transaction arrives once more, if it does; zero: at once.
    #[must_use]
    pub fn draw_repeat(&self) -> Option<Duration> {
        let twice = self.sky.weather().twice;
        self.world.draw(|random| {
            random.permille(twice).then(|| match random.below(3) {
                0 => Duration::from_micros(1 + random.skewed(30_000_000)),
                _ => Duration::ZERO,
            })
        })
    }

    /// The bit that is flipped in so many bytes of an object read, if any is: once an object at most,
    /// for who reads again is to get it right.
    #[must_use]
    pub fn draw_damage(&self, object: &str, bytes: usize) -> Option<u64> {
        let damaged = self.sky.weather().damaged;
        let bit = self
            .world
            .draw(|random| random.permille(damaged).then(|| random.below(8 * bytes as u64)))?;
        (bytes > 0 && self.sky.damages(object)).then_some(bit)
    }

    /// An answer comes back.
    pub async fn end(&self, what: &'static str, is_ok: bool) {
        let words = [self.process.0 as u64, what.len() as u64, u64::from(is_ok)];
        self.world.note(&words);
        let then = self.plan().then.take();
        if then == Some(Mishap::CrashAfter) {
            self.die().await;
        }
        let delay = self.world.draw(|random| random.range(20, 400));
        let delay = Duration::from_micros(delay).max(self.draw_slowness(what));
        self.world.sleep(delay).await;
    }

    /// How long an object that is put takes.
    fn draw_slowness(&self, what: &str) -> Duration {
        let slow = if self.plan().uploads_fast { 0 } else { self.sky.weather().slow_puts };
        let ms = self.world.draw(|random| match what == "blob put" && random.permille(slow) {
            true => random.range(4_000, 40_000),
            false => 0,
        });
        Duration::from_millis(ms)
    }

    /// No answer comes back.
    pub async fn lose(&self, what: &'static str) {
        self.world.note(&[self.process.0 as u64, what.len() as u64, 2]);
        // A connection that breaks is noticed soon, one that is cut after a while.
        let wait = self.world.draw(|random| match random.below(3) {
            0 => random.range(5_000_000, 7_000_000),
            _ => random.range(500, 20_000),
        });
        self.world.sleep(Duration::from_micros(wait)).await;
    }

    /// A watch's batch is on its way.
    pub async fn delay_watch(&self) {
        let stalls = self.sky.weather().watch_stalls;
        let delay = self.world.draw(|random| match random.below(1000) {
            draw if draw < stalls => random.range(100_000, 25_000_000),
            draw if draw > 980 => random.range(1_000, 80_000),
            _ => random.range(50, 700),
        });
        self.world.sleep(Duration::from_micros(delay)).await;
    }

    /// How many of so many revisions a batch holds.
    #[must_use]
    pub fn draw_batch(&self, count: usize) -> usize {
        self.world.draw(|random| match random.below(4) {
            0 => 1 + random.below(count as u64) as usize,
            _ => count,
        })
    }

    /// Whether a batch says how far the store has come.
    #[must_use]
    pub fn draws_progress(&self) -> bool {
        self.world.draw(|random| random.one_in(12))
    }

    /// Whether a compaction ends a watch that lags behind it.
    #[must_use]
    pub fn draws_gap(&self) -> bool {
        let gaps = self.sky.weather().gaps;
        self.world.draw(|random| random.permille(gaps))
    }

    /// A lease was granted to the process.
    pub fn granted(&self, lease: LeaseId) {
        self.sky.state().leases.insert(lease, self.process);
    }
}
