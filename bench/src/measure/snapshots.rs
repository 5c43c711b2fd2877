//! Fresh snapshots.

use std::time::Instant;

use futures::future::try_join_all;
use pagestore::Volume;

use super::etcd::{EtcdPlace, MANY};
use crate::Result;
use crate::bare::{Clients, Rate};
use crate::figure::{Figure, Target};
use crate::pages::staged_volume;
use crate::rounds::{Latencies, Plan};

/// Many readers that each open one fresh snapshot after the other.
pub(super) async fn fresh(plan: Plan) -> Result<Vec<Figure>> {
    let place = EtcdPlace::start().await?;
    let volume = staged_volume(&place.store, "v", 16).await?;
    let mut bare = Clients::connect(&place.server.endpoint(), 1).await?;
    bare.put(plan).await?;
    let ours = async || {
        let many = readers(&volume, MANY, plan).await?;
        let one = readers(&volume, 1, plan).await?;
        Ok([many.per_second, one.p50_ms])
    };
    let other = async || {
        let bare = bare.get(plan).await?;
        Ok([bare.per_second, bare.p50_ms])
    };
    let rounds = plan.run(ours, other).await?;
    Ok(vec![
        rounds.figure(0, "fresh snapshots on etcd, 64 at once", "/s", Target::AtLeast(20.0)),
        rounds.figure(1, "one at a time, p50", "ms", Target::None),
    ])
}

async fn readers(volume: &Volume, count: usize, plan: Plan) -> Result<Rate> {
    let start = Instant::now();
    let tasks = (0..count).map(|_| {
        let volume = volume.clone();
        tokio::spawn(async move {
            let mut latencies = Latencies::default();
            while start.elapsed() < plan.span {
                let asked = Instant::now();
                volume.snapshot().await?;
                latencies.add(asked);
            }
            Ok::<_, crate::Error>(latencies)
        })
    });
    let mut latencies = Latencies::default();
    for done in try_join_all(tasks).await? {
        latencies.extend(done?);
    }
    Ok(Rate::new(start, latencies))
}
