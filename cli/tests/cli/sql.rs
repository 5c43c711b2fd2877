//! `sql`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use crate::harness::Cli;

#[test]
fn a_script_runs_on_a_volume_and_answers_in_tables_or_json() {
    let cli = Cli::new();
    let script = cli.file(
        "script.sql",
        b"create table t(a, b);\ninsert into t values(1, 'x'), (22, null); -- two rows\nselect * from t;",
    );
    let table = cli.ok(&["sql", "my db", &script]);
    assert_eq!(table, " a  b\n 1  x\n22  null\n");
    let mut command = cli.command(&["sql", "--json", "my db", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let query = "select sum(a) as s, x'0aff' as b from t; select count(*) from pagestore_log";
    child.stdin.take().unwrap().write_all(query.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0], json!({ "columns": ["s", "b"], "rows": [[23, "x'0aff'"]] }));
    assert_eq!(lines[1], json!({ "columns": ["count(*)"], "rows": [[2]] }));

    // The past, and a refusal to write to it.
    let log = cli.json(&["log", "my db"]);
    let first = log[1]["revision"].to_string();
    let count = cli.file("count.sql", b"select count(*) from t");
    assert_eq!(cli.ok(&["sql", "my db", &count, "--at", &first]), "count(*)\n       0\n");
    let wrong = cli.file("wrong.sql", b"insert into t values(3, 3)");
    assert!(cli.fails(&["sql", "my db", &wrong, "--at", &first], 2).contains("readonly"));
    assert!(cli.fails(&["sql", "my db", &wrong, "--read-only"], 2).contains("readonly"));
    let wrong = cli.file("wrong.sql", b"select 1; selec 2");
    assert!(cli.fails(&["sql", "my db", &wrong], 2).contains("selec"));
    assert!(cli.fails(&["sql", "none", &count, "--read-only"], 3).contains("unable to open"));
}
