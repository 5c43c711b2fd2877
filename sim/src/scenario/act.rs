//! What a client does in a scenario.

use std::time::Duration;

use pagestore::{Keep, PageSize, Revision, Volume, VolumeOptions};

use super::Scenario;
use crate::client::{Failure, Kind, READ_HELD, Worker};

/// When somebody does beside the victim what is to come in between: sooner than what is slow.
pub(super) const BESIDE: Duration = Duration::from_secs(1);
/// Changes of a transaction that does not fit one level of operations.
const NESTED_PAGES: u64 = 300;
/// Pages of noise that a small budget turns into a file.
pub(super) const BULK_PAGES: u64 = 140;

pub(super) async fn act_as_client(worker: &mut Worker, scenario: Scenario) -> Result<(), Failure> {
    match scenario {
        Scenario::NestedCommit => change(worker, 0, NESTED_PAGES, Kind::Change).await,
        Scenario::BulkCommit | Scenario::SweptCommit => {
            change(worker, 0, BULK_PAGES, Kind::Noise).await
        }
        Scenario::LookBack => {
            let volume = worker.volumes[0].id();
            let past = worker.process().site.model().head(volume) - 1;
            look_back(worker, past).await
        }
        Scenario::JointCommit => change_together(worker).await,
        Scenario::CreateVolume => create(worker).await,
        Scenario::DeleteVolume => {
            let id = worker.volumes[1].id();
            worker.store.delete_volume("v1").await.map_err(|error| ("delete a volume", id, error))
        }
        _ => change(worker, 0, 5, Kind::Change).await,
    }
}

async fn look_back(worker: &mut Worker, revision: u64) -> Result<(), Failure> {
    let volume = worker.volumes[0].clone();
    worker.look_back_to(volume, revision).await
}

/// Holds what was, if it can be read still, for longer than what is slow takes.
pub(super) async fn look_back_for_long(worker: &mut Worker, revision: u64) -> Result<(), Failure> {
    let volume = worker.volumes[0].clone();
    let Ok(snapshot) = volume.snapshot_at(Revision(revision)).await else { return Ok(()) };
    worker.process().env.sleep(3 * BESIDE).await;
    worker.read(READ_HELD, &volume, &snapshot, 3).await
}

async fn create(worker: &mut Worker) -> Result<(), Failure> {
    let page_size = PageSize::new(worker.page_bytes() as u64).expect("a page size");
    let options = VolumeOptions { page_size, keep: Keep::Nothing };
    let id = worker.volumes[0].id();
    match worker.store.create_volume("another", options).await {
        Ok(volume) => worker.volumes.push(volume),
        Err(error) => return Err(("make a volume", id, error)),
    }
    change(worker, 2, 5, Kind::Change).await
}

async fn change_together(worker: &mut Worker) -> Result<(), Failure> {
    let mut volumes = worker.volumes.clone();
    volumes.sort_by_key(Volume::id);
    let mut parts = worker.begin_together(&volumes).await?;
    for (volume, tracked) in &mut parts {
        for page in 0..3 {
            let content = worker.unlike_any(Kind::Change, page);
            tracked.write(page, content).map_err(|error| ("write", volume.id(), error))?;
        }
    }
    worker.commit(parts).await
}

/// Commits changes of the first `count` pages of a volume, which are read before unless it is noise that
/// they become: so what they were is known, and what is staged is what differs.
pub(super) async fn change(
    worker: &mut Worker,
    number: usize,
    count: u64,
    kind: Kind,
) -> Result<(), Failure> {
    let (volume, process) = (worker.volumes[number].clone(), worker.process().clone());
    let mut tracked = worker.begin(&volume).await?;
    for page in 0..count {
        if kind == Kind::Change {
            let read = tracked.read(&process, page, None).await;
            read.map_err(|error| ("read", volume.id(), error))?;
        }
        let content = worker.unlike_any(kind, page);
        tracked.write(page, content).map_err(|error| ("write", volume.id(), error))?;
    }
    worker.commit(vec![(volume, tracked)]).await
}
