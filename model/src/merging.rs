//! Merges that publish, compactors that stall and die, and what deletes objects behind them.
//!
//! Three files of one version each. A merge takes two files and writes one whose index copies their bodies or
//! points into them; it is published by one transaction, whose answer may be lost, which may arrive late or
//! twice; its object may be put late. Two compactors take the claim from each other at any time. A dropped
//! object goes when no level list is older than its drop and no listed index points into it; what was never
//! published goes by a listing.
//!
//! A writer publishes a file of its own beside them, as a bulk commit does, under a lease that may end.
//!
//! Promises: every version lies in exactly one listed file; the object of every listed file, and every one that
//! its index points into, is there; and a reader whose level list is protected misses nothing that its list
//! names.

use crate::Case;
use crate::explore::{Model, compress};

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A publication compares neither claim nor job nor intent.
    OnlyInputsCompared,
    /// Nor that its inputs are listed.
    NothingCompared,
    /// What is thrown away is deleted before its job has ended and its intent is gone.
    DiscardedFirst,
    /// What is thrown away is deleted though it was published after all.
    DiscardedUnasked,
    /// An object goes while an index points into it.
    ReferencesOverlooked,
    /// A drop is not put again when the last index that points into it goes.
    DropNotRenewed,
    /// An object goes while a level list is older than its drop.
    LevelListsOverlooked,
    /// The clean-up asks what is published before it asks what is intended.
    PublishedFirst,
    /// The clean-up lists objects last.
    ListedLast,
}

/// Each rule.
pub(crate) const FAULTS: [Fault; 9] = [
    Fault::OnlyInputsCompared,
    Fault::NothingCompared,
    Fault::DiscardedFirst,
    Fault::DiscardedUnasked,
    Fault::ReferencesOverlooked,
    Fault::DropNotRenewed,
    Fault::LevelListsOverlooked,
    Fault::PublishedFirst,
    Fault::ListedLast,
];

/// Versions, and files that are there at the beginning.
const VERSIONS: usize = 3;
const FILES: usize = VERSIONS + 4;
/// The writer's file, which has a version of its own.
const BULK: usize = FILES - 1;
const COMPACTORS: usize = 2;

/// A set of files, or of versions.
type Set = u8;

const fn only(at: usize) -> Set {
    1 << at
}

const fn has(set: Set, at: usize) -> bool {
    set & only(at) != 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct File {
    /// Versions that its index has.
    versions: Set,
    /// Files that its index points into.
    refs: Set,
}

/// A publication under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Publication {
    token: u8,
    file: usize,
    inputs: Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Compactor {
    Idle,
    /// Announced; its object is not put yet.
    Announced(Publication),
    Put(Publication),
    Published(Publication),
    /// Its job has ended, its intent is gone.
    Discarding(usize),
    /// Nobody can publish it any more, and nobody has.
    Discarded(usize),
    Deleting(Set),
    /// What a listing found; then with what is intended, then with what is published.
    Listed(Set),
    Intended(Set),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    New,
    Announced,
    Put,
    Done,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    revision: u8,
    files: [File; FILES],
    /// Files begun so far.
    begun: usize,
    listed: Set,
    intents: Set,
    /// The revision of each drop; 0 for none.
    dropped: [u8; FILES],
    token: u8,
    job: Option<usize>,
    objects: Set,

    compactors: [Compactor; COMPACTORS],
    tokens: [u8; COMPACTORS],
    writer: Writer,
    late_publication: Option<Publication>,
    late_put: Set,
    left: Left,

    /// The reader's level list: its revision, and what it lists.
    level_list: u8,
    reader: Set,
}

/// How often each may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Left {
    losses: u8,
    claims: u8,
    sweeps: u8,
    lists: u8,
}

/// A step's name, and whose it is.
pub(crate) type Step = (&'static str, usize);

/// The model, whole or with a rule left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merging {
    /// Answers lost, requests late.
    pub(crate) losses: u8,
    /// Claims taken from their holders.
    pub(crate) claims: u8,
    /// The rule left out.
    pub(crate) fault: Option<Fault>,
}

impl Merging {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..FILES).filter(move |at| has(set, *at))
}

