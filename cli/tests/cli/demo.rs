use crate::harness::{Cli, pages};

#[test]
fn the_demo_holds_on_a_database_of_its_own() {
    let cli = Cli::new();
    let text = {
        let output = cli.command(&["demo"]).env_remove("PAGESTORE_STORE").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text.contains("made with sqlite3"), "{text}");
    assert!(text.contains("[held]") && !text.contains("[FAILED]"), "{text}");
    assert!(text.contains("commits a second"), "{text}");
}

#[test]
fn the_demo_holds_on_a_given_image_and_store() {
    let cli = Cli::new();
    let image = cli.file("image", &pages(900, 1)[..4096 * 100]);
    let summary = cli.json(&["demo", &image]);
    assert_eq!(summary["held"], true, "{summary}");
    assert_eq!(summary["figures"]["commits"], 600);
    let volumes = cli.json(&["volume", "list"]);
    assert_eq!(volumes[0]["name"], summary["volume"]);
}

#[test]
fn the_demo_refuses_what_an_import_refuses() {
    let cli = Cli::new();
    let odd = cli.file("odd", b"no page");
    assert!(cli.fails(&["demo", &odd], 2).contains("no multiple"));
}
