//! A commit over two volumes, its answer lost, its request late, flushes between.
//!
//! One page a volume. One transaction reads and writes both; two others read one and write the other. A request
//! is applied and answered, applied and not answered, delivered twice, or stays on its way while its client
//! gives up and resolves: puts an abort marker in the lower volume, or finds the commit, or finds the floor past every base
//! it was sent with and looks it up among the flushed commits.
//!
//! Promises: both volumes or neither; never twice; what a client is told is so and stays so; and nothing commits
//! on pages that changed since they were read.

use crate::Case;
use crate::explore::{Model, compress};

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One transaction a volume.
    Split,
    /// The views of the two volumes are not of one revision.
    ViewsTorn,
    /// A commit does not compare that its entry is absent.
    EntryNotCompared,
    /// A marker is put without a compare of the floor.
    MarkerPastFloor,
    /// What was refused is sent again without a look among the flushed commits.
    FlushedNotLookedUp,
    /// What is resolved is resolved by the first base it was sent with.
    FirstBase,
    /// What is being resolved is sent again.
    SentAfterResolving,
    /// The marker is put in a volume that the commit does not compare.
    MarkerElsewhere,
}

/// Each rule.
pub(crate) const FAULTS: [Fault; 8] = [
    Fault::Split,
    Fault::ViewsTorn,
    Fault::EntryNotCompared,
    Fault::MarkerPastFloor,
    Fault::FlushedNotLookedUp,
    Fault::FirstBase,
    Fault::SentAfterResolving,
    Fault::MarkerElsewhere,
];

const VOLUMES: usize = 2;
const TRANSACTIONS: usize = 3;
/// Volumes read and volumes written by each transaction; the first is over both.
const PLANS: [([bool; VOLUMES], [bool; VOLUMES]); TRANSACTIONS] =
    [([true, true], [true, true]), ([false, true], [true, false]), ([true, false], [false, true])];

