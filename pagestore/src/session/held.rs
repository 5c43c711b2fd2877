use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::types::Revision;

/// The revisions that snapshots of one session hold, and the pin that protects them.
///
/// Invariant: the pin in the meta tier is never above `protected`, and nobody holds a kept revision
/// below `protected`.
#[derive(Debug)]
pub(super) struct Held {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    protected: Revision,
    counts: BTreeMap<Revision, usize>,
    own: BTreeMap<Revision, OwnHold>,
}

/// A hold that the session has in the meta tier, on a revision that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnHold {
    /// When it was put.
    pub(super) put: Revision,
    /// When it was last known to be there, continuously since.
    pub(super) seen: Revision,
}

impl Held {
    pub(super) fn new(protected: Revision) -> Arc<Held> {
        Arc::new(Held {
            inner: Mutex::new(Inner { protected, counts: BTreeMap::new(), own: BTreeMap::new() }),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("BUG: nothing panics while it holds the list of held revisions")
    }

    /// Holds `revision` if the pin covers it already.
    pub(super) fn try_hold(self: &Arc<Self>, revision: Revision) -> Option<Hold> {
        let mut inner = self.inner();
        if revision < inner.protected {
            return None;
        }
        *inner.counts.entry(revision).or_default() += 1;
        Some(Hold { held: self.clone(), revision })
    }

    /// Holds `revision`, which something else than the pin protects until the pin does.
    pub(super) fn hold(self: &Arc<Self>, revision: Revision) -> Hold {
        *self.inner().counts.entry(revision).or_default() += 1;
        Hold { held: self.clone(), revision }
    }

    /// The pin has come down to `revision`.
    pub(super) fn lower(&self, revision: Revision) {
        let mut inner = self.inner();
        inner.protected = inner.protected.min(revision);
    }

    /// How far up the pin may go: to the oldest held revision at or above `oldest`, at most to
    /// `newest`. From here on nobody holds anything below without lowering the pin first.
    pub(super) fn raise(&self, oldest: Revision, newest: Revision) -> Revision {
        let mut inner = self.inner();
        if planted!(HeldNotPinned) {
            inner.protected = inner.protected.max(newest);
            return newest;
        }
        let lowest = inner
            .counts
            .range(oldest..)
            .next()
            .map_or(newest, |(revision, _)| newest.min(*revision));
        inner.protected = inner.protected.max(lowest);
        lowest
    }

    /// True when some snapshot holds `revision`.
    pub(super) fn holds(&self, revision: Revision) -> bool {
        self.inner().counts.contains_key(&revision)
    }

    /// The session's own hold on `revision`.
    pub(super) fn own(&self, revision: Revision) -> Option<OwnHold> {
        self.inner().own.get(&revision).copied()
    }

    /// A hold on `revision` was put at `put`.
    pub(super) fn set_own(&self, revision: Revision, put: Revision) {
        self.inner().own.insert(revision, OwnHold { put, seen: put });
    }

    /// The hold on `revision` that was put at `put` was still there at `seen`.
    pub(super) fn saw_own(&self, revision: Revision, put: Revision, seen: Revision) {
        if let Some(own) = self.inner().own.get_mut(&revision).filter(|own| own.put == put) {
            own.seen = own.seen.max(seen);
        }
    }

    /// The hold on `revision` goes.
    pub(super) fn forget_own(&self, revision: Revision) {
        self.inner().own.remove(&revision);
    }

    /// The session's lease has ended, and with it all its holds.
    pub(super) fn forget_all_own(&self) {
        self.inner().own.clear();
    }
}

/// Keeps a revision readable for as long as it lives and its session's lease does.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Arc<Held>,
    revision: Revision,
}

impl Clone for Hold {
    fn clone(&self) -> Hold {
        self.held.hold(self.revision)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut inner = self.held.inner();
        if let Some(count) = inner.counts.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                inner.counts.remove(&self.revision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_rises_to_the_oldest_held_revision() {
        let held = Held::new(Revision(10));
        assert!(held.try_hold(Revision(9)).is_none());
        let old = held.try_hold(Revision(12)).unwrap();
        let older = old.clone();
        assert_eq!(held.raise(Revision(0), Revision(20)), Revision(12));
        drop(old);
        assert_eq!(held.raise(Revision(0), Revision(20)), Revision(12));
        drop(older);
        assert_eq!(held.raise(Revision(0), Revision(20)), Revision(20));
        assert!(held.try_hold(Revision(19)).is_none());
        held.lower(Revision(15));
        assert!(held.try_hold(Revision(15)).is_some());
    }

    #[test]
    fn what_is_no_longer_kept_does_not_hold_the_pin() {
        let held = Held::new(Revision(1));
        let _expired = held.try_hold(Revision(2)).unwrap();
        assert_eq!(held.raise(Revision(5), Revision(20)), Revision(20));
    }
}
