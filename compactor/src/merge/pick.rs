//! Which files to merge next, and into which level. Pure.
//!
//! Invariant of the levels that every choice keeps: for every page, each version in level n is newer
//! than each version in the levels below it. So files leave level 0 only when they are at or below the
//! floor (what is staged will be flushed into level 0), and only together with every file that holds
//! older versions of the same pages.

use std::collections::BTreeSet;

use pagestore::internal::file::FileEntry;
use pagestore::internal::levels::max_overlap;
use pagestore::internal::meta::keys::FilePlace;
use pagestore::internal::types::{FileId, PageNo, PageSize, Revision};

use super::bodies::{BodyMap, DroppedBodies};

/// Most files that one merge takes in: with the outputs, their compares fit in one transaction.
pub const MAX_INPUTS: usize = 56;
/// Most pieces that one file is cut into: they are listed by one publication.
pub const MAX_SPLIT: usize = 28;
/// Versions in an output: an index of some 4 MiB, of which a reader keeps a small part.
pub const TARGET_VERSIONS: u64 = 131_072;
/// Versions in level 1; each further level holds ten times as many.
const LEVEL_1_VERSIONS: u64 = 8 * TARGET_VERSIONS;
/// How much larger than the one above a level is.
const LEVEL_RATIO: u64 = 10;
/// Deepest level: far more than 2^64 bytes of pages need.
const MAX_LEVEL: u8 = 12;
/// Files of level 0 that cover one page, before they are merged: each costs a lookup a read.
const LEVEL_0_OVERLAP: usize = 4;
/// Files of level 0 that cover one page, before merging them is more urgent than flushing: otherwise
/// steady commits would keep the compactor flushing, and each flush adds a file.
const LEVEL_0_URGENT: usize = 3 * LEVEL_0_OVERLAP;
/// Files of level 0 in all, before they are merged.
const LEVEL_0_FILES: usize = 24;
/// Neighbours so small that one file could hold all, before they are put into one.
const CROWD: usize = 8;
/// Files that remember commits only in one level, before they are put into one.
const LOGS: usize = 8;

/// How eagerly to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// What reads, memory and cost call for.
    Usual,
    /// Everything that makes the volume smaller or faster to read.
    Thorough,
}

impl Effort {
    /// Percent of what is alive that all objects may take up.
    fn space_bound(self) -> u64 {
        match self {
            Effort::Usual => 185,
            Effort::Thorough => 150,
        }
    }

    /// In how many objects pages side by side may lie. A reader reads some 16 MiB of compressed pages
    /// ahead, so up to this many requests of at least an MiB, or of a third of one.
    fn spread(self) -> usize {
        match self {
            Effort::Usual => 48,
            Effort::Thorough => 12,
        }
    }
}

/// What a choice is made on.
#[derive(Clone, Debug)]
pub struct Files<'a> {
    /// The listed files.
    pub listed: Vec<&'a FileEntry>,
    /// The dropped files.
    pub dropped: Vec<DroppedBodies>,
    /// Bytes a page.
    pub page_size: PageSize,
    /// Everything up to here is in files.
    pub floor: Revision,
    /// The oldest revision that can be read without being named.
    pub oldest: Revision,
    /// Commits up to here need not be remembered.
    pub log_from: Revision,
    /// How many older revisions are readable too.
    pub point_count: usize,
    /// How many versions staged deltas need, whether they can be read or not.
    pub base_count: usize,
}

/// Why a merge is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too many files of level 0.
    Level0,
    /// A level has outgrown its size.
    LevelFull(u8),
    /// Many small files side by side.
    Crowded,
    /// Too many files that remember commits only.
    Logs,
    /// Most of what a file lists can no longer be read.
    Expired,
    /// Objects are mostly dead.
    Garbage,
    /// A thorough compaction leaves nothing superseded.
    Thorough,
}

/// Files to be replaced by their merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Why.
    pub reason: Reason,
    /// The files.
    pub inputs: Vec<FilePlace>,
    /// The level of the outputs.
    pub level: u8,
    /// The objects whose bodies are copied into the outputs.
    pub copied: Vec<FileId>,
    /// In how many objects pages side by side may lie; see [`super::locality`].
    pub spread: usize,
    /// Pages at which an output must end: another file of its level begins there.
    pub cuts: Vec<PageNo>,
}

