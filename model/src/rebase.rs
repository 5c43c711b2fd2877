//! Transactions that are overtaken: by other commits, by flushes, bulk commits and truncations.
//!
//! Two pages and their count. A transaction reads and writes pages, may cut off or grow, and is sent with
//! compares against its base; when they fail it looks for what changed since, in the changelog as far as its
//! mirror remembers it, else in staged pages and files, and moves its base or gives up. A compactor flushes,
//! leaves out what is older than the oldest readable revision, and removes pointers one by one.
//!
//! Promises: a transaction commits only if nothing of what it read or wrote changed since its snapshot; it
//! conflicts only if something did; and every readable revision reads as it was, from staged pages and files.

use crate::Case;
use crate::explore::{Model, compress};

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A commit does not compare the floor.
    NoFloor,
    /// A truncation puts no barrier.
    NoBarrierByTruncation,
    /// A bulk commit puts no barrier.
    NoBarrierByBulk,
    /// A commit does not compare the barrier.
    NoBarrier,
    /// Looking for what changed, truncations are passed over.
    TruncationOverlooked,
    /// Looking for what changed, the page count is passed over.
    CountOverlooked,
    /// Looking for what changed, the files of bulk commits are passed over.
    BulkOverlooked,
    /// A changelog that was forgotten up to the floor is taken for whole.
    ForgottenIsNothing,
    /// Files are believed below the oldest readable revision.
    OldestOverlooked,
    /// Truncations are not written to files.
    SizesNotInFiles,
    /// A write of the revision of a truncation counts as cut off by it.
    TruncationWinsTies,
    /// Only the newest version of each page is flushed.
    FlushNewestOnly,
    /// Pointers are removed whatever their revision.
    RemovalUnguarded,
}

const PAGES: usize = 2;
/// Most commits that there is room for.
const COMMITS: usize = 3;

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    /// Pages read.
    pub(crate) reads: [bool; PAGES],
    /// Pages written.
    pub(crate) writes: [bool; PAGES],
    /// Lowest page count on the way, and the one at the end.
    pub(crate) size: Option<(u8, u8)>,
    /// Whether it goes as a file.
    pub(crate) bulk: bool,
    /// Whether what it writes is all zeros.
    pub(crate) zeros: bool,
}

/// A commit, or room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Commit {
    revision: u8,
    writes: [bool; PAGES],
    size: Option<(u8, u8)>,
    bulk: bool,
    zeros: bool,
    /// Versions that files have.
    in_files: [bool; PAGES],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Transaction {
    New,
    Begun { snapshot: u8, base: u8 },
    Overtaken { snapshot: u8, base: u8 },
    Done,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    revision: u8,
    commits: [Commit; COMMITS],
    committed: usize,
    /// Mod revisions; 0 where there is no pointer.
    pointers: [u8; PAGES],
    count_modified: u8,
    barrier: u8,
    floor: u8,
    floor_modified: u8,
    oldest: u8,

    transactions: [Transaction; COMMITS],
    flushes: u8,
    raises: u8,
    wrong: Option<&'static str>,
}

/// A step's name, and whose it is.
pub(crate) type Step = (&'static str, usize);

/// The model, whole or with a rule left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rebase {
    /// What the transactions do.
    pub(crate) plans: [Plan; COMMITS],
    /// How often it is flushed.
    pub(crate) flushes: u8,
    /// The rule left out.
    pub(crate) fault: Option<Fault>,
}

const fn plan(reads: [bool; PAGES], writes: [bool; PAGES]) -> Plan {
    Plan { reads, writes, size: None, bulk: false, zeros: false }
}

const NEITHER: [bool; PAGES] = [false, false];
const FIRST: [bool; PAGES] = [true, false];
const SECOND: [bool; PAGES] = [false, true];
const BOTH: [bool; PAGES] = [true, true];
const CUT: Plan = Plan { size: Some((0, 1)), ..plan(NEITHER, NEITHER) };

