//! Compactors that run beside their hosts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod harness;

use std::time::Duration;

use bytes::Bytes;
use harness::{Model, PAGE_BYTES, Random, World};
use pagestore::internal::blob::ObjectName;
use pagestore::internal::meta::keys::VolumeKeys;
use pagestore::internal::meta::records::{Job, Record};
use pagestore::internal::meta::{KeyRange, Txn};
use pagestore::internal::mirror;
use pagestore::{ErrorKind, Keep, PageNo, Revision, Volume};
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Running};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Staged pages, pointers and commits of a volume, and compactors at it.
async fn contents(world: &World, keys: &VolumeKeys) -> usize {
    let mut count = 0;
    for range in
        [keys.commits(), keys.all_pointers(), keys.all_staged(), KeyRange::key(keys.claim())]
    {
        count += world.count(range).await;
    }
    count
}

fn start(world: &World, flush_bytes: u64) -> Running {
    let options = CompactorOptions { flush_bytes, ..CompactorOptions::default() };
    Compactor::new(world.tiers(), options).start()
}

#[tokio::test]
async fn a_running_compactor_flushes_what_comes_and_gives_its_claim_back() {
    let world = World::new(21);
    let volume = world.create(Keep::Forever).await;
    let keys = world.keys(&volume);
    let running = start(&world, 1);
    let (mut model, mut random) = (Model::default(), Random::new(21));
    for _ in 0..5 {
        model.write(&volume, &mut random, 5).await;
        eventually("the flush", async || world.count(keys.commits()).await == 0).await;
    }
    running.stop().await;
    assert_eq!(world.count(KeyRange::key(keys.claim())).await, 0);
    model.check_from(&world.open().await, Revision::ZERO).await;
}

#[tokio::test]
async fn an_idle_volume_is_left_alone() {
    let world = World::new(22);
    let volume = world.create(Keep::Forever).await;
    let running = start(&world, 1 << 20);
    let (mut model, mut random) = (Model::default(), Random::new(22));
    model.write(&volume, &mut random, 5).await;
    // Its first go, which looks for what others left.
    eventually("the first go", async || world.blobs.counts().lists > 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = world.meta.status().await.unwrap().revision;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.meta.status().await.unwrap().revision, before);
    assert_eq!(world.count(world.keys(&volume).commits()).await, 5);
    running.stop().await;
}

