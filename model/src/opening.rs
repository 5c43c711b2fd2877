//! Opening, holding and reading a snapshot, while the oldest readable revision rises behind it.
//!
//! One page, written by commits. A session pins revisions and reads through a mirror that lags as long as it
//! likes; its lease may end without its knowing; one request to pin may arrive late. A compactor raises the
//! oldest readable revision, then reads the names and holds below it, then publishes files that leave out
//! what nobody may read. Somebody names a revision, and deletes the name.
//!
//! Promises: a read gives the version that its revision saw, or `Expired`; and `Expired` only if the
//! session's lease ended while the snapshot was held.

use crate::Case;
use crate::explore::{Model, compress};

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The oldest readable revision rises without a compare that no pin is below it.
    RaiseUnderPins,
    /// A pin is put without a compare that its revision is still kept.
    PinBelowOldest,
    /// A pin is changed without a compare of its own mod revision.
    PinOverwritten,
    /// A session goes on to hand out what its old pin covered while it raises it.
    RaisedInPassing,
    /// Names and holds are read before the oldest readable revision is raised.
    NamesReadFirst,
    /// A name is put without a compare that its revision is still kept.
    NameBelowOldest,
    /// A hold is put without a compare that the name is still there.
    HoldOnNothing,
    /// A reader does not ask whether its revision is still kept.
    ReadUnasked,
    /// A reader asks in one state of its mirror and looks up in another.
    AskedEarlier,
    /// Holds are not kept once the name is gone.
    HoldsForgotten,
}

/// Most commits that there is room for.
pub(crate) const COMMITS: usize = 3;

/// What the mirror follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Watched {
    revision: u8,
    commits: [u8; COMMITS],
    committed: usize,
    /// Versions up to here are in files or nowhere; `files` says which are.
    floor: u8,
    files: [bool; COMMITS],
    oldest: u8,
    oldest_modified: u8,
    name: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Pin {
    revision: u8,
    modified: u8,
}

/// A request to put the pin, with what it compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Request {
    pin: u8,
    pin_modified: u8,
    oldest_modified: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Snapshot {
    None,
    /// Held since the meta tier protects it; `lost` when the lease ended meanwhile.
    Held {
        revision: u8,
        lost: bool,
        asked: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Compactor {
    Idle,
    /// Names and holds as read; for a fault, before the raise.
    Read([Option<u8>; 2]),
    Raised {
        oldest: u8,
    },
    Planned {
        oldest: u8,
        keep: [Option<u8>; 2],
        floor: u8,
    },
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    meta: Watched,
    pin: Option<Pin>,
    hold: Option<u8>,
    late: Option<Request>,

    mirror: Watched,
    /// The pin as the session knows it; no pin after a lease that it knows to have ended.
    known: Option<Pin>,
    known_hold: Option<u8>,
    /// What the session hands out without asking: from here on.
    lowest: u8,
    snapshot: Snapshot,

    compactor: Compactor,
    left: Left,
    wrong: Option<&'static str>,
}

/// How often each may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    /// Commits, at most [`COMMITS`].
    pub(crate) commits: u8,
    /// Snapshots opened.
    pub(crate) opens: u8,
    /// Pins raised, or leases looked after.
    pub(crate) pins: u8,
    /// Leases that end.
    pub(crate) expiries: u8,
    /// Names put or deleted.
    pub(crate) names: u8,
    /// Compactions.
    pub(crate) compactions: u8,
}

/// The steps, by their names.
pub(crate) type Step = &'static str;

/// The model, whole or with a rule left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// The bounds.
    pub(crate) left: Left,
    /// The rule left out.
    pub(crate) fault: Option<Fault>,
}

/// Bounds within which every state is visited, from those that take a second.
pub(crate) const SCENARIOS: [(&str, Left); 3] = [
    ("pins", Left { commits: 2, opens: 2, pins: 1, expiries: 0, names: 0, compactions: 2 }),
    ("names", Left { commits: 2, opens: 1, pins: 0, expiries: 0, names: 2, compactions: 2 }),
    ("leases", Left { commits: 2, opens: 1, pins: 1, expiries: 1, names: 0, compactions: 1 }),
];

/// Wider bounds.
pub(crate) const WIDE: [(&str, Left); 3] = [
    ("wide pins", Left { commits: 3, opens: 2, pins: 2, expiries: 0, names: 0, compactions: 2 }),
    ("wide names", Left { commits: 2, opens: 2, pins: 1, expiries: 0, names: 2, compactions: 2 }),
    ("wide leases", Left { commits: 2, opens: 2, pins: 2, expiries: 1, names: 1, compactions: 1 }),
];

