//! What an error of etcd's means.
//!
//! Invariant: `maybe_applied` is false only when the request surely had no effect. An error that is
//! not known here counts as one whose effect is not known.

use std::error::Error as StdError;

use tonic::{Code, ConnectError, Status};

use crate::meta::MetaError;
use crate::types::Revision;

/// What a call can have done when its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing, or nothing that doing it again would change: it may be sent again.
    Repeatable,
    /// Something: never sent again once it may have been sent.
    Once,
}

/// The meaning of what the client reported.
pub(super) fn decode_error(error: &etcd_client::Error, effect: Effect) -> MetaError {
    use etcd_client::Error;
    match error {
        Error::GRpcStatus(status) => decode_status(status, effect),
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
            MetaError::Refused(error.to_string())
        }
        Error::LeaseKeepAliveError(message) if message == "lease not found" => {
            MetaError::LeaseNotFound
        }
        _ => unavailable(describe(error), effect),
    }
}

/// The meaning of a gRPC status, of etcd's or of the connection's.
fn decode_status(status: &Status, effect: Effect) -> MetaError {
    let message = status.message();
    let text = || message.strip_prefix("etcdserver: ").unwrap_or(message).to_owned();
    match status.code() {
        _ if names_certificate(status) => MetaError::Denied(describe(status)),
        // The request never left: the connection it waited for could not be made.
        _ if is_connect_error(status) => {
            MetaError::Unavailable { message: describe(status), maybe_applied: false }
        }
        // A token made before the last change of users and roles: the next one will do.
        Code::InvalidArgument if message.contains("revision of auth store is old") => {
            MetaError::Unavailable { message: text(), maybe_applied: false }
        }
        Code::InvalidArgument
            if message.contains("authentication failed")
                || message.contains("user name is empty") =>
        {
            MetaError::Denied(text())
        }
        Code::FailedPrecondition if message.contains("authentication is not enabled") => {
            MetaError::Denied(format!("a user was given, but {}", text()))
        }
        Code::InvalidArgument | Code::FailedPrecondition => MetaError::Refused(text()),
        Code::PermissionDenied | Code::Unauthenticated => MetaError::Denied(text()),
        Code::NotFound if message.contains("lease not found") => MetaError::LeaseNotFound,
        Code::NotFound => MetaError::Refused(text()),
        Code::OutOfRange if message.contains("has been compacted") => {
            MetaError::Compacted { oldest: Revision::ZERO }
        }
        Code::OutOfRange if message.contains("future revision") => MetaError::FutureRevision,
        // The client's own limits; an answer too large may be the answer to a change that happened.
        Code::OutOfRange if message.contains("encoded message length too large") => {
            MetaError::Refused(text())
        }
        Code::OutOfRange if effect == Effect::Repeatable => MetaError::Refused(text()),
        Code::ResourceExhausted if message.contains("space exceeded") => {
            MetaError::NoSpace(format!(
                "etcd's quota (--quota-backend-bytes) is reached; see what fills it, compact its history, \
             defragment it and disarm its alarm ({})",
                text()
            ))
        }
        Code::ResourceExhausted if message.contains("received message larger than max") => {
            MetaError::Refused(text())
        }
        // Said before the request is proposed.
        Code::ResourceExhausted if message.contains("too many requests") => {
            MetaError::Unavailable { message: text(), maybe_applied: false }
        }
        // A member that found its data to differ from the others' applies nothing.
        Code::DataLoss => MetaError::Corrupt(text()),
        _ => unavailable(describe(status), effect),
    }
}

/// The meaning of the reason with which etcd cancelled a watch.
pub(super) fn decode_cancel(reason: &str) -> MetaError {
    if reason.contains("permission denied") || reason.contains("auth token") {
        MetaError::Denied(reason.to_owned())
    } else if reason.contains("range is empty") {
        MetaError::Refused("watch of an empty range".to_owned())
    } else {
        unavailable(format!("watch cancelled: {reason}"), Effect::Repeatable)
    }
}

/// No answer, or one that says nothing of what happened.
pub(super) fn unavailable(message: impl Into<String>, effect: Effect) -> MetaError {
    MetaError::Unavailable { message: message.into(), maybe_applied: effect == Effect::Once }
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn is_connect_error(status: &Status) -> bool {
    chain(status).any(|error| error.is::<ConnectError>())
}

/// True when the two sides did not accept each other's certificates. The error types are the TLS
/// library's own, so the text it is. Only errors of the connection have a source.
fn names_certificate(status: &Status) -> bool {
    chain(status).skip(1).any(|error| error.to_string().to_lowercase().contains("certificate"))
}

/// An error with its causes, each said once.
fn describe(error: &(dyn StdError + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    for cause in chain(error).skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(code: Code, message: &str, effect: Effect) -> String {
        let status = etcd_client::Error::GRpcStatus(Status::new(code, message));
        let error = decode_error(&status, effect);
        format!("{}{error:?}", if error.maybe_applied() { "maybe " } else { "" })
    }

    #[test]
    fn a_refusal_is_told_from_an_unknown_outcome() {
        let rows = [
            (Code::InvalidArgument, "etcdserver: too many operations in txn request", "Refused"),
            (Code::InvalidArgument, "etcdserver: duplicate key given in txn request", "Refused"),
            (Code::InvalidArgument, "etcdserver: request is too large", "Refused"),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (3 vs. 2)",
                "Refused",
            ),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", "maybe NoSpace"),
            (Code::ResourceExhausted, "etcdserver: too many requests", "Unavailable"),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                "Compacted",
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
                "Future",
            ),
            (Code::OutOfRange, "Error, encoded message length too large: found 3", "Refused"),
            (Code::OutOfRange, "Error, decoded message length too large: found 3", "maybe Unavail"),
            (Code::NotFound, "etcdserver: requested lease not found", "LeaseNotFound"),
            (Code::PermissionDenied, "etcdserver: permission denied", "Denied"),
            (Code::Unauthenticated, "etcdserver: invalid auth token", "Denied"),
            (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID", "Denied"),
            (Code::InvalidArgument, "etcdserver: user name is empty", "Denied"),
            (Code::FailedPrecondition, "etcdserver: authentication is not enabled", "Denied"),
            (Code::DataLoss, "etcdserver: corrupt cluster", "Corrupt"),
            (Code::Unavailable, "etcdserver: request timed out", "maybe Unavail"),
            (Code::Unavailable, "etcdserver: leader changed", "maybe Unavail"),
            (Code::Unavailable, "tcp connect error", "maybe Unavail"),
            (Code::Cancelled, "operation was canceled", "maybe Unavail"),
            (Code::Unknown, "anything", "maybe Unavail"),
        ];
        for (code, message, want) in rows {
            let got = decode(code, message, Effect::Once);
            assert!(got.starts_with(want), "{code:?} {message}: {got}");
        }
    }

    #[test]
    fn a_read_never_applied_anything() {
        let got = decode(Code::Unavailable, "etcdserver: leader changed", Effect::Repeatable);
        assert!(got.starts_with("Unavailable"), "{got}");
        let got = decode(Code::OutOfRange, "decoded message length too large", Effect::Repeatable);
        assert!(got.starts_with("Refused"), "{got}");
    }

    #[test]
    fn only_a_connection_that_was_not_made_is_surely_not_applied() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(ConnectError(refused.into())));
        let error = decode_error(&etcd_client::Error::GRpcStatus(status), Effect::Once);
        assert!(!error.maybe_applied());
        assert!(error.to_string().contains("connection refused"), "{error}");
    }
}
