//! Which files to merge, and which bodies to copy meanwhile. Pure.

pub mod bodies;
pub mod locality;
pub mod pick;
pub(crate) mod room;
#[cfg(test)]
pub(crate) mod testing;