/// Each rule, and the scenario that misses it.
pub(crate) const FAULTS: [(Fault, &str); 10] = [
    (Fault::RaiseUnderPins, "pins"),
    (Fault::PinBelowOldest, "pins"),
    (Fault::PinOverwritten, "pins"),
    (Fault::RaisedInPassing, "pins"),
    (Fault::NamesReadFirst, "names"),
    (Fault::NameBelowOldest, "names"),
    (Fault::HoldOnNothing, "names"),
    (Fault::HoldsForgotten, "names"),
    (Fault::ReadUnasked, "leases"),
    (Fault::AskedEarlier, "leases"),
];

impl Opening {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

impl Watched {
    /// The commit that `revision` sees, of those that `has` tells are there.
    fn newest(&self, revision: u8, has: impl Fn(usize) -> bool) -> Option<u8> {
        let seen = |at: &usize| self.commits[*at] <= revision && has(*at);
        (0..self.committed).filter(seen).map(|at| self.commits[at]).max()
    }

    /// The revisions that differ in what they see.
    fn revisions(&self) -> impl Iterator<Item = u8> {
        let seen = [self.revision].into_iter().chain(self.name);
        let mut all: Vec<u8> = seen.chain(self.commits[..self.committed].to_vec()).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
    }

    fn all(&mut self) -> impl Iterator<Item = &mut u8> {
        let own =
            [&mut self.revision, &mut self.floor, &mut self.oldest, &mut self.oldest_modified];
        own.into_iter().chain(&mut self.commits).chain(&mut self.name)
    }

    fn truth(&self, revision: u8) -> Option<u8> {
        self.newest(revision, |_| true)
    }

    fn lookup(&self, revision: u8) -> Option<u8> {
        self.newest(revision, |at| self.commits[at] > self.floor || self.files[at])
    }
}

impl State {
    /// Every revision in it: they are only ever compared, so their ranks say the same.
    fn all(&mut self) -> Vec<&mut u8> {
        let mut all = vec![&mut self.lowest];
        all.extend(self.meta.all().chain(self.mirror.all()));
        all.extend(self.hold.iter_mut().chain(&mut self.known_hold));
        for pin in self.pin.iter_mut().chain(&mut self.known) {
            all.extend([&mut pin.revision, &mut pin.modified]);
        }
        if let Some(late) = &mut self.late {
            all.extend([&mut late.pin, &mut late.pin_modified, &mut late.oldest_modified]);
        }
        if let Snapshot::Held { revision, .. } = &mut self.snapshot {
            all.push(revision);
        }
        match &mut self.compactor {
            Compactor::Idle => {}
            Compactor::Read(keep) => all.extend(keep.iter_mut().flatten()),
            Compactor::Raised { oldest } => all.push(oldest),
            Compactor::Planned { oldest, keep, floor } => {
                all.extend([oldest, floor].into_iter().chain(keep.iter_mut().flatten()));
            }
        }
        all
    }

    fn tick(&mut self) -> u8 {
        self.meta.revision += 1;
        self.meta.revision
    }

    /// The transaction that puts the pin; true when its compares hold.
    fn put_pin(&mut self, request: Request, model: &Opening) -> bool {
        let modified = self.pin.map_or(0, |pin| pin.modified);
        if request.oldest_modified != self.meta.oldest_modified
            && !model.lacks(Fault::PinBelowOldest)
            || request.pin_modified != modified && !model.lacks(Fault::PinOverwritten)
        {
            return false;
        }
        let modified = self.tick();
        self.pin = Some(Pin { revision: request.pin, modified });
        true
    }

    fn request(&self, pin: u8) -> Request {
        let pin_modified = self.known.map_or(0, |pin| pin.modified);
        Request { pin, pin_modified, oldest_modified: self.mirror.oldest_modified }
    }

    fn writer(&self, found: &mut Vec<(Step, State)>) {
        if self.left.commits > 0 {
            let mut next = *self;
            next.left.commits -= 1;
            let revision = next.tick();
            next.meta.commits[next.meta.committed] = revision;
            next.meta.committed += 1;
            found.push(("commit", next));
        }
    }

