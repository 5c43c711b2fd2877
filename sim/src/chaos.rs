//! What goes wrong, and when: drawn from the seed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagestore::{Keep, StoreOptions};
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Tiers};

use crate::client::{Client, UnderWay, Work};
use crate::etcd::Backup;
use crate::exec::{ProcessId, WORLD};
use crate::link::{MISHAPS, Weather};
use crate::process::{Process, Site};
use crate::random::Random;

/// What a run is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What clients do.
    pub work: Arc<Work>,
    /// Clients at once.
    pub clients: u64,
    /// Compactors at once.
    pub compactors: u64,
    /// How long things go wrong.
    pub chaos: Duration,
    /// Pause between two faults, in milliseconds, at most.
    pub fault_pause_ms: u64,
    /// The weather there always is.
    pub weather: Weather,
    /// Clocks are wrong by up to so much.
    pub skew_ms: u64,
    /// When compactors flush.
    pub flush: Flush,
    /// Somebody compacts volumes by hand, again and again.
    pub by_hand: Option<Effort>,
    /// Only clients meet with slow uploads.
    pub compactors_fast: bool,
    /// For how long listings break off once everything else has healed.
    pub lists_heal_s: u64,
}

/// What a run is about above all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// A little of everything.
    All,
    /// Commits as files, uploaded slowly, beside sweeps by clocks that are wrong.
    Uploads,
    /// What is about to be no longer readable, beside those who still want to read it.
    Retention,
    /// Volumes that are deleted and made anew, while listings break off.
    Erasures,
}

