//! Transactions of all kinds, and what becomes of them.

use std::collections::BTreeMap;

use pagestore::{
    Error, ErrorKind, PageNo, Resolution, Transaction, TryLock, Volume, VolumeId, begin_all,
    commit_all,
};

use super::{Failure, Kind, Tracked, Worker};
use crate::model::Part;

/// Pages of a transaction that is to become files.
const BULK_PAGES: u64 = 80;

impl Worker {
    pub(crate) async fn begin(&mut self, volume: &Volume) -> Result<Tracked, Failure> {
        let snapshot = self.snapshot(volume).await?;
        let count = snapshot.page_count().0;
        let transaction = volume.begin_on(snapshot);
        Ok(Tracked::new(&self.client.process, volume, transaction, count))
    }

    /// Changes some pages of one volume, or very many.
    pub(crate) async fn change(&mut self, bulk: bool) -> Result<(), Failure> {
        let volume = self.volume();
        let mut tracked = self.begin(&volume).await?;
        self.fill(&mut tracked, bulk).await.map_err(|error| ("read", volume.id(), error))?;
        if self.random.one_in(4) {
            tracked.respect_lock(&volume);
        }
        self.commit(vec![(volume, tracked)]).await
    }

    /// Changes some pages as the only one of those who ask for the write lock.
    pub(super) async fn change_locked(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let snapshot = self.snapshot(&volume).await?;
        let count = snapshot.page_count().0;
        let asked = self.store.try_lock(volume.name().as_str(), Some(&snapshot)).await;
        let asked = asked.map_err(|error| ("ask for the write lock", volume.id(), error))?;
        let TryLock::Taken(lock) = asked else { return Ok(()) };
        let transaction = volume.begin_on(snapshot);
        let mut tracked = Tracked::new(&self.client.process, &volume, transaction, count);
        self.fill(&mut tracked, false).await.map_err(|error| ("read", volume.id(), error))?;
        if self.random.one_in(4) {
            let pause = self.random.below(9_000);
            self.client.process.sleep_ms(pause).await;
        }
        tracked.require_lock(&lock, self.random.one_in(2));
        let outcome = self.commit(vec![(volume, tracked)]).await;
        if self.random.one_in(2) {
            lock.release().await;
        }
        outcome
    }

    pub(super) async fn fill(&mut self, tracked: &mut Tracked, bulk: bool) -> Result<(), Error> {
        let process = self.client.process.clone();
        if self.random.one_in(24) {
            let count = self.random.below(tracked.last + 2);
            tracked.truncate(count);
        }
        if bulk {
            let first = self.random.below(self.client.work.pages);
            // What does not shrink goes into files where little may be staged.
            let kind = if self.random.one_in(2) { Kind::Noise } else { self.kind() };
            let number = self.number();
            for page in first..first + BULK_PAGES {
                tracked.write(page, self.content(kind, number, page))?;
            }
            return Ok(());
        }
        let changes = 1 + self.random.skewed(5);
        for _ in 0..changes {
            let page = self.page();
            let (kind, number) = (self.kind(), self.number());
            match self.random.below(8) {
                0 => tracked.read(&process, page, None).await?,
                1 => {
                    let later = tracked.part.base + self.random.skewed(40);
                    let plainly = self.random.below(3);
                    if plainly == 0 {
                        tracked.read(&process, page, None).await?;
                    }
                    tracked.read(&process, page, Some(later)).await?;
                    if plainly == 1 {
                        tracked.read(&process, page, None).await?;
                    }
                }
                2 => tracked.ask_count(&process),
                3 => tracked.write(page, self.content(kind, number, page))?,
                _ => {
                    tracked.read(&process, page, None).await?;
                    tracked.write(page, self.content(kind, number, page))?;
                }
            }
        }
        if self.random.one_in(20) {
            let count = self.random.range(tracked.last / 2, tracked.last + 3);
            tracked.truncate(count);
        }
        Ok(())
    }

    /// Changes pages of several volumes in one commit.
    pub(crate) async fn transfer(&mut self) -> Result<(), Failure> {
        if self.volumes.len() < 2 {
            return self.change(false).await;
        }
        let mut volumes = self.volumes.clone();
        volumes.sort_by_key(Volume::id);
        volumes.dedup_by_key(|volume| volume.id());
        let count = self.random.range(2, volumes.len() as u64 + 1) as usize;
        volumes.truncate(count);
        let mut parts = self.begin_together(&volumes).await?;
        for (volume, tracked) in &mut parts {
            self.fill(tracked, false).await.map_err(|error| ("read", volume.id(), error))?;
            tracked.ask_count(&self.client.process);
        }
        self.commit(parts).await
    }

