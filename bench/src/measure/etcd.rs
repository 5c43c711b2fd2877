//! Commits on etcd.

use pagestore::Store;
use pagestore_tests::harness::EtcdServer;
use tempfile::TempDir;

use super::writers::{self, Begin, PAGES_PER_WRITER, Writer};
use crate::Result;
use crate::bare::Clients;
use crate::figure::{Figure, Target};
use crate::pages::staged_volume;
use crate::rounds::Plan;

/// Writers, and clients of the bare etcd.
pub(super) const MANY: usize = 64;

/// An etcd of its own with a store on it; its blobs, which commits do not touch, are files.
pub(super) struct EtcdPlace {
    pub(super) server: EtcdServer,
    pub(super) store: Store,
    _blobs: TempDir,
}

impl EtcdPlace {
    pub(super) async fn start() -> Result<EtcdPlace> {
        let (server, blobs) = (EtcdServer::start(), tempfile::tempdir()?);
        let store = Store::open(&url(&server.endpoint(), &blobs)).await?;
        Ok(EtcdPlace { server, store, _blobs: blobs })
    }
}

/// The URL of a store on the etcd at `endpoint`, with its blobs in a directory.
pub(super) fn url(endpoint: &str, blobs: &TempDir) -> String {
    format!("etcd://{endpoint}/bench?blobs=file://{}", blobs.path().display())
}

/// One client, one commit after the other.
pub(super) async fn one_client(plan: Plan) -> Result<Vec<Figure>> {
    let place = EtcdPlace::start().await?;
    let volume = staged_volume(&place.store, "v", PAGES_PER_WRITER).await?;
    let mut writers = vec![Writer::new(&volume, 0)];
    let mut bare = Clients::connect(&place.server.endpoint(), 1).await?;
    let ours = async || {
        let stale = writers::run(&mut writers, Begin::Stale, plan).await?;
        let fresh = writers::run(&mut writers, Begin::Fresh, plan).await?;
        Ok([stale.p50_ms, fresh.p50_ms])
    };
    let other = async || Ok([bare.put(plan).await?.p50_ms; 2]);
    let rounds = plan.run(ours, other).await?;
    Ok(vec![
        rounds.figure(0, "commit on etcd, 1 client, p50", "ms", Target::AtMost(1.25)),
        rounds.figure(1, "the same on a fresh snapshot", "ms", Target::None),
    ])
}

/// Many writers on pages of their own.
pub(super) async fn many_clients(plan: Plan) -> Result<Vec<Figure>> {
    let place = EtcdPlace::start().await?;
    let volume = staged_volume(&place.store, "v", MANY as u64 * PAGES_PER_WRITER).await?;
    let mut writers: Vec<Writer> =
        (0..MANY as u64).map(|number| Writer::new(&volume, number)).collect();
    let mut bare = Clients::connect(&place.server.endpoint(), MANY).await?;
    let ours = async || {
        let stale = writers::run(&mut writers, Begin::Stale, plan).await?;
        let fresh = writers::run(&mut writers, Begin::Fresh, plan).await?;
        Ok([stale.per_second, stale.p50_ms, fresh.per_second])
    };
    let other = async || {
        let bare = bare.put(plan).await?;
        Ok([bare.per_second, bare.p50_ms, bare.per_second])
    };
    let rounds = plan.run(ours, other).await?;
    Ok(vec![
        rounds.figure(0, "commits on etcd, 64 writers", "/s", Target::AtLeast(2.5)),
        rounds.figure(1, "p50 of these", "ms", Target::AtMost(1.0)),
        rounds.figure(2, "the same on fresh snapshots", "/s", Target::None),
    ])
}
