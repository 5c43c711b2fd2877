//! Writers and compactors as processes of their own, killed over and over, and the model that says
//! whether what they leave behind is right.
//!
//! A writer makes random transactions on one volume and keeps a journal: what it is about to commit,
//! then what it was told. A [`checker`] reads whole snapshots, new ones and old ones, and notes what it saw. A commit's id carries its writer and number, so that the volume's own log
//! tells of commits whose writer was killed before it heard. [`model::Model`] is built from that log
//! and the journals; [`check::check`] holds everything that was read, and everything that can be
//! read now, against it.

pub mod check;
pub mod checker;
pub mod content;
pub mod journal;
pub mod model;
mod tries;
pub mod writer;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use pagestore::internal::env::Source;
use pagestore::{CommitId, Env};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

/// Random bytes of a UUIDv7, of which commit ids are made, and file ids.
const ID_BYTES: usize = 10;

/// Names one transaction of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// Which writer, from 1.
    pub writer: u8,
    /// Which of its transactions.
    pub number: u32,
}

impl Tag {
    /// The tag in a commit id; `None` when no writer of a run made it.
    #[must_use]
    pub fn of(commit: CommitId) -> Option<Tag> {
        let bytes = commit.bytes();
        let number = u32::from_be_bytes(bytes[12..16].try_into().expect("four bytes"));
        (bytes[9] == MARK).then_some(Tag { writer: bytes[10], number })
    }
}

/// Marks the ids that writers make.
const MARK: u8 = 0xc5;

/// An environment that writes the tag of the transaction under way into every id.
#[derive(Debug)]
struct Tagging {
    writer: u8,
    number: AtomicU32,
    others: AtomicU32,
}

impl Source for &'static Tagging {
    fn wall_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
    }

    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill(bytes);
        if bytes.len() == ID_BYTES {
            // The id's last ten bytes; the first three keep ids of one transaction apart.
            bytes[3] = MARK;
            bytes[4] = self.writer;
            bytes[5] = self.others.fetch_add(1, Ordering::Relaxed) as u8;
            bytes[6..].copy_from_slice(&self.number.load(Ordering::SeqCst).to_be_bytes());
        }
    }
}

impl Tagging {
    fn new(writer: u8) -> &'static Tagging {
        let tagging = Tagging { writer, number: AtomicU32::new(0), others: AtomicU32::new(0) };
        // For the whole life of a process that does nothing else.
        Box::leak(Box::new(tagging))
    }

    fn env(&'static self) -> Env {
        Env::new(self)
    }
}
