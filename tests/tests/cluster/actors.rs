//! The processes: what is done to each, and to its connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagestore_tests::chaos::checker::Check;
use pagestore_tests::chaos::writer::Work;
use pagestore_tests::harness::{Fault, Process, Proxy, Seed};
use pagestore_tests::worker::{self, Compact, Role};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use super::{
    BUDGET, COMPACTORS, PATIENCE, Plan, QUOTA, Tally, VOLUME, WRITERS, Way, checkers_journal,
    journal,
};

const WORKER: &str = env!("CARGO_BIN_EXE_pagestore-test-worker");
/// How soon the end of a process is noticed.
const TICK: Duration = Duration::from_millis(10);
/// Longest pause of a writer between two transactions, in a run with many blows and in a long one.
const PAUSE_MS: [u64; 2] = [40, 10];
/// A process's lease lives for 20 s.
const BEYOND_ITS_LEASE: Duration = Duration::from_secs(24);

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Kill,
    Stop,
    StopBeyondItsLease,
    /// Something is wrong with its connections to one tier, or only to one etcd.
    Net(Fault),
    /// Its connections are cut, once.
    Cut,
}

/// Each is dealt once before any is dealt again.
const DECK: [Blow; 14] = [
    Blow::Kill,
    Blow::Kill,
    Blow::Kill,
    Blow::Kill,
    Blow::Stop,
    Blow::StopBeyondItsLease,
    Blow::Cut,
    Blow::Net(Fault::Delay(Duration::from_millis(60))),
    Blow::Net(Fault::Stall),
    Blow::Net(Fault::Refuse),
    Blow::Net(Fault::LoseAnswers),
    Blow::Net(Fault::EndAnswers),
    Blow::Net(Fault::CutAnswersAfter(20_000)),
    Blow::Net(Fault::CutOneIn(20)),
];

struct Actor {
    name: String,
    role: Role,
    way: Way,
    etcd: Vec<Proxy>,
    s3: Proxy,
    process: Process,
    /// What was done to it, until when.
    suffers: Option<(Blow, Instant)>,
}

/// All processes.
pub(super) struct Troupe {
    actors: Vec<Actor>,
    dir: PathBuf,
    rng: SmallRng,
    tally: Arc<Tally>,
    deck: Vec<Blow>,
    decks: u64,
    calm: u32,
    next: Instant,
}

impl Troupe {
    /// Starts them, each behind proxies of its own.
    pub(super) fn start(
        dir: &Path,
        way: &Way,
        plan: Plan,
        seed: Seed,
        tally: Arc<Tally>,
    ) -> Troupe {
        let mut actors = Vec::new();
        for writer in 1..=WRITERS {
            let name = format!("writer-{writer}");
            actors.push(Actor::start(name, dir, way, seed, |url| {
                Role::Write(Work {
                    url,
                    volume: VOLUME.to_owned(),
                    journal: journal(dir, writer),
                    writer,
                    seed: seed.0,
                    commits: usize::MAX,
                    pages: super::PAGES,
                    pause_ms: PAUSE_MS[usize::from(plan.calm > 1)],
                    staged_budget_bytes: BUDGET,
                    meta_quota_bytes: QUOTA,
                    may_expire: plan.may_expire(),
                })
            }));
        }
        for index in 0..COMPACTORS {
            actors.push(Actor::start(format!("compactor-{index}"), dir, way, seed, |url| {
                Role::Compact(Compact {
                    url,
                    flush_bytes: 48 << 10,
                    flush_versions: 150,
                    flush_age: Duration::from_secs(1),
                })
            }));
        }
        actors.push(Actor::start("checker".to_owned(), dir, way, seed, |url| {
            Role::Check(Check {
                url,
                volume: VOLUME.to_owned(),
                journal: checkers_journal(dir),
                pause_ms: 100,
                may_expire: plan.may_expire(),
            })
        }));
        let (dir, rng) = (dir.to_owned(), seed.rng());
        let (deck, next) = (Vec::new(), Instant::now());
        Troupe { actors, dir, rng, tally, deck, decks: 0, calm: plan.calm, next }
    }

    /// Whether each blow was dealt at least once.
    pub(super) fn has_done_all(&self) -> bool {
        self.decks > 1
    }

