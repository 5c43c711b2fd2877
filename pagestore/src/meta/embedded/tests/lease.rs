use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::env::Source;
use crate::meta::MetaError;

/// A boot clock that a test sets.
#[derive(Default)]
struct Clock {
    boot_ms: AtomicU64,
    boot: Mutex<String>,
    random: AtomicU64,
}

impl Source for &'static Clock {
    fn wall_ms(&self) -> u64 {
        0
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.random.fetch_add(1, Ordering::Relaxed) + 1;
            chunk.copy_from_slice(
                &number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[..chunk.len()],
            );
        }
    }

    fn boot_ms(&self) -> u64 {
        self.boot_ms.load(Ordering::Relaxed)
    }

    fn boot_id(&self) -> String {
        self.boot.lock().unwrap().clone()
    }
}

impl Clock {
    fn new() -> &'static Clock {
        Box::leak(Box::default())
    }

    fn advance(&self, s: u64) {
        self.boot_ms.fetch_add(s * 1_000, Ordering::Relaxed);
    }

    fn fixture(&'static self) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        Fixture { store: EmbeddedStore::open(dir.path(), &Env::new(self)).unwrap(), dir }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_overdue_lease_ends_before_the_next_transaction() {
    let clock = Clock::new();
    let f = clock.fixture();
    let short = f.store.lease_grant(MINUTE).await.unwrap();
    let long = f.store.lease_grant(2 * MINUTE).await.unwrap();
    f.put_under("b", short).await.unwrap();
    f.put_under("a", short).await.unwrap();
    f.put_under("c", long).await.unwrap();
    clock.advance(59);
    assert_eq!(f.put(&[("x", "1")]).await, 5);
    assert!(f.get("a").await.is_some());
    clock.advance(1);
    assert_eq!(f.put(&[("x", "2")]).await, 7, "one revision for the lease, one for the put");
    assert_eq!((f.get("a").await, f.get("b").await), (None, None));
    assert!(f.get("c").await.is_some());
    assert!(matches!(f.put_under("a", short).await, Err(MetaError::LeaseNotFound)));
    assert!(matches!(f.store.lease_keep_alive(short).await, Err(MetaError::LeaseNotFound)));
    assert!(matches!(f.store.lease_revoke(short).await, Err(MetaError::LeaseNotFound)));
    clock.advance(60);
    assert_eq!(f.put(&[("x", "3")]).await, 9);
}

#[tokio::test]
async fn keeping_alive_starts_the_time_anew() {
    let clock = Clock::new();
    let f = clock.fixture();
    let lease = f.store.lease_grant(MINUTE).await.unwrap();
    f.put_under("a", lease).await.unwrap();
    for _ in 0..3 {
        clock.advance(50);
        assert_eq!(f.store.lease_keep_alive(lease).await.unwrap(), MINUTE);
    }
    clock.advance(50);
    f.put(&[("x", "1")]).await;
    assert!(f.get("a").await.is_some());
    clock.advance(10);
    f.put(&[("x", "2")]).await;
    assert_eq!(f.get("a").await, None);
}

#[tokio::test]
async fn after_a_boot_every_lease_has_its_full_time() {
    let clock = Clock::new();
    clock.advance(1_000_000);
    let Fixture { store, dir } = clock.fixture();
    let lease = store.lease_grant(MINUTE).await.unwrap();
    drop(store);
    clock.boot_ms.store(5_000, Ordering::Relaxed);
    *clock.boot.lock().unwrap() = "another".to_owned();
    let f = Fixture { store: EmbeddedStore::open(dir.path(), &Env::new(clock)).unwrap(), dir };
    f.put_under("a", lease).await.unwrap();
    clock.advance(59);
    f.put(&[("x", "1")]).await;
    assert!(f.get("a").await.is_some());
    clock.advance(1);
    f.put(&[("x", "1")]).await;
    assert_eq!(f.get("a").await, None);
}

#[tokio::test]
async fn leases_outlive_the_process() {
    let Fixture { store, dir } = fixture();
    let lease = store.lease_grant(MINUTE).await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.lease_keep_alive(lease).await.unwrap(), MINUTE);
}

#[tokio::test]
async fn times_are_whole_seconds_and_bounded() {
    let f = fixture();
    let lease = f.store.lease_grant(Duration::from_millis(1_001)).await.unwrap();
    assert_eq!(f.store.lease_keep_alive(lease).await.unwrap(), Duration::from_secs(2));
    let lease = f.store.lease_grant(Duration::ZERO).await.unwrap();
    assert_eq!(f.store.lease_keep_alive(lease).await.unwrap(), Duration::from_secs(1));
    let refused = f.store.lease_grant(Duration::MAX).await;
    assert!(matches!(refused, Err(MetaError::Refused(_))));
}

#[tokio::test]
async fn a_lease_with_many_keys_ends_in_one_revision() {
    let f = fixture();
    let lease = f.store.lease_grant(MINUTE).await.unwrap();
    for chunk in 0..20 {
        let put = |i| Op::Put { key: format!("{chunk:02}{i:03}").into(), value: "".into(), lease };
        f.txn(then((0..100).map(put).collect())).await;
    }
    f.store.lease_revoke(lease).await.unwrap();
    assert_eq!(f.revision().await, 22);
    assert!(f.at(all(), 22).await.unwrap().kvs.is_empty());
}