/// When compactors flush.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    bytes: u64,
    versions: u64,
    age_s: u64,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(random: &mut Random) -> Plan {
        let keep = match random.below(4) {
            0 => Keep::Nothing,
            1 => Keep::For(Duration::from_secs(random.range(5, 120))),
            2 => Keep::DEFAULT,
            _ => Keep::Forever,
        };
        let pages = random.pick(&[12, 60, 400]);
        // Commits share a transaction when more wait in one process than may be under way.
        let tasks = random.pick(&[1, 2, 3, 8]);
        let work = Work {
            volumes: random.range(1, 4),
            keep,
            pages,
            hot_pages: random.pick(&[3, 12, pages]),
            page_bytes: random.pick(&[512, 512, 512, 4096]),
            tasks,
            operations: random.range(60, 180) / tasks.max(2),
            pause_ms: random.pick(&[5, 200, 2_000]),
            staged_budget_bytes: random.pick(&[64 << 10, 96 << 10, 512 << 20]),
            page_cache_bytes: random.pick(&[0, 64 << 20]),
            disk_cache: false,
            deletes: random.one_in(3),
            bulk_percent: 0,
            look_back_percent: 0,
            delete_percent: 0,
        };
        let mut share = |most: u64| if random.one_in(2) { 0 } else { random.skewed(most) };
        let weather = Weather {
            refused: share(40),
            request_lost: share(40),
            answer_lost: share(60),
            late: share(40),
            slow: share(100),
            watch_stalls: share(60),
            gaps: share(600),
            blob_fails: share(100),
            twice: share(60),
            damaged: share(60),
            lists_break: share(400),
            slow_puts: share(600),
            ..Weather::default()
        };
        let flush = Flush {
            bytes: random.pick(&[4 << 10, 24 << 10, 200 << 10]),
            versions: random.pick(&[8, 60, 1_000]),
            age_s: random.pick(&[3, 20, 90]),
        };
        let plan = Plan {
            work: Arc::new(work),
            clients: random.range(4, 17),
            compactors: random.range(2, 4),
            chaos: Duration::from_secs(random.range(20, 180)),
            fault_pause_ms: random.pick(&[1_000, 5_000, 20_000]),
            weather,
            skew_ms: random.pick(&[0, 3_000, 6 * 3_600_000]),
            flush,
            by_hand: random.pick(&[None, None, None, Some(Effort::Thorough)]),
            compactors_fast: false,
            lists_heal_s: 0,
        };
        use Focus::{All, Erasures, Retention, Uploads};
        let focus = [All, All, All, All, All, All, All, Uploads, Retention, Erasures];
        let plan = plan.focused(random.pick(&focus));
        // A look ahead: what there is in a world without disks stays what it was.
        let disk_cache = random.clone().one_in(4);
        Plan { work: Arc::new(Work { disk_cache, ..(*plan.work).clone() }), ..plan }
    }

    fn focused(mut self, focus: Focus) -> Plan {
        let mut work = (*self.work).clone();
        match focus {
            Focus::All => return self,
            Focus::Uploads => {
                (work.staged_budget_bytes, work.bulk_percent) = (64 << 10, 30);
                (self.skew_ms, self.fault_pause_ms) = (6 * 3_600_000, 1_000);
                // What there is to do is left to the other one, so that it comes to sweeps soon.
                (self.compactors, self.by_hand) = (1, Some(Effort::Usual));
                (work.volumes, self.compactors_fast) = (1, true);
                // Many files: without a cache of indexes most time would go into decoding these.
                (work.operations, work.page_cache_bytes) = (work.operations / 2, 64 << 20);
                self.weather = Weather { slow_puts: 600, ..self.weather };
            }
            Focus::Retention => {
                (work.keep, work.look_back_percent) = (Keep::Nothing, 30);
                self.flush = Flush { age_s: 3, ..self.flush };
                // Nearly nobody loses a lease, so nearly nobody may hear that something expired.
                self.fault_pause_ms = 100_000;
                self.weather = Weather { slow: 300, watch_stalls: 30, ..Weather::default() };
                (self.clients, self.by_hand) = (self.clients.min(6), Some(Effort::Thorough));
            }
            Focus::Erasures => {
                work.delete_percent = 3;
                self.lists_heal_s = 3 * 3_600;
            }
        }
        Plan { work: Arc::new(work), ..self }
    }

    /// A little of everything, in fine weather: for one mishap at a time.
    #[must_use]
    pub fn calm() -> Plan {
        let work = Work {
            volumes: 2,
            keep: Keep::Nothing,
            pages: 12,
            hot_pages: 4,
            page_bytes: 512,
            tasks: 1,
            operations: 16,
            pause_ms: 400,
            staged_budget_bytes: 96 << 10,
            page_cache_bytes: 0,
            disk_cache: false,
            deletes: true,
            bulk_percent: 0,
            look_back_percent: 0,
            delete_percent: 0,
        };
        Plan {
            work: Arc::new(work),
            clients: 2,
            compactors: 2,
            chaos: Duration::ZERO,
            fault_pause_ms: 0,
            weather: Weather::default(),
            skew_ms: 0,
            flush: Flush { bytes: 4 << 10, versions: 8, age_s: 2 },
            by_hand: None,
            compactors_fast: false,
            lists_heal_s: 0,
        }
    }

    /// A clock's error.
    fn draw_skew(&self, site: &Site) -> i64 {
        let most = self.skew_ms;
        site.world.draw(|random| random.below(2 * most + 1) as i64 - most as i64)
    }

    /// Starts a client that does so many operations in each task.
    #[must_use]
    pub fn start_client(&self, site: &Site, under_way: &UnderWay, operations: u64) -> Process {
        let process = site.start(self.draw_skew(site));
        Client::start(&process, &self.work, under_way, operations);
        process
    }

    /// Starts a process that is no client.
    fn start_other(&self, site: &Site) -> Process {
        let process = site.start(self.draw_skew(site));
        if self.compactors_fast {
            process.link.set_uploads_fast();
        }
        process
    }

    /// Starts a compactor.
    #[must_use]
    pub fn start_compactor(&self, site: &Site) -> Process {
        let process = self.start_other(site);
        let options = CompactorOptions {
            flush_bytes: self.flush.bytes,
            flush_versions: self.flush.versions,
            flush_age: Duration::from_secs(self.flush.age_s),
            owner: format!("process {}", process.id.0),
            progress: None,
        };
        let own = process.clone();
        process.spawn(async move {
            // As the sidecar does, started again for as long as it does not come up.
            let store = loop {
                match own.open(StoreOptions::default()).await {
                    Ok(store) => break store,
                    Err(_) => own.sleep_ms(5_000).await,
                }
            };
            let (stop, stopped) = tokio::sync::watch::channel(false);
            let compactor = Compactor::new(Tiers::from(&store), options);
            if let Err(error) = compactor.run(None, &stopped).await {
                own.site.model().violate(format!("a compactor ended: {error}"));
            }
            drop(stop);
        });
        process
    }
}

