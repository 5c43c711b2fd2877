//! An etcd that was restored from a backup: refused, looked at, accepted.

use crate::harness::{Cli, pages};
use pagestore_tests::harness::TestStore;

/// Pages enough that a commit of them is a file.
const PAGES: u64 = 3_000;

#[test]
fn a_restored_etcd_is_refused_until_it_is_accepted() {
    let (cli, mut place) = (Cli::new(), TestStore::files());
    let url = place.url();
    let cli_on = |args: &[&str]| cli.ok(&[&["--store", &url], args].concat());
    let before = cli.file("before", &pages(PAGES, 1));
    cli_on(&["import", "kept", &before, "--page-size", "512"]);
    let backup = cli.path("backup");
    place.etcd().unwrap().save_snapshot(&backup);
    assert!(cli_on(&["store", "accept-restore"]).contains("nothing to accept"));

    let after = cli.file("after", &pages(PAGES, 2));
    cli_on(&["import", "kept", &after]);
    cli_on(&["import", "new", &after, "--page-size", "512"]);
    place.etcd().unwrap().restore_snapshot(&backup);

    let look = ["--store", &url, "volume", "list"];
    let refused = cli.fails(&look, 2);
    assert!(refused.contains("restored") && refused.contains("accept-restore"), "{refused}");
    // A look changes nothing, and says what is lost: a file of each volume.
    let shown = cli_on(&["store", "accept-restore"]);
    assert!(shown.contains("kept") && shown.contains("no such volume"), "{shown}");
    assert!(shown.contains("nothing was changed"), "{shown}");
    assert_eq!(cli.fails(&look, 2), refused);
    let seen = cli.json(&["--store", &url, "store", "accept-restore"]);
    assert_eq!((&seen["restored"], &seen["accepted"]), (&true.into(), &false.into()));
    assert_eq!(seen["lost_files"].as_array().unwrap().len(), 2, "{seen}");
    assert!(seen["lost_files"].as_array().unwrap().iter().all(|lost| lost["files"] == 1), "{seen}");
    assert_eq!(seen["went_back"], true, "this backup was restored without raising its revision");

    let accepted = cli_on(&["store", "accept-restore", "--yes"]);
    assert!(accepted.contains("accepted"), "{accepted}");
    assert!(cli_on(&["store", "accept-restore"]).contains("nothing to accept"));
    let volumes = cli.json(&["--store", &url, "volume", "list"]);
    assert_eq!(volumes.as_array().unwrap().len(), 1, "{volumes}");
    assert_eq!(cli.json(&["--store", &url, "verify", "kept"])["clean"], true);
    cli_on(&["export", "kept", &cli.arg("out")]);
    assert_eq!(std::fs::read(cli.path("out")).unwrap(), pages(PAGES, 1), "as it was backed up");
    // It is written again as ever.
    cli_on(&["import", "kept", &after]);
    cli_on(&["export", "kept", &cli.arg("out")]);
    assert_eq!(std::fs::read(cli.path("out")).unwrap(), pages(PAGES, 2));
}
