//! The transactions that pagestore sends: every rule of atomicity is written here, once. Pure.

use bytes::Bytes;

use super::keys::{FilePlace, SENTINEL_SESSION, VolumeKeys};
use super::records::{
    ChangelogEntry, Commit, Intent, Oldest, PageCountRecord, Pointer, Record, StagedAs,
    VolumeRecord, encode_pin,
};
use super::{
    Compare, KeyRange, LeaseId, MAX_REQUEST_BYTES, MAX_TXN_OPS, Op, Projection, RangeRequest, Txn,
};
use crate::types::{CommitId, ContentHash, FileId, PageCount, PageNo, Revision};

/// Ranges of pages that a commit compares at most. With the compares below, its own nested
/// transactions and the group's, every path stays within [`MAX_TXN_OPS`].
pub const MAX_GUARD_RANGES: usize = 58;
/// Volumes that one commit may change at most: SQLite attaches ten databases to the main one, by default.
pub const MAX_PARTS: usize = 11;
/// Ranges of pages that each volume of a commit may compare at least.
const MIN_GUARD_RANGES: usize = 2;
/// Puts in one nested transaction of a large commit, at least, when it publishes no files.
const NESTED_PUTS: usize = 64;
/// Nested transactions of a large commit at most.
const MAX_NESTED: usize = 58;
/// Puts of a commit beside those of its pages: changelog entry, head, page count, write lock.
const OWN_PUTS: usize = 4;
/// Compares of a commit beside its page ranges: id, volume, floor, barrier, page count, write lock.
const OWN_COMPARES: usize = 6;
/// Files that one commit may publish at most: each costs a compare that cannot be nested.
pub const MAX_FILES: usize = 96;
/// Ranges of pages that a commit of files compares at most, to leave room for theirs.
pub const MAX_FILE_GUARD_RANGES: usize = 16;
/// Puts that one commit may have in all.
const MAX_PUTS: usize = NESTED_PUTS * MAX_NESTED;
/// Puts of staged pages and pointers that fit into one commit, beside its own and its barriers.
pub const MAX_STAGED_PUTS: usize = MAX_PUTS - (OWN_PUTS + 1) * MAX_PARTS;
/// Bytes of keys and values that one commit may put: the rest of the request is room for framing.
pub const MAX_COMMIT_BYTES: usize = MAX_REQUEST_BYTES - (MAX_REQUEST_BYTES >> 2);
/// Bytes that each operation costs beside its key and value.
const OP_BYTES: usize = 16;
/// Commits of one group at most.
pub const MAX_GROUP: usize = 32;
/// Operations that a commit in a group may have.
pub const MAX_GROUPED_OPS: usize = MAX_TXN_OPS - (MAX_GROUP + 1);

const _: () = assert!(NESTED_PUTS + MAX_NESTED <= MAX_TXN_OPS);
const _: () = assert!(NESTED_PUTS + MAX_GUARD_RANGES + OWN_COMPARES <= MAX_TXN_OPS);
const _: () = assert!(MAX_GUARD_RANGES + OWN_COMPARES <= MAX_GROUPED_OPS);
// With one file each, too.
const _: () = assert!(MAX_PARTS * (MIN_GUARD_RANGES + OWN_COMPARES + 1) < MAX_TXN_OPS);

/// A page that a commit stages.
#[derive(Clone, Debug)]
pub struct StagedPut {
    /// The page.
    pub page: PageNo,
    /// Its content.
    pub hash: ContentHash,
    /// The base and the value; `None` for a zero page.
    pub body: Option<StagedBody>,
}

/// A staged page's content.
#[derive(Clone, Debug)]
pub struct StagedBody {
    /// What it is a delta against.
    pub base: Option<ContentHash>,
    /// The value under the content's key.
    pub value: Bytes,
}

impl StagedPut {
    /// What the changelog says of it.
    #[must_use]
    pub fn staged_as(&self) -> Option<StagedAs> {
        self.body.as_ref().map(|body| StagedAs {
            base: body.base,
            bytes: u32::try_from(body.value.len())
                .expect("BUG: a staged page is no longer than a request"),
        })
    }
}

/// A file that a bulk commit publishes.
#[derive(Clone, Debug)]
pub struct FilePut {
    /// Its key.
    pub place: FilePlace,
    /// Its entry.
    pub value: Bytes,
}

