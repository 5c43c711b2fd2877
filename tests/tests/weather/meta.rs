//! etcd is away, does not answer, has no leader, is full, or has forgotten.

use std::time::{Duration, Instant};

use pagestore::internal::meta::{KeyRange, MetaError, MetaStore as _, RangeRequest};
use pagestore::{
    ErrorKind, PageCount, PageNo, Resolution, Revision, Store, StoreOptions, Volume, VolumeOptions,
};
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Tiers};
use pagestore_tests::harness::{
    EtcdCluster, EtcdServer, Fault, Proxy, TestStore, Way, seed, wait_for,
};
use tempfile::TempDir;

use super::{PATIENCE, in_time, noise, pages, put, shows};

/// Through a proxy in front of etcd.
async fn open_through(place: &TestStore, proxy: &Proxy) -> Volume {
    let way = Way { etcd: Some(proxy.address()), ..Way::default() };
    place.open_through(way).await.unwrap().open_volume("v").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_is_down_or_frozen_at_open_is_unavailable_in_bounded_time() {
    let mut place = TestStore::files();
    let url = place.url();
    Store::open(&url).await.unwrap().create_volume("v", VolumeOptions::default()).await.unwrap();
    place.etcd().unwrap().kill9();
    let error = in_time(Store::open(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("meta tier unavailable"), "{error}");
    place.etcd().unwrap().restart();
    place.etcd().unwrap().stop();
    let error = in_time(Store::open(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    place.etcd().unwrap().cont();
    let store = in_time(Store::open(&url)).await.unwrap();
    store.open_volume("v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_resolved_before_its_caller_hears() {
    let place = TestStore::files();
    let direct = pages(&place, 4).await;
    let proxy = Proxy::before(place.etcd_address().unwrap(), seed());
    let volume = open_through(&place, &proxy).await;
    for round in 1..=5 {
        let mut tx = volume.begin().await.unwrap();
        tx.write(PageNo(1), noise(round)).unwrap();
        let before = proxy.lost_bytes();
        proxy.set(Fault::LoseAnswers);
        let commit = tokio::spawn(tx.commit());
        let lost = || (proxy.lost_bytes() > before).then_some(());
        tokio::task::block_in_place(|| wait_for(PATIENCE, lost)).expect("an answer was lost");
        proxy.set(Fault::None);
        let committed = in_time(commit).await.unwrap().unwrap();
        let snapshot = direct.snapshot_at(committed.revision).await.unwrap();
        assert_eq!(snapshot.read(PageNo(1)).await.unwrap(), noise(round));
        let log = direct.inspect().log(1).await.unwrap();
        assert_eq!(Some(log[0].commit), committed.commit, "once, and as it was said");
    }
    assert_eq!(direct.inspect().log_after(Revision::ZERO).await.unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_answers_is_unknown_and_can_be_asked_for() {
    let place = TestStore::files();
    let direct = pages(&place, 4).await;
    let proxy = Proxy::before(place.etcd_address().unwrap(), seed());
    let volume = open_through(&place, &proxy).await;
    let mut tx = volume.begin().await.unwrap();
    tx.write(PageNo(1), noise(1)).unwrap();
    proxy.set(Fault::LoseAnswers);
    let error = in_time(tx.commit()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
    let token = error.commit_token().expect("what to ask for");
    assert!(error.to_string().contains(&token.commit.to_string()), "{error}");
    // Others know, and so does this process once it is connected again.
    let Resolution::Committed(revision) = direct.resolve(token).await.unwrap() else {
        panic!("it had reached etcd");
    };
    proxy.set(Fault::None);
    let here = in_time(volume.resolve(token)).await.unwrap();
    assert_eq!(here, Resolution::Committed(revision));
    assert!(shows(&direct, PageNo(1), &noise(1)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_given_up_never_happens_however_late_it_arrives() {
    let place = TestStore::files();
    let direct = pages(&place, 4).await;
    let proxy = Proxy::before(place.etcd_address().unwrap(), seed());
    let volume = open_through(&place, &proxy).await;
    let mut tx = volume.begin().await.unwrap();
    tx.write(PageNo(1), noise(1)).unwrap();
    // Held up on its way, and not lost.
    proxy.set(Fault::Stall);
    let error = in_time(tx.commit()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
    let token = error.commit_token().unwrap();
    assert_eq!(direct.resolve(token).await.unwrap(), Resolution::Aborted);
    proxy.set(Fault::None);
    let again = in_time(volume.resolve(token)).await.unwrap();
    assert_eq!(again, Resolution::Aborted);
    in_time(volume.snapshot()).await.unwrap();
    assert!(shows(&direct, PageNo(1), &noise(0)).await);
    let mut tx = in_time(volume.begin()).await.unwrap();
    tx.write(PageNo(1), noise(2)).unwrap();
    in_time(tx.commit()).await.unwrap();
    assert!(shows(&direct, PageNo(1), &noise(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_said_that_is_not_so() {
    let mut cluster = EtcdCluster::start::<3>();
    let blobs = TempDir::new().unwrap();
    let (endpoints, path) = (cluster.endpoints().join(","), blobs.path().display());
    let url = format!("etcd://{endpoints}/test?blobs=file://{path}");
    let store = Store::open(&url).await.unwrap();
    let volume = store.create_volume("v", VolumeOptions::default()).await.unwrap();
    put(&volume, PageNo(1), &noise(0)).await.unwrap();
    let mut under_way = volume.begin().await.unwrap();
    under_way.write(PageNo(1), noise(1)).unwrap();
    cluster.nodes[0].kill9();
    cluster.nodes[1].kill9();
    let error = in_time(under_way.commit()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unknown), "{error}");
    let asked = in_time(volume.begin()).await.unwrap_err();
    assert_eq!(asked.kind(), ErrorKind::Unavailable, "{asked}");
    assert_eq!(in_time(Store::open(&url)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    cluster.restart();
    let happened = match error.commit_token() {
        Some(token) => in_time(volume.resolve(token)).await.unwrap() != Resolution::Aborted,
        None => false,
    };
    assert!(shows(&volume, PageNo(1), &noise(u64::from(happened))).await);
    in_time(put(&volume, PageNo(1), &noise(2))).await.unwrap();
    assert!(shows(&volume, PageNo(1), &noise(2)).await);
}

const QUOTA: u64 = 16 << 20;
/// Pages of one commit; little enough to be staged whatever the fill.
const STAGED: u64 = 6;

/// A store on an etcd that holds little, and the options that say so.
async fn small() -> (EtcdServer, TempDir, Store) {
    let etcd = EtcdServer::start_with(&[&format!("--quota-backend-bytes={QUOTA}")]);
    let blobs = TempDir::new().unwrap();
    let url = format!("etcd://{}/test?blobs=file://{}", etcd.endpoint(), blobs.path().display());
    let options = StoreOptions { meta_quota_bytes: QUOTA, ..StoreOptions::default() };
    let store = Store::open_with(&url, options).await.unwrap();
    (etcd, blobs, store)
}

/// Commits noise until it is refused; gives how many commits were made before, and the refusal.
async fn fill(volume: &Volume, first: u64) -> (u64, pagestore::Error) {
    for commit in first.. {
        let mut tx = volume.begin().await.unwrap();
        for page in 0..STAGED {
            tx.write(PageNo(commit * STAGED + page), noise(commit)).unwrap();
        }
        if let Err(error) = tx.commit().await {
            return (commit, error);
        }
    }
    unreachable!()
}

async fn check_filled(volume: &Volume, commits: u64) {
    let snapshot = volume.snapshot().await.unwrap();
    assert_eq!(snapshot.page_count(), PageCount(commits * STAGED));
    for page in 0..commits * STAGED {
        assert_eq!(snapshot.read(PageNo(page)).await.unwrap(), noise(page / STAGED), "{page}");
    }
}

async fn compact(store: &Store, volume: &Volume) -> pagestore::Result<()> {
    let compactor = Compactor::new(Tiers::from(store), CompactorOptions::default());
    in_time(compactor.compact(volume.id(), Effort::Thorough)).await
}

/// Takes back the alarm that etcd is full, of each member that raised it.
async fn disarm(client: &mut etcd_client::Client) {
    use etcd_client::{AlarmAction, AlarmOptions, AlarmType};
    let raised = client.alarm(AlarmAction::Get, AlarmType::Nospace, None).await.unwrap();
    for alarm in raised.alarms() {
        let mut member = AlarmOptions::new();
        member.with_member(alarm.member_id());
        client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(member)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn near_the_quota_commits_are_refused_while_a_compactor_still_has_room() {
    let (etcd, _blobs, store) = small().await;
    let volume = store.create_volume("v", VolumeOptions::default()).await.unwrap();
    let (commits, error) = fill(&volume, 0).await;
    assert_eq!(error.kind(), ErrorKind::Backpressure, "{error}");
    assert!(error.to_string().contains("of the quota used"), "{error}");
    assert!(error.to_string().contains(&QUOTA.to_string()), "{error}");
    assert!(etcd.connect().await.status().await.unwrap().size_bytes < QUOTA);
    compact(&store, &volume).await.unwrap();
    check_filled(&volume, commits).await;
    let (mut tries, begun) = (0, Instant::now());
    loop {
        let (now, error) = fill(&volume, commits).await;
        if now > commits {
            check_filled(&volume, now).await;
            break;
        }
        assert_eq!(error.kind(), ErrorKind::Backpressure, "{error}");
        tries += 1;
        assert!(begun.elapsed() < PATIENCE, "there is never room again, in {tries} tries");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_etcd_names_its_quota_and_goes_on_once_it_is_defragmented() {
    let (etcd, _blobs, store) = small().await;
    let volume = store.create_volume("v", VolumeOptions::default()).await.unwrap();
    let mut commits = 0;
    while commits < 20 {
        let mut tx = volume.begin().await.unwrap();
        let pages = commits * STAGED..(commits + 1) * STAGED;
        pages.for_each(|page| tx.write(PageNo(page), noise(commits)).unwrap());
        tx.commit().await.unwrap();
        commits += 1;
    }
    // Something else fills it.
    let mut client = etcd_client::Client::connect([etcd.endpoint()], None).await.unwrap();
    let mut others = 0;
    while client.put(format!("others/{others}"), vec![7; 100 << 10], None).await.is_ok() {
        others += 1;
    }
    let (_, error) = fill(&volume, commits).await;
    assert_eq!(error.kind(), ErrorKind::Backpressure, "{error}");
    assert!(error.to_string().contains("quota"), "{error}");
    let error = compact(&store, &volume).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backpressure, "{error}");
    assert!(error.to_string().contains("--quota-backend-bytes"), "{error}");
    check_filled(&volume, commits).await;

    // What README.md says to do.
    let all = etcd_client::DeleteOptions::new().with_prefix();
    client.delete("others/", Some(all)).await.unwrap();
    let now = client.get("none", None).await.unwrap().header().unwrap().revision();
    let physical = etcd_client::CompactionOptions::new().with_physical();
    client.compact(now, Some(physical)).await.unwrap();
    client.defragment().await.unwrap();
    disarm(&mut client).await;
    compact(&store, &volume).await.unwrap();
    check_filled(&volume, commits).await;
    let begun = Instant::now();
    while fill(&volume, commits).await.0 == commits {
        assert!(begun.elapsed() < PATIENCE, "there is never room again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let report = pagestore::inspect::verify(&store, "v", None, &|_| {}).await.unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_etcds_history_left_behind_shows_what_is_right() {
    let place = TestStore::files();
    let direct = pages(&place, 4).await;
    let proxy = Proxy::before(place.etcd_address().unwrap(), seed());
    let volume = open_through(&place, &proxy).await;
    let held = volume.snapshot().await.unwrap();
    assert_eq!(held.read(PageNo(1)).await.unwrap(), noise(0));
    for round in 1..=3 {
        proxy.set(Fault::Stall);
        for page in 0..4 {
            put(&direct, PageNo(page), &noise(10 * round + page)).await.unwrap();
        }
        let head = direct.state().unwrap().head;
        let etcd = place.tiers().await.meta;
        etcd.compact(head).await.unwrap();
        let past = RangeRequest::new(KeyRange::key("none")).at(Revision(head.0 - 1));
        assert!(matches!(etcd.range(past).await, Err(MetaError::Compacted { .. })));
        proxy.set(Fault::None);
        proxy.cut();
        let snapshot = in_time(volume.snapshot()).await.unwrap();
        for page in 0..4 {
            let content = snapshot.read(PageNo(page)).await.unwrap();
            assert_eq!(content, noise(10 * round + page), "page {page}");
        }
        assert_eq!(held.read(PageNo(1)).await.unwrap(), noise(0));
        // One that this process never read.
        match held.read(PageNo(2)).await {
            Ok(content) => assert_eq!(content, noise(0)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Expired, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_on_while_etcd_is_restored_from_a_backup_is_told_and_changes_nothing() {
    let mut place = TestStore::files();
    let volume = pages(&place, 4).await;
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let tiers = Tiers::from(&place.open().await);
    let compacting = tokio::spawn(async move {
        Compactor::new(tiers, CompactorOptions::default()).run(None, &stopped).await
    });
    let dir = TempDir::new().unwrap();
    let backup = dir.path().join("backup");
    place.etcd().unwrap().save_snapshot(&backup);
    put(&volume, PageNo(1), &noise(1)).await.unwrap();
    let begun = volume.begin().await.unwrap();
    place.etcd().unwrap().restore_snapshot(&backup);
    let restored_at = place.tiers().await.meta.status().await.unwrap().revision;

    let mut late = begun;
    late.write(PageNo(2), noise(2)).unwrap();
    let error = in_time(late.commit()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("restored from a backup"), "{error}");
    assert_eq!(in_time(volume.snapshot()).await.unwrap_err().kind(), ErrorKind::Invalid);
    let ended = in_time(compacting).await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Invalid, "{ended}");
    // Nothing was changed: revisions only count changes.
    assert_eq!(place.tiers().await.meta.status().await.unwrap().revision, restored_at);
}
