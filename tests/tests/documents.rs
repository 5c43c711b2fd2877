//! The documents speak of what there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 4] = ["README.md", "TESTING.md", "CHANGELOG.md", "schema.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(document: &str) -> String {
    std::fs::read_to_string(root().join(document)).expect("a document of text")
}

/// Names of all functions and test programs in the workspace.
fn names() -> BTreeSet<String> {
    let members =
        ["pagestore", "compactor", "sqlite", "cli", "tests", "bench", "model", "fuzz", "sim"];
    let mut folders: Vec<PathBuf> = members.iter().map(|member| root().join(member)).collect();
    let mut names = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("a file").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let stem = path.file_stem().expect("a name").to_string_lossy();
                names.insert(stem.into_owned());
                let text = std::fs::read_to_string(&path).expect("a source of text");
                for part in text.split("fn ").skip(1) {
                    let end = part.find(|c: char| !c.is_alphanumeric() && c != '_');
                    names.insert(part.chars().take(end.unwrap_or(part.len())).collect());
                }
            }
        }
    }
    names
}

#[test]
fn every_test_that_is_named_exists() {
    let (names, text) = (names(), read("TESTING.md"));
    let is_name = |word: &str| {
        word.contains('_')
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let named: Vec<&str> =
        text.split('`').skip(1).step_by(2).filter(|word| is_name(word)).collect();
    assert!(named.len() > 50, "no tests are named");
    let missing: Vec<&&str> = named.iter().filter(|name| !names.contains(**name)).collect();
    assert!(missing.is_empty(), "TESTING.md names tests that do not exist: {missing:?}");
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = if file.is_empty() { document } else { file };
            assert!(root().join(target).exists(), "{document} links to {link}");
            if !anchor.is_empty() {
                let found =
                    read(target).lines().any(|line| anchor_of(line).as_deref() == Some(anchor));
                assert!(found, "{document} links to {link}, and there is no such chapter");
            }
        }
    }
}

/// The anchor that a heading gets.
fn anchor_of(line: &str) -> Option<String> {
    let heading = line.starts_with('#').then(|| line.trim_start_matches('#'))?;
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
    Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
}