    /// Ends what has lasted long enough, and deals the next blow when its time has come.
    pub(super) async fn go_on(&mut self) {
        tokio::time::sleep(TICK).await;
        let now = Instant::now();
        for actor in &mut self.actors {
            actor.check();
            if actor.suffers.is_some_and(|(_, until)| until <= now) {
                actor.recover();
            }
        }
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_millis(self.rng.random_range(50..700)) * self.calm;
        if self.deck.is_empty() {
            self.deck = DECK.to_vec();
            self.deck.shuffle(&mut self.rng);
            self.decks += 1;
        }
        let well: Vec<usize> =
            (0..self.actors.len()).filter(|at| self.actors[*at].suffers.is_none()).collect();
        if !well.is_empty()
            && let Some(blow) = self.deck.pop()
        {
            let chosen = well[self.rng.random_range(0..well.len())];
            tokio::task::block_in_place(|| self.strike(chosen, blow));
        }
    }

    fn strike(&mut self, chosen: usize, blow: Blow) {
        let actor = &mut self.actors[chosen];
        let mut lasts = Duration::from_millis(self.rng.random_range(100..4_000));
        match blow {
            Blow::Kill => {
                actor.process.kill9();
                actor.process = spawn(&actor.name, &actor.role, &actor.way, &self.dir);
                self.tally.count("killed a process");
                return;
            }
            Blow::Cut => {
                actor.proxies().for_each(Proxy::cut);
                self.tally.count("cut all connections of a process");
                return;
            }
            Blow::Stop => {
                actor.process.stop();
                self.tally.count("stopped a process");
            }
            Blow::StopBeyondItsLease => {
                actor.process.stop();
                lasts = BEYOND_ITS_LEASE;
                self.tally.count("stopped a process beyond its lease");
            }
            Blow::Net(fault) => {
                let chance = self.rng.random_range(0..5);
                match actor.etcd.get(chance) {
                    // One of three, which its client can do without.
                    Some(one) => afflict(one, fault),
                    None if chance == 3 => actor.etcd.iter().for_each(|one| afflict(one, fault)),
                    None => afflict(&actor.s3, fault),
                }
                self.tally.count(name(fault));
            }
        }
        actor.suffers = Some((blow, Instant::now() + lasts));
    }

    /// Ends all that is done to anybody.
    pub(super) fn heal(&mut self) {
        self.actors.iter_mut().for_each(Actor::recover);
    }

    /// Has all processes come to their own end, the compactors last.
    pub(super) fn end(mut self) {
        let compactors = self.actors.split_off(WRITERS.into());
        for mut actor in self.actors.into_iter().chain(compactors) {
            actor.check();
            actor.process.terminate();
            let status = actor.process.wait(PATIENCE);
            let words = actor.process.last_words();
            assert!(status.is_some_and(|s| s.success()), "{} {status:?}: {words}", actor.name);
        }
    }
}

impl Actor {
    fn start(
        name: String,
        dir: &Path,
        way: &Way,
        seed: Seed,
        role: impl FnOnce(String) -> Role,
    ) -> Actor {
        let etcd: Vec<Proxy> = way.etcd.iter().map(|node| Proxy::before(*node, seed)).collect();
        let s3 = Proxy::before(way.s3.address, seed);
        let addresses = etcd.iter().map(Proxy::address).collect();
        let way = Way { etcd: addresses, s3: way.s3.through(s3.address()) };
        let role = role(way.url());
        let process = spawn(&name, &role, &way, dir);
        Actor { name, role, way, etcd, s3, process, suffers: None }
    }

    fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.etcd.iter().chain([&self.s3])
    }

    /// Nobody ends unasked.
    fn check(&mut self) {
        let status = self.process.exit_status();
        assert_eq!(status, None, "{}: {}", self.name, self.process.last_words());
    }

    fn recover(&mut self) {
        match self.suffers.take() {
            Some((Blow::Stop | Blow::StopBeyondItsLease, _)) => self.process.cont(),
            Some((Blow::Net(_), _)) => self.proxies().for_each(|proxy| proxy.set(Fault::None)),
            Some((Blow::Kill | Blow::Cut, _)) | None => {}
        }
    }
}

fn spawn(name: &str, role: &Role, way: &Way, dir: &Path) -> Process {
    worker::start_with(WORKER, role, &way.s3.env(), &dir.join(format!("log-{name}")))
}

fn afflict(proxy: &Proxy, fault: Fault) {
    proxy.set(fault);
    if fault == Fault::Refuse {
        proxy.cut();
    }
}

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::None => unreachable!("no fault at all"),
        Fault::Delay(_) => "made connections slow",
        Fault::Stall => "made connections silent",
        Fault::Refuse => "refused connections",
        Fault::LoseAnswers => "lost answers",
        Fault::EndAnswers => "half closed connections",
        Fault::CutAnswersAfter(_) => "cut answers short",
        Fault::CutOneIn(_) => "cut connections at random",
        Fault::FlipOneIn(_) => unreachable!("not here: gRPC has no checksums of its own"),
    }
}
