//! What a process of a run does about a tier that does not answer.

use std::time::{Duration, Instant};

use pagestore::{Error, ErrorKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long the tiers may be unreachable before a process gives up: an OSD that was killed on a busy machine
/// takes minutes to serve all it has.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
/// Pause before trying again what a tier could not do.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What may come of a call beside what it is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tries {
    /// Whether what is held may be lost.
    pub(super) may_expire: bool,
}

impl Tries {
    /// Tries again for as long as a tier does not answer, or is full. `None` when what it is about has
    /// expired.
    pub(super) async fn go_on<T, F>(self, what: &str, mut attempt: impl FnMut() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let begun = Instant::now();
        loop {
            match attempt().await {
                Ok(done) => return Some(done),
                Err(error) => self.after(what, begun, error).await?,
            }
        }
    }

    /// After a call failed: `Some` when it is worth another try, `None` when what it is about has expired.
    ///
    /// # Panics
    /// When it must not have failed so, or has for too long.
    pub(super) async fn after(self, what: &str, begun: Instant, error: Error) -> Option<()> {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Backpressure if begun.elapsed() < PATIENCE => {
                eprintln!("{what}: {error}");
                tokio::time::sleep(PAUSE).await;
                Some(())
            }
            ErrorKind::Expired if self.may_expire => {
                eprintln!("{what}: {error}");
                None
            }
            kind => panic!("{what}: {kind:?}: {error}"),
        }
    }
}

/// Becomes true when the process is told to end.
pub(super) fn stop_signal() -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::spawn(async move {
        terminate.recv().await;
        stop.send_replace(true);
    });
    stopped
}
