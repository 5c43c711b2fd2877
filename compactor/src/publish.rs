//! The one transaction that makes new files visible, and what becomes of it.
//!
//! Every publication compares the claim, the job, the volume's metadata, the floor's mod revision, that
//! each input is still listed, and that each output's upload intent is still there; it deletes the
//! intents. So no publication applies twice, late, or on top of anything that it was not planned on.

use std::collections::HashSet;

use pagestore::internal::file::{BuiltFile, FileEntry};
use pagestore::internal::meta::keys::FilePlace;
use pagestore::internal::meta::records::{Dropped, Floor, Intent, Job, Record};
use pagestore::internal::meta::{Compare, KeyRange, MAX_TXN_OPS, Op, RangeRequest, Txn};
use pagestore::internal::mirror::VolumeState;
use pagestore::internal::types::{FileId, Revision};

use pagestore::{Error, ErrorKind};

use crate::claim::{Claim, JobToken};
use crate::execute::discard::discard;
use crate::interrupt::{Interrupt, Work};
use crate::merge::bodies::body_count;

/// What a publication's outer transaction is taken to use at least, so that few compares do not make
/// for few nested transactions.
const MIN_OUTER_OPS: usize = 16;

/// Files being written: in the meta tier as a job and as intents.
#[derive(Debug)]
pub(crate) struct Upload {
    job: JobToken,
    named_at: Revision,
    files: Vec<FileId>,
}

/// A change of a volume's files.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    /// Entries to list.
    pub(crate) outputs: Vec<FileEntry>,
    /// Entries to list no more.
    pub(crate) inputs: Vec<FilePlace>,
    /// The floor to put.
    pub(crate) floor: Option<Revision>,
}

impl Upload {
    /// Begins a job that writes files; there are none yet.
    pub(crate) async fn begin(claim: &Claim, named_at: Revision) -> Work<Upload> {
        let job = claim.begin(&Job::Write { named_at, files: vec![] }).await?;
        Ok(Upload { job, named_at, files: vec![] })
    }

    /// Announces one more file: until this returned, none may be put.
    pub(crate) async fn announce(&mut self, claim: &Claim) -> Work<FileId> {
        let (keys, named_at) = (&claim.volume().keys, self.named_at);
        let mut file = claim.volume().env.file_id();
        if planted!(NameUsedAgain) {
            file = FileId::from_bytes([self.files.len().to_le_bytes()[0]; 16]);
        }
        self.files.push(file);
        let key = keys.intent(file);
        let value = Intent { named_at }.encode(keys.suffix(&key));
        let job = Job::Write { named_at, files: self.files.clone() };
        let then = vec![Op::Put { key, value, lease: claim.lease() }, job.put(keys, keys.job())];
        let response = claim.txn(vec![claim.compare_job(self.job)], then).await?;
        if response.succeeded { Ok(file) } else { Err(Interrupt::Overtaken) }
    }

    pub(crate) fn named_at(&self) -> Revision {
        self.named_at
    }

    /// Puts the object of a file announced.
    pub(crate) async fn put(&self, claim: &Claim, built: BuiltFile) -> Work<FileEntry> {
        assert!(self.files.contains(&built.entry.id), "BUG: a file was not announced");
        let volume = claim.volume();
        let name = volume.object(built.entry.id, self.named_at);
        volume.blobs.put_create(&name, built.chunks).await?;
        Ok(built.entry)
    }

    /// Throws everything away.
    pub(crate) async fn abandon(self, claim: &Claim) -> Work<()> {
        discard(claim, self.named_at, &self.files).await.map(|_| ())
    }

    /// Publishes `edit`, whose outputs were all put; returns the revision at which that happened.
    /// Whatever is not published is thrown away.
    pub(crate) async fn publish(
        self,
        claim: &Claim,
        state: &VolumeState,
        edit: Edit,
    ) -> Work<Revision> {
        let txn = build_publication(claim, state, &self, &edit)?;
        match claim.txn(txn.compares, txn.then).await {
            Ok(response) if response.succeeded => Ok(response.revision),
            Ok(_) => {
                self.abandon(claim).await?;
                Err(Interrupt::Overtaken)
            }
            Err(Interrupt::Failed(error)) => {
                let id = claim.volume().id();
                tracing::warn!(volume = %id, %error, "the outcome of a publication is unknown");
                self.abandon(claim).await?;
                // From here on it can no longer happen.
                match read_published(claim, &edit).await? {
                    Some(revision) => Ok(revision),
                    None => Err(Interrupt::Failed(error)),
                }
            }
            Err(interrupt) => Err(interrupt),
        }
    }
}

