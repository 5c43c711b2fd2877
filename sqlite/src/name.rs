//! From a file name and its URI's options to a volume of a store. Pure.

use pagestore::Revision;

/// Whether writers wait for one another, or run side by side and may conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Writers {
    /// One write transaction at a time; the others are busy.
    #[default]
    Queue,
    /// All at once; who touched what another changed has to run again.
    Optimistic,
}

impl Writers {
    pub(crate) fn parse(text: &str) -> Result<Writers, String> {
        match text {
            "queue" => Ok(Writers::Queue),
            "optimistic" => Ok(Writers::Optimistic),
            other => Err(format!("writers is queue or optimistic, not {other}")),
        }
    }
}

/// What a connection opens, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) store: String,
    pub(crate) volume: String,
    pub(crate) writers: Writers,
    /// The past, read-only.
    pub(crate) at: Option<Revision>,
    /// Read transactions begin without asking the store.
    pub(crate) stale: bool,
    /// Whether this process compacts the store beside its own work.
    pub(crate) compacts: bool,
    /// What SQLite is told when it asks whether a write leaves its neighbours alone: it does.
    pub(crate) powersafe_overwrite: bool,
}

/// What holds where a file name says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defaults {
    pub(crate) store: Option<String>,
    pub(crate) writers: Writers,
    /// Names without options are paths of files, and their volumes are called like their full paths.
    pub(crate) plain_paths: bool,
}

/// Options that SQLite itself understands, and that change nothing here.
const SQLITES_OWN: [&str; 4] = ["vfs", "mode", "cache", "modeof"];

/// Longest name that SQLite may be given: the full name holds the store's URL.
pub(crate) const MAX_FULL_NAME: usize = 2048;

/// The volume and its options that `full`, a full name, and the options of its URI mean.
pub(crate) fn parse_target(
    full: &str,
    options: &[(String, String)],
    defaults: &Defaults,
) -> Result<Target, String> {
    let mut target = Target {
        store: String::new(),
        volume: volume_of(full)?,
        writers: defaults.writers,
        at: None,
        stale: false,
        compacts: true,
        powersafe_overwrite: true,
    };
    let mut store = None;
    for (key, value) in options {
        match key.as_str() {
            "store" => store = Some(value.clone()),
            "writers" => target.writers = Writers::parse(value)?,
            "at" => {
                let revision =
                    value.parse().map_err(|_| format!("at is a revision, not {value}"))?;
                target.at = Some(Revision(revision));
            }
            "stale" => target.stale = parse_switch(key, value)?,
            "compact" => target.compacts = parse_switch(key, value)?,
            "psow" => target.powersafe_overwrite = parse_switch(key, value)?,
            "nolock" | "immutable" if parse_switch(key, value)? => {
                return Err(format!(
                    "{key}=1 would keep SQLite from noticing others' commits; leave it out (at=REVISION opens the past)"
                ));
            }
            "nolock" | "immutable" => {}
            own if SQLITES_OWN.contains(&own) => {}
            unknown => {
                return Err(format!(
                    "the option means nothing here: {unknown}={value} (store, writers, at, stale and compact do)"
                ));
            }
        }
    }
    if target.at.is_some() && target.stale {
        return Err("at and stale exclude each other".into());
    }
    target.store = store.or_else(|| defaults.store.clone()).ok_or(
        "no store: add store=URL to the file's name (file:NAME?vfs=pagestore&store=URL), or set PAGESTORE_STORE",
    )?;
    Ok(target)
}

fn parse_switch(key: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Ok(true),
        "0" | "off" | "no" | "false" => Ok(false),
        _ => Err(format!("{key} is 0 or 1, not {value}")),
    }
}

/// The full name of `name`: what SQLite takes two connections for the same database by, so it has
/// everything in it that makes a difference between them.
pub(crate) fn full_name(
    name: &str,
    options: &[(String, String)],
    defaults: &Defaults,
    directory: &str,
) -> String {
    if is_path(options, defaults) {
        return absolute(name, directory);
    }
    let telling = ["at", "stale", "writers"];
    let mut parts: Vec<String> = options
        .iter()
        .filter(|(key, _)| telling.contains(&key.as_str()))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let store = options.iter().find(|(key, _)| key == "store").map(|(_, value)| value);
    if let Some(store) = store.or(defaults.store.as_ref()) {
        parts.push(format!("store={}", without_password(store)));
    }
    parts.sort_unstable();
    format!("{}?{}", name.replace('%', "%25").replace('?', "%3F"), parts.join("&"))
}

