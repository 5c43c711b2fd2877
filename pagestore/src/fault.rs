//! Faults that can be planted: each breaks one rule of the protocol, so that the simulation shows that it
//! would notice (`./dev.sh faults`).
//!
//! All of this exists only with the feature `planted-faults`, which no product is built with: what stands
//! at the place of a fault, `planted!(Name)`, is the constant `false` without it. Which fault is planted is
//! said for each thread, because a simulated run has a thread of its own.

use std::cell::Cell;

/// Defines [`Fault`], [`ALL`] and what is said of each.
macro_rules! faults {
    ($($fault:ident: $name:literal, $rule:literal;)*) => {
        /// A fault that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $(#[doc = $rule] $fault,)*
        }

        /// All faults.
        pub const ALL: &[Fault] = &[$(Fault::$fault),*];

        impl Fault {
            /// What it does.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Fault::$fault => $name,)*
                }
            }

            /// The rule that it breaks.
            #[must_use]
            pub fn rule(self) -> &'static str {
                match self {
                    $(Fault::$fault => $rule,)*
                }
            }
        }
    };
}

faults! {
    // Commits: what they compare, and put.
    CommitIgnoresFloor: "commit-ignores-floor",
        "A commit compares that no flush was published after its base: a removed pointer says nothing.";
    CommitIgnoresVolume: "commit-ignores-volume",
        "A commit compares that its volume was neither deleted nor made anew.";
    HeadLeftAlone: "head-left-alone",
        "Whatever commits puts the head, by which snapshots know how new they have to be.";
    TruncationPutsNoBarrier: "truncation-puts-no-barrier",
        "A truncation changes pages without touching their pointers, so it puts the barrier.";
    OverlapInAGroup: "overlap-in-a-group",
        "Compares of one transaction all see the state before it, so commits that touch each other do not share one.";
    CountPutByAll: "count-put-by-all",
        "A commit carries a page count only if it compares the page count.";
    CountNotCompared: "count-not-compared",
        "A commit that changes the page count compares it.";
    UnchangedWriteForgotten: "unchanged-write-forgotten",
        "A write of what is there already says that it is there, so the page is compared.";
    AbsentPageForgotten: "absent-page-forgotten",
        "A page that was read and is not there is compared too: somebody may have written it.";
    WritesNotCompared: "writes-not-compared",
        "A written page is compared: the write would hide another's.";
    LastOfRangeForgotten: "last-of-range-forgotten",
        "A range compare covers the last page of the range.";
    ToleranceWins: "tolerance-wins",
        "A plain read stays strict, whatever other reads of the page tolerate.";
    FilesNotIntended: "files-not-intended",
        "A commit of files compares that their intents are still there: else they may have been swept.";
    SecondVolumeForgotten: "second-volume-forgotten",
        "A commit over several volumes compares all of them.";
    LockDisrespected: "lock-disrespected",
        "A commit that respects the write lock compares that nobody has it.";
    LostLockUnnoticed: "lost-lock-unnoticed",
        "A commit under the write lock compares that the lock is still held.";
    DeltaOverDelta: "delta-over-delta",
        "A delta is over whole content, never over a delta.";
    StagedKeyWithoutBase: "staged-key-without-base",
        "A staged page's key names its base: the same content may be staged in two forms at once.";
    BaseOfFlushedVersion: "base-of-flushed-version",
        "A delta over a flushed version is over that version itself, not over what it was a delta against.";
    // Commits: what becomes of them.
    RefusalUnread: "refusal-unread",
        "A commit that is refused may be one that was applied before: its own entry tells.";
    MarkerIgnoresFloor: "marker-ignores-floor",
        "A commit is given up only while no flush can have taken its entry away.";
    OtherIdAfterUnknown: "other-id-after-unknown",
        "A commit of unknown outcome is resolved, not sent again under another id.";
    SentAfterResolution: "sent-after-resolution",
        "Once a commit's outcome is being resolved its id is never sent again.";
    RebaseSkipsTruncations: "rebase-skips-truncations",
        "To a rebase a truncation is a change of every page that it cut off.";
    RebaseSkipsFiles: "rebase-skips-files",
        "To a rebase the pages in others' files are changed pages.";
    // Reading.
    StagedFirst: "staged-first",
        "The newest version wins, wherever it is: a bulk file may be newer than what is staged.";
    OldestIgnored: "oldest-ignored",
        "A reader makes sure that its revision is still readable.";
    BaseNotInFiles: "base-not-in-files",
        "A delta's base is looked for in files when it is staged no more.";
    BaseGone: "base-gone",
        "A delta's base is either kept staged or looked for in files.";
    HashAccepted: "hash-accepted",
        "Content is handed out only when its hash is the one that was asked for.";
    HeadReadJoined: "head-read-joined",
        "Nobody joins a read of the head that is under way: it may be older than its own last commit.";
    MirrorNotAwaited: "mirror-not-awaited",
        "A snapshot waits until the mirror has come to the head.";
    GapIgnored: "gap-ignored",
        "After a gap in the watch the mirror is loaded anew.";
    JointViewAhead: "joint-view-ahead",
        "Views of several volumes are all at one revision: a mirror that is ahead is rewound.";
    HeldNotPinned: "held-not-pinned",
        "The pin is never above a revision that a snapshot holds.";
    PinIgnoresOldest: "pin-ignores-oldest",
        "A pin is put under a compare that what it pins is still readable.";
    // Flushes and removals.
    RemovedBeforePublished: "removed-before-published",
        "Pointers and staged pages go after the file that has them was published.";
    PublicationUncompared: "publication-uncompared",
        "A publication compares floor, job and claim: it applies once, on what it was planned on, or never.";
    TruncationNotFlushed: "truncation-not-flushed",
        "A flush writes the lowest page counts down, or what was cut off comes back.";
    NewestOnlyFlushed: "newest-only-flushed",
        "A flush writes every version that a readable revision shows.";
    CommitsNotFlushed: "commits-not-flushed",
        "A flush writes the ids of commits down: outcomes are asked for later.";
    FloorAhead: "floor-ahead",
        "The floor is what was flushed, and no more.";
    OldestNotRaised: "oldest-not-raised",
        "What is left out of a file could not be read any more before it was: the oldest revision is raised first.";
    ZerosLeftOut: "zeros-left-out",
        "A page of zeros is left out only where nothing older would surface.";
    RemovalUnguarded: "removal-unguarded",
        "A pointer goes only if it is as it was when it was found to be flushed.";
    RemovalBeyondFloor: "removal-beyond-floor",
        "A removal ends at the floor.";
    NeededStagedRemoved: "needed-staged-removed",
        "A removal leaves staged what versions above the floor need.";
    NameUsedAgain: "name-used-again",
        "No file's name is used twice.";
    // Merges, retention and deletions.
    MergedAboveFloor: "merged-above-floor",
        "Files above the floor stay in level 0: what is staged from before them will come there.";
    LevelZeroSubset: "level-zero-subset",
        "A file leaves level 0 together with all that hold older versions of its pages.";
    NeededBaseDropped: "needed-base-dropped",
        "A merge keeps the versions that unflushed deltas are over.";
    PinsIgnored: "pins-ignored",
        "The oldest readable revision is never raised above a pin.";
    PinsUncompared: "pins-uncompared",
        "The oldest readable revision is raised under a compare of all pins: one may just have been put.";
    LogForgotten: "log-forgotten",
        "Commits are remembered for a day, whatever the retention.";
    LevelListsIgnored: "level-lists-ignored",
        "A dropped file stays while a session may read by a list that has it.";
    ReferencedDeleted: "referenced-deleted",
        "A dropped file stays while a listed index points into it.";
    DropNotRepeated: "drop-not-repeated",
        "When the last file that points into a dropped one goes, the drop is recorded again.";
    IntentsIgnored: "intents-ignored",
        "An object whose upload is intended is no orphan.";
    OrphansByAge: "orphans-by-age",
        "Nothing is deleted by age alone.";
    BrokenListing: "broken-listing",
        "A listing that breaks off is an error, not a shorter list.";
    PublishedThrownAway: "published-thrown-away",
        "Of an upload whose outcome was unknown only what was not published is thrown away.";
    PinnedVolumeErased: "pinned-volume-erased",
        "A deleted volume is erased when no session holds it any more.";
    KeysErasedFirst: "keys-erased-first",
        "A deleted volume's objects go before its keys, or nobody knows of them any more.";
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Plants `fault`, or none, in whatever this thread runs from here on.
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// True when this thread runs with one of `faults`.
#[must_use]
pub fn is_planted(faults: &[Fault]) -> bool {
    PLANTED.get().is_some_and(|planted| faults.contains(&planted))
}

impl std::str::FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Fault, String> {
        let found = ALL.iter().copied().find(|fault| fault.name() == name);
        found.ok_or_else(|| format!("there is no fault called {name}"))
    }
}
