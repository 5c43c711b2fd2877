//! Finds the volumes of a store and looks after each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;

use pagestore::internal::env::Task;
use pagestore::internal::meta::records::{self, Record};
use pagestore::internal::meta::{Event, KeyRange, KeyValue, Projection, RangeRequest};
use pagestore::internal::mirror;
use pagestore::internal::types::{VolumeId, VolumeName};
use pagestore::{ErrorKind, Result};

use super::{Stop, lookout, stopped};
use crate::execute::erase::find_volumes;
use crate::interrupt::{Interrupt, Work};
use crate::options::CompactorOptions;
use crate::tiers::Tiers;

/// First and longest pause after the list of volumes could not be followed.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Looks after volumes until `stop` is set: all, or those called `only`.
///
/// # Errors
/// `Invalid` when the store can no longer be followed, because its etcd was restored from a backup.
pub(crate) async fn run(
    tiers: &Tiers,
    options: &CompactorOptions,
    only: Option<&BTreeSet<VolumeName>>,
    stop: &Stop,
) -> Result<()> {
    let mut keeper = Keeper { tiers, options, only, stop, tasks: BTreeMap::new() };
    let mut pause = PAUSE.0;
    let outcome = loop {
        tokio::select! {
            biased;
            () = stopped(stop) => break Ok(()),
            followed = keeper.follow() => match followed {
                Ok(()) => pause = PAUSE.0,
                Err(error) if error.kind() == ErrorKind::Invalid => break Err(error),
                Err(error) => tracing::warn!(%error, "the list of volumes cannot be followed"),
            },
        }
        tokio::select! {
            biased;
            () = stopped(stop) => break Ok(()),
            () = tiers.env.sleep(tiers.env.jittered(pause)) => {}
        }
        pause = (pause * 2).min(PAUSE.1);
    };
    if outcome.is_ok() {
        // Each gives its claim back before it ends.
        for (_, task) in keeper.tasks {
            task.join().await;
        }
    }
    outcome
}

struct Keeper<'a> {
    tiers: &'a Tiers,
    options: &'a CompactorOptions,
    only: Option<&'a BTreeSet<VolumeName>>,
    stop: &'a Stop,
    tasks: BTreeMap<VolumeId, Task>,
}

impl Keeper<'_> {
    /// Starts a task for every volume there is and for every one that comes.
    async fn follow(&mut self) -> Result<()> {
        let names = mirror::scan(self.tiers.meta.as_ref(), &self.tiers.keys.names(), None).await?;
        let mut named = BTreeSet::new();
        for kv in &names.kvs {
            named.insert(self.start_named(kv)?);
        }
        if self.only.is_none() {
            for volume in find_deleted(self.tiers, &named).await? {
                self.start(volume);
            }
        }
        let from = names.revision.next();
        let mut watch = self.tiers.meta.watch(self.tiers.keys.names(), from).await?;
        while let Some(batch) = watch.next().await {
            for event in batch?.events {
                // A deletion is news of the volume itself, which its task hears.
                if let Event::Put(kv) = event {
                    self.start_named(&kv)?;
                }
            }
        }
        Ok(())
    }

    fn start_named(&mut self, kv: &KeyValue) -> Result<VolumeId> {
        let volume = records::VolumeName::decode(&kv.key, &kv.value)?.volume;
        let name = self.tiers.keys.parse_name(&kv.key);
        if name.is_some_and(|name| self.only.is_none_or(|only| only.contains(&name))) {
            self.start(volume);
        }
        Ok(volume)
    }

    fn start(&mut self, volume: VolumeId) {
        self.tasks.retain(|_, task| !task.is_finished());
        let (options, stop) = (self.options, self.stop);
        self.tasks.entry(volume).or_insert_with(|| {
            let task =
                lookout::look_after(self.tiers.volume(volume), options.clone(), stop.clone());
            self.tiers.env.spawn(task)
        });
    }
}

/// Volumes that have keys, but neither a name nor metadata: deleted, and not erased yet.
async fn find_deleted(tiers: &Tiers, named: &BTreeSet<VolumeId>) -> Result<Vec<VolumeId>> {
    let found: Work<BTreeSet<VolumeId>> = find_volumes(tiers.meta.as_ref(), &tiers.keys).await;
    let found = match found {
        Ok(found) => found,
        Err(Interrupt::Failed(error)) => return Err(error),
        Err(Interrupt::ClaimLost | Interrupt::Overtaken) => BTreeSet::new(),
    };
    let mut deleted = Vec::new();
    for volume in found.difference(named) {
        let key = KeyRange::key(tiers.keys.volume(*volume).metadata());
        let request = RangeRequest::new(key).project(Projection::KeysOnly);
        if tiers.meta.range(request).await?.kvs.is_empty() {
            deleted.push(*volume);
        }
    }
    Ok(deleted)
}