/// What the transactions do, in every scenario.
pub(crate) const SCENARIOS: [(&str, [Plan; COMMITS]); 6] = [
    ("skew", [plan(FIRST, SECOND), plan(SECOND, FIRST), plan(NEITHER, BOTH)]),
    (
        "bulk",
        [plan(FIRST, SECOND), Plan { bulk: true, ..plan(SECOND, FIRST) }, plan(NEITHER, SECOND)],
    ),
    ("cut", [plan(FIRST, SECOND), CUT, plan(SECOND, FIRST)]),
    ("cut and write", [plan(FIRST, FIRST), Plan { writes: FIRST, ..CUT }, plan(SECOND, NEITHER)]),
    (
        "zeros",
        [plan(FIRST, SECOND), Plan { zeros: true, ..plan(NEITHER, FIRST) }, plan(NEITHER, FIRST)],
    ),
    (
        "count",
        [
            Plan { size: Some((2, 2)), ..plan(NEITHER, FIRST) },
            Plan { size: Some((2, 2)), ..plan(NEITHER, SECOND) },
            CUT,
        ],
    ),
];

/// Each rule, and the scenario that misses it.
pub(crate) const FAULTS: [(Fault, &str); 13] = [
    (Fault::NoFloor, "skew"),
    (Fault::NoBarrierByTruncation, "cut"),
    (Fault::NoBarrierByBulk, "bulk"),
    (Fault::NoBarrier, "bulk"),
    (Fault::TruncationOverlooked, "cut"),
    (Fault::CountOverlooked, "count"),
    (Fault::BulkOverlooked, "bulk"),
    (Fault::ForgottenIsNothing, "skew"),
    (Fault::OldestOverlooked, "zeros"),
    (Fault::SizesNotInFiles, "cut"),
    (Fault::TruncationWinsTies, "cut and write"),
    (Fault::FlushNewestOnly, "skew"),
    (Fault::RemovalUnguarded, "skew"),
];

impl Rebase {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

impl Plan {
    fn uses(&self, page: usize) -> bool {
        self.reads[page] || self.writes[page]
    }
}

impl State {
    fn all(&mut self) -> Vec<&mut u8> {
        let mut all = vec![
            &mut self.revision,
            &mut self.count_modified,
            &mut self.barrier,
            &mut self.floor,
            &mut self.floor_modified,
            &mut self.oldest,
        ];
        all.extend(
            self.pointers
                .iter_mut()
                .chain(self.commits.iter_mut().map(|commit| &mut commit.revision)),
        );
        for transaction in &mut self.transactions {
            if let Transaction::Begun { snapshot, base }
            | Transaction::Overtaken { snapshot, base } = transaction
            {
                all.extend([snapshot, base]);
            }
        }
        all
    }

    fn commits(&self) -> &[Commit] {
        &self.commits[..self.committed]
    }

    /// When `page` last changed at or before `revision`, by those writes and truncations that count.
    fn last_change(
        &self,
        page: usize,
        revision: u8,
        writes: impl Fn(&Commit) -> bool,
        cuts: impl Fn(&Commit) -> bool,
    ) -> (u8, u8) {
        let before = || self.commits().iter().filter(|commit| commit.revision <= revision);
        let last = |changes: &dyn Fn(&Commit) -> bool| {
            before()
                .filter(|commit| changes(commit))
                .map(|commit| commit.revision)
                .max()
                .unwrap_or(0)
        };
        let written = last(&|commit| commit.writes[page] && writes(commit));
        let cut = last(&|commit| {
            commit.size.is_some_and(|(lowest, _)| usize::from(lowest) <= page) && cuts(commit)
        });
        (written, cut)
    }

    /// When `page` last changed, and what it shows: the revision of a write, or 0 for zeros.
    fn truth(&self, page: usize, revision: u8) -> (u8, u8) {
        let (written, cut) = self.last_change(page, revision, |_| true, |_| true);
        (written.max(cut), if cut > written { 0 } else { self.content(written) })
    }

    /// What the write of `revision` put: itself, or 0 for zeros.
    fn content(&self, revision: u8) -> u8 {
        let is_zeros = |commit: &Commit| commit.zeros && commit.revision == revision;
        if self.commits().iter().any(is_zeros) { 0 } else { revision }
    }

    /// The same, as a reader finds it out.
    fn lookup(&self, page: usize, revision: u8, model: &Rebase) -> (u8, u8) {
        let unflushed = |commit: &Commit| commit.revision > self.floor;
        let (written, cut) = self.last_change(
            page,
            revision,
            |commit| commit.in_files[page] || (unflushed(commit) && !commit.bulk),
            |commit| unflushed(commit) || !model.lacks(Fault::SizesNotInFiles),
        );
        let hides =
            if model.lacks(Fault::TruncationWinsTies) { cut >= written } else { cut > written };
        (written.max(cut), if hides { 0 } else { self.content(written) })
    }

