//! A compactor that dies at its k-th request, for every k: whatever it left behind, nothing is lost and
//! nothing stays behind once another one has been at it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod harness;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use harness::dying::{DyingMeta, DyingObjects, Last, Life};
use harness::{Model, Random, World};
use pagestore::internal::blob::BlobStore;
use pagestore::internal::meta::KeyRange;
use pagestore::internal::meta::keys::VolumeKeys;
use pagestore::internal::mirror;
use pagestore::{Keep, Revision, Volume};
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Tiers};

/// Far longer than stopping takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// More requests than any compaction here makes.
const MAX_CALLS: u64 = 1_000;

fn mortal(world: &World, life: &Arc<Life>) -> Compactor {
    let meta = DyingMeta { inner: world.meta.clone(), life: life.clone() };
    let objects = DyingObjects { inner: world.objects.clone(), life: life.clone() };
    let blobs = BlobStore::new(Arc::new(objects), "memory:", world.env.clone());
    let tiers = Tiers { meta: Arc::new(meta), blobs, ..world.tiers() };
    Compactor::new(tiers, CompactorOptions::default())
}

/// Nothing is left in the meta tier but what the files and the sessions need, and every object that is
/// needed is there; returns how many are there besides.
async fn check_clean(world: &World, keys: &VolumeKeys) -> usize {
    assert_eq!(world.count(keys.all_staged()).await, 0, "staged pages");
    assert_eq!(world.count(keys.all_pointers()).await, 0, "pointers");
    assert_eq!(world.count(keys.commits()).await, 0, "changelog entries");
    assert_eq!(world.count(keys.intents()).await, 0, "intents");
    assert_eq!(world.count(KeyRange::key(keys.job())).await, 0, "job");
    assert_eq!(world.count(KeyRange::key(keys.claim())).await, 0, "claim");
    let state = mirror::load(world.meta.as_ref(), keys).await.unwrap();
    let mut known: HashSet<_> = state.levels.files().map(|entry| entry.id).collect();
    known.extend(state.dropped.keys());
    let listed: Vec<_> = world.blobs.list(keys.id()).try_collect().await.unwrap();
    let objects: HashSet<_> = listed.iter().map(|listed| listed.name.file).collect();
    assert!(known.is_subset(&objects), "objects {objects:?}, files {known:?}");
    objects.len() - known.len()
}

async fn dies_everywhere(seed: u64, keep: Keep, last: Last) {
    let world = World::new(seed);
    let volume: Volume = world.create(keep).await;
    let keys = world.keys(&volume);
    let (mut model, mut random) = (Model::default(), Random::new(seed));
    model.write(&volume, &mut random, 10).await;
    for k in 1..=MAX_CALLS {
        model.write(&volume, &mut random, 3).await;
        let life = Life::until(k, last);
        let died = mortal(&world, &life).compact(volume.id(), Effort::Thorough).await;
        let is_over = died.is_ok();
        assert!(is_over || life.calls() >= k, "failed alive: {died:?}");

        // A writer goes on over what was left, and reads it.
        model.write(&volume, &mut random, 1).await;
        model.check_head(&world.open().await).await;
        world.end_leases(&keys).await;
        world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
        model.check_head(&world.open().await).await;
        assert_eq!(check_clean(&world, &keys).await, 0, "objects that nobody needs");
        if keep == Keep::Forever && k % 16 == 0 {
            model.check_from(&world.open().await, Revision::ZERO).await;
        }
        if is_over {
            assert!(k > 20, "a compaction makes more requests than {k}");
            return;
        }
    }
    panic!("a compaction never came to its end");
}

