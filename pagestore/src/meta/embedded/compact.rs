//! Compaction: forgetting versions superseded at or before a revision.
//!
//! Two markers in `sys`. `scheduled` is set first, durably: from then on nothing below it can be read.
//! Then `log` is gone through in chunks, each its own commit, from the revision up to which the last
//! compaction came: each change up to the new revision makes the one before it superfluous. When all is
//! done `finished` is set. Whoever opens the store with `finished` behind `scheduled`, or notices it,
//! goes on where it was left.
//!
//! Invariant: with `scheduled` at C, a change is removed only if a later change of its key is at or
//! before C, or if it is a deletion before C. (A deletion at C itself stays until the next compaction,
//! so that a watch from C on misses nothing.)

use std::ops::ControlFlow;

use super::batch::Batch;
use super::fault::Step;
use super::format::{
    STAMP_BYTES, SYS_COMPACT_FINISHED, SYS_COMPACT_NEXT, SYS_COMPACT_SCHEDULED, Stamp, encode_bytes,
};
use super::queue::Done;
use super::view::View;
use crate::meta::{MetaError, MetaResult};
use crate::types::Revision;

/// Changes looked at in one commit: some milliseconds, so that writers do not notice.
const CHUNK_CHANGES: usize = 2_000;

/// True when a compaction is under way.
pub(super) fn is_pending(view: &View<'_>) -> Step<bool> {
    let finished = view.sys_number(SYS_COMPACT_FINISHED)?.unwrap_or(0);
    Ok(view.compacted()? > finished)
}

/// What a chunk removes.
#[derive(Default)]
struct Chunk {
    superseded: Vec<Stamp>,
    deletions: Vec<(Stamp, Vec<u8>)>,
    /// Where the next chunk begins; `None` when this is the last.
    next: Option<Stamp>,
}

impl Batch<'_, '_> {
    /// Sets the mark at `revision`; the same checks as etcd's.
    pub(super) fn schedule_compaction(&mut self, revision: u64) -> Step<MetaResult<Done>> {
        let compacted = self.view().compacted()?;
        if revision <= compacted {
            return Ok(Err(MetaError::Compacted { oldest: Revision(compacted) }));
        }
        if revision > self.newest {
            return Ok(Err(MetaError::FutureRevision));
        }
        // A compaction under way may have passed deletions at its own revision, which it kept.
        if let Some(next) = self.compaction_place()?
            && next.main == compacted
        {
            self.set_compaction_place(Stamp::first_of(compacted))?;
        }
        self.set_number(SYS_COMPACT_SCHEDULED, revision)?;
        Ok(Ok(Done::Compacted))
    }

    fn compaction_place(&self) -> Step<Option<Stamp>> {
        match self.view().sys_bytes(SYS_COMPACT_NEXT)? {
            Some(stamp) => Ok(Some(Stamp::decode(stamp)?)),
            None => Ok(None),
        }
    }

    pub(super) fn set_compaction_place(&mut self, next: Stamp) -> Step<()> {
        let next: [u8; STAMP_BYTES] = next.encode();
        let value = encode_bytes(SYS_COMPACT_NEXT, &next);
        self.dirty = true;
        Ok(self.tables.sys.put(self.txn, SYS_COMPACT_NEXT.as_bytes(), &value)?)
    }

    /// Does one chunk of the compaction under way, if there is one.
    pub(super) fn compact_chunk(&mut self) -> Step<()> {
        let view = self.view();
        if !is_pending(&view)? {
            return Ok(());
        }
        let scheduled = view.compacted()?;
        let finished = view.sys_number(SYS_COMPACT_FINISHED)?.unwrap_or(0);
        let from = self.compaction_place()?.unwrap_or(Stamp::first_of(finished));
        let chunk = look(&view, from, scheduled)?;
        for stamp in &chunk.superseded {
            self.tables.log.delete(self.txn, &stamp.encode())?;
        }
        for (stamp, key) in &chunk.deletions {
            self.tables.log.delete(self.txn, &stamp.encode())?;
            if self.view().current(key)?.is_some_and(|current| current.stamp == *stamp) {
                self.tables.cur.delete(self.txn, key)?;
            }
        }
        self.dirty = true;
        match chunk.next {
            Some(next) => self.set_compaction_place(next),
            None => {
                self.tables.sys.delete(self.txn, SYS_COMPACT_NEXT.as_bytes())?;
                self.set_number(SYS_COMPACT_FINISHED, scheduled)
            }
        }
    }
}

/// Looks at the changes from `from` on, up to revision `scheduled`.
fn look(view: &View<'_>, from: Stamp, scheduled: u64) -> Step<Chunk> {
    let mut chunk = Chunk::default();
    let mut seen = 0;
    view.each_change(from, |stamp, change| {
        if stamp.main > scheduled {
            return Ok(ControlFlow::Break(()));
        }
        if seen == CHUNK_CHANGES {
            chunk.next = Some(stamp);
            return Ok(ControlFlow::Break(()));
        }
        seen += 1;
        if change.before != Stamp::ZERO {
            chunk.superseded.push(change.before);
        }
        if change.put.is_none() && stamp.main < scheduled {
            chunk.deletions.push((stamp, change.key.to_vec()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(chunk)
}
