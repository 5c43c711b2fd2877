//! The members of a cluster and which of them is talked to.
//!
//! One member is talked to at a time, until it fails; then the next. A call is sent again only when
//! that is harmless, or when the one before surely never left.
//!
//! After a failure somebody else may listen there: an etcd that was restored from a backup forgets
//! revisions and gives them again, so what this process knows would be held against another history. No
//! call with an effect is sent before the cluster's id is seen to be the one that was connected to. Whoever
//! watches hears of a failure at once, long before an etcd is restored.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use etcd_client::proto::PbResponseHeader;
use etcd_client::{
    Client, ConnectOptions, GetOptions, KvClient, LeaseClient, MaintenanceClient, WatchClient,
};
use tokio::sync::OnceCell;

use super::error::{Effect, decode_error, unavailable};
use super::options::EtcdOptions;
use super::response::malformed;
use crate::env::Env;
use crate::meta::{MetaError, MetaResult};

/// Largest answer to a call. Ranges are asked for in chunks far below it; etcd itself has no limit.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Largest request that is sent at all. etcd's own limit is far below, but may have been raised.
const MAX_SENT_BYTES: usize = 64 << 20;
/// Largest watch message: etcd sends up to 1,000 revisions at once to a watch that is behind.
const MAX_WATCH_BYTES: usize = 1_000 * crate::meta::MAX_REQUEST_BYTES;
/// First pause before a call is sent again; doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(25);
/// Longest pause. Short beside an election, which takes a second by default.
const MAX_PAUSE: Duration = Duration::from_millis(400);
/// Most sendings of one call, were all to fail at once.
const MAX_ATTEMPTS: u32 = 64;
/// A call with an effect looks for a member that can be reached so many times around.
const MAX_ROUNDS_ONCE: usize = 2;
/// So many members get a share of a call's time; more would leave each too little.
const MAX_SHARES: usize = 3;

/// Connections to one member. Made when first used; they mend themselves.
pub(super) struct Connection {
    /// Whose.
    pub(super) member: usize,
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) maintenance: MaintenanceClient,
    /// A connection of its own, so that a watch nobody reads from holds up no call. It asks for a
    /// member with a leader: one cut off from the others ends its watches.
    pub(super) watch: WatchClient,
    watcher: Client,
    has_user: bool,
}

impl Connection {
    async fn open(member: usize, members: &Members) -> MetaResult<Arc<Self>> {
        let (endpoint, options) = (members.endpoint(member), &members.options);
        let decode = |error| decode_error(&error, Effect::Repeatable);
        let calls = Client::connect([endpoint], Some(options.clone())).await.map_err(decode)?;
        let options = options.clone().with_require_leader(true);
        let watcher = Client::connect([endpoint], Some(options)).await.map_err(decode)?;
        Ok(Arc::new(Connection {
            member,
            kv: calls
                .kv_client()
                .max_decoding_message_size(MAX_ANSWER_BYTES)
                .max_encoding_message_size(MAX_SENT_BYTES),
            lease: calls.lease_client(),
            maintenance: calls.maintenance_client(),
            watch: watcher.watch_client().max_decoding_message_size(MAX_WATCH_BYTES),
            watcher,
            has_user: members.has_user,
        }))
    }

    /// Makes the token of the watch connection new: watches are rare, tokens expire in minutes, and
    /// a stale one cannot be told from a missing permission.
    pub(super) async fn refresh_watch_token(&self) -> Result<(), etcd_client::Error> {
        if self.has_user { self.watcher.refresh_token().await } else { Ok(()) }
    }
}

struct Member {
    endpoint: String,
    connection: OnceCell<Arc<Connection>>,
}

/// All members, and the one in use.
pub(super) struct Members {
    members: Vec<Member>,
    current: AtomicUsize,
    /// The cluster that was connected to.
    cluster: OnceLock<u64>,
    /// False after a failure, until the cluster is seen to be the same.
    is_confirmed: AtomicBool,
    options: ConnectOptions,
    has_user: bool,
    timeout: Duration,
    env: Env,
}

impl Members {
    pub(super) async fn new(options: &EtcdOptions, env: &Env) -> MetaResult<Members> {
        if options.endpoints.is_empty() {
            return Err(MetaError::Refused("no etcd endpoint given".to_owned()));
        }
        let members: Vec<Member> = options
            .endpoints
            .iter()
            .map(|endpoint| Member { endpoint: endpoint.clone(), connection: OnceCell::new() })
            .collect();
        // Many processes spread over the members.
        let start = env.random_u64() % u64::try_from(members.len()).unwrap_or(u64::MAX);
        Ok(Members {
            members,
            current: AtomicUsize::new(usize::try_from(start).unwrap_or(0)),
            cluster: OnceLock::new(),
            is_confirmed: AtomicBool::new(false),
            options: options.client_options().await?,
            has_user: options.user.is_some(),
            timeout: options.request_timeout,
            env: env.clone(),
        })
    }

