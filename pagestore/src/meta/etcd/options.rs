//! What it takes to reach an etcd.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::meta::{MetaError, MetaResult};

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take, retries included. A member without a leader answers after 7 s.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection with a watch or a call on it that has been silent for so long is asked for a sign of
/// life. etcd drops clients that ask more often than every 5 s.
const PING_AFTER: Duration = Duration::from_millis(5_500);
/// A connection that gives no sign of life for so long is given up.
const PING_TIMEOUT: Duration = Duration::from_millis(3_500);

/// How to reach an etcd cluster.
#[derive(Clone)]
pub struct EtcdOptions {
    /// `host:port`, or `http://host:port`, or `https://host:port`; any number of members.
    pub endpoints: Vec<String>,
    /// Speak TLS. Without it, `https` endpoints are checked against the system's roots.
    pub tls: Option<EtcdTls>,
    /// Name and password.
    pub user: Option<(String, String)>,
    /// How long a call may take, retries included.
    pub request_timeout: Duration,
    /// Nobody but pagestore uses this etcd, so its history may be compacted.
    pub owns_history: bool,
}

/// PEM files for TLS.
#[derive(Clone, Debug, Default)]
pub struct EtcdTls {
    /// The authority that signed the servers' certificates; the system's roots when absent.
    pub ca: Option<PathBuf>,
    /// The client's own certificate.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

impl EtcdOptions {
    /// The members at `endpoints`, without TLS or user.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> EtcdOptions {
        EtcdOptions {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            tls: None,
            user: None,
            request_timeout: REQUEST_TIMEOUT,
            owns_history: false,
        }
    }

    /// The client's settings; reads the PEM files.
    pub(super) async fn client_options(&self) -> MetaResult<ConnectOptions> {
        // Pings only while something is under way: etcd takes others for abuse.
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_AFTER, PING_TIMEOUT)
            .with_keep_alive_while_idle(false);
        if let Some((user, password)) = &self.user {
            // A call refused for its token did nothing, so it may be sent again with a new one.
            options = options.with_user(user, password).with_auto_token_refresh(true);
        }
        let secure = self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://"));
        if self.tls.is_some() || secure {
            options = options.with_tls(self.tls.clone().unwrap_or_default().load().await?);
        }
        Ok(options)
    }
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("tls", &self.tls)
            .field("user", &self.user.as_ref().map(|(user, _)| user))
            .field("request_timeout", &self.request_timeout)
            .field("owns_history", &self.owns_history)
            .finish()
    }
}

impl EtcdTls {
    async fn load(&self) -> MetaResult<TlsOptions> {
        let mut options = TlsOptions::new();
        options = match &self.ca {
            Some(ca) => options.ca_certificate(Certificate::from_pem(read_pem(ca).await?)),
            None => options.with_enabled_roots(),
        };
        match (&self.cert, &self.key) {
            (None, None) => Ok(options),
            (Some(cert), Some(key)) => {
                let (cert, key) = (read_pem(cert).await?, read_pem(key).await?);
                Ok(options.identity(Identity::from_pem(cert, key)))
            }
            _ => Err(MetaError::Denied(
                "a client certificate needs both its file and its key's file".to_owned(),
            )),
        }
    }
}

async fn read_pem(path: &Path) -> MetaResult<Vec<u8>> {
    tokio::fs::read(path)
        .await
        .map_err(|error| MetaError::Denied(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        let mut options = EtcdOptions::new(["127.0.0.1:1"]);
        options.user = Some(("root".to_owned(), "hunter2".to_owned()));
        let text = format!("{options:?}");
        assert!(text.contains("root") && !text.contains("hunter2"), "{text}");
    }

    #[tokio::test]
    async fn half_an_identity_and_a_missing_file_are_named() {
        let half = EtcdTls { cert: Some("cert.pem".into()), ..EtcdTls::default() };
        assert!(half.load().await.unwrap_err().to_string().contains("both"));
        let missing = EtcdTls { ca: Some("/nonexistent/ca.pem".into()), ..EtcdTls::default() };
        let error = missing.load().await.unwrap_err().to_string();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    }
}
