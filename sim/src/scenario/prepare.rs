//! What a scenario is about is made due.

use std::time::Duration;

use pagestore::VolumeId;
use pagestore_compactor::Effort;

use super::act::{BESIDE, BULK_PAGES, change, look_back_for_long};
use super::stage::{Actor, SETTLED, Stage};
use super::{LIMIT, Scenario};
use crate::client::{Kind, Worker};
use crate::exec::{ProcessId, WORLD};
use crate::process::Process;
use crate::run::run_for;

/// How long who was overtaken stands still: longer than any lease lives.
const STANDSTILL: Duration = Duration::from_secs(90);
/// After so long an object that nobody names may be deleted, whoever's clock is asked.
const ORPHANED: Duration = Duration::from_secs(3_600);
/// How far a clock is ahead that takes what is new for old.
const AHEAD_MS: i64 = 6 * 3_600_000;
/// Somebody sweeps for so long, which is longer than anybody stands still.
const SWEEPING: Duration = Duration::from_secs(150);

impl Stage {
    /// Makes what the scenario is about due, and opens what the victim needs.
    pub(super) fn prepare(&self, hand: &mut Worker, victim: &Process, volume: VolumeId) -> Actor {
        let compactor = |effort| Actor::Compactor(self.open_compactor(victim), volume, effort);
        match self.scenario {
            Scenario::OvertakenCommit => self.overtake(hand, victim),
            Scenario::Flush => compactor(Effort::Usual),
            Scenario::Merge => {
                self.flush_often(hand, volume, 4);
                compactor(Effort::Thorough)
            }
            Scenario::MergeBelowDelta => {
                self.flush_often(hand, volume, 3);
                self.stage_beside_a_flush(hand, volume);
                let compactor =
                    self.open_compactor_with(victim, |options| options.flush_age = Duration::MAX);
                Actor::Compactor(compactor, volume, Effort::Usual)
            }
            Scenario::Delete => {
                self.flush_often(hand, volume, 4);
                self.compact(volume, Effort::Thorough);
                compactor(Effort::Usual)
            }
            Scenario::Sweep => {
                self.leave_an_orphan();
                self.compact(volume, Effort::Usual);
                self.pass(ORPHANED);
                compactor(Effort::Usual)
            }
            Scenario::Resume => {
                let dying = self.flush_halfway(volume);
                self.site.world.kill(dying);
                self.pass(SETTLED);
                compactor(Effort::Usual)
            }
            Scenario::Takeover => {
                let compactor = compactor(Effort::Usual);
                let standing = self.flush_halfway(volume);
                self.site.world.halt(standing);
                let world = self.site.world.clone();
                self.site.world.spawn_in(WORLD, async move {
                    world.sleep(STANDSTILL).await;
                    world.resume(standing);
                });
                compactor
            }
            Scenario::Erase => {
                self.delete_what_is_flushed(hand, volume);
                Actor::Host(self.open_compactor(victim))
            }
            Scenario::SweptCommit => {
                // A flush would get into the commit's way.
                self.compact(volume, Effort::Usual);
                self.sweep_beside(volume);
                Actor::Worker(self.open_worker(victim))
            }
            Scenario::LookBack => {
                self.leave_a_past(hand, volume);
                let worker = self.open_worker(victim);
                let compactor = self.open_compactor(&self.site.start(0));
                self.do_beside(async move {
                    // It may be overtaken, or have nothing to do.
                    let _ = compactor.compact(volume, Effort::Usual).await;
                });
                Actor::Worker(worker)
            }
            Scenario::Raise => {
                self.leave_a_past(hand, volume);
                let mut worker = self.open_worker(&self.site.start(0));
                let past = self.site.model().head(volume) - 1;
                self.do_beside(async move {
                    let outcome = look_back_for_long(&mut worker, past).await;
                    worker.judge(outcome);
                });
                compactor(Effort::Usual)
            }
            _ => Actor::Worker(self.open_worker(victim)),
        }
    }

    /// The volume is deleted, and the hand goes on in another process.
    fn delete_what_is_flushed(&self, hand: &mut Worker, volume: VolumeId) {
        let store = hand.store.clone();
        self.compact(volume, Effort::Usual);
        self.prepared(&hand.process().clone(), async move {
            store.delete_volume("v0").await.expect("nothing goes wrong yet");
        });
        self.site.world.kill(hand.process().id);
        let next = self.open_worker(&self.site.start(0));
        drop(std::mem::replace(hand, next));
        self.pass(SETTLED);
    }

