//! What to do next for a volume. Pure: the same plan is carried out by the worker and printed as a dry
//! run.

use std::fmt;
use std::time::Duration;

use pagestore::internal::meta::records::Oldest;
use pagestore::internal::types::{FileId, Revision};

use crate::gc::mark::{DroppedFile, decide_deletable};
use crate::merge::pick::{
    Choice, Effort, Files, Merge, Move, Reason, decide_merge, is_level_0_urgent, unsettled_overlap,
};

pub mod oldest;

/// Files above the floor that cover one page, from which on a flush is due.
const UNSETTLED_FILES: usize = 8;

/// What lies in the meta tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    /// Commits above the floor.
    pub commit_count: usize,
    /// Bytes of staged pages above the floor.
    pub bytes: u64,
    /// Pages that have a version above the floor.
    pub page_count: usize,
    /// When the oldest commit above the floor was made, in milliseconds since the Unix epoch.
    pub oldest_ms: Option<u64>,
}

/// When a volume is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushLimits {
    /// Bytes of staged pages.
    pub bytes: u64,
    /// Staged pages, or commits.
    pub count: u64,
    /// Age of the oldest staged commit.
    pub age: Duration,
}

/// Everything that a plan is made on.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// How eager to be.
    pub effort: Effort,
    /// A thorough compaction flushes until the floor is here.
    pub flush_to: Revision,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// What lies in the meta tier.
    pub staged: Staged,
    /// When it is flushed.
    pub limits: FlushLimits,
    /// A removal that was begun and not finished.
    pub removal: Option<Revision>,
    /// What is kept.
    pub oldest: Oldest,
    /// How far that may be raised.
    pub allowed: Oldest,
    /// The files.
    pub files: Files<'a>,
    /// The revisions of the level lists that sessions read by.
    pub level_lists: Vec<Revision>,
}

/// Why a flush is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushReason {
    /// Staged bytes.
    Bytes(u64),
    /// Staged pages or commits.
    Count(u64),
    /// Age of the oldest staged commit.
    Age(Duration),
    /// Files of large commits that cover one page: they can be merged only when the floor is above them.
    Files(usize),
    /// A thorough compaction leaves nothing staged.
    Thorough,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take what was flushed up to a revision out of the meta tier.
    Remove(Revision),
    /// Write what is staged into files.
    Flush(FlushReason),
    /// Replace files by their merge.
    Merge(Merge),
    /// List a file in another level.
    Move(Move),
    /// Delete the objects of dropped files.
    Delete(Vec<FileId>),
}

/// One thing to do, and how far to raise the oldest readable revision before, so that what no longer
/// can be read is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The oldest revision to put first.
    pub raise: Option<Oldest>,
    /// What to do then.
    pub action: Action,
}

/// The most urgent thing to do, if anything is due.
#[must_use]
pub fn next(situation: &Situation<'_>) -> Option<Step> {
    decide_all(situation).into_iter().next()
}

/// Everything that is due, the most urgent first. What one step makes due is not foreseen.
#[must_use]
pub fn decide_all(situation: &Situation<'_>) -> Vec<Step> {
    let plain = |action| Step { raise: None, action };
    let raise = (situation.allowed != situation.oldest).then_some(situation.allowed);
    let raising = |action| Step { raise, action };
    let mut files = situation.files.clone();
    (files.oldest, files.log_from) = (situation.allowed.readable, situation.allowed.log_from);

    let removal = situation.removal.map(Action::Remove).map(plain);
    let flush = decide_flush(situation).map(Action::Flush).map(raising);
    let merge = decide_merge(&files, situation.effort).map(|choice| match choice {
        Choice::Merge(merge) => raising(Action::Merge(merge)),
        Choice::Move(file) => plain(Action::Move(file)),
    });
    let delete = Some(decide_delete(situation)).filter(|files| !files.is_empty());
    let delete = delete.map(Action::Delete).map(plain);
    // A merge that was chosen while level 0 is that high is one of level 0.
    let (first, second) = if is_level_0_urgent(&files) { (merge, flush) } else { (flush, merge) };
    removal.into_iter().chain(first).chain(second).chain(delete).collect()
}

