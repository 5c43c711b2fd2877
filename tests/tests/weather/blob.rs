//! The S3 server refuses, fails, is slow, answers in part or wrongly, or has no such bucket.

use std::time::Duration;

use pagestore::{Error, ErrorKind, PageNo, Revision, Snapshot, Volume};
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Tiers};
use pagestore_tests::harness::{HttpFault, HttpProxy, S3, TestStore, Way};

use super::{in_time, noise};

/// Pages of a commit that goes to a file.
const MANY: u64 = 400;
/// More than anybody tries.
const ALWAYS: usize = usize::MAX;

/// A volume `v` of [`MANY`] pages in one file, each `noise` of its number; and a proxy in front of S3.
async fn in_a_file() -> (TestStore, HttpProxy) {
    let place = TestStore::servers();
    let volume = place.open().await.create_volume("v", Default::default()).await.unwrap();
    write(&volume, 0).await.unwrap();
    volume.snapshot().await.unwrap();
    assert_eq!(volume.state().unwrap().levels.files().count(), 1);
    let proxy = HttpProxy::before(place.s3().unwrap().address);
    (place, proxy)
}

/// Writes all pages: `noise` of their number and of `from`.
async fn write(volume: &Volume, from: u64) -> pagestore::Result<Revision> {
    let mut tx = volume.begin().await?;
    (0..MANY).for_each(|page| tx.write(PageNo(page), noise(from + page)).unwrap());
    Ok(tx.commit().await?.revision)
}

/// By a process that has read nothing yet, through the proxy.
async fn cold(place: &TestStore, proxy: &HttpProxy) -> Snapshot {
    let way = Way { s3: Some(proxy.address()), ..Way::default() };
    let store = place.open_through(way).await.unwrap();
    store.open_volume("v").await.unwrap().snapshot().await.unwrap()
}

/// Whether a process has a file's index when the weather turns bad.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Index {
    Known,
    Unknown,
}

