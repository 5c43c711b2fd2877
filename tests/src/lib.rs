//! What the tests share: real servers on this machine, the conformance suite of the meta tier's
//! backends, and seeded randomness.
//!
//! Everything here is for tests, so a failure panics with what a person needs to know.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

pub mod harness;