/// Who meets with a mishap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// One of two clients.
    Client,
    /// One of two compactors: the other one takes over.
    Compactor,
}

/// The processes that live.
#[derive(Debug, Default)]
pub struct Crew {
    clients: Vec<Process>,
    compactors: Vec<Process>,
}

impl Crew {
    /// Starts everybody.
    #[must_use]
    pub fn start(plan: &Plan, site: &Site, under_way: &UnderWay) -> Crew {
        let operations = plan.work.operations;
        Crew {
            clients: (0..plan.clients)
                .map(|_| plan.start_client(site, under_way, operations))
                .collect(),
            compactors: (0..plan.compactors).map(|_| plan.start_compactor(site)).collect(),
        }
    }

    /// The first client, or the first compactor.
    #[must_use]
    pub fn first(&self, victim: Victim) -> &Process {
        match victim {
            Victim::Client => &self.clients[0],
            Victim::Compactor => &self.compactors[0],
        }
    }

    /// Ends all clients.
    pub fn end_clients(&mut self, site: &Site) {
        for client in self.clients.drain(..) {
            site.world.kill(client.id);
        }
    }

    /// Ends all compactors.
    pub fn end_compactors(&mut self, site: &Site) {
        for compactor in self.compactors.drain(..) {
            site.world.kill(compactor.id);
        }
    }

    /// Starts compactors anew.
    pub fn start_compactors(&mut self, plan: &Plan, site: &Site) {
        self.compactors = (0..plan.compactors).map(|_| plan.start_compactor(site)).collect();
    }
}

/// What chaos leaves behind.
#[derive(Debug, Default)]
pub struct Left {
    /// A backup from the midst of it.
    pub backup: Option<Backup>,
}

/// Lets things go wrong until the time is over; then everything heals.
pub async fn reign(
    plan: Plan,
    site: Site,
    under_way: UnderWay,
    crew: Arc<Mutex<Crew>>,
    left: Arc<Mutex<Left>>,
) {
    let end = site.world.now_us() + plan.chaos.as_micros() as u64;
    let weather = plan.weather;
    site.sky.change(|now| *now = weather);
    if let Some(effort) = plan.by_hand {
        site.world.spawn_in(WORLD, compact_by_hand(plan.clone(), site.clone(), effort, end));
    }
    while site.world.now_us() < end {
        let pause = site.world.draw(|random| random.skewed(plan.fault_pause_ms));
        sleep(&site, pause).await;
        replace_the_dead(&plan, &site, &under_way, &crew);
        let draw = site.world.draw(|random| random.below(24));
        let span = site.world.draw(|random| random.skewed(40_000) + 1);
        match draw {
            0..4 => kill_one(&plan, &site, &under_way, &crew).await,
            4..6 => halt_one(&site, &crew, span),
            6 => for_a_while(&site, span.min(15_000), |now, on| now.etcd_down = on).await,
            7 => for_a_while(&site, span, |now, on| now.blobs_down = on).await,
            8 => {
                for_a_while(&site, span, |now, on| now.lists_break = if on { 1000 } else { 0 })
                    .await
            }
            9 => {
                site.etcd.set_full(true);
                sleep(&site, span).await;
                site.etcd.set_full(false);
            }
            10 => end_a_lease(&site),
            11 if span.is_multiple_of(2) => site.etcd.cut_watches(),
            11 => {
                for_a_while(&site, span.min(4_000), |now, on| now.etcd_down = on).await;
                site.etcd.change_leader();
            }
            12 => compact(&site),
            // Of a time when there was a store.
            13 if left.lock().unwrap().backup.is_none() && !site.model().volumes().is_empty() => {
                left.lock().unwrap().backup = Some(site.etcd.backup());
            }
            14 => {
                site.sky.set_missing(true);
                site.sky.log(&site.world, || "every object is missing for a while".to_owned());
                sleep(&site, span.min(5_000)).await;
                site.sky.set_missing(false);
                // Whoever heard of it has told by then.
                sleep(&site, 45_000).await;
                site.sky.forgive();
            }
            15 => storm(&site, span).await,
            16..18 => end_the_leases_of_one(&site),
            18..20 => restart_compactors(&plan, &site, &crew, span).await,
            _ => lie_in_wait(&site, &crew),
        }
    }
    site.sky.let_pass();
    replace_the_dead(&plan, &site, &under_way, &crew);
    let lists_break = if plan.lists_heal_s > 0 { 1000 } else { 0 };
    site.sky.change(|now| *now = Weather { lists_break, ..Weather::default() });
    site.etcd.set_full(false);
    site.sky.log(&site.world, || "everything heals".to_owned());
    if lists_break > 0 {
        let own = site.clone();
        let heal = async move {
            sleep(&own, 1_000 * plan.lists_heal_s).await;
            own.sky.change(|now| now.lists_break = 0);
        };
        site.world.spawn_in(WORLD, heal);
    }
}

