//! What differs between two revisions.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;

use super::objects::Objects;
use super::{CONCURRENCY, Inspector};
use crate::error::Result;
use crate::file::FileEntry;
use crate::mirror::VolumeState;
use crate::snapshot::Snapshot;
use crate::types::{PageCount, PageNo, Revision};

/// What became of pages between two revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They are in both, with different content.
    Changed,
    /// They are in the second only.
    Added,
    /// They are in the first only.
    Removed,
}

impl Change {
    /// The name that people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Changed => "changed",
            Change::Added => "added",
            Change::Removed => "removed",
        }
    }
}

/// Neighbouring pages of which the same became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedPages {
    /// The first.
    pub first: PageNo,
    /// The last.
    pub last: PageNo,
    /// What became of them.
    pub change: Change,
}

/// What differs between two revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The first revision.
    pub from: Revision,
    /// The second, newer or older.
    pub to: Revision,
    /// Pages at the first.
    pub page_count_from: PageCount,
    /// Pages at the second.
    pub page_count_to: PageCount,
    /// The pages that differ, in order.
    pub pages: Vec<ChangedPages>,
}

/// The revisions after the first, up to the second.
#[derive(Clone, Copy, Debug)]
struct Span {
    after: Revision,
    up_to: Revision,
}

impl Span {
    fn contains(&self, revision: Revision) -> bool {
        self.after < revision && revision <= self.up_to
    }
}

impl Inspector {
    /// The pages that differ between the revisions `from` and `to`, in either order. Only what was
    /// written in between is looked at, and content is told by its hash: no page is read.
    ///
    /// # Errors
    /// As [`crate::Volume::snapshot_at`], of either.
    pub async fn diff(&self, from: Revision, to: Revision) -> Result<Diff> {
        let older = self.volume.snapshot_at(from.min(to)).await?;
        let newer = self.volume.snapshot_at(from.max(to)).await?;
        let counts = (older.page_count(), newer.page_count());
        let common = counts.0.min(counts.1);
        let mut candidates = self.look(|state| self.candidates(state, &older, &newer)).await?;
        candidates.remove_range(common.0..);
        let differing = self.differing(&candidates, &older, &newer).await?;

        let mut pages = Vec::new();
        differing.into_iter().for_each(|page| push(&mut pages, page, page, Change::Changed));
        let (count_from, count_to) = if from <= to { counts } else { (counts.1, counts.0) };
        let longer = count_from.max(count_to);
        if let Some(last) = longer.0.checked_sub(1).filter(|_| longer > common) {
            let change = if count_to > count_from { Change::Added } else { Change::Removed };
            push(&mut pages, PageNo(common.0), PageNo(last), change);
        }
        Ok(Diff { from, to, page_count_from: count_from, page_count_to: count_to, pages })
    }

    /// Every page of which a version was made between the two, and maybe more.
    async fn candidates(
        &self,
        state: Arc<VolumeState>,
        older: &Snapshot,
        newer: &Snapshot,
    ) -> Result<RoaringTreemap> {
        let span = Span { after: older.revision(), up_to: newer.revision() };
        let mut pages = RoaringTreemap::new();
        let mut bulk = Vec::new();
        for ((_, _), commit) in
            state.since(span.after).take_while(|((revision, _), _)| *revision <= span.up_to)
        {
            pages.extend(commit.pages.iter().map(|change| change.page.0));
            bulk.extend_from_slice(&commit.files);
            if let Some(lowest) = commit.size.and_then(|size| size.lowest) {
                pages.insert_range(lowest.0..older.page_count().0.max(lowest.0));
            }
        }
        // What is in memory is all there was, except for the pages of bulk commits.
        let is_known = span.after >= state.changelog_from;
        let is_listed = bulk.iter().all(|file| state.levels.get(*file).is_some());
        let is_concerned = |entry: &FileEntry| match is_known && is_listed {
            true => bulk.contains(&entry.id),
            // Size changes may lie outside the revisions of the file's versions.
            false => {
                (entry.newest > span.after && entry.oldest <= span.up_to)
                    || entry.truncation.is_some_and(|truncation| truncation.newest > span.after)
            }
        };
        for (entry, tail) in self.tails(&state, is_concerned).await? {
            let truncations = tail.sizes().iter().filter(|size| span.contains(size.revision));
            for lowest in truncations.filter_map(|size| size.lowest) {
                pages.insert_range(lowest.0..older.page_count().0.max(lowest.0));
            }
            if span.contains(entry.oldest) && span.contains(entry.newest) {
                pages |= tail.pages();
                continue;
            }
            let objects = Objects::of(&self.core);
            let (entry, tail) = (&entry, &tail);
            let blocks = stream::iter(tail.blocks()).map(|block| objects.block(entry, tail, block));
            let mut blocks = blocks.buffered(CONCURRENCY);
            while let Some(block) = blocks.try_next().await? {
                let made = block.entries().iter().filter(|found| span.contains(found.revision));
                pages.extend(made.map(|found| found.page.0));
            }
        }
        Ok(pages)
    }

    /// Those of `candidates` whose content differs.
    async fn differing(
        &self,
        candidates: &RoaringTreemap,
        older: &Snapshot,
        newer: &Snapshot,
    ) -> Result<Vec<PageNo>> {
        let reader = &self.core.reader;
        let found = stream::iter(candidates.iter().map(PageNo)).map(|page| async move {
            let before = reader.find(older.view(), page).await?;
            let after = reader.find(newer.view(), page).await?;
            Ok((before.hash != after.hash).then_some(page))
        });
        found.buffered(CONCURRENCY).try_filter_map(async |page| Ok(page)).try_collect().await
    }
}

/// Adds pages, as part of the last range if they continue it.
fn push(pages: &mut Vec<ChangedPages>, first: PageNo, last: PageNo, change: Change) {
    match pages.last_mut() {
        Some(before)
            if before.change == change && before.last.0.checked_add(1) == Some(first.0) =>
        {
            before.last = last
        }
        _ => pages.push(ChangedPages { first, last, change }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_change_become_one_range() {
        let mut pages = Vec::new();
        for page in [3, 4, 5, 9] {
            push(&mut pages, PageNo(page), PageNo(page), Change::Changed);
        }
        push(&mut pages, PageNo(10), PageNo(20), Change::Added);
        let ranges: Vec<_> =
            pages.iter().map(|range| (range.first.0, range.last.0, range.change)).collect();
        assert_eq!(
            ranges,
            [(3, 5, Change::Changed), (9, 9, Change::Changed), (10, 20, Change::Added)]
        );
    }
}
