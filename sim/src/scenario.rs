//! The crash sweep: one thing that a process does, prepared until it is due, with a mishap at one of the
//! calls that it takes.
//!
//! Owns what is prepared and who does it. Whatever the mishap was, the others go on afterwards: everything
//! is tidied up in bounded time, and the last look finds what the model says.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagestore::internal::meta::keys::{StoreKeys, VolumeKeys};
use pagestore::internal::meta::{KeyRange, RangeRequest};
use pagestore::{
    ErrorKind, Keep, PageSize, Revision, StoreOptions, Volume, VolumeId, VolumeOptions,
};
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Tiers};

use crate::chaos::{Crew, Plan, Victim};
use crate::client::{Client, Failure, Kind, READ_HELD, Tracked, UnderWay, Work, Worker};
use crate::exec::WORLD;
use crate::link::Mishap;
use crate::model::Counts;
use crate::process::{Process, ROOT, Site};
use crate::run::{drain, run_for, scrub};

/// Virtual time that one thing may take, mishaps included.
const LIMIT: Duration = Duration::from_secs(900);
/// How long who was overtaken stands still: longer than any lease lives.
const STANDSTILL: Duration = Duration::from_secs(90);
/// After so long nothing is in flight, and every lease of the dead has ended.
const SETTLED: Duration = Duration::from_secs(60);
/// After so long an object that nobody names may be deleted, whoever's clock is asked.
const ORPHANED: Duration = Duration::from_secs(3_600);
/// How far a clock is ahead that takes what is new for old.
const AHEAD_MS: i64 = 6 * 3_600_000;
/// Somebody sweeps for so long, which is longer than anybody stands still.
const SWEEPING: Duration = Duration::from_secs(150);
/// When somebody does beside the victim what is to come in between: sooner than what is slow.
const BESIDE: Duration = Duration::from_secs(1);
/// Changes of a transaction that does not fit one level of operations.
const NESTED_PAGES: u64 = 300;
/// Pages of noise that a small budget turns into a file.
const BULK_PAGES: u64 = 140;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A commit of a few pages.
    Commit,
    /// A commit of more changes than one transaction has operations.
    NestedCommit,
    /// A commit by files.
    BulkCommit,
    /// One commit of two volumes.
    JointCommit,
    /// A commit that another one has overtaken, on other pages.
    OvertakenCommit,
    /// A volume is made.
    CreateVolume,
    /// A volume is deleted.
    DeleteVolume,
    /// What is staged goes into files.
    Flush,
    /// Files are merged, and what nobody can read any more is left out.
    Merge,
    /// Files are merged while a staged delta is against a version that only they hold, and that nobody can
    /// read any more.
    MergeBelowDelta,
    /// Objects of dropped files are deleted.
    Delete,
    /// Objects that were never published are deleted.
    Sweep,
    /// A compactor died in the midst of a flush; another one goes on.
    Resume,
    /// A compactor stands still in the midst of a flush; another one goes on, and then the first.
    Takeover,
    /// A deleted volume is erased.
    Erase,
    /// A commit by files, beside somebody who deletes what nobody names, by a clock that is hours ahead.
    SweptCommit,
    /// A look at what was, just before it can be read no longer.
    LookBack,
    /// What was can be read no longer, just after somebody looked at it.
    Raise,
    /// A client does a little of everything, beside another one and compactors.
    ClientsDay,
    /// A compactor does what is due, beside another one and clients.
    CompactorsDay,
}

/// All there are.
pub const SCENARIOS: [Scenario; 20] = [
    Scenario::Commit,
    Scenario::NestedCommit,
    Scenario::BulkCommit,
    Scenario::JointCommit,
    Scenario::OvertakenCommit,
    Scenario::CreateVolume,
    Scenario::DeleteVolume,
    Scenario::Flush,
    Scenario::Merge,
    Scenario::MergeBelowDelta,
    Scenario::Delete,
    Scenario::Sweep,
    Scenario::Resume,
    Scenario::Takeover,
    Scenario::Erase,
    Scenario::SweptCommit,
    Scenario::LookBack,
    Scenario::Raise,
    Scenario::ClientsDay,
    Scenario::CompactorsDay,
];