/// True when the name is to be taken for a path.
fn is_path(options: &[(String, String)], defaults: &Defaults) -> bool {
    defaults.plain_paths && !options.iter().any(|(key, _)| key == "store")
}

/// The volume that a full name means.
pub(crate) fn volume_of(full: &str) -> Result<String, String> {
    let volume = if full.starts_with('/') {
        full.replace('%', "%25").replace('/', "%2F")
    } else {
        let name = full.split_once('?').map_or(full, |(name, _)| name);
        name.replace("%3F", "?").replace("%25", "%")
    };
    if volume.is_empty() || volume.len() > 255 || volume.contains('/') {
        return Err(format!(
            "a volume's name is 1 to 255 bytes without '/': file:NAME?vfs=pagestore, not {full}"
        ));
    }
    Ok(volume)
}

/// `path` against `directory`, without `.`, `..` and doubled slashes.
pub(crate) fn absolute(path: &str, directory: &str) -> String {
    let joined =
        if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The URL as it may be shown: of two that differ in their passwords alone, a number tells them apart.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => {
            let mark = url.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            format!("{scheme}://{mark:016x}@{place}")
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn parse(full: &str, pairs: &[(&str, &str)]) -> Result<Target, String> {
        parse_target(full, &options(pairs), &Defaults::default())
    }

    #[test]
    fn options_say_what_is_opened() {
        let target = parse(
            "app?store=/s",
            &[
                ("vfs", "pagestore"),
                ("store", "/s"),
                ("at", "7"),
                ("writers", "optimistic"),
                ("psow", "FALSE"),
            ],
        );
        let target = target.unwrap();
        assert!(!target.powersafe_overwrite);
        assert_eq!((target.volume.as_str(), target.store.as_str()), ("app", "/s"));
        assert_eq!((target.at, target.writers), (Some(Revision(7)), Writers::Optimistic));
        let from_default = Defaults { store: Some("/d".into()), ..Defaults::default() };
        assert_eq!(parse_target("app?", &[], &from_default).unwrap().store, "/d");
    }

    #[test]
    fn what_means_nothing_is_refused_and_named() {
        for (pairs, word) in [
            (&[("store", "/s"), ("sync", "off")][..], "sync=off"),
            (&[("store", "/s"), ("writers", "many")], "many"),
            (&[("store", "/s"), ("at", "soon")], "soon"),
            (&[("store", "/s"), ("stale", "2")], "stale"),
            (&[("store", "/s"), ("nolock", "1")], "nolock"),
            (&[("store", "/s"), ("immutable", "1")], "immutable"),
            (&[("store", "/s"), ("stale", "1"), ("at", "7")], "exclude"),
            (&[], "PAGESTORE_STORE"),
        ] {
            let error = parse("app?", pairs).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(parse("a/b?", &[("store", "/s")]).unwrap_err().contains("a/b"));
        assert!(parse("?", &[("store", "/s")]).is_err());
    }

    #[test]
    fn a_full_name_tells_apart_what_differs_and_shows_no_password() {
        let full =
            |pairs: &[(&str, &str)]| full_name("a?%", &options(pairs), &Defaults::default(), "/");
        assert_eq!(full(&[("vfs", "pagestore"), ("store", "/s")]), "a%3F%25?store=/s");
        assert_ne!(full(&[("store", "/s")]), full(&[("store", "/t")]));
        assert_ne!(full(&[("store", "/s"), ("at", "7")]), full(&[("store", "/s"), ("at", "8")]));
        let (a, b) = (full(&[("store", "etcd://u:pw@h/r")]), full(&[("store", "etcd://u:px@h/r")]));
        assert!(!a.contains("pw") && a != b, "{a} {b}");
        assert_eq!(volume_of(&a).unwrap(), "a?%");
    }

    #[test]
    fn plain_names_are_paths_where_that_was_asked_for() {
        let defaults =
            Defaults { plain_paths: true, store: Some("/s".into()), ..Defaults::default() };
        let full = |name: &str| full_name(name, &[], &defaults, "/srv/dir");
        assert_eq!(full("test.db"), "/srv/dir/test.db");
        assert_eq!(full("./x/..//test.db"), "/srv/dir/test.db");
        assert_eq!(full("/../a%b"), "/a%b");
        assert_eq!(volume_of("/a%b/c").unwrap(), "%2Fa%25b%2Fc");
        assert!(volume_of(&format!("/{}", "x".repeat(254))).is_err());
        let explicit = options(&[("store", "/t")]);
        assert_eq!(full_name("a", &explicit, &defaults, "/w"), "a?store=/t");
    }
}
