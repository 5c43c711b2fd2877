//! Damage is found and named: key or file, and offset.

use std::path::Path;

use pagestore::internal::meta::{Op, Txn};
use pagestore::internal::types::HashSecret;
use serde_json::Value;

use crate::harness::{Cli, pages};

const PAGES: u64 = 2000;

/// A volume whose pages are all in one file.
fn in_one_file() -> Cli {
    let cli = Cli::new();
    let image = cli.file("image", &pages(PAGES, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    assert_eq!(cli.json(&["verify", "v"])["clean"], true);
    cli
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(offset).unwrap()] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// What `verify` finds; it must find something, and say so by its exit code.
#[track_caller]
fn findings(cli: &Cli) -> Vec<Value> {
    let output = cli.run(&["verify", "v", "--json"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(
        stderr.starts_with("error: volume v is damaged") && stderr.lines().count() == 1,
        "{stderr}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["clean"], false);
    report["findings"].as_array().unwrap().clone()
}

#[test]
fn a_flipped_byte_in_a_frame_is_named_with_file_and_offset() {
    let cli = in_one_file();
    let levels = cli.json(&["levels", "v"]);
    let id = levels["files"][0]["file"].as_str().unwrap();
    let detail = cli.json(&["file", "v", id]);
    let frames = detail["frames"].as_array().unwrap();
    for frame in [&frames[1], &frames[3]] {
        flip(&cli.only_object(), frame["offset"].as_u64().unwrap() + 100);
    }
    let found = findings(&cli);
    for frame in [&frames[1], &frames[3]] {
        let finding = found
            .iter()
            .find(|finding| finding["file"] == id && finding["offset"] == frame["offset"]);
        let finding = finding.unwrap_or_else(|| panic!("{frame} is not named in {found:?}"));
        assert_eq!(finding["damage"], "file");
        assert_eq!(
            finding["pages"],
            serde_json::json!([[frame["first_page"], frame["last_page"]]])
        );
    }
    let (first, offset) = (frames[1]["first_page"].to_string(), frames[1]["offset"].to_string());
    // Whoever reads such a page is told, and gets none.
    for args in [&["page", "v", &first][..], &["export", "v", &cli.arg("out")]] {
        let error = cli.fails(args, 4);
        assert!(error.contains(id) && error.contains(&offset), "{error}");
    }
    assert!(!cli.path("out").exists());
    cli.ok(&["page", "v", "0"]);
    // People see the same.
    let output = cli.run(&["verify", "v"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("offset {offset}")) && text.contains("damaged"), "{text}");
}

#[test]
fn every_section_of_a_file_is_checked() {
    let cli = in_one_file();
    let levels = cli.json(&["levels", "v"]);
    let id = levels["files"][0]["file"].as_str().unwrap();
    let detail = cli.json(&["file", "v", id]);
    let object = cli.only_object();
    let whole = std::fs::read(&object).unwrap();
    let block = &detail["index_blocks"][1];
    let tail = whole.len() as u64 - detail["tail_bytes"].as_u64().unwrap();
    for (offset, named) in [
        (3, 0),
        (block["offset"].as_u64().unwrap() + 9, block["offset"].as_u64().unwrap()),
        (tail + 5, tail),
        (whole.len() as u64 - 1, tail),
    ] {
        flip(&object, offset);
        let found = findings(&cli);
        let is_named =
            found.iter().any(|finding| finding["file"] == id && finding["offset"] == named);
        assert!(is_named, "byte {offset}: {found:?}");
        std::fs::write(&object, &whole).unwrap();
        assert_eq!(cli.json(&["verify", "v"])["clean"], true);
    }
}

#[test]
fn missing_and_shortened_objects_are_named() {
    let cli = in_one_file();
    let object = cli.only_object();
    let whole = std::fs::read(&object).unwrap();
    std::fs::write(&object, &whole[..whole.len() / 2]).unwrap();
    assert!(findings(&cli).iter().any(|finding| finding["damage"] == "object"));
    std::fs::remove_file(&object).unwrap();
    let found = findings(&cli);
    let missing = found.iter().find(|finding| finding["damage"] == "object").unwrap();
    assert!(missing["message"].as_str().unwrap().contains("missing"), "{missing}");
    let name = object.file_name().unwrap().to_str().unwrap();
    assert!(missing["message"].as_str().unwrap().contains(name));
    let error = cli.fails(&["page", "v", "0"], 4);
    assert!(error.contains("page 0"), "{error}");
}

#[test]
fn a_damaged_staged_page_is_named_with_its_key() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(20, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    let (page, key) = cli.program(async |store| {
        let volume = store.open_volume("v").await.unwrap();
        let state = volume.state().unwrap();
        let (page, version) = state.staged.iter().nth(5).unwrap();
        let keys = store.keys().volume(volume.id());
        let key = keys.staged(version.hash, version.staged.unwrap().base);
        let put = Op::put(key.clone(), vec![1, 1, u8::try_from(page.0).unwrap(), 9, 9]);
        store.meta().txn(Txn { then: vec![put], ..Txn::default() }).await.unwrap();
        (page.0, keys.suffix(&key).escape_ascii().to_string())
    });
    let found = findings(&cli);
    let finding = found
        .iter()
        .find(|finding| finding["key"] == key)
        .unwrap_or_else(|| panic!("{key}: {found:?}"));
    assert_eq!(finding["damage"], "staged page");
    assert_eq!(finding["pages"], serde_json::json!([[page, page]]));
    cli.fails(&["page", "v", &page.to_string()], 4);
    cli.ok(&["page", "v", "0"]);

    // And one that is gone.
    cli.program(async |store| {
        let volume = store.open_volume("v").await.unwrap();
        let state = volume.state().unwrap();
        let version = state.staged.values().nth(5).unwrap();
        let key =
            store.keys().volume(volume.id()).staged(version.hash, version.staged.unwrap().base);
        store.meta().txn(Txn { then: vec![Op::delete(key)], ..Txn::default() }).await.unwrap();
    });
    let found = findings(&cli);
    let message = format!("page {page} of revision");
    assert!(
        found.iter().any(|finding| finding["message"].as_str().unwrap().contains(&message)),
        "{found:?}"
    );
}

#[test]
fn damaged_and_missing_keys_are_named() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(20, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    let id = cli.json(&["volume", "stat", "v"])["id"].as_str().unwrap().parse().unwrap();
    cli.program(async |store| {
        let keys = store.keys().volume(id);
        let delete = Op::delete(keys.pointer(pagestore::PageNo(7)));
        store.meta().txn(Txn { then: vec![delete], ..Txn::default() }).await.unwrap();
    });
    let found = findings(&cli);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["damage"], "pointer");
    assert!(found[0]["message"].as_str().unwrap().contains("page 7"));

    cli.program(async |store| {
        let keys = store.keys().volume(id);
        let put = Op::put(keys.page_count(), vec![1, 20, 0, 0, 0, 0]);
        store.meta().txn(Txn { then: vec![put], ..Txn::default() }).await.unwrap();
    });
    let found = findings(&cli);
    assert!(
        found.iter().any(|finding| finding["damage"] == "key" && finding["key"] == "Z"),
        "{found:?}"
    );
    let error = cli.fails(&["volume", "stat", "v"], 4);
    assert!(error.contains("page count") && error.contains("key Z"), "{error}");
}

#[test]
fn a_page_in_anothers_place_is_noticed() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(20, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    let key = cli.program(async |store| {
        let volume = store.open_volume("v").await.unwrap();
        let state = volume.state().unwrap();
        let record: &HashSecret = &state.record.secret;
        let content = volume.snapshot().await.unwrap().read(pagestore::PageNo(3)).await.unwrap();
        let versions: Vec<_> = state.staged.values().copied().collect();
        assert_eq!(record.hash(pagestore::PageNo(3), &content), versions[3].hash);
        // Page 3's content, put under the key of page 4's, and said to be page 4's.
        let keys = store.keys().volume(volume.id());
        let key = keys.staged(versions[4].hash, None);
        let value = [&[1, 1, 4], &content[..]].concat();
        store
            .meta()
            .txn(Txn { then: vec![Op::put(key.clone(), value)], ..Txn::default() })
            .await
            .unwrap();
        keys.suffix(&key).escape_ascii().to_string()
    });
    assert!(findings(&cli).iter().any(|finding| finding["key"] == key));
    let error = cli.fails(&["page", "v", "4"], 4);
    assert!(error.contains("hashes to"), "{error}");
}

#[test]
fn one_revision_is_verified_by_itself() {
    let cli = Cli::new();
    let import = |seed: u64| {
        let image = cli.file("image", &pages(PAGES, seed));
        cli.json(&["import", "v", &image, "--page-size", "512"])["revision"].to_string()
    };
    let first = import(1);
    let before = cli.only_object();
    let second = import(2);
    let levels = cli.json(&["levels", "v"]);
    let files = levels["files"].as_array().unwrap();
    let newest = files.iter().max_by_key(|file| file["newest_revision"].as_u64()).unwrap();
    let detail = cli.json(&["file", "v", newest["file"].as_str().unwrap()]);
    let object =
        before.parent().unwrap().parent().unwrap().join(detail["object"].as_str().unwrap());
    flip(&object, detail["frames"][2]["offset"].as_u64().unwrap() + 50);

    let report = cli.json(&["verify", "v", "--at", &first]);
    assert_eq!(
        (report["clean"].as_bool(), report["pages_read"].as_u64()),
        (Some(true), Some(PAGES))
    );
    assert_eq!(report["versions_read"], 0, "of the files only what finds the pages");
    let output = cli.run(&["verify", "v", "--at", &second, "--json"]);
    assert_eq!(output.status.code(), Some(4));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lost: u64 = report["findings"].as_array().unwrap().iter().map(pages_of).sum();
    assert_eq!(report["pages_read"].as_u64().unwrap() + lost, PAGES);
    assert!(!findings(&cli).is_empty());
}

fn pages_of(finding: &Value) -> u64 {
    let ranges = finding["pages"].as_array().unwrap().iter();
    ranges.map(|range| range[1].as_u64().unwrap() - range[0].as_u64().unwrap() + 1).sum()
}