    fn send(
        &self,
        at: usize,
        (snapshot, base): (u8, u8),
        model: &Rebase,
        found: &mut Vec<(Step, State)>,
    ) {
        let plan = &model.plans[at];
        let unchanged = (0..PAGES).all(|page| !plan.uses(page) || self.pointers[page] <= base)
            && (plan.size.is_none() || self.count_modified <= base)
            && (self.floor_modified <= base || model.lacks(Fault::NoFloor))
            && (self.barrier <= base || model.lacks(Fault::NoBarrier));
        let mut next = *self;
        if !unchanged {
            next.transactions[at] = Transaction::Overtaken { snapshot, base };
            return found.push((("refused", at), next));
        }
        if self.changed_since(plan, snapshot) {
            next.wrong = Some("a commit whose pages had changed since its snapshot");
        }
        // What is there already is not written again.
        let shows = |page: usize| self.truth(page, snapshot).1 > 0;
        let writes = std::array::from_fn(|page| plan.writes[page] && (!plan.zeros || shows(page)));
        next.apply(at, &Plan { writes, ..*plan }, model);
        found.push((("committed", at), next));
    }

    /// True when something that `plan` uses has changed.
    fn changed_since(&self, plan: &Plan, snapshot: u8) -> bool {
        let newest = self.revision;
        (0..PAGES).any(|page| plan.uses(page) && self.truth(page, newest).0 > snapshot)
            || (plan.size.is_some() && self.count_modified > snapshot)
    }

    fn apply(&mut self, at: usize, plan: &Plan, model: &Rebase) {
        self.revision += 1;
        let revision = self.revision;
        let in_files = if plan.bulk { plan.writes } else { [false; PAGES] };
        let Plan { writes, size, bulk, zeros, .. } = *plan;
        let commit = Commit { revision, writes, size, bulk, zeros, in_files };
        self.commits[self.committed] = commit;
        self.committed += 1;
        for page in (0..PAGES).filter(|page| plan.writes[*page] && !plan.bulk) {
            self.pointers[page] = revision;
        }
        if plan.size.is_some() {
            self.count_modified = revision;
        }
        let cuts = plan.size.is_some_and(|(lowest, _)| usize::from(lowest) < PAGES);
        if cuts && !model.lacks(Fault::NoBarrierByTruncation)
            || plan.bulk && !model.lacks(Fault::NoBarrierByBulk)
        {
            self.barrier = revision;
        }
        self.transactions[at] = Transaction::Done;
    }

    /// Looks for what changed: by a mirror that remembers the changelog, and by one that was loaded after the
    /// last flush.
    fn rebase(
        &self,
        at: usize,
        (snapshot, base): (u8, u8),
        model: &Rebase,
        found: &mut Vec<(Step, State)>,
    ) {
        let plan = &model.plans[at];
        let count = plan.size.is_some()
            && self.count_modified > base
            && !model.lacks(Fault::CountOverlooked);
        let pages = |changed: &dyn Fn(usize) -> bool| {
            (0..PAGES).any(|page| plan.uses(page) && changed(page))
        };
        let remembered = pages(&|page| {
            let (written, cut) = self.last_change(
                page,
                self.revision,
                |commit| {
                    !commit.bulk || (commit.in_files[page] && !model.lacks(Fault::BulkOverlooked))
                },
                |_| !model.lacks(Fault::TruncationOverlooked),
            );
            written.max(cut) > base
        });
        let looked_up = pages(&|page| self.lookup(page, self.revision, model).0 > base);
        let reaches_back = self.floor <= base || model.lacks(Fault::ForgottenIsNothing);
        let by_files = self.commits().iter().any(|commit| commit.bulk && commit.revision > base);
        let loaded = if reaches_back {
            pages(&|page| {
                let recent = |commit: &Commit| commit.revision > self.floor;
                let (written, cut) = self.last_change(page, self.revision, recent, recent);
                written.max(cut) > base
            })
        } else {
            looked_up
        };
        let believable =
            |files: bool| !files || base >= self.oldest || model.lacks(Fault::OldestOverlooked);
        let ways = [
            ("rebased by what it remembers", remembered, believable(by_files)),
            ("rebased by what it finds", loaded, believable(by_files || !reaches_back)),
        ];
        for (step, changed, believable) in ways {
            let mut next = *self;
            next.transactions[at] = Transaction::Begun { snapshot, base: self.revision };
            if changed || count {
                if !self.changed_since(plan, snapshot) {
                    next.wrong = Some("a conflict though nothing had changed");
                }
                next.transactions[at] = Transaction::Done;
            } else if !believable {
                // Expired: its lease must have ended.
                next.transactions[at] = Transaction::Done;
            }
            found.push(((step, at), next));
        }
    }

