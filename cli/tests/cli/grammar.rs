use crate::harness::{Cli, pages};

#[test]
fn every_command_explains_itself_and_the_exit_codes() {
    let cli = Cli::new();
    let help = cli.ok(&["--help"]);
    let commands = [
        "volume",
        "store",
        "import",
        "export",
        "page",
        "history",
        "log",
        "diff",
        "levels",
        "file",
        "verify",
        "compact",
        "sql",
        "watch",
        "demo",
        "completions",
    ];
    for command in commands {
        assert!(help.contains(&format!("  {command} ")), "{command} is missing in:\n{help}");
        assert!(cli.ok(&[command, "--help"]).contains("Usage: pagestore-cli"), "{command}");
    }
    assert!(help.contains("Exit codes:") && help.contains("PAGESTORE_STORE"));
    assert!(!help.contains("demo-writer"));
}

#[test]
fn usage_errors_exit_with_2() {
    let cli = Cli::new();
    for args in [
        &[][..],
        &["nonsense"],
        &["volume"],
        &["store"],
        &["volume", "create"],
        &["volume", "create", "v", "--page-size", "1000"],
        &["volume", "create", "v", "--page-size", "huge"],
        &["volume", "create", "v", "--keep", "soon"],
        &["import", "v"],
        &["export", "v"],
        &["page", "v", "first"],
        &["page", "v", "0", "--raw", "--json"],
        &["diff", "v", "1"],
        &["diff", "v", "1", "x"],
        &["file", "v", "not-an-id"],
        &["log", "v", "--limit", "-1"],
    ] {
        assert_eq!(cli.run(args).status.code(), Some(2), "{args:?}");
    }
    assert!(!cli.store().exists());
}

#[test]
fn the_store_is_given_by_flag_or_environment() {
    let cli = Cli::new();
    let missing = cli.command(&["volume", "list"]).env_remove("PAGESTORE_STORE").output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("--store"));

    let elsewhere = cli.arg("elsewhere");
    cli.ok(&["--store", &elsewhere, "volume", "create", "a"]);
    cli.ok(&["volume", "create", "b", "--store", &format!("file://{elsewhere}")]);
    let names = cli.ok(&["--store", &elsewhere, "volume", "list", "--json"]);
    let names: serde_json::Value = serde_json::from_str(&names).unwrap();
    let names: Vec<_> =
        names.as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(!cli.store().exists());
}

#[test]
fn looking_makes_no_store() {
    let cli = Cli::new();
    for args in [
        &["volume", "list"][..],
        &["log", "v"],
        &["verify", "v"],
        &["compact", "v"],
        &["volume", "delete", "v"],
        &["store", "accept-restore", "--yes"],
    ] {
        let error = cli.fails(args, 3);
        assert!(error.contains("no store"), "{error}");
    }
    assert!(!cli.store().exists());
}

#[test]
fn volumes_are_made_with_their_options() {
    let cli = Cli::new();
    for (name, page_size, keep) in
        [("a", "512", "none"), ("b", "64k", "forever"), ("c", "8KiB", "30m"), ("d", "4096", "7d")]
    {
        cli.ok(&["volume", "create", name, "--page-size", page_size, "--keep", keep]);
    }
    let stat = |name: &str| {
        let stat = cli.json(&["volume", "stat", name]);
        (stat["page_size"].as_u64().unwrap(), stat["keep"].as_str().unwrap().to_owned())
    };
    assert_eq!(stat("a"), (512, "none".into()));
    assert_eq!(stat("b"), (65_536, "forever".into()));
    assert_eq!(stat("c"), (8192, "30m".into()));
    assert_eq!(stat("d"), (4096, "7days".into()));
    cli.ok(&["volume", "create", "e"]);
    assert_eq!(stat("e"), (4096, "1h".into()));

    assert_eq!(cli.json(&["volume", "delete", "b"])["deleted"], "b");
    let left = cli.json(&["volume", "list"]);
    assert_eq!(left.as_array().unwrap().len(), 4);
    cli.ok(&["volume", "create", "b"]);
    assert_eq!(stat("b"), (4096, "1h".into()));
}

#[test]
fn every_command_that_prints_prints_json() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(300, 1));
    cli.json(&["volume", "create", "v", "--page-size", "512"]);
    let imported = cli.json(&["import", "v", &image]);
    assert_eq!(
        (imported["page_count"].as_u64(), imported["created"].as_bool()),
        (Some(300), Some(false))
    );
    let revision = imported["revision"].to_string();
    assert_eq!(cli.json(&["export", "v", &cli.arg("out")])["bytes"], 300 * 512);
    let page = cli.json(&["page", "v", "7"]);
    assert_eq!(page["content_hex"].as_str().unwrap().len(), 1024);
    assert_eq!(cli.json(&["history", "v", "7"]).as_array().unwrap().len(), 1);
    assert_eq!(cli.json(&["log", "v"]).as_array().unwrap().len(), 1);
    assert_eq!(cli.json(&["diff", "v", &revision, &revision])["differing_pages"], 0);
    assert_eq!(cli.json(&["compact", "v", "--dry-run"])["steps"][0]["action"], "flush");
    assert_eq!(cli.json(&["compact", "v"])["after"]["staged_bytes"], 0);
    let levels = cli.json(&["levels", "v"]);
    let file =
        levels["files"].as_array().unwrap().iter().find(|file| file["versions"] == 300).unwrap();
    assert_eq!(cli.json(&["file", "v", file["file"].as_str().unwrap()])["versions"], 300);
    assert_eq!(cli.json(&["verify", "v"])["clean"], true);
}

#[test]
fn tables_are_for_people() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(3, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    let log = cli.ok(&["log", "v"]);
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].starts_with("revision  commit") && lines.len() == 2, "{log}");
    assert!(lines[1].contains("Z  ") && lines[1].contains("staged"), "{log}");
    let stat = cli.ok(&["volume", "stat", "v"]);
    for part in ["page size", "512", "pages", "3 (1.5 KiB)", "oldest readable", "staged"] {
        assert!(stat.contains(part), "{part} is missing in:\n{stat}");
    }
}

#[test]
fn completions_are_there_for_every_shell() {
    let cli = Cli::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = cli.ok(&["completions", shell]);
        assert!(script.contains("pagestore-cli") && script.contains("verify"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_news() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(4000, 1));
    cli.ok(&["import", "v", &image, "--page-size", "512"]);
    let mut child = cli
        .command(&["export", "v", "-"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(1));
}
