//! One seed, one run: chaos, then healing, then everything is looked at.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use object_store::ObjectStore;
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::internal::meta::{KeyRange, RangeRequest};
use pagestore::{
    CommitId, CommitToken, ErrorKind, PageNo, Resolution, Revision, StoreOptions, Volume,
};

use crate::chaos::{Crew, Left, Plan, reign};
use crate::client::UnderWay;
use crate::exec::WORLD;
use crate::model::Counts;
use crate::process::{EPOCH_MS, Process, ROOT, Site};

/// Virtual time within which all clients must have come to their end once everything healed.
const FINISH: Duration = Duration::from_secs(1_800);
/// Virtual time within which nothing may be left over after that: orphans wait for the clocks that are
/// ahead, and for the hourly sweep.
const DRAIN: Duration = Duration::from_secs(16 * 3_600);
/// Virtual time for the last look.
const SCRUB: Duration = Duration::from_secs(600);
/// For how long outcomes can be asked for, though clocks are wrong by hours.
const REMEMBERED: Duration = Duration::from_secs(10 * 3_600);
/// Commits of a volume whose outcomes are asked for.
const ASKED_FOR: usize = 16;
/// How long a store that went back in time is left to the compactors.
const BEHIND: Duration = Duration::from_secs(2 * 3_600);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Hash of all that happened.
    pub hash: u64,
    /// What was counted.
    pub counts: Counts,
    /// Requests to the tiers.
    pub calls: u64,
    /// Turns that tasks had.
    pub polls: u64,
    /// Virtual time of the part with clients.
    pub busy_virtual: Duration,
    /// Real time of that part.
    pub busy_real: Duration,
    /// All virtual time.
    pub all_virtual: Duration,
    /// All real time.
    pub all_real: Duration,
    /// What is wrong.
    pub violations: Vec<String>,
    /// What happened, if it was asked for.
    pub log: Vec<String>,
}

impl Outcome {
    /// Of a run of which nothing is known.
    #[must_use]
    pub fn empty(seed: u64) -> Outcome {
        Outcome {
            seed,
            hash: 0,
            counts: Counts::default(),
            calls: 0,
            polls: 0,
            busy_virtual: Duration::ZERO,
            busy_real: Duration::ZERO,
            all_virtual: Duration::ZERO,
            all_real: Duration::ZERO,
            violations: Vec::new(),
            log: Vec::new(),
        }
    }

    /// As text, for another process.
    #[must_use]
    pub fn render(&self) -> String {
        let counts = self.counts.to_array();
        let spans = [self.busy_virtual, self.busy_real, self.all_virtual, self.all_real];
        let spans = spans.map(|span| span.as_micros() as u64);
        let numbers = [&[self.hash, self.calls, self.polls][..], &spans, &counts].concat();
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let mut text = format!("outcome {}\n", numbers.join(" "));
        self.violations.iter().for_each(|line| text.push_str(&format!("wrong {line}\n")));
        self.log.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        text
    }

    /// What [`Outcome::render`] gave.
    #[must_use]
    pub fn parse(seed: u64, text: &str) -> Option<Outcome> {
        let (first, rest) = text.split_once('\n')?;
        let numbers = first.strip_prefix("outcome ")?.split(' ').map(str::parse);
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
        let span = |at: usize| Duration::from_micros(numbers[at]);
        let wrong = rest.lines().map_while(|line| line.strip_prefix("wrong "));
        let violations: Vec<String> = wrong.map(ToOwned::to_owned).collect();
        Some(Outcome {
            seed,
            hash: numbers[0],
            calls: numbers[1],
            polls: numbers[2],
            busy_virtual: span(3),
            busy_real: span(4),
            all_virtual: span(5),
            all_real: span(6),
            counts: Counts::from_array(numbers.get(7..)?.try_into().ok()?),
            log: rest.lines().skip(violations.len()).map(ToOwned::to_owned).collect(),
            violations,
        })
    }
}

/// Runs one seed on a thread of its own, so that nothing of another run is left in it.
#[must_use]
pub fn run(seed: u64, logs: bool) -> Outcome {
    run_prepared(seed, logs, || {})
}

