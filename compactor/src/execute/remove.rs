//! Takes what has been flushed out of the meta tier.
//!
//! Deletes pointers, staged pages and, last, changelog entries up to the floor. Never deletes a staged
//! page that an unflushed version needs, as itself or as its base: what is needed is read at one
//! revision, and every deletion is guarded by the page's pointer not having changed since. Safe to
//! begin anew at any point, and by anybody.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;

use pagestore::internal::meta::keys::VolumeKeys;
use pagestore::internal::meta::records::{ChangelogEntry, Commit, Floor, Record};
use pagestore::internal::meta::{
    Compare, KeyRange, MAX_TXN_OPS, Op, OpResponse, RangeRequest, Txn,
};
use pagestore::internal::mirror;
use pagestore::internal::types::{ContentHash, PageNo, Revision};
use pagestore::{Error, ErrorKind};

use crate::claim::Claim;
use crate::interrupt::{Interrupt, Work};

/// Nested transactions in one; each may then use the other half of the operations.
const NESTED: usize = MAX_TXN_OPS / 2;
/// Operations in a nested transaction.
const NESTED_OPS: usize = MAX_TXN_OPS - NESTED;
/// Rounds in which pages whose guard failed are tried again. A page so hot that they all fail is left
/// to the sweep.
const MAX_ROUNDS: usize = 3;

/// Where a page's content is staged: its hash, and its base if it is a delta.
type StagedAt = (ContentHash, Option<ContentHash>);

/// What the changelog says at one revision of what can go and what must stay.
#[derive(Debug, Default)]
struct Changelog {
    read_at: Revision,
    /// Flushed pages, with where their contents are staged.
    flushed: BTreeMap<PageNo, BTreeSet<StagedAt>>,
    /// Pages that have a version above the floor.
    unflushed: HashSet<PageNo>,
    /// What versions above the floor need.
    needed: HashSet<StagedAt>,
    /// Entries that can go once everything else has gone.
    entries: Vec<Bytes>,
}

impl Changelog {
    fn add(&mut self, key: &Bytes, revision: Revision, entry: &ChangelogEntry, up_to: Revision) {
        if revision <= up_to {
            self.entries.push(key.clone());
        }
        let ChangelogEntry::Committed(Commit { pages, .. }) = entry else { return };
        for change in pages {
            let staged = change.staged.map(|staged| (change.hash, staged.base));
            let base = staged.and_then(|(_, base)| base).map(|base| (base, None));
            let contents = staged.into_iter().chain(base);
            if revision <= up_to {
                self.flushed.entry(change.page).or_default().extend(contents);
            } else {
                self.unflushed.insert(change.page);
                if planted!(NeededStagedRemoved) {
                    continue;
                }
                if planted!(BaseGone) {
                    self.needed.extend(staged);
                    continue;
                }
                self.needed.extend(contents);
            }
        }
    }

    /// The deletions for one page, guarded by its pointer: at most `NESTED_OPS` at a time.
    fn removal(&self, keys: &VolumeKeys, page: PageNo, staged: &BTreeSet<StagedAt>) -> Vec<Op> {
        let gone = staged.iter().filter(|staged| !self.needed.contains(staged));
        let pointer = (!self.unflushed.contains(&page)).then(|| keys.pointer(page));
        let keys = gone.map(|(hash, base)| keys.staged(*hash, *base)).chain(pointer);
        keys.map(Op::delete).collect()
    }
}

/// A nested transaction being filled.
#[derive(Debug, Default)]
struct Group {
    pages: Vec<PageNo>,
    ops: Vec<Op>,
}

/// What a removal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Pages whose pointers and staged contents went.
    pub(crate) page_count: u64,
    /// Pages that changed whenever they were tried; what they left behind is for the sweep.
    pub(crate) hot_count: u64,
}

