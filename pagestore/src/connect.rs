//! From a URL to the two tiers: the only place that names a concrete backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::blob::BlobStore;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::meta::MetaStore;
use crate::meta::embedded::EmbeddedStore;
use crate::meta::etcd::{EtcdOptions, EtcdStore, EtcdTls};

/// A meta tier, a blob tier, and where in the meta tier the store is.
#[derive(Clone, Debug)]
pub struct Tiers {
    /// The meta tier.
    pub meta: Arc<dyn MetaStore>,
    /// The blob tier.
    pub blobs: BlobStore,
    /// What all keys of the store begin with.
    pub root: Bytes,
    /// True when both lie in one directory, which may be moved.
    pub local: bool,
}

/// Where a store is, taken from a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Location {
    Directory(PathBuf),
    Etcd {
        endpoints: Vec<String>,
        user: Option<(String, String)>,
        tls: Option<Tls>,
        root: String,
        blobs: String,
        shared: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tls {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// Connects to both tiers of the store at `url`; see [`crate::Store::open`].
///
/// # Errors
/// `Invalid` for a URL that makes no sense, `Unavailable` when a tier cannot be reached.
pub async fn connect(url: &str, env: &Env) -> Result<Tiers> {
    match parse(url)? {
        Location::Directory(path) => {
            let meta = open_embedded(path.join("meta"), env.clone()).await?;
            let path = path.canonicalize().unwrap_or(path);
            let blobs = BlobStore::connect(&file_url(&path.join("blobs"))?, env.clone()).await?;
            Ok(Tiers { meta, blobs, root: Bytes::new(), local: true })
        }
        Location::Etcd { endpoints, user, tls, root, blobs, shared } => {
            let mut options = EtcdOptions::new(endpoints);
            options.user = user;
            options.tls = tls.map(|tls| EtcdTls { ca: tls.ca, cert: tls.cert, key: tls.key });
            options.owns_history = !shared;
            let meta = EtcdStore::connect(options, env).await?;
            let blobs = BlobStore::connect(&blobs, env.clone()).await?;
            Ok(Tiers { meta, blobs, root: format!("{root}/").into(), local: false })
        }
    }
}

/// Opening waits for a turn among the processes on the directory, and for syncs.
async fn open_embedded(path: PathBuf, env: Env) -> Result<Arc<EmbeddedStore>> {
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&path, &env)).await;
    Ok(opened.map_err(|_| Error::unavailable("the runtime is shutting down"))??)
}

/// Fails when the URL is of a directory that holds no store.
///
/// # Errors
/// `NotFound`; `Invalid` for a URL that makes no sense.
pub fn check_directory(url: &str) -> Result<()> {
    match parse(url)? {
        Location::Directory(path) if !path.join("meta").is_dir() => Err(Error::not_found(format!(
            "there is no store in this place; importing or creating a volume makes one: {}",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn file_url(path: &Path) -> Result<String> {
    url::Url::from_file_path(path)
        .map(String::from)
        .map_err(|()| Error::invalid(format!("not a usable path: {}", path.display())))
}

fn parse(url: &str) -> Result<Location> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.split_once(':') {
            // Nobody means a directory of that name.
            Some(("etcd" | "etcds" | "file" | "s3", _)) => {
                Err(bad(url, "has no // after its scheme"))
            }
            _ if url.is_empty() => Err(bad(url, "is empty")),
            _ => Ok(Location::Directory(url.into())),
        };
    };
    match scheme {
        "file" => {
            let parsed = url::Url::parse(url).map_err(|error| bad(url, &error.to_string()))?;
            if parsed.query().is_some() {
                return Err(bad(url, "a directory takes no options"));
            }
            let path = parsed.to_file_path().map_err(|()| bad(url, "does not name a directory"))?;
            Ok(Location::Directory(path))
        }
        "etcd" => parse_etcd(url, rest, None),
        "etcds" => parse_etcd(url, rest, Some(Tls::default())),
        _ => Err(bad(url, "is neither a path nor file://, etcd:// or etcds://")),
    }
}

fn parse_etcd(url: &str, rest: &str, mut tls: Option<Tls>) -> Result<Location> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, root) = place.split_once('/').unwrap_or((place, ""));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        None => (None, authority),
    };
    let user = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        (decode(name), decode(password))
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoints: Vec<String> = hosts
        .split(',')
        .filter(|host| !host.is_empty())
        .map(|host| format!("{scheme}://{host}"))
        .collect();
    if endpoints.is_empty() {
        return Err(bad(url, "names no etcd: etcd://HOST:PORT[,HOST:PORT...]/ROOT?blobs=URL"));
    }
    let root = decode(root.trim_end_matches('/'));
    if root.is_empty() {
        return Err(bad(
            url,
            "names no root, which keeps stores on one etcd apart: etcd://HOST:PORT/ROOT?blobs=URL",
        ));
    }
    let (mut blobs, mut shared) = (None, false);
    for (option, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match (option.as_ref(), &mut tls) {
            ("blobs", _) => blobs = Some(value.into_owned()),
            ("history", _) if value == "shared" => shared = true,
            ("history", _) if value == "own" => shared = false,
            ("ca", Some(tls)) => tls.ca = Some(value.as_ref().into()),
            ("cert", Some(tls)) => tls.cert = Some(value.as_ref().into()),
            ("key", Some(tls)) => tls.key = Some(value.as_ref().into()),
            _ => {
                return Err(bad(
                    url,
                    &format!("has an option that means nothing here: {option}={value}"),
                ));
            }
        }
    }
    let blobs = blobs.ok_or_else(|| {
        bad(url, "does not say where the blobs are: add ?blobs=s3://BUCKET/PREFIX")
    })?;
    Ok(Location::Etcd { endpoints, user, tls, root, blobs, shared })
}

