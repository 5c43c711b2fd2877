use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use super::sets::Footprint;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::meta::records::{ChangelogEntry, Record};
use crate::meta::txn::{self, CommitPart, MAX_GROUP};
use crate::meta::{MetaError, MetaStore, OpResponse, TxnResponse};
use crate::types::Revision;

/// Groups under way at once: one travels while the next one gathers.
const IN_FLIGHT: usize = 2;
/// Waiting commits looked at for one group.
const LOOK_AHEAD: usize = 4 * MAX_GROUP;

/// What the meta tier said to a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It happened, at this revision.
    Committed(Revision),
    /// A compare failed: it did not happen now.
    Refused(Refusal),
    /// Nobody knows yet.
    Unknown,
    /// The meta tier is full. The request is over; whether it was applied nobody said.
    Full(String),
    /// It surely did not happen.
    Failed(ErrorKind, String),
}

/// What stood in the way of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The commit's own changelog entry, when it has one already, and when that was put.
    pub entry: Option<(ChangelogEntry, Revision)>,
    /// When the floor last moved.
    pub floor_modified: Revision,
}

impl Refusal {
    /// Reads the answers of the failed branch: changelog entry and floor.
    pub(super) fn of(part: &CommitPart, responses: &[OpResponse]) -> Result<Refusal> {
        let kv = |index: usize| match responses.get(index) {
            Some(OpResponse::Range(found)) => found.kvs.first(),
            _ => None,
        };
        let entry = match kv(0) {
            Some(kv) => Some((ChangelogEntry::of(&part.keys, kv)?, kv.mod_revision)),
            None => None,
        };
        Ok(Refusal { entry, floor_modified: kv(1).map_or(Revision::ZERO, |kv| kv.mod_revision) })
    }
}

/// What a sent commit came to, of the answer to its (nested or outer) transaction.
pub(super) fn answer_of(part: &CommitPart, revision: Revision, response: &TxnResponse) -> Answer {
    if response.succeeded {
        return committed(part.commit.base, revision);
    }
    match Refusal::of(part, &response.responses) {
        Ok(refusal) => Answer::Refused(refusal),
        Err(error) => Answer::Failed(error.kind(), error.to_string()),
    }
}

/// A commit is newer than what it was made on: nobody who reads in the order of revisions would ever see one
/// that is not.
fn committed(base: Revision, revision: Revision) -> Answer {
    if revision > base {
        return Answer::Committed(revision);
    }
    let message = format!(
        "the meta tier gave a commit on revision {base} the revision {revision}: it went back"
    );
    Answer::Failed(ErrorKind::Corrupt, message)
}

/// What a failed request means for every commit in it.
pub(super) fn answer_to_error(error: MetaError) -> Answer {
    if let MetaError::NoSpace(_) = &error {
        return Answer::Full(error.to_string());
    }
    if error.maybe_applied() {
        return Answer::Unknown;
    }
    let error = Error::from(error);
    Answer::Failed(error.kind(), error.to_string())
}

/// Group commit: commits of one volume that wait in this process travel together, each with its own
/// compares and its own outcome.
#[derive(Debug)]
pub(crate) struct Group {
    meta: Arc<dyn MetaStore>,
    env: Env,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    in_flight: usize,
}

#[derive(Debug)]
struct Waiting {
    part: CommitPart,
    footprint: Arc<Footprint>,
    answer: oneshot::Sender<Answer>,
}

impl Group {
    pub(crate) fn new(meta: Arc<dyn MetaStore>, env: Env) -> Arc<Group> {
        Arc::new(Group { meta, env, queue: Mutex::default() })
    }

