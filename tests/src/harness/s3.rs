//! What tests need to know of an S3 server, whatever its make.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer as _;
use pagestore::internal::blob::BlobStore;
use pagestore::internal::env::Env;

use super::http;

const REGION: &str = "us-east-1";

/// A bucket on a server on this machine.
#[derive(Clone, Debug)]
pub struct S3 {
    /// Where the server is, or a proxy in front of it.
    pub address: SocketAddr,
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
    /// A bucket that exists.
    pub bucket: String,
}

impl S3 {
    /// `s3://bucket/prefix`
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.bucket)
    }

    /// The variables by which a program finds the server.
    #[must_use]
    pub fn env(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", self.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key.clone()),
        ]
    }

    /// The same server by another way: a proxy's.
    #[must_use]
    pub fn through(&self, address: SocketAddr) -> S3 {
        S3 { address, ..self.clone() }
    }

    /// The bucket.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.client())
    }

    /// What a client of the server is made with, as from [`S3::env`].
    #[must_use]
    pub fn settings(&self) -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.address))
            .with_region(REGION)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .with_bucket_name(&self.bucket)
    }

    /// The blob tier at `prefix` of the bucket, connected as a program would.
    ///
    /// # Panics
    /// When the library does not take the URL.
    #[must_use]
    pub fn blobs(&self, prefix: &str) -> BlobStore {
        let url = self.url(prefix).parse().expect("a URL");
        BlobStore::connect_s3(&url, self.settings(), Env::system()).expect("a blob store")
    }

    fn client(&self) -> AmazonS3 {
        self.settings().with_allow_http(true).build().unwrap()
    }

    /// Makes the bucket. The object store library cannot, but it signs the request.
    pub(super) fn create_bucket(&self) {
        let signer = self.client();
        let sign = async {
            let method = "PUT".parse().unwrap();
            signer.signed_url(method, &Path::default(), Duration::from_secs(600)).await
        };
        let url = futures::executor::block_on(sign).unwrap();
        let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let answer = http::request("PUT", self.address, &target);
        match answer {
            Some((200, _)) => {}
            other => panic!("cannot make bucket {}: {other:?}", self.bucket),
        }
    }
}
