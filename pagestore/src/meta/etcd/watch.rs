//! A watch on etcd as a stream of batches.
//!
//! Invariant: what has been delivered is every change up to `delivered`, each once, in order. etcd
//! sends whole revisions in a message (the watch does not ask for fragments). After an error the
//! stream ends.

use std::sync::Arc;

use etcd_client::WatchOptions;
use etcd_client::proto::PbWatchResponse;
use futures::StreamExt as _;
use futures::stream;

use super::error::{Effect, decode_cancel, decode_error, unavailable};
use super::members::{Connection, Members};
use super::request::{encode_keys, encode_revision};
use super::response::{decode_event, decode_header, decode_revision, malformed};
use crate::meta::{KeyRange, MetaError, MetaResult, WatchBatch, WatchStream};
use crate::types::Revision;

/// etcd's answer to a progress request, which on releases before 3.5.8 overtakes events.
const NO_WATCH: i64 = -1;

/// Registers a watch of `keys` from revision `from` on.
pub(super) async fn watch(
    members: &Arc<Members>,
    keys: &KeyRange,
    from: Revision,
) -> MetaResult<WatchStream> {
    if from == Revision::ZERO {
        return Err(MetaError::Refused("a watch begins at revision 1 or later".to_owned()));
    }
    let (start, end) = encode_keys(keys);
    // Of the compacted revision itself releases before 3.4.33 and 3.5.14 forget the deletions, and do not
    // say so: from the revision before it on, they do. What is asked for in excess is passed over.
    let start_revision = encode_revision(Revision((from.0 - 1).max(1)));
    let mut options =
        WatchOptions::new().with_start_revision(start_revision).with_progress_notify();
    if let Some(end) = end {
        options = options.with_range(end);
    }
    let registered = members
        .call(Effect::Repeatable, |connection| register(connection, start.clone(), options.clone()))
        .await?;
    members.check(registered.created.header.as_ref())?;
    let watch = Watch {
        id: registered.created.watch_id,
        delivered: Revision(from.0 - 1),
        member: registered.member,
        members: Arc::clone(members),
    };
    if registered.created.canceled {
        return Err(decode_end(&registered.created));
    }
    let batches = stream::unfold(Some((registered.stream, watch)), |state| async {
        let (mut stream, mut watch) = state?;
        loop {
            match watch.accept(stream.message().await) {
                Ok(None) => {}
                Ok(Some(batch)) => return Some((Ok(batch), Some((stream, watch)))),
                Err(error) => return Some((Err(error), None)),
            }
        }
    });
    Ok(batches.boxed())
}

struct Registered {
    member: usize,
    created: PbWatchResponse,
    stream: etcd_client::WatchStream,
}

async fn register(
    connection: Arc<Connection>,
    start: Vec<u8>,
    options: WatchOptions,
) -> Result<Registered, etcd_client::Error> {
    connection.refresh_watch_token().await?;
    let mut stream = connection.watch.clone().watch(start, Some(options)).await?;
    match stream.message().await? {
        Some(response) if response.0.created => {
            Ok(Registered { member: connection.member, created: response.0, stream })
        }
        _ => Err(etcd_client::Error::WatchError("the watch was not registered".to_owned())),
    }
}

struct Watch {
    id: i64,
    delivered: Revision,
    member: usize,
    members: Arc<Members>,
}

impl Watch {
    /// The batch that a message holds, if it holds something new.
    fn accept(
        &mut self,
        received: Result<Option<etcd_client::WatchResponse>, etcd_client::Error>,
    ) -> MetaResult<Option<WatchBatch>> {
        let response = match received {
            Ok(Some(response)) => response.0,
            Ok(None) => return Err(self.lost(unavailable("watch ended", Effect::Repeatable))),
            Err(error) => return Err(self.lost(decode_error(&error, Effect::Repeatable))),
        };
        if response.canceled {
            return Err(decode_end(&response));
        }
        if response.watch_id == NO_WATCH {
            return Ok(None);
        }
        if response.watch_id != self.id {
            return Err(malformed(format!("message of watch {}", response.watch_id)));
        }
        self.accept_events(response)
    }

    fn accept_events(&mut self, response: PbWatchResponse) -> MetaResult<Option<WatchBatch>> {
        // The header of a message with events may be ahead of them; that of one without is how far
        // the watch has come.
        let mut revision = decode_header(response.header.as_ref())?;
        let mut events = Vec::with_capacity(response.events.len());
        for event in response.events {
            let event = decode_event(event)?;
            revision = event.revision();
            // Some releases deliver a revision again.
            if revision > self.delivered {
                events.push(event);
            }
        }
        if revision <= self.delivered {
            return Ok(None);
        }
        self.delivered = revision;
        Ok(Some(WatchBatch { revision, events }))
    }

    /// The next watch is to try another member.
    fn lost(&self, error: MetaError) -> MetaError {
        if matches!(error, MetaError::Unavailable { .. }) {
            self.members.leave(self.member);
        }
        error
    }
}

/// Why etcd ended a watch.
fn decode_end(response: &PbWatchResponse) -> MetaError {
    match decode_revision(response.compact_revision) {
        Ok(Revision::ZERO) => decode_cancel(&response.cancel_reason),
        Ok(oldest) => MetaError::Compacted { oldest },
        Err(error) => error,
    }
}