/// A compactor stalls at its k-th request until its lease is gone and another one has been at it, and
/// then goes on as if nothing had been.
async fn stalls_everywhere(seed: u64, keep: Keep) {
    let world = World::new(seed);
    let volume: Volume = world.create(keep).await;
    let keys = world.keys(&volume);
    let (mut model, mut random) = (Model::default(), Random::new(seed));
    model.write(&volume, &mut random, 10).await;
    for k in 1..=MAX_CALLS {
        model.write(&volume, &mut random, 3).await;
        let life = Life::until(k, Last::Stalls);
        let (zombie, id) = (mortal(&world, &life), volume.id());
        let mut zombie = tokio::spawn(async move { zombie.compact(id, Effort::Thorough).await });
        let is_over = tokio::select! {
            () = life.stalled() => false,
            ended = &mut zombie => ended.unwrap().is_ok(),
        };
        model.write(&volume, &mut random, 2).await;
        world.end_leases(&keys).await;
        world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
        model.write(&volume, &mut random, 2).await;
        if is_over {
            assert!(k > 20, "a compaction makes more requests than {k}");
            break;
        }
        assert!(k < MAX_CALLS, "a compaction never came to its end");
        life.go_on();
        // Whatever it comes to: it may find that it has lost the claim, or take it once more.
        let _ = zombie.await.unwrap();
        model.check_head(&world.open().await).await;
        world.end_leases(&keys).await;
        world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
        model.check_head(&world.open().await).await;
        // It may have put files after its successor had cleaned up.
        check_clean(&world, &keys).await;
    }
    world.wait(Duration::from_secs(3600));
    world.end_leases(&keys).await;
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    assert_eq!(check_clean(&world, &keys).await, 0, "objects that nobody needs");
    let oldest = if keep == Keep::Forever { Revision::ZERO } else { Revision::MAX };
    model.check_from(&world.open().await, oldest).await;
    model.check_head(&world.open().await).await;
}

#[tokio::test]
async fn with_history_a_stalled_compactor_does_no_harm() {
    stalls_everywhere(15, Keep::Forever).await;
}

#[tokio::test]
async fn without_history_a_stalled_compactor_does_no_harm() {
    stalls_everywhere(16, Keep::Nothing).await;
}

#[tokio::test]
async fn with_history_the_last_request_happens() {
    dies_everywhere(11, Keep::Forever, Last::Happens).await;
}

#[tokio::test]
async fn with_history_the_last_request_does_not_happen() {
    dies_everywhere(12, Keep::Forever, Last::DoesNot).await;
}

#[tokio::test]
async fn without_history_the_last_request_happens() {
    dies_everywhere(13, Keep::Nothing, Last::Happens).await;
}

#[tokio::test]
async fn without_history_the_last_request_does_not_happen() {
    dies_everywhere(14, Keep::Nothing, Last::DoesNot).await;
}

#[tokio::test]
async fn a_compaction_that_is_told_to_stop_gives_its_claim_back() {
    let world = World::new(17);
    let volume: Volume = world.create(Keep::Forever).await;
    let keys = world.keys(&volume);
    let (mut model, mut random) = (Model::default(), Random::new(17));
    let claims = async || world.count(KeyRange::key(keys.claim())).await;
    // Wherever it is when it is told: it has the claim from its fourth request on.
    for k in [8, 12, 16] {
        model.write(&volume, &mut random, 10).await;
        let life = Life::until(k, Last::Stalls);
        let (compactor, id) = (mortal(&world, &life), volume.id());
        let (stop, told) = tokio::sync::watch::channel(false);
        let compaction =
            tokio::spawn(async move { compactor.compact_until(id, Effort::Thorough, &told).await });
        life.stalled().await;
        assert_eq!(claims().await, 1, "at request {k}");
        stop.send_replace(true);
        let ended = tokio::time::timeout(PATIENCE, compaction).await;
        ended.expect("it goes on").unwrap().unwrap();
        assert_eq!(claims().await, 0, "at request {k}");
    }
    world.compactor().compact(volume.id(), Effort::Thorough).await.unwrap();
    model.check_from(&world.open().await, Revision::ZERO).await;
}