    fn names(&self, model: &Opening, found: &mut Vec<(Step, State)>) {
        if self.left.names == 0 {
            return;
        }
        let mut next = *self;
        next.left.names -= 1;
        next.tick();
        if self.meta.name.is_some() {
            next.meta.name = None;
            return found.push(("name deleted", next));
        }
        for at in 0..self.meta.committed {
            let revision = self.meta.commits[at];
            if revision >= self.meta.oldest || model.lacks(Fault::NameBelowOldest) {
                next.meta.name = Some(revision);
                found.push(("name put", next));
            }
        }
    }

    fn session(&self, model: &Opening, found: &mut Vec<(Step, State)>) {
        if self.mirror != self.meta {
            found.push(("mirror follows", State { mirror: self.meta, ..*self }));
        }
        match self.snapshot {
            Snapshot::None => self.open(model, found),
            Snapshot::Held { revision, lost, asked } => {
                self.read((revision, lost, asked), model, found);
                found.push(("snapshot closed", State { snapshot: Snapshot::None, ..*self }));
            }
        }
        self.renew(model, found);
        if self.left.expiries > 0 && (self.pin.is_some() || self.hold.is_some()) {
            let mut next = State { pin: None, hold: None, ..*self };
            next.left.expiries -= 1;
            next.tick();
            if let Snapshot::Held { lost, .. } = &mut next.snapshot {
                *lost = true;
            }
            found.push(("lease ends", next));
        }
    }

    /// Opens any revision that the mirror takes for readable.
    fn open(&self, model: &Opening, found: &mut Vec<(Step, State)>) {
        if self.left.opens == 0 {
            return;
        }
        let mut opened = *self;
        opened.left.opens -= 1;
        for revision in self.mirror.revisions() {
            // A session that lost its lease and does not know it hands out what nobody protects; the
            // snapshot is as one whose lease ended.
            let lost = self.known.is_some() && self.known != self.pin;
            opened.snapshot = Snapshot::Held { revision, lost, asked: false };
            if self.known.is_some() && self.lowest <= revision {
                found.push(("opened under the pin", opened));
            } else if revision >= self.mirror.oldest {
                let request = self.request(revision);
                let mut next = opened;
                if next.put_pin(request, model) {
                    (next.known, next.lowest) = (next.pin, revision);
                    if let Snapshot::Held { lost, .. } = &mut next.snapshot {
                        *lost = false;
                    }
                    found.push(("pinned", next));
                }
            } else if self.mirror.name == Some(revision) {
                let mut next = opened;
                if self.meta.name == Some(revision) || model.lacks(Fault::HoldOnNothing) {
                    next.tick();
                    (next.hold, next.known_hold) = (Some(revision), Some(revision));
                    next.snapshot = Snapshot::Held { revision, lost: false, asked: false };
                    found.push(("held by name", next));
                }
            }
        }
    }

    fn read(
        &self,
        (revision, lost, asked): (u8, bool, bool),
        model: &Opening,
        found: &mut Vec<(Step, State)>,
    ) {
        let mirror = &self.mirror;
        let readable = revision >= mirror.oldest
            || mirror.name == Some(revision)
            || self.known_hold == Some(revision);
        if model.lacks(Fault::AskedEarlier) && !asked && readable {
            let snapshot = Snapshot::Held { revision, lost, asked: true };
            return found.push(("asked", State { snapshot, ..*self }));
        }
        let mut next = *self;
        if readable || asked || model.lacks(Fault::ReadUnasked) {
            if mirror.lookup(revision) != self.meta.truth(revision) {
                next.wrong = Some("a read gave another version than its revision saw");
            }
        } else if !lost {
            next.wrong = Some("a snapshot expired though its lease lives");
        }
        next.snapshot = Snapshot::Held { revision, lost, asked: false };
        found.push(("read", next));
    }

    /// Renews the lease, and raises the pin as far as what is held lets it.
    fn renew(&self, model: &Opening, found: &mut Vec<(Step, State)>) {
        if self.left.pins == 0 {
            return;
        }
        let mut next = *self;
        next.left.pins -= 1;
        if next.known.is_some() && next.pin.is_none() {
            (next.known, next.known_hold) = (None, None);
            return found.push(("lease found to have ended", next));
        }
        let Some(known) = self.known else { return };
        let target = match self.snapshot {
            Snapshot::Held { revision, .. } if revision >= self.mirror.oldest => revision,
            _ => self.mirror.revision,
        };
        if target <= known.revision {
            return;
        }
        let request = self.request(target);
        if !model.lacks(Fault::RaisedInPassing) {
            next.lowest = target;
        }
        let mut sent = next;
        if sent.put_pin(request, model) {
            (sent.known, sent.lowest) = (sent.pin, target);
            found.push(("pin raised", sent));
        }
        if self.late.is_none() {
            found.push(("pin raise under way", State { late: Some(request), ..next }));
        }
    }

