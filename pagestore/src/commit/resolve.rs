use std::time::Duration;

use bytes::Bytes;

use super::core::Core;
use crate::error::{CommitToken, Error, Result};
use crate::meta::records::{ChangelogEntry, Record};
use crate::meta::{KeyRange, KeyValue, MetaError, OpResponse, RangeRequest, txn};
use crate::types::Revision;

/// How long the outcome of a commit is asked for before the caller hears `Unknown`.
const PATIENCE: Duration = Duration::from_secs(20);
/// First and longest pause between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It happened, at this revision.
    Committed(Revision),
    /// It did not happen, and never will.
    Aborted,
    /// It is so old that the log no longer reaches back to it: nobody knows.
    Forgotten,
}

/// Finds out for certain whether a commit happened, and if it has not, makes sure it never does.
/// From here on its id may not be sent again.
///
/// # Errors
/// `Unknown`, with the token, when the meta tier cannot be reached; `NotFound` when the volume is
/// deleted.
pub(crate) async fn resolve(core: &Core, token: CommitToken) -> Result<Resolution> {
    let deadline = core.env.now() + PATIENCE;
    let mut pause = RETRY.0;
    loop {
        match try_resolve(core, token).await {
            Ok(resolution) => return Ok(resolution),
            Err(error) if core.env.now() >= deadline => {
                return Err(if is_final(&error) {
                    error
                } else {
                    Error::unknown(token).with_source(error)
                });
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => tracing::debug!(commit = %token.commit, %error, "outcome still unknown"),
        }
        core.env.sleep(core.env.jittered(pause)).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

fn is_final(error: &Error) -> bool {
    use crate::error::ErrorKind::{Corrupt, Invalid, NotFound};
    matches!(error.kind(), Corrupt | Invalid | NotFound)
}

async fn try_resolve(core: &Core, token: CommitToken) -> Result<Resolution> {
    let txn = txn::abort(&core.keys, core.created, token.commit, token.base);
    let response = match core.meta.txn(txn).await {
        Ok(response) => response,
        Err(full @ MetaError::NoSpace(_)) => {
            // No room for a marker; but what is there can be read.
            let entry = get(core, core.keys.commit(token.commit)).await?;
            return entry.map_or(Err(full.into()), |entry| of_entry(core, &entry));
        }
        Err(error) => return Err(error.into()),
    };
    if response.succeeded {
        return Ok(Resolution::Aborted);
    }
    let kv = |index: usize| match response.responses.get(index) {
        Some(OpResponse::Range(found)) => found.kvs.first(),
        _ => None,
    };
    if let Some(entry) = kv(0) {
        return of_entry(core, entry);
    }
    match kv(1) {
        Some(floor) if floor.mod_revision > token.base => {
            in_log(core, token, floor.mod_revision).await
        }
        _ => Err(Error::not_found(format!("volume was deleted: {}", core.keys.id()))),
    }
}

/// What became of a commit whose request is over, though its answer did not say. Puts nothing.
///
/// # Errors
/// As [`resolve`].
pub(super) async fn of_answered(core: &Core, token: CommitToken) -> Result<Resolution> {
    let resolution = try_of_answered(core, token).await;
    resolution.map_err(|error| match is_final(&error) {
        true => error,
        false => Error::unknown(token).with_source(error),
    })
}

async fn try_of_answered(core: &Core, token: CommitToken) -> Result<Resolution> {
    if let Some(entry) = get(core, core.keys.commit(token.commit)).await? {
        return of_entry(core, &entry);
    }
    // Asked for after the entry, which goes only once the floor has passed it, or with the volume.
    let floor = get(core, core.keys.floor()).await?;
    let metadata = get(core, core.keys.metadata()).await?;
    if metadata.is_none_or(|metadata| metadata.create_revision != core.created) {
        return Err(Error::not_found(format!("volume was deleted: {}", core.keys.id())));
    }
    match floor {
        Some(floor) if floor.mod_revision > token.base => {
            in_log(core, token, floor.mod_revision).await
        }
        _ => Ok(Resolution::Aborted),
    }
}

async fn get(core: &Core, key: Bytes) -> Result<Option<KeyValue>> {
    let found = core.meta.range(RangeRequest::new(KeyRange::key(key))).await?;
    Ok(found.kvs.into_iter().next())
}

fn of_entry(core: &Core, kv: &KeyValue) -> Result<Resolution> {
    Ok(match ChangelogEntry::of(&core.keys, kv)? {
        ChangelogEntry::Aborted => Resolution::Aborted,
        ChangelogEntry::Committed(_) => Resolution::Committed(kv.mod_revision),
    })
}

/// The floor has passed the commit's base, so it can no longer be applied; if it was, the log
/// remembers its id.
async fn in_log(core: &Core, token: CommitToken, floor_modified: Revision) -> Result<Resolution> {
    if let Some(revision) = find_in_log(core, token, floor_modified).await? {
        return Ok(Resolution::Committed(revision));
    }
    // What is not in the log now may have been dropped from it, unless the log reaches back far enough.
    let reaches = core.mirror.fresh().await?.oldest.record.log_from <= token.base;
    Ok(if reaches { Resolution::Aborted } else { Resolution::Forgotten })
}

/// When the commit happened, by the changelog and the files' commits sections.
async fn find_in_log(
    core: &Core,
    token: CommitToken,
    floor_modified: Revision,
) -> Result<Option<Revision>> {
    let state = core.mirror.reach(floor_modified).await?;
    if token.base >= state.changelog_from {
        let found = state.since(token.base).find(|((_, id), _)| *id == token.commit);
        return Ok(found.map(|((revision, _), _)| *revision));
    }
    core.reader.commit_in_files(token.commit, token.base).await
}

/// What a commit that was refused because it has an entry already, or may have been flushed, came to.
pub(super) async fn of_refusal(
    core: &Core,
    token: CommitToken,
    refusal: &super::group::Refusal,
) -> Result<Option<Resolution>> {
    match &refusal.entry {
        Some((ChangelogEntry::Aborted, _)) => return Ok(Some(Resolution::Aborted)),
        Some((ChangelogEntry::Committed(_), at)) => return Ok(Some(Resolution::Committed(*at))),
        None => {}
    }
    if refusal.floor_modified <= token.base {
        return Ok(None);
    }
    let found = find_in_log(core, token, refusal.floor_modified).await?;
    Ok(found.map(Resolution::Committed))
}