/// What a commit must find unchanged.
#[derive(Clone, Debug, Default)]
pub struct Guards {
    /// Ranges of pages, first and last, that no commit after the base may have changed.
    pub ranges: Vec<(PageNo, PageNo)>,
    /// Pages whose last change may be as new as the revision beside them.
    pub newer: Vec<(PageNo, Revision)>,
    /// The page count, too.
    pub page_count: bool,
    /// The volume's write lock, for those who write under one.
    pub lock: LockGuard,
}

/// What a commit wants of the volume's write lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LockGuard {
    /// Nothing.
    #[default]
    None,
    /// That nobody has it.
    Free(Bytes),
    /// That it is still held.
    Held {
        /// The lock's key.
        key: Bytes,
        /// The create revision of the key since the lock was taken.
        created: Revision,
        /// The commit gives it back.
        release: bool,
    },
}

/// One volume's part of a commit.
#[derive(Clone, Debug)]
pub struct CommitPart {
    /// The volume's keys.
    pub keys: VolumeKeys,
    /// When the volume was made.
    pub created: Revision,
    /// The commit.
    pub id: CommitId,
    /// What it must find unchanged.
    pub guards: Guards,
    /// What it says in the changelog; its base is what everything is compared with.
    pub commit: Commit,
    /// Pages to stage.
    pub pages: Vec<StagedPut>,
    /// Files to publish.
    pub files: Vec<FilePut>,
}

impl CommitPart {
    fn base(&self) -> Revision {
        self.commit.base
    }

    fn truncates(&self) -> bool {
        self.commit.size.is_some_and(|size| size.lowest.is_some())
    }

    /// True when commits of others must not share its transaction.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.truncates() || !self.files.is_empty()
    }

    /// How many puts its pages and files need.
    #[must_use]
    pub fn put_count(&self) -> usize {
        self.pages.iter().map(|page| 1 + usize::from(page.body.is_some())).sum::<usize>()
            + 2 * self.files.len()
    }

    /// Compares, without that of the volume.
    #[must_use]
    pub fn compare_count(&self) -> usize {
        self.guards.ranges.len() + self.guards.newer.len() + OWN_COMPARES + self.files.len()
    }

    /// Bytes of keys and values, with what each operation costs beside them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let key = self.keys.head().len() + OP_BYTES;
        let pages: usize = self
            .pages
            .iter()
            .map(|page| {
                let body = page.body.as_ref().map_or(0, |body| key + 32 + body.value.len());
                // Pointer, and the page's line in the changelog entry.
                body + key + 8 + 21 + 48
            })
            .sum();
        let files: usize = self.files.iter().map(|file| 3 * (key + 33) + file.value.len()).sum();
        let guards = (self.guards.ranges.len() + self.guards.newer.len()) * (2 * key + 24);
        pages + files + guards + (OWN_PUTS + OWN_COMPARES) * (key + 16)
    }

    /// True when it may share a transaction with others.
    #[must_use]
    pub fn fits_group(&self) -> bool {
        !self.is_exclusive()
            && !matches!(self.guards.lock, LockGuard::Held { .. })
            && self.put_count() + OWN_PUTS <= MAX_GROUPED_OPS
            && self.compare_count() <= MAX_GROUPED_OPS
    }

    fn compares(&self) -> Vec<Compare> {
        let (keys, base) = (&self.keys, self.base());
        let unchanged = |key: Bytes| Compare::unchanged_since(KeyRange::key(key), base);
        let mut compares = vec![
            Compare::absent(keys.commit(self.id)),
            unchanged(keys.floor()),
            unchanged(keys.barrier()),
        ];
        if planted!(CommitIgnoresFloor) {
            compares.remove(1);
        }
        if self.guards.page_count && !planted!(CountNotCompared) {
            compares.push(unchanged(keys.page_count()));
        }
        match &self.guards.lock {
            LockGuard::None => {}
            LockGuard::Free(_) if planted!(LockDisrespected) => {}
            LockGuard::Held { .. } if planted!(LostLockUnnoticed) => {}
            LockGuard::Free(key) => compares.push(Compare::absent(key.clone())),
            LockGuard::Held { key, created, .. } => {
                compares.push(Compare::created(key.clone(), *created));
            }
        }
        let ranges = self.guards.ranges.iter();
        compares.extend(
            ranges
                .map(|(first, last)| Compare::unchanged_since(keys.pointers(*first, *last), base)),
        );
        let newer = self.guards.newer.iter();
        compares.extend(
            newer.map(|(page, at)| {
                Compare::unchanged_since(KeyRange::key(keys.pointer(*page)), *at)
            }),
        );
        if planted!(FilesNotIntended) {
            return compares;
        }
        compares
            .extend(self.files.iter().map(|file| Compare::exists(keys.intent(file.place.file))));
        compares
    }

    /// Puts of pages and files.
    fn body_ops(&self) -> Vec<Op> {
        let keys = &self.keys;
        let mut ops = Vec::with_capacity(self.put_count());
        for page in &self.pages {
            if let Some(body) = &page.body {
                ops.push(Op::put(keys.staged(page.hash, body.base), body.value.clone()));
            }
            ops.push(Pointer { hash: page.hash }.put(keys, keys.pointer(page.page)));
        }
        for file in &self.files {
            ops.push(Op::delete(keys.intent(file.place.file)));
            ops.push(Op::put(keys.file(file.place), file.value.clone()));
        }
        ops
    }

    /// Puts of the changelog entry and the page count, and of the barrier where others must see it.
    fn own_ops(&self) -> Vec<Op> {
        let keys = &self.keys;
        let entry = ChangelogEntry::Committed(self.commit.clone());
        let mut ops = vec![entry.put(keys, keys.commit(self.id))];
        if let Some(size) = self.commit.size {
            ops.push(PageCountRecord(size.last).put(keys, keys.page_count()));
        }
        if self.is_exclusive() && !(planted!(TruncationPutsNoBarrier) && self.files.is_empty()) {
            ops.push(Op::put(keys.barrier(), Bytes::new()));
        }
        if let LockGuard::Held { key, release: true, .. } = &self.guards.lock {
            ops.push(Op::delete(key.clone()));
        }
        ops
    }

    /// What is read when a compare fails: [`Refusal::of`] understands the answers.
    fn refusal_ops(&self) -> [Op; 2] {
        [Op::get(self.keys.commit(self.id)), Op::get(self.keys.floor())]
    }
}

