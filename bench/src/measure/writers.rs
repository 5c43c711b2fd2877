//! Writers of ours: each transaction reads one page, changes 100 bytes of it and commits.

use std::time::Instant;

use futures::future::try_join_all;
use pagestore::{PageNo, Snapshot, Volume};
use rand::rngs::StdRng;

use crate::Result;
use crate::bare::Rate;
use crate::pages;
use crate::rounds::{Latencies, Plan};

/// Pages that a writer changes by turns. Enough that its mirror has the last commit on a page before
/// its turn comes again: a stale snapshot without it would conflict.
pub(super) const PAGES_PER_WRITER: u64 = 64;

/// On which snapshot a transaction begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// On what the process knows already.
    Stale,
    /// On a fresh one: one round trip more.
    Fresh,
}

impl Begin {
    async fn snapshot(self, volume: &Volume) -> Result<Snapshot> {
        Ok(match self {
            Begin::Stale => volume.snapshot_stale().await?,
            Begin::Fresh => volume.snapshot().await?,
        })
    }
}

/// One writer on pages of its own.
pub(super) struct Writer {
    volume: Volume,
    first: u64,
    turn: u64,
    random: StdRng,
}

impl Writer {
    /// The writer number `number` on `volume`.
    pub(super) fn new(volume: &Volume, number: u64) -> Writer {
        let first = number * PAGES_PER_WRITER;
        Writer { volume: volume.clone(), first, turn: 0, random: pages::seeded(number) }
    }

    async fn commit(&mut self, begin: Begin) -> Result<()> {
        let page = PageNo(self.first + self.turn % PAGES_PER_WRITER);
        self.turn += 1;
        let snapshot = begin.snapshot(&self.volume).await?;
        let mut transaction = self.volume.begin_on(snapshot);
        let mut content = transaction.read(page).await?.to_vec();
        pages::change(&mut content, &mut self.random);
        transaction.write(page, content)?;
        transaction.commit().await?;
        Ok(())
    }

    async fn run(&mut self, begin: Begin, plan: Plan) -> Result<Latencies> {
        let (start, mut latencies) = (Instant::now(), Latencies::default());
        while start.elapsed() < plan.span {
            let began = Instant::now();
            self.commit(begin).await?;
            latencies.add(began);
        }
        Ok(latencies)
    }
}

/// Lets all writers commit for as long as the plan says, each in a task of its own.
pub(super) async fn run(writers: &mut Vec<Writer>, begin: Begin, plan: Plan) -> Result<Rate> {
    let start = Instant::now();
    let tasks = std::mem::take(writers).into_iter().map(|mut writer| {
        tokio::spawn(async move {
            let latencies = writer.run(begin, plan).await?;
            Ok::<_, crate::Error>((writer, latencies))
        })
    });
    let mut latencies = Latencies::default();
    for done in try_join_all(tasks).await? {
        let (writer, its) = done?;
        writers.push(writer);
        latencies.extend(its);
    }
    Ok(Rate::new(start, latencies))
}
