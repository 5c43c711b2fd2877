//! A process that holds a snapshot, and a transaction on it, and uses them when it is told to.

use std::path::PathBuf;
use std::time::Duration;

use pagestore::{PageNo, Store, StoreOptions};
use serde::{Deserialize, Serialize};

use crate::chaos::content::digest;

/// How soon it notices that it is told to.
const TICK: Duration = Duration::from_millis(10);

/// What a holder does. The lines that it prints: `held REVISION`; then for each page `page NUMBER DIGEST`
/// or `page NUMBER ERROR-KIND`; then `commit REVISION` or `commit ERROR-KIND`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// The store.
    pub url: String,
    /// The volume.
    pub volume: String,
    /// Once this file is there, it uses what it holds.
    pub go: PathBuf,
}

pub(super) async fn run(work: Hold) {
    // Next to no cache: what it shows comes from the store.
    let options = StoreOptions { page_cache_bytes: 1, ..StoreOptions::default() };
    let store = Store::open_with(&work.url, options).await.unwrap();
    let volume = store.open_volume(&work.volume).await.unwrap();
    let snapshot = volume.snapshot().await.unwrap();
    let mut tx = volume.begin_on(snapshot.clone());
    tx.write(PageNo(0), vec![0xee; volume.page_size().bytes()]).unwrap();
    println!("held {}", snapshot.revision());
    while !work.go.exists() {
        tokio::time::sleep(TICK).await;
    }
    for page in 0..snapshot.page_count().0 {
        match snapshot.read(PageNo(page)).await {
            Ok(content) => println!("page {page} {}", digest(&content)),
            Err(error) => println!("page {page} {}", error.kind().as_str()),
        }
    }
    match tx.commit().await {
        Ok(committed) => println!("commit {}", committed.revision),
        Err(error) => println!("commit {}", error.kind().as_str()),
    }
}