/// Commits of random pages by one of several writers; what was acknowledged.
async fn write_beside(volume: Volume, seed: u64, commits: usize) -> Vec<(Revision, u64, Bytes)> {
    let mut random = Random::new(seed);
    let mut acknowledged = Vec::new();
    while acknowledged.len() < commits {
        let mut tx = volume.begin().await.unwrap();
        let page = random.below(12);
        let content: Bytes = if random.below(3) == 0 || page >= tx.page_count().0 {
            random.page(PAGE_BYTES).into()
        } else {
            let mut content = tx.read(PageNo(page)).await.unwrap().to_vec();
            content[random.below(PAGE_BYTES as u64) as usize] ^= 0x33;
            content.into()
        };
        tx.write(PageNo(page), content.clone()).unwrap();
        match tx.commit().await {
            Ok(committed) if committed.commit.is_some() => {
                acknowledged.push((committed.revision, page, content));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => panic!("{error}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_on_hot_pages_and_two_compactors_lose_nothing() {
    let world = World::new(23);
    let volume = world.create(Keep::Forever).await;
    let keys = world.keys(&volume);
    let compactors = [start(&world, 1), start(&world, 1)];
    let mut writers = Vec::new();
    for seed in 0..4 {
        let store = world.store().await;
        let volume = store.open_volume("v").await.unwrap();
        writers.push(tokio::spawn(write_beside(volume, seed, 100)));
    }
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    acknowledged.sort_by_key(|(revision, page, _)| (*revision, *page));
    for compactor in compactors {
        compactor.stop().await;
    }
    let check = async |volume: &Volume| {
        let mut pages: Vec<Option<Bytes>> = vec![None; 12];
        for (at, (revision, page, content)) in acknowledged.iter().enumerate() {
            pages[*page as usize] = Some(content.clone());
            // The commits of one batch share their revision.
            if acknowledged.get(at + 1).is_some_and(|next| next.0 == *revision) {
                continue;
            }
            let snapshot = volume.snapshot_at(*revision).await.unwrap();
            for (page, content) in pages.iter().enumerate() {
                if let Some(content) = content {
                    let read = snapshot.read(PageNo(page as u64)).await.unwrap();
                    assert_eq!(read, content, "page {page} at {revision}");
                }
            }
        }
    };
    check(&world.open().await).await;
    drop(volume);
    world.end_leases(&keys).await;
    world.compactor().compact(keys.id(), Effort::Thorough).await.unwrap();
    assert_eq!(world.count(keys.all_staged()).await, 0);
    assert_eq!(world.count(keys.all_pointers()).await, 0);
    check(&world.open().await).await;
}

#[tokio::test]
async fn a_deleted_volume_is_erased_once_nobody_holds_it() {
    let world = World::new(24);
    let volume = world.create(Keep::Forever).await;
    let keys = world.keys(&volume);
    let (mut model, mut random) = (Model::default(), Random::new(24));
    model.write(&volume, &mut random, 20).await;
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    model.write(&volume, &mut random, 20).await;
    let store = world.store().await;
    store.delete_volume("v").await.unwrap();
    let running = start(&world, 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(world.object_count(&keys).await > 0, "a session holds it");
    drop(volume);
    world.end_leases(&keys).await;
    // The last few keys stay until no request can come late any more.
    eventually("the end of all contents", async || contents(&world, &keys).await == 0).await;
    assert_eq!(world.object_count(&keys).await, 0);
    running.stop().await;
}

#[tokio::test]
async fn a_snapshot_of_a_deleted_volume_reads_on_until_its_lease_ends() {
    let world = World::new(33);
    let volume = world.create(Keep::Nothing).await;
    let keys = world.keys(&volume);
    let (mut model, mut random) = (Model::default(), Random::new(33));
    model.write(&volume, &mut random, 20).await;
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    model.write(&volume, &mut random, 20).await;
    // Of processes of their own, with nothing in their caches.
    let (reader, idler) = (world.open().await, world.open().await);
    let held = reader.snapshot().await.unwrap();
    let unread = idler.snapshot().await.unwrap();
    world.store().await.delete_volume("v").await.unwrap();
    let running = start(&world, 1);
    for process in [&reader, &idler] {
        eventually("the news", async || process.snapshot_stale().await.is_err()).await;
    }
    assert_eq!(reader.snapshot().await.unwrap_err().kind(), ErrorKind::NotFound);
    model.check_newest(&held).await;

    world.end_leases(&keys).await;
    eventually("the end of all contents", async || contents(&world, &keys).await == 0).await;
    let gone = unread.read(PageNo(0)).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Expired, "{gone}");
    running.stop().await;
}

#[tokio::test]
async fn a_volume_made_later_is_looked_after_too() {
    let world = World::new(25);
    let running = start(&world, 1);
    let volume = world.create(Keep::Forever).await;
    let (mut model, mut random) = (Model::default(), Random::new(25));
    model.write(&volume, &mut random, 5).await;
    let keys = world.keys(&volume);
    eventually("the flush", async || world.count(keys.commits()).await == 0).await;
    running.stop().await;
    model.check_from(&world.open().await, Revision::ZERO).await;
}

#[tokio::test]
async fn a_sweep_that_always_fails_holds_up_no_flush() {
    let world = World::new(26);
    let volume = world.create(Keep::Forever).await;
    let keys = world.keys(&volume);
    // Ahead of the meta tier: nobody may delete anything by such a listing.
    let file = world.env.file_id();
    let ahead = ObjectName { volume: volume.id(), named_at: Revision(1 << 40), file };
    world.blobs.put_create(&ahead, vec!["ahead".into()]).await.unwrap();
    let running = start(&world, 1);
    let (mut model, mut random) = (Model::default(), Random::new(26));
    for _ in 0..3 {
        model.write(&volume, &mut random, 5).await;
        eventually("the flush", async || world.count(keys.commits()).await == 0).await;
    }
    running.stop().await;
    model.write(&volume, &mut random, 5).await;
    let error = world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "who asks is told of it");
    assert_eq!(world.count(keys.commits()).await, 0, "when all else is done");
    assert_eq!(world.blobs.head(&ahead).await.unwrap(), 5);
    model.check_from(&world.open().await, Revision::ZERO).await;

    world.blobs.delete(&ahead).await.unwrap();
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
}

#[tokio::test]
async fn a_thorough_compaction_ends_while_others_write() {
    let world = World::new(27);
    let volume = world.create(Keep::Nothing).await;
    let keys = world.keys(&volume);
    let (mut model, mut random) = (Model::default(), Random::new(27));
    model.write(&volume, &mut random, 20).await;
    let before = model.commits.last().unwrap().0;
    // Far more than are made while the volume is compacted once.
    let writer = tokio::spawn(async move {
        for _ in 0..20_000 {
            model.write(&volume, &mut random, 1).await;
        }
    });
    let compactor = Compactor::new(world.tiers(), CompactorOptions::default());
    compactor.compact(keys.id(), Effort::Thorough).await.unwrap();
    assert!(!writer.is_finished(), "it went on for as long as there was something to do");
    writer.abort();
    let state = mirror::load(world.meta.as_ref(), &keys).await.unwrap();
    assert!(state.floor.up_to >= before, "all of before is flushed");
}

#[tokio::test]
async fn nothing_is_removed_that_is_not_in_files_whatever_a_job_says() {
    let world = World::new(27);
    let volume = world.create(Keep::Forever).await;
    let keys = world.keys(&volume);
    let (mut model, mut random) = (Model::default(), Random::new(27));
    model.write(&volume, &mut random, 5).await;
    // As nobody of ours writes it down: nothing has been flushed yet.
    let job = Job::Remove { up_to: volume.snapshot().await.unwrap().revision() };
    let then = vec![job.put(&keys, keys.job())];
    world.meta.txn(Txn { then, ..Txn::default() }).await.unwrap();
    let staged = world.count(keys.all_staged()).await;
    let error = world.compactor().compact(volume.id(), Effort::Usual).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("was not removed"), "{error}");
    assert_eq!(world.count(keys.all_staged()).await, staged);
    model.check_from(&world.open().await, Revision::ZERO).await;
}
