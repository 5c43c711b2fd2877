//! One task of a client, which draws what it does.

use bytes::Bytes;
use pagestore::{CommitToken, ErrorKind, Snapshot, Store, Volume, VolumeId};

use super::{Client, Failure, Kind, content};
use crate::process::Process;
use crate::random::Random;

/// One task of a client.
pub(crate) struct Worker {
    pub(super) client: Client,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) store: Store,
    pub(super) random: Random,
    pub(super) held: Vec<(Volume, Snapshot)>,
    pub(super) unknown: Vec<(u32, Volume, CommitToken)>,
}

impl Worker {
    pub(super) async fn run(mut self, operations: u64) {
        for _ in 0..operations {
            if self.random.below(3) > 0 {
                let pause = self.random.skewed(self.client.work.pause_ms);
                self.client.process.sleep_ms(pause).await;
            }
            if let Err((doing, volume, error)) = self.operate().await {
                self.client.judge(doing, Some(volume), &error);
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) {
                    self.reopen(volume).await;
                }
                let pause = self.random.range(1, 200);
                self.client.process.sleep_ms(pause).await;
            }
        }
        self.held.clear();
        self.resolve_all().await;
    }

    /// Asks until it is known of every commit what became of it.
    pub(crate) async fn resolve_all(&mut self) {
        while !self.unknown.is_empty() {
            self.resolve().await;
        }
    }

    /// Where it runs.
    pub(crate) fn process(&self) -> &Process {
        &self.client.process
    }

    /// Holds the error of something that was told to do against what may be.
    pub(crate) fn judge(&self, outcome: Result<(), Failure>) {
        if let Err((doing, volume, error)) = outcome {
            self.client.judge(doing, Some(volume), &error);
        }
    }

    async fn reopen(&mut self, id: VolumeId) {
        let Some(number) = self.volumes.iter().position(|volume| volume.id() == id) else { return };
        self.volumes[number] = self.client.open_one(&self.store, number as u64).await;
    }

    async fn operate(&mut self) -> Result<(), Failure> {
        let work = &self.client.work;
        let delete = work.delete_percent;
        let (bulk, look_back) = (delete + work.bulk_percent, work.look_back_percent);
        match self.random.below(100) {
            draw if draw < delete => return self.delete().await,
            draw if draw < bulk => return self.change(true).await,
            draw if draw < bulk + look_back => return self.look_back().await,
            _ => {}
        }
        let draw = self.random.below(100);
        match draw {
            0..38 => self.change(false).await,
            38..44 => self.change_locked().await,
            44..48 => self.change(true).await,
            48..54 => self.transfer().await,
            54..74 => self.look().await,
            74..84 => self.look_at_held().await,
            84..90 => self.look_back().await,
            90..95 => self.look_stale().await,
            95..98 => {
                self.resolve().await;
                Ok(())
            }
            98 if self.client.work.deletes && self.random.one_in(3) => self.delete().await,
            _ => self.identity().await,
        }
    }

    pub(super) fn volume(&mut self) -> Volume {
        let at = self.random.skewed(self.volumes.len() as u64 - 1);
        self.volumes[at as usize].clone()
    }

    pub(super) fn page(&mut self) -> u64 {
        let work = &self.client.work;
        match self.random.below(4) {
            0 => self.random.below(work.pages),
            _ => self.random.below(work.hot_pages),
        }
    }

    pub(super) fn kind(&mut self) -> Kind {
        match self.random.below(16) {
            0 => Kind::Zeros,
            1..4 => Kind::Noise,
            _ => Kind::Change,
        }
    }

    pub(crate) fn page_bytes(&self) -> usize {
        self.client.work.page_bytes
    }

    /// Content that there never was.
    pub(crate) fn unlike_any(&mut self, kind: Kind, page: u64) -> Bytes {
        let number = self.random.number() | 1;
        self.content(kind, number, page)
    }

    /// Mostly one that there never was; now and then one of a few, so that content comes back.
    pub(super) fn number(&mut self) -> u64 {
        let number = self.random.number() | 1;
        if self.random.one_in(4) { number % 6 } else { number }
    }

    pub(super) fn content(&self, kind: Kind, number: u64, page: u64) -> Bytes {
        content(kind, number, page, self.page_bytes())
    }

    async fn delete(&mut self) -> Result<(), Failure> {
        let number = self.random.below(self.volumes.len() as u64);
        let id = self.volumes[number as usize].id();
        match self.store.delete_volume(&format!("v{number}")).await {
            Ok(()) => self.reopen(id).await,
            Err(error) if error.kind() == ErrorKind::NotFound => self.reopen(id).await,
            Err(error) => return Err(("delete a volume", id, error)),
        }
        Ok(())
    }
}
