//! The real binary, on embedded stores, and where it says so on servers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bad_input;
mod damage;
mod demo;
mod grammar;
mod harness;
mod import_export;
mod inspect;
mod restore;
mod scale;
mod sql;
