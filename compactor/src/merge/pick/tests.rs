use super::super::testing::{VERSIONS, entry, file, log, of_revisions, pointing, with_versions};
use super::*;

fn choose_with(files: &[FileEntry], floor: u64, effort: Effort) -> Option<Choice> {
    let files = Files {
        listed: files.iter().collect(),
        dropped: vec![],
        page_size: PageSize::DEFAULT,
        floor: Revision(floor),
        oldest: Revision(5),
        log_from: Revision(5),
        point_count: 0,
        base_count: 0,
    };
    decide_merge(&files, effort)
}

fn choose(files: &[FileEntry]) -> Option<Choice> {
    choose_with(files, 1_000_000, Effort::Usual)
}

fn merge(choice: Option<Choice>) -> Merge {
    match choice {
        Some(Choice::Merge(merge)) => merge,
        other => panic!("not a merge: {other:?}"),
    }
}

fn inputs(merge: &Merge) -> Vec<u8> {
    let mut inputs: Vec<u8> = merge.inputs.iter().map(|place| place.file.bytes()[0]).collect();
    inputs.sort_unstable();
    inputs
}

/// Flushed files of level 0 over the same pages, one after the other.
fn flushed(count: u8) -> Vec<FileEntry> {
    let file = |n: u8| {
        let end = u64::from(n) * 10;
        of_revisions(entry(n, 0, 0..=99), end - 9..=end)
    };
    (1..=count).map(file).collect()
}

#[test]
fn nothing_is_due_for_few_files() {
    assert_eq!(choose(&[]), None);
    assert_eq!(choose(&flushed(3)), None);
    assert_eq!(choose(&[entry(1, 1, 0..=9), entry(2, 1, 10..=19), log(3, 1, 1..=9)]), None);
}

#[test]
fn four_files_over_one_page_go_down_with_what_lies_below() {
    let mut files = flushed(4);
    files.extend([entry(11, 1, 0..=50), entry(12, 1, 60..=70), entry(13, 1, 100..=200)]);
    let merge = merge(choose(&files));
    assert_eq!((merge.reason, merge.level), (Reason::Level0, 1));
    assert_eq!(inputs(&merge), [1, 2, 3, 4, 11, 12]);
    assert_eq!(merge.cuts, [PageNo(100)]);
}

#[test]
fn files_above_the_floor_stay() {
    let mut files = flushed(5);
    files[4] = of_revisions(files[4].clone(), 77..=77);
    assert_eq!(inputs(&merge(choose_with(&files, 40, Effort::Usual))), [1, 2, 3, 4]);
    assert_eq!(choose_with(&files, 30, Effort::Usual), None);
}

#[test]
fn files_that_overlap_in_time_leave_together() {
    // Far more than fit beside what lies below, so that only the oldest would be taken.
    let mut files: Vec<FileEntry> =
        (0..54).map(|n| entry(n + 100, 1, u64::from(n) * 10..=u64::from(n) * 10 + 9)).collect();
    files.iter_mut().for_each(|file| *file = with_versions(file.clone(), 100_000));
    files.push(of_revisions(entry(1, 0, 0..=539), 20..=20));
    files.push(of_revisions(entry(2, 0, 0..=539), 10..=30));
    files.push(of_revisions(entry(3, 0, 0..=539), 31..=40));
    files.push(of_revisions(entry(4, 0, 0..=539), 41..=50));
    let chosen = merge(choose(&files));
    let level_0: Vec<u8> = inputs(&chosen).into_iter().filter(|n| *n < 100).collect();
    assert_eq!(level_0, [1, 2], "2 holds a version older than 1's");
}

#[test]
fn a_large_file_over_nothing_moves() {
    let mut files: Vec<FileEntry> = Vec::new();
    for n in 0..24 {
        files.push(entry(n, 0, u64::from(n) * 10..=u64::from(n) * 10 + 9));
    }
    let Some(Choice::Move(step)) = choose(&files) else { panic!("not a move") };
    assert_eq!((step.file.file, step.level), (file(0), 1));
    // Over a file of level 1 it cannot.
    files.retain(|file| file.id.bytes()[0] > 0);
    files.push(entry(0, 0, 0..=9));
    files.push(entry(99, 1, 0..=1000));
    assert!(matches!(choose(&files), Some(Choice::Merge(_))));
}

#[test]
fn a_thorough_compaction_empties_level_0() {
    let files = flushed(1);
    let Some(Choice::Move(step)) = choose_with(&files, 99, Effort::Thorough) else { panic!() };
    assert_eq!(step.level, 1);
    let small = [with_versions(files[0].clone(), 5)];
    assert_eq!(inputs(&merge(choose_with(&small, 99, Effort::Thorough))), [1]);
    assert_eq!(choose_with(&small, 5, Effort::Thorough), None, "above the floor");
}

#[test]
fn a_full_level_sends_down_what_costs_least() {
    let full = |n: u8, pages| with_versions(entry(n, 1, pages), 600_000);
    let mut files = vec![full(1, 0..=9), full(2, 10..=19), entry(3, 2, 0..=9)];
    let Some(Choice::Move(step)) = choose(&files) else { panic!("not a move") };
    assert_eq!((step.file.file, step.level), (file(2), 2));
    files.push(with_versions(entry(4, 2, 10..=30), 2 * VERSIONS));
    let merge = merge(choose(&files));
    assert_eq!((merge.reason, merge.level), (Reason::LevelFull(1), 2));
    assert_eq!(inputs(&merge), [1, 3]);
}