/// Somebody compacts one volume after the other, each time in a process of its own.
async fn compact_by_hand(plan: Plan, site: Site, effort: Effort, end: u64) {
    while site.world.now_us() < end {
        let process = plan.start_other(&site);
        let number = site.world.draw(|random| random.below(plan.work.volumes));
        let own = process.clone();
        let compaction = site.world.spawn_in(process.id, async move {
            let Ok(store) = own.open(StoreOptions::default()).await else { return };
            let Ok(volume) = store.open_volume(&format!("v{number}")).await else { return };
            let compactor = Compactor::new(Tiers::from(&store), CompactorOptions::default());
            // It may be deleted, or another compactor be at it, or anything.
            let _ = compactor.compact(volume.id(), effort).await;
        });
        let patience = site.world.now_us() + 30_000_000;
        while !compaction.is_done() && site.world.now_us() < patience {
            sleep(&site, 100).await;
        }
        site.world.kill(process.id);
        let pause = site.world.draw(|random| random.skewed(3_000));
        sleep(&site, pause).await;
    }
}

async fn sleep(site: &Site, ms: u64) {
    site.world.sleep(Duration::from_millis(ms)).await;
}

async fn for_a_while(site: &Site, ms: u64, set: impl Fn(&mut Weather, bool)) {
    site.sky.change(|now| set(now, true));
    site.sky.log(&site.world, || format!("{:?}", site.sky.weather()));
    sleep(site, ms).await;
    site.sky.change(|now| set(now, false));
}

/// Much is lost for a while.
async fn storm(site: &Site, ms: u64) {
    let before = site.sky.weather();
    site.sky.change(|now| {
        now.answer_lost += 150;
        now.request_lost += 100;
        now.late += 100;
        now.slow += 200;
    });
    sleep(site, ms).await;
    site.sky.change(|now| *now = before);
}

/// Kills a process where it stands; another one takes its place after a while.
async fn kill_one(plan: &Plan, site: &Site, under_way: &UnderWay, crew: &Arc<Mutex<Crew>>) {
    let (index, clients) = {
        let crew = crew.lock().unwrap();
        let clients = crew.clients.len();
        let all = clients + crew.compactors.len();
        (site.world.draw(|random| random.below(all as u64)) as usize, clients)
    };
    let victim = {
        let crew = crew.lock().unwrap();
        if index < clients {
            crew.clients[index].clone()
        } else {
            crew.compactors[index - clients].clone()
        }
    };
    site.sky.log(&site.world, || format!("process {} is killed", victim.id.0));
    site.world.kill(victim.id);
    if plan.work.disk_cache {
        let spoilt = site.world.draw(|random| site.disks.tear(victim.id, random));
        site.sky.log(&site.world, || format!("its machine crashes: {spoilt} files are torn"));
    }
    let pause = site.world.draw(|random| random.skewed(30_000));
    sleep(site, pause).await;
    let operations = plan.work.operations / 2;
    let mut crew = crew.lock().unwrap();
    if index < clients {
        crew.clients[index] = plan.start_client(site, under_way, operations);
    } else {
        crew.compactors[index - clients] = plan.start_compactor(site);
    }
}