    /// Sends a commit, with others that wait or alone.
    pub(super) async fn send(
        self: &Arc<Self>,
        part: CommitPart,
        footprint: Arc<Footprint>,
    ) -> Answer {
        if !part.fits_group() {
            return send_alone(self.meta.as_ref(), std::slice::from_ref(&part)).await;
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue();
            queue.waiting.push_back(Waiting { part, footprint, answer });
            if queue.in_flight < IN_FLIGHT {
                queue.in_flight += 1;
                // Detached: a commit that was sent goes on when its caller stops waiting.
                self.env.spawn_detached(drain(self.clone()));
            }
        }
        // A task that ended without an answer has panicked or was shut down in mid-request.
        answered.await.unwrap_or(Answer::Unknown)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("BUG: nothing panics while it holds the queue")
    }

    /// The next group, or `None` when nothing waits: then this sender is done.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        let group = take_group(&mut queue.waiting);
        if group.is_empty() {
            queue.in_flight -= 1;
            return None;
        }
        Some(group)
    }

    async fn send_group(&self, group: Vec<Waiting>) {
        if let [one] = group.as_slice() {
            let answer = send_alone(self.meta.as_ref(), std::slice::from_ref(&one.part)).await;
            group.into_iter().for_each(|waiting| drop(waiting.answer.send(answer.clone())));
            return;
        }
        let parts: Vec<CommitPart> = group.iter().map(|waiting| waiting.part.clone()).collect();
        let outcome = self.meta.txn(txn::group(&parts)).await.map_err(answer_to_error);
        for (index, waiting) in group.into_iter().enumerate() {
            let answer = match &outcome {
                Ok(response) if response.succeeded => match response.responses.get(index) {
                    Some(OpResponse::Txn(nested)) => {
                        answer_of(&waiting.part, response.revision, nested)
                    }
                    _ => Answer::Unknown,
                },
                Ok(_) => Answer::Refused(Refusal::default()),
                Err(answer) => answer.clone(),
            };
            // A caller that no longer listens has its outcome in the changelog.
            let _ = waiting.answer.send(answer);
        }
    }
}

async fn drain(group: Arc<Group>) {
    let mut sender = Sender { group, done: false };
    while let Some(next) = sender.group.next() {
        sender.group.send_group(next).await;
    }
    sender.done = true;
}

/// A task that sends groups.
struct Sender {
    group: Arc<Group>,
    done: bool,
}

impl Drop for Sender {
    /// One that did not come to its end has panicked or was shut down: another may take its place, and
    /// nobody waits for it.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut queue = self.group.queue();
        queue.in_flight -= 1;
        if queue.in_flight == 0 {
            queue.waiting.clear();
        }
    }
}

/// Sends one commit, over one volume or several, in a transaction of its own.
pub(super) async fn send_alone(meta: &dyn MetaStore, parts: &[CommitPart]) -> Answer {
    let Some(first) = parts.first() else {
        return Answer::Failed(ErrorKind::Invalid, "nothing to commit".into());
    };
    match meta.txn(txn::commit(parts)).await {
        Ok(response) => answer_of(first, response.revision, &response),
        Err(error) => answer_to_error(error),
    }
}

/// Takes the first waiting commit and all that may travel with it: no two may touch a page that the
/// other writes, because compares all see the state before the transaction.
fn take_group(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let (mut group, mut bytes) = (Vec::<Waiting>::new(), 0);
    let mut index = 0;
    for _ in 0..LOOK_AHEAD {
        let Some(next) = waiting.get(index) else { break };
        let size = next.part.bytes();
        let joins = group.is_empty()
            || (bytes + size <= txn::MAX_COMMIT_BYTES
                && group.iter().all(|other| other.footprint.is_disjoint(&next.footprint)));
        if !joins {
            index += 1;
            continue;
        }
        bytes += size;
        group.extend(waiting.remove(index));
        if group.len() == MAX_GROUP {
            break;
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_older_than_its_base_is_no_commit() {
        assert_eq!(committed(Revision(5), Revision(6)), Answer::Committed(Revision(6)));
        for revision in [4, 5] {
            let answer = committed(Revision(5), Revision(revision));
            assert!(matches!(answer, Answer::Failed(ErrorKind::Corrupt, _)), "{answer:?}");
        }
    }
}