    fn network(&self, model: &Opening, found: &mut Vec<(Step, State)>) {
        let Some(request) = self.late else { return };
        let mut next = State { late: None, ..*self };
        found.push(("late request lost", next));
        // Its lease may have ended: then it fails for that.
        if next.pin.is_some() && next.put_pin(request, model) {
            found.push(("late request arrives", next));
        }
    }

    fn compactor(&self, model: &Opening, found: &mut Vec<(Step, State)>) {
        let mut next = *self;
        let named =
            || [self.meta.name, if model.lacks(Fault::HoldsForgotten) { None } else { self.hold }];
        match self.compactor {
            Compactor::Idle if self.left.compactions == 0 => {}
            Compactor::Idle if model.lacks(Fault::NamesReadFirst) => {
                next.left.compactions -= 1;
                next.compactor = Compactor::Read(named());
                found.push(("names read", next));
            }
            Compactor::Idle => {
                next.left.compactions -= 1;
                next.raise(model, |oldest| Compactor::Raised { oldest }, found);
            }
            Compactor::Read(keep) => {
                let floor = next.meta.revision;
                next.raise(model, |oldest| Compactor::Planned { oldest, keep, floor }, found);
            }
            Compactor::Raised { oldest } => {
                let floor = self.meta.revision;
                next.compactor = Compactor::Planned { oldest, keep: named(), floor };
                found.push(("planned", next));
            }
            Compactor::Planned { oldest, keep, floor } => {
                next.publish(oldest, keep, floor);
                found.push(("published", next));
            }
        }
    }

    fn raise(
        self,
        model: &Opening,
        then: impl Fn(u8) -> Compactor,
        found: &mut Vec<(Step, State)>,
    ) {
        for oldest in self.meta.revisions().filter(|at| *at >= self.meta.oldest) {
            let pinned = self.pin.is_some_and(|pin| pin.revision < oldest);
            if pinned && !model.lacks(Fault::RaiseUnderPins) {
                continue;
            }
            let mut next = self;
            if oldest > next.meta.oldest {
                (next.meta.oldest, next.meta.oldest_modified) = (oldest, next.tick());
            }
            next.compactor = then(oldest);
            found.push(("oldest raised", next));
        }
    }

    /// Publishes files of every version up to `floor` that somebody may read.
    fn publish(&mut self, oldest: u8, keep: [Option<u8>; 2], floor: u8) {
        let old = self.meta;
        let seen = |at: usize| {
            let version = old.commits[at];
            let points = keep.into_iter().flatten().chain([oldest]);
            version >= oldest || points.into_iter().any(|point| old.lookup(point) == Some(version))
        };
        for at in 0..old.committed {
            let there = old.files[at] || old.commits[at] > old.floor;
            self.meta.files[at] = there && old.commits[at] <= floor && seen(at);
        }
        self.tick();
        self.meta.floor = floor.max(old.floor);
        self.compactor = Compactor::Idle;
    }
}

impl Model for Opening {
    type State = State;
    type Step = Step;

    fn initial(&self) -> State {
        let meta = Watched { revision: 1, oldest_modified: 1, ..Watched::default() };
        State {
            meta,
            pin: None,
            hold: None,
            late: None,
            mirror: meta,
            known: None,
            known_hold: None,
            lowest: 0,
            snapshot: Snapshot::None,
            compactor: Compactor::Idle,
            left: self.left,
            wrong: None,
        }
    }

    fn steps(&self, state: &State, found: &mut Vec<(Step, State)>) {
        state.writer(found);
        state.names(self, found);
        state.session(self, found);
        state.network(self, found);
        state.compactor(self, found);
        for (_, state) in found {
            compress(state.all());
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        state.wrong.map_or(Ok(()), |promise| Err(promise.into()))
    }
}

/// Adds this model's cases.
pub(crate) fn cases(wide: bool, cases: &mut Vec<Case>) {
    let widest = if wide { &WIDE[..] } else { &[] };
    for (name, left) in SCENARIOS.iter().chain(widest) {
        cases.push(Case::new("opening", name, None::<Fault>, Opening { left: *left, fault: None }));
        for (fault, _) in FAULTS.iter().filter(|(_, scenario)| scenario == name) {
            let model = Opening { left: *left, fault: Some(*fault) };
            cases.push(Case::new("opening", name, Some(*fault), model));
        }
    }
}