/// As [`run`], after something was done on the run's thread.
#[must_use]
pub fn run_prepared(seed: u64, logs: bool, prepare: impl FnOnce() + Send + 'static) -> Outcome {
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).stack_size(16 << 20);
    let thread = thread.spawn(move || {
        prepare();
        crate::entropy::set(seed);
        run_here(seed, logs)
    });
    thread.expect("a thread").join().expect("BUG: panics are caught")
}

fn run_here(seed: u64, logs: bool) -> Outcome {
    let start = Instant::now();
    let site = Site::new(seed, logs);
    let plan = site.world.draw(Plan::draw);
    site.sky.log(&site.world, || format!("seed {seed}: {plan:#?}"));
    let mut busy = (Duration::ZERO, Duration::ZERO);
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| live(&site, &plan, start, &mut busy)));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        site.model().violate(format!("panicked: {}", text.unwrap_or_default()));
    }
    let effort = site.world.effort();
    let counts = site.model().counts;
    let violations = site.model().violations().to_vec();
    let outcome = Outcome {
        seed,
        hash: site.world.trace_hash(),
        counts,
        calls: site.sky.calls(),
        polls: effort.polls,
        busy_virtual: busy.0,
        busy_real: busy.1,
        all_virtual: Duration::from_micros(effort.now_us),
        all_real: start.elapsed(),
        violations,
        log: site.sky.take_log(),
    };
    site.world.end();
    outcome
}

fn live(site: &Site, plan: &Plan, start: Instant, busy: &mut (Duration, Duration)) {
    let under_way = UnderWay::default();
    let crew = Arc::new(Mutex::new(Crew::start(plan, site, &under_way)));
    let left: Arc<Mutex<Left>> = Arc::default();
    let chaos = reign(plan.clone(), site.clone(), under_way.clone(), crew.clone(), left.clone());
    let chaos = site.world.spawn_in(WORLD, chaos);
    let is_wrong = || !site.model().violations().is_empty();
    site.world.run(u64::MAX, || is_wrong() || chaos.is_done());
    let finished = run_for(site, FINISH, || is_wrong() || under_way.count() == 0);
    *busy = (Duration::from_micros(site.world.now_us()), start.elapsed());
    if is_wrong() {
        return;
    }
    if !finished {
        let what = format!("{} tasks of clients have not ended", under_way.count());
        site.model().violate(what);
        return;
    }
    crew.lock().unwrap().end_clients(site);
    drain(site);
    if is_wrong() {
        return;
    }
    scrub(site, plan);
    if let Some(backup) = left.lock().unwrap().backup.take()
        && !is_wrong()
    {
        go_back(site, plan, &mut crew.lock().unwrap(), &backup);
    }
}

pub(crate) fn run_for(site: &Site, time: Duration, done: impl FnMut() -> bool) -> bool {
    let until = site.world.now_us() + time.as_micros() as u64;
    site.world.run(until, done)
}

/// Waits until nothing is left that somebody has to tidy up.
pub(crate) fn drain(site: &Site) {
    let until = site.world.now_us() + DRAIN.as_micros() as u64;
    loop {
        run_for(site, Duration::from_secs(300), || false);
        let left = leftovers(site);
        if left.is_empty() {
            return;
        }
        if site.world.now_us() >= until {
            site.model().violate(format!("still there: {}", left.join(", ")));
            return;
        }
    }
}

fn leftovers(site: &Site) -> Vec<String> {
    let keys = StoreKeys::new(ROOT);
    let mut left = Vec::new();
    let volumes = site.model().volumes();
    for (id, deleted) in volumes {
        let volume = keys.volume(id);
        let count = |what: &str, keys: KeyRange, left: &mut Vec<String>| {
            let found = site.etcd.look(|store| store.range(&RangeRequest::new(keys)).unwrap());
            if found.count > 0 {
                left.push(format!("{} {what} of volume {id}", found.count));
            }
        };
        if deleted {
            count("keys", volume.everything(), &mut left);
            continue;
        }
        count("staged pages", volume.all_staged(), &mut left);
        count("pointers", volume.all_pointers(), &mut left);
        count("intents", volume.intents(), &mut left);
        let dropped = site.model().dropped_for_good(id);
        if dropped > 0 {
            left.push(format!("{dropped} dropped files of volume {id}"));
        }
        count("jobs", KeyRange::key(volume.job()), &mut left);
    }
    let known = site.model().known_files();
    let listed = futures::executor::block_on(site.bucket.objects().list(None).collect::<Vec<_>>());
    let mut objects = BTreeSet::new();
    for object in listed.into_iter().flatten() {
        let path = object.location.to_string();
        if !known.iter().any(|file| path.contains(file)) && !path.contains("probe-") {
            left.push(format!("object {path}"));
        }
        objects.insert(path);
    }
    left
}

