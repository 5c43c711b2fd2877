//! What is done to a store before it is frozen: a little of everything that is stored. Only an index that
//! points into other files is missing, which takes larger objects; `small.file` beside the stores has one.

use std::collections::BTreeSet;

use bytes::Bytes;
use pagestore::internal::codec::StagedValue;
use pagestore::internal::connect::Tiers as Connected;
use pagestore::internal::meta::Txn;
use pagestore::internal::meta::records::{Point, PointKind, Record as _};
use pagestore::internal::mirror;
use pagestore::internal::types::PointName;
use pagestore::{
    Env, Keep, PageCount, PageNo, PageSize, Revision, Store, StoreOptions, Volume, VolumeOptions,
};
use pagestore_compactor::{Compactor, CompactorOptions, Effort};
use rand::RngExt as _;

use super::PAGE_BYTES;
use super::expected::Shown;
use crate::harness::Seed;
use crate::worker;

/// How zstd's dictionaries begin; a page that does is no base for a prefix delta, but for an XOR delta.
const DICTIONARY: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];
/// So much may be staged: a commit of over 32 KiB becomes a file.
const BUDGET: u64 = 48 << 10;
/// Pages of a commit that becomes a file.
const BULK: u64 = 72;

/// Text that compresses to little.
fn text(number: u64) -> Bytes {
    let line = format!("row {number}: the quick brown fox jumps over the lazy dog; ");
    line.bytes().cycle().take(PAGE_BYTES).collect()
}

fn noise(number: u64) -> Bytes {
    let mut content = vec![0; PAGE_BYTES];
    Seed(number).rng().fill(&mut content[..]);
    content.into()
}

/// The page with some bytes changed.
fn changed(content: &Bytes, number: u64) -> Bytes {
    let mut content = content.to_vec();
    content[200..208].copy_from_slice(&number.to_be_bytes());
    content.into()
}

/// A volume, and what it should show.
struct Model {
    volume: Volume,
    pages: Vec<Bytes>,
    shown: Vec<Shown>,
}

impl Model {
    async fn create(store: &Store, name: &str, keep: Keep) -> Model {
        let page_size = PageSize::new(PAGE_BYTES as u64).unwrap();
        let options = VolumeOptions { page_size, keep };
        let volume = store.create_volume(name, options).await.unwrap();
        Model { volume, pages: Vec::new(), shown: Vec::new() }
    }

    /// Commits pages, after a truncation if there is one.
    async fn commit(&mut self, truncate: Option<u64>, writes: Vec<(u64, Bytes)>) -> Revision {
        let mut tx = self.volume.begin().await.unwrap();
        let zeros = Bytes::from(vec![0; PAGE_BYTES]);
        if let Some(count) = truncate {
            tx.truncate(PageCount(count));
            self.pages.resize(count as usize, zeros.clone());
        }
        for (page, content) in writes {
            tx.write(PageNo(page), content.clone()).unwrap();
            let length = self.pages.len().max(page as usize + 1);
            self.pages.resize(length, zeros.clone());
            self.pages[page as usize] = content;
        }
        let revision = tx.commit().await.unwrap().revision;
        let volume = self.volume.name().to_string();
        self.shown.push(Shown { volume, revision, pages: self.pages.clone() });
        revision
    }

    /// Changes a little of some pages.
    async fn touch(&mut self, pages: std::ops::Range<u64>, number: u64) -> Revision {
        let touched = pages.map(|page| (page, changed(&self.pages[page as usize], number)));
        let touched = touched.collect();
        self.commit(None, touched).await
    }

    /// What can still be read of what was shown.
    fn readable(self) -> Vec<Shown> {
        let state = self.volume.state().unwrap();
        self.shown.into_iter().filter(|shown| state.is_readable(shown.revision)).collect()
    }
}

/// Plays everything on a new store; gives what its volumes show.
pub async fn play(tiers: Connected, env: Env) -> Vec<Shown> {
    let options = StoreOptions { staged_budget_bytes: BUDGET, ..StoreOptions::default() };
    let root = tiers.root.clone();
    let to_compact = worker::tiers(
        Connected {
            meta: tiers.meta.clone(),
            blobs: tiers.blobs.clone(),
            root,
            local: tiers.local,
        },
        env.clone(),
    );
    let store = Store::over(tiers, options, env).await.unwrap();
    let options = CompactorOptions { flush_bytes: 1, ..CompactorOptions::default() };
    let compactor = Compactor::new(to_compact, options);
    let mut shown = levels(&store, &compactor).await;
    shown.extend(named(&store, &compactor).await);
    shown.extend(bulk(&store).await);
    shown
}

