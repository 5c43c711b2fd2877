//! From a URL to a blob store: the one place of this tier that names concrete backends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use super::{BlobStore, RETRY_SPAN, WRITE_TIMEOUT};
use crate::env::Env;
use crate::error::{Error, Result};

/// A server that does not accept a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The S3 client's own repetitions; `RETRY_SPAN` bounds them too.
const CLIENT_RETRIES: usize = 20;
/// Longest pause between two of them: short, so that a server that came back is soon noticed.
const CLIENT_MAX_BACKOFF: Duration = Duration::from_secs(2);

impl BlobStore {
    /// Connects to the blob tier at `url`; asks nothing of it yet.
    ///
    /// - `file:///PATH`: a directory, which is created; writes are synced.
    /// - `s3://BUCKET/PREFIX`: credentials, region and endpoint come from the usual `AWS_...`
    ///   variables; plain HTTP is allowed when the endpoint says so.
    /// - `memory:`: in this process, a new and empty one with every call.
    ///
    /// # Errors
    /// `Invalid` when the URL is none of these, or the S3 configuration makes no sense;
    /// `Unavailable` when the directory cannot be made.
    pub async fn connect(url: &str, env: Env) -> Result<BlobStore> {
        let parsed = Url::parse(url).map_err(|error| invalid(url, &error.to_string()))?;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(invalid(url, "takes no options"));
        }
        match parsed.scheme() {
            "file" => directory(&parsed, env).await,
            "s3" => BlobStore::connect_s3(&parsed, AmazonS3Builder::from_env(), env),
            "memory" if url == "memory:" => {
                Ok(BlobStore::new(Arc::new(InMemory::new()), url.to_owned(), env))
            }
            _ => Err(invalid(url, "must be file:///PATH, s3://BUCKET/PREFIX or memory:")),
        }
    }

    /// As [`BlobStore::connect`] to `s3://BUCKET/PREFIX`, with `settings` in place of the variables.
    ///
    /// # Errors
    /// `Invalid` when the URL is of another form, or the settings make no sense.
    pub fn connect_s3(url: &Url, settings: AmazonS3Builder, env: Env) -> Result<BlobStore> {
        let bucket = url.host_str().filter(|bucket| !bucket.is_empty());
        let is_plain = url.username().is_empty() && url.port().is_none();
        let Some(bucket) = bucket.filter(|_| url.scheme() == "s3" && is_plain) else {
            return Err(invalid(url.as_str(), "must be s3://BUCKET/PREFIX"));
        };
        let store = s3_client(settings.with_bucket_name(bucket)).map_err(|error| {
            invalid(url.as_str(), "or the AWS_... variables make no sense").with_source(error)
        })?;
        let prefix = Path::from_url_path(url.path())
            .map_err(|error| invalid(url.as_str(), "has no usable prefix").with_source(error))?;
        let store: Arc<dyn ObjectStore> = if prefix.as_ref().is_empty() {
            Arc::new(store)
        } else {
            Arc::new(PrefixStore::new(store, prefix))
        };
        Ok(BlobStore::new(store, url.as_str().trim_end_matches('/'), env))
    }
}

fn invalid(url: &str, why: &str) -> Error {
    Error::invalid(format!("the URL of the blob store {why}: {url}"))
}

async fn directory(url: &Url, env: Env) -> Result<BlobStore> {
    let path = url
        .to_file_path()
        .map_err(|()| invalid(url.as_str(), "must name a local directory, as file:///PATH"))?;
    create_directory(&path).await.map_err(|error| {
        Error::unavailable(format!("the directory for blobs cannot be made: {}", path.display()))
            .with_source(error)
    })?;
    let store = LocalFileSystem::new_with_prefix(&path)
        .map_err(|error| invalid(url.as_str(), "is no usable directory").with_source(error))?
        .with_fsync(true);
    Ok(BlobStore::new(Arc::new(store), url.to_string(), env).in_directory(path))
}

/// Creates `path`, and syncs what holds it, so that the directory is there after a power loss.
async fn create_directory(path: &std::path::Path) -> std::io::Result<()> {
    let there = tokio::fs::try_exists(path).await?;
    tokio::fs::create_dir_all(path).await?;
    if let (false, Some(parent)) = (there, path.parent().map(PathBuf::from)) {
        tokio::fs::File::open(parent).await?.sync_all().await?;
    }
    Ok(())
}

fn s3_client(settings: AmazonS3Builder) -> object_store::Result<AmazonS3> {
    let config = |key| AmazonS3ConfigKey::Client(key);
    let mut builder = settings
        .with_config(config(ClientConfigKey::Timeout), seconds(WRITE_TIMEOUT))
        .with_config(config(ClientConfigKey::ConnectTimeout), seconds(CONNECT_TIMEOUT))
        .with_retry(RetryConfig {
            max_retries: CLIENT_RETRIES,
            retry_timeout: RETRY_SPAN,
            backoff: BackoffConfig { max_backoff: CLIENT_MAX_BACKOFF, ..BackoffConfig::default() },
        });
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
        .iter()
        .find_map(|key| builder.get_config_value(key));
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    builder.build()
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    async fn refused(url: &str) -> ErrorKind {
        BlobStore::connect(url, Env::seeded(1)).await.expect_err(url).kind()
    }

    #[tokio::test]
    async fn urls_of_no_known_form_are_refused() {
        for url in [
            "",
            "/tmp/x",
            "http://host/bucket",
            "memory://x",
            "s3:///prefix",
            "s3://user@bucket/x",
            "s3://bucket/x?region=y",
            "file://host/x",
        ] {
            assert_eq!(refused(url).await, ErrorKind::Invalid, "{url}");
        }
    }

    #[tokio::test]
    async fn a_directory_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b").join("c");
        let url = Url::from_file_path(&path).unwrap();
        BlobStore::connect(url.as_str(), Env::seeded(1)).await.unwrap();
        assert!(path.is_dir());
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_is_unavailable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let url = Url::from_file_path(file.path().join("x")).unwrap();
        assert_eq!(refused(url.as_str()).await, ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_bucket_is_not_asked_on_connecting() {
        let store = BlobStore::connect("s3://bucket/some/prefix/", Env::seeded(1)).await.unwrap();
        assert_eq!(store.place(), "s3://bucket/some/prefix");
    }
}
