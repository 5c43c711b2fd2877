use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Cli, pages};

fn numbers(array: &Value, field: &str) -> Vec<u64> {
    array.as_array().unwrap().iter().map(|item| item[field].as_u64().unwrap()).collect()
}

/// Three commits: 20 pages; page 3 changed a little; 25 pages with page 3 and 24 new.
fn three_commits(cli: &Cli) -> Vec<u64> {
    let first = pages(20, 1);
    let mut second = first.clone();
    second[3 * 512 + 7] ^= 0xff;
    let mut third = [second.clone(), pages(5, 9)].concat();
    third[3 * 512..4 * 512].fill(0);
    let import = |image: &[u8]| {
        let file = cli.file("image", image);
        cli.json(&["import", "v", &file, "--page-size", "512"])["revision"].as_u64().unwrap()
    };
    vec![import(&first), import(&second), import(&third)]
}

#[test]
fn the_log_lists_commits_newest_first() {
    let cli = Cli::new();
    let revisions = three_commits(&cli);
    let check = |flushed: bool| {
        let log = cli.json(&["log", "v"]);
        assert_eq!(numbers(&log, "revision"), [revisions[2], revisions[1], revisions[0]]);
        assert_eq!(numbers(&log, "pages_written"), [6, 1, 20]);
        assert_eq!(numbers(&log, "page_count"), [25, 20, 20]);
        for commit in log.as_array().unwrap() {
            assert_eq!(commit["kind"], "staged");
            assert_eq!(commit["readable"], true);
            assert_eq!(commit["flushed"], flushed);
            assert!(commit["time"].as_str().unwrap().ends_with('Z'));
        }
        let newest = cli.json(&["log", "v", "--limit", "2"]);
        assert_eq!(numbers(&newest, "revision"), [revisions[2], revisions[1]]);
        assert_eq!(numbers(&newest, "page_count"), [25, 20]);
        assert_eq!(cli.json(&["log", "v", "--limit", "0"]).as_array().unwrap().len(), 0);
    };
    check(false);
    cli.ok(&["compact", "v"]);
    check(true);
}

#[test]
fn the_history_of_a_page_says_where_each_version_is() {
    let cli = Cli::new();
    let revisions = three_commits(&cli);
    let history = cli.json(&["history", "v", "3"]);
    assert_eq!(numbers(&history, "revision"), [revisions[2], revisions[1], revisions[0]]);
    let encodings: Vec<&str> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["encoding"].as_str().unwrap())
        .collect();
    assert_eq!(encodings[0], "zero");
    assert!(["xor", "prefix", "raw"].contains(&encodings[1]), "{encodings:?}");
    assert_eq!(encodings[2], "raw");
    assert_eq!(history[2]["place"], "meta");
    assert_eq!(history[1]["superseded_revision"], revisions[2]);
    let log = cli.json(&["log", "v"]);
    for (version, commit) in history.as_array().unwrap().iter().zip(log.as_array().unwrap()) {
        assert_eq!(version["commits"], serde_json::json!([commit["commit"]]));
    }

    cli.ok(&["compact", "v"]);
    let compacted = cli.json(&["history", "v", "3"]);
    assert_eq!(numbers(&compacted, "revision"), [revisions[2], revisions[1], revisions[0]]);
    assert_eq!(compacted[0]["encoding"], "zero");
    assert_eq!(compacted[1]["encoding"], "frame");
    assert_eq!(compacted[1]["place"], "file");
    for version in 0..3 {
        assert_eq!(compacted[version]["commits"], history[version]["commits"]);
        assert_eq!(compacted[version]["hash"], history[version]["hash"]);
    }
    // Never written: within the volume, so no error.
    cli.ok(&["volume", "create", "sparse", "--page-size", "512"]);
    let image = cli.file("image", &[vec![0; 512 * 9], pages(1, 1)].concat());
    cli.ok(&["import", "sparse", &image]);
    assert_eq!(cli.json(&["history", "sparse", "4"]), serde_json::json!([]));
}

#[test]
fn a_truncated_page_shows_in_its_history() {
    let cli = Cli::new();
    let mut revisions = Vec::new();
    for count in [20, 5, 20] {
        let file = cli.file("image", &pages(count, 1));
        revisions.push(
            cli.json(&["import", "v", &file, "--page-size", "512"])["revision"].as_u64().unwrap(),
        );
    }
    for compacted in [false, true] {
        let history = cli.json(&["history", "v", "10"]);
        assert_eq!(
            numbers(&history, "revision"),
            [revisions[2], revisions[1], revisions[0]],
            "{compacted}"
        );
        assert_eq!(history[1]["encoding"], "truncated");
        cli.ok(&["compact", "v"]);
    }
}

#[test]
fn a_diff_tells_changed_added_and_removed_pages() {
    let cli = Cli::new();
    let revisions: Vec<String> = three_commits(&cli).iter().map(ToString::to_string).collect();
    let diff = |from: usize, to: usize| {
        let diff = cli.json(&["diff", "v", &revisions[from], &revisions[to]]);
        let ranges = diff["pages"].as_array().unwrap().iter();
        let ranges = ranges.map(|range| {
            (
                range["first"].as_u64().unwrap(),
                range["last"].as_u64().unwrap(),
                range["change"].as_str().unwrap().to_owned(),
            )
        });
        (diff["differing_pages"].as_u64().unwrap(), ranges.collect::<Vec<_>>())
    };
    let check = || {
        assert_eq!(diff(0, 0), (0, vec![]));
        assert_eq!(diff(0, 1), (1, vec![(3, 3, "changed".into())]));
        assert_eq!(diff(0, 2), (6, vec![(3, 3, "changed".into()), (20, 24, "added".into())]));
        assert_eq!(diff(2, 1), (6, vec![(3, 3, "changed".into()), (20, 24, "removed".into())]));
    };
    check();
    cli.ok(&["compact", "v"]);
    check();
    let text = cli.ok(&["diff", "v", &revisions[0], &revisions[2]]);
    assert!(text.contains("6 pages differ between revision"), "{text}");
}

