//! The blob tier on real S3-compatible servers, in good and in bad weather.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;
use pagestore::internal::blob::{BlobStore, Listed, ObjectName};
use pagestore::{ErrorKind, FileId, Revision, VolumeId};
use pagestore_tests::harness::{Fault, MotoServer, Proxy, RgwServer, S3, seed};

const VOLUME: VolumeId = VolumeId(0xab);

fn name(n: u8) -> ObjectName {
    ObjectName { volume: VOLUME, named_at: Revision(9), file: FileId::from_bytes([n; 16]) }
}

fn body(seed: u8, len: usize) -> Bytes {
    (0..len).map(|at| (at * 7 % 251) as u8 ^ seed).collect::<Vec<_>>().into()
}

async fn listed(blobs: &BlobStore) -> Vec<Listed> {
    let mut listed: Vec<Listed> = blobs.list(VOLUME).try_collect().await.unwrap();
    listed.sort_by_key(|listed| listed.name);
    listed
}

async fn does_what_is_asked(s3: &S3) {
    let blobs = s3.blobs("a/prefix");
    blobs.probe_create_only().await.unwrap();
    assert_eq!(listed(&blobs).await, []);
    let (first, second) = (body(1, 3_000_000), body(2, 70_000));
    let whole = [first.clone(), second.clone()].concat();
    blobs.put_create(&name(1), vec![first, second]).await.unwrap();
    assert_eq!(blobs.head(&name(1)).await.unwrap(), whole.len() as u64);
    let part = blobs.get_range(&name(1), 2_999_990..3_000_010).await.unwrap();
    assert_eq!(part, whole[2_999_990..3_000_010]);

    // The same again is what a repeated request finds; anything else is refused.
    blobs.put_create(&name(1), vec![whole.clone().into()]).await.unwrap();
    let error = blobs.put_create(&name(1), vec![body(3, whole.len())]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");

    for range in [3_069_990..3_070_001, 3_070_000..3_070_010, 9_000_000..9_000_001] {
        let error = blobs.get_range(&name(1), range).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let error = blobs.get_range(&name(2), 0..1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");

    blobs.put_create(&name(2), vec![body(4, 10)]).await.unwrap();
    let bytes = whole.len() as u64;
    let expected = [Listed { name: name(1), bytes }, Listed { name: name(2), bytes: 10 }];
    assert_eq!(listed(&blobs).await, expected);
    assert_eq!(blobs.list_volumes().await.unwrap(), [VOLUME]);
    assert_eq!(s3.blobs("another").list_volumes().await.unwrap(), []);
    for n in [1, 1, 2] {
        blobs.delete(&name(n)).await.unwrap();
    }
    assert_eq!(listed(&blobs).await, []);
}

async fn names_a_missing_bucket(s3: &S3) {
    let blobs = S3 { bucket: "no-such-bucket".to_owned(), ..s3.clone() }.blobs("x");
    let answers = [
        blobs.put_create(&name(1), vec![body(1, 5)]).await.unwrap_err(),
        blobs.get_range(&name(1), 0..1).await.unwrap_err(),
        blobs.list(VOLUME).try_collect::<Vec<_>>().await.unwrap_err(),
        blobs.list_volumes().await.unwrap_err(),
        blobs.probe_create_only().await.unwrap_err(),
    ];
    for error in answers {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("bucket does not exist") && text.contains("no-such-bucket"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn moto_does_what_is_asked() {
    let moto = MotoServer::start();
    does_what_is_asked(moto.s3()).await;
    names_a_missing_bucket(moto.s3()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_does_what_is_asked_and_only_of_whom_it_knows() {
    let gateway = RgwServer::start();
    does_what_is_asked(gateway.s3()).await;
    names_a_missing_bucket(gateway.s3()).await;

    let blobs = gateway.s3().blobs("race");
    let contents: Vec<Bytes> = (0..16).map(|n| body(n, 100_000)).collect();
    let creates = contents.iter().map(|content| {
        let (blobs, content) = (blobs.clone(), content.clone());
        async move { blobs.put_create(&name(7), vec![content]).await }
    });
    let results = join_all(creates).await;
    let winners: Vec<usize> = (0..16).filter(|n| results[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1);
    let stored = blobs.get_range(&name(7), 0..100_000).await.unwrap();
    assert_eq!(stored, contents[winners[0]]);
    let refused = results.into_iter().filter_map(Result::err);
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    }

    let stranger = S3 { secret_key: "wrong".to_owned(), ..gateway.s3().clone() }.blobs("race");
    let answers = [
        stranger.put_create(&name(8), vec![body(1, 5)]).await.unwrap_err(),
        stranger.get_range(&name(7), 0..1).await.unwrap_err(),
        stranger.delete(&name(7)).await.unwrap_err(),
        stranger.list(VOLUME).try_collect::<Vec<_>>().await.unwrap_err(),
    ];
    for error in answers {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("access denied"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_lose_and_change_nothing() {
    let moto = MotoServer::start();
    let proxy = Proxy::before(moto.s3().address, seed());
    let blobs = moto.s3().through(proxy.address()).blobs("weather");
    let content = body(5, 2_000_000);
    let faults = [
        Fault::None,
        Fault::Delay(Duration::from_millis(5)),
        Fault::CutAnswersAfter(300_000),
        Fault::CutOneIn(40),
    ];
    for (n, fault) in (1..).zip(faults) {
        proxy.set(fault);
        // A create may fail in the end; what it leaves is the whole object or none.
        let created = blobs.put_create(&name(n), vec![content.clone()]).await;
        let mut read = Vec::new();
        for start in (0..2_000_000).step_by(250_000) {
            read.push(blobs.get_range(&name(n), start..start + 250_000).await);
        }
        let read: Result<Vec<Bytes>, _> = read.into_iter().collect();
        match read {
            Ok(parts) => assert_eq!(parts.concat(), content, "{fault:?}"),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(created.is_err(), "{fault:?}: {error}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {error}"),
        }
        proxy.set(Fault::None);
        proxy.cut();
        if let Err(error) = created {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {error}");
            blobs.put_create(&name(n), vec![content.clone()]).await.unwrap();
        }
        assert_eq!(blobs.get_range(&name(n), 0..2_000_000).await.unwrap(), content, "{fault:?}");
    }
}
