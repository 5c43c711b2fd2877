//! A writer's journal: one JSON line an entry, so that a person can read it too.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::content::Content;

/// What the name of a note of what was acknowledged ends with.
const ACKNOWLEDGED: &str = "acknowledged";

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Entry {
    /// A transaction is about to be committed.
    Intent(Intent),
    /// What the writer was told of the intent before.
    Outcome {
        /// The transaction.
        number: u32,
        /// What became of it.
        outcome: Outcome,
    },
    /// Pages were read from a snapshot.
    Seen(Seen),
}

/// A transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Intent {
    /// Which of its writer's.
    pub number: u32,
    /// A revision that was acknowledged to some writer before its snapshot was asked for.
    pub after: u64,
    /// The revision that it read.
    pub base: u64,
    /// The page count there.
    pub page_count: u64,
    /// Whether it depends on that count.
    pub asks_count: bool,
    /// Pages that it read, and digests of what it got.
    pub reads: Vec<(u64, u64)>,
    /// Truncates to so many pages, before it writes.
    pub truncate: Option<u64>,
    /// Pages that it writes.
    pub writes: Vec<(u64, Content)>,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It happened.
    Committed {
        /// At this revision.
        revision: u64,
        /// As this commit.
        commit: String,
    },
    /// It did not, and never will.
    Failed(String),
}

/// Pages as a snapshot showed them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// As of [`Intent::after`]; 0 when it was not the newest that was asked for.
    pub after: u64,
    /// The snapshot's revision.
    pub revision: u64,
    /// How many pages it has.
    pub page_count: u64,
    /// Pages read, and digests of what they hold.
    pub reads: Vec<(u64, u64)>,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Opens a journal for more; makes it if there is none. Gives what is in it.
    #[must_use]
    pub fn open(path: &Path) -> (Journal, Vec<Entry>) {
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        // A line that its writer's death cut short tells nothing.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).unwrap();
        file.seek(std::io::SeekFrom::End(0)).unwrap();
        text.truncate(whole);
        (Journal(file), parse(&text))
    }

    /// Adds an entry; from here on it is there, whatever becomes of the process or the machine.
    pub fn add(&mut self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).unwrap();
        line.push(b'\n');
        self.0.write_all(&line).unwrap();
        self.0.sync_data().unwrap();
    }
}

/// The entries of a journal that may have none yet.
#[must_use]
pub fn read(path: &Path) -> Vec<Entry> {
    parse(&std::fs::read(path).unwrap_or_default())
}

/// Notes beside `journal` that a commit at `revision` was acknowledged.
pub fn acknowledge(journal: &Path, revision: u64) {
    std::fs::write(journal.with_extension(ACKNOWLEDGED), revision.to_string()).unwrap();
}

/// The newest revision noted by any writer whose journal lies beside `journal`, or an older one.
#[must_use]
pub fn newest_acknowledged(journal: &Path) -> u64 {
    let beside = std::fs::read_dir(journal.parent().expect("a directory")).unwrap().flatten();
    let notes = beside.filter(|entry| entry.path().extension() == Some(ACKNOWLEDGED.as_ref()));
    // One that is half written says less than it will, which does not matter.
    let revisions =
        notes.filter_map(|note| std::fs::read_to_string(note.path()).ok()?.parse().ok());
    revisions.max().unwrap_or(0)
}

fn parse(text: &[u8]) -> Vec<Entry> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let whole = lines.filter(|line| line.ends_with(b"\n"));
    whole.map(|line| serde_json::from_slice(line).unwrap()).collect()
}
