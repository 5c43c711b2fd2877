//! Whole stores as one version of pagestore wrote them, frozen under `tests/testdata/v<n>/stores`: every later
//! version must read them.
//!
//! | in the directory | |
//! | --- | --- |
//! | `embedded/` | the directory of an embedded store, nobody having it open |
//! | `etcd.changes` | every change of the same volumes' keys in etcd; see [`dump`] |
//! | `etcd-blobs/` | the objects that go with it |
//! | `embedded.pages`, `etcd.pages` | what each readable revision of each volume shows; see [`expected`] |
//! | `contents` | the pages' contents, one after the other |
//!
//! `cargo run -p pagestore-tests --bin pagestore-freeze -- tests/testdata/v<n>/stores` makes such a directory
//! with the code of today, and refuses one that is there: what is frozen is never made anew. What pages hold
//! comes from the [`scenario`], not from reading them.

pub mod dump;
pub mod expected;
pub mod scenario;

use std::path::{Path, PathBuf};

/// Bytes of a page in frozen stores.
pub const PAGE_BYTES: usize = 512;
/// Root in etcd of a frozen store.
pub const ROOT: &str = "frozen";

/// Where the stores of the first version are.
#[must_use]
pub fn v1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1/stores")
}

/// Copies a directory and all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
