//! A compactor in a process of its own, with limits so low that it always has something to do.

use std::time::Duration;

use pagestore::internal::connect::{self, Tiers as Connected};
use pagestore::internal::meta::keys::StoreKeys;
use pagestore::{Env, ErrorKind};
use pagestore_compactor::{Compactor, CompactorOptions, Tiers};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Pause before a store that cannot be reached is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a compactor does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compact {
    /// The store.
    pub url: String,
    /// Staged bytes at which it flushes.
    pub flush_bytes: u64,
    /// Staged versions at which it flushes.
    pub flush_versions: u64,
    /// Age at which it flushes.
    pub flush_age: Duration,
}

/// The tiers of a store as the compactor wants them.
#[must_use]
pub fn tiers(connected: Connected, env: Env) -> Tiers {
    let Connected { meta, blobs, root, .. } = connected;
    Tiers { meta, blobs, keys: StoreKeys::new(root), env }
}

pub(super) async fn run(work: Compact) {
    let env = Env::system();
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::spawn(async move {
        terminate.recv().await;
        stop.send_replace(true);
    });
    let connected = loop {
        match connect::connect(&work.url, &env).await {
            Ok(connected) => break connected,
            Err(error) if error.kind() == ErrorKind::Unavailable => eprintln!("connect: {error}"),
            Err(error) => panic!("connect: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    };
    let options = CompactorOptions {
        flush_bytes: work.flush_bytes,
        flush_versions: work.flush_versions,
        flush_age: work.flush_age,
        ..CompactorOptions::default()
    };
    Compactor::new(tiers(connected, env), options).run(None, &stopped).await.unwrap();
}