    fn compactor(&self, model: &Rebase, found: &mut Vec<(Step, State)>) {
        if self.raises > 0 {
            for revision in
                self.commits().iter().map(|commit| commit.revision).chain([self.revision])
            {
                let mut next = *self;
                if revision > self.oldest {
                    (next.oldest, next.raises) = (revision, self.raises - 1);
                    found.push((("oldest raised", 0), next));
                }
            }
        }
        if self.flushes > 0 {
            let mut next = *self;
            next.flushes -= 1;
            next.flush(model);
            found.push((("flushed", 0), next));
        }
        for page in 0..PAGES {
            let flushed = self.pointers[page] <= self.floor || model.lacks(Fault::RemovalUnguarded);
            if self.pointers[page] > 0 && self.floor > 0 && flushed {
                let mut next = *self;
                next.pointers[page] = 0;
                found.push((("pointer removed", page), next));
            }
        }
    }

    fn flush(&mut self, model: &Rebase) {
        let up_to = self.revision;
        let old = *self;
        for page in 0..PAGES {
            let mut lies_lowest = true;
            for commit in &mut self.commits[..old.committed] {
                let there = commit.in_files[page] || (commit.revision > old.floor && !commit.bulk);
                let newest = |revision| {
                    old.last_change(page, revision, |_| true, |_| true).0 == commit.revision
                };
                let seen = commit.revision >= old.oldest && !model.lacks(Fault::FlushNewestOnly);
                let kept =
                    commit.writes[page] && there && (seen || newest(old.oldest) || newest(up_to));
                // Zeros with nothing below say what no entry says too.
                commit.in_files[page] = kept && !(commit.zeros && lies_lowest);
                lies_lowest &= !commit.in_files[page];
            }
        }
        self.revision += 1;
        (self.floor, self.floor_modified) = (up_to, self.revision);
    }
}

impl Model for Rebase {
    type State = State;
    type Step = Step;

    fn initial(&self) -> State {
        State {
            revision: 1,
            commits: [Commit::default(); COMMITS],
            committed: 0,
            pointers: [0; PAGES],
            count_modified: 1,
            barrier: 0,
            floor: 0,
            floor_modified: 0,
            oldest: 0,
            transactions: [Transaction::New; COMMITS],
            flushes: self.flushes,
            raises: 1,
            wrong: None,
        }
    }

    fn steps(&self, state: &State, found: &mut Vec<(Step, State)>) {
        for at in 0..COMMITS {
            match state.transactions[at] {
                Transaction::New => {
                    let mut next = *state;
                    let revision = state.revision;
                    next.transactions[at] =
                        Transaction::Begun { snapshot: revision, base: revision };
                    found.push((("begun", at), next));
                }
                Transaction::Begun { snapshot, base } => {
                    state.send(at, (snapshot, base), self, found)
                }
                Transaction::Overtaken { snapshot, base } => {
                    state.rebase(at, (snapshot, base), self, found)
                }
                Transaction::Done => {}
            }
        }
        state.compactor(self, found);
        for (_, state) in found {
            compress(state.all());
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        for revision in state.oldest..=state.revision {
            for page in 0..PAGES {
                if state.lookup(page, revision, self).1 != state.truth(page, revision).1 {
                    return Err("a readable revision reads otherwise than it was".into());
                }
            }
        }
        state.wrong.map_or(Ok(()), |promise| Err(promise.into()))
    }
}

/// Adds this model's cases.
pub(crate) fn cases(wide: bool, cases: &mut Vec<Case>) {
    let flushes = if wide { 3 } else { 2 };
    for (name, plans) in SCENARIOS {
        cases.push(Case::new(
            "rebase",
            name,
            None::<Fault>,
            Rebase { plans, flushes, fault: None },
        ));
        for (fault, _) in FAULTS.iter().filter(|(_, scenario)| *scenario == name) {
            let model = Rebase { plans, flushes, fault: Some(*fault) };
            cases.push(Case::new("rebase", name, Some(*fault), model));
        }
    }
}
