//! Whether a volume, and everything that its writers were told, is what the model says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use pagestore::{CommitId, PageNo, Revision, Snapshot, Volume};

use super::Tag;
use super::journal::{Entry, Intent, Outcome, Seen};
use super::model::Model;

/// Pages read at once.
const READS: usize = 16;

/// What there was before the writers began.
#[derive(Clone, Debug)]
pub struct Start {
    /// The run's seed.
    pub seed: u64,
    /// The commit that made the volume what it was.
    pub commit: CommitId,
    /// Its revision.
    pub revision: Revision,
    /// What it was.
    pub pages: Vec<Bytes>,
}

/// What a check went through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    /// Commits in the log.
    pub commits: usize,
    /// Of these, commits that their writer never heard of.
    pub unheard: usize,
    /// Transactions that came to nothing.
    pub failed: usize,
    /// Pages read by transactions and snapshots.
    pub reads: usize,
    /// Revisions that were read in full.
    pub exports: usize,
}

/// A transaction and what its writer was told.
struct Told {
    intent: Intent,
    outcome: Option<Outcome>,
}

/// Checks a volume on which nobody works any more, in full; `sample` says how many revisions are read:
/// one in so many.
///
/// # Panics
/// When anything is not as it should be.
pub async fn check(
    volume: &Volume,
    start: &Start,
    journals: &[Vec<Entry>],
    sample: usize,
) -> Checked {
    let log = volume.inspect().log_after(Revision::ZERO).await.unwrap();
    let (told, seen) = gather(journals);
    let mut checked = Checked::default();
    check_log(&log, start, &told, &mut checked);
    let page_size = volume.page_size().bytes();
    let mut model = Model::new(start.seed, page_size, start.revision.0, start.pages.clone());
    // Holds all that follow, which makes them cheap to open.
    let oldest = log.iter().find(|commit| commit.readable).map(|commit| commit.revision);
    let _held = volume.snapshot_at(oldest.expect("the head is readable")).await.unwrap();
    for (index, same) in log.chunk_by(|a, b| a.revision == b.revision).enumerate() {
        let revision = same[0].revision;
        let tags: Vec<Tag> =
            same.iter().filter(|info| info.commit != start.commit).map(tag_of).collect();
        // Commits of one revision all saw what was there before it.
        for tag in &tags {
            let intent = &told[tag].intent;
            assert_eq!(model.objection(intent), None, "{tag:?} at {revision}: {intent:?}");
        }
        for tag in &tags {
            model.apply(revision.0, *tag, &told[tag].intent);
        }
        // Of what is no longer kept the log need not know it.
        if let Some(count) = same[0].page_count {
            assert_eq!(count.0, model.pages().len() as u64, "page count logged at {revision}");
        }
        if same[0].readable && (index % sample == 0 || revision == volume_head(&log)) {
            let snapshot = volume.snapshot_at(revision).await.unwrap();
            check_export(&snapshot, &model).await;
            checked.exports += 1;
        }
    }
    check_export(&volume.snapshot().await.unwrap(), &model).await;
    checked.reads = check_reads(&model, &told, &seen);
    checked
}

fn volume_head(log: &[pagestore::inspect::CommitInfo]) -> Revision {
    log.last().map_or(Revision::ZERO, |commit| commit.revision)
}

fn tag_of(info: &pagestore::inspect::CommitInfo) -> Tag {
    Tag::of(info.commit).unwrap_or_else(|| panic!("nobody made commit {}", info.commit))
}

fn gather(journals: &[Vec<Entry>]) -> (BTreeMap<Tag, Told>, Vec<&Seen>) {
    let (mut told, mut seen) = (BTreeMap::new(), Vec::new());
    for (writer, journal) in (1..).zip(journals) {
        for entry in journal {
            match entry {
                Entry::Intent(intent) => {
                    let tag = Tag { writer, number: intent.number };
                    let before = told.insert(tag, Told { intent: intent.clone(), outcome: None });
                    assert!(before.is_none(), "{tag:?} twice");
                }
                Entry::Outcome { number, outcome } => {
                    let tag = Tag { writer, number: *number };
                    told.get_mut(&tag).expect("an intent first").outcome = Some(outcome.clone());
                }
                Entry::Seen(looked) => seen.push(looked),
            }
        }
    }
    (told, seen)
}

/// Every acknowledged commit is in the log, at its revision; none that failed is.
fn check_log(
    log: &[pagestore::inspect::CommitInfo],
    start: &Start,
    told: &BTreeMap<Tag, Told>,
    checked: &mut Checked,
) {
    let mut logged = BTreeSet::new();
    for info in log.iter().filter(|info| info.commit != start.commit) {
        let tag = tag_of(info);
        assert!(logged.insert(tag), "{tag:?} is in the log twice");
        let one = told.get(&tag).unwrap_or_else(|| panic!("{tag:?} is in no journal"));
        match &one.outcome {
            Some(Outcome::Committed { revision, commit }) => {
                let is = (info.revision.0, info.commit.to_string());
                assert_eq!(is, (*revision, commit.clone()), "{tag:?}");
            }
            Some(Outcome::Failed(why)) => panic!("{tag:?} failed ({why}), and is in the log"),
            None => checked.unheard += 1,
        }
    }
    checked.commits = logged.len();
    for (tag, one) in told {
        match &one.outcome {
            Some(Outcome::Committed { revision, .. }) => {
                assert!(logged.contains(tag), "{tag:?}, acknowledged at {revision}, is lost");
            }
            Some(Outcome::Failed(_)) => checked.failed += 1,
            None => {}
        }
    }
}

/// Whatever was read was what was there.
fn check_reads(model: &Model, told: &BTreeMap<Tag, Told>, seen: &[&Seen]) -> usize {
    let mut reads = 0;
    let mut check = |what: &dyn Fn() -> String, after, revision, count, pages: &[(u64, u64)]| {
        assert!(revision >= after, "{} at {revision} does not show what came at {after}", what());
        assert_eq!(count, model.count_at(revision), "page count of {} at {revision}", what());
        for (page, digest) in pages {
            let right = model.digest_at(*page, revision);
            assert_eq!(*digest, right, "page {page} of {} at {revision}", what());
        }
        reads += pages.len();
    };
    for (tag, Told { intent, .. }) in told {
        check(&|| format!("{tag:?}"), intent.after, intent.base, intent.page_count, &intent.reads);
    }
    for looked in seen {
        let Seen { after, revision, page_count, reads } = looked;
        check(&|| "a snapshot".to_owned(), *after, *revision, *page_count, reads);
    }
    reads
}

/// A snapshot shows exactly what the model has.
async fn check_export(snapshot: &Snapshot, model: &Model) {
    let revision = snapshot.revision();
    let pages = model.pages();
    assert_eq!(snapshot.page_count().0, pages.len() as u64, "page count at {revision}");
    let read = |page: usize| async move {
        let found = snapshot.read(PageNo(page as u64)).await?;
        assert_eq!(found, pages[page], "page {page} at {revision}");
        Ok::<_, pagestore::Error>(())
    };
    let reads = stream::iter((0..pages.len()).map(read)).buffer_unordered(READS);
    reads.try_collect::<()>().await.unwrap_or_else(|error| panic!("at {revision}: {error}"));
}
