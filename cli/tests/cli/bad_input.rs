//! Bad input is refused with a message and an exit code, and changes nothing.

use pagestore_tests::harness::TestStore;

use crate::harness::{Cli, pages};

/// A store with one volume `v` of 20 pages of 512 bytes.
fn cli() -> Cli {
    let cli = Cli::new();
    let image = cli.file("image", &pages(20, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    cli
}

#[track_caller]
fn refused(cli: &Cli, args: &[&str], code: i32, says: &[&str]) {
    let before = cli.everything();
    let error = cli.fails(args, code);
    for part in says {
        assert!(error.contains(part), "{args:?}: {part:?} is missing in: {error}");
    }
    assert!(cli.everything() == before, "{args:?} changed something");
}

#[test]
fn an_unknown_volume_is_not_found() {
    let cli = cli();
    let out = cli.arg("out");
    for args in [
        &["volume", "stat", "nope"][..],
        &["volume", "delete", "nope"],
        &["export", "nope", &out],
        &["page", "nope", "0"],
        &["history", "nope", "0"],
        &["log", "nope"],
        &["diff", "nope", "1", "2"],
        &["levels", "nope"],
        &["file", "nope", "0192f7a1-7c00-7000-8000-000000000001"],
        &["verify", "nope"],
        &["compact", "nope"],
        &["compact", "nope", "--dry-run"],
        &["watch", "nope"],
    ] {
        refused(&cli, args, 3, &["no volume of this name", "nope"]);
    }
    assert!(!cli.path("out").exists());
}

#[test]
fn a_revision_that_has_not_come_is_not_found() {
    let cli = cli();
    let out = cli.arg("out");
    refused(
        &cli,
        &["export", "v", &out, "--at", "1000000"],
        3,
        &["revision 1000000 has not come yet"],
    );
    refused(&cli, &["page", "v", "0", "--at", "1000000"], 3, &["1000000"]);
    refused(&cli, &["diff", "v", "5", "1000000"], 3, &["1000000"]);
    refused(&cli, &["verify", "v", "--at", "1000000"], 3, &["1000000"]);
    refused(
        &cli,
        &["page", "v", "0", "--at", "1"],
        3,
        &["revision 1 is from before the volume was made"],
    );
    assert!(!cli.path("out").exists());
}

#[test]
fn a_revision_that_is_no_longer_kept_has_expired() {
    let cli = Cli::new();
    cli.ok(&["volume", "create", "v", "--page-size", "512", "--keep", "none"]);
    let mut revisions = Vec::new();
    for seed in 1..4 {
        let image = cli.file("image", &pages(20, seed));
        revisions.push(cli.json(&["import", "v", &image])["revision"].to_string());
    }
    cli.ok(&["compact", "v"]);
    let old = &revisions[0];
    let says = [&format!("revision {old} is no longer kept") as &str, "oldest readable"];
    refused(&cli, &["page", "v", "0", "--at", old], 5, &says);
    refused(&cli, &["export", "v", &cli.arg("out"), "--at", old], 5, &says);
    refused(&cli, &["diff", "v", old, &revisions[2]], 5, &says);
    refused(&cli, &["verify", "v", "--at", old], 5, &says);
    let log = cli.json(&["log", "v"]);
    let readable: Vec<bool> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|commit| commit["readable"].as_bool().unwrap())
        .collect();
    assert_eq!(readable, [true, false, false]);
}

#[test]
fn a_page_beyond_the_end_is_invalid() {
    let cli = cli();
    refused(&cli, &["page", "v", "20"], 2, &["page 20 is beyond the end", "20 pages"]);
    refused(&cli, &["page", "v", "18446744073709551615"], 2, &["beyond the end"]);
    refused(&cli, &["history", "v", "20"], 2, &["page 20 is beyond the end"]);
}

#[test]
fn an_unknown_file_is_not_found() {
    let cli = cli();
    let id = "0192f7a1-7c00-7000-8000-000000000001";
    refused(&cli, &["file", "v", id], 3, &["no level lists such a file", id]);
}

#[test]
fn volume_names_are_checked_before_a_store_is_made() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(2, 1));
    let long = "x".repeat(256);
    for (name, says) in [("a/b", "'/'"), ("", "empty"), (long.as_str(), "255")] {
        for args in
            [&["volume", "create", name][..], &["import", name, &image, "--page-size", "512"]]
        {
            let error = cli.fails(args, 2);
            assert!(error.contains(says), "{error}");
        }
    }
    assert!(!cli.store().exists());
    cli.ok(&["volume", "create", &"x".repeat(255)]);
    let wrong = ["volume", "stat", "a/b"];
    refused(&cli, &wrong, 2, &["'/'"]);
}

#[test]
fn a_taken_name_is_said_to_be() {
    let cli = cli();
    refused(&cli, &["volume", "create", "v"], 8, &["exists", "v"]);
}