/// When `edit` was published, if it was.
async fn read_published(claim: &Claim, edit: &Edit) -> Work<Option<Revision>> {
    let volume = claim.volume();
    let read = |key| volume.meta.range(RangeRequest::new(KeyRange::key(key)));
    if let Some(up_to) = edit.floor {
        let found = read(volume.keys.floor()).await?;
        let Some(kv) = found.kvs.first() else { return Ok(None) };
        if Floor::of(&volume.keys, kv)?.up_to != up_to {
            return Ok(None);
        }
        // The note of what follows went with the job.
        claim.begin(&Job::Remove { up_to }).await?;
        return Ok(Some(kv.mod_revision));
    }
    let Some(entry) = edit.outputs.first() else { return Ok(None) };
    let found = read(volume.keys.file(entry.place())).await?;
    Ok(found.kvs.first().map(|kv| kv.mod_revision))
}

/// The floor only rises, and to no more than was read; and nothing above the floor leaves level 0, where alone
/// versions are compared by revision.
fn check_edit(state: &VolumeState, edit: &Edit) -> Work<()> {
    let floor = edit.floor.unwrap_or(state.floor.up_to);
    let rises = state.floor.up_to <= floor && floor <= state.revision;
    let highest = if planted!(MergedAboveFloor) { Revision::MAX } else { floor };
    let sinks = edit.outputs.iter().find(|entry| entry.level > 0 && entry.newest > highest);
    if rises && sinks.is_none() {
        return Ok(());
    }
    Err(Interrupt::Failed(Error::new(
        ErrorKind::Corrupt,
        format!(
            "a publication that breaks the levels was not made: floor {floor} after {}, at revision {}; \
             in a deeper level and above the floor: {:?}",
            state.floor.up_to,
            state.revision,
            sinks.map(|entry| entry.id)
        ),
    )))
}

fn build_publication(
    claim: &Claim,
    state: &VolumeState,
    upload: &Upload,
    edit: &Edit,
) -> Work<Txn> {
    check_edit(state, edit)?;
    let keys = &claim.volume().keys;
    let mut compares = vec![
        claim.compare_job(upload.job),
        Compare::created(keys.metadata(), state.created),
        Compare::modified(keys.floor(), state.floor.modified),
    ];
    compares.extend(edit.inputs.iter().map(|place| Compare::exists(keys.file(*place))));
    let used: HashSet<FileId> = edit.outputs.iter().map(|entry| entry.id).collect();
    let written = upload.files.iter().filter(|file| used.contains(file));
    compares.extend(written.map(|file| Compare::exists(keys.intent(*file))));
    if planted!(PublicationUncompared) {
        compares.clear();
    }

    let mut ops: Vec<Op> = upload.files.iter().map(|file| Op::delete(keys.intent(*file))).collect();
    ops.extend(edit.inputs.iter().map(|place| Op::delete(keys.file(*place))));
    ops.extend(edit.outputs.iter().map(|entry| {
        let key = keys.file(entry.place());
        let value = entry.encode(keys.suffix(&key));
        Op::put(key, value)
    }));
    for (file, dropped) in decide_dropped(state, edit) {
        ops.push(dropped.put(keys, keys.dropped(file)));
    }
    match edit.floor {
        Some(up_to) => {
            ops.push(Floor { up_to }.put(keys, keys.floor()));
            ops.push(Job::Remove { up_to }.put(keys, keys.job()));
        }
        None => ops.push(Op::delete(keys.job())),
    }
    let then = nest(compares.len() + 1, ops)?;
    Ok(Txn { compares, then, or_else: vec![] })
}

/// The records to put: of inputs that are listed nowhere any more, and, once again, of objects that the
/// last listed file to point into them stops pointing into.
fn decide_dropped(state: &VolumeState, edit: &Edit) -> Vec<(FileId, Dropped)> {
    let listed: HashSet<FileId> = edit.outputs.iter().map(|entry| entry.id).collect();
    let gone: HashSet<FileId> = edit.inputs.iter().map(|place| place.file).collect();
    let page_size = state.record.page_size;
    let inputs = || state.levels.files().filter(|entry| gone.contains(&entry.id));
    let stays = state.levels.files().filter(|entry| !gone.contains(&entry.id));
    let referenced: HashSet<FileId> = stays
        .flat_map(|entry| &entry.refs)
        .chain(edit.outputs.iter().flat_map(|entry| &entry.refs))
        .map(|to| to.id)
        .collect();
    let mut dropped: Vec<(FileId, Dropped)> = inputs()
        .filter(|entry| !listed.contains(&entry.id))
        .map(|entry| {
            let body_count = body_count(entry, page_size);
            (entry.id, Dropped { named_at: entry.named_at, bytes: entry.bytes, body_count })
        })
        .collect();
    let mut seen: HashSet<FileId> = dropped.iter().map(|(file, _)| *file).collect();
    for to in inputs().flat_map(|entry| &entry.refs) {
        if !planted!(DropNotRepeated)
            && !referenced.contains(&to.id)
            && seen.insert(to.id)
            && let Some(again) = state.dropped.get(&to.id)
        {
            dropped.push((to.id, again.record));
        }
    }
    dropped
}