/// Files in two levels with frames of older versions, truncations, and staged pages of every
/// encoding, their bases staged or in files.
async fn levels(store: &Store, compactor: &Compactor) -> Vec<Shown> {
    let mut model = Model::create(store, "levels", Keep::Forever).await;
    let id = model.volume.id();
    let compact = || async { compactor.compact(id, Effort::Usual).await.unwrap() };
    let mut first: Vec<_> = (0..16).map(|page| (page, text(page))).collect();
    first.extend((16..20).map(|page| (page, noise(page))));
    model.commit(None, first).await;
    model.touch(0..6, 1).await;
    compact().await;
    for round in 2..7 {
        model.touch(round..round + 4, round).await;
        model.touch(round..round + 1, round + 100).await;
        compact().await;
    }
    let zeros = Bytes::from(vec![0; PAGE_BYTES]);
    model.commit(Some(18), vec![(2, zeros)]).await;
    model.commit(None, vec![(21, text(21))]).await;
    compact().await;
    let dictionary: Bytes = [&DICTIONARY[..], &noise(10)[4..]].concat().into();
    model.commit(None, vec![(10, dictionary), (3, noise(3)), (22, text(22))]).await;
    model.touch(10..11, 8).await;
    model.touch(5..6, 9).await;
    model.touch(22..23, 10).await;
    check_is_all_there(store, &model.volume).await;
    let volume = model.volume.clone();
    let shown = model.readable();
    volume.close().await;
    shown
}

/// What is to be frozen is there.
async fn check_is_all_there(store: &Store, volume: &Volume) {
    volume.snapshot().await.unwrap();
    let keys = store.keys().volume(volume.id());
    let staged = mirror::scan(store.meta().as_ref(), &keys.all_staged(), None).await.unwrap();
    let encodings: BTreeSet<u8> = staged
        .kvs
        .iter()
        .map(|kv| StagedValue::decode(&kv.value).unwrap().encoding.tag())
        .collect();
    assert_eq!(encodings, BTreeSet::from([1, 2, 3, 4]), "every encoding");
    let levels = &volume.state().unwrap().levels;
    assert!(levels.depth() > 1 && !levels.level(0).is_empty(), "two levels: {levels:?}");
    assert!(levels.files().any(|file| file.truncation.is_some()), "truncations: {levels:?}");
}

/// A named revision below the oldest that is kept.
async fn named(store: &Store, compactor: &Compactor) -> Vec<Shown> {
    let mut model = Model::create(store, "named", Keep::Nothing).await;
    let id = model.volume.id();
    let revision = model.commit(None, (0..6).map(|page| (page, text(page))).collect()).await;
    let keys = store.keys().volume(id);
    let key = keys.point(&PointName::new("release").unwrap());
    let point = Point { revision, kind: PointKind::Snapshot };
    let then = vec![point.put(&keys, key)];
    store.meta().txn(Txn { then, ..Txn::default() }).await.unwrap();
    model.touch(1..4, 1).await;
    model.touch(2..3, 2).await;
    model.volume.snapshot().await.unwrap();
    // Nobody holds the others.
    model.volume.close().await;
    compactor.compact(id, Effort::Thorough).await.unwrap();
    model.volume = store.open_volume("named").await.unwrap();
    model.touch(0..1, 3).await;
    model.volume.snapshot().await.unwrap();
    let volume = model.volume.clone();
    let shown = model.readable();
    volume.close().await;
    assert_eq!(shown[0].revision, revision);
    assert!(shown.len() < 4, "something was let go");
    shown
}

/// A commit as a file, and a truncation after it.
async fn bulk(store: &Store) -> Vec<Shown> {
    let mut model = Model::create(store, "bulk", Keep::Forever).await;
    model.commit(None, (0..BULK).map(|page| (page, noise(1_000 + page))).collect()).await;
    model.volume.snapshot().await.unwrap();
    assert_eq!(model.volume.state().unwrap().levels.files().count(), 1, "it is a file");
    model.touch(3..5, 1).await;
    model.commit(Some(BULK - 8), vec![(0, text(0))]).await;
    let volume = model.volume.clone();
    let shown = model.readable();
    volume.close().await;
    shown
}
