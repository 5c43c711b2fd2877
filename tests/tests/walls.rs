//! The walls between modules stand: what each may use of ours, and what it must never touch.
//!
//! Reads the sources: `use` declarations, and paths that begin with `crate`, `super` or `pagestore`
//! anywhere else. Tests and what only tests use may look over every wall.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What the modules below `module` may use of their own crate, besides themselves.
struct Wall {
    module: &'static str,
    may_use: &'static [&'static str],
}

const fn wall(module: &'static str, may_use: &'static [&'static str]) -> Wall {
    Wall { module, may_use }
}

/// Every module of `pagestore`, from the bottom up; the first row that fits a module holds. A name
/// covers what is below it, `meta::*` only what stands in `meta` itself.
const PAGESTORE: &[Wall] = &[
    wall("types", &[]),
    wall("wire", &[]),
    wall("fault", &[]),
    wall("env", &["types"]),
    wall("error", &["types"]),
    // Pure: formats, and what they mean.
    wall("codec", &["error", "types", "wire"]),
    wall("file", &["error", "meta::keys", "types", "wire"]),
    wall("levels", &["error", "file", "types"]),
    wall("meta::keys", &["meta::*", "types"]),
    wall("meta::records", &["error", "meta::*", "meta::keys", "types", "wire"]),
    wall("meta::txn", &["meta::*", "meta::keys", "meta::records", "types"]),
    // Backends know nothing of what a key means.
    wall("meta::etcd", &["env", "meta::*", "types"]),
    wall("meta::embedded", &["env", "meta::*", "types", "wire"]),
    wall("meta", &["error", "types"]),
    wall("blob", &["env", "error", "types"]),
    // Reading.
    wall("cache", &["env", "error", "file", "types"]),
    wall("fetch", &["blob", "cache", "env", "error", "file", "meta::records", "types"]),
    wall("mirror", &["env", "error", "file", "levels", META, "types"]),
    wall("session", &["env", "error", META, "mirror", "types"]),
    wall(
        "snapshot",
        &[
            "cache", "codec", "commit", "env", "error", "fetch", "file", "levels", META, "mirror",
            "session", "types",
        ],
    ),
    // Writing.
    wall(
        "commit",
        &[
            "blob", "codec", "env", "error", "file", "lock", META, "mirror", "session", "snapshot",
            "types",
        ],
    ),
    wall("lock", &["env", "error", META, "snapshot", "types"]),
    // Doors.
    wall("config", &["cache", "commit"]),
    wall("volume", &["commit", "error", META, "mirror", "snapshot", "types"]),
    // The only place that names a concrete backend.
    wall("connect", &["blob", "env", "error", "meta::*", "meta::embedded", "meta::etcd", "types"]),
    wall(
        "store",
        &[
            "blob", "cache", "commit", "config", "connect", "env", "error", "fetch", "lock", META,
            "mirror", "session", "snapshot", "types", "volume",
        ],
    ),
    wall("restore", &["blob", "connect", "env", "error", META, "mirror", "types"]),
    // On top of the front door, as users are: nothing above is built on these.
    wall(
        "inspect",
        &[
            "blob", "cache", "codec", "commit", "env", "error", "fetch", "file", "levels", META,
            "mirror", "snapshot", "store", "types", "volume",
        ],
    ),
    wall(
        "blocking",
        &[
            "commit",
            "config",
            "error",
            "snapshot",
            "store",
            "types",
            "volume",
            "Snapshot",
            "Store",
            "Transaction",
            "Volume",
            "begin_all",
            "commit_all",
        ],
    ),
];

/// The meta tier without its backends.
const META: &str = "meta without backends";
const META_PARTS: [&str; 4] = ["meta::*", "meta::keys", "meta::records", "meta::txn"];

/// Modules that do no I/O, know no clock and never wait.
const PURE: &[&str] = &[
    "types",
    "wire",
    "error",
    "codec",
    "file",
    "levels",
    "meta::keys",
    "meta::records",
    "meta::txn",
];

/// What pure code never mentions.
const IMPURE: &[&str] = &[
    "async ",
    ".await",
    "async_trait",
    "etcd_client",
    "futures::",
    "heed::",
    "object_store::",
    "std::env",
    "std::fs",
    "std::net",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio::",
    "tracing::",
];

/// What only `env` may do.
const OUTSIDE_WORLD: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "env::var",
    "getrandom",
    "rand::",
    "thread::sleep",
    "thread::spawn",
    "time::sleep",
    "time::timeout",
    "tokio::spawn",
    "Uuid::new_v",
];