/// Lets a process stand still; then it goes on as if nothing had been.
fn halt_one(site: &Site, crew: &Arc<Mutex<Crew>>, ms: u64) {
    let crew = crew.lock().unwrap();
    let all: Vec<&Process> = crew.clients.iter().chain(&crew.compactors).collect();
    let index = site.world.draw(|random| random.below(all.len() as u64)) as usize;
    let (id, own) = (all[index].id, site.clone());
    site.sky.log(&site.world, || format!("process {} stands still for {ms} ms", id.0));
    site.world.halt(id);
    site.world.spawn_in(WORLD, async move {
        sleep(&own, ms).await;
        own.world.resume(id);
    });
}

/// Others take the places of processes that died by themselves.
fn replace_the_dead(plan: &Plan, site: &Site, under_way: &UnderWay, crew: &Arc<Mutex<Crew>>) {
    let mut crew = crew.lock().unwrap();
    let operations = plan.work.operations / 2;
    for client in crew.clients.iter_mut().filter(|client| !site.world.is_alive(client.id)) {
        *client = plan.start_client(site, under_way, operations);
    }
    for compactor in crew.compactors.iter_mut().filter(|one| !site.world.is_alive(one.id)) {
        *compactor = plan.start_compactor(site);
    }
}

/// All compactors are killed, and started anew after a while: each begins with a look at everything.
async fn restart_compactors(plan: &Plan, site: &Site, crew: &Arc<Mutex<Crew>>, span: u64) {
    site.sky.log(&site.world, || "the compactors are started anew".to_owned());
    crew.lock().unwrap().end_compactors(site);
    sleep(site, span / 4).await;
    crew.lock().unwrap().start_compactors(plan, site);
}

/// A process will meet with something in the midst of a certain kind of call.
fn lie_in_wait(site: &Site, crew: &Arc<Mutex<Crew>>) {
    const CALLS: [&str; 8] =
        ["txn", "txn", "range", "blob put", "blob get", "blob delete", "blob list", "revoke"];
    let crew = crew.lock().unwrap();
    let all: Vec<ProcessId> =
        crew.clients.iter().chain(&crew.compactors).map(|one| one.id).collect();
    let (process, what, mishap) = site.world.draw(|random| {
        let only = if random.one_in(2) { &all[crew.clients.len()..] } else { &all[..] };
        (random.pick(only), random.pick(&CALLS), random.pick(&MISHAPS))
    });
    site.sky.log(&site.world, || format!("{mishap:?} awaits process {} at {what}", process.0));
    site.sky.lie_in_wait(process, what, mishap);
}

/// A process loses everything that it has leased.
fn end_the_leases_of_one(site: &Site) {
    let leases = site.etcd.leases();
    let processes: BTreeSet<ProcessId> =
        leases.iter().filter_map(|lease| site.sky.holder_of(*lease)).collect();
    let processes: Vec<ProcessId> = processes.into_iter().collect();
    if processes.is_empty() {
        return;
    }
    let process = site.world.draw(|random| random.pick(&processes));
    site.sky.log(&site.world, || format!("all leases of process {} end", process.0));
    for lease in leases.into_iter().filter(|lease| site.sky.holder_of(*lease) == Some(process)) {
        let _ = site.etcd.revoke(lease);
    }
}

fn end_a_lease(site: &Site) {
    let leases = site.etcd.leases();
    if !leases.is_empty() {
        let lease = site.world.draw(|random| random.pick(&leases));
        site.sky.log(&site.world, || format!("{lease:?} ends"));
        let _ = site.etcd.revoke(lease);
    }
}

fn compact(site: &Site) {
    let revision = site.etcd.look(|store| store.revision());
    let world = site.world.clone();
    let cut = || world.draw(|random| random.one_in(2));
    let compacted = site.etcd.compact(revision, cut);
    site.sky.log(&site.world, || format!("compaction at {revision}: {compacted:?}"));
}
