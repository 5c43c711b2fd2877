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
