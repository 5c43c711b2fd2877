//! One fetch of one thing at a time.
//!
//! Whoever first asks for a key leads and fetches; the others follow and get the leader's result.
//! A leader that is dropped before it lands (its caller was cancelled) hands over: its followers
//! ask anew, and one of them leads. A failure is shared with those who were following, so that a
//! store that is down costs all of them one wait, not one after the other; whoever asks after it
//! fetches again. Nothing is remembered once it has landed: that is a cache's work.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::error::{Error, Result};

type Landed<V> = Result<V, Arc<Error>>;
type Flights<K, V> = HashMap<K, watch::Receiver<Option<Landed<V>>>>;

/// The fetches in flight, by key; clone it freely.
pub struct SingleFlight<K, V>(Arc<Mutex<Flights<K, V>>>);

/// One's part in the fetch of a key.
pub enum Flight<K: Eq + Hash, V> {
    /// It is here already.
    Here(V),
    /// Nobody fetches it: the caller must.
    Lead(Leader<K, V>),
    /// Another fetches it.
    Follow(Follower<V>),
}

/// The duty to fetch a key, and to [`Leader::land`] what came of it.
pub struct Leader<K: Eq + Hash, V> {
    flights: SingleFlight<K, V>,
    /// `None` once landed.
    key: Option<K>,
    result: watch::Sender<Option<Landed<V>>>,
}

/// A wait for another's fetch.
pub struct Follower<V>(watch::Receiver<Option<Landed<V>>>);

impl<K: Clone + Eq + Hash, V: Clone> SingleFlight<K, V> {
    /// With nothing in flight.
    #[must_use]
    pub fn new() -> SingleFlight<K, V> {
        SingleFlight(Arc::default())
    }

    /// The caller's part in the fetch of `key`. `recheck` looks into the cache that leaders fill
    /// before they land: who was told by the cache "not there" may come too late for the flight.
    pub fn join(&self, key: K, recheck: impl FnOnce() -> Option<V>) -> Flight<K, V> {
        let mut flights = self.flights();
        if let Some(result) = flights.get(&key) {
            return Flight::Follow(Follower(result.clone()));
        }
        if let Some(here) = recheck() {
            return Flight::Here(here);
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key.clone(), receiver);
        Flight::Lead(Leader { flights: self.clone(), key: Some(key), result: sender })
    }

    /// What `cached` has, else what `fetch` brings, once for all who ask at the same time. `fetch`
    /// puts it where `cached` looks.
    ///
    /// # Errors
    /// Those of `fetch`; a follower gets a copy of kind and text.
    pub async fn run<F>(
        &self,
        key: K,
        cached: impl Fn() -> Option<V>,
        fetch: impl FnOnce() -> F,
    ) -> Result<V>
    where
        F: Future<Output = Result<V>>,
    {
        loop {
            match self.join(key.clone(), &cached) {
                Flight::Here(value) => return Ok(value),
                Flight::Lead(leader) => return leader.land(fetch().await),
                Flight::Follow(follower) => {
                    if let Some(result) = follower.result().await {
                        return result;
                    }
                }
            }
        }
    }
}

impl<K, V> SingleFlight<K, V> {
    fn flights(&self) -> MutexGuard<'_, Flights<K, V>> {
        self.0.lock().expect("BUG: nothing panics while it holds the flights")
    }
}

impl<K: Eq + Hash, V: Clone> Leader<K, V> {
    /// Ends the flight and tells the followers. What was fetched must be in the cache by now.
    ///
    /// # Errors
    /// `result`'s own.
    pub fn land(mut self, result: Result<V>) -> Result<V> {
        let landed = result.map_err(Arc::new);
        if let Some(key) = self.key.take() {
            self.flights.flights().remove(&key);
        }
        self.result.send_replace(Some(landed.clone()));
        drop(self);
        // The followers hold copies at most for a moment; the leader's caller gets the original
        // when it can, for the sake of its source.
        landed.map_err(|shared| Arc::try_unwrap(shared).unwrap_or_else(|shared| shared.copy()))
    }
}

impl<K: Eq + Hash, V> Drop for Leader<K, V> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.flights.flights().remove(&key);
        }
    }
}

impl<V: Clone> Follower<V> {
    /// What the leader landed with; `None` when it was dropped before, so that one must ask anew.
    pub async fn result(mut self) -> Option<Result<V>> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(landed.map_err(|shared| shared.copy()))
    }
}

impl<K, V> Clone for SingleFlight<K, V> {
    fn clone(&self) -> Self {
        SingleFlight(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Default for SingleFlight<K, V> {
    fn default() -> Self {
        SingleFlight::new()
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SingleFlight({} in flight)", self.flights().len())
    }
}

impl<K: Eq + Hash, V> fmt::Debug for Flight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flight::Here(_) => "Here",
            Flight::Lead(_) => "Lead",
            Flight::Follow(_) => "Follow",
        })
    }
}

impl<K: Eq + Hash, V> fmt::Debug for Leader<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leader")
    }
}

impl<V> fmt::Debug for Follower<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Follower")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use futures::FutureExt;
    use futures::future::{join_all, pending};
    use tokio::sync::Notify;

    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn those_who_ask_at_once_cause_one_fetch() {
        let (flights, fetches, gate) = (SingleFlight::new(), AtomicU32::new(0), Notify::new());
        let ask = || {
            flights.run(
                "key",
                || None,
                || async {
                    gate.notified().await;
                    Ok(fetches.fetch_add(1, Relaxed))
                },
            )
        };
        let all = join_all((0..5).map(|_| ask()));
        let (all, ()) = tokio::join!(all, async { gate.notify_one() });
        assert!(all.into_iter().all(|result| result.unwrap() == 0));
        gate.notify_one();
        assert_eq!(ask().await.unwrap(), 1, "a landed flight is not remembered");
        assert_eq!(format!("{flights:?}"), "SingleFlight(0 in flight)");
    }

    #[tokio::test]
    async fn a_cancelled_leader_hands_over() {
        let flights: SingleFlight<u8, u8> = SingleFlight::new();
        let mut leader = Box::pin(flights.run(1, || None, pending));
        assert!(leader.as_mut().now_or_never().is_none());
        let mut follower = Box::pin(flights.run(1, || None, || async { Ok(5) }));
        assert!(follower.as_mut().now_or_never().is_none());
        drop(leader);
        assert_eq!(follower.await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_then_forgotten() {
        let (flights, gate) = (SingleFlight::<u8, u8>::new(), Notify::new());
        let failing = || {
            flights.run(
                1,
                || None,
                || async {
                    gate.notified().await;
                    Err(Error::unavailable("down"))
                },
            )
        };
        let (a, b, ()) = tokio::join!(failing(), failing(), async { gate.notify_one() });
        for error in [a.unwrap_err(), b.unwrap_err()] {
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Unavailable, "down".into()));
        }
        assert_eq!(flights.run(1, || None, || async { Ok(2) }).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn who_comes_after_the_landing_finds_it_in_the_cache() {
        let flights: SingleFlight<u8, u8> = SingleFlight::new();
        assert!(matches!(flights.join(1, || Some(3)), Flight::Here(3)));
        assert!(matches!(flights.join(1, || None), Flight::Lead(_)));
    }
}