/// What one run of a crash sweep came to.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Calls to the tiers that the victim made while it did what the scenario is about.
    pub calls: u64,
    /// What is wrong.
    pub violations: Vec<String>,
}

/// Runs a scenario in a world of its own; `at` says at which call of the victim, from 1 on, it meets with
/// which mishap. Without one the scenario has to come about.
#[must_use]
pub fn run_scenario(seed: u64, scenario: Scenario, at: Option<(u64, Mishap)>) -> Swept {
    run_scenario_prepared(seed, scenario, at, || {})
}

/// As [`run_scenario`], after something was done on the run's thread.
#[must_use]
pub fn run_scenario_prepared(
    seed: u64,
    scenario: Scenario,
    at: Option<(u64, Mishap)>,
    prepare: impl FnOnce() + Send + 'static,
) -> Swept {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(move || {
        prepare();
        crate::entropy::set(seed);
        let site = Site::new(seed, false);
        let play = || match scenario {
            Scenario::ClientsDay => spend_a_day(&site, Victim::Client, at),
            Scenario::CompactorsDay => spend_a_day(&site, Victim::Compactor, at),
            _ => Stage::new(&site, scenario).play(at),
        };
        let calls = std::panic::catch_unwind(AssertUnwindSafe(play));
        let violations = site.model().violations().to_vec();
        site.world.end();
        let panicked = calls.is_err().then(|| "panicked".to_owned());
        Swept {
            calls: calls.unwrap_or_default(),
            violations: violations.into_iter().chain(panicked).collect(),
        }
    });
    thread.expect("a thread").join().expect("BUG: panics are caught")
}

fn spend_a_day(site: &Site, victim: Victim, at: Option<(u64, Mishap)>) -> u64 {
    let (plan, under_way) = (Plan::calm(), UnderWay::default());
    let mut crew = Crew::start(&plan, site, &under_way);
    let link = crew.first(victim).link.clone();
    if let Some((call, mishap)) = at {
        link.set_mishap(call, mishap);
    }
    let is_wrong = || !site.model().violations().is_empty();
    if !run_for(site, 2 * LIMIT, || is_wrong() || under_way.count() == 0) {
        let what = format!("{} tasks of clients have not ended", under_way.count());
        site.model().violate(what);
    }
    let calls = link.calls();
    crew.end_clients(site);
    if !is_wrong() {
        drain(site);
    }
    if !is_wrong() {
        scrub(site, &plan);
    }
    calls
}

/// Who does what the scenario is about, ready to do it.
enum Actor {
    Worker(Worker),
    /// With a transaction begun before it was overtaken.
    Overtaken(Box<(Worker, Volume, Tracked)>),
    Compactor(Compactor, VolumeId, Effort),
    /// Looks after all volumes.
    Host(Compactor),
}

/// What was there before, or after.
#[derive(Clone, Debug)]
struct Facts {
    counts: Counts,
    volumes: Vec<(VolumeId, bool)>,
    dropped: usize,
    is_flushed: bool,
    oldest: u64,
}

/// A world in which one scenario is played.
struct Stage {
    site: Site,
    scenario: Scenario,
    plan: Plan,
}

impl Stage {
    fn new(site: &Site, scenario: Scenario) -> Stage {
        let calm = Plan::calm();
        let work = Work {
            keep: Keep::Nothing,
            // What is read is known when it is written: so deltas are staged.
            page_cache_bytes: 64 << 20,
            staged_budget_bytes: match scenario {
                Scenario::BulkCommit | Scenario::SweptCommit | Scenario::Sweep => 96 << 10,
                _ => 512 << 20,
            },
            deletes: false,
            operations: 6,
            ..(*calm.work).clone()
        };
        let plan = Plan { clients: 1, work: Arc::new(work), ..calm };
        Stage { site: site.clone(), scenario, plan }
    }

