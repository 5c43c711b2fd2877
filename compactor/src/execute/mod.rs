//! The steps of a plan, carried out. Nothing here decides what is to be done.

pub(crate) mod bodies;
pub(crate) mod delete;
pub(crate) mod discard;
pub(crate) mod erase;
pub(crate) mod file;
pub(crate) mod flush;
pub(crate) mod holds;
pub(crate) mod merge;
pub(crate) mod oldest;
pub(crate) mod outputs;
pub(crate) mod remove;
