//! A writer of large commits, to be killed in the midst of them.
//!
//! The volume goes through numbered states, one commit each: of every [`CYCLE`] commits one writes all
//! pages, the others a small change to [`CHANGED`] of them. A page says which state it is of.

use std::io::Write as _;

use bytes::Bytes;
use pagestore::{PageNo, Snapshot, Store};
use serde::{Deserialize, Serialize};

/// Pages of the volume.
pub const PAGES: u64 = 20_000;
/// Bytes of a page.
pub const PAGE_BYTES: usize = 512;
/// Pages with a small change; every so-many-th.
pub const CHANGED: u64 = 1_500;
const CHANGED_EVERY: u64 = 13;
/// Commits from one of all pages to the next.
pub const CYCLE: u64 = 4;

/// What a rewriter does, for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rewrite {
    /// The store.
    pub url: String,
    /// The volume.
    pub volume: String,
}

/// The pages that the commit of `state` writes.
pub fn pages_of(state: u64) -> impl Iterator<Item = u64> {
    let (count, every) =
        if state.is_multiple_of(CYCLE) { (PAGES, 1) } else { (CHANGED, CHANGED_EVERY) };
    (0..count).map(move |n| n * every)
}

/// What a page holds in a state.
#[must_use]
pub fn content(page: u64, state: u64) -> Bytes {
    let is_changed = page.is_multiple_of(CHANGED_EVERY) && page / CHANGED_EVERY < CHANGED;
    let (written, pattern) =
        (if is_changed { state } else { state / CYCLE * CYCLE }, state / CYCLE);
    let mut content = vec![0; PAGE_BYTES];
    // Noise of the page and of the last commit of all pages, so that one is as long as it looks.
    let mut noise = (page + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (pattern << 1 | 1);
    for word in content.chunks_exact_mut(8) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        word.copy_from_slice(&noise.to_le_bytes());
    }
    content[256..264].copy_from_slice(&written.to_le_bytes());
    content.into()
}

/// Which state a snapshot shows, by its first page, which every commit writes; `None` before the first.
pub async fn state_of(snapshot: &Snapshot) -> Option<u64> {
    if snapshot.page_count().0 == 0 {
        return None;
    }
    let first = snapshot.read(PageNo(0)).await.unwrap();
    Some(u64::from_le_bytes(first[256..264].try_into().unwrap()))
}

pub(super) async fn run(work: Rewrite) {
    let store = Store::open(&work.url).await.unwrap();
    let volume = store.open_volume(&work.volume).await.unwrap();
    let snapshot = volume.snapshot().await.unwrap();
    let mut state = state_of(&snapshot).await.map_or(0, |state| state + 1);
    loop {
        let mut tx = volume.begin().await.unwrap();
        for page in pages_of(state) {
            tx.write(PageNo(page), content(page, state)).unwrap();
        }
        let committed = tx.commit().await.unwrap();
        // One write, so that whoever reads it sees the line or not.
        let line = format!("{state} {}\n", committed.revision);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        state += 1;
    }
}
