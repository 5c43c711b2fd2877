//! Objects that nobody lists any more stay for as long as somebody may read them, and no longer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod harness;

use std::collections::BTreeSet;

use futures::TryStreamExt;
use harness::{Model, Random, World};
use pagestore::internal::meta::keys::VolumeKeys;
use pagestore::internal::meta::records::encode_pin;
use pagestore::internal::meta::{Op, Txn};
use pagestore::internal::mirror::{self, VolumeState};
use pagestore::internal::types::SessionId;
use pagestore::{FileId, Keep, Revision, Volume};
use pagestore_compactor::Effort;

/// Pages of [`PAGE_BYTES`], so that an object of all of them is not small enough to be copied by the
/// merge that passes by.
const PAGES: usize = 400;
const PAGE_BYTES: usize = 4096;

struct Place {
    world: World,
    volume: Volume,
    keys: VolumeKeys,
    model: Model,
    random: Random,
}

impl Place {
    async fn new(seed: u64) -> Place {
        let world = World::new(seed);
        let volume = world.create_with(PAGE_BYTES, Keep::Nothing).await;
        let keys = world.keys(&volume);
        let (model, random) = (Model::default(), Random::new(seed));
        Place { world, volume, keys, model, random }
    }

    /// Writes all pages anew, with a session that ends, and leaves nothing to compact.
    async fn overwrite(&mut self) {
        let writer = self.world.open().await;
        self.model.overwrite(&writer, &mut self.random, PAGES).await;
        writer.close().await;
        self.compact().await;
    }

    async fn compact(&self) {
        self.volume.close().await;
        self.world.compactor().compact(self.volume.id(), Effort::Thorough).await.unwrap();
    }

    /// Puts the level list of a session that does nothing else, at the present revision.
    async fn put_level_list(&self) -> Revision {
        let now = self.world.meta.status().await.unwrap().revision;
        let list = Op::put(self.keys.level_list(SessionId(7)), encode_pin(now));
        self.world.meta.txn(Txn { then: vec![list], ..Txn::default() }).await.unwrap();
        now
    }

    async fn state(&self) -> VolumeState {
        mirror::load(self.world.meta.as_ref(), &self.keys).await.unwrap()
    }

    async fn objects(&self) -> BTreeSet<FileId> {
        let listed: Vec<_> = self.world.blobs.list(self.keys.id()).try_collect().await.unwrap();
        listed.iter().map(|listed| listed.name.file).collect()
    }

    /// Objects that no level lists but a listed index points into.
    async fn pointed_into(&self) -> BTreeSet<FileId> {
        let state = self.state().await;
        let refs = state.levels.files().flat_map(|entry| &entry.refs).map(|to| to.id);
        refs.filter(|file| state.dropped.contains_key(file)).collect()
    }
}

#[tokio::test]
async fn what_a_session_may_list_still_stays_until_it_reads_by_a_newer_list() {
    let mut place = Place::new(51).await;
    place.overwrite().await;
    let before = place.objects().await;
    let list = place.put_level_list().await;
    place.overwrite().await;
    let dropped = place.state().await.dropped;
    assert!(dropped.values().any(|dropped| dropped.modified > list), "something was dropped");
    assert!(before.is_subset(&place.objects().await), "the session may read any of them");
    place.put_level_list().await;
    place.compact().await;
    assert!(before.is_disjoint(&place.objects().await), "nobody needs them any more");
    place.model.check_head(&place.world.open().await).await;
}

#[tokio::test]
async fn an_object_that_a_listed_index_points_into_stays() {
    let mut place = Place::new(52).await;
    place.overwrite().await;
    let pointed_into = place.pointed_into().await;
    assert!(!pointed_into.is_empty(), "a merge leaves the bodies where they are");
    for _ in 0..2 {
        place.compact().await;
        assert!(pointed_into.is_subset(&place.objects().await));
        place.model.check_head(&place.world.open().await).await;
    }
}

#[tokio::test]
async fn an_object_stays_for_those_who_list_the_last_file_that_pointed_into_it() {
    let mut place = Place::new(53).await;
    place.overwrite().await;
    let pointed_into = place.pointed_into().await;
    assert!(!pointed_into.is_empty(), "a merge leaves the bodies where they are");
    let first_drops = place.state().await.dropped;
    // Newer than when the objects were dropped, older than when the file that points into them is.
    let list = place.put_level_list().await;
    assert!(pointed_into.iter().all(|file| first_drops[file].modified <= list));
    place.overwrite().await;
    assert!(place.pointed_into().await.is_disjoint(&pointed_into), "nothing listed does any more");
    assert!(pointed_into.is_subset(&place.objects().await), "the session reads by that file");
    place.put_level_list().await;
    place.compact().await;
    assert!(pointed_into.is_disjoint(&place.objects().await), "nobody needs them any more");
    place.model.check_head(&place.world.open().await).await;
}
