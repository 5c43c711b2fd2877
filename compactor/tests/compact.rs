//! What compaction leaves behind: every readable byte, few keys, little garbage.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod harness;

use harness::{Model, PAGE_BYTES, Random, World};
use pagestore::{Keep, PageNo, Revision};
use pagestore_compactor::Effort;

#[tokio::test]
async fn every_revision_reads_the_same_before_and_after() {
    let world = World::new(1);
    let volume = world.create(Keep::Forever).await;
    let (mut model, mut random) = (Model::default(), Random::new(1));
    for round in 0..6 {
        model.write(&volume, &mut random, 25).await;
        model.check_from(&volume, Revision::ZERO).await;
        world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
        model.check_from(&volume, Revision::ZERO).await;
        model.check_from(&world.open().await, Revision::ZERO).await;
        let keys = world.keys(&volume);
        assert_eq!(world.count(keys.all_staged()).await, 0, "round {round}");
        assert_eq!(world.count(keys.all_pointers()).await, 0);
        assert_eq!(world.count(keys.commits()).await, 0);
        assert_eq!(world.count(keys.intents()).await, 0);
    }
}

#[tokio::test]
async fn without_history_only_the_head_stays() {
    let world = World::new(2);
    let volume = world.create(Keep::Nothing).await;
    let (mut model, mut random) = (Model::default(), Random::new(2));
    for _ in 0..5 {
        model.write(&volume, &mut random, 30).await;
        world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
        model.check_head(&volume).await;
        model.check_head(&world.open().await).await;
    }
    let keys = world.keys(&volume);
    world.end_leases(&keys).await;
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    let state = pagestore::internal::mirror::load(world.meta.as_ref(), &keys).await.unwrap();
    let versions: u64 = state.levels.files().map(|entry| entry.version_count).sum();
    assert!(versions <= model.pages().len() as u64, "{versions} versions");
    model.check_head(&world.open().await).await;
}

#[tokio::test]
async fn a_held_snapshot_reads_on_while_its_versions_would_go() {
    let world = World::new(3);
    let volume = world.create(Keep::Nothing).await;
    let (mut model, mut random) = (Model::default(), Random::new(3));
    model.write(&volume, &mut random, 10).await;
    let (held_at, pages) = model.commits.last().cloned().unwrap();
    let held = volume.snapshot().await.unwrap();
    for _ in 0..3 {
        model.write(&volume, &mut random, 20).await;
        world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    }
    assert!(held.revision() >= held_at);
    for (page, content) in pages.iter().enumerate() {
        assert_eq!(held.read(PageNo(page as u64)).await.unwrap(), content);
    }
}

#[tokio::test]
async fn a_held_snapshot_shows_a_bulk_commit_over_what_was_staged_then() {
    let world = World::new(6);
    let volume = world.create(Keep::Forever).await;
    let write = async |pages: u64, byte: u8| {
        let mut transaction = volume.begin().await.unwrap();
        let mut noise = Random::new(byte.into());
        for page in 0..pages {
            let content: Vec<u8> = (0..PAGE_BYTES).map(|_| noise.below(256) as u8).collect();
            transaction.write(PageNo(page), content).unwrap();
        }
        transaction.commit().await.unwrap()
    };
    write(1, 1).await;
    // More than one transaction of the meta tier takes.
    write(3_000, 2).await;
    let held = volume.snapshot().await.unwrap();
    let before = held.read(PageNo(0)).await.unwrap();
    // Flushes the first commit, then merges both.
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    assert_eq!(held.read(PageNo(0)).await.unwrap(), before);
}

#[tokio::test]
async fn a_hundred_overwrites_leave_less_than_twice_what_is_alive() {
    let world = World::new(4);
    let volume = world.create(Keep::Nothing).await;
    let (mut model, mut random) = (Model::default(), Random::new(4));
    let keys = world.keys(&volume);
    for _ in 0..100 {
        model.overwrite(&volume, &mut random, 1_000).await;
        // Pins follow the head by the clock only; here they go at once.
        world.end_leases(&keys).await;
        world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    }
    let live = 1_000 * (PAGE_BYTES as u64 / 2);
    let bytes = world.object_bytes(&keys).await;
    assert!(bytes < 2 * live, "{bytes} bytes for {live}");
    model.check_head(&world.open().await).await;
}

#[tokio::test]
async fn random_overwrites_are_bounded_in_space_and_in_bytes_written() {
    let world = World::new(5);
    let volume = world.create_with(4096, Keep::Nothing).await;
    let (mut model, mut random) = (Model::default(), Random::new(5));
    let keys = world.keys(&volume);
    let pages = 4_000;
    model.overwrite(&volume, &mut random, pages).await;
    world.compactor().compact(volume.id(), Effort::Usual).await.unwrap();
    let live = world.object_bytes(&keys).await;
    let before = world.blobs.counts().bytes_out;
    let mut overwritten = 0;
    for _ in 0..40 {
        let mut current = model.pages();
        let mut tx = volume.begin().await.unwrap();
        for _ in 0..400 {
            let page = random.below(pages as u64);
            current[page as usize] = random.page(4096).into();
            tx.write(PageNo(page), current[page as usize].clone()).unwrap();
        }
        overwritten += tx.written_count() as u64;
        let committed = tx.commit().await.unwrap();
        model.commits = vec![(committed.revision, current)];
        world.end_leases(&keys).await;
        world.compactor().compact(volume.id(), Effort::Usual).await.unwrap();
    }
    let flushed = overwritten * live / pages as u64;
    let written = world.blobs.counts().bytes_out - before;
    assert!(written * 10 < flushed * 16, "{written} bytes written for {flushed}");
    let bytes = world.object_bytes(&keys).await;
    assert!(bytes * 10 < live * 25, "{bytes} bytes for {live}");

    world.end_leases(&keys).await;
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    let bytes = world.object_bytes(&keys).await;
    assert!(bytes < 2 * live, "{bytes} bytes for {live} after a thorough compaction");
    model.check_head(&world.open().await).await;
}