/// Removes everything up to `up_to`, which must be at or below the floor.
pub(crate) async fn remove(claim: &Claim, up_to: Revision) -> Work<Removed> {
    check_flushed(claim, up_to).await?;
    let mut changelog = read_changelog(claim, up_to).await?;
    let entries = std::mem::take(&mut changelog.entries);
    let page_count = changelog.flushed.len() as u64;
    let mut hot: Option<HashSet<PageNo>> = None;
    for round in 0..MAX_ROUNDS {
        // A page that failed is tried alone, so that it does not hold up its neighbours.
        let group_pages = if round == 0 { NESTED_OPS } else { 1 };
        let tried = remove_pages(claim, &changelog, hot.as_ref(), group_pages).await?;
        let is_done = tried.is_empty();
        hot = Some(tried);
        if is_done {
            break;
        }
        changelog = read_changelog(claim, up_to).await?;
    }
    remove_entries(claim, entries).await?;
    let hot_count = hot.map_or(0, |hot| hot.len() as u64);
    Ok(Removed { page_count: page_count - hot_count, hot_count })
}

/// Nothing goes that is not in files: what is to be removed was written down by another process, maybe.
async fn check_flushed(claim: &Claim, up_to: Revision) -> Work<()> {
    let volume = claim.volume();
    let request = RangeRequest::new(KeyRange::key(volume.keys.floor()));
    let found = volume.meta.range(request).await?;
    let floor = match found.kvs.first() {
        Some(kv) => Floor::of(&volume.keys, kv)?.up_to,
        None => Revision::ZERO,
    };
    if up_to <= floor {
        return Ok(());
    }
    Err(Interrupt::Failed(Error::new(
        ErrorKind::Corrupt,
        format!("what is staged up to {up_to} was not removed: only {floor} is in files"),
    )))
}

async fn read_changelog(claim: &Claim, up_to: Revision) -> Work<Changelog> {
    let volume = claim.volume();
    let scan = mirror::scan(volume.meta.as_ref(), &volume.keys.commits(), None).await?;
    let mut changelog = Changelog { read_at: scan.revision, ..Changelog::default() };
    for kv in &scan.kvs {
        let entry = ChangelogEntry::of(&volume.keys, kv)?;
        changelog.add(&kv.key, kv.mod_revision, &entry, up_to);
    }
    Ok(changelog)
}

/// Removes the pages among `only` (all, when there are none); returns those that had changed.
async fn remove_pages(
    claim: &Claim,
    changelog: &Changelog,
    only: Option<&HashSet<PageNo>>,
    group_pages: usize,
) -> Work<HashSet<PageNo>> {
    let keys = &claim.volume().keys;
    let mut groups = vec![Group::default()];
    let mut failed = HashSet::new();
    let chosen = changelog.flushed.iter().filter(|(page, _)| only.is_none_or(|o| o.contains(page)));
    for (page, staged) in chosen {
        for ops in changelog.removal(keys, *page, staged).chunks(NESTED_OPS) {
            let fits = groups.last().is_some_and(|group| {
                group.ops.len() + ops.len() <= NESTED_OPS && group.pages.len() < group_pages
            });
            if !fits && groups.len() == NESTED {
                send(claim, changelog.read_at, std::mem::take(&mut groups), &mut failed).await?;
            }
            if !fits || groups.is_empty() {
                groups.push(Group::default());
            }
            let group = groups.last_mut().expect("BUG: a group was just added");
            group.pages.push(*page);
            group.ops.extend_from_slice(ops);
        }
    }
    send(claim, changelog.read_at, groups, &mut failed).await?;
    Ok(failed)
}

/// Runs each group under the guard that none of its pages changed after `read_at`.
async fn send(
    claim: &Claim,
    read_at: Revision,
    groups: Vec<Group>,
    failed: &mut HashSet<PageNo>,
) -> Work<()> {
    let keys = &claim.volume().keys;
    let guard =
        |page: &PageNo| Compare::unchanged_since(KeyRange::key(keys.pointer(*page)), read_at);
    let nested = groups.iter().map(|group| {
        let guarded = group.pages.iter().filter(|_| !planted!(RemovalUnguarded));
        let compares = guarded.map(guard).collect();
        Op::Txn(Txn { compares, then: group.ops.clone(), or_else: vec![] })
    });
    let response = claim.txn(vec![], nested.collect()).await?;
    if !response.succeeded {
        return Err(Interrupt::ClaimLost);
    }
    for (group, response) in groups.into_iter().zip(response.responses) {
        if !matches!(response, OpResponse::Txn(nested) if nested.succeeded) {
            failed.extend(group.pages);
        }
    }
    Ok(())
}

