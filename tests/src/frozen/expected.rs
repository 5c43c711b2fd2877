//! What the volumes of a frozen store show, at every readable revision.
//!
//! The text has a line for each: the volume's name, the revision, and for each page the number of its content
//! in the file `contents`, where contents of [`PAGE_BYTES`] bytes follow one another. Number
//! 0 is a page of zeros.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use pagestore::{PageNo, Revision, Snapshot, Store};

use super::PAGE_BYTES;

/// All contents, each once.
#[derive(Debug)]
pub struct Contents {
    all: Vec<Bytes>,
    numbers: HashMap<Bytes, usize>,
}

impl Default for Contents {
    fn default() -> Contents {
        let zeros = Bytes::from(vec![0; PAGE_BYTES]);
        Contents { all: vec![zeros.clone()], numbers: HashMap::from([(zeros, 0)]) }
    }
}

impl Contents {
    fn number(&mut self, content: &Bytes) -> usize {
        *self.numbers.entry(content.clone()).or_insert_with(|| {
            self.all.push(content.clone());
            self.all.len() - 1
        })
    }

    /// As the file `contents`.
    #[must_use]
    pub fn concat(&self) -> Vec<u8> {
        self.all.concat()
    }
}

/// What a volume shows at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The volume's name.
    pub volume: String,
    /// The revision.
    pub revision: Revision,
    /// The contents of its pages.
    pub pages: Vec<Bytes>,
}

/// As a text, and what it refers to.
pub fn encode(shown: &[Shown], contents: &mut Contents) -> String {
    let mut text = String::new();
    for Shown { volume, revision, pages } in shown {
        write!(text, "{volume} {revision}").unwrap();
        pages.iter().for_each(|page| write!(text, " {}", contents.number(page)).unwrap());
        text.push('\n');
    }
    text
}

/// Reads the text `name` of the frozen directory `dir`.
#[must_use]
pub fn read(dir: &Path, name: &str) -> Vec<Shown> {
    let contents = std::fs::read(dir.join("contents")).unwrap();
    let contents: Vec<Bytes> =
        contents.chunks_exact(PAGE_BYTES).map(Bytes::copy_from_slice).collect();
    let text = std::fs::read_to_string(dir.join(name)).unwrap();
    let line = |line: &str| {
        let mut words = line.split(' ');
        let volume = words.next().unwrap().to_owned();
        let revision = Revision(words.next().unwrap().parse().unwrap());
        let pages = words.map(|number| contents[number.parse::<usize>().unwrap()].clone());
        Shown { volume, revision, pages: pages.collect() }
    };
    text.lines().map(line).collect()
}

/// Holds all that a store shows against what it should.
pub async fn check(store: &Store, shown: &[Shown]) {
    for volumes in shown.chunk_by(|a, b| a.volume == b.volume) {
        let name = &volumes[0].volume;
        let volume = store.open_volume(name).await.unwrap();
        for one in volumes {
            check_one(&volume.snapshot_at(one.revision).await.unwrap(), one).await;
        }
        let newest = volumes.last().expect("a chunk is not empty");
        check_one(&volume.snapshot().await.unwrap(), newest).await;
        volume.close().await;
        let report = pagestore::inspect::verify(store, name, None, &|_| {}).await.unwrap();
        assert!(report.is_clean(), "{name}: {:#?}", report.findings);
    }
}

async fn check_one(snapshot: &Snapshot, shown: &Shown) {
    let what = format!("{} at {}", shown.volume, shown.revision);
    assert_eq!(snapshot.page_count().0, shown.pages.len() as u64, "{what}");
    for (page, right) in (0..).zip(&shown.pages) {
        let content = snapshot.read(PageNo(page)).await;
        assert_eq!(content.unwrap(), right, "page {page} of {what}");
    }
}
