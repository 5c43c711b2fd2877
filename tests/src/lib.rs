//! What the tests share: real servers on this machine, the conformance suite of the meta tier's
//! backends, and seeded randomness.
//!
//! Everything here is for tests, so a failure panics with what a person needs to know.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap
)]

pub mod bank;
pub mod chaos;
pub mod conformance;
pub mod differential;
pub mod frozen;
pub mod harness;
pub mod image;
pub mod schema;
pub mod suites;
pub mod worker;

/// Runs each test on an embedded store and on one of `$servers`: a test is a function that is given the place
/// and the store opened there.
#[macro_export]
macro_rules! on_both {
    ($servers:ident: $($name:ident)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let place = $crate::harness::TestStore::embedded();
                super::$name(&place, place.open().await).await;
            })*
        }
        mod servers {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let place = $crate::harness::TestStore::$servers();
                super::$name(&place, place.open().await).await;
            })*
        }
    };
}