    fn play(&self, at: Option<(u64, Mishap)>) -> u64 {
        let mut hand = self.open_worker(&self.site.start(0));
        hand = self.write(hand, 5);
        let volume = hand.volumes[0].id();
        let victim = self.site.start(0);
        let actor = self.prepare(&mut hand, &victim, volume);
        let before = self.look(volume);
        let begun_at = victim.link.calls();
        if let Some((call, mishap)) = at {
            victim.link.set_mishap(begun_at + call, mishap);
        }
        let acted = self.perform(&victim, self.act(actor));
        let calls = victim.link.calls() - begun_at;
        if at.is_none() {
            let after = self.look(volume);
            if acted.is_none() || !self.came_about(&before, &after, volume) {
                let what = format!("{:?} did not come about: {before:?}, {after:?}", self.scenario);
                self.site.model().violate(what);
            }
        }
        self.go_on(hand, &victim, acted.flatten());
        calls
    }

    /// Others work on, and all that was left is tidied up.
    fn go_on(&self, hand: Worker, victim: &Process, acted: Option<Worker>) {
        let site = &self.site;
        let hands = hand.process().id;
        let under_way = UnderWay::default();
        let mut crew = Crew::start(&self.plan, site, &under_way);
        let is_wrong = || !site.model().violations().is_empty();
        if !run_for(site, LIMIT, || is_wrong() || under_way.count() == 0) {
            site.model().violate("the others did not come to an end");
        }
        if let Some(mut worker) = acted {
            self.perform(victim, async move { worker.resolve_all().await });
        }
        drop(hand);
        [hands, victim.id].into_iter().for_each(|process| site.world.kill(process));
        crew.end_clients(site);
        if !is_wrong() {
            drain(site);
        }
        if !is_wrong() {
            scrub(site, &self.plan);
        }
    }

