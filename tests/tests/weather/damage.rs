//! Stored bytes that are not what was written: in objects, in etcd, in LMDB's file; and stores that a
//! newer version wrote.

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, local::LocalFileSystem};
use pagestore::inspect::FileDetail;
use pagestore::internal::meta::keys::VolumeKeys;
use pagestore::internal::meta::{KeyRange, KeyValue, MetaStore, Op, Txn};
use pagestore::internal::mirror;
use pagestore::internal::wire::{seal, unseal};
use pagestore::{Error, ErrorKind, PageNo, Result, Revision, Volume, VolumeOptions};
use pagestore_tests::harness::TestStore;

use super::{in_time, noise, put};

/// Pages of a commit that goes to a file.
const MANY: u64 = 400;
/// Pages that were changed since, in the meta tier.
const CHANGED: u64 = 6;

/// LMDB's file.
const DATA: &str = "meta/data.mdb";

/// What a page holds.
fn right(page: u64) -> Bytes {
    if page >= CHANGED {
        return noise(page);
    }
    let mut content = noise(page).to_vec();
    content[page as usize * 7] ^= 0x55;
    content.into()
}

/// A volume `v` with a file and some staged pages, that nobody has open.
async fn populate(place: &TestStore) {
    let volume = place.open().await.create_volume("v", VolumeOptions::default()).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    (0..MANY).for_each(|page| tx.write(PageNo(page), noise(page)).unwrap());
    tx.commit().await.unwrap();
    for page in 0..CHANGED {
        put(&volume, PageNo(page), &right(page)).await.unwrap();
    }
    volume.close().await;
}

/// What a new process does: opens the volume, reads all of it and its log, and commits. Whatever it
/// gets is right, or an error.
async fn use_it(place: &TestStore) -> Result<()> {
    let volume = place.open_through(Default::default()).await?.open_volume("v").await?;
    let used = use_volume(&volume).await;
    volume.close().await;
    used
}

async fn use_volume(volume: &Volume) -> Result<()> {
    let snapshot = volume.snapshot().await?;
    assert_eq!(snapshot.page_count().0, MANY);
    for page in 0..MANY {
        assert_eq!(snapshot.read(PageNo(page)).await?, right(page), "page {page}");
    }
    assert_eq!(volume.inspect().log_after(Revision::ZERO).await?.len() as u64, 1 + CHANGED);
    Ok(())
}

fn with_causes(error: &Error) -> String {
    let first: &dyn std::error::Error = error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The objects of a store, by their raw names.
fn objects(place: &TestStore) -> Arc<dyn ObjectStore> {
    let (store, prefix): (Arc<dyn ObjectStore>, _) = match (place.s3(), place) {
        (Some(s3), _) => (s3.store(), "test"),
        (None, TestStore::Embedded(dir)) => {
            (Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap()), "blobs")
        }
        _ => unreachable!("not used here"),
    };
    Arc::new(object_store::prefix::PrefixStore::new(store, prefix))
}