/// Why a flush is due, if it is.
#[must_use]
pub fn decide_flush(situation: &Situation<'_>) -> Option<FlushReason> {
    let (staged, limits) = (&situation.staged, &situation.limits);
    let count = staged.page_count.max(staged.commit_count) as u64;
    let files = unsettled_overlap(&situation.files);
    let age = Duration::from_millis(situation.now_ms.saturating_sub(staged.oldest_ms?));
    if situation.effort == Effort::Thorough && situation.files.floor < situation.flush_to {
        Some(FlushReason::Thorough)
    } else if staged.bytes >= limits.bytes {
        Some(FlushReason::Bytes(staged.bytes))
    } else if count >= limits.count {
        Some(FlushReason::Count(count))
    } else if files >= UNSETTLED_FILES {
        Some(FlushReason::Files(files))
    } else {
        (age >= limits.age).then_some(FlushReason::Age(age))
    }
}

fn decide_delete(situation: &Situation<'_>) -> Vec<FileId> {
    let listed = situation.files.listed.iter();
    let referenced = listed.flat_map(|file| &file.refs).map(|to| to.id).collect();
    let dropped = situation.files.dropped.iter();
    let dropped: Vec<DroppedFile> =
        dropped.map(|file| DroppedFile { file: file.file, dropped_at: file.dropped_at }).collect();
    decide_deletable(&dropped, &referenced, &situation.level_lists)
}

/// What a thorough compaction is about: what there was when it began. While others write, there would
/// be no end to it otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    asked: Effort,
    began: Revision,
    /// The floor once everything from before the beginning was flushed.
    reached: Option<Revision>,
}

impl Goal {
    /// Of a compaction that begins at the revision `began`.
    #[must_use]
    pub fn new(asked: Effort, began: Revision) -> Goal {
        Goal { asked, began, reached: None }
    }

    /// How far the floor is to rise.
    #[must_use]
    pub fn flush_to(&self) -> Revision {
        self.began
    }

    /// How eager to be with the floor where it is: what was flushed after the beginning, because it
    /// had become too much, gets no more than the usual.
    pub fn effort(&mut self, floor: Revision) -> Effort {
        if floor >= self.began && floor > *self.reached.get_or_insert(floor) {
            Effort::Usual
        } else {
            self.asked
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(raise) = self.raise {
            write!(f, "raise the oldest readable revision to {}, then ", raise.readable)?;
        }
        self.action.fmt(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Remove(up_to) => {
                write!(f, "remove what was flushed up to revision {up_to} from the meta tier")
            }
            Action::Flush(reason) => write!(f, "flush: {reason}"),
            Action::Merge(merge) => write!(f, "{merge}"),
            Action::Move(step) => write!(
                f,
                "move file {} from level {} to level {}",
                step.file.file, step.file.level, step.level
            ),
            Action::Delete(files) => write!(f, "delete {} dropped files", files.len()),
        }
    }
}

impl fmt::Display for FlushReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlushReason::Bytes(bytes) => write!(f, "{bytes} bytes are staged"),
            FlushReason::Count(count) => write!(f, "{count} pages or commits are staged"),
            FlushReason::Files(count) => write!(f, "{count} files of large commits cover one page"),
            FlushReason::Age(age) => {
                write!(f, "the oldest staged commit is {} s old", age.as_secs())
            }
            FlushReason::Thorough => f.write_str("nothing is to stay staged"),
        }
    }
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inputs, level) = (self.inputs.len(), self.level);
        write!(f, "merge {inputs} files into level {level}: {}", self.reason)?;
        match self.copied.len() {
            0 => Ok(()),
            copied => write!(f, "; copy what is alive out of {copied}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Level0 => f.write_str("files in level 0"),
            Reason::LevelFull(level) => write!(f, "level {level} is full"),
            Reason::Crowded => f.write_str("many small files"),
            Reason::Logs => f.write_str("many files of commit records"),
            Reason::Expired => f.write_str("most of it can no longer be read"),
            Reason::Garbage => f.write_str("files are mostly dead"),
            Reason::Thorough => f.write_str("it may hide garbage"),
        }
    }
}

#[cfg(test)]
mod tests;
