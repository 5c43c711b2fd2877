//! Finds and deletes what nobody names: staged pages and pointers in the meta tier, objects in the
//! blob tier.
//!
//! Nothing is deleted by age: age only spares what is likely to be in use. A staged page goes under the
//! guard that neither it nor its page's pointer changed since it was found unnamed. An object goes when
//! it was listed before the intents, and the intents were read before the files: then it can never be
//! published. A listing that fails ends the sweep.

use std::collections::HashSet;

use bytes::Bytes;
use futures::TryStreamExt;

use pagestore::internal::blob::{Listed, ObjectName};
use pagestore::internal::codec::StagedValue;
use pagestore::internal::meta::records::{ChangelogEntry, Record};
use pagestore::internal::meta::{Compare, KeyRange, Op, OpResponse, Projection, RangeRequest, Txn};
use pagestore::internal::mirror;
use pagestore::internal::types::{FileId, PageNo, Revision};
use pagestore::{Error, ErrorKind};

use crate::claim::Claim;
use crate::interrupt::{Interrupt, Work};
use crate::volume::Volume;

/// Keys read by one request.
const CHUNK_KEYS: usize = 10_000;
/// Unnamed keys taken on in one sweep; the rest is for the next.
const MAX_UNNAMED: usize = 100_000;
/// Deletions in one transaction; each is a nested one.
const BATCH: usize = 64;
/// Objects younger than this are passed over: their upload is likely to be under way still.
const GRACE_MS: u64 = 10 * 60 * 1000;

/// What a sweep deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) staged_count: usize,
    pub(crate) pointer_count: usize,
    pub(crate) object_count: usize,
    /// True when changelog entries at or below the floor are left: their removal was never begun, or its
    /// note is lost.
    pub(crate) unremoved: bool,
}

/// What the changelog names, at one revision.
#[derive(Debug, Default)]
struct Named {
    read_at: Revision,
    staged: HashSet<Bytes>,
    pages: HashSet<PageNo>,
    oldest: Option<Revision>,
}

/// Deletes staged pages and pointers that no changelog entry names. `floor` is the volume's, or an older
/// one.
pub(crate) async fn sweep_staged(claim: &Claim, floor: Revision) -> Work<Swept> {
    let volume = claim.volume();
    let named = read_named(volume).await?;
    let staged =
        unnamed(volume, volume.keys.all_staged(), &named, |key| named.staged.contains(key));
    let staged = staged.await?;
    let pointers = unnamed(volume, volume.keys.all_pointers(), &named, |key| {
        volume.keys.parse_pointer(key).is_none_or(|page| named.pages.contains(&page))
    });
    let pointers = pointers.await?;
    let unremoved = named.oldest.is_some_and(|oldest| oldest <= floor);
    let mut swept = Swept { unremoved, ..Swept::default() };
    for keys in staged.chunks(BATCH) {
        let guarded = with_pages(volume, keys).await?;
        swept.staged_count += delete(claim, named.read_at, guarded).await?;
    }
    for keys in pointers.chunks(BATCH) {
        let guarded = keys.iter().map(|key| (key.clone(), None)).collect();
        swept.pointer_count += delete(claim, named.read_at, guarded).await?;
    }
    Ok(swept)
}

async fn read_named(volume: &Volume) -> Work<Named> {
    let scan = mirror::scan(volume.meta.as_ref(), &volume.keys.commits(), None).await?;
    let mut named = Named { read_at: scan.revision, ..Named::default() };
    named.oldest = scan.kvs.iter().map(|kv| kv.mod_revision).min();
    for kv in &scan.kvs {
        let ChangelogEntry::Committed(commit) = ChangelogEntry::of(&volume.keys, kv)? else {
            continue;
        };
        for change in &commit.pages {
            named.pages.insert(change.page);
            let Some(staged) = change.staged else { continue };
            named.staged.insert(volume.keys.staged(change.hash, staged.base));
            if let Some(base) = staged.base {
                named.staged.insert(volume.keys.staged(base, None));
            }
        }
    }
    Ok(named)
}

/// The keys of `range`, as of `named`, that are not named.
async fn unnamed(
    volume: &Volume,
    range: KeyRange,
    named: &Named,
    is_named: impl Fn(&Bytes) -> bool,
) -> Work<Vec<Bytes>> {
    let request = RangeRequest::new(range).at(named.read_at).limit(CHUNK_KEYS);
    let mut request = request.project(Projection::KeysOnly);
    let mut found = Vec::new();
    loop {
        let response = volume.meta.range(request.clone()).await?;
        let Some(last) = response.kvs.last() else { return Ok(found) };
        request.keys.start = [&last.key, &[0][..]].concat().into();
        let keys = response.kvs.iter().map(|kv| &kv.key);
        found.extend(keys.filter(|key| !is_named(key)).cloned());
        if !response.more || found.len() >= MAX_UNNAMED {
            return Ok(found);
        }
    }
}

/// Each staged page that is still there, with the pointer of its page.
async fn with_pages(volume: &Volume, keys: &[Bytes]) -> Work<Vec<(Bytes, Option<Bytes>)>> {
    let then = keys.iter().cloned().map(Op::get).collect();
    let response = volume.meta.txn(Txn { then, ..Txn::default() }).await?;
    let found = response.responses.into_iter().flat_map(|response| match response {
        OpResponse::Range(found) => found.kvs,
        _ => Vec::new(),
    });
    let mut guarded = Vec::with_capacity(keys.len());
    for kv in found {
        match StagedValue::decode(&kv.value) {
            Ok(value) => guarded.push((kv.key, Some(volume.keys.pointer(value.page)))),
            Err(error) => {
                let key = volume.keys.suffix(&kv.key).escape_ascii().to_string();
                tracing::error!(volume = %volume.id(), key, %error, "a staged page that nobody names is broken; left");
            }
        }
    }
    Ok(guarded)
}