/// What a volume's changelog has of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    Absent,
    Committed,
    Aborted,
    /// In the commits of a file.
    Flushed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    New,
    /// Ready to send.
    Ready,
    /// Waits for an answer.
    Sent,
    Resolving,
    ToldCommitted,
    ToldAborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Transaction {
    client: Client,
    /// The version of each page that it read.
    seen: [u8; VOLUMES],
    base: u8,
    first_base: u8,
    largest_base: u8,
    rebases: u8,
    /// Requests on their way, by their base: one for each volume where they are split.
    sent: [Option<u8>; VOLUMES],
    /// How often it was applied.
    applied: [u8; VOLUMES],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Volume {
    pointer: u8,
    floor_modified: u8,
    entries: [Entry; TRANSACTIONS],
    flushes: u8,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    revision: u8,
    volumes: [Volume; VOLUMES],
    transactions: [Transaction; TRANSACTIONS],
    losses: u8,
    wrong: Option<&'static str>,
}

/// A step's name, and whose it is.
pub(crate) type Step = (&'static str, usize);

/// The model, whole or with a rule left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Several {
    /// Flushes of each volume.
    pub(crate) flushes: u8,
    /// Answers that may be lost, or requests that may be late.
    pub(crate) losses: u8,
    /// The rule left out.
    pub(crate) fault: Option<Fault>,
}

impl Several {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

/// The volumes that transaction `at` uses.
fn used(at: usize) -> impl Iterator<Item = usize> + Clone {
    let (reads, writes) = PLANS[at];
    (0..VOLUMES).filter(move |volume| reads[*volume] || writes[*volume])
}

/// The lowest volume of transaction `at`: its entry there decides.
fn deciding(at: usize) -> usize {
    used(at).next().expect("BUG: a transaction uses a volume")
}

impl State {
    fn all(&mut self) -> Vec<&mut u8> {
        let mut all = vec![&mut self.revision];
        for volume in &mut self.volumes {
            all.extend([&mut volume.pointer, &mut volume.floor_modified]);
        }
        for transaction in &mut self.transactions {
            all.extend([
                &mut transaction.base,
                &mut transaction.first_base,
                &mut transaction.largest_base,
            ]);
            all.extend(transaction.seen.iter_mut().chain(transaction.sent.iter_mut().flatten()));
        }
        all
    }

    fn begin(&self, at: usize, model: &Several, found: &mut Vec<(Step, State)>) {
        let mut next = *self;
        let transaction = &mut next.transactions[at];
        transaction.client = Client::Ready;
        (transaction.base, transaction.first_base) = (self.revision, self.revision);
        transaction.seen = self.volumes.map(|volume| volume.pointer);
        found.push((("begun", at), next));
        if model.lacks(Fault::ViewsTorn) {
            next.transactions[at].seen[1] = 0;
            found.push((("begun on an old view of one", at), next));
        }
    }

    fn send(&self, at: usize, model: &Several, found: &mut Vec<(Step, State)>) {
        let mut next = *self;
        let transaction = &mut next.transactions[at];
        transaction.client = Client::Sent;
        transaction.largest_base = transaction.largest_base.max(transaction.base);
        if at == 0 && model.lacks(Fault::Split) {
            transaction.sent = [Some(transaction.base); VOLUMES];
        } else {
            transaction.sent[0] = Some(transaction.base);
        }
        found.push((("sent", at), next));
    }

    /// A request arrives: its part `part` where it is split.
    fn arrive(&self, (at, part): (usize, usize), model: &Several, found: &mut Vec<(Step, State)>) {
        let Some(base) = self.transactions[at].sent[part] else { return };
        let split = at == 0 && model.lacks(Fault::Split);
        let parts: Vec<usize> = used(at).filter(|volume| !split || *volume == part).collect();
        let holds = parts.iter().all(|at_volume| {
            let volume = &self.volumes[*at_volume];
            volume.pointer <= base
                && volume.floor_modified <= base
                && (!matches!(volume.entries[at], Entry::Committed | Entry::Aborted)
                    || model.lacks(Fault::EntryNotCompared))
        });
        let mut next = *self;
        next.transactions[at].sent[part] = None;
        if holds {
            next.apply(at, &parts);
        }
        if self.transactions[at].client != Client::Sent {
            return found.push((("arrives late", at), next));
        }
        if holds && self.losses > 0 {
            let mut twice = next;
            twice.losses -= 1;
            twice.transactions[at].sent = self.transactions[at].sent;
            found.push((("arrives, and will once more", at), twice));
        }
        let last = next.transactions[at].sent == [None; VOLUMES];
        if self.losses > 0 {
            let mut lost = next;
            lost.losses -= 1;
            lost.transactions[at].client = Client::Resolving;
            found.push((("answer lost", at), lost));
        }
        if holds && last {
            next.transactions[at].client = Client::ToldCommitted;
        } else if !holds {
            next.refused(at, model);
        }
        found.push((("answered", at), next));
    }

    fn apply(&mut self, at: usize, parts: &[usize]) {
        self.revision += 1;
        for volume in parts {
            let transaction = &mut self.transactions[at];
            transaction.applied[*volume] += 1;
            if self.volumes[*volume].pointer > transaction.seen[*volume] {
                self.wrong = Some("a commit on a page that had changed since it was read");
            }
            self.volumes[*volume].entries[at] = Entry::Committed;
            if PLANS[at].1[*volume] {
                self.volumes[*volume].pointer = self.revision;
            }
        }
    }

    /// Its compares failed: committed before, or aborted, or overtaken.
    fn refused(&mut self, at: usize, model: &Several) {
        let entry = self.volumes[deciding(at)].entries[at];
        let changed = used(at)
            .any(|volume| self.volumes[volume].pointer > self.transactions[at].seen[volume]);
        let again = self.transactions[at].rebases > 0;
        let revision = self.revision;
        let transaction = &mut self.transactions[at];
        transaction.client = match entry {
            Entry::Committed => Client::ToldCommitted,
            Entry::Flushed if !model.lacks(Fault::FlushedNotLookedUp) => Client::ToldCommitted,
            Entry::Aborted => Client::ToldAborted,
            _ if changed || !again => Client::ToldAborted,
            _ => Client::Ready,
        };
        if transaction.client == Client::Ready {
            transaction.rebases -= 1;
            transaction.base = revision;
        }
    }

    fn resolve(&self, at: usize, model: &Several, found: &mut Vec<(Step, State)>) {
        let deciding = deciding(at);
        let transaction = &self.transactions[at];
        let base = if model.lacks(Fault::FirstBase) {
            transaction.first_base
        } else {
            transaction.largest_base
        };
        let volume = &self.volumes[deciding];
        let mut next = *self;
        let passed = volume.floor_modified > base && !model.lacks(Fault::MarkerPastFloor);
        next.transactions[at].client = match volume.entries[at] {
            Entry::Committed => Client::ToldCommitted,
            Entry::Aborted => Client::ToldAborted,
            Entry::Flushed if passed => Client::ToldCommitted,
            _ if passed => Client::ToldAborted,
            _ => {
                if !model.lacks(Fault::MarkerElsewhere) {
                    next.revision += 1;
                    next.volumes[deciding].entries[at] = Entry::Aborted;
                }
                Client::ToldAborted
            }
        };
        found.push((("resolved", at), next));
        if model.lacks(Fault::SentAfterResolving)
            && transaction.rebases > 0
            && next.transactions[at].client == Client::ToldAborted
        {
            let mut again = *self;
            again.transactions[at].rebases -= 1;
            again.transactions[at].base = self.revision;
            again.transactions[at].client = Client::Ready;
            found.push((("sent again", at), again));
        }
    }

    fn flush(&self, at: usize, found: &mut Vec<(Step, State)>) {
        let mut next = *self;
        let volume = &mut next.volumes[at];
        if volume.flushes == 0 {
            return;
        }
        volume.flushes -= 1;
        next.revision += 1;
        volume.floor_modified = next.revision;
        for entry in &mut volume.entries {
            match entry {
                Entry::Committed => *entry = Entry::Flushed,
                Entry::Aborted => *entry = Entry::Absent,
                _ => {}
            }
        }
        found.push((("flushed", at), next));
    }
}

impl Model for Several {
    type State = State;
    type Step = Step;

    fn initial(&self) -> State {
        let transaction = Transaction {
            client: Client::New,
            seen: [0; VOLUMES],
            base: 0,
            first_base: 0,
            largest_base: 0,
            rebases: 1,
            sent: [None; VOLUMES],
            applied: [0; VOLUMES],
        };
        let volume = Volume {
            pointer: 0,
            floor_modified: 0,
            entries: [Entry::Absent; TRANSACTIONS],
            flushes: self.flushes,
        };
        State {
            revision: 1,
            volumes: [volume; VOLUMES],
            transactions: [transaction; TRANSACTIONS],
            losses: self.losses,
            wrong: None,
        }
    }

    fn steps(&self, state: &State, found: &mut Vec<(Step, State)>) {
        for at in 0..TRANSACTIONS {
            match state.transactions[at].client {
                Client::New => state.begin(at, self, found),
                Client::Ready => state.send(at, self, found),
                Client::Sent if state.losses > 0 => {
                    let mut next = *state;
                    next.losses -= 1;
                    next.transactions[at].client = Client::Resolving;
                    found.push((("given up", at), next));
                }
                Client::Resolving => state.resolve(at, self, found),
                _ => {}
            }
            state.arrive((at, 0), self, found);
            state.arrive((at, 1), self, found);
        }
        (0..VOLUMES).for_each(|at| state.flush(at, found));
        for (_, state) in found {
            compress(state.all());
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        for (at, transaction) in state.transactions.iter().enumerate() {
            let applied = used(at).map(|volume| transaction.applied[volume]);
            let (least, most) = (applied.clone().min(), applied.max());
            let on_its_way = transaction.sent != [None; VOLUMES];
            match transaction.client {
                _ if most > Some(1) => return Err("a commit happened twice".into()),
                _ if least != most && !(on_its_way && transaction.client == Client::Sent) => {
                    return Err("a commit happened in one volume and not in the other".into());
                }
                Client::ToldCommitted if most != Some(1) => {
                    return Err("told committed, but is not".into());
                }
                Client::ToldAborted if most != Some(0) => {
                    return Err("told aborted, but is committed".into());
                }
                _ => {}
            }
        }
        state.wrong.map_or(Ok(()), |promise| Err(promise.into()))
    }
}

/// Adds this model's cases.
pub(crate) fn cases(wide: bool, cases: &mut Vec<Case>) {
    let losses = if wide { 3 } else { 1 };
    let whole = Several { flushes: 1, losses, fault: None };
    cases.push(Case::new("several", "volumes", None::<Fault>, whole));
    for fault in FAULTS {
        cases.push(Case::new(
            "several",
            "volumes",
            Some(fault),
            Several { fault: Some(fault), ..whole },
        ));
    }
}