    /// Somebody deletes what nobody names, again and again, by a clock that is ahead.
    fn sweep_beside(&self, volume: VolumeId) {
        let process = self.site.start(AHEAD_MS);
        let compactor = self.open_compactor(&process);
        let (world, until) = (self.site.world.clone(), SWEEPING);
        process.spawn(async move {
            let end = world.now_us() + until.as_micros() as u64;
            while world.now_us() < end {
                // Each time anew: so each begins with a look at everything.
                let _ = compactor.compact(volume, Effort::Usual).await;
                world.sleep(BESIDE).await;
            }
        });
    }

    /// Revisions that can be read until the next flush, which nobody holds.
    fn leave_a_past(&self, hand: &Worker, volume: VolumeId) {
        self.compact(volume, Effort::Usual);
        self.write_once_more(hand, 3);
        self.pass(SETTLED);
    }

    /// Has something done a moment after the victim has begun.
    fn do_beside(&self, what: impl Future<Output = ()> + Send + 'static) {
        let world = self.site.world.clone();
        self.site.world.spawn_in(WORLD, async move {
            world.sleep(BESIDE).await;
            what.await;
        });
    }

    /// The victim begins a transaction, and another process commits other pages of the volume.
    fn overtake(&self, hand: &mut Worker, victim: &Process) -> Actor {
        let mut worker = self.open_worker(victim);
        let process = victim.clone();
        let (worker, volume, tracked) = self.prepared(victim, async move {
            let volume = worker.volumes[0].clone();
            let mut tracked = worker.begin(&volume).await.expect("nothing goes wrong yet");
            tracked.read(&process, 1, None).await.expect("nothing goes wrong yet");
            let content = worker.unlike_any(Kind::Change, 0);
            tracked.write(0, content).expect("nothing goes wrong yet");
            (worker, volume, tracked)
        });
        let other = volume.id();
        let process = hand.process().clone();
        let mut own = self.open_worker(&process);
        self.prepared(&process, async move {
            let volume =
                own.volumes.iter().find(|own| own.id() == other).expect("the same").clone();
            let mut tracked = own.begin(&volume).await.expect("nothing goes wrong yet");
            let content = own.unlike_any(Kind::Change, 3);
            tracked.write(3, content).expect("nothing goes wrong yet");
            let outcome = own.commit(vec![(volume, tracked)]).await;
            own.judge(outcome);
        });
        Actor::Overtaken(Box::new((worker, volume, tracked)))
    }

    fn flush_often(&self, hand: &Worker, volume: VolumeId, times: usize) {
        for _ in 0..times {
            self.compact(volume, Effort::Usual);
            self.write_once_more(hand, 2);
        }
    }

    fn write_once_more(&self, hand: &Worker, commits: u64) {
        let own = self.open_worker(&hand.process().clone());
        drop(self.write(own, commits));
    }

    /// Somebody commits while a flush is halfway; it is published, and then its compactor dies. So what
    /// is staged now is against what files hold that are older than the flush.
    fn stage_beside_a_flush(&self, hand: &Worker, volume: VolumeId) {
        let flushing = self.flush_halfway(volume);
        self.site.world.halt(flushing);
        self.write_once_more(hand, 1);
        self.site.world.resume(flushing);
        let files = || self.site.model().counts.files;
        let before = files();
        assert!(run_for(&self.site, LIMIT, || files() > before), "BUG: the flush was to go on");
        self.site.world.kill(flushing);
        self.pass(SETTLED);
    }

    /// A compactor begins a flush and has written a file when this returns, but not published it.
    fn flush_halfway(&self, volume: VolumeId) -> ProcessId {
        let process = self.site.start(0);
        let compactor = self.open_compactor(&process);
        process.spawn(async move { drop(compactor.compact(volume, Effort::Usual).await) });
        let objects = self.count_objects();
        let wrote = run_for(&self.site, LIMIT, || self.count_objects() > objects);
        assert!(wrote && self.has_job(volume), "BUG: the flush was to be halfway");
        process.id
    }

    /// A client dies when it has uploaded a file, before it publishes it.
    fn leave_an_orphan(&self) {
        let process = self.site.start(0);
        let mut worker = self.open_worker(&process);
        let objects = self.count_objects();
        process.spawn(async move {
            let outcome = change(&mut worker, 0, BULK_PAGES, Kind::Noise).await;
            worker.judge(outcome);
        });
        let wrote = run_for(&self.site, LIMIT, || self.count_objects() > objects);
        assert!(wrote, "BUG: the commit was to be large");
        self.site.world.kill(process.id);
        self.pass(SETTLED);
    }
}