/// Deletes keys unless they, or what guards them, changed after `read_at`; returns how many went.
async fn delete(
    claim: &Claim,
    read_at: Revision,
    keys: Vec<(Bytes, Option<Bytes>)>,
) -> Work<usize> {
    let nested = keys.into_iter().map(|(key, guard)| {
        let unchanged = |key: Bytes| Compare::unchanged_since(KeyRange::key(key), read_at);
        let compares = guard.into_iter().chain([key.clone()]).map(unchanged).collect();
        Op::Txn(Txn { compares, then: vec![Op::delete(key)], or_else: vec![] })
    });
    let response = claim.txn(vec![], nested.collect()).await?;
    if !response.succeeded {
        return Err(Interrupt::ClaimLost);
    }
    let went = |response: &&OpResponse| matches!(response, OpResponse::Txn(txn) if txn.succeeded);
    Ok(response.responses.iter().filter(went).count())
}

/// Deletes the volume's objects that are neither published nor being uploaded.
pub(crate) async fn sweep_objects(claim: &Claim) -> Work<Swept> {
    let volume = claim.volume();
    let listed: Vec<Listed> = volume.blobs.list(volume.id()).try_collect().await?;
    let mut known = HashSet::new();
    let intents = mirror::scan(volume.meta.as_ref(), &volume.keys.intents(), None).await?;
    known.extend(intents.kvs.iter().filter_map(|kv| volume.keys.parse_intent(&kv.key)));
    if planted!(IntentsIgnored) {
        known.clear();
    }
    let watched = mirror::scan(volume.meta.as_ref(), &volume.keys.watched(), None).await?;
    known.extend(watched.published_files(&volume.keys));
    let orphans = decide_orphans(&listed, &known, watched.revision, volume.env.wall_ms())?;
    for name in &orphans {
        tracing::info!(object = %name, "deleting an object that was never published");
        volume.blobs.delete(name).await?;
    }
    Ok(Swept { object_count: orphans.len(), ..Swept::default() })
}

/// The objects that can go. Refuses when the listing is ahead of the meta tier.
fn decide_orphans(
    listed: &[Listed],
    known: &HashSet<FileId>,
    revision: Revision,
    now_ms: u64,
) -> Result<Vec<ObjectName>, Error> {
    if let Some(ahead) = listed.iter().find(|listed| listed.name.named_at > revision) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "the blob tier is ahead of the meta tier, which was probably restored from an old \
                 backup; nothing is deleted (meta tier at revision {revision}, object {})",
                ahead.name
            ),
        ));
    }
    let is_orphan = |name: &ObjectName| {
        (!known.contains(&name.file) || planted!(OrphansByAge))
            && name.file.made_ms().saturating_add(GRACE_MS) < now_ms
    };
    Ok(listed.iter().map(|listed| listed.name).filter(is_orphan).collect())
}

#[cfg(test)]
mod tests {
    use pagestore::Env;
    use pagestore::internal::meta::records::Intent;
    use pagestore::internal::meta::{LeaseId, txn};
    use pagestore::internal::types::VolumeId;

    use super::*;
    use crate::testing::new_volume;

    #[tokio::test]
    async fn an_object_whose_upload_is_intended_is_no_orphan_however_old() {
        let (_dir, volume, created) = new_volume().await;
        let (meta, keys) = (&volume.meta, &volume.keys);
        // Made at the beginning of time.
        let file = FileId::from_bytes([0; 16]);
        let name = volume.object(file, Revision(0));
        volume.blobs.put_create(&name, vec!["object".into()]).await.unwrap();
        let intent = Intent { named_at: Revision(0) };
        let intend = txn::intend(keys, created, file, &intent, LeaseId(0));
        assert!(meta.txn(intend).await.unwrap().succeeded);

        let claim = Claim::take(&volume, "test").await.unwrap().unwrap();
        assert_eq!(sweep_objects(&claim).await.unwrap().object_count, 0);
        assert!(meta.txn(txn::give_up(keys, file)).await.unwrap().succeeded);
        assert_eq!(sweep_objects(&claim).await.unwrap().object_count, 1);
    }

    fn listed(named_at: u64) -> Listed {
        let file = Env::seeded(named_at).file_id();
        Listed {
            name: ObjectName { volume: VolumeId(1), named_at: Revision(named_at), file },
            bytes: 1,
        }
    }

    #[test]
    fn only_unknown_objects_past_their_grace_are_orphans() {
        let (a, b) = (listed(5), listed(6));
        let late = a.name.file.made_ms() + 2 * GRACE_MS;
        let known = HashSet::from([a.name.file]);
        assert_eq!(decide_orphans(&[a, b], &known, Revision(9), late).unwrap(), [b.name]);
        let early = b.name.file.made_ms() + GRACE_MS;
        assert_eq!(decide_orphans(&[a, b], &known, Revision(9), early).unwrap(), []);
    }

    #[test]
    fn a_listing_ahead_of_the_meta_tier_deletes_nothing() {
        let error =
            decide_orphans(&[listed(5), listed(10)], &HashSet::new(), Revision(9), u64::MAX);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