/// Compares of page ranges that each of `parts` volumes may use in one commit.
#[must_use]
pub fn guard_budget(parts: usize) -> usize {
    assert!((1..=MAX_PARTS).contains(&parts), "BUG: the number of volumes in a commit is bounded");
    ((MAX_GUARD_RANGES + OWN_COMPARES) / parts).max(MIN_GUARD_RANGES + OWN_COMPARES) - OWN_COMPARES
}

/// True when a commit of these parts fits into one transaction.
#[must_use]
pub fn fits(parts: &[CommitPart]) -> bool {
    let staged: usize = parts.iter().map(CommitPart::put_count).sum();
    let bytes: usize = parts.iter().map(CommitPart::bytes).sum();
    let compares: usize = parts.iter().map(CommitPart::compare_count).sum();
    // The barrier, too.
    let puts = staged + (OWN_PUTS + 1) * parts.len();
    let outer = compares.max(MAX_NESTED);
    compares <= MAX_TXN_OPS
        && (puts <= MAX_TXN_OPS || puts <= outer * nested_puts(compares))
        && staged <= MAX_STAGED_PUTS
        && puts <= MAX_PUTS
        && bytes <= MAX_COMMIT_BYTES
}

/// Operations that one nested transaction may have beside so many compares.
fn nested_puts(compares: usize) -> usize {
    MAX_TXN_OPS.saturating_sub(compares.max(MAX_NESTED))
}

/// Operations of a nested transaction that always succeeds.
fn nested(ops: &[Op]) -> Op {
    Op::Txn(Txn { compares: vec![], then: ops.to_vec(), or_else: vec![] })
}

/// Splits operations over nested transactions when they do not fit into one.
fn spread(compares: usize, ops: Vec<Op>) -> Vec<Op> {
    if ops.len() <= MAX_TXN_OPS {
        return ops;
    }
    ops.chunks(nested_puts(compares).max(1)).map(nested).collect()
}

