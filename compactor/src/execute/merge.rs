//! Merges files: writes new indexes, copies the bodies that the plan says, leaves the others where they
//! are.

use std::collections::HashSet;
use std::sync::Arc;

use pagestore::Error;
use pagestore::internal::file::{BodyAt, CommitRecord, FileEntry, Origin, SizeChange};
use pagestore::internal::levels::{
    self, MergeError, MergeIter, Readable, Retention, SizeHistory, Step,
};
use pagestore::internal::mirror::VolumeState;
use pagestore::internal::types::{ContentHash, FileId, Revision};

use super::bodies::{OpenFiles, read_bodies};
use super::file::{BlockStream, Version};
use super::holds::read_readable;
use super::outputs::Outputs;
use crate::claim::Claim;
use crate::interrupt::{Interrupt, Work};
use crate::merge::locality::decide_gathered;
use crate::merge::pick::{Merge, Move, TARGET_VERSIONS};
use crate::merge::room::Room;
use crate::progress::{Progress, Reporter};
use crate::publish::{Edit, Upload};

/// Bytes of pages that are written at a time, at least a page: bounds what is held in memory.
const WINDOW_BYTES: usize = 8 << 20;
/// The level of the files that remember commits and sizes only.
const LOG_LEVEL: u8 = 1;

/// Lists a file in another level as it is.
pub(crate) async fn relocate(claim: &Claim, state: &VolumeState, step: &Move) -> Work<Revision> {
    let entry = state.levels.get(step.file.file).filter(|entry| entry.place() == step.file);
    let entry = entry.ok_or(Interrupt::Overtaken)?;
    let output = FileEntry { level: step.level, ..FileEntry::clone(entry) };
    let upload = Upload::begin(claim, state.revision).await?;
    let edit = Edit { outputs: vec![output], inputs: vec![step.file], floor: None };
    upload.publish(claim, state, edit).await
}

/// Replaces files by their merge; returns the revision at which that was published.
///
/// `state` must not be older than the last raise of the oldest revision: what it says of points and of
/// unflushed deltas decides what stays.
pub(crate) async fn merge(
    claim: &Claim,
    state: &VolumeState,
    plan: &Merge,
    report: &Reporter<'_>,
) -> Work<Revision> {
    let inputs = plan.inputs.iter().map(|place| {
        let entry = state.levels.get(place.file).filter(|entry| entry.place() == *place);
        entry.cloned().ok_or(Interrupt::Overtaken)
    });
    let inputs: Vec<Arc<FileEntry>> = inputs.collect::<Work<_>>()?;
    let open = OpenFiles::default();
    let readable = read_readable(claim.volume(), state).await?;
    let sizes = read_truncations(claim, state, &open).await?;
    let needed_bases = unflushed_bases(state);
    let (commits, kept_sizes) = read_log(claim, state, &open, &inputs, &readable).await?;

    let upload = Upload::begin(claim, state.revision).await?;
    let versions: u64 = inputs.iter().map(|entry| entry.version_count).sum();
    let with_pages = inputs.iter().filter(|entry| !entry.is_pageless());
    let ranges: Vec<_> = with_pages.map(|entry| (entry.first, entry.last)).collect();
    let room = Room::new(&ranges, &plan.cuts);
    let target = room.target_versions(versions, TARGET_VERSIONS);
    let mut outputs = Outputs::new(upload, LOG_LEVEL, Origin::Merge, target, room);
    if !commits.is_empty() || !kept_sizes.is_empty() {
        let writer = outputs.writer(claim, state).await?;
        commits.into_iter().for_each(|record| writer.push_commit(record));
        kept_sizes.into_iter().for_each(|change| writer.push_size_change(change));
    }
    outputs.switch_level(claim, plan.level).await?;

    let mut sources = Vec::new();
    for entry in inputs.iter().filter(|entry| !entry.is_pageless()) {
        sources.push(BlockStream::new(open.open(claim.volume(), entry).await?));
    }
    let mut pages = PageStream::new(sources);
    let (readable, sizes, needed_bases) = (&readable, &sizes, &needed_bases);
    let retention = Retention { readable, sizes, needed_bases, bottom: false };
    let filter = Filter::new(state, plan, retention);
    let mut window = Vec::new();
    let window_versions = (WINDOW_BYTES / state.record.page_size.bytes()).max(1);
    let mut done = 0;
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        done += page.len() as u64;
        window.extend(filter.decide_kept(page));
        while window.len() >= window_versions {
            let rest = window.split_off(window_versions);
            write(claim, state, plan, &mut outputs, std::mem::replace(&mut window, rest)).await?;
            report.tell(Progress::Merging { done, total: versions });
        }
    }
    write(claim, state, plan, &mut outputs, window).await?;
    let (upload, entries) = outputs.finish(claim).await?;
    let edit = Edit { outputs: entries, inputs: plan.inputs.clone(), floor: None };
    upload.publish(claim, state, edit).await
}

/// The truncations that any file remembers.
async fn read_truncations(
    claim: &Claim,
    state: &VolumeState,
    open: &OpenFiles,
) -> Work<SizeHistory> {
    let mut sizes = SizeHistory::default();
    for entry in state.levels.files().filter(|entry| entry.truncation.is_some()) {
        let file = open.open(claim.volume(), entry).await?;
        file.tail().sizes().iter().for_each(|change| sizes.insert(*change));
    }
    Ok(sizes)
}

