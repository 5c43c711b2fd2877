//! Looks after volumes: finds them, waits until something is due, works.
//!
//! Idle volumes cost one watch each: everything that can make work due arrives as an event, or is known
//! in advance by the clock.

use tokio::sync::watch;

mod history;
pub(crate) mod lookout;
pub(crate) mod store;
pub(crate) mod sweeps;
pub(crate) mod volume;

/// Set once the work is to end.
pub(crate) type Stop = watch::Receiver<bool>;

/// Waits until the work is to end.
pub(crate) async fn stopped(stop: &Stop) {
    // An error says that whoever could stop it is gone.
    let _ = stop.clone().wait_for(|stop| *stop).await;
}