fn decode(part: &str) -> String {
    // Form encoding with '+' left alone: the only difference to percent encoding.
    url::form_urlencoded::parse(part.replace('+', "%2B").as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

fn bad(url: &str, why: &str) -> Error {
    // A password has no place in an error, nor has what might be one in a URL that is none.
    let shown = url.rsplit_once('@').map_or_else(
        || url.to_owned(),
        |(hidden, place)| match hidden.split_once("://") {
            Some((scheme @ ("etcd" | "etcds"), _)) => format!("{scheme}://...@{place}"),
            _ => format!("...@{place}"),
        },
    );
    Error::invalid(format!("the store's URL {why}: {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn etcd(url: &str) -> (Vec<String>, String, String) {
        match parse(url).unwrap() {
            Location::Etcd { endpoints, root, blobs, .. } => (endpoints, root, blobs),
            directory => panic!("{directory:?}"),
        }
    }

    #[test]
    fn a_url_that_lacks_its_slashes_is_no_path_and_shows_no_password() {
        for url in
            ["etcd:user:secret@host:2379/a", "etcd:/user:secret@host", "s3:pages/a", "file:x"]
        {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("no // after its scheme"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let error = parse("etdc://user:secret@host?blobs=s3://a/b").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn paths_and_file_urls_are_embedded() {
        assert_eq!(parse("data/db").unwrap(), Location::Directory("data/db".into()));
        assert_eq!(parse("file:///var/db").unwrap(), Location::Directory("/var/db".into()));
    }

    #[test]
    fn etcd_urls_name_members_root_and_blobs() {
        let (endpoints, root, blobs) = etcd("etcd://a:1,b:2/prod/main/?blobs=s3://bucket/prefix");
        assert_eq!(endpoints, ["http://a:1", "http://b:2"]);
        assert_eq!((root.as_str(), blobs.as_str()), ("prod/main", "s3://bucket/prefix"));
    }

    #[test]
    fn user_and_tls_are_understood() {
        let url = "etcds://me:p%40ss+w@a:1/r?blobs=file:///b&ca=/ca.pem&history=shared";
        let Location::Etcd { endpoints, user, tls, shared, .. } = parse(url).unwrap() else {
            panic!()
        };
        assert_eq!(endpoints, ["https://a:1"]);
        assert_eq!(user, Some(("me".into(), "p@ss+w".into())));
        assert_eq!(tls.unwrap().ca, Some("/ca.pem".into()));
        assert!(shared);
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_showing_the_password() {
        for url in [
            "",
            "http://a/b",
            "etcd:///root?blobs=memory:",
            "etcd://a:1/?blobs=memory:",
            "etcd://a:1/root",
            "etcd://a:1/root?blobs=memory:&ca=/x",
            "etcd://a:1/root?blobs=memory:&replicas=2",
            "file:///x?blobs=y",
        ] {
            assert_eq!(parse(url).unwrap_err().kind(), ErrorKind::Invalid, "{url}");
        }
        let error = parse("etcd://me:secret@a:1/root").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