async fn remove_entries(claim: &Claim, entries: Vec<Bytes>) -> Work<()> {
    for batch in entries.chunks(NESTED * NESTED_OPS) {
        let nested = batch.chunks(NESTED_OPS).map(|keys| {
            let then = keys.iter().cloned().map(Op::delete).collect();
            Op::Txn(Txn { compares: vec![], then, or_else: vec![] })
        });
        if !claim.txn(vec![], nested.collect()).await?.succeeded {
            return Err(Interrupt::ClaimLost);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pagestore::internal::meta::keys::StoreKeys;
    use pagestore::internal::meta::records::{PageChange, StagedAs};
    use pagestore::internal::types::VolumeId;

    use super::*;

    fn hash(n: u8) -> ContentHash {
        ContentHash([n; 16])
    }

    fn change(page: u64, content: u8, base: Option<u8>) -> PageChange {
        let staged = Some(StagedAs { base: base.map(hash), bytes: 9 });
        PageChange { page: PageNo(page), hash: hash(content), staged }
    }

    fn changelog(commits: &[(u64, PageChange)], up_to: u64) -> Changelog {
        let mut changelog = Changelog::default();
        for (revision, change) in commits {
            let commit = Commit {
                base: Revision(0),
                pages: vec![*change],
                files: vec![],
                bulk_page_count: 0,
                size: None,
            };
            let entry = ChangelogEntry::Committed(commit);
            changelog.add(&Bytes::new(), Revision(*revision), &entry, Revision(up_to));
        }
        changelog
    }

    fn removal(changelog: &Changelog, page: u64) -> Vec<Op> {
        let keys = StoreKeys::new("").volume(VolumeId(1));
        changelog.removal(&keys, PageNo(page), &changelog.flushed[&PageNo(page)])
    }

    #[test]
    fn a_page_without_newer_version_goes_with_its_pointer_and_its_base() {
        let keys = StoreKeys::new("").volume(VolumeId(1));
        let changelog = changelog(&[(5, change(0, 2, Some(1)))], 5);
        let expected = [keys.staged(hash(1), None), keys.staged(hash(2), Some(hash(1)))];
        let expected = expected.into_iter().chain([keys.pointer(PageNo(0))]).map(Op::delete);
        assert_eq!(removal(&changelog, 0), expected.collect::<Vec<_>>());
    }

    #[test]
    fn what_a_newer_version_needs_stays_and_so_does_its_pointer() {
        let keys = StoreKeys::new("").volume(VolumeId(1));
        let commits =
            [(4, change(0, 1, None)), (5, change(0, 2, Some(1))), (6, change(0, 3, Some(1)))];
        let changelog = changelog(&commits, 5);
        assert_eq!(removal(&changelog, 0), [Op::delete(keys.staged(hash(2), Some(hash(1))))]);
    }

    #[test]
    fn content_that_came_back_stays_in_the_form_it_came_back_in() {
        let keys = StoreKeys::new("").volume(VolumeId(1));
        let commits =
            [(4, change(0, 1, Some(9))), (5, change(0, 2, None)), (6, change(0, 1, None))];
        let changelog = changelog(&commits, 5);
        let expected = [(1, Some(9)), (2, None), (9, None)];
        let expected = expected.map(|(h, b)| Op::delete(keys.staged(hash(h), b.map(hash))));
        assert_eq!(removal(&changelog, 0), expected);
    }

    #[test]
    fn aborted_commits_leave_nothing_but_their_marker() {
        let mut changelog = Changelog::default();
        changelog.add(
            &Bytes::from_static(b"x"),
            Revision(4),
            &ChangelogEntry::Aborted,
            Revision(5),
        );
        changelog.add(
            &Bytes::from_static(b"y"),
            Revision(6),
            &ChangelogEntry::Aborted,
            Revision(5),
        );
        assert_eq!(changelog.entries, [Bytes::from_static(b"x")]);
        assert!(changelog.flushed.is_empty());
    }
}
