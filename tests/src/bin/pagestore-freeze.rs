//! Makes the stores that later versions must read: `pagestore-freeze DIRECTORY`. Refuses a directory that is
//! there, because what is frozen is never made anew.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pagestore::internal::connect;
use pagestore_tests::frozen::expected::{Contents, encode};
use pagestore_tests::frozen::{ROOT, copy, dump, scenario};
use pagestore_tests::harness::EtcdServer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: pagestore-freeze DIRECTORY");
        return ExitCode::from(2);
    };
    if dir.exists() {
        eprintln!(
            "{} is there; what is frozen is never made anew: name the directory of a new version",
            dir.display()
        );
        return ExitCode::FAILURE;
    }
    std::fs::create_dir_all(&dir).unwrap();
    freeze(&dir).await;
    ExitCode::SUCCESS
}

async fn freeze(dir: &Path) {
    let mut contents = Contents::default();
    let place = tempfile::tempdir().unwrap();

    let path = place.path().join("embedded");
    let tiers = connect::connect(path.to_str().unwrap(), &dump::env()).await.unwrap();
    let shown = scenario::play(tiers, dump::env()).await;
    std::fs::write(dir.join("embedded.pages"), encode(&shown, &mut contents)).unwrap();
    // Without what belongs to the processes that have it open.
    copy(&path.join("blobs"), &dir.join("embedded/blobs"));
    std::fs::create_dir_all(dir.join("embedded/meta")).unwrap();
    std::fs::copy(path.join("meta/data.mdb"), dir.join("embedded/meta/data.mdb")).unwrap();

    let (etcd, blobs) = (EtcdServer::start(), place.path().join("blobs"));
    let (at, to) = (etcd.endpoint(), blobs.display());
    let url = format!("etcd://{at}/{ROOT}?blobs=file://{to}&history=shared");
    let tiers = connect::connect(&url, &dump::env()).await.unwrap();
    let meta = tiers.meta.clone();
    let shown = scenario::play(tiers, dump::env()).await;
    std::fs::write(dir.join("etcd.pages"), encode(&shown, &mut contents)).unwrap();
    std::fs::write(dir.join("etcd.changes"), dump::write(meta.as_ref(), ROOT).await).unwrap();
    copy(&blobs, &dir.join("etcd-blobs"));
    std::fs::write(dir.join("contents"), contents.concat()).unwrap();
}