/// A file to be listed in another level as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The file.
    pub file: FilePlace,
    /// The level it goes to.
    pub level: u8,
}

/// What to do with a volume's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Write new files.
    Merge(Merge),
    /// Only list a file elsewhere.
    Move(Move),
}

/// The most urgent thing to do with the files, if anything is due.
#[must_use]
pub fn decide_merge(files: &Files<'_>, effort: Effort) -> Option<Choice> {
    let view = View::new(files, effort);
    view.level_0()
        .or_else(|| view.full_level())
        .or_else(|| view.crowd())
        .or_else(|| view.logs())
        .or_else(|| view.expired())
        .or_else(|| view.superseded())
        .or_else(|| view.garbage())
}

/// True when files of level 0 are to be merged before anything else is flushed.
#[must_use]
pub fn is_level_0_urgent(files: &Files<'_>) -> bool {
    level_0_overlap(files, |file| file.newest <= files.floor) >= LEVEL_0_URGENT
}

/// The most files that cover one page and cannot leave level 0 yet, because they are above the floor.
#[must_use]
pub fn unsettled_overlap(files: &Files<'_>) -> usize {
    level_0_overlap(files, |file| file.newest > files.floor)
}

fn level_0_overlap(files: &Files<'_>, which: impl Fn(&FileEntry) -> bool) -> usize {
    max_overlap(files.listed.iter().copied().filter(|file| file.level == 0 && which(file)))
}

struct View<'a> {
    files: &'a Files<'a>,
    effort: Effort,
    bodies: BodyMap,
}

