//! Large commits whose writer is killed in the midst of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pagestore::inspect::{CommitInfo, CommitKind};
use pagestore::{PageCount, PageNo, PageSize, Revision, Snapshot, Volume, VolumeOptions};
use pagestore_tests::harness::{TestStore, seed, wait_for};
use pagestore_tests::worker::rewrite::{self, CHANGED, CYCLE, PAGE_BYTES, PAGES};
use pagestore_tests::worker::{self, Rewrite, Role};
use rand::RngExt as _;

use super::{PATIENCE, WORKER};

const KILLS: usize = 10;
/// A writer dies so long after its first commit, at most: some commits are under way then.
const LIFE_MS: u64 = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn large_commits_are_whole_whenever_their_writer_is_killed_embedded() {
    are_whole(TestStore::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_commits_are_whole_whenever_their_writer_is_killed_on_etcd_and_s3() {
    are_whole(TestStore::servers()).await;
}

async fn are_whole(place: TestStore) {
    let mut rng = seed().rng();
    let page_size = PageSize::new(PAGE_BYTES as u64).unwrap();
    let options = VolumeOptions { page_size, ..VolumeOptions::default() };
    let volume = place.open().await.create_volume("v", options).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let role = Role::Rewrite(Rewrite { url: place.url(), volume: "v".to_owned() });
    let mut acknowledged = BTreeMap::new();
    for kill in 0..KILLS {
        let log = dir.path().join(kill.to_string());
        let mut writer = worker::start(WORKER, &role, &place, &log);
        let begun = || (!told(&log).is_empty() || writer_ended(&mut writer)).then_some(());
        wait_for(PATIENCE, begun).expect("a first commit");
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..LIFE_MS))).await;
        assert!(!writer_ended(&mut writer), "{}", writer.last_words());
        writer.kill9();
        acknowledged.extend(told(&log));
        let snapshot = volume.snapshot().await.unwrap();
        let state = rewrite::state_of(&snapshot).await.expect("something was committed");
        let last = *acknowledged.keys().last().unwrap();
        assert!(state == last || state == last + 1, "{state} is there, {last} was acknowledged");
        check(&snapshot, state, 1).await;
    }
    check_log(&volume, &acknowledged).await;
    let store = place.open().await;
    let report = pagestore::inspect::verify(&store, "v", None, &|_| {}).await.unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

fn writer_ended(writer: &mut pagestore_tests::harness::Process) -> bool {
    writer.exit_status().is_some()
}

/// The states that a writer says it committed, and their revisions.
fn told(log: &Path) -> BTreeMap<u64, Revision> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let state = |line: &str| {
        let (state, revision) = line.split_once(' ')?;
        Some((state.parse().ok()?, Revision(revision.parse().ok()?)))
    };
    whole.lines().map(|line| state(line).unwrap_or_else(|| panic!("{text}"))).collect()
}

/// Every page of `every` shows `state`, and no other.
async fn check(snapshot: &Snapshot, state: u64, every: usize) {
    assert_eq!(snapshot.page_count(), PageCount(PAGES));
    for page in (0..PAGES).step_by(every) {
        let content = snapshot.read(PageNo(page)).await.unwrap();
        assert_eq!(content, rewrite::content(page, state), "page {page} of state {state}");
    }
}

/// Every state is one commit, of the kind that it should be; each revision still shows its own.
async fn check_log(volume: &Volume, acknowledged: &BTreeMap<u64, Revision>) {
    let commits = volume.inspect().log_after(Revision::ZERO).await.unwrap();
    let unheard = commits.len() - acknowledged.len();
    println!("{} commits, of which {unheard} were not heard of", commits.len());
    for (state, commit) in (0..).zip(&commits) {
        let CommitInfo { revision, kind, written_count, .. } = *commit;
        if let Some(told) = acknowledged.get(&state) {
            assert_eq!(revision, *told, "state {state}");
        }
        let right = match state % CYCLE {
            0 => (CommitKind::Bulk, PAGES),
            _ => (CommitKind::Staged, CHANGED),
        };
        assert_eq!((kind, written_count), right, "state {state}");
        check(&volume.snapshot_at(revision).await.unwrap(), state, 97).await;
    }
    assert!(commits.len() >= KILLS, "{} commits", commits.len());
    assert!(acknowledged.keys().all(|state| (*state as usize) < commits.len()));
}