/// A source file without its comments and tests.
struct Source {
    path: PathBuf,
    module: String,
    code: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The sources of a crate.
fn sources(member: &str) -> Vec<Source> {
    let src = root().join(member).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![src.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("a source").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(&src).expect("a path below the sources");
            let module = relative.with_extension("").to_string_lossy().replace('/', "::");
            let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
            let text = std::fs::read_to_string(&path).expect("a source of text");
            found.push(Source { path, module, code: code_of(&text) });
        }
    }
    let for_tests = test_modules(&found);
    found.retain(|source| !for_tests.iter().any(|module| is_below(&source.module, module)));
    assert!(found.len() > 1, "no sources of {member}");
    found
}

/// Leaves out comments and test modules that stand in the file; keeps declarations of others.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or_default();
        if line == "#[cfg(test)]" && next.contains("mod ") && next.ends_with('{') {
            break;
        }
        if !line.trim_start().starts_with("//") {
            writeln!(code, "{line}").expect("BUG: writing to memory failed");
        }
    }
    code
}

/// Modules in files of their own that exist for tests only.
fn test_modules(sources: &[Source]) -> Vec<String> {
    let mut modules = Vec::new();
    for source in sources {
        let lines: Vec<&str> = source.code.lines().collect();
        for (attribute, declaration) in lines.iter().zip(lines.iter().skip(1)) {
            let name = declaration.strip_suffix(';').and_then(|line| line.split("mod ").nth(1));
            if let (&"#[cfg(test)]", Some(name)) = (attribute, name) {
                modules.push(join(&source.module, name));
            }
        }
    }
    modules
}

fn join(module: &str, name: &str) -> String {
    if ["lib", "main"].contains(&module) { name.to_owned() } else { format!("{module}::{name}") }
}

fn is_below(module: &str, ancestor: &str) -> bool {
    module == ancestor || module.strip_prefix(ancestor).is_some_and(|below| below.starts_with("::"))
}

/// All paths in `source` that begin with `begin::`, groups in braces taken apart, without it.
fn paths(source: &Source, begin: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let begin = format!("{begin}::");
    for (at, _) in source.code.match_indices(&begin) {
        let before = source.code[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '"') {
            expand("", &source.code[at + begin.len()..], &mut found);
        }
    }
    found
}

/// Reads one path, or a group of them, from the start of `text`; returns what follows.
fn expand<'a>(prefix: &str, text: &'a str, found: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(prefix, rest, found).trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            assert!(!rest.is_empty(), "a group of imports does not end");
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        // A glob.
        found.insert(prefix.trim_end_matches("::").to_owned());
        return rest.strip_prefix('*').unwrap_or(rest);
    }
    if let Some(after) = rest.strip_prefix("::") {
        return expand(&format!("{prefix}{name}::"), after, found);
    }
    let path = format!("{prefix}{name}");
    found.insert(path.strip_suffix("::self").map_or(path.clone(), str::to_owned));
    // `self as other`, `Name as Other`
    match rest.trim_start().strip_prefix("as ") {
        Some(after) => {
            after.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
        }
        None => rest,
    }
}

/// The paths within the crate that `source` uses, from the crate's root.
fn used(source: &Source) -> BTreeSet<String> {
    let mut used = paths(source, "crate");
    let mut ups = "super".to_owned();
    let mut module = source.module.as_str();
    loop {
        let relative = paths(source, &ups);
        if relative.is_empty() {
            return used;
        }
        module = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        for path in relative.iter().filter(|path| !path.starts_with("super")) {
            used.insert(if module.is_empty() { path.clone() } else { format!("{module}::{path}") });
        }
        ups.push_str("::super");
    }
}

/// True when `path` is the module that `allowed` names, or is in it.
fn is_allowed(path: &str, allowed: &str) -> bool {
    if allowed == META {
        return META_PARTS.iter().any(|part| is_allowed(path, part));
    }
    match allowed.strip_suffix("::*") {
        None => is_below(path, allowed),
        Some(module) => {
            let below = path.strip_prefix(module).and_then(|rest| rest.strip_prefix("::"));
            // What begins with a capital, or is a module's private part named by itself.
            path == module || below.is_some_and(|name| name.starts_with(|c: char| c.is_uppercase()))
        }
    }
}

fn breaches(source: &Source, wall: &Wall) -> Vec<String> {
    let fits = |path: &String| {
        is_below(path, wall.module) || wall.may_use.iter().any(|allowed| is_allowed(path, allowed))
    };
    used(source).into_iter().filter(|path| !fits(path)).collect()
}

