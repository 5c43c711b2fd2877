use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pagestore_tests::harness::TestStore;

use crate::harness::{Cli, pages};

const PROJ_DB: &str = "/usr/share/proj/proj.db";

#[test]
fn a_real_sqlite_database_comes_back_byte_for_byte() {
    comes_back_byte_for_byte(&Cli::new());
}

#[test]
fn a_real_sqlite_database_comes_back_byte_for_byte_from_etcd_and_s3() {
    comes_back_byte_for_byte(&Cli::on(TestStore::servers()));
}

fn comes_back_byte_for_byte(cli: &Cli) {
    assert!(Path::new(PROJ_DB).is_file(), "proj-data is not installed; ./dev.sh setup installs it");
    let original = std::fs::read(PROJ_DB).unwrap();
    let imported = cli.json(&["import", "proj", PROJ_DB]);
    assert_eq!(imported["sqlite"], true);
    assert_eq!(imported["created"], true);
    assert_eq!(imported["bytes"].as_u64(), Some(original.len() as u64));
    let first = imported["revision"].to_string();
    let export = |args: &[&str]| {
        cli.ok(&[&["export", "proj", &cli.arg("out")], args].concat());
        std::fs::read(cli.path("out")).unwrap()
    };
    assert!(export(&[]) == original);

    // Changed in place as SQLite would: a few pages, and longer.
    let mut changed = original.clone();
    for page in [1, 77, 500] {
        changed[page * 4096 + 1000..page * 4096 + 1100].fill(0x5a);
    }
    changed.extend(vec![0x11; 4096]);
    changed.extend(vec![0; 4096]);
    let file = cli.file("changed.db", &changed);
    let second = cli.json(&["import", "proj", &file]);
    assert_eq!(second["pages_written"], 4, "three changed, one new; new zeros need no write");
    assert!(export(&[]) == changed);
    assert!(export(&["--at", &first]) == original);

    cli.ok(&["compact", "proj"]);
    assert!(export(&[]) == changed);
    assert!(export(&["--at", &first]) == original);

    let third = cli.json(&["import", "proj", PROJ_DB]);
    assert_eq!(third["pages_written"], 3);
    assert!(export(&[]) == original);
    assert!(export(&["--at", &second["revision"].to_string()]) == changed);
    assert_eq!(cli.json(&["verify", "proj"])["clean"], true);
}

#[test]
fn an_import_that_changes_nothing_commits_nothing() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(40, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    let again = cli.json(&["import", "v", &image]);
    assert_eq!((again["pages_written"].as_u64(), again["commit"].is_null()), (Some(0), true));
    assert_eq!(cli.json(&["log", "v"]).as_array().unwrap().len(), 1);
}

#[test]
fn shorter_longer_and_zero_images_replace_what_was_there() {
    let cli = Cli::new();
    cli.ok(&["volume", "create", "v", "--page-size", "512"]);
    let images = [
        pages(50, 1),
        pages(7, 2),
        vec![0; 512 * 20],
        pages(2000, 3),
        [pages(10, 4), vec![0; 512]].concat(),
        vec![0; 512],
    ];
    let mut revisions = Vec::new();
    for image in &images {
        let file = cli.file("image", image);
        revisions.push(cli.json(&["import", "v", &file])["revision"].to_string());
        assert!(cli.ok_bytes(&["export", "v", "-"]) == *image);
    }
    for (image, revision) in images.iter().zip(&revisions) {
        assert!(
            cli.ok_bytes(&["export", "v", "-", "--at", revision]) == *image,
            "revision {revision}"
        );
    }
    cli.ok(&["compact", "v"]);
    for (image, revision) in images.iter().zip(&revisions) {
        assert!(
            cli.ok_bytes(&["export", "v", "-", "--at", revision]) == *image,
            "revision {revision}, compacted"
        );
    }
    assert_eq!(cli.json(&["verify", "v"])["clean"], true);
}

#[test]
fn an_image_takes_the_page_size_given_or_the_volumes() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(16, 1));
    assert_eq!(cli.json(&["import", "default", &image])["page_size"], 4096);
    assert_eq!(cli.json(&["import", "given", &image, "--page-size", "1k"])["page_size"], 1024);
    cli.ok(&["volume", "create", "made", "--page-size", "512"]);
    assert_eq!(cli.json(&["import", "made", &image])["page_size"], 512);
    for name in ["default", "given", "made"] {
        assert!(cli.ok_bytes(&["export", name, "-"]) == pages(16, 1));
    }
}

#[test]
fn an_export_replaces_its_file_at_once_and_leaves_no_other() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(30, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    std::fs::create_dir(cli.path("out")).unwrap();
    let target = cli.file("out/db", b"what was there before");
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&target, cli.path("link")).unwrap();
    cli.ok(&["export", "v", &cli.arg("link")]);
    assert!(std::fs::read(&target).unwrap() == pages(30, 1));
    assert!(std::fs::symlink_metadata(cli.path("link")).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);

    cli.fails(&["export", "v", &target, "--at", "999999"], 3);
    assert!(std::fs::read(&target).unwrap() == pages(30, 1));
    assert_eq!(std::fs::read_dir(cli.path("out")).unwrap().count(), 1);
    // A device is written to, not replaced.
    cli.ok(&["export", "v", "/dev/null"]);
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn an_interrupted_import_leaves_no_volume() {
    let cli = Cli::new();
    cli.ok(&["volume", "create", "other"]);
    // Long enough that it is under way for a while once its volume shows.
    let image = cli.file("image", &pages(200_000, 1));
    let child = cli
        .command(&["import", "v", &image, "--page-size", "512"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let volumes = || cli.json(&["volume", "list"]).as_array().unwrap().len();
    while volumes() < 2 {}
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: interrupted"));
    assert_eq!(volumes(), 1);
}

#[test]
fn an_import_takes_its_turn_with_writers_that_wait_for_one_another() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(40, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    let changed = cli.file("changed", &pages(40, 2));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let url = cli.store().display().to_string();
    let store = runtime.block_on(pagestore::Store::open(&url)).unwrap();
    let volume = runtime.block_on(store.open_volume("v")).unwrap();
    let base = runtime.block_on(volume.snapshot()).unwrap();
    let locked = runtime.block_on(store.try_lock("v", Some(&base))).unwrap();
    let pagestore::TryLock::Taken(lock) = locked else { panic!("{locked:?}") };
    let mut child = cli.command(&["import", "v", &changed]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    runtime.block_on(async {
        // What was written meanwhile is there to be replaced.
        let mut transaction = volume.begin_on(base);
        transaction.write(pagestore::PageNo(100), vec![9_u8; 512]).unwrap();
        transaction.require_lock(&lock, true);
        transaction.commit().await.unwrap();
    });
    assert!(child.wait().unwrap().success());
    cli.ok(&["export", "v", &cli.arg("out")]);
    assert!(std::fs::read(cli.path("out")).unwrap() == pages(40, 2));
    let is_locked = runtime.block_on(store.is_locked("v")).unwrap();
    assert!(!is_locked, "it kept the lock");
    runtime.block_on(async move {
        drop((lock, volume, store));
    });
}

#[test]
fn an_interrupted_export_leaves_its_file_as_it_was() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(200_000, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    std::fs::create_dir(cli.path("out")).unwrap();
    let target = cli.file("out/db", b"what was there before");
    let mut child = cli
        .command(&["export", "v", &target])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let files = || std::fs::read_dir(cli.path("out")).unwrap().count();
    while files() < 2 {}
    let signalled = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(files(), 1);
    assert_eq!(std::fs::read(&target).unwrap(), b"what was there before");
}
