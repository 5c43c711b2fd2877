//! Stores that older versions wrote are read by the code of today, and go on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::Command;

use bytes::Bytes;
use pagestore::{PageNo, Store};
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Tiers};
use pagestore_tests::frozen::expected::{self, Shown};
use pagestore_tests::frozen::{PAGE_BYTES, ROOT, copy, dump, v1};
use pagestore_tests::harness::EtcdServer;
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_embedded_store_is_read_and_goes_on() {
    let dir = TempDir::new().unwrap();
    copy(&v1().join("embedded"), dir.path());
    let shown = expected::read(&v1(), "embedded.pages");
    let store = Store::open(dir.path().to_str().unwrap()).await.unwrap();
    check(&store, shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_store_on_etcd_is_read_and_goes_on() {
    let (etcd, blobs) = (EtcdServer::start(), TempDir::new().unwrap());
    copy(&v1().join("etcd-blobs"), blobs.path());
    let text = std::fs::read_to_string(v1().join("etcd.changes")).unwrap();
    let place = format!("file://{}", blobs.path().display());
    dump::load(etcd.connect().await.as_ref(), &text, ROOT, &place).await;
    let shown = expected::read(&v1(), "etcd.pages");
    let url = format!("etcd://{}/{ROOT}?blobs={place}", etcd.endpoint());
    check(&Store::open(&url).await.unwrap(), shown).await;
}

#[test]
fn what_is_frozen_is_never_made_anew() {
    let mut freeze = Command::new(env!("CARGO_BIN_EXE_pagestore-freeze"));
    let output = freeze.arg(v1()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("never made anew"), "{output:?}");
}

async fn check(store: &Store, mut shown: Vec<Shown>) {
    assert!(shown.iter().any(|one| one.volume == "levels") && shown.len() > 20);
    expected::check(store, &shown).await;
    let compactor = Compactor::new(Tiers::from(store), CompactorOptions::default());
    let names: std::collections::BTreeSet<String> =
        shown.iter().map(|one| one.volume.clone()).collect();
    for name in names {
        let volume = store.open_volume(&name).await.unwrap();
        let mut tx = volume.begin().await.unwrap();
        let content = Bytes::from(vec![7; PAGE_BYTES]);
        tx.write(PageNo(1), content.clone()).unwrap();
        let revision = tx.commit().await.unwrap().revision;
        compactor.compact(volume.id(), Effort::Thorough).await.unwrap();
        let last = shown.iter().rposition(|one| one.volume == name).unwrap();
        let mut pages = shown[last].pages.clone();
        pages[1] = content;
        shown.insert(last + 1, Shown { volume: name.clone(), revision, pages });
        // Of one volume nothing is kept but the newest, and what is named.
        let state = volume.state().unwrap();
        let kept = |one: &&Shown| one.volume == name && state.is_readable(one.revision);
        let of_this: Vec<Shown> = shown.iter().filter(kept).cloned().collect();
        let all = shown.iter().filter(|one| one.volume == name).count();
        assert_eq!(of_this.len(), if name == "named" { 2 } else { all });
        expected::check(store, &of_this).await;
    }
}
