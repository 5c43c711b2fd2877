//! The meta tier on etcd: mapping only.
//!
//! Must never send a transaction twice, nor say that it surely had no effect when it may have had one.
//! Knows nothing of what a key means. Speaks to etcd 3.4 and later.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::env::Env;
use crate::meta::{
    KeyRange, LeaseId, MetaError, MetaResult, MetaStatus, MetaStore, Projection, RangeRequest,
    RangeResponse, Txn, TxnResponse, WatchStream,
};
use crate::types::Revision;

mod error;
mod members;
mod options;
mod request;
mod response;
mod watch;

pub use options::{CONNECT_TIMEOUT, EtcdOptions, EtcdTls, REQUEST_TIMEOUT};

use error::{Effect, unavailable};
use members::Members;
use request::{encode_range, encode_revision, encode_txn};
use response::{decode_count, decode_range, decode_txn, malformed};

/// The oldest release whose nested transactions, leases and watch cancellations are as needed.
const OLDEST_VERSION: (u64, u64) = (3, 4);

/// An etcd cluster.
#[derive(Debug)]
pub struct EtcdStore {
    members: Arc<Members>,
    owns_history: bool,
}

impl EtcdStore {
    /// Connects to a cluster, and checks that it answers and is of a release that will do.
    pub async fn connect(options: EtcdOptions, env: &Env) -> MetaResult<Arc<EtcdStore>> {
        let members = Arc::new(Members::new(&options, env).await?);
        members.confirm().await?;
        let store = EtcdStore { members, owns_history: options.owns_history };
        check_version(&store.status().await?.version)?;
        Ok(Arc::new(store))
    }

    async fn now(&self) -> MetaResult<Revision> {
        let any_key = RangeRequest::new(KeyRange::key("\0")).project(Projection::CountOnly);
        Ok(self.range(any_key).await?.revision)
    }
}

#[async_trait]
impl MetaStore for EtcdStore {
    async fn range(&self, request: RangeRequest) -> MetaResult<RangeResponse> {
        let answer = self
            .members
            .call(Effect::Repeatable, |connection| {
                let (start, options) = encode_range(&request);
                async move { connection.kv.clone().get(start, Some(options)).await }
            })
            .await?;
        self.members.check(answer.0.header.as_ref())?;
        decode_range(answer.0)
    }

    async fn txn(&self, txn: Txn) -> MetaResult<TxnResponse> {
        let answer = self
            .members
            .call(Effect::Once, |connection| {
                let encoded = encode_txn(&txn);
                async move { connection.kv.clone().txn(encoded).await }
            })
            .await?;
        // It happened, but who knows what, or where.
        let checked = self.members.check(answer.0.header.as_ref());
        checked
            .and_then(|()| decode_txn(answer.0))
            .map_err(|error| unavailable(error.to_string(), Effect::Once))
    }

    async fn watch(&self, keys: KeyRange, from: Revision) -> MetaResult<WatchStream> {
        watch::watch(&self.members, &keys, from).await
    }

    async fn lease_grant(&self, ttl: Duration) -> MetaResult<LeaseId> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let seconds = i64::try_from(seconds.max(1)).unwrap_or(i64::MAX);
        let answer = self
            .members
            .call(Effect::Once, |connection| async move {
                connection.lease.clone().grant(seconds, None).await
            })
            .await?;
        Ok(LeaseId(answer.id()))
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> MetaResult<Duration> {
        let seconds = self
            .members
            .call(Effect::Repeatable, |connection| async move {
                // The client keeps the first answer to itself, so a second is asked for.
                let (mut keeper, mut answers) =
                    connection.lease.clone().keep_alive(lease.0).await?;
                keeper.keep_alive().await?;
                Ok(answers.message().await?.map(|answer| answer.ttl()))
            })
            .await?;
        match seconds.map(decode_count).transpose()? {
            Some(0) => Err(MetaError::LeaseNotFound),
            Some(seconds) => Ok(Duration::from_secs(seconds)),
            None => Err(unavailable("keep-alive stream ended", Effect::Repeatable)),
        }
    }

    async fn lease_revoke(&self, lease: LeaseId) -> MetaResult<()> {
        self.members
            .call(Effect::Once, |connection| async move {
                connection.lease.clone().revoke(lease.0).await
            })
            .await?;
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> MetaResult<()> {
        self.members
            .call(Effect::Once, |connection| async move {
                connection.kv.clone().compact(encode_revision(revision), None).await
            })
            .await?;
        Ok(())
    }

    async fn status(&self) -> MetaResult<MetaStatus> {
        // The member asked may be behind; a linearizable read is not.
        let now = self.now().await?;
        let answer = self
            .members
            .call(Effect::Repeatable, |connection| async move {
                connection.maintenance.clone().status().await
            })
            .await?
            .0;
        let header = answer.header.ok_or_else(|| malformed("status without a header"))?;
        self.members.check(Some(&header))?;
        Ok(MetaStatus {
            revision: now,
            cluster_id: header.cluster_id,
            size_bytes: decode_count(answer.db_size)?,
            used_bytes: decode_count(answer.db_size_in_use)?,
            version: answer.version,
        })
    }

    fn owns_history(&self) -> bool {
        self.owns_history
    }
}

fn check_version(version: &str) -> MetaResult<()> {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
    let found = numbers.next().flatten().zip(numbers.next().flatten());
    if found.is_some_and(|found| found >= OLDEST_VERSION) {
        return Ok(());
    }
    let (major, minor) = OLDEST_VERSION;
    Err(MetaError::Refused(format!("etcd {major}.{minor} or later is needed; found {version:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_odd_versions_are_refused() {
        for good in ["3.4.0", "3.4.23", "3.10.1", "4.0.0", "3.6.0-rc.1"] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        for bad in ["3.3.27", "2.9.9", "", "three", "3"] {
            let error = check_version(bad).unwrap_err().to_string();
            assert!(error.contains("3.4 or later"), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_unavailable_and_surely_without_effect() {
        let env = Env::system();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut options = EtcdOptions::new([free.to_string()]);
        options.request_timeout = Duration::from_millis(200);
        let members = Arc::new(Members::new(&options, &env).await.unwrap());
        let store = EtcdStore { members, owns_history: false };
        let error = store.txn(Txn::default()).await.unwrap_err();
        assert!(matches!(error, MetaError::Unavailable { .. }), "{error:?}");
        assert!(!error.maybe_applied(), "{error:?}");
        assert!(EtcdStore::connect(options, &env).await.is_err());
    }
}