#[test]
fn what_was_changed_back_does_not_differ() {
    let cli = Cli::new();
    let mut revisions = Vec::new();
    for seed in [1, 2, 1] {
        let file = cli.file("image", &pages(2000, seed));
        revisions
            .push(cli.json(&["import", "v", &file, "--page-size", "512"])["revision"].to_string());
    }
    for _ in 0..2 {
        assert_eq!(cli.json(&["diff", "v", &revisions[0], &revisions[1]])["differing_pages"], 2000);
        assert_eq!(cli.json(&["diff", "v", &revisions[0], &revisions[2]])["differing_pages"], 0);
        cli.ok(&["compact", "v"]);
    }
}

#[test]
fn levels_and_files_add_up() {
    let cli = Cli::new();
    let file = cli.file("image", &pages(2000, 1));
    cli.ok(&["import", "v", &file, "--page-size", "512"]);
    let levels = cli.json(&["levels", "v"]);
    assert_eq!(levels["levels"].as_array().unwrap().len(), 1);
    let info = &levels["files"][0];
    let object = cli.only_object();
    assert_eq!(info["bytes"].as_u64(), Some(std::fs::metadata(&object).unwrap().len()));
    assert_eq!(
        (info["origin"].as_str(), info["live_versions"].as_u64()),
        (Some("bulk"), Some(2000))
    );
    assert_eq!((info["first_page"].as_u64(), info["last_page"].as_u64()), (Some(0), Some(1999)));

    let id = info["file"].as_str().unwrap();
    let detail = cli.json(&["file", "v", id]);
    assert!(object.ends_with(detail["object"].as_str().unwrap()));
    assert_eq!(numbers(&detail["frames"], "versions").iter().sum::<u64>(), 2000);
    assert_eq!(numbers(&detail["index_blocks"], "versions").iter().sum::<u64>(), 2000);
    assert_eq!(
        numbers(&detail["frames"], "bytes").iter().sum::<u64>(),
        detail["own_frame_bytes"].as_u64().unwrap()
    );
    assert!(cli.ok(&["file", "v", id]).contains("made by"));

    // Half of it overwritten: half is live.
    let mut half = pages(2000, 1);
    half[..1000 * 512].copy_from_slice(&pages(1000, 2));
    let file = cli.file("image", &half);
    cli.ok(&["import", "v", &file]);
    let levels = cli.json(&["levels", "v"]);
    let shares: Vec<(u64, u64)> = levels["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (file["versions"].as_u64().unwrap(), file["live_versions"].as_u64().unwrap()))
        .collect();
    let staged = levels["staged"]["pages"].as_u64().unwrap();
    let in_files: u64 = shares.iter().map(|(_, live)| live).sum();
    assert_eq!(staged + in_files, 2000, "{shares:?}");
    assert!(shares.contains(&(2000, 1000)), "{shares:?}");
}

#[test]
fn a_page_is_shown_raw_and_as_a_dump() {
    let cli = Cli::new();
    let file = cli.file("image", &pages(3, 1));
    let first = cli.json(&["import", "v", &file, "--page-size", "512"])["revision"].to_string();
    let file = cli.file("image", &pages(3, 2));
    cli.ok(&["import", "v", &file]);
    assert!(cli.ok_bytes(&["page", "v", "1", "--raw"]) == pages(3, 2)[512..1024]);
    assert!(cli.ok_bytes(&["page", "v", "1", "--raw", "--at", &first]) == pages(3, 1)[512..1024]);
    let dump = cli.ok(&["page", "v", "1"]);
    assert!(dump.starts_with("00000000  ") && dump.ends_with("00000200\n"), "{dump}");
}

#[test]
fn watch_shows_commits_as_they_come_until_it_is_interrupted() {
    let cli = Cli::new();
    let file = cli.file("image", &pages(3, 1));
    cli.ok(&["import", "v", &file, "--page-size", "512"]);
    let mut watch = cli.command(&["watch", "v", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    // When it has begun to watch only it knows: commit until it shows the first.
    let (sender, shown) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.by_ref() {
            sender.send(line.unwrap()).unwrap();
        }
    });
    let mut made = Vec::new();
    let mut first = None;
    for seed in 2..200 {
        let file = cli.file("image", &pages(3, seed));
        made.push(cli.json(&["import", "v", &file])["revision"].as_u64().unwrap());
        first = shown.recv_timeout(std::time::Duration::from_millis(200)).ok();
        if first.is_some() {
            break;
        }
    }
    let first: Value = serde_json::from_str(&first.expect("no commit was shown")).unwrap();
    assert!(made.contains(&first["revision"].as_u64().unwrap()));
    assert_eq!(first["pages_written"], 3);
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &watch.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    reader.join().unwrap();
}

#[test]
fn a_dry_run_prints_the_plan_and_does_nothing() {
    let cli = Cli::new();
    three_commits(&cli);
    let before = cli.everything();
    assert!(cli.ok(&["compact", "v", "--dry-run"]).starts_with("1. "));
    assert!(cli.everything() == before);
    assert!(cli.json(&["volume", "stat", "v"])["staged_commits"] == 3);
    cli.ok(&["compact", "v"]);
    assert_eq!(cli.json(&["compact", "v", "--dry-run"])["steps"], serde_json::json!([]));
    let stat = cli.json(&["volume", "stat", "v"]);
    assert_eq!((stat["staged_commits"].as_u64(), stat["staged_keys"].as_u64()), (Some(0), Some(0)));
}