#[test]
fn images_that_are_not_whole_are_refused_before_anything_is_written() {
    let cli = cli();
    let odd = cli.file("odd", &pages(3, 1)[..1000]);
    let empty = cli.file("empty", b"");
    std::fs::create_dir(cli.path("directory")).unwrap();
    let directory = cli.arg("directory");
    let absent = cli.arg("absent");
    for name in ["v", "new"] {
        refused(
            &cli,
            &["import", name, &odd, "--page-size", "512"],
            2,
            &["1000 bytes", "no multiple", "512"],
        );
        refused(&cli, &["import", name, &empty], 2, &["is empty"]);
        refused(&cli, &["import", name, &directory], 2, &["is a directory"]);
        refused(&cli, &["import", name, &absent], 3, &["absent"]);
    }
    let store_less = Cli::new();
    for file in [&odd, &empty, &directory] {
        store_less.fails(&["import", "v", file], 2);
    }
    assert!(!store_less.store().exists());
}

#[test]
fn sqlite_files_that_are_not_whole_are_refused() {
    let cli = cli();
    let header = |pages: u32| {
        let mut header = vec![0; 100];
        header[..16].copy_from_slice(b"SQLite format 3\0");
        header[16..18].copy_from_slice(&[2, 0]);
        header[28..32].copy_from_slice(&pages.to_be_bytes());
        header
    };
    let database = |pages: u32, bytes: usize| {
        let mut database = header(pages);
        database.resize(bytes, 7);
        database[92..96].fill(0);
        database
    };
    let truncated = cli.file("truncated.db", &database(40, 512 * 39));
    refused(&cli, &["import", "new", &truncated], 2, &["cut short", "19968", "20480"]);
    let cut = cli.file("cut.db", &database(40, 512 * 40 - 100));
    refused(&cli, &["import", "new", &cut], 2, &["cut short"]);
    let stub = cli.file("stub.db", &header(1)[..50]);
    refused(&cli, &["import", "new", &stub], 2, &["cut short"]);

    let whole = cli.file("whole.db", &database(40, 512 * 40));
    refused(&cli, &["import", "new", &whole, "--page-size", "1k"], 2, &["512", "1024"]);
    cli.file("whole.db-wal", b"frames");
    refused(&cli, &["import", "new", &whole], 2, &["whole.db-wal", "checkpoint"]);
    std::fs::remove_file(cli.path("whole.db-wal")).unwrap();
    cli.file("whole.db-journal", &[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0]);
    refused(&cli, &["import", "new", &whole], 2, &["whole.db-journal"]);
    std::fs::remove_file(cli.path("whole.db-journal")).unwrap();
    cli.ok(&["import", "new", &whole]);
}

#[test]
fn a_wrong_page_size_is_invalid() {
    let cli = cli();
    let image = cli.file("other", &pages(16, 2));
    refused(&cli, &["import", "v", &image, "--page-size", "4096"], 2, &["512", "4096"]);
}

#[test]
fn an_export_needs_a_place_for_a_file() {
    let cli = cli();
    std::fs::create_dir(cli.path("directory")).unwrap();
    refused(&cli, &["export", "v", &cli.arg("directory")], 2, &["is a directory"]);
    refused(&cli, &["export", "v", &cli.arg("absent/out")], 3, &["absent"]);
}

#[test]
fn a_url_that_makes_no_sense_is_refused() {
    let cli = Cli::new();
    for url in [
        "http://x",
        "etcd://127.0.0.1:1/root",
        "etcd://127.0.0.1:1/?blobs=file:///x",
        "file:///x?y=z",
    ] {
        let error = cli.fails(&["--store", url, "volume", "list"], 2);
        assert!(error.contains("URL"), "{error}");
    }
    let unreachable = cli.arg("blobs");
    let url = format!("etcd://127.0.0.1:1/root?blobs=file://{unreachable}");
    let error = cli.fails(&["--store", &url, "volume", "list"], 1);
    assert!(error.contains("meta tier unavailable"), "{error}");
}

#[test]
fn etcd_that_is_gone_and_a_bucket_that_is_not_there_have_their_exit_codes() {
    let place = TestStore::servers();
    let elsewhere = place.url().replace("s3://pages/", "s3://no-such-bucket/");
    // Another store on the same etcd.
    let elsewhere = elsewhere.replace("/test?", "/other?");
    let mut cli = Cli::on(place);
    let image = cli.file("image", &pages(2000, 1));
    let error = cli.fails(&["--store", &elsewhere, "volume", "create", "v"], 3);
    assert!(error.contains("no-such-bucket") && error.contains("does not exist"), "{error}");
    cli.ok(&["import", "v", &image, "--page-size", "512"]);

    cli.place().etcd().unwrap().kill9();
    for args in
        [&["log", "v"][..], &["export", "v", "-"], &["import", "v", &image], &["verify", "v"]]
    {
        let error = cli.fails(args, 1);
        assert!(error.contains("meta tier unavailable"), "{args:?}: {error}");
    }
    cli.place().etcd().unwrap().restart();
    assert!(cli.ok_bytes(&["export", "v", "-"]) == pages(2000, 1));
}