impl State {
    fn all(&mut self) -> Vec<&mut u8> {
        let mut all = vec![&mut self.revision, &mut self.level_list];
        all.extend(&mut self.dropped);
        all
    }

    fn pointed_into(&self, listed: Set) -> Set {
        members(listed).fold(0, |refs, file| refs | self.files[file].refs)
    }

    fn named(&self) -> Set {
        let dropped =
            (0..FILES).filter(|file| self.dropped[*file] > 0).fold(0, |set, file| set | only(file));
        self.listed | dropped
    }

    fn holds_claim(&self, at: usize) -> bool {
        self.tokens[at] == self.token
    }

    /// One step of compactor `at`.
    fn compactor(&self, at: usize, model: &Merging, found: &mut Vec<(Step, State)>) {
        let mut next = *self;
        match self.compactors[at] {
            Compactor::Idle if self.holds_claim(at) => self.plan(at, model, found),
            Compactor::Idle => self.take_claim(at, found),
            Compactor::Announced(publication) => {
                next.compactors[at] = Compactor::Put(publication);
                if self.left.losses > 0 {
                    let mut late = next;
                    late.left.losses -= 1;
                    late.late_put |= only(publication.file);
                    // It hears of a failure, and throws away what it began.
                    late.compactors[at] = late.discard(publication.file, at, model);
                    found.push((("put is late", at), late));
                }
                next.objects |= only(publication.file);
                found.push((("put", at), next));
            }
            Compactor::Put(publication) => self.publish(at, publication, model, found),
            Compactor::Published(publication) => {
                next.compactors[at] = next.discard(publication.file, at, model);
                found.push((("throws away", at), next));
            }
            Compactor::Discarding(file) => {
                let published = has(self.named(), file) && !model.lacks(Fault::DiscardedUnasked);
                next.compactors[at] =
                    if published { Compactor::Idle } else { Compactor::Discarded(file) };
                found.push((("asked what is published", at), next));
            }
            Compactor::Discarded(file) => {
                next.objects &= !only(file);
                next.compactors[at] = Compactor::Idle;
                if model.lacks(Fault::DiscardedFirst) && self.holds_claim(at) {
                    (next.intents, next.job) = (self.intents & !only(file), None);
                }
                found.push((("object deleted", at), next));
            }
            Compactor::Deleting(files) => {
                let Some(file) = members(files).next() else {
                    next.compactors[at] = Compactor::Idle;
                    return found.push((("deleted", at), next));
                };
                next.compactors[at] = Compactor::Deleting(files & !only(file));
                next.objects &= !only(file);
                if self.holds_claim(at) {
                    next.dropped[file] = 0;
                }
                found.push((("dropped object deleted", at), next));
            }
            Compactor::Listed(_) | Compactor::Intended(_) => self.sweep(at, model, found),
        }
    }

    /// The claim's holder died, or seems to have: another takes it, and throws away what the last one began.
    fn take_claim(&self, at: usize, found: &mut Vec<(Step, State)>) {
        if self.left.claims == 0 {
            return;
        }
        let mut next = *self;
        next.left.claims -= 1;
        next.token += 1;
        next.tokens[at] = next.token;
        // Its lease is gone, and with it its intents.
        next.intents &= only(BULK);
        if let Some(file) = next.job.take() {
            next.compactors[at] = Compactor::Discarding(file);
        }
        found.push((("claim taken", at), next));
    }

    fn discard(&mut self, file: usize, at: usize, model: &Merging) -> Compactor {
        if model.lacks(Fault::DiscardedFirst) {
            return Compactor::Discarded(file);
        }
        // Without the claim it cannot end its job; who has the claim now does.
        if !self.holds_claim(at) {
            return Compactor::Idle;
        }
        (self.job, self.intents) = (None, self.intents & !only(file));
        Compactor::Discarding(file)
    }

