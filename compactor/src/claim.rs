//! The claim on a volume: which of any number of compactors works on it.
//!
//! Owns the keys `ag` (the claim, under a lease kept alive here) and `aj` (the job, which outlives its
//! compactor). The claim's create revision is the fencing token: every publication compares it, so
//! that a compactor which stalled and lost its lease can no longer change anything. A job's create
//! revision fences single publications: once the key is deleted, a publication of that job that is
//! still on its way cannot apply.

use std::time::Duration;

use tokio::sync::watch;

use pagestore::Error;
use pagestore::internal::env::Task;
use pagestore::internal::meta::records::{self, Job, Record};
use pagestore::internal::meta::{
    Compare, KeyRange, LeaseId, MetaError, MetaResult, Op, RangeRequest, Txn, TxnResponse,
};
use pagestore::internal::types::Revision;

use crate::interrupt::{Interrupt, Work};
use crate::volume::Volume;

/// How long a compactor that fell silent keeps others away.
const TTL: Duration = Duration::from_secs(10);
/// How often the lease is kept alive: twice may fail before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Tries to end a job. If all fail the claim is given back, and the next holder ends it.
const MAX_ENDS: u32 = 3;
/// Pause after the first failed one; each further one is four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The right to publish changes to a volume's files, for as long as the lease lives.
#[derive(Debug)]
pub(crate) struct Claim {
    volume: Volume,
    lease: LeaseId,
    token: Revision,
    lost: watch::Receiver<bool>,
    _keeper: Task,
}

/// A job in the meta tier; publications compare that it is still there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobToken(Revision);

impl Claim {
    /// Takes the claim, unless another compactor has it.
    pub(crate) async fn take(volume: &Volume, owner: &str) -> Work<Option<Claim>> {
        let key = volume.keys.claim();
        if !get(volume, key.clone()).await?.kvs.is_empty() {
            return Ok(None);
        }
        let lease = volume.meta.lease_grant(TTL).await?;
        let value = records::Claim { owner: owner.to_owned() }.encode(volume.keys.suffix(&key));
        let put = Txn {
            compares: vec![Compare::absent(key.clone())],
            then: vec![Op::Put { key: key.clone(), value, lease }],
            or_else: vec![],
        };
        let token = match volume.meta.txn(put).await {
            Ok(response) => response.succeeded.then_some(response.revision),
            Err(error) if error.maybe_applied() => {
                let found = get(volume, key).await?.kvs.into_iter().next();
                found.filter(|kv| kv.lease == lease).map(|kv| kv.create_revision)
            }
            Err(error) => return Err(error.into()),
        };
        let Some(token) = token else {
            // A put still on its way cannot apply once its lease is gone.
            revoke(volume, lease).await;
            return Ok(None);
        };
        let (sender, lost) = watch::channel(false);
        let keeper = volume.env.spawn(keep(volume.clone(), lease, sender));
        tracing::debug!(volume = %volume.id(), token = token.0, "claimed");
        Ok(Some(Claim { volume: volume.clone(), lease, token, lost, _keeper: keeper }))
    }

    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The lease that intents of this compactor are put under.
    pub(crate) fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Holds for as long as nobody else has had the claim.
    pub(crate) fn compare(&self) -> Compare {
        if planted!(PublicationUncompared) {
            // Holds for every claim, and for none.
            return Compare::unchanged_since(
                KeyRange::key(self.volume.keys.claim()),
                Revision::MAX,
            );
        }
        Compare::created(self.volume.keys.claim(), self.token)
    }