/// Fails with all of `complaints`, one a line.
fn settle(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_module_uses_only_what_it_may() {
    let mut complaints = Vec::new();
    for source in sources("pagestore").iter().filter(|source| source.module != "lib") {
        let wall = PAGESTORE.iter().find(|wall| is_below(&source.module, wall.module));
        let Some(wall) = wall else {
            complaints.push(format!("{}: no wall says what it may use", source.path.display()));
            continue;
        };
        for path in breaches(source, wall) {
            complaints.push(format!("{} uses crate::{path}", source.path.display()));
        }
    }
    settle(&complaints);
}

#[test]
fn pure_modules_do_no_io_and_never_wait() {
    let mut complaints = Vec::new();
    for source in sources("pagestore") {
        if !PURE.iter().any(|module| is_below(&source.module, module)) {
            continue;
        }
        for word in IMPURE.iter().filter(|word| source.code.contains(*word)) {
            complaints.push(format!("{} has {word:?}", source.path.display()));
        }
    }
    settle(&complaints);
}

#[test]
fn only_the_environment_has_a_clock_and_randomness() {
    let mut complaints = Vec::new();
    for source in ["pagestore", "compactor"].into_iter().flat_map(sources) {
        if source.module == "env" || source.module == "main" {
            continue;
        }
        for word in OUTSIDE_WORLD.iter().filter(|word| source.code.contains(*word)) {
            complaints.push(format!("{} has {word:?}", source.path.display()));
        }
    }
    settle(&complaints);
}

#[test]
fn what_a_task_does_first_is_not_left_to_chance() {
    let mut complaints = Vec::new();
    for source in ["pagestore", "compactor"].into_iter().flat_map(sources) {
        let selects = source.code.split("select! {").skip(1);
        // A simulation runs what a seed says; tokio would draw lots.
        if source.module != "main"
            && !selects.clone().all(|body| body.trim_start().starts_with("biased;"))
        {
            complaints.push(format!("{} has a select! that is not biased", source.path.display()));
        }
    }
    settle(&complaints);
}

#[test]
fn the_compactor_reads_and_writes_no_volume_by_the_front_door() {
    let doors = [
        "Snapshot",
        "Store",
        "Transaction",
        "Volume",
        "begin_all",
        "blocking",
        "commit_all",
        "inspect",
    ];
    let mut complaints = Vec::new();
    for source in sources("compactor") {
        // Where its host hands over a store, and the sidecar's host, which is itself.
        let hosts = ["main", "tiers"].contains(&source.module.as_str());
        let mut used = paths(&source, "pagestore");
        used.retain(|path| doors.iter().any(|door| is_below(path, door)));
        for path in used.iter().filter(|path| !(hosts && is_below(path, "Store"))) {
            complaints.push(format!("{} uses pagestore::{path}", source.path.display()));
        }
    }
    settle(&complaints);
}

#[test]
fn the_tool_uses_the_doors_that_users_have() {
    let mut complaints = Vec::new();
    for source in sources("cli") {
        let used = paths(&source, "pagestore");
        for path in used.iter().filter(|path| is_below(path, "internal")) {
            complaints.push(format!("{} uses pagestore::{path}", source.path.display()));
        }
    }
    settle(&complaints);
}

#[test]
fn the_libraries_do_not_depend_on_what_is_built_on_them() {
    let manifest = |member: &str| {
        std::fs::read_to_string(root().join(member).join("Cargo.toml")).expect("a manifest")
    };
    assert!(!manifest("pagestore").contains("pagestore-compactor"));
    assert!(!manifest("compactor").contains("pagestore-cli"));
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let source = Source {
        path: PathBuf::new(),
        module: "file::writer::area".into(),
        code: "use crate::meta::{self, keys::{A, B as C}, Op};\nuse super::super::frame::*;\n\
               fn f() { crate::mirror::load(super::x::Y); not_crate::z(); }\n"
            .into(),
    };
    let used: Vec<String> = used(&source).into_iter().collect();
    assert_eq!(
        used,
        [
            "file::frame",
            "file::writer::x::Y",
            "meta",
            "meta::Op",
            "meta::keys::A",
            "meta::keys::B",
            "mirror::load"
        ]
    );
    assert!(is_allowed("meta::Op", META) && is_allowed("meta::keys::A", META));
    assert!(!is_allowed("meta::etcd::EtcdStore", META) && !is_allowed("meta::etcd", META));
}
