//! Leases: granting, keeping alive, revoking, and ending those that are overdue.
//!
//! Deadlines are on the machine's boot clock, which goes on while the machine sleeps and which nobody
//! sets. A boot of the machine starts it anew, so then every lease gets its full time again. Invariant:
//! `lease.due` in `sys` is never later than the first deadline.

use super::batch::Batch;
use super::fault::Step;
use super::format::{Lease, SYS_BOOT, SYS_LEASE_DUE, encode_bytes, encode_lease, encode_lease_id};
use super::queue::Done;
use crate::meta::{LeaseId, MetaError, MetaResult};

/// Leases ended in one batch; the rest follows in the next.
const EXPIRE_AT_ONCE: usize = 1_000;

impl Batch<'_, '_> {
    pub(super) fn grant(&mut self, ttl_s: u64) -> Step<Done> {
        let id = loop {
            let id = LeaseId((self.env.random_u64() >> 1).cast_signed());
            if id.0 != 0 && self.view().lease(id)?.is_none() {
                break id;
            }
        };
        let deadline_ms = self.put_lease(id, ttl_s)?;
        let due = self.view().sys_number(SYS_LEASE_DUE)?;
        if due.is_none_or(|due| deadline_ms < due) {
            self.set_number(SYS_LEASE_DUE, deadline_ms)?;
        }
        Ok(Done::Granted(id))
    }

    pub(super) fn keep_alive(&mut self, id: LeaseId) -> Step<MetaResult<Done>> {
        let Some(lease) = self.view().lease(id)? else {
            return Ok(Err(MetaError::LeaseNotFound));
        };
        self.put_lease(id, lease.ttl_s)?;
        Ok(Ok(Done::Alive(lease.ttl_s)))
    }

    pub(super) fn revoke(&mut self, id: LeaseId) -> Step<MetaResult<Done>> {
        if self.view().lease(id)?.is_none() {
            return Ok(Err(MetaError::LeaseNotFound));
        }
        self.end(id)?;
        Ok(Ok(Done::Revoked))
    }

    /// Ends leases whose time is over. Call it before anything else is done.
    pub(super) fn expire_leases(&mut self) -> Step<()> {
        let due = self.view().sys_number(SYS_LEASE_DUE)?;
        if due.is_none_or(|due| due > self.now_ms) {
            return Ok(());
        }
        let mut ended = 0;
        let mut next_due: Option<u64> = None;
        for (id, lease) in self.view().leases()? {
            if lease.deadline_ms <= self.now_ms && ended < EXPIRE_AT_ONCE {
                self.end(id)?;
                ended += 1;
                tracing::debug!(lease = id.0, "embedded store: lease has ended");
            } else {
                next_due = Some(next_due.unwrap_or(u64::MAX).min(lease.deadline_ms));
            }
        }
        self.set_due(next_due)
    }

    /// Gives every lease its full time if the machine was booted since the deadlines were set.
    pub(super) fn restart_leases_after_boot(&mut self) -> Step<()> {
        let boot = self.env.boot_id();
        if self.view().sys_bytes(SYS_BOOT)? == Some(boot.as_bytes()) {
            return Ok(());
        }
        let mut next_due: Option<u64> = None;
        for (id, lease) in self.view().leases()? {
            let deadline_ms = self.put_lease(id, lease.ttl_s)?;
            next_due = Some(next_due.unwrap_or(u64::MAX).min(deadline_ms));
        }
        self.set_due(next_due)?;
        let value = encode_bytes(SYS_BOOT, boot.as_bytes());
        self.dirty = true;
        Ok(self.tables.sys.put(self.txn, SYS_BOOT.as_bytes(), &value)?)
    }

    fn set_due(&mut self, due: Option<u64>) -> Step<()> {
        match due {
            Some(due) => self.set_number(SYS_LEASE_DUE, due),
            None => {
                self.dirty |= self.tables.sys.delete(self.txn, SYS_LEASE_DUE.as_bytes())?;
                Ok(())
            }
        }
    }

    fn put_lease(&mut self, id: LeaseId, ttl_s: u64) -> Step<u64> {
        let deadline_ms = self.now_ms.saturating_add(ttl_s.saturating_mul(1_000));
        let value = encode_lease(id, Lease { ttl_s, deadline_ms });
        self.tables.lease.put(self.txn, &encode_lease_id(id), &value)?;
        self.dirty = true;
        Ok(deadline_ms)
    }

    /// Deletes the lease's keys, in order and in one revision, and the lease.
    fn end(&mut self, id: LeaseId) -> Step<()> {
        let keys = self.view().held_by(id)?;
        self.delete_all(keys.iter().map(AsRef::as_ref))?;
        self.tables.lease.delete(self.txn, &encode_lease_id(id))?;
        self.dirty = true;
        Ok(())
    }
}
