use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Semaphore, watch};

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::meta::keys::VolumeKeys;
use crate::meta::{KeyRange, MetaStore, Projection, RangeRequest};
use crate::types::Revision;

/// Head reads under way at once; who asks meanwhile shares the next one.
const IN_FLIGHT: usize = 2;

/// What a shared read answers; `None` until it has.
type Answer = Option<Result<Revision, (ErrorKind, String)>>;

/// Linearizable reads of a volume's head, each shared by all who asked before it was sent.
///
/// Nobody joins a read in flight: it may have been served before the asker's last commit.
#[derive(Debug)]
pub(super) struct HeadReader {
    meta: Arc<dyn MetaStore>,
    env: Env,
    keys: VolumeKeys,
    /// The read that is not sent yet, if somebody waits for one.
    next: Mutex<Option<watch::Receiver<Answer>>>,
    permits: Semaphore,
}

impl HeadReader {
    pub(super) fn new(meta: Arc<dyn MetaStore>, env: Env, keys: VolumeKeys) -> Arc<HeadReader> {
        let permits = Semaphore::new(IN_FLIGHT);
        Arc::new(HeadReader { meta, env, keys, next: Mutex::new(None), permits })
    }

    fn next(&self) -> MutexGuard<'_, Option<watch::Receiver<Answer>>> {
        self.next.lock().expect("BUG: nothing panics while it holds the next read")
    }

    /// The revision of the newest commit, no older than this call.
    pub(super) async fn read(self: &Arc<Self>) -> Result<Revision> {
        let mut answer = self.join();
        let answered = answer.wait_for(Option::is_some).await.map(|answer| answer.clone());
        match answered {
            Ok(Some(Ok(revision))) => Ok(revision),
            Ok(Some(Err((kind, message)))) => Err(Error::new(kind, message)),
            Ok(None) | Err(_) => Err(Error::unavailable("the runtime is shutting down")),
        }
    }

    fn join(self: &Arc<Self>) -> watch::Receiver<Answer> {
        let mut next = self.next();
        if let Some(waiting) = next.as_ref() {
            return waiting.clone();
        }
        let (answered, answer) = watch::channel(None);
        *next = Some(answer.clone());
        let reader = self.clone();
        // Detached, so that the others are served even when the first to ask goes away.
        self.env.spawn_detached(async move {
            let _permit = reader.permits.acquire().await;
            // From here on it is sent: whoever asks now waits for the next one.
            if !planted!(HeadReadJoined) {
                reader.next().take();
            }
            let head = reader.fetch().await.map_err(|error| (error.kind(), error.to_string()));
            if planted!(HeadReadJoined) {
                reader.next().take();
            }
            answered.send_replace(Some(head));
        });
        answer
    }

    /// When a flush, a merge or a deletion of files was last published, no older than this call; nothing
    /// when the volume was deleted.
    pub(super) async fn read_whereabouts(&self) -> Result<Option<Revision>> {
        let request = RangeRequest::new(self.keys.whereabouts()).project(Projection::KeysOnly);
        let found = self.meta.range(request).await?;
        if !found.kvs.iter().any(|kv| kv.key == self.keys.metadata()) {
            return Ok(None);
        }
        Ok(found.kvs.iter().map(|kv| kv.mod_revision).max())
    }

    async fn fetch(&self) -> Result<Revision> {
        let request =
            RangeRequest::new(KeyRange::key(self.keys.head())).project(Projection::KeysOnly);
        let response = self.meta.range(request).await?;
        let head = response.kvs.first();
        head.map(|kv| kv.mod_revision)
            .ok_or_else(|| Error::not_found(format!("volume was deleted: {}", self.keys.id())))
    }
}