/// One commit over one volume or several, in one transaction. Its parts are in the order of their
/// volumes' ids: the first one's changelog entry is the one that an abort marker takes.
///
/// On failure the answers are, for each part, its changelog entry and its floor.
#[must_use]
pub fn commit(parts: &[CommitPart]) -> Txn {
    let mut compares = Vec::new();
    let (mut then, mut or_else) = (Vec::new(), Vec::new());
    for part in parts {
        if !planted!(CommitIgnoresVolume) {
            compares.push(Compare::created(part.keys.metadata(), part.created));
        }
        if !planted!(SecondVolumeForgotten) || then.is_empty() {
            compares.extend(part.compares());
        }
        then.extend(part.body_ops());
        then.extend(part.own_ops());
        then.push(Op::put(part.keys.head(), Bytes::new()));
        or_else.extend(part.refusal_ops());
    }
    let then = spread(compares.len(), then);
    Txn { compares, then, or_else }
}

/// Several commits of one volume, each on its own, in one transaction: each nested transaction has
/// its own compares and outcome. No two may touch a page that the other writes.
///
/// When the outer compare fails the volume is gone, and nothing is answered.
#[must_use]
pub fn group(parts: &[CommitPart]) -> Txn {
    assert!(parts.len() <= MAX_GROUP, "BUG: a group is bounded");
    let Some(first) = parts.first() else { return Txn::default() };
    let mut then: Vec<Op> = parts
        .iter()
        .map(|part| {
            let mut ops = part.body_ops();
            ops.extend(part.own_ops());
            Op::Txn(Txn {
                compares: part.compares(),
                then: ops,
                or_else: part.refusal_ops().into(),
            })
        })
        .collect();
    if !planted!(HeadLeftAlone) {
        then.push(Op::put(first.keys.head(), Bytes::new()));
    }
    Txn {
        compares: vec![Compare::created(first.keys.metadata(), first.created)],
        then,
        or_else: vec![],
    }
}

/// Makes sure that a commit never happens, unless it has, or the floor has passed its base.
#[must_use]
pub fn abort(keys: &VolumeKeys, created: Revision, id: CommitId, base: Revision) -> Txn {
    let (entry, floor) = (keys.commit(id), keys.floor());
    let base = if planted!(MarkerIgnoresFloor) { Revision::MAX } else { base };
    Txn {
        compares: vec![
            Compare::created(keys.metadata(), created),
            Compare::absent(entry.clone()),
            Compare::unchanged_since(KeyRange::key(floor.clone()), base),
        ],
        then: vec![ChangelogEntry::Aborted.put(keys, entry.clone())],
        or_else: vec![Op::get(entry), Op::get(floor)],
    }
}

/// Puts the keys of a new volume: all of them, so that every range compare finds what it expects.
#[must_use]
pub fn create_volume(name: Bytes, id: Bytes, keys: &VolumeKeys, record: &VolumeRecord) -> Txn {
    Txn {
        compares: vec![Compare::absent(name.clone()), Compare::absent(keys.metadata())],
        then: vec![
            Op::put(name.clone(), id),
            record.put(keys, keys.metadata()),
            PageCountRecord(PageCount(0)).put(keys, keys.page_count()),
            Oldest::default().put(keys, keys.oldest()),
            Op::put(keys.head(), Bytes::new()),
            Op::put(keys.pin(SENTINEL_SESSION), encode_pin(Revision::MAX)),
        ],
        or_else: vec![Op::get(name)],
    }
}

/// Puts the intent to upload a file, under the lease of the process that does.
#[must_use]
pub fn intend(
    keys: &VolumeKeys,
    created: Revision,
    file: FileId,
    intent: &Intent,
    lease: LeaseId,
) -> Txn {
    let key = keys.intent(file);
    let value = intent.encode(keys.suffix(&key));
    Txn {
        compares: vec![Compare::created(keys.metadata(), created)],
        then: vec![Op::Put { key, value, lease }],
        or_else: vec![],
    }
}

/// Takes an intent back: afterwards the file never will be published. Fails when it was, however long
/// ago and wherever it is listed by now, because the publication took the intent.
#[must_use]
pub fn give_up(keys: &VolumeKeys, file: FileId) -> Txn {
    let intent = keys.intent(file);
    Txn {
        compares: vec![Compare::exists(intent.clone())],
        then: vec![Op::delete(intent)],
        or_else: vec![],
    }
}