    fn plan(&self, at: usize, model: &Merging, found: &mut Vec<(Step, State)>) {
        let listed: Vec<usize> = members(self.listed).collect();
        if listed.len() > 1 && self.begun < BULK {
            let inputs = listed[..2].iter().fold(0, |set, file| set | only(*file));
            let (mut versions, mut bodies) = (0, 0);
            for file in members(inputs) {
                versions |= self.files[file].versions;
                let refs = self.files[file].refs;
                bodies |= if refs == 0 { only(file) } else { refs };
            }
            for (step, refs) in [("begins to copy", 0), ("begins to point", bodies)] {
                let mut next = *self;
                let file = self.begun;
                next.files[file] = File { versions, refs };
                next.begun += 1;
                (next.job, next.intents) = (Some(file), self.intents | only(file));
                next.compactors[at] =
                    Compactor::Announced(Publication { token: self.token, file, inputs });
                found.push(((step, at), next));
            }
        }
        let pointed_into = self.pointed_into(self.listed);
        let deletable = (0..FILES).filter(|file| {
            self.dropped[*file] > 0
                && (self.dropped[*file] <= self.level_list
                    || model.lacks(Fault::LevelListsOverlooked))
                && (!has(pointed_into, *file) || model.lacks(Fault::ReferencesOverlooked))
        });
        let deletable = deletable.fold(0, |set, file| set | only(file));
        let mut next = *self;
        if deletable != 0 {
            next.compactors[at] = Compactor::Deleting(deletable);
            found.push((("decides what to delete", at), next));
        }
        if self.left.sweeps > 0 {
            let mut next = *self;
            next.left.sweeps -= 1;
            // Whatever is there in the end, when it is listed last.
            let listed = if model.lacks(Fault::ListedLast) { Set::MAX } else { self.objects };
            next.compactors[at] = Compactor::Listed(listed);
            found.push((("objects listed", at), next));
        }
    }

    fn sweep(&self, at: usize, model: &Merging, found: &mut Vec<(Step, State)>) {
        let mut next = *self;
        let (first, second) = match model.lacks(Fault::PublishedFirst) {
            true => (self.named(), self.intents),
            false => (self.intents, self.named()),
        };
        match self.compactors[at] {
            Compactor::Listed(objects) => {
                next.compactors[at] = Compactor::Intended(objects & !first);
                found.push((("clean-up asks", at), next));
            }
            Compactor::Intended(objects) => {
                next.objects &= !(objects & !second);
                next.compactors[at] = Compactor::Idle;
                found.push((("cleaned up", at), next));
            }
            _ => {}
        }
    }

    fn publish(
        &self,
        at: usize,
        publication: Publication,
        model: &Merging,
        found: &mut Vec<(Step, State)>,
    ) {
        let mut next = *self;
        let holds = next.apply(publication, model);
        next.compactors[at] =
            if holds { Compactor::Idle } else { Compactor::Published(publication) };
        found.push((("publishes", at), next));
        if self.left.losses > 0 {
            // Answered or not, applied or not yet: it does not know.
            for (step, mut unknown) in
                [("publishes, answer lost", next), ("publication is late", *self)]
            {
                unknown.left.losses -= 1;
                unknown.compactors[at] = Compactor::Published(publication);
                if step == "publication is late" {
                    unknown.late_publication = Some(publication);
                }
                found.push(((step, at), unknown));
            }
        }
    }

    fn apply(&mut self, publication: Publication, model: &Merging) -> bool {
        let Publication { token, file, inputs } = publication;
        let uncompared = model.lacks(Fault::NothingCompared);
        let claim = (token == self.token && self.job == Some(file))
            || model.lacks(Fault::OnlyInputsCompared)
            || uncompared;
        let intent =
            has(self.intents, file) || model.lacks(Fault::OnlyInputsCompared) || uncompared;
        if !claim || !intent || (self.listed & inputs != inputs && !uncompared) {
            return false;
        }
        self.revision += 1;
        let pointed_into = self.pointed_into(self.listed);
        self.listed = (self.listed & !inputs) | only(file);
        (self.job, self.intents) = (None, self.intents & !only(file));
        let let_go = pointed_into & !self.pointed_into(self.listed);
        for gone in members(inputs) {
            self.dropped[gone] = self.revision;
        }
        if !model.lacks(Fault::DropNotRenewed) {
            for again in members(let_go).filter(|file| self.dropped[*file] > 0).collect::<Vec<_>>()
            {
                self.dropped[again] = self.revision;
            }
        }
        true
    }

