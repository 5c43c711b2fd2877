//! What nobody needs any more, and its deletion.

pub mod mark;
pub(crate) mod sweep;