async fn the_file(place: &TestStore) -> FileDetail {
    let volume = place.open().await.open_volume("v").await.unwrap();
    let file = volume.state().unwrap().levels.files().next().unwrap().id;
    let detail = volume.inspect().file(file).await.unwrap();
    volume.close().await;
    detail
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_an_object_is_named_by_file_and_offset_embedded() {
    in_an_object(TestStore::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_an_object_is_named_by_file_and_offset_on_s3() {
    in_an_object(TestStore::servers()).await;
}

async fn in_an_object(place: TestStore) {
    populate(&place).await;
    use_it(&place).await.unwrap();
    let detail = the_file(&place).await;
    let (objects, name) = (objects(&place), Path::from(detail.object.as_str()));
    let whole = objects.get(&name).await.unwrap().bytes().await.unwrap();
    let end = whole.len() as u64;
    let (frame, block) = (detail.frames[2], detail.blocks[0]);
    let tail = end - detail.tail_bytes;
    // Where a bit is wrong, and where that is said to be.
    let flips = [
        (frame.offset + 100, frame.offset..frame.offset + 1),
        (block.offset + 9, block.offset..block.offset + 1),
        (tail + 5, tail..end),
        (end - 1, tail..end),
        (end - 40, tail..end),
    ];
    for (at, said) in flips {
        let mut broken = whole.to_vec();
        broken[at as usize] ^= 0x10;
        objects.put(&name, broken.into()).await.unwrap();
        let error = in_time(use_it(&place)).await.expect_err("it is damaged");
        let text = with_causes(&error);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {text}");
        assert!(text.contains(&detail.info.id.to_string()), "byte {at}: {text}");
        let offset = text
            .split("offset ")
            .nth(1)
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok());
        assert!(offset.is_some_and(|offset| said.contains(&offset)), "byte {at}: {text}");
    }
    for length in [end / 2, end - 1, 0] {
        objects.put(&name, whole.slice(..length as usize).into()).await.unwrap();
        let error = in_time(use_it(&place)).await.expect_err("it is cut short");
        let text = with_causes(&error);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length} bytes: {text}");
        assert!(text.contains(&detail.info.id.to_string()), "{length} bytes: {text}");
    }
    objects.delete(&name).await.unwrap();
    let error = in_time(use_it(&place)).await.expect_err("it is gone");
    let text = with_causes(&error);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
    assert!(text.contains(&detail.info.id.to_string()), "{text}");
    objects.put(&name, whole.into()).await.unwrap();
    use_it(&place).await.unwrap();
}

/// All keys of the volume, and those of the store itself.
async fn keys(place: &TestStore) -> (Arc<dyn MetaStore>, VolumeKeys, Vec<KeyValue>) {
    let store = place.open().await;
    let id = store.volumes().await.unwrap()[0].id;
    let (meta, keys) = (store.meta().clone(), store.keys().volume(id));
    let mut found = mirror::scan(meta.as_ref(), &keys.everything(), None).await.unwrap().kvs;
    for key in [KeyRange::key(store.keys().store()), store.keys().names()] {
        found.extend(mirror::scan(meta.as_ref(), &key, None).await.unwrap().kvs);
    }
    (meta, keys, found)
}

async fn set(meta: &Arc<dyn MetaStore>, key: &Bytes, value: impl Into<Bytes>) {
    let then = vec![Op::put(key.clone(), value)];
    meta.txn(Txn { then, ..Txn::default() }).await.unwrap();
}

/// Damage that was noticed: it is said to be that of this key. A flipped version byte looks like that
/// of a newer version.
fn check_named(error: &Error, key: &Bytes, keys: &VolumeKeys) {
    let text = with_causes(error);
    let named = keys.suffix(key).escape_ascii().to_string();
    let whole = key.escape_ascii().to_string();
    match error.kind() {
        ErrorKind::Corrupt => {}
        ErrorKind::Invalid => assert!(text.contains("format version"), "{whole}: {text}"),
        kind => panic!("{whole}: {kind:?}: {text}"),
    }
    assert!(text.contains(&named) || text.contains("store"), "{whole}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_value_is_named_by_its_key_embedded() {
    in_a_value(TestStore::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_value_is_named_by_its_key_on_etcd() {
    in_a_value(TestStore::servers()).await;
}

async fn in_a_value(place: TestStore) {
    populate(&place).await;
    let (meta, keys, mut all) = keys(&place).await;
    // A file listed anew is newer than what was committed since: of use no more, so it comes last.
    all.sort_by_key(|kv| keys.files().contains(&kv.key));
    let mut noticed = 0;
    for KeyValue { key, value, .. } in all.iter().filter(|kv| !kv.value.is_empty()) {
        if keys.files().contains(key) {
            use_it(&place).await.unwrap();
        }
        for at in [0, value.len() / 2, value.len() - 1] {
            let mut broken = value.to_vec();
            broken[at] ^= 0x10;
            set(&meta, key, broken).await;
            if let Err(error) = in_time(use_it(&place)).await {
                check_named(&error, key, &keys);
                noticed += 1;
            }
        }
        set(&meta, key, value.clone()).await;
    }
    println!("{noticed} damages of {} keys were noticed", all.len());
    // Pointers serve the compares of commits alone, and nobody reads an intent or a barrier.
    assert!(noticed > 3 * 2 * CHANGED, "{noticed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_lmdbs_file_is_named_by_the_key_whose_value_it_is() {
    let place = TestStore::embedded();
    populate(&place).await;
    let (meta, keys, all) = keys(&place).await;
    drop(meta);
    let TestStore::Embedded(dir) = &place else { unreachable!() };
    let whole = std::fs::read(dir.path().join(DATA)).unwrap();
    let mut noticed = 0;
    for KeyValue { key, value, .. } in all.iter().filter(|kv| kv.value.len() >= 16) {
        // Each time another copy: what is used moves values about in its file.
        let copy = tempfile::tempdir().unwrap();
        let mut cp = Command::new("cp");
        cp.arg("-r").arg(dir.path().join(".")).arg(copy.path());
        assert!(cp.status().unwrap().success());
        let mut broken = whole.clone();
        let last = whole.len() - value.len();
        let places: Vec<usize> = (0..last).filter(|at| whole[*at..].starts_with(value)).collect();
        assert!(!places.is_empty(), "{}", key.escape_ascii());
        // Wherever it is, also in what history remembers.
        places.iter().for_each(|at| broken[at + value.len() / 2] ^= 0x10);
        std::fs::write(copy.path().join(DATA), &broken).unwrap();
        if let Err(error) = in_time(use_it(&TestStore::Embedded(copy))).await {
            check_named(&error, key, &keys);
            noticed += 1;
        }
    }
    println!("{noticed} damages of {} keys were noticed", all.len());
    assert!(noticed > 2 * CHANGED, "{noticed}");
    use_it(&place).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_wrote_is_refused_naming_both_embedded() {
    of_a_newer_version(TestStore::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_wrote_is_refused_naming_both_on_etcd_and_s3() {
    of_a_newer_version(TestStore::servers()).await;
}

async fn of_a_newer_version(place: TestStore) {
    populate(&place).await;
    let (meta, keys, all) = keys(&place).await;
    let names_both = |error: &Error| {
        let text = with_causes(error);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(text.contains("version 9") && text.contains("version 1"), "{text}");
    };
    let file = mirror::scan(meta.as_ref(), &keys.files(), None).await.unwrap().kvs[0].key.clone();
    let store = place.open().await.keys().store();
    use_it(&place).await.unwrap();
    for key in [store, keys.metadata(), keys.page_count(), file] {
        let kv = all.iter().find(|kv| kv.key == key).expect("it is there");
        // Sealed under the part of the key that is the volume's, or all of it.
        let suffix = if kv.key.starts_with(keys.everything().start.as_ref()) {
            keys.suffix(&kv.key)
        } else {
            kv.key.as_ref()
        };
        let body = unseal(suffix, &kv.value).unwrap().body.to_vec();
        set(&meta, &key, seal(suffix, 9, &body)).await;
        names_both(&in_time(use_it(&place)).await.expect_err("it is of a newer version"));
        set(&meta, &key, kv.value.clone()).await;
    }
}
