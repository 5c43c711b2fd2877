use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::types::FileId;
use crate::wire::Malformed;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// What begins the file.
    Header,
    /// Neighbouring pages, compressed together.
    Frame,
    /// A block of index entries.
    IndexBlock,
    /// A block of commit records.
    CommitBlock,
    /// The history of the volume's size.
    Sizes,
    /// The files that the index points into.
    References,
    /// The pages that the file has versions of.
    Filter,
    /// Where the blocks are.
    Directory,
    /// What ends the file.
    Footer,
    /// Everything that a reader fetches on opening the file.
    Tail,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Section::Header => "header",
            Section::Frame => "frame",
            Section::IndexBlock => "index block",
            Section::CommitBlock => "commit block",
            Section::Sizes => "size history",
            Section::References => "references",
            Section::Filter => "filter",
            Section::Directory => "directory",
            Section::Footer => "footer",
            Section::Tail => "tail",
        })
    }
}

/// A part of a file is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Its bytes are not in form, or not the right ones.
    #[error("{section} at offset {offset} {why}")]
    Broken {
        /// The part.
        section: Section,
        /// Where it begins in the file.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The file is of a newer format.
    #[error(
        "file written in format version {found}, this build reads up to version {newest}; upgrade it"
    )]
    NewerVersion {
        /// The version it says.
        found: u32,
        /// The newest this build knows.
        newest: u32,
    },
}

impl FileError {
    /// The public error for this part of `file`.
    #[must_use]
    pub fn of(self, file: FileId) -> Error {
        match self {
            FileError::NewerVersion { .. } => {
                Error::new(ErrorKind::Invalid, format!("{self}: file {file}"))
            }
            FileError::Broken { section, offset, why } => Error::corrupt(
                format_args!("file {file} at offset {offset}"),
                format_args!("{section} {why}"),
            ),
        }
    }
}

/// A part of a file, for errors: which, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) section: Section,
    pub(super) offset: u64,
}

impl Place {
    pub(super) fn new(section: Section, offset: u64) -> Place {
        Place { section, offset }
    }

    pub(super) fn broken(self, why: &'static str) -> FileError {
        FileError::Broken { section: self.section, offset: self.offset, why }
    }

    pub(super) fn malformed(self, malformed: Malformed) -> FileError {
        self.broken(malformed.why)
    }
}
