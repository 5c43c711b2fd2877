//! What the volume must be at every revision, by what the writers were told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::writer::{Patch, Written};

/// Bytes compared at once.
const COMPARE_BYTES: usize = 1 << 16;

/// A change that a commit made.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A few bytes of a page.
    Patch(Patch),
    /// A whole page, perhaps beyond the end.
    Write(u64, Bytes),
    /// The number of pages.
    Truncate(u64),
}

/// Every acknowledged commit since the import, by revision. Commits of one revision touch different
/// pages, so their order does not matter.
#[derive(Debug, Default)]
pub(super) struct Model {
    commits: BTreeMap<u64, Vec<Change>>,
}

impl Model {
    pub(super) fn add(&mut self, revision: u64, changes: impl IntoIterator<Item = Change>) {
        self.commits.entry(revision).or_default().extend(changes);
    }

    pub(super) fn add_written(&mut self, written: &Written) {
        self.add(written.revision, written.patches.iter().copied().map(Change::Patch));
    }

    /// The revisions of commits.
    pub(super) fn revisions(&self) -> Vec<u64> {
        self.commits.keys().copied().collect()
    }

    /// Pages that commits after `revision` changed.
    pub(super) fn pages_since(&self, revision: u64) -> std::collections::BTreeSet<u64> {
        let changes = self.commits.range(revision + 1..).flat_map(|(_, changes)| changes);
        changes
            .filter_map(|change| match change {
                Change::Patch(patch) => Some(patch.page),
                Change::Write(page, _) => Some(*page),
                Change::Truncate(_) => None,
            })
            .collect()
    }
}

/// The volume as a file, at one revision after the other.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    model: &'a Model,
    path: PathBuf,
    file: File,
    page_bytes: usize,
    at: u64,
}

impl<'a> Replay<'a> {
    /// The volume as it was imported from `source`, written to `path`.
    pub(super) fn new(
        model: &'a Model,
        source: &Path,
        path: PathBuf,
        page_bytes: usize,
    ) -> io::Result<Replay<'a>> {
        std::fs::copy(source, &path)?;
        let file = File::options().read(true).write(true).open(&path)?;
        Ok(Replay { model, path, file, page_bytes, at: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Goes on to `revision`, which is not before the one it is at.
    pub(super) fn advance(&mut self, revision: u64) -> io::Result<()> {
        for change in
            self.model.commits.range(self.at + 1..=revision).flat_map(|(_, changes)| changes)
        {
            let start = |page: u64| page * self.page_bytes as u64;
            match change {
                Change::Patch(patch) => self
                    .file
                    .write_all_at(&patch.bytes(), start(patch.page) + patch.offset as u64)?,
                Change::Write(page, content) => self.file.write_all_at(content, start(*page))?,
                Change::Truncate(count) => self.file.set_len(start(*count))?,
            }
        }
        self.at = revision;
        Ok(())
    }
}

/// True when two files are equal byte for byte.
pub(super) fn are_equal(left: &Path, right: &Path) -> io::Result<bool> {
    let (left, right) = (File::open(left)?, File::open(right)?);
    let length = left.metadata()?.len();
    if length != right.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (BufReader::new(left), BufReader::new(right));
    let mut rest = length;
    let (mut of_left, mut of_right) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    while rest > 0 {
        let part = usize::try_from(rest).unwrap_or(COMPARE_BYTES).min(COMPARE_BYTES);
        of_left.truncate(part);
        of_right.truncate(part);
        left.read_exact(&mut of_left)?;
        right.read_exact(&mut of_right)?;
        if of_left != of_right {
            return Ok(false);
        }
        rest -= part as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_the_file_at_each_revision() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::write(&source, vec![1; 1024]).unwrap();
        let mut model = Model::default();
        model.add(5, [Change::Write(2, vec![2; 512].into())]);
        model.add(7, [Change::Truncate(1)]);
        let mut replay =
            Replay::new(&model, &source, directory.path().join("replay"), 512).unwrap();
        let length = |replay: &Replay<'_>| std::fs::metadata(replay.path()).unwrap().len();
        replay.advance(4).unwrap();
        assert!(are_equal(replay.path(), &source).unwrap());
        replay.advance(6).unwrap();
        assert_eq!(length(&replay), 1536);
        assert!(!are_equal(replay.path(), &source).unwrap());
        replay.advance(9).unwrap();
        assert_eq!(length(&replay), 512);
        assert_eq!(model.pages_since(4).into_iter().collect::<Vec<_>>(), [2]);
    }
}
