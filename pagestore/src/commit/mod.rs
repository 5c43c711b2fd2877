//! Transactions and how they are committed.
//!
//! Owns the write path: read and write sets, encoding, group commit, the bulk path, rebases and the
//! resolution of unknown outcomes. Never sends a commit whose compares leave out something that the
//! transaction read or wrote, never sends an id again once its resolution has begun, and never
//! reports an outcome that a transaction of the meta tier did not decide.
//!
//! ```text
//! build -> send -> committed
//!   ^        |---> refused: rebase onto the newest revision, or conflict
//!   |        |---> unknown: put an abort marker, or find the commit
//!   `- rebase
//! ```

mod budget;
mod bulk;
mod conflict;
mod core;
mod encode;
mod group;
mod publish;
mod resolve;
mod sets;
#[cfg(test)]
mod tests;
mod transaction;
mod write_set;

pub(crate) use budget::{DEFAULT_META_QUOTA, DEFAULT_STAGED_BUDGET};
pub(crate) use core::{Core, Limits};
pub(crate) use group::Group;
pub(crate) use publish::{commit, joint_views};
pub use resolve::Resolution;
pub(crate) use resolve::resolve;
pub(crate) use transaction::beyond_end;
pub use transaction::{Committed, Tolerates, Transaction};