/// Operations as they are while they fit beside `compares`, else in nested transactions, which are as
/// atomic.
fn nest(compares: usize, ops: Vec<Op>) -> Work<Vec<Op>> {
    if ops.len() <= MAX_TXN_OPS {
        return Ok(ops);
    }
    let outer = compares.max(MIN_OUTER_OPS);
    let inner = MAX_TXN_OPS.saturating_sub(outer);
    if ops.len() > outer * inner {
        return Err(Interrupt::Failed(Error::new(
            ErrorKind::Invalid,
            format!("a publication takes more operations than a transaction holds: {}", ops.len()),
        )));
    }
    let nested = ops
        .chunks(inner)
        .map(|then| Op::Txn(Txn { compares: vec![], then: then.to_vec(), or_else: vec![] }));
    Ok(nested.collect())
}

#[cfg(test)]
mod tests {
    use pagestore::internal::mirror;

    use super::*;
    use crate::merge::testing::entry;
    use crate::testing::new_volume;

    #[tokio::test]
    async fn the_floor_only_rises_and_nothing_above_it_sinks() {
        let (_dir, volume, _) = new_volume().await;
        let mut state = mirror::load(volume.meta.as_ref(), &volume.keys).await.unwrap();
        state.revision = Revision(50);
        state.floor.up_to = Revision(20);
        let publish = |floor: Option<u64>, level, newest| {
            let output = FileEntry { level, newest: Revision(newest), ..entry(1, 1, 0..=9) };
            let floor = floor.map(Revision);
            check_edit(&state, &Edit { outputs: vec![output], inputs: vec![], floor }).is_ok()
        };
        assert!(publish(Some(50), 0, 50) && publish(Some(20), 0, 20) && publish(None, 1, 20));
        assert!(!publish(Some(19), 0, 19), "the floor goes back");
        assert!(!publish(Some(51), 0, 50), "the floor is ahead of what was read");
        assert!(!publish(None, 1, 21), "something unflushed sinks");
    }

    #[tokio::test]
    async fn who_lost_the_claim_publishes_nothing_though_all_else_is_as_it_was() {
        let (_dir, volume, _) = new_volume().await;
        let (meta, keys) = (&volume.meta, &volume.keys);
        let listed = FileEntry { newest: Revision(1), oldest: Revision(1), ..entry(1, 1, 0..=9) };
        let key = keys.file(listed.place());
        let floor = Floor { up_to: listed.newest }.put(keys, keys.floor());
        let then = vec![Op::put(key.clone(), listed.encode(keys.suffix(&key))), floor];
        meta.txn(Txn { then, ..Txn::default() }).await.unwrap();
        let state = mirror::load(meta.as_ref(), keys).await.unwrap();
        let moves = || Edit {
            outputs: vec![FileEntry { level: 2, ..listed.clone() }],
            inputs: vec![listed.place()],
            floor: None,
        };

        // The claim is lost and taken by another, whose first request has yet to come.
        let lost = Claim::take(&volume, "lost").await.unwrap().unwrap();
        let upload = Upload::begin(&lost, state.revision).await.unwrap();
        meta.lease_revoke(lost.lease()).await.unwrap();
        let held = Claim::take(&volume, "held").await.unwrap().unwrap();
        let refused = upload.publish(&lost, &state, moves()).await;
        assert!(matches!(refused, Err(Interrupt::ClaimLost)), "{refused:?}");
        let now = mirror::load(meta.as_ref(), keys).await.unwrap();
        assert_eq!(now.levels.files().map(|file| file.level).collect::<Vec<_>>(), [1]);

        held.end().await.unwrap();
        let upload = Upload::begin(&held, state.revision).await.unwrap();
        upload.publish(&held, &state, moves()).await.unwrap();
        let now = mirror::load(meta.as_ref(), keys).await.unwrap();
        assert_eq!(now.levels.files().map(|file| file.level).collect::<Vec<_>>(), [2]);
    }

    fn ops(count: usize) -> Vec<Op> {
        (0..count).map(|n| Op::delete(n.to_be_bytes().to_vec())).collect()
    }

    #[test]
    fn operations_are_nested_only_when_they_do_not_fit() {
        assert_eq!(nest(100, ops(128)).unwrap(), ops(128));
        for (compares, count) in [(3, 129), (117, 1287), (64, 4096)] {
            let nested = nest(compares, ops(count)).unwrap();
            let outer = compares.max(nested.len());
            let mut flat = Vec::new();
            for op in nested {
                let Op::Txn(txn) = op else { panic!("not nested") };
                assert!(outer + txn.then.len() <= MAX_TXN_OPS);
                flat.extend(txn.then);
            }
            assert_eq!(flat, ops(count));
        }
        assert!(nest(117, ops(1288)).is_err());
    }
}