/// Reads with a fault on so many GETs; whatever is read is right. The same snapshot reads everything once
/// the fault is over: what was wrong is not kept.
async fn read(
    place: &TestStore,
    proxy: &HttpProxy,
    count: usize,
    fault: HttpFault,
    index: Index,
) -> Option<Error> {
    let snapshot = cold(place, proxy).await;
    if index == Index::Known {
        snapshot.read(PageNo(MANY / 3)).await.unwrap();
    }
    proxy.set("GET", count, fault);
    let mut failed = None;
    for page in [3, MANY / 2, MANY - 1] {
        match in_time(snapshot.read(PageNo(page))).await {
            Ok(content) => assert_eq!(content, noise(page), "{fault:?}, page {page}"),
            Err(error) => failed = Some(error),
        }
        if failed.is_some() {
            break;
        }
    }
    let hit = proxy.clear();
    assert!(!hit.is_empty(), "{fault:?} befell nothing");
    for page in 0..MANY {
        let content = in_time(snapshot.read(PageNo(page))).await.unwrap();
        assert_eq!(content, noise(page), "page {page} after {fault:?}");
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_and_reads_go_on() {
    let (place, proxy) = in_a_file().await;
    for (count, fault) in [
        (2, HttpFault::Status(500)),
        (2, HttpFault::Status(503)),
        (1, HttpFault::Slow(Duration::from_secs(3))),
        // Half of what is left each time, until all is there.
        (4, HttpFault::HalfBody),
        (1, HttpFault::Status(404)),
    ] {
        for index in [Index::Known, Index::Unknown] {
            if let Some(error) = read(&place, &proxy, count, fault, index).await {
                panic!("{fault:?}: {error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_cannot_be_done_say_what_failed_and_no_page_is_wrong() {
    let (place, proxy) = in_a_file().await;
    let volume = place.open().await.open_volume("v").await.unwrap();
    let file = volume.state().unwrap().levels.files().next().unwrap().id.to_string();
    use Index::{Known, Unknown};
    for (fault, index, kind, says) in [
        (HttpFault::Status(403), Unknown, ErrorKind::Unavailable, "access denied"),
        (HttpFault::Status(503), Unknown, ErrorKind::Unavailable, "the blob store failed"),
        (HttpFault::Status(404), Unknown, ErrorKind::Corrupt, "page 3"),
        (HttpFault::WrongBytes, Unknown, ErrorKind::Corrupt, "offset"),
        (HttpFault::Status(404), Known, ErrorKind::Corrupt, "page 3"),
        (HttpFault::WrongBytes, Known, ErrorKind::Corrupt, "offset"),
    ] {
        let error = read(&place, &proxy, ALWAYS, fault, index).await;
        let error = error.unwrap_or_else(|| panic!("{fault:?} did no harm"));
        let text = with_causes(&error);
        println!("{fault:?}: {text}");
        assert_eq!(error.kind(), kind, "{fault:?}: {text}");
        assert!(text.contains(says) && text.contains(&file), "{fault:?}: {text}");
    }
}

fn with_causes(error: &Error) -> String {
    let first: &dyn std::error::Error = error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_commit_happens_or_not_whatever_the_server_says() {
    let (place, proxy) = in_a_file().await;
    let way = Way { s3: Some(proxy.address()), ..Way::default() };
    let volume = place.open_through(way).await.unwrap().open_volume("v").await.unwrap();
    let mut head = volume.snapshot().await.unwrap().revision();
    let mut shown = 0;
    for (round, (count, fault, fails)) in (1..).zip([
        (2, HttpFault::Status(500), false),
        (2, HttpFault::Status(503), false),
        // It was stored, and nobody heard.
        (2, HttpFault::StatusAfter(500), false),
        (1, HttpFault::StatusAfter(503), false),
        (ALWAYS, HttpFault::Status(403), true),
        (ALWAYS, HttpFault::Status(503), true),
        (ALWAYS, HttpFault::StatusAfter(500), true),
    ]) {
        proxy.set("PUT", count, fault);
        let written = in_time(write(&volume, round * MANY)).await;
        assert!(!proxy.clear().is_empty(), "{fault:?} befell nothing");
        match written {
            Ok(revision) => {
                assert!(!fails && revision > head, "{fault:?}");
                (head, shown) = (revision, round * MANY);
            }
            Err(error) => {
                assert!(fails, "{fault:?}: {}", with_causes(&error));
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {error}");
                assert!(error.to_string().contains("creating"), "{fault:?}: {error}");
            }
        }
        let others = place.open().await.open_volume("v").await.unwrap();
        assert_eq!(others.state().unwrap().head, head, "{fault:?}");
        let snapshot = others.snapshot().await.unwrap();
        for page in (0..MANY).step_by(7) {
            let content = snapshot.read(PageNo(page)).await.unwrap();
            assert_eq!(content, noise(shown + page), "{fault:?}");
        }
    }
    let report = pagestore::inspect::verify(&place.open().await, "v", None, &|_| {}).await.unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compactor_that_the_server_fails_says_so_and_finishes_later() {
    let (place, proxy) = in_a_file().await;
    let way = Way { s3: Some(proxy.address()), ..Way::default() };
    let store = place.open_through(way).await.unwrap();
    let volume = store.open_volume("v").await.unwrap();
    for round in 1..=3 {
        for page in 0..20 {
            let mut tx = volume.begin().await.unwrap();
            tx.write(PageNo(page), noise(round * MANY + page)).unwrap();
            tx.commit().await.unwrap();
        }
        for (method, fault) in [
            ("PUT", HttpFault::Status(403)),
            ("GET", HttpFault::WrongBytes),
            ("GET", HttpFault::Status(403)),
            ("", HttpFault::Status(503)),
        ] {
            // A compactor of its own each time: the one before keeps its claim for a while.
            let compactor = Compactor::new(Tiers::from(&store), CompactorOptions::default());
            proxy.set(method, ALWAYS, fault);
            let compacted = in_time(compactor.compact(volume.id(), Effort::Thorough)).await;
            let hit = proxy.clear();
            match compacted {
                Ok(()) => assert!(hit.is_empty(), "{fault:?} befell {hit:?}"),
                Err(error) => {
                    let kinds = [ErrorKind::Unavailable, ErrorKind::Corrupt];
                    assert!(kinds.contains(&error.kind()), "{fault:?}: {error}");
                    assert!(error.to_string().contains("volume"), "{fault:?}: {error}");
                }
            }
        }
        let compactor = Compactor::new(Tiers::from(&store), CompactorOptions::default());
        in_time(compactor.compact(volume.id(), Effort::Thorough)).await.unwrap();
        assert_eq!(volume.snapshot().await.unwrap().page_count().0, MANY);
        let snapshot = cold(&place, &proxy).await;
        for page in 0..MANY {
            let right = if page < 20 { round * MANY + page } else { page };
            assert_eq!(snapshot.read(PageNo(page)).await.unwrap(), noise(right), "page {page}");
        }
    }
    let report = pagestore::inspect::verify(&store, "v", None, &|_| {}).await.unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_exist_is_named() {
    let place = TestStore::servers();
    let s3 = S3 { bucket: "no-such-bucket".to_owned(), ..place.s3().unwrap().clone() };
    let tiers = place.tiers().await;
    let tiers = pagestore::internal::connect::Tiers { blobs: s3.blobs("x"), ..tiers };
    let opened =
        in_time(pagestore::Store::over(tiers, Default::default(), pagestore::Env::system()));
    let error = opened.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("no-such-bucket"), "{error}");
    assert!(error.to_string().contains("the bucket does not exist"), "{error}");
}