    /// Comes to an end when the lease may have ended.
    pub(crate) async fn lost(&self) {
        let mut lost = self.lost.clone();
        // An error says that the keeper is gone, and with it the lease.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Runs `then` under the claim and further `compares`.
    pub(crate) async fn txn(&self, compares: Vec<Compare>, then: Vec<Op>) -> Work<TxnResponse> {
        let mut compares = compares;
        compares.push(self.compare());
        let or_else = vec![Op::get(self.volume.keys.claim())];
        let response = self.volume.meta.txn(Txn { compares, then, or_else }).await?;
        if response.succeeded || self.is_held(&response) {
            Ok(response)
        } else {
            Err(Interrupt::ClaimLost)
        }
    }

    /// True when a transaction's else branch found the claim to be this one.
    fn is_held(&self, response: &TxnResponse) -> bool {
        response.responses.iter().any(|response| {
            let pagestore::internal::meta::OpResponse::Range(found) = response else {
                return false;
            };
            found
                .kvs
                .iter()
                .any(|kv| kv.key == self.volume.keys.claim() && kv.create_revision == self.token)
        })
    }

    /// What a failure means: to a compactor that lost its claim without noticing, what its successor did
    /// looks like damage.
    pub(crate) async fn explain(&self, error: Error) -> Interrupt {
        match self.txn(vec![], vec![]).await {
            Err(Interrupt::ClaimLost) => {
                let id = self.volume.id();
                tracing::debug!(volume = %id, %error, "failed after the claim was lost");
                Interrupt::ClaimLost
            }
            _ => Interrupt::Failed(error),
        }
    }

    /// Writes down what is about to be done. There must be no job.
    pub(crate) async fn begin(&self, job: &Job) -> Work<JobToken> {
        let key = self.volume.keys.job();
        let put = job.put(&self.volume.keys, key.clone());
        let absent = Compare::absent(key.clone());
        match self.txn(vec![absent], vec![put]).await {
            Ok(response) if response.succeeded => Ok(JobToken(response.revision)),
            Ok(_) => Err(Interrupt::Overtaken),
            Err(interrupt) => Err(interrupt),
        }
    }

    /// Holds for as long as the job has not been ended.
    pub(crate) fn compare_job(&self, job: JobToken) -> Compare {
        Compare::created(self.volume.keys.job(), job.0)
    }

    /// Ends the job: publications of it that are on their way cannot apply any more.
    pub(crate) async fn end(&self) -> Work<()> {
        let (mut tries, mut pause) = (1, FIRST_PAUSE);
        loop {
            let delete = vec![Op::delete(self.volume.keys.job())];
            match self.txn(vec![], delete).await {
                Err(Interrupt::Failed(_)) if tries < MAX_ENDS => {
                    self.volume.env.sleep(pause).await;
                    (tries, pause) = (tries + 1, pause * 4);
                }
                result => return result.map(|_| ()),
            }
        }
    }

    /// What the compactor before left undone.
    pub(crate) async fn leftover(&self) -> Work<Option<Job>> {
        let found = get(&self.volume, self.volume.keys.job()).await?;
        let job = found.kvs.first().map(|kv| Job::of(&self.volume.keys, kv)).transpose()?;
        Ok(job)
    }

    /// Gives the claim back, and with it all intents under its lease.
    pub(crate) async fn release(self) {
        revoke(&self.volume, self.lease).await;
    }
}

async fn get(
    volume: &Volume,
    key: bytes::Bytes,
) -> MetaResult<pagestore::internal::meta::RangeResponse> {
    volume.meta.range(RangeRequest::new(KeyRange::key(key))).await
}

async fn revoke(volume: &Volume, lease: LeaseId) {
    if let Err(error) = volume.meta.lease_revoke(lease).await {
        tracing::debug!(volume = %volume.id(), %error, "a claim's lease was left to run out");
    }
}

/// Keeps the lease alive; says so when it may have ended.
async fn keep(volume: Volume, lease: LeaseId, lost: watch::Sender<bool>) {
    let mut sure_until = volume.env.now() + TTL;
    loop {
        volume.env.sleep(KEEP_ALIVE).await;
        let asked = volume.env.now();
        match volume.meta.lease_keep_alive(lease).await {
            Ok(_) => sure_until = asked + TTL,
            Err(MetaError::LeaseNotFound) => break,
            Err(error) => {
                tracing::debug!(volume = %volume.id(), %error, "the claim's lease was not renewed");
                if volume.env.now() >= sure_until {
                    break;
                }
            }
        }
    }
    tracing::warn!(volume = %volume.id(), "the claim's lease was lost");
    lost.send_replace(true);
}
