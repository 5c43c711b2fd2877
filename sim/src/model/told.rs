//! What clients were told and saw.

use pagestore::internal::types::{CommitId, Revision, VolumeId};

use super::{LockUse, Model, Part, Told, digest};

impl Model {
    /// The client was told that its transaction happened.
    pub fn told_committed(&mut self, tag: u32, revision: Revision, id: Option<CommitId>) {
        let intent = &mut self.intents[tag as usize - 1];
        let right = match (intent.happened, id) {
            (Some((at, as_id)), Some(id)) => at == revision.0 && as_id == id,
            (Some((at, _)), None) => at == revision.0,
            (None, _) => false,
        };
        if !right || intent.told == Told::Failed || revision.0 <= intent.begun_at {
            let what = format!(
                "transaction {tag}, begun at {}, is told to be at {revision}, and is at {:?}",
                intent.begun_at, intent.happened
            );
            self.violate(what);
            return;
        }
        intent.told = Told::Committed(revision.0);
    }

    /// The client was told that its transaction did not happen, and never will.
    pub fn told_failed(&mut self, tag: u32, why: &str) {
        let intent = &mut self.intents[tag as usize - 1];
        if let Some((at, _)) = intent.happened {
            let what = format!("transaction {tag} is told to have failed ({why}), and is at {at}");
            self.violate(what);
            return;
        }
        intent.told = Told::Failed;
    }

    /// The client was told that its transaction conflicts in `pages`.
    pub fn told_conflict(&mut self, tag: u32, pages: &[u64], message: &str) {
        self.counts.conflicts += 1;
        self.told_failed(tag, message);
        if message.starts_with("other commits overtook") {
            return;
        }
        let intent = self.intents[tag as usize - 1].clone();
        let lost = |lock: &LockUse| match lock {
            LockUse::None => false,
            LockUse::Held(key, created) => self.locks.get(key) != Some(created),
            LockUse::Respected(_) => true,
        };
        if message.contains("write lock") && intent.parts.values().any(|part| lost(&part.lock)) {
            return;
        }
        let counted = |id: &VolumeId, part: &Part| {
            (part.asks_count || part.last_count.is_some()) && self.volumes[id].count_put > part.base
        };
        if pages.is_empty() && !intent.parts.iter().any(|(id, part)| counted(id, part)) {
            let what = format!("transaction {tag} conflicts in nothing: {intent:?}");
            self.violate(what);
            return;
        }
        for page in pages {
            let known = intent.parts.iter().any(|(id, part)| {
                let volume = &self.volumes[id];
                let unchanged_to = match part.writes.contains_key(page) {
                    true => Some(part.base),
                    false => part.reads.get(page).map(|tolerated| part.base.max(*tolerated)),
                };
                let Some(unchanged_to) = unchanged_to else { return false };
                let cut = volume.truncations.iter().rev().take_while(|(at, _)| *at > unchanged_to);
                volume.touched.get(page).is_some_and(|at| *at > unchanged_to)
                    || cut.into_iter().any(|(_, lowest)| lowest <= page)
            });
            if !known {
                let what = format!("transaction {tag} conflicts in page {page}: {intent:?}");
                self.violate(what);
            }
        }
    }

    /// A snapshot was opened at `revision`, with so many pages; `not_before` is the head when it was
    /// asked for.
    pub fn check_snapshot(&mut self, id: VolumeId, revision: u64, count: u64, not_before: u64) {
        self.counts.snapshots += 1;
        if revision < not_before {
            self.violate(format!("a snapshot of {id} at {revision} misses {not_before}"));
        }
        let right = self.page_count(id, revision);
        if count != right {
            self.violate(format!("{id} at {revision} has {right} pages, not {count}"));
        }
    }

    /// A page was read at a revision.
    pub fn check_read(&mut self, id: VolumeId, revision: u64, page: u64, content: &[u8]) {
        self.counts.reads += 1;
        let digest = digest(content);
        let right = self.volumes.get(&id).map(|volume| volume.digest_at(page, revision));
        if right.is_some_and(|right| right != digest) {
            let volume = &self.volumes[&id];
            let was = volume.pages.get(&page);
            let was = was.and_then(|changes| changes.iter().find(|(_, of)| *of == digest));
            let what = format!(
                "page {page} of {id} at {revision} is not as it was then, but as at {:?}; last changed at {:?}",
                was.map(|(at, _)| *at),
                volume.pages.get(&page).map(|changes| changes
                    .iter()
                    .rev()
                    .find(|(at, _)| *at <= revision)
                    .map_or(0, |(at, _)| *at)),
            );
            self.violate(what);
        }
    }
}