    fn writer(&self, found: &mut Vec<(Step, State)>) {
        let mut next = *self;
        match self.writer {
            Writer::New => {
                (next.writer, next.intents) = (Writer::Announced, self.intents | only(BULK));
                found.push((("writer announces", BULK), next));
            }
            Writer::Announced => {
                (next.writer, next.objects) = (Writer::Put, self.objects | only(BULK));
                found.push((("writer puts", BULK), next));
            }
            Writer::Put => {
                next.writer = Writer::Done;
                if has(self.intents, BULK) {
                    next.intents &= !only(BULK);
                    next.listed |= only(BULK);
                    next.revision += 1;
                }
                found.push((("writer publishes", BULK), next));
            }
            Writer::Done => {}
        }
        if has(self.intents, BULK) && self.left.losses > 0 {
            let mut next = State { intents: self.intents & !only(BULK), ..*self };
            next.left.losses -= 1;
            found.push((("writer's lease ends", BULK), next));
        }
    }

    fn network(&self, model: &Merging, found: &mut Vec<(Step, State)>) {
        if let Some(publication) = self.late_publication {
            let mut next = State { late_publication: None, ..*self };
            next.apply(publication, model);
            found.push((("late publication arrives", 0), next));
        }
        for file in members(self.late_put) {
            let late_put = self.late_put & !only(file);
            found.push((
                ("late put arrives", file),
                State { objects: self.objects | only(file), late_put, ..*self },
            ));
        }
        if self.level_list < self.revision && self.left.lists > 0 {
            let mut next = State { level_list: self.revision, reader: self.listed, ..*self };
            next.left.lists -= 1;
            found.push((("reader follows", 0), next));
        }
    }

    fn misses(&self, listed: Set) -> bool {
        let bodies = members(listed).fold(listed, |all, file| all | self.files[file].refs);
        bodies & !self.objects != 0
    }
}

impl Model for Merging {
    type State = State;
    type Step = Step;

    fn initial(&self) -> State {
        let mut files = [File::default(); FILES];
        for (at, file) in files[..VERSIONS].iter_mut().enumerate() {
            file.versions = only(at);
        }
        files[BULK].versions = only(VERSIONS);
        let there = only(VERSIONS) - 1;
        State {
            revision: 1,
            files,
            begun: VERSIONS,
            listed: there,
            intents: 0,
            dropped: [0; FILES],
            token: 1,
            job: None,
            objects: there,
            compactors: [Compactor::Idle; COMPACTORS],
            tokens: [1, 0],
            writer: Writer::New,
            late_publication: None,
            late_put: 0,
            left: Left { losses: self.losses, claims: self.claims, sweeps: 1, lists: 1 },
            level_list: 1,
            reader: there,
        }
    }

    fn steps(&self, state: &State, found: &mut Vec<(Step, State)>) {
        for at in 0..COMPACTORS {
            state.compactor(at, self, found);
        }
        state.writer(found);
        state.network(self, found);
        for (_, state) in found {
            compress(state.all());
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let mut versions = 0;
        for file in members(state.listed) {
            if versions & state.files[file].versions != 0 {
                return Err("a version lies in two listed files".into());
            }
            versions |= state.files[file].versions;
        }
        if versions & !only(VERSIONS) != only(VERSIONS) - 1 {
            return Err("a version lies in no listed file".into());
        }
        if state.misses(state.listed) {
            return Err("an object is gone that a listed file needs".into());
        }
        if state.misses(state.reader) {
            return Err("an object is gone that a reader's level list names".into());
        }
        Ok(())
    }
}

/// Adds this model's cases.
pub(crate) fn cases(wide: bool, cases: &mut Vec<Case>) {
    let whole = Merging { losses: 1, claims: 1, fault: None };
    cases.push(Case::new("merging", "files", None::<Fault>, whole));
    for fault in FAULTS {
        cases.push(Case::new(
            "merging",
            "files",
            Some(fault),
            Merging { fault: Some(fault), ..whole },
        ));
    }
    if wide {
        cases.push(Case::new(
            "merging",
            "wide files",
            None::<Fault>,
            Merging { losses: 2, claims: 2, fault: None },
        ));
    }
}