/// A process looks at everything.
pub(crate) fn scrub(site: &Site, plan: &Plan) {
    let process = site.start(0);
    match site.world.drive(SCRUB, look_at_all(&process, plan.work.volumes)) {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            site.model().violate(format!("the last look: {:?}: {error}", error.kind()));
        }
        None => site.model().violate("the last look does not end"),
    }
    site.world.kill(process.id);
}

async fn look_at_all(process: &Process, volumes: u64) -> pagestore::Result<()> {
    let store = process.open(StoreOptions::default()).await?;
    for number in 0..volumes {
        let name = format!("v{number}");
        let volume = match store.open_volume(&name).await {
            Ok(volume) => volume,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let id = volume.id();
        let report = pagestore::inspect::verify(&store, &name, None, &|_| {}).await?;
        if !report.is_clean() {
            process.site.model().violate(format!("{name}: {:?}", report.findings));
        }
        let (head, oldest, created) = {
            let model = process.site.model();
            (model.head(id), model.oldest(id), model.created(id))
        };
        ask_for_outcomes(process, &volume).await?;
        // What is the oldest by now may be newer: a group of commits moves the head also when all are refused.
        let mut revisions = vec![head.max(oldest)];
        for _ in 0..3 {
            let (from, to) = (oldest.max(created), head.max(oldest));
            revisions.push(process.site.world.draw(|random| random.range(from, to + 1)));
        }
        for revision in revisions {
            let snapshot = volume.snapshot_at(Revision(revision)).await?;
            let count = snapshot.page_count().0;
            process.site.model().check_snapshot(id, revision, count, revision);
            for page in 0..count {
                let content = snapshot.read(PageNo(page)).await?;
                process.site.model().check_read(id, revision, page, &content);
            }
        }
    }
    Ok(())
}

/// What became of a commit can be asked for, at least for a day.
async fn ask_for_outcomes(process: &Process, volume: &Volume) -> pagestore::Result<()> {
    let site = &process.site;
    let commits = site.model().acknowledged(volume.id());
    let is_recent = |id: &CommitId| {
        let made = Duration::from_millis(id.made_ms().saturating_sub(EPOCH_MS));
        made + REMEMBERED > Duration::from_micros(site.world.now_us())
    };
    let mut commits: Vec<_> = commits.into_iter().filter(|(_, id, _)| is_recent(id)).collect();
    for _ in 0..ASKED_FOR.min(commits.len()) {
        let at = site.world.draw(|random| random.below(commits.len() as u64));
        let (base, commit, happened) = commits.swap_remove(at as usize);
        let token = CommitToken { volume: volume.id(), commit, base: Revision(base) };
        let resolution = volume.resolve(token).await?;
        if resolution != Resolution::Committed(Revision(happened)) {
            let what = format!("commit {commit} at {happened} is forgotten: {resolution:?}");
            site.model().violate(what);
        }
    }
    Ok(())
}

/// Etcd is restored from an older backup: that is noticed, and nothing is destroyed.
fn go_back(site: &Site, plan: &Plan, crew: &mut Crew, backup: &crate::etcd::Backup) {
    crew.end_compactors(site);
    run_for(site, Duration::from_secs(60), || false);
    let before = site.etcd.backup();
    site.model().set_blind(true);
    site.etcd.restore(backup, false);
    crew.start_compactors(plan, site);
    let process = site.start(0);
    let of = process.clone();
    let opened = process.site.world.spawn_in(process.id, async move {
        match of.open(StoreOptions::default()).await {
            Err(error) if error.kind() == ErrorKind::Invalid => {}
            other => {
                let what = format!("a store that was restored is opened: {:?}", other.err());
                of.site.model().violate(what);
            }
        }
    });
    run_for(site, BEHIND, || false);
    if !opened.is_done() {
        site.model().violate("a store that was restored is neither opened nor refused");
    }
    crew.end_compactors(site);
    site.world.kill(process.id);
    run_for(site, Duration::from_secs(60), || false);
    site.etcd.restore(&before, true);
    site.model().set_blind(false);
    scrub(site, plan);
}