    /// Has something done in a process; nothing when the process has died over it.
    fn perform<T: Send + 'static>(
        &self,
        process: &Process,
        what: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (world, outcome) = (&self.site.world, Arc::new(Mutex::new(None)));
        let own = outcome.clone();
        let task = world.spawn_in(process.id, async move {
            let value = what.await;
            *own.lock().unwrap() = Some(value);
        });
        if !run_for(&self.site, LIMIT, || task.is_done() || !world.is_alive(process.id)) {
            self.site.model().violate(format!("{:?} does not come to an end", self.scenario));
        }
        outcome.lock().unwrap().take()
    }

    /// As [`Stage::perform`], for what no mishap hinders.
    fn prepared<T: Send + 'static>(
        &self,
        process: &Process,
        what: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.perform(process, what).expect("BUG: nothing goes wrong before the scenario begins")
    }

    fn pass(&self, time: Duration) {
        run_for(&self.site, time, || false);
    }

    fn open_worker(&self, process: &Process) -> Worker {
        let client = Client::new(process, &self.plan.work, &UnderWay::default());
        self.prepared(process, async move { client.open_worker().await })
    }

    /// A compactor that flushes whatever is staged.
    fn open_compactor(&self, process: &Process) -> Compactor {
        self.open_compactor_with(process, |options| options.flush_bytes = 1)
    }

    fn open_compactor_with(
        &self,
        process: &Process,
        change: impl FnOnce(&mut CompactorOptions),
    ) -> Compactor {
        let (own, process_id) = (process.clone(), process.id.0);
        let store = self.prepared(process, async move {
            own.open(StoreOptions::default()).await.expect("nothing goes wrong yet")
        });
        let owner = format!("process {process_id}");
        let mut options = CompactorOptions { owner, ..CompactorOptions::default() };
        change(&mut options);
        Compactor::new(Tiers::from(&store), options)
    }

    fn write(&self, mut worker: Worker, commits: u64) -> Worker {
        let process = worker.process().clone();
        self.prepared(&process, async move {
            for _ in 0..commits {
                for number in 0..worker.volumes.len() {
                    let outcome = change(&mut worker, number, 6, Kind::Change).await;
                    worker.judge(outcome);
                }
            }
            worker
        })
    }

    /// A compactor of its own does all that is due, and ends.
    fn compact(&self, volume: VolumeId, effort: Effort) {
        let process = self.site.start(0);
        let compactor = self.open_compactor(&process);
        self.prepared(&process, async move { compactor.compact(volume, effort).await })
            .expect("nothing goes wrong yet");
        self.site.world.kill(process.id);
        self.pass(SETTLED);
    }

    /// Makes what the scenario is about due, and opens what the victim needs.
    fn prepare(&self, hand: &mut Worker, victim: &Process, volume: VolumeId) -> Actor {
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
    fn flush_halfway(&self, volume: VolumeId) -> crate::exec::ProcessId {
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

    /// What the victim does; its worker when it has one still.
    fn act(&self, actor: Actor) -> impl Future<Output = Option<Worker>> + Send + 'static {
        let (site, scenario) = (self.site.clone(), self.scenario);
        async move {
            let compacted = match actor {
                Actor::Worker(mut worker) => {
                    let outcome = act_as_client(&mut worker, scenario).await;
                    worker.judge(outcome);
                    return Some(worker);
                }
                Actor::Overtaken(begun) => {
                    let (mut worker, volume, tracked) = *begun;
                    let outcome = worker.commit(vec![(volume, tracked)]).await;
                    worker.judge(outcome);
                    return Some(worker);
                }
                Actor::Compactor(compactor, volume, effort) => {
                    compactor.compact(volume, effort).await
                }
                Actor::Host(compactor) => {
                    let (stop, stopped) = tokio::sync::watch::channel(false);
                    let world = site.world.clone();
                    let until = site.world.spawn_in(WORLD, async move {
                        world.sleep(SETTLED).await;
                        stop.send_replace(true);
                    });
                    let outcome = compactor.run(None, &stopped).await;
                    drop(until);
                    outcome
                }
            };
            // Whatever has happened to it: it may not have got through, and nothing else.
            if let Err(error) = compacted
                && error.kind() != ErrorKind::Unavailable
            {
                site.model().violate(format!("{scenario:?}: {:?}: {error}", error.kind()));
            }
            None
        }
    }

    fn look(&self, volume: VolumeId) -> Facts {
        let model = self.site.model();
        Facts {
            counts: model.counts,
            volumes: model.volumes(),
            dropped: model.dropped_for_good(volume),
            is_flushed: model.is_flushed(volume),
            oldest: model.oldest(volume),
        }
    }

    /// True when the scenario did what its name says.
    fn came_about(&self, before: &Facts, after: &Facts, volume: VolumeId) -> bool {
        let commits = after.counts.commits - before.counts.commits;
        let bulk = after.counts.bulk_commits - before.counts.bulk_commits;
        let files = after.counts.files - before.counts.files;
        let deletions = after.counts.deletions - before.counts.deletions;
        let deleted = |facts: &Facts| facts.volumes.iter().filter(|(_, deleted)| *deleted).count();
        let flushed = !before.is_flushed && after.is_flushed && files > 0;
        match self.scenario {
            Scenario::Commit | Scenario::NestedCommit | Scenario::OvertakenCommit => {
                commits == 1 && bulk == 0
            }
            Scenario::BulkCommit | Scenario::SweptCommit => commits == 1 && bulk == 1,
            Scenario::LookBack => after.counts.snapshots == before.counts.snapshots + 1,
            Scenario::Raise => flushed && after.oldest > before.oldest,
            Scenario::JointCommit => commits == 2,
            Scenario::CreateVolume => after.volumes.len() == before.volumes.len() + 1,
            Scenario::DeleteVolume => deleted(after) == deleted(before) + 1,
            Scenario::Flush => flushed,
            Scenario::Merge => files > 0 && after.dropped > 0 && after.oldest > before.oldest,
            Scenario::MergeBelowDelta => {
                files > 0 && after.dropped > before.dropped && !after.is_flushed
            }
            Scenario::Delete => deletions > 1 && after.dropped < before.dropped,
            Scenario::Sweep => deletions == 1,
            // What the other one had written is thrown away.
            Scenario::Resume | Scenario::Takeover => flushed && deletions > 0,
            Scenario::Erase => {
                // The last few keys go an hour later, while the others work on.
                let keys = self.keys(volume);
                let contents = [keys.commits(), keys.all_pointers(), keys.all_staged()];
                let left: u64 = contents.into_iter().map(|range| self.count_keys(range)).sum();
                deleted(before) > 0 && deletions > 0 && left == 0
            }
            Scenario::ClientsDay | Scenario::CompactorsDay => true,
        }
    }

    fn keys(&self, volume: VolumeId) -> VolumeKeys {
        StoreKeys::new(ROOT).volume(volume)
    }

    fn count_keys(&self, keys: KeyRange) -> u64 {
        self.site.etcd.look(|store| store.range(&RangeRequest::new(keys)).unwrap().count)
    }

    fn has_job(&self, volume: VolumeId) -> bool {
        self.count_keys(KeyRange::key(self.keys(volume).job())) > 0
    }

    fn count_objects(&self) -> usize {
        self.site.bucket.count()
    }
}

