//! A deterministic simulation of pagestore: the library and the compactor as they ship, on a simulated
//! etcd, a simulated object store and a simulated machine. One seed gives one run.
//!
//! Everything here is for tests, so a failure panics with what a person needs to know.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

pub mod chaos;
pub mod client;
pub mod disk;
pub mod entropy;
pub mod etcd;
pub mod exec;
pub mod link;
pub mod model;
pub mod objects;
pub mod process;
pub mod random;
pub mod run;
pub mod scenario;