/// Ends a volume, unless a branch reads through to it: its name and its metadata go, and with them every
/// commit, publication and pin. When it is refused, the answer is a branch, if there is one.
#[must_use]
pub fn delete_volume(name: Bytes, keys: &VolumeKeys, created: Revision) -> Txn {
    let a_branch = RangeRequest::new(keys.branches()).limit(1).project(Projection::KeysOnly);
    Txn {
        compares: vec![
            Compare::created(keys.metadata(), created),
            Compare::exists(name.clone()),
            // Holds when there is none, and for no key that exists.
            Compare::unchanged_since(keys.branches(), Revision::ZERO),
        ],
        then: vec![Op::delete(name), Op::delete(keys.metadata())],
        or_else: vec![Op::Range(a_branch)],
    }
}

/// Joins sorted, distinct pages into at most `max` ranges: neighbours first, then the nearest. Joined
/// ranges hold pages that nobody asked for; a compare that fails for those is answered by a rebase.
#[must_use]
pub fn plan_ranges(pages: &[PageNo], max: usize) -> Vec<(PageNo, PageNo)> {
    let pairs = || pages.iter().zip(pages.iter().skip(1));
    let mut gaps: Vec<u64> = pairs().map(|(a, b)| b.0 - a.0).filter(|gap| *gap > 1).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    // The widest `max - 1` gaps part ranges; `cut` is the narrowest of these.
    let cut = gaps.get(max.saturating_sub(2)).copied().unwrap_or(2);
    let mut left = max.saturating_sub(1);
    let mut ties = left.saturating_sub(gaps.iter().filter(|gap| **gap > cut).count());
    let mut ranges: Vec<(PageNo, PageNo)> =
        pages.first().map(|page| (*page, *page)).into_iter().collect();
    for (a, b) in pairs() {
        let gap = b.0 - a.0;
        let parts = left > 0 && gap > 1 && (gap > cut || (gap == cut && ties > 0));
        if parts {
            left -= 1;
            ties -= usize::from(gap == cut);
            ranges.push((*b, *b));
        } else if let Some(last) = ranges.last_mut() {
            last.1 = *b;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::keys::StoreKeys;
    use crate::types::VolumeId;

    fn ranges(pages: &[u64], max: usize) -> Vec<(u64, u64)> {
        let pages: Vec<PageNo> = pages.iter().map(|page| PageNo(*page)).collect();
        plan_ranges(&pages, max).into_iter().map(|(first, last)| (first.0, last.0)).collect()
    }

    #[test]
    fn pages_join_into_few_ranges_nearest_first() {
        assert_eq!(ranges(&[], 4), []);
        assert_eq!(ranges(&[7], 1), [(7, 7)]);
        assert_eq!(ranges(&[1, 2, 3, 9, 20, 21], 8), [(1, 3), (9, 9), (20, 21)]);
        assert_eq!(ranges(&[1, 2, 3, 9, 20, 21], 2), [(1, 9), (20, 21)]);
        assert_eq!(ranges(&[1, 3, 5, 7, 9], 3), [(1, 1), (3, 3), (5, 9)]);
        assert_eq!(ranges(&[0, 10, 20, u64::MAX], 1), [(0, u64::MAX)]);
    }

    #[test]
    fn ranges_are_bounded_and_cover_every_page() {
        let pages: Vec<u64> = (0..1000u64)
            .map(|i| i * i % 7919)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for max in [1, 2, 5, 56] {
            let joined = ranges(&pages, max);
            assert!(joined.len() <= max);
            assert!(pages.iter().all(|page| joined.iter().any(|(a, b)| (a..=b).contains(&page))));
        }
    }

    fn part(pages: u64, body_bytes: usize) -> CommitPart {
        let pages = (0..pages)
            .map(|page| StagedPut {
                page: PageNo(page * 10),
                hash: ContentHash([1; 16]),
                body: Some(StagedBody { base: None, value: vec![0; body_bytes].into() }),
            })
            .collect::<Vec<_>>();
        let numbers: Vec<PageNo> = pages.iter().map(|page| page.page).collect();
        CommitPart {
            keys: StoreKeys::new("r/").volume(VolumeId(1)),
            created: Revision(2),
            id: CommitId::from_bytes([1; 16]),
            guards: Guards {
                ranges: plan_ranges(&numbers, MAX_GUARD_RANGES),
                newer: vec![],
                page_count: true,
                lock: LockGuard::Held {
                    key: Bytes::from_static(b"r/wv"),
                    created: Revision(3),
                    release: true,
                },
            },
            commit: Commit {
                base: Revision(5),
                pages: vec![],
                files: vec![],
                bulk_page_count: 0,
                size: None,
            },
            pages,
            files: vec![],
        }
    }

    /// Operations on the deepest path, counted as etcd does.
    fn deepest(txn: &Txn) -> usize {
        let own = txn.compares.len().max(txn.then.len()).max(txn.or_else.len());
        let nested = txn
            .then
            .iter()
            .filter_map(|op| if let Op::Txn(txn) = op { Some(deepest(txn)) } else { None });
        own + nested.max().unwrap_or(0)
    }

    #[test]
    fn the_largest_commit_keeps_within_the_limit_of_operations() {
        for pages in [1, 60, 63, 64, 65, 1500, (MAX_STAGED_PUTS / 2) as u64] {
            let part = part(pages, 100);
            assert!(fits(std::slice::from_ref(&part)), "{pages}");
            assert!(deepest(&commit(&[part])) <= MAX_TXN_OPS, "{pages}");
        }
        assert!(!fits(&[part(1 + (MAX_STAGED_PUTS / 2) as u64, 1)]));
        assert!(!fits(&[part(300, 4096)]));
    }

    #[test]
    fn a_commit_of_many_files_keeps_within_the_limit_of_operations() {
        let with_files = |count: usize, ranges: usize| {
            let mut part = part(200, 10);
            part.pages.clear();
            part.guards.ranges.truncate(ranges);
            part.files = (0..count)
                .map(|n| FilePut {
                    place: FilePlace {
                        level: 0,
                        first: PageNo(n as u64),
                        last: PageNo(n as u64),
                        file: FileId::from_bytes((n as u128).to_be_bytes()),
                    },
                    value: Bytes::from_static(b"entry"),
                })
                .collect();
            part
        };
        for count in [1, 61, 62, 63, 64, MAX_FILES] {
            let parts = [with_files(count, MAX_FILE_GUARD_RANGES)];
            assert!(fits(&parts), "{count}");
            assert!(deepest(&commit(&parts)) <= MAX_TXN_OPS, "{count}");
        }
        assert!(!fits(&[with_files(MAX_FILES, MAX_GUARD_RANGES)]));
        let mixed = [part(200, 10), with_files(8, 8)];
        assert!(!fits(&mixed) || deepest(&commit(&mixed)) <= MAX_TXN_OPS);
    }

    #[test]
    fn an_intent_is_taken_back_only_while_it_is_there() {
        let keys = StoreKeys::new("r/").volume(VolumeId(1));
        let file = FileId::from_bytes([4; 16]);
        let taken_back = give_up(&keys, file);
        // A file that was published may be listed in any level by now; its intent is gone for good.
        assert_eq!(taken_back.compares, [Compare::exists(keys.intent(file))]);
        assert_eq!(taken_back.then, [Op::delete(keys.intent(file))]);
    }

    #[test]
    fn a_commit_of_many_volumes_keeps_within_the_limit_of_operations() {
        for volumes in 1..=MAX_PARTS {
            // More volumes need more compares, and leave less room for what is nested beside them.
            let pages = if volumes <= 8 { 1800 } else { 1650 };
            let mut parts = vec![part(pages / volumes as u64, 10); volumes];
            for part in &mut parts {
                part.guards.ranges.truncate(guard_budget(volumes));
            }
            assert!(fits(&parts) && deepest(&commit(&parts)) <= MAX_TXN_OPS, "{volumes}");
            for pages in [0, 1, 30, 300, 3000] {
                let parts =
                    vec![CommitPart { guards: parts[0].guards.clone(), ..part(pages, 0) }; volumes];
                assert!(
                    !fits(&parts) || deepest(&commit(&parts)) <= MAX_TXN_OPS,
                    "{volumes} {pages}"
                );
            }
        }
    }

    #[test]
    fn the_largest_group_keeps_within_the_limit_of_operations() {
        let grouped = |pages| {
            let mut part = part(pages, 100);
            // Who holds the lock has nobody to share a transaction with.
            assert!(!part.fits_group());
            part.guards.lock = LockGuard::Free(Bytes::from_static(b"r/wv"));
            part
        };
        let parts = vec![grouped(45); MAX_GROUP];
        assert!(parts.iter().all(CommitPart::fits_group));
        assert!(deepest(&group(&parts)) <= MAX_TXN_OPS);
        assert!(!grouped(46).fits_group());
    }
}
