use futures::TryStreamExt;

use super::faulty::{Fault, Faulty, store};
use super::put::CREATE_ROUNDS;
use super::*;
use crate::error::ErrorKind;
use crate::types::{FileId, Revision, VolumeId};

fn name(volume: u64, file: u8) -> ObjectName {
    ObjectName {
        volume: VolumeId(volume),
        named_at: Revision(9),
        file: FileId::from_bytes([file; 16]),
    }
}

fn chunks(parts: &[&'static str]) -> Vec<Bytes> {
    parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect()
}

async fn with_object() -> (Arc<Faulty>, BlobStore) {
    let faulty = Arc::new(Faulty::default());
    let blobs = store(&faulty);
    blobs.put_create(&name(1, 1), chunks(&["hello, ", "world"])).await.unwrap();
    (faulty, blobs)
}

#[tokio::test]
async fn chunks_are_created_as_one_object_and_read_in_ranges() {
    let (_, blobs) = with_object().await;
    assert_eq!(blobs.get_range(&name(1, 1), 5..9).await.unwrap(), ", wo");
    assert_eq!(blobs.get_range(&name(1, 1), 4..4).await.unwrap(), "");
    assert_eq!(blobs.head(&name(1, 1)).await.unwrap(), 12);
    let counted = BlobCounts {
        gets: 1,
        puts: 1,
        heads: 1,
        bytes_in: 4,
        bytes_out: 12,
        ..BlobCounts::default()
    };
    assert_eq!(blobs.counts(), counted);
}

#[tokio::test]
async fn a_missing_object_is_not_found_and_named() {
    let (_, blobs) = with_object().await;
    let error = blobs.get_range(&name(1, 2), 0..1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&name(1, 2).to_string()), "{error}");
    assert_eq!(blobs.head(&name(1, 2)).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(blobs.counts().gets, 1, "an absence is not asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_passes_is_not_seen() {
    let (faulty, blobs) = with_object().await;
    faulty.plan([Fault::ServerError, Fault::ShortBody(1), Fault::Hang]);
    assert_eq!(blobs.get_range(&name(1, 1), 0..5).await.unwrap(), "hello");
    assert_eq!(blobs.counts().gets, 4);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded() {
    let (faulty, blobs) = with_object().await;
    for fault in [Fault::ServerError, Fault::ShortBody(2), Fault::Hang, Fault::LostAnswer] {
        faulty.plan([fault; 9]);
        let start = tokio::time::Instant::now();
        let error = blobs.get_range(&name(1, 1), 0..5).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}");
        assert!(error.to_string().contains("bytes 0..5"), "{error}");
        assert!(start.elapsed() < RETRY_SPAN + READ_TIMEOUT, "{fault:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_at_once() {
    let (faulty, blobs) = with_object().await;
    faulty.plan([Fault::Denied]);
    let error = blobs.get_range(&name(1, 1), 0..5).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("access denied"), "{error}");
    faulty.plan([Fault::NoBucket]);
    let error = blobs.put_create(&name(1, 3), chunks(&["x"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("bucket does not exist"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_ends_too_early_is_corrupt() {
    let (_, blobs) = with_object().await;
    for range in [5..13, 12..13, 40..50] {
        let error = blobs.get_range(&name(1, 1), range).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("byte 12"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_was_lost_counts_as_done() {
    let faulty = Arc::new(Faulty::default());
    let blobs = store(&faulty);
    faulty.plan([Fault::LostAnswer]);
    blobs.put_create(&name(1, 1), chunks(&["hello, ", "", "world"])).await.unwrap();
    assert_eq!(blobs.get_range(&name(1, 1), 0..12).await.unwrap(), "hello, world");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_may_have_landed_is_not_said_to_be_anothers() {
    let faulty = Arc::new(Faulty::default());
    let blobs = store(&faulty);
    // It lands, its answer is lost, and then nobody can tell whose it is.
    let unreachable = std::iter::repeat_n(Fault::ServerError, 8);
    faulty.plan([Fault::LostAnswer, Fault::None].into_iter().chain(unreachable));
    let error = blobs.put_create(&name(1, 1), chunks(&["abc"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_is_refused_where_nothing_is_found_may_have_landed() {
    let faulty = Arc::new(Faulty::default());
    let blobs = store(&faulty);
    // It lands, its answer is lost, and then the store does not find what it says is there.
    let mut faults = vec![Fault::LostAnswer];
    faults.extend([Fault::None, Fault::NotFound].repeat(CREATE_ROUNDS));
    faulty.plan(faults);
    let error = blobs.put_create(&name(1, 1), chunks(&["abc"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_name_that_is_taken_is_never_overwritten() {
    let (_, blobs) = with_object().await;
    for other in [&["hello, ", "World"][..], &["hello, world!"], &[]] {
        let error = blobs.put_create(&name(1, 1), chunks(other)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }
    assert_eq!(blobs.get_range(&name(1, 1), 0..12).await.unwrap(), "hello, world");
}

#[tokio::test(start_paused = true)]
async fn deleting_what_is_gone_succeeds() {
    let (faulty, blobs) = with_object().await;
    faulty.plan([Fault::ServerError]);
    blobs.delete(&name(1, 1)).await.unwrap();
    blobs.delete(&name(1, 1)).await.unwrap();
    assert_eq!(blobs.head(&name(1, 1)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_listing_names_the_files_of_one_volume() {
    let (faulty, blobs) = with_object().await;
    blobs.put_create(&name(1, 2), chunks(&["x"])).await.unwrap();
    blobs.put_create(&name(2, 3), chunks(&["y"])).await.unwrap();
    let foreign = object_store::path::Path::from("0000000000000001/readme.txt");
    faulty.inner.put(&foreign, "z".into()).await.unwrap();
    let mut listed: Vec<Listed> = blobs.list(VolumeId(1)).try_collect().await.unwrap();
    listed.sort_by_key(|listed| listed.name);
    let expected = [Listed { name: name(1, 1), bytes: 12 }, Listed { name: name(1, 2), bytes: 1 }];
    assert_eq!(listed, expected);
    assert_eq!(blobs.list_volumes().await.unwrap(), [VolumeId(1), VolumeId(2)]);
    assert_eq!(blobs.list(VolumeId(7)).try_collect::<Vec<_>>().await.unwrap(), []);
}

#[tokio::test]
async fn a_listing_that_fails_is_an_error_not_a_shorter_list() {
    let (faulty, blobs) = with_object().await;
    faulty.plan([Fault::ServerError]);
    let result: Result<Vec<Listed>> = blobs.list(VolumeId(1)).try_collect().await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_directory_keeps_objects_and_does_not_list_as_empty_when_gone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("blobs");
    let url = url::Url::from_file_path(&root).unwrap();
    let blobs = BlobStore::connect(url.as_str(), Env::seeded(3)).await.unwrap();
    blobs.probe_create_only().await.unwrap();
    blobs.put_create(&name(1, 1), chunks(&["hello, ", "world"])).await.unwrap();
    blobs.put_create(&name(1, 1), chunks(&["hello, world"])).await.unwrap();
    assert_eq!(blobs.get_range(&name(1, 1), 7..12).await.unwrap(), "world");
    assert_eq!(blobs.get_range(&name(1, 1), 7..13).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(blobs.list_volumes().await.unwrap(), [VolumeId(1)]);
    assert_eq!(blobs.list(VolumeId(1)).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    blobs.delete(&name(1, 1)).await.unwrap();
    blobs.delete(&name(1, 1)).await.unwrap();
    assert!(blobs.list(VolumeId(1)).try_collect::<Vec<_>>().await.unwrap().is_empty());
    std::fs::remove_dir_all(&root).unwrap();
    let gone: Result<Vec<Listed>> = blobs.list(VolumeId(1)).try_collect().await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(blobs.list_volumes().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn the_probe_tells_a_store_that_ignores_the_condition() {
    let faulty = Arc::new(Faulty::default());
    store(&faulty).probe_create_only().await.unwrap();
    faulty.plan([Fault::None, Fault::Denied]);
    let error = store(&faulty).probe_create_only().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let careless = Arc::new(Faulty::careless());
    let error = store(&careless).probe_create_only().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    for faulty in [faulty, careless] {
        assert!(faulty.inner.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty());
    }
}
