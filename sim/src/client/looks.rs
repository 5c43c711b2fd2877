//! Snapshots of all kinds, and what they show.

use pagestore::{ErrorKind, PageNo, Revision, Snapshot, Volume};

use super::{Failure, READ_HELD, Worker};

impl Worker {
    pub(super) async fn snapshot(&mut self, volume: &Volume) -> Result<Snapshot, Failure> {
        let site = self.client.process.site.clone();
        let not_before = site.model().head(volume.id());
        let snapshot =
            volume.snapshot().await.map_err(|error| ("open a snapshot", volume.id(), error))?;
        let (revision, count) = (snapshot.revision().0, snapshot.page_count().0);
        site.model().check_snapshot(volume.id(), revision, count, not_before);
        Ok(snapshot)
    }

    /// Where much is about the past nothing is held for long, or the oldest revision would never rise.
    fn may_hold(&self) -> bool {
        self.held.len() < 3 && self.client.work.look_back_percent == 0
    }

    pub(super) async fn look(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let snapshot = self.snapshot(&volume).await?;
        let pages = 1 + self.random.skewed(8);
        self.read("read", &volume, &snapshot, pages).await?;
        if self.may_hold() && self.random.one_in(6) {
            self.held.push((volume, snapshot));
        }
        Ok(())
    }

    pub(crate) async fn read(
        &mut self,
        doing: &'static str,
        volume: &Volume,
        snapshot: &Snapshot,
        pages: u64,
    ) -> Result<(), Failure> {
        let site = self.client.process.site.clone();
        for _ in 0..pages {
            let page = self.page();
            if page < snapshot.page_count().0 {
                let content = snapshot.read(PageNo(page)).await;
                let content = content.map_err(|error| (doing, volume.id(), error))?;
                site.model().check_read(volume.id(), snapshot.revision().0, page, &content);
            }
        }
        Ok(())
    }

    pub(super) async fn look_at_held(&mut self) -> Result<(), Failure> {
        if self.held.is_empty() {
            return self.look().await;
        }
        let at = self.random.below(self.held.len() as u64) as usize;
        let (volume, snapshot) = self.held[at].clone();
        let read = self.read(READ_HELD, &volume, &snapshot, 4).await;
        if read.is_err() || self.random.one_in(5) {
            self.held.retain(|(of, held)| {
                of.id() != volume.id() || held.revision() != snapshot.revision()
            });
        }
        read
    }

    pub(super) async fn look_back(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let site = self.client.process.site.clone();
        let created = site.model().created(volume.id());
        let head = site.model().head(volume.id());
        let span = head.saturating_sub(created);
        let back = match self.random.below(3) {
            // Around the oldest one, which moves.
            0 => {
                let oldest = site.model().oldest(volume.id()).max(created);
                let about =
                    (oldest + self.random.skewed(32)).saturating_sub(self.random.skewed(32));
                head.saturating_sub(about)
            }
            _ => self.random.skewed(span),
        };
        self.look_back_to(volume, head - back.min(span)).await
    }

    /// Looks at a volume as it was at `revision`, which may be no longer readable.
    pub(crate) async fn look_back_to(
        &mut self,
        volume: Volume,
        revision: u64,
    ) -> Result<(), Failure> {
        let site = self.client.process.site.clone();
        match volume.snapshot_at(Revision(revision)).await {
            Ok(snapshot) => {
                let count = snapshot.page_count().0;
                site.model().check_snapshot(volume.id(), snapshot.revision().0, count, revision);
                self.read("read", &volume, &snapshot, 3).await?;
                if self.may_hold() && self.random.one_in(3) {
                    self.held.push((volume, snapshot));
                }
                Ok(())
            }
            Err(error)
                if error.kind() == ErrorKind::Expired
                    && revision < site.model().oldest(volume.id()) =>
            {
                Ok(())
            }
            Err(error) => Err(("look back", volume.id(), error)),
        }
    }

    pub(super) async fn look_stale(&mut self) -> Result<(), Failure> {
        let volume = self.volume();
        let site = self.client.process.site.clone();
        let snapshot = volume.snapshot_stale().await;
        let snapshot = snapshot.map_err(|error| ("look at what is known", volume.id(), error))?;
        let (revision, count) = (snapshot.revision().0, snapshot.page_count().0);
        site.model().check_snapshot(volume.id(), revision, count, 0);
        self.read("read", &volume, &snapshot, 3).await
    }
}
