//! Which files to merge, and which bodies to copy meanwhile. Pure.

pub mod bodies;
pub mod locality;
pub mod pick;
#[cfg(test)]
pub(crate) mod testing;
