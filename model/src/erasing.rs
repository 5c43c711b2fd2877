//! The end of a volume, beside those who still use it.
//!
//! A volume and a successor of the same name. One process deletes it, perhaps twice, a request late; others
//! commit, open a snapshot, begin a bulk commit, make a branch, all perhaps too late; an eraser takes away what
//! is left.
//!
//! Promises: a volume has its name for as long as it has its metadata; the parent of a branch is there; who holds
//! a snapshot finds what it reads for as long as its lease lives; and of what was erased nothing comes back.

use crate::Case;
use crate::explore::Model;

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A deletion does not compare the volume's metadata, only that the name is there.
    DeletedByName,
    /// A deletion asks for branches before its transaction, not in it.
    BranchesAskedBefore,
    /// A branch is made without a compare of its parent's metadata.
    BranchOfNothing,
    /// A commit does not compare the metadata.
    CommitToNothing,
    /// A pin is put without a compare of the metadata.
    PinOnNothing,
    /// An upload is announced without a compare of the metadata.
    IntentForNothing,
    /// The eraser does not ask whether the volume is held.
    HoldersOverlooked,
    /// The eraser asks who holds it before it asks whether it was deleted.
    HoldersAskedBefore,
}

/// Each rule.
pub(crate) const FAULTS: [Fault; 8] = [
    Fault::DeletedByName,
    Fault::BranchesAskedBefore,
    Fault::BranchOfNothing,
    Fault::CommitToNothing,
    Fault::PinOnNothing,
    Fault::IntentForNothing,
    Fault::HoldersOverlooked,
    Fault::HoldersAskedBefore,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Deleter {
    /// Deletions that it may still ask for.
    Idle(u8),
    /// Asked for branches and found none.
    Asked(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Eraser {
    Idle,
    /// Knows that nobody held it.
    NotHeld,
    /// Knows that it was deleted.
    Deleted,
    /// Knows both.
    Free,
    ObjectsGone,
}

/// What is on its way, or done: each happens once at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Once {
    New,
    Sent,
    Done,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The volume that the name means: the first, or its successor.
    name: Option<u8>,
    /// Whether each has its metadata.
    metadata: [bool; 2],
    /// Whether anything else is there of the first volume: pointers, changelog.
    keys: bool,
    objects: bool,
    pin: bool,
    intent: bool,
    branch: bool,
    erased: bool,

    deleter: Deleter,
    /// A second request to delete the first volume, on its way.
    late_deletion: bool,
    eraser: Eraser,
    commit: Once,
    snapshot: Once,
    upload: Once,
    brancher: Once,
    successor: Once,
    lease_ends: u8,
    /// The snapshot is open, and its lease lives.
    reads: bool,
}

/// A step's name.
pub(crate) type Step = &'static str;

/// The model, whole or with a rule left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Erasing {
    /// The rule left out.
    pub(crate) fault: Option<Fault>,
}

impl Erasing {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

impl State {
    fn delete(&mut self, model: &Erasing, asked: bool) {
        let branches = self.branch && !(asked && model.lacks(Fault::BranchesAskedBefore));
        let exists = self.metadata[0] || (model.lacks(Fault::DeletedByName) && self.name.is_some());
        if exists && !branches {
            self.name = None;
            self.metadata[0] = false;
        }
    }

    fn deleter(&self, model: &Erasing, found: &mut Vec<(Step, State)>) {
        let mut next = *self;
        match self.deleter {
            Deleter::Idle(0) => {}
            Deleter::Idle(left) if !self.branch => {
                next.deleter = Deleter::Asked(left - 1);
                found.push(("no branches found", next));
            }
            Deleter::Idle(_) => {}
            Deleter::Asked(left) => {
                next.deleter = Deleter::Idle(left);
                let mut late = next;
                late.late_deletion = true;
                found.push(("deletion is late", late));
                next.delete(model, true);
                found.push(("deleted", next));
            }
        }
        if self.late_deletion {
            let mut next = State { late_deletion: false, ..*self };
            next.delete(model, true);
            found.push(("late deletion arrives", next));
        }
        if self.successor == Once::New && self.name.is_none() {
            let next = State {
                name: Some(1),
                metadata: [self.metadata[0], true],
                successor: Once::Done,
                ..*self
            };
            found.push(("made anew", next));
        }
    }

    fn users(&self, model: &Erasing, found: &mut Vec<(Step, State)>) {
        let there = |fault| self.metadata[0] || model.lacks(fault);
        match self.commit {
            Once::New => found.push(("commit sent", State { commit: Once::Sent, ..*self })),
            Once::Sent => {
                let keys = self.keys || there(Fault::CommitToNothing);
                found.push(("commit arrives", State { commit: Once::Done, keys, ..*self }));
            }
            Once::Done => {}
        }
        match self.brancher {
            Once::New => found.push(("branch sent", State { brancher: Once::Sent, ..*self })),
            Once::Sent => {
                let branch = there(Fault::BranchOfNothing);
                found.push(("branch arrives", State { brancher: Once::Done, branch, ..*self }));
            }
            Once::Done => {}
        }
        match self.snapshot {
            // It opened the volume while that was there.
            Once::New if self.metadata[0] => {
                found.push(("pin sent", State { snapshot: Once::Sent, ..*self }));
            }
            Once::Sent => {
                let pin = there(Fault::PinOnNothing);
                found.push((
                    "pin arrives",
                    State { snapshot: Once::Done, pin, reads: pin, ..*self },
                ));
            }
            _ => {}
        }
        match self.upload {
            Once::New => {
                found.push(("upload to be announced", State { upload: Once::Sent, ..*self }))
            }
            Once::Sent => {
                let intent = there(Fault::IntentForNothing);
                found.push(("upload announced", State { upload: Once::Done, intent, ..*self }));
            }
            Once::Done => {}
        }
        if self.lease_ends > 0 && (self.pin || self.intent) {
            let lease_ends = self.lease_ends - 1;
            found.push((
                "lease ends",
                State { pin: false, intent: false, reads: false, lease_ends, ..*self },
            ));
        }
        if self.reads {
            found.push(("snapshot closed", State { pin: false, reads: false, ..*self }));
        }
    }

    fn eraser(&self, model: &Erasing, found: &mut Vec<(Step, State)>) {
        let held = (self.pin || self.intent) && !model.lacks(Fault::HoldersOverlooked);
        let deleted = !self.metadata[0];
        let to = |eraser| State { eraser, ..*self };
        match self.eraser {
            Eraser::Idle if self.erased => {}
            Eraser::Idle if model.lacks(Fault::HoldersAskedBefore) && held => {}
            Eraser::Idle if model.lacks(Fault::HoldersAskedBefore) => {
                found.push(("not held", to(Eraser::NotHeld)));
            }
            Eraser::Idle if deleted => found.push(("found deleted", to(Eraser::Deleted))),
            Eraser::NotHeld if deleted => found.push(("found deleted", to(Eraser::Free))),
            Eraser::Deleted if held => found.push(("held", to(Eraser::Idle))),
            Eraser::Deleted => found.push(("not held", to(Eraser::Free))),
            Eraser::Free => {
                found.push(("objects erased", State { objects: false, ..to(Eraser::ObjectsGone) }))
            }
            Eraser::ObjectsGone => {
                let gone = State {
                    keys: false,
                    pin: false,
                    intent: false,
                    erased: true,
                    ..to(Eraser::Idle)
                };
                found.push(("keys erased", gone));
            }
            _ => {}
        }
    }
}

impl Model for Erasing {
    type State = State;
    type Step = Step;

    fn initial(&self) -> State {
        State {
            name: Some(0),
            metadata: [true, false],
            keys: true,
            objects: true,
            pin: false,
            intent: false,
            branch: false,
            erased: false,
            deleter: Deleter::Idle(2),
            late_deletion: false,
            eraser: Eraser::Idle,
            commit: Once::New,
            snapshot: Once::New,
            upload: Once::New,
            brancher: Once::New,
            successor: Once::New,
            lease_ends: 1,
            reads: false,
        }
    }

    fn steps(&self, state: &State, found: &mut Vec<(Step, State)>) {
        state.deleter(self, found);
        state.users(self, found);
        state.eraser(self, found);
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let named = |volume: u8| state.name == Some(volume);
        if named(0) != state.metadata[0] || named(1) != state.metadata[1] {
            return Err("a volume is there without its name, or a name without its volume".into());
        }
        if state.branch && !state.metadata[0] {
            return Err("a branch without its parent".into());
        }
        if state.reads && !(state.objects && state.keys) {
            return Err("a snapshot misses what it reads though its lease lives".into());
        }
        if state.erased && (state.keys || state.pin || state.intent) {
            return Err("a key of an erased volume".into());
        }
        Ok(())
    }
}

/// Adds this model's cases.
pub(crate) fn cases(_wide: bool, cases: &mut Vec<Case>) {
    cases.push(Case::new("erasing", "volume", None::<Fault>, Erasing { fault: None }));
    for fault in FAULTS {
        cases.push(Case::new("erasing", "volume", Some(fault), Erasing { fault: Some(fault) }));
    }
}
