//! Named revisions, and holds on them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod harness;

use bytes::Bytes;
use harness::{Model, Random, World};
use pagestore::internal::meta::keys::VolumeKeys;
use pagestore::internal::meta::records::{Point, PointKind, Record};
use pagestore::internal::meta::{Op, Txn};
use pagestore::internal::mirror;
use pagestore::internal::types::PointName;
use pagestore::{ErrorKind, Keep, PageNo, Revision, Volume};
use pagestore_compactor::Effort;

fn point(name: &str) -> PointName {
    PointName::new(name).unwrap()
}

async fn name(world: &World, keys: &VolumeKeys, called: &str, revision: Revision) {
    let record = Point { revision, kind: PointKind::Snapshot };
    let then = vec![record.put(keys, keys.point(&point(called)))];
    world.meta.txn(Txn { then, ..Txn::default() }).await.unwrap();
}

async fn unname(world: &World, keys: &VolumeKeys, called: &str) {
    let then = vec![Op::delete(keys.point(&point(called)))];
    world.meta.txn(Txn { then, ..Txn::default() }).await.unwrap();
}

/// A volume without history of which one old revision is named, and nothing below the head is kept
/// but that; the revision and its pages.
async fn with_a_name(world: &World, model: &mut Model, random: &mut Random) -> (Volume, usize) {
    let volume = world.create(Keep::Nothing).await;
    let keys = world.keys(&volume);
    model.write(&volume, random, 10).await;
    let named = model.commits.len() - 1;
    name(world, &keys, "n", model.commits[named].0).await;
    write_and_compact(world, &volume, model, random).await;
    (volume, named)
}

/// Writes with a session of its own, and leaves nothing to compact.
async fn write_and_compact(world: &World, volume: &Volume, model: &mut Model, random: &mut Random) {
    let writer = world.open().await;
    model.write(&writer, random, 10).await;
    writer.close().await;
    volume.close().await;
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
}

async fn check(snapshot: &pagestore::Snapshot, pages: &[Bytes]) {
    for (page, content) in pages.iter().enumerate() {
        assert_eq!(snapshot.read(PageNo(page as u64)).await.unwrap(), content, "page {page}");
    }
}

#[tokio::test]
async fn a_snapshot_of_a_named_revision_reads_on_when_the_name_is_deleted() {
    let world = World::new(41);
    let (mut model, mut random) = (Model::default(), Random::new(41));
    let (volume, named) = with_a_name(&world, &mut model, &mut random).await;
    let (revision, pages) = model.commits[named].clone();
    let keys = world.keys(&volume);

    let reader = world.open().await;
    assert!(reader.state().unwrap().oldest.record.readable > revision);
    let held = reader.snapshot_at(revision).await.unwrap();
    unname(&world, &keys, "n").await;
    for _ in 0..3 {
        write_and_compact(&world, &volume, &mut model, &mut random).await;
    }
    check(&held, &pages).await;
    // Who holds it already may open it again; others cannot.
    check(&reader.snapshot_at(revision).await.unwrap(), &pages).await;
    let refused = world.open().await.snapshot_at(revision).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Expired);
}

#[tokio::test]
async fn a_snapshot_whose_hold_was_lost_expires_and_never_shows_other_bytes() {
    let world = World::new(42);
    let (mut model, mut random) = (Model::default(), Random::new(42));
    let (volume, named) = with_a_name(&world, &mut model, &mut random).await;
    let (revision, pages) = model.commits[named].clone();
    let keys = world.keys(&volume);

    let reader = world.open().await;
    let held = reader.snapshot_at(revision).await.unwrap();
    unname(&world, &keys, "n").await;
    world.end_leases(&keys).await;
    for _ in 0..3 {
        write_and_compact(&world, &volume, &mut model, &mut random).await;
    }
    reader.snapshot().await.unwrap();
    for page in 0..pages.len() as u64 {
        assert_eq!(held.read(PageNo(page)).await.unwrap_err().kind(), ErrorKind::Expired);
    }
}

#[tokio::test]
async fn what_holds_keep_is_not_merged_again_and_again() {
    let world = World::new(43);
    let volume = world.create(Keep::Nothing).await;
    let keys = world.keys(&volume);
    let (mut model, mut random) = (Model::default(), Random::new(43));
    let names = ["a", "b", "c", "d", "e"];
    for called in names {
        model.overwrite(&volume, &mut random, 20).await;
        name(&world, &keys, called, model.commits.last().unwrap().0).await;
    }
    write_and_compact(&world, &volume, &mut model, &mut random).await;
    let reader = world.open().await;
    let mut held = Vec::new();
    for (revision, _) in &model.commits[..names.len()] {
        held.push(reader.snapshot_at(*revision).await.unwrap());
    }
    for called in names {
        unname(&world, &keys, called).await;
    }
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    let files = async || {
        let state = mirror::load(world.meta.as_ref(), &keys).await.unwrap();
        state.levels.files().map(|entry| entry.id).collect::<Vec<_>>()
    };
    let before = files().await;
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    assert_eq!(files().await, before);
    for (snapshot, (_, pages)) in held.iter().zip(&model.commits) {
        check(snapshot, pages).await;
    }
}
