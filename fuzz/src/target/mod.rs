//! What is fed: every decoder, with what it was made to read.

mod files;
mod records;
mod staged;
mod tables;

/// A decoder, or several that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What it was made to read.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Decodes, and looks at all that came of it. True when it took the input for good.
    pub run: fn(&[u8]) -> bool,
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<Target> {
    let mut all = vec![
        Target { name: "keys", corpus: records::key_corpus, run: records::keys },
        Target { name: "records", corpus: records::record_corpus, run: records::records },
        Target { name: "url", corpus: records::url_corpus, run: records::url },
        Target { name: "staged", corpus: staged::corpus, run: staged::staged },
        Target { name: "tables", corpus: tables::corpus, run: tables::tables },
    ];
    all.extend(files::TARGETS);
    all
}