/// What the deltas above the floor are against.
pub(crate) fn unflushed_bases(state: &VolumeState) -> HashSet<ContentHash> {
    if planted!(NeededBaseDropped) {
        return HashSet::new();
    }
    let changes = state.unflushed().flat_map(|(_, commit)| &commit.pages);
    changes.filter_map(|change| change.staged?.base).collect()
}

/// The commits and size changes of `inputs` that are to be remembered still.
async fn read_log(
    claim: &Claim,
    state: &VolumeState,
    open: &OpenFiles,
    inputs: &[Arc<FileEntry>],
    readable: &Readable,
) -> Work<(Vec<CommitRecord>, Vec<SizeChange>)> {
    let (mut commits, mut sizes) = (Vec::new(), SizeHistory::default());
    for entry in inputs.iter().filter(|entry| entry.commit_count + entry.size_change_count > 0) {
        let file = open.open(claim.volume(), entry).await?;
        commits.extend(file.commits().await?);
        file.tail().sizes().iter().for_each(|change| sizes.insert(*change));
    }
    commits.retain(|record| record.revision > state.oldest.record.log_from);
    Ok((commits, sizes.coalesced(readable)))
}

/// Writes a window of versions.
async fn write(
    claim: &Claim,
    state: &VolumeState,
    plan: &Merge,
    outputs: &mut Outputs,
    window: Vec<Version>,
) -> Work<()> {
    let copied_out_of = if outputs.is_scarce() {
        Vec::new()
    } else {
        let stays = |at: &BodyAt| plan.copied.binary_search(&at.file).is_err();
        let stay = window.iter().filter_map(|version| version.at).filter(stays);
        [&plan.copied[..], &decide_gathered(stay.map(|at| at.file), plan.spread)].concat()
    };
    let is_copied =
        |version: &Version| version.at.is_some_and(|at| copied_out_of.contains(&at.file));
    let copied: Vec<Version> =
        window.iter().filter(|version| is_copied(version)).copied().collect();
    let mut bodies = read_bodies(claim.volume(), state, &copied).await?.into_iter();
    for version in window {
        // Compressing takes a while: others get the thread in between.
        tokio::task::consume_budget().await;
        let (page, revision, hash) =
            (version.entry.page, version.entry.revision, version.entry.hash);
        outputs.close_before(claim, page, &plan.cuts).await?;
        let body = if is_copied(&version) { bodies.next() } else { None };
        let writer = outputs.writer(claim, state).await?;
        match (body, version.at) {
            (Some(content), _) => writer.push_body(page, revision, hash, &content),
            (None, Some(at)) => writer.push_ref(page, revision, hash, at),
            (None, None) => writer.push_zero(page, revision),
        }
    }
    Ok(())
}

/// Which versions of a page go into the output.
struct Filter<'a> {
    retention: Retention<'a>,
    /// Files below the output.
    deeper: Vec<&'a FileEntry>,
    has_parent: bool,
}

impl<'a> Filter<'a> {
    fn new(state: &'a VolumeState, plan: &Merge, retention: Retention<'a>) -> Filter<'a> {
        let inputs: HashSet<FileId> = plan.inputs.iter().map(|place| place.file).collect();
        let deeper = state.levels.files().map(Arc::as_ref);
        let deeper = deeper.filter(|entry| entry.level > plan.level && !inputs.contains(&entry.id));
        Filter { retention, deeper: deeper.collect(), has_parent: state.record.parent.is_some() }
    }

    /// Of all versions of one page, newest first, those that stay.
    fn decide_kept(&self, versions: Vec<Version>) -> Vec<Version> {
        let Some(first) = versions.first() else { return versions };
        let page = first.entry.page;
        // What a page of zeros would uncover: an older version, or the parent's.
        let bottom = !self.has_parent && !self.deeper.iter().any(|entry| entry.may_hold(page));
        let retention = Retention { bottom, ..self.retention };
        let version = |version: &Version| levels::Version {
            revision: version.entry.revision,
            hash: version.entry.hash,
        };
        let keep = retention.keep(page, &versions.iter().map(version).collect::<Vec<_>>());
        versions.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(v, _)| v).collect()
    }
}

/// The versions of several files, a page at a time, the newest version of a page first.
struct PageStream {
    merge: MergeIter,
    sources: Vec<BlockStream>,
    /// What was taken of the page after the one given.
    ahead: Option<Version>,
}

impl PageStream {
    fn new(sources: Vec<BlockStream>) -> PageStream {
        PageStream { merge: MergeIter::new(sources.len()), sources, ahead: None }
    }

    /// All versions of the next page; none after the last.
    async fn next(&mut self) -> Work<Vec<Version>> {
        let mut versions: Vec<Version> = self.ahead.take().into_iter().collect();
        while let Some(version) = self.next_version().await? {
            if versions.first().is_some_and(|first| first.entry.page != version.entry.page) {
                self.ahead = Some(version);
                break;
            }
            versions.push(version);
        }
        Ok(versions)
    }

    async fn next_version(&mut self) -> Work<Option<Version>> {
        const KNOWN: &str = "BUG: the merge names a source that it was not given";
        loop {
            match self.merge.step().map_err(broken)? {
                Step::Done => return Ok(None),
                Step::NeedBlock(source) => {
                    let block = self.sources.get_mut(source).expect(KNOWN).next().await?;
                    self.merge.feed(source, block).map_err(broken)?;
                }
                Step::Entry { source, entry } => {
                    return self.sources.get(source).expect(KNOWN).file().locate(entry).map(Some);
                }
            }
        }
    }
}

fn broken(error: MergeError) -> Error {
    Error::corrupt("files of one volume", error)
}
