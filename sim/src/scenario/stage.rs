//! One scenario in a world of its own: prepared, done, and what is to be seen of it afterwards.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagestore::internal::meta::keys::{StoreKeys, VolumeKeys};
use pagestore::internal::meta::{KeyRange, RangeRequest};
use pagestore::{ErrorKind, Keep, StoreOptions, Volume, VolumeId};
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Tiers};

use super::act::{act_as_client, change};
use super::{LIMIT, Scenario};
use crate::chaos::{Crew, Plan};
use crate::client::{Client, Kind, Tracked, UnderWay, Work, Worker};
use crate::exec::WORLD;
use crate::link::Mishap;
use crate::model::Counts;
use crate::process::{Process, ROOT, Site};
use crate::run::{drain, run_for, scrub};

/// After so long nothing is in flight, and every lease of the dead has ended.
pub(super) const SETTLED: Duration = Duration::from_secs(60);

/// Who does what the scenario is about, ready to do it.
pub(super) enum Actor {
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
pub(super) struct Stage {
    pub(super) site: Site,
    pub(super) scenario: Scenario,
    plan: Plan,
}

impl Stage {
    pub(super) fn new(site: &Site, scenario: Scenario) -> Stage {
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

    pub(super) fn play(&self, at: Option<(u64, Mishap)>) -> u64 {
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
    pub(super) fn prepared<T: Send + 'static>(
        &self,
        process: &Process,
        what: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.perform(process, what).expect("BUG: nothing goes wrong before the scenario begins")
    }

    pub(super) fn pass(&self, time: Duration) {
        run_for(&self.site, time, || false);
    }

    pub(super) fn open_worker(&self, process: &Process) -> Worker {
        let client = Client::new(process, &self.plan.work, &UnderWay::default());
        self.prepared(process, async move { client.open_worker().await })
    }

    /// A compactor that flushes whatever is staged.
    pub(super) fn open_compactor(&self, process: &Process) -> Compactor {
        self.open_compactor_with(process, |options| options.flush_bytes = 1)
    }

    pub(super) fn open_compactor_with(
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

    pub(super) fn write(&self, mut worker: Worker, commits: u64) -> Worker {
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
    pub(super) fn compact(&self, volume: VolumeId, effort: Effort) {
        let process = self.site.start(0);
        let compactor = self.open_compactor(&process);
        self.prepared(&process, async move { compactor.compact(volume, effort).await })
            .expect("nothing goes wrong yet");
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

    pub(super) fn has_job(&self, volume: VolumeId) -> bool {
        self.count_keys(KeyRange::key(self.keys(volume).job())) > 0
    }

    pub(super) fn count_objects(&self) -> usize {
        self.site.bucket.count()
    }
}
