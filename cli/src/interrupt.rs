//! Ctrl-C and SIGTERM, for commands that have something to tidy up.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Outcome};

/// What `work` comes to, unless a signal comes first; then it is dropped, which tidies up.
pub(crate) async fn or_interrupt<T, E: From<Failure>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(Failure::interrupted(SignalKind::interrupt()).into()),
        _ = terminate.recv() => Err(Failure::interrupted(SignalKind::terminate()).into()),
    }
}

fn listen(kind: SignalKind) -> Outcome<Signal> {
    signal(kind).map_err(|error| Failure::io("cannot listen to signals", &error))
}