#[test]
fn a_file_over_very_many_is_cut_first() {
    let mut files = vec![with_versions(entry(1, 1, 0..=9999), 2_000_000)];
    for n in 0..100u8 {
        let first = u64::from(n) * 100;
        files.push(with_versions(entry(n + 100, 2, first..=first + 99), 120_000));
    }
    let merge = merge(choose(&files));
    assert_eq!((inputs(&merge), merge.level), (vec![1], 1));
    assert!(merge.cuts.contains(&PageNo(1400)), "{:?}", merge.cuts);
}

#[test]
fn many_small_neighbours_become_one() {
    let files: Vec<FileEntry> = (0..8u8)
        .map(|n| with_versions(entry(n, 1, u64::from(n) * 10..=u64::from(n) * 10 + 9), 1_000))
        .collect();
    let merge = merge(choose(&files));
    assert_eq!((merge.reason, merge.level), (Reason::Crowded, 1));
    assert_eq!(inputs(&merge), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(choose(&files[1..]), None);
}

#[test]
fn logs_become_one_and_forget() {
    let logs: Vec<FileEntry> = (1..=8u8).map(|n| log(n, 1, 100..=200)).collect();
    assert_eq!(merge(choose(&logs)).reason, Reason::Logs);
    let forgotten = [log(1, 1, 1..=5), log(2, 1, 1..=6)];
    let merge = merge(choose(&forgotten));
    assert_eq!((merge.reason, inputs(&merge)), (Reason::Expired, vec![1]));
}

#[test]
fn what_can_no_longer_be_read_is_merged_away() {
    let mut old = of_revisions(entry(1, 1, 0..=9), 1..=5);
    old.version_count = 2 * old.page_count;
    assert_eq!(choose(&[old.clone()]), None, "each page may have a version that a delta needs");
    old.version_count += 1;
    assert_eq!(merge(choose(&[old.clone()])).reason, Reason::Expired);
    assert_eq!(choose(&[of_revisions(old, 1..=6)]), None, "still readable");
}

#[test]
fn a_nearly_dead_object_is_evacuated_file_by_file() {
    let dropped = |n| DroppedBodies {
        file: file(n),
        dropped_at: Revision(1),
        bytes: 1_000_000,
        body_count: 1000,
    };
    let listed = [
        pointing(entry(1, 1, 0..=9), &[(50, 60)]),
        pointing(entry(2, 2, 0..=9), &[(50, 70), (51, 900)]),
    ];
    let files = Files {
        listed: listed.iter().collect(),
        dropped: vec![dropped(50), dropped(51)],
        page_size: PageSize::DEFAULT,
        floor: Revision(99),
        oldest: Revision(5),
        log_from: Revision(5),
        point_count: 0,
        base_count: 0,
    };
    let merge = merge(decide_merge(&files, Effort::Usual));
    assert_eq!((merge.reason, merge.level, inputs(&merge)), (Reason::Garbage, 2, vec![2]));
    assert_eq!(merge.copied, [file(50)]);
}

#[test]
fn a_merge_fits_into_one_publication() {
    let mut files = flushed(40);
    for n in 0..60u8 {
        let first = u64::from(n);
        files.push(with_versions(entry(n + 100, 1, first..=first), 100_000));
    }
    for effort in [Effort::Usual, Effort::Thorough] {
        let choice = choose_with(&files, 1_000, effort);
        assert!(merge(choice).inputs.len() <= MAX_INPUTS);
    }
}

#[test]
fn a_file_over_very_many_is_cut_into_few_pieces() {
    // One wide file of level 1, which is full, over a thousand of level 2.
    let wide = with_versions(entry(1, 1, 0..=9_999), 9 * LEVEL_1_VERSIONS);
    let lower = |n: u64| FileEntry {
        id: FileId::from_bytes(u128::from(n + 1_000).to_be_bytes()),
        ..with_versions(entry(0, 2, n * 10..=n * 10 + 9), TARGET_VERSIONS)
    };
    let files: Vec<FileEntry> = [wide].into_iter().chain((0..1_000).map(lower)).collect();
    let split = merge(choose(&files));
    assert_eq!((split.reason, split.inputs.len(), split.level), (Reason::LevelFull(1), 1, 1));
    assert!((2..=MAX_SPLIT).contains(&split.cuts.len()), "{} cuts", split.cuts.len());
}

#[test]
fn what_staged_deltas_need_is_not_merged_again_and_again() {
    let file = FileEntry { page_count: 10, ..with_versions(entry(1, 1, 0..=9), 40) };
    let choose = |base_count| {
        let files = Files {
            listed: vec![&file],
            dropped: vec![],
            page_size: PageSize::DEFAULT,
            floor: Revision(99),
            oldest: Revision(99),
            log_from: Revision(5),
            point_count: 0,
            base_count,
        };
        decide_merge(&files, Effort::Usual)
    };
    // Two versions of each of the ten pages may have to be kept anyway.
    assert_eq!(merge(choose(0)).reason, Reason::Expired);
    assert_eq!(merge(choose(19)).reason, Reason::Expired);
    assert_eq!(choose(20), None);
}
