use pagestore::internal::file::FileEntry;
use pagestore::internal::types::PageSize;

use super::*;
use crate::merge::bodies::DroppedBodies;
use crate::merge::testing::{entry, file, of_revisions, pointing};

const NOW_MS: u64 = 10_000_000;

fn oldest(readable: u64) -> Oldest {
    Oldest { readable: Revision(readable), log_from: Revision(1) }
}

fn quiet() -> Situation<'static> {
    Situation {
        effort: Effort::Usual,
        flush_to: Revision(60),
        now_ms: NOW_MS,
        staged: Staged {
            commit_count: 3,
            bytes: 99,
            page_count: 3,
            oldest_ms: Some(NOW_MS - 59_999),
        },
        limits: FlushLimits { bytes: 100, count: 10, age: Duration::from_secs(60) },
        removal: None,
        oldest: oldest(5),
        allowed: oldest(5),
        files: Files {
            listed: vec![],
            dropped: vec![],
            page_size: PageSize::DEFAULT,
            floor: Revision(50),
            oldest: Revision(5),
            log_from: Revision(1),
            point_count: 0,
            base_count: 0,
        },
        level_lists: vec![],
    }
}

fn flush_reason(situation: &Situation<'_>) -> Option<FlushReason> {
    match next(situation)?.action {
        Action::Flush(reason) => Some(reason),
        other => panic!("not a flush: {other}"),
    }
}

#[test]
fn nothing_is_due_below_all_limits() {
    assert_eq!(next(&quiet()), None);
    assert_eq!(next(&Situation { allowed: oldest(7), ..quiet() }), None, "nothing to leave out");
}

#[test]
fn bytes_count_and_age_make_a_flush_due() {
    let mut situation = quiet();
    situation.staged.bytes = 100;
    assert_eq!(flush_reason(&situation), Some(FlushReason::Bytes(100)));
    let mut situation = quiet();
    situation.staged.commit_count = 10;
    assert_eq!(flush_reason(&situation), Some(FlushReason::Count(10)));
    let mut situation = quiet();
    situation.staged.page_count = 11;
    assert_eq!(flush_reason(&situation), Some(FlushReason::Count(11)));
    let situation = Situation { now_ms: NOW_MS + 1, ..quiet() };
    assert_eq!(flush_reason(&situation), Some(FlushReason::Age(Duration::from_secs(60))));
}

/// So many files of level 0 over the same pages.
fn level_0(count: u8, first: u64) -> Vec<FileEntry> {
    let of = |n| of_revisions(entry(n, 0, 1..=9), first + u64::from(n)..=first + u64::from(n));
    (1..=count).map(of).collect()
}

#[test]
fn files_of_large_commits_make_a_flush_due() {
    let reason = |count| {
        let files = level_0(count, 50);
        let mut situation = quiet();
        situation.files.listed = files.iter().collect();
        flush_reason(&situation)
    };
    assert_eq!(reason(7), None);
    assert_eq!(reason(8), Some(FlushReason::Files(8)));
}

/// Otherwise steady commits would keep the compactor flushing, while files of level 0 pile up.
#[test]
fn files_of_level_0_are_merged_before_a_flush_when_there_are_many() {
    let is_merge_first = |count| {
        let files = level_0(count, 0);
        let mut situation = quiet();
        situation.staged.bytes = 100;
        situation.files.listed = files.iter().collect();
        let due: Vec<Action> = decide_all(&situation).into_iter().map(|step| step.action).collect();
        assert_eq!(due.len(), 2, "{due:?}");
        matches!(&due[0], Action::Merge(merge) if merge.reason == Reason::Level0)
    };
    assert!(!is_merge_first(11));
    assert!(is_merge_first(12));
}

#[test]
fn a_thorough_compaction_flushes_whatever_is_staged() {
    let mut situation = Situation { effort: Effort::Thorough, ..quiet() };
    assert_eq!(flush_reason(&situation), Some(FlushReason::Thorough));
    situation.staged = Staged::default();
    assert_eq!(next(&situation), None);
}

#[test]
fn what_was_begun_is_finished_first() {
    let mut situation = Situation { removal: Some(Revision(40)), ..quiet() };
    situation.staged.bytes = 100;
    assert_eq!(next(&situation).unwrap().action, Action::Remove(Revision(40)));
}

#[test]
fn the_oldest_revision_is_raised_before_anything_is_left_out() {
    let mut situation = Situation { allowed: oldest(7), ..quiet() };
    situation.staged.bytes = 100;
    let step = next(&situation).unwrap();
    assert_eq!(step.raise, Some(oldest(7)));
    assert_eq!(
        step.to_string(),
        "raise the oldest readable revision to 7, then flush: 100 bytes are staged"
    );
}

#[test]
fn raising_the_oldest_revision_may_be_what_makes_a_merge_due() {
    let mut file = of_revisions(entry(1, 1, 0..=9), 1..=7);
    file.version_count = 3 * file.page_count;
    let mut situation = quiet();
    situation.files.listed = vec![&file];
    assert_eq!(next(&situation), None);
    situation.allowed = oldest(7);
    let step = next(&situation).unwrap();
    assert_eq!(step.raise, Some(oldest(7)));
    assert!(matches!(step.action, Action::Merge(_)));
}

#[test]
fn dropped_files_go_once_nobody_reads_them() {
    let dropped =
        |n| DroppedBodies { file: file(n), dropped_at: Revision(20), bytes: 1, body_count: 1 };
    let listed = pointing(entry(1, 1, 0..=9), &[(8, 1)]);
    let mut situation = quiet();
    situation.files.listed = vec![&listed];
    situation.files.dropped = vec![dropped(7), dropped(8)];
    assert_eq!(next(&situation).unwrap().action, Action::Delete(vec![file(7)]));
    situation.level_lists = vec![Revision(19)];
    assert_eq!(next(&situation), None);
}

#[test]
fn a_thorough_compaction_flushes_what_there_was_when_it_began_and_no_more() {
    let thorough = Situation { effort: Effort::Thorough, ..quiet() };
    assert_eq!(flush_reason(&thorough), Some(FlushReason::Thorough));
    let flushed = Situation { flush_to: Revision(50), ..thorough.clone() };
    assert_eq!(next(&flushed), None);
    let mut too_much = flushed;
    too_much.staged.bytes = 100;
    assert_eq!(flush_reason(&too_much), Some(FlushReason::Bytes(100)));
}

#[test]
fn what_comes_after_a_thorough_compaction_began_gets_no_more_than_the_usual() {
    let mut goal = Goal::new(Effort::Thorough, Revision(60));
    let floors = [50, 59, 65, 65, 80, 90].map(|floor| goal.effort(Revision(floor)));
    use Effort::{Thorough, Usual};
    assert_eq!(floors, [Thorough, Thorough, Thorough, Thorough, Usual, Usual]);
    assert_eq!(Goal::new(Usual, Revision(60)).effort(Revision(50)), Usual);
}