    /// Transactions on several volumes, which are in the order of their ids, all as of one revision.
    pub(crate) async fn begin_together(
        &mut self,
        volumes: &[Volume],
    ) -> Result<Vec<(Volume, Tracked)>, Failure> {
        let site = self.client.process.site.clone();
        let first = volumes[0].id();
        let heads: Vec<u64> = volumes.iter().map(|volume| site.model().head(volume.id())).collect();
        let begun = begin_all(volumes).await.map_err(|error| {
            let gone = volumes.iter().find(|volume| site.model().is_deleted(volume.id()));
            ("begin on several", gone.map_or(first, Volume::id), error)
        })?;
        let mut parts = Vec::new();
        for ((volume, transaction), head) in volumes.iter().zip(begun).zip(heads) {
            if transaction.revision().0 < head {
                let what = format!("a joint view of {} misses {head}", volume.id());
                site.model().violate(what);
            }
            let base = transaction.revision().0;
            let count = site.model().page_count(volume.id(), base);
            let tracked = Tracked::new(&self.client.process, volume, transaction, count);
            parts.push((volume.clone(), tracked));
        }
        Ok(parts)
    }

    /// Writes what is there already.
    pub(super) async fn identity(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let mut tracked = self.begin(&volume).await?;
        let failure = |error| ("read", volume.id(), error);
        let page = self.page();
        if page < tracked.last {
            let content = tracked.transaction.peek(PageNo(page)).await.map_err(failure)?;
            tracked.write(page, content).map_err(failure)?;
        }
        let other = self.page();
        let number = self.number();
        let changed = self.content(Kind::Change, number, other);
        tracked.write(other, changed).map_err(failure)?;
        self.commit(vec![(volume, tracked)]).await
    }

    pub(crate) async fn commit(&mut self, parts: Vec<(Volume, Tracked)>) -> Result<(), Failure> {
        let site = self.client.process.site.clone();
        if parts.iter().all(|(_, tracked)| !tracked.wrote) {
            return Ok(());
        }
        let first = parts.iter().map(|(volume, _)| volume.clone()).min_by_key(Volume::id).unwrap();
        let ids: Vec<VolumeId> = parts.iter().map(|(volume, _)| volume.id()).collect();
        let known: BTreeMap<VolumeId, Part> =
            parts.iter().map(|(volume, tracked)| (volume.id(), tracked.part.clone())).collect();
        let tag = site.model().intend(known);
        site.sky.log(&site.world, || {
            format!("process {} commits transaction {tag}", self.client.process.id.0)
        });
        site.world.set_tag(tag);
        let mut transactions: Vec<Transaction> =
            parts.into_iter().map(|(_, tracked)| tracked.transaction).collect();
        let committed = match transactions.len() {
            1 => transactions.pop().unwrap().commit().await,
            _ => commit_all(transactions).await,
        };
        site.world.set_tag(0);
        site.sky.log(&site.world, || format!("transaction {tag}: {committed:?}"));
        let error = match committed {
            Ok(committed) => {
                site.model().told_committed(tag, committed.revision, committed.commit);
                return Ok(());
            }
            Err(error) => error,
        };
        site.world.note(&[u64::from(tag), error.kind() as u64]);
        match error.kind() {
            ErrorKind::Conflict => {
                let pages: Vec<u64> = error.conflicting_pages().iter().map(|page| page.0).collect();
                site.model().told_conflict(tag, &pages, &error.to_string());
                Ok(())
            }
            ErrorKind::Unknown => {
                site.model().counts.unknown += 1;
                let token = error.commit_token().expect("an unknown outcome has a token");
                self.unknown.push((tag, first, token));
                Ok(())
            }
            _ => {
                site.model().counts.failed += 1;
                // Of a volume that is gone nobody can tell what happened to it before.
                if error.kind() != ErrorKind::NotFound {
                    site.model().told_failed(tag, &error.to_string());
                }
                let gone = ids.iter().find(|id| site.model().is_deleted(**id)).copied();
                Err(("commit", gone.unwrap_or(first.id()), error))
            }
        }
    }

    /// Asks what became of a commit that nobody answered.
    pub(super) async fn resolve(&mut self) {
        let Some((tag, volume, token)) = self.unknown.pop() else { return };
        let site = self.client.process.site.clone();
        match volume.resolve(token).await {
            Ok(Resolution::Committed(revision)) => {
                site.model().told_committed(tag, revision, Some(token.commit));
            }
            Ok(Resolution::Aborted) => site.model().told_failed(tag, "resolved"),
            Ok(Resolution::Forgotten) => {
                site.model().violate(format!("transaction {tag} is forgotten within the day"));
            }
            Err(error) if error.kind() == ErrorKind::Unknown => {
                self.unknown.insert(0, (tag, volume, token));
                self.client.process.sleep_ms(1_000).await;
            }
            Err(error) => self.client.judge("resolve", Some(volume.id()), &error),
        }
    }
}