impl<'a> View<'a> {
    fn new(files: &'a Files<'a>, effort: Effort) -> View<'a> {
        let bodies = BodyMap::new(&files.listed, &files.dropped, files.page_size);
        View { files, effort, bodies }
    }

    /// The files of a level that have pages, in page order.
    fn level(&self, level: u8) -> Vec<&'a FileEntry> {
        let listed = self.files.listed.iter().copied();
        let mut files: Vec<_> =
            listed.filter(|file| file.level == level && !file.is_pageless()).collect();
        files.sort_by_key(|file| (file.first, file.last, file.id));
        files
    }

    /// The files of a level that remember commits only, oldest first.
    fn pageless(&self, level: u8) -> Vec<&'a FileEntry> {
        let listed = self.files.listed.iter().copied();
        let mut files: Vec<_> =
            listed.filter(|file| file.level == level && file.is_pageless()).collect();
        files.sort_by_key(|file| (file.newest, file.id));
        files
    }

    fn deepest(&self) -> u8 {
        self.files.listed.iter().map(|file| file.level).max().unwrap_or(0)
    }

    fn overlapping(&self, level: u8, with: &[&FileEntry]) -> Vec<&'a FileEntry> {
        let mut files = self.level(level);
        files.retain(|file| with.iter().any(|other| overlap(file, other)));
        files
    }

    fn merge(&self, reason: Reason, inputs: &[&FileEntry], level: u8) -> Merge {
        let taken: BTreeSet<FileId> = inputs.iter().map(|file| file.id).collect();
        let others = self.level(level).into_iter().filter(|file| !taken.contains(&file.id));
        let cuts = if level == 0 { Vec::new() } else { others.map(|file| file.first).collect() };
        let copied = self.bodies.decide_copied(inputs);
        let inputs = inputs.iter().map(|file| file.place()).collect();
        Merge { reason, inputs, level, copied, spread: self.effort.spread(), cuts }
    }

    /// `uppers` of `level` into the next, or within the level first where too much lies below.
    fn push_down(&self, reason: Reason, uppers: &[&'a FileEntry], level: u8) -> Option<Choice> {
        let lowers = self.overlapping(level + 1, uppers);
        if let ([file], [], true) = (uppers, &lowers[..], level > 0 || is_worth_moving(uppers)) {
            return Some(Choice::Move(Move { file: file.place(), level: level + 1 }));
        }
        if uppers.len() + lowers.len() <= MAX_INPUTS {
            let inputs: Vec<_> = uppers.iter().chain(&lowers).copied().collect();
            return Some(Choice::Merge(self.merge(reason, &inputs, level + 1)));
        }
        // Fewer and larger files below: then they fit.
        self.join(Reason::Crowded, level + 1).or_else(|| self.split(uppers, level))
    }

    /// Cuts one wide file into pieces that each lie over few files of the next level.
    fn split(&self, uppers: &[&'a FileEntry], level: u8) -> Option<Choice> {
        let widest = uppers.iter().max_by_key(|file| self.overlapping(level + 1, &[file]).len())?;
        let lowers = self.overlapping(level + 1, &[widest]);
        let mut merge = self.merge(Reason::LevelFull(level), &[widest], level);
        // Over very many files the pieces are cut once more.
        let step = (MAX_INPUTS / 4).max(lowers.len().div_ceil(MAX_SPLIT));
        merge.cuts.extend(lowers.iter().step_by(step).map(|file| file.first));
        merge.cuts.sort_unstable();
        (level > 0 || uppers.len() == 1).then_some(Choice::Merge(merge))
    }

    fn level_0(&self) -> Option<Choice> {
        let floor = if planted!(MergedAboveFloor) { Revision::MAX } else { self.files.floor };
        let is_settled = |file: &&FileEntry| file.newest <= floor;
        let mut settled: Vec<_> = self.level(0).into_iter().filter(is_settled).collect();
        let mut pageless: Vec<_> = self.pageless(0).into_iter().filter(is_settled).collect();
        let count = settled.len() + pageless.len();
        let is_due = max_overlap(settled.iter().copied()) >= LEVEL_0_OVERLAP
            || pageless.len() >= LEVEL_0_OVERLAP
            || count >= LEVEL_0_FILES
            || (self.effort == Effort::Thorough && count > 0);
        if !is_due {
            return None;
        }
        settled.sort_by_key(|file| (file.newest, file.oldest, file.id));
        pageless.truncate(LEVEL_0_FILES);
        let Some(first) = settled.first() else {
            return Some(Choice::Merge(self.merge(Reason::Level0, &pageless, 1)));
        };
        if pageless.is_empty() {
            // A file that lies over nothing and under nothing older goes alone.
            let alone = settled.iter().find(|file| {
                let others = settled.iter().filter(|other| other.id != file.id);
                is_worth_moving(&[file])
                    && file.commit_count == 0
                    && file.size_change_count == 0
                    && others.clone().all(|other| !overlap(file, other))
                    && self.overlapping(1, &[file]).is_empty()
            });
            if let Some(file) = alone {
                return Some(Choice::Move(Move { file: file.place(), level: 1 }));
            }
        }
        let room = MAX_INPUTS.saturating_sub(pageless.len());
        let mut chosen = vec![*first];
        for file in settled.iter().skip(1) {
            if planted!(LevelZeroSubset) {
                chosen = vec![*file];
                continue;
            }
            let wider = closure(&[&chosen[..], &[*file]].concat(), &settled);
            let lowers = self.overlapping(1, &wider).len();
            if wider.len() + lowers <= room {
                chosen = wider;
            }
        }
        let chosen = closure(&chosen, &settled);
        if chosen.len() + self.overlapping(1, &chosen).len() > room {
            return self.push_down(Reason::Level0, &chosen, 0);
        }
        let inputs: Vec<_> =
            chosen.iter().copied().chain(self.overlapping(1, &chosen)).chain(pageless).collect();
        Some(Choice::Merge(self.merge(Reason::Level0, &inputs, 1)))
    }

    fn full_level(&self) -> Option<Choice> {
        let mut capacity = LEVEL_1_VERSIONS;
        for level in 1..=self.deepest().min(MAX_LEVEL - 1) {
            let files = self.level(level);
            if versions(&files) > capacity {
                let upper = files.into_iter().min_by_key(|file| {
                    let below = versions(&self.overlapping(level + 1, &[file]));
                    // What is written below for each version that goes down.
                    (below * 1000 / file.version_count.max(1), file.first)
                })?;
                return self.push_down(Reason::LevelFull(level), &[upper], level);
            }
            capacity = capacity.saturating_mul(LEVEL_RATIO);
        }
        None
    }

    fn crowd(&self) -> Option<Choice> {
        (1..=self.deepest()).find_map(|level| self.join(Reason::Crowded, level))
    }

    /// Neighbours of one level that fit into one file.
    fn join(&self, reason: Reason, level: u8) -> Option<Choice> {
        let files = self.level(level);
        let crowd = files.windows(CROWD).find(|crowd| versions(crowd) <= TARGET_VERSIONS)?;
        let start = files.iter().position(|file| Some(file.id) == crowd.first().map(|f| f.id))?;
        let mut sum = 0;
        let neighbours = files.into_iter().skip(start).take(MAX_INPUTS);
        let chosen: Vec<_> = neighbours
            .take_while(|file| {
                sum += file.version_count;
                sum <= TARGET_VERSIONS
            })
            .collect();
        Some(Choice::Merge(self.merge(reason, &chosen, level)))
    }

    fn logs(&self) -> Option<Choice> {
        let limit = if self.effort == Effort::Thorough { 2 } else { LOGS };
        let level = (1..=self.deepest()).find(|level| self.pageless(*level).len() >= limit)?;
        let mut files = self.pageless(level);
        files.truncate(MAX_INPUTS);
        Some(Choice::Merge(self.merge(Reason::Logs, &files, level)))
    }

    /// A file of which most can no longer be read, by what its entry says alone.
    fn expired(&self) -> Option<Choice> {
        let files = self.files;
        let is_expired = |file: &&&FileEntry| {
            let versions = file.newest <= files.oldest
                && surplus(file, files.point_count) > files.base_count as u64;
            let commits =
                file.is_pageless() && file.commit_count > 0 && file.newest <= files.log_from;
            file.level > 0 && (versions || commits)
        };
        let file = files.listed.iter().find(is_expired)?;
        Some(Choice::Merge(self.merge(Reason::Expired, &[file], file.level)))
    }

    /// Upper levels that may hide garbage in the lowest: pushed down in a thorough compaction.
    fn superseded(&self) -> Option<Choice> {
        if self.effort != Effort::Thorough {
            return None;
        }
        let level = (1..self.deepest()).find(|level| !self.level(*level).is_empty())?;
        let below: u64 = (level + 1..=self.deepest()).map(|l| versions(&self.level(l))).sum();
        let files = self.level(level);
        if below == 0 || versions(&files) * 4 <= below {
            return None;
        }
        self.push_down(Reason::Thorough, files.get(..1)?, level)
    }

    /// A file that points into objects that are to go.
    fn garbage(&self) -> Option<Choice> {
        let evacuated = self.bodies.decide_evacuated(self.effort.space_bound());
        let pointing = |file: &FileEntry| -> u64 {
            let to = file.refs.iter().filter(|to| evacuated.contains(&to.id));
            to.map(|to| to.page_count).sum()
        };
        let file = self.files.listed.iter().max_by_key(|file| pointing(file))?;
        if pointing(file) == 0 {
            return None;
        }
        let mut merge = self.merge(Reason::Garbage, &[file], file.level);
        merge.copied.extend(evacuated);
        merge.copied.sort_unstable();
        merge.copied.dedup();
        Some(Choice::Merge(merge))
    }
}

fn overlap(left: &FileEntry, right: &FileEntry) -> bool {
    !left.is_pageless()
        && !right.is_pageless()
        && left.first <= right.last
        && right.first <= left.last
}

/// Versions that `file` lists beyond those that so many named revisions and the present can need.
pub(crate) fn surplus(file: &FileEntry, point_count: usize) -> u64 {
    let kept_a_page = point_count as u64 + 2;
    file.version_count.saturating_sub(file.page_count.saturating_mul(kept_a_page))
}

fn versions(files: &[&FileEntry]) -> u64 {
    files.iter().map(|file| file.version_count).sum()
}

/// A small file is better merged than listed in a level of its own size.
fn is_worth_moving(files: &[&FileEntry]) -> bool {
    versions(files) >= TARGET_VERSIONS / 16
}

/// `chosen` and every file of `all` that must leave level 0 with them: those that hold older versions
/// of pages in their range.
fn closure<'a>(chosen: &[&'a FileEntry], all: &[&'a FileEntry]) -> Vec<&'a FileEntry> {
    let mut closed = chosen.to_vec();
    if planted!(LevelZeroSubset) {
        return closed;
    }
    loop {
        let is_needed = |file: &&&FileEntry| {
            let is_in = closed.iter().any(|other| other.id == file.id);
            !is_in && closed.iter().any(|c| overlap(c, file) && file.oldest < c.newest)
        };
        match all.iter().find(is_needed) {
            Some(file) => closed.push(*file),
            None => return closed,
        }
    }
}

#[cfg(test)]
mod tests;