    /// Runs `send` on the member in use within the time a call may take, and on others when it fails
    /// and `effect` allows.
    ///
    /// # Errors
    /// `Refused` before it is sent when that would have an effect on another cluster.
    pub(super) async fn call<T, F>(
        &self,
        effect: Effect,
        send: impl Fn(Arc<Connection>) -> F,
    ) -> MetaResult<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        if effect == Effect::Once && !self.is_confirmed.load(Ordering::Relaxed) {
            self.confirm().await?;
        }
        self.try_members(effect, send).await
    }

    /// Asks whose cluster it is.
    pub(super) async fn confirm(&self) -> MetaResult<()> {
        let answer = self
            .try_members(Effect::Repeatable, |connection| async move {
                let options = GetOptions::new().with_count_only();
                connection.kv.clone().get("\0", Some(options)).await
            })
            .await?;
        self.check(answer.0.header.as_ref())?;
        self.is_confirmed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Sees to it that an answer came from the cluster that was connected to.
    pub(super) fn check(&self, header: Option<&PbResponseHeader>) -> MetaResult<()> {
        let found = header.ok_or_else(|| malformed("response without a header"))?.cluster_id;
        let own = *self.cluster.get_or_init(|| found);
        if own == found {
            return Ok(());
        }
        self.is_confirmed.store(false, Ordering::Relaxed);
        Err(MetaError::Refused(format!(
            "this etcd is not the one that this process connected to: it was restored from a backup, or rebuilt; open \
             the store again (cluster {found:016x}, connected to {own:016x})"
        )))
    }

    async fn try_members<T, F>(
        &self,
        effect: Effect,
        send: impl Fn(Arc<Connection>) -> F,
    ) -> MetaResult<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = self.env.now() + self.timeout;
        let rounds = match effect {
            Effect::Repeatable => usize::MAX,
            Effect::Once => MAX_ROUNDS_ONCE,
        };
        let mut pause = MIN_PAUSE;
        for attempt in 1..=MAX_ATTEMPTS {
            let left = deadline.saturating_duration_since(self.env.now());
            let index = self.current();
            let error = match self.send_to(index, self.share_of(left, effect), effect, &send).await
            {
                Ok(answer) => return Ok(answer),
                Err(error @ MetaError::Unavailable { .. }) => error,
                Err(error) => return Err(error),
            };
            tracing::debug!(%error, attempt, endpoint = self.endpoint(index), "etcd call failed");
            self.leave(index);
            let sent = usize::try_from(attempt).unwrap_or(usize::MAX);
            let rounds_over = sent / self.members.len() >= rounds;
            if error.maybe_applied() || rounds_over || attempt == MAX_ATTEMPTS {
                return Err(error);
            }
            if sent.is_multiple_of(self.members.len()) {
                let jittered = self.env.jittered(pause);
                if self.env.now() + jittered >= deadline {
                    return Err(error);
                }
                self.env.sleep(jittered).await;
                pause = (pause * 2).min(MAX_PAUSE);
            } else if self.env.now() >= deadline {
                return Err(error);
            }
        }
        unreachable!("BUG: the last attempt returns")
    }

    /// Talks to the member after `index` from now on, unless that has been done already.
    pub(super) fn leave(&self, index: usize) {
        self.is_confirmed.store(false, Ordering::Relaxed);
        let next = (index + 1) % self.members.len();
        // Losing the race means that another call has moved on.
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The member in use.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Where the member is.
    pub(super) fn endpoint(&self, index: usize) -> &str {
        self.members.get(index).map_or("", |member| member.endpoint.as_str())
    }

    /// A call that may be sent again leaves time to do so: a member that is cut off says nothing.
    fn share_of(&self, left: Duration, effect: Effect) -> Duration {
        let shares = self.members.len().clamp(1, MAX_SHARES);
        match effect {
            Effect::Once => left,
            Effect::Repeatable => {
                let share = self.timeout / u32::try_from(shares).unwrap_or(1);
                share.min(left)
            }
        }
    }

    async fn send_to<T, F>(
        &self,
        index: usize,
        limit: Duration,
        effect: Effect,
        send: impl Fn(Arc<Connection>) -> F,
    ) -> MetaResult<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let member = self.members.get(index).expect("BUG: current is always below the length");
        let start = self.env.now();
        let open = || Connection::open(index, self);
        let connection = self
            .env
            .within(limit, member.connection.get_or_try_init(open))
            .await
            .unwrap_or_else(|| Err(self.timed_out(index, Effect::Repeatable)))?;
        let left = limit.saturating_sub(self.env.now() - start);
        match self.env.within(left, send(Arc::clone(connection))).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(decode_error(&error, effect)),
            None => Err(self.timed_out(index, effect)),
        }
    }

    fn timed_out(&self, index: usize, effect: Effect) -> MetaError {
        let endpoint = self.endpoint(index);
        unavailable(format!("no answer from {endpoint} in time"), effect)
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<&str> =
            self.members.iter().map(|member| member.endpoint.as_str()).collect();
        f.debug_struct("Members").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}