async fn act_as_client(worker: &mut Worker, scenario: Scenario) -> Result<(), Failure> {
    match scenario {
        Scenario::NestedCommit => change(worker, 0, NESTED_PAGES, Kind::Change).await,
        Scenario::BulkCommit | Scenario::SweptCommit => {
            change(worker, 0, BULK_PAGES, Kind::Noise).await
        }
        Scenario::LookBack => {
            let volume = worker.volumes[0].id();
            let past = worker.process().site.model().head(volume) - 1;
            look_back(worker, past).await
        }
        Scenario::JointCommit => change_together(worker).await,
        Scenario::CreateVolume => create(worker).await,
        Scenario::DeleteVolume => {
            let id = worker.volumes[1].id();
            worker.store.delete_volume("v1").await.map_err(|error| ("delete a volume", id, error))
        }
        _ => change(worker, 0, 5, Kind::Change).await,
    }
}

async fn look_back(worker: &mut Worker, revision: u64) -> Result<(), Failure> {
    let volume = worker.volumes[0].clone();
    worker.look_back_to(volume, revision).await
}

/// Holds what was, if it can be read still, for longer than what is slow takes.
async fn look_back_for_long(worker: &mut Worker, revision: u64) -> Result<(), Failure> {
    let volume = worker.volumes[0].clone();
    let Ok(snapshot) = volume.snapshot_at(Revision(revision)).await else { return Ok(()) };
    worker.process().env.sleep(3 * BESIDE).await;
    worker.read(READ_HELD, &volume, &snapshot, 3).await
}

async fn create(worker: &mut Worker) -> Result<(), Failure> {
    let page_size = PageSize::new(worker.page_bytes() as u64).expect("a page size");
    let options = VolumeOptions { page_size, keep: Keep::Nothing };
    let id = worker.volumes[0].id();
    match worker.store.create_volume("another", options).await {
        Ok(volume) => worker.volumes.push(volume),
        Err(error) => return Err(("make a volume", id, error)),
    }
    change(worker, 2, 5, Kind::Change).await
}

async fn change_together(worker: &mut Worker) -> Result<(), Failure> {
    let mut volumes = worker.volumes.clone();
    volumes.sort_by_key(Volume::id);
    let mut parts = worker.begin_together(&volumes).await?;
    for (volume, tracked) in &mut parts {
        for page in 0..3 {
            let content = worker.unlike_any(Kind::Change, page);
            tracked.write(page, content).map_err(|error| ("write", volume.id(), error))?;
        }
    }
    worker.commit(parts).await
}

/// Commits changes of the first `count` pages of a volume, which are read before unless it is noise that
/// they become: so what they were is known, and what is staged is what differs.
async fn change(worker: &mut Worker, number: usize, count: u64, kind: Kind) -> Result<(), Failure> {
    let (volume, process) = (worker.volumes[number].clone(), worker.process().clone());
    let mut tracked = worker.begin(&volume).await?;
    for page in 0..count {
        if kind == Kind::Change {
            let read = tracked.read(&process, page, None).await;
            read.map_err(|error| ("read", volume.id(), error))?;
        }
        let content = worker.unlike_any(kind, page);
        tracked.write(page, content).map_err(|error| ("write", volume.id(), error))?;
    }
    worker.commit(vec![(volume, tracked)]).await
}
