//! Files that are to become volumes: what they are, and whether they are whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pagestore::PageSize;

use crate::failure::{Failure, Outcome};

const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";
const SQLITE_HEADER_BYTES: usize = 100;
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// A file of whole pages.
#[derive(Debug)]
pub(crate) struct Image {
    path: PathBuf,
    file: File,
    bytes: u64,
    modified: Option<SystemTime>,
    sqlite: Option<PageSize>,
}

impl Image {
    /// Opens a file and checks that it is whole.
    pub(crate) fn open(path: &Path) -> Outcome<Image> {
        let mut file = File::open(path).map_err(|error| Failure::file(path, &error))?;
        let metadata = file.metadata().map_err(|error| Failure::file(path, &error))?;
        if metadata.is_dir() {
            return Err(refused(path, "is a directory; name the database file in it"));
        }
        let bytes = file
            .seek(SeekFrom::End(0))
            .map_err(|_| refused(path, "has no length; copy it to a file first"))?;
        if bytes == 0 {
            return Err(refused(path, "is empty; an image has at least one page"));
        }
        let header = read_header(&mut file).map_err(|error| Failure::file(path, &error))?;
        let sqlite = match header.starts_with(SQLITE_MAGIC) {
            true => Some(check_sqlite(path, &header, bytes)?),
            false => None,
        };
        Ok(Image { path: path.to_owned(), file, bytes, modified: metadata.modified().ok(), sqlite })
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True when it is a SQLite database.
    pub(crate) fn is_sqlite(&self) -> bool {
        self.sqlite.is_some()
    }

    /// The page size: of a SQLite file what its header says, else what is asked for, else `usual`.
    pub(crate) fn page_size(&self, asked: Option<PageSize>, usual: PageSize) -> Outcome<PageSize> {
        let page_size = match (self.sqlite, asked) {
            (Some(own), Some(asked)) if own != asked => {
                let why = format!(
                    "is a SQLite database with pages of {own} bytes, not of {asked}; leave --page-size out"
                );
                return Err(refused(&self.path, &why));
            }
            (Some(own), _) => own,
            (None, asked) => asked.unwrap_or(usual),
        };
        if !self.bytes.is_multiple_of(page_size.bytes() as u64) {
            let why = format!(
                "is {} bytes long, which is no multiple of the page size, {page_size}; it is cut short, or needs another --page-size",
                self.bytes
            );
            return Err(refused(&self.path, &why));
        }
        Ok(page_size)
    }

    /// Reads the next `buffer.len()` bytes from the beginning on.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Outcome {
        self.file.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(&self.path),
            _ => Failure::file(&self.path, &error),
        })
    }

    /// Fails when the file changed since it was opened: what was read may be of no one moment.
    pub(crate) fn check_unchanged(&mut self) -> Outcome {
        let metadata = self.file.metadata().map_err(|error| Failure::file(&self.path, &error))?;
        let bytes =
            self.file.seek(SeekFrom::End(0)).map_err(|error| Failure::file(&self.path, &error))?;
        if bytes != self.bytes || metadata.modified().ok() != self.modified {
            return Err(changed(&self.path));
        }
        Ok(())
    }
}

fn read_header(file: &mut File) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut header = Vec::with_capacity(SQLITE_HEADER_BYTES);
    file.take(SQLITE_HEADER_BYTES as u64).read_to_end(&mut header)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(header)
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::invalid(format!("{} {why}", path.display()))
}

fn changed(path: &Path) -> Failure {
    Failure::refused(format!(
        "{} changed while it was read; nothing was imported, try again when nobody writes to it",
        path.display()
    ))
}

/// The page size of a SQLite database that is all there.
fn check_sqlite(path: &Path, header: &[u8], bytes: u64) -> Outcome<PageSize> {
    let header: &[u8; SQLITE_HEADER_BYTES] = header
        .try_into()
        .map_err(|_| refused(path, "is a SQLite database cut short in its header"))?;
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let page_size = PageSize::new(page_size).map_err(|error| {
        refused(
            path,
            &format!("is a damaged SQLite database: its header gives a wrong page size: {error}"),
        )
    })?;
    let number = |at: usize| {
        header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    // Old versions of SQLite leave the count of pages alone; then the counters differ.
    let (change_counter, valid_for, page_count) = (number(24), number(92), number(28));
    let expected = u64::from(page_count) * page_size.bytes() as u64;
    if change_counter == valid_for && bytes < expected {
        let why =
            format!("is a SQLite database cut short: {bytes} bytes, its header says {expected}");
        return Err(refused(path, &why));
    }
    check_side_files(path)?;
    Ok(page_size)
}

/// Changes that are not in the database file itself would be lost.
fn check_side_files(path: &Path) -> Outcome {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let wal = beside("-wal");
    if std::fs::metadata(&wal).is_ok_and(|metadata| metadata.len() > 0) {
        let why = format!(
            "has changes that are only in {}; close the database, or run `PRAGMA wal_checkpoint(TRUNCATE)` in it first",
            wal.display()
        );
        return Err(refused(path, &why));
    }
    let journal = beside("-journal");
    let mut magic = [0; JOURNAL_MAGIC.len()];
    let is_hot = File::open(&journal).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == JOURNAL_MAGIC;
    if is_hot {
        let why = format!(
            "is in mid-transaction: {} is beside it; let SQLite finish or roll back first",
            journal.display()
        );
        return Err(refused(path, &why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(page_size: [u8; 2], page_count: u32, counters: (u32, u32)) -> Vec<u8> {
        let mut header = vec![0; SQLITE_HEADER_BYTES];
        header[..16].copy_from_slice(SQLITE_MAGIC);
        header[16..18].copy_from_slice(&page_size);
        header[24..28].copy_from_slice(&counters.0.to_be_bytes());
        header[28..32].copy_from_slice(&page_count.to_be_bytes());
        header[92..96].copy_from_slice(&counters.1.to_be_bytes());
        header
    }

    #[test]
    fn a_header_says_page_size_and_length() {
        let path = Path::new("/nowhere/x.db");
        let size =
            |header: &[u8], bytes| check_sqlite(path, header, bytes).map(|size| size.bytes()).ok();
        assert_eq!(size(&sqlite([0x10, 0], 3, (5, 5)), 12_288), Some(4096));
        assert_eq!(size(&sqlite([0, 1], 1, (5, 5)), 65_536), Some(65_536));
        assert_eq!(size(&sqlite([0x10, 0], 3, (5, 5)), 8192), None);
        // The count is not valid, so the length decides alone.
        assert_eq!(size(&sqlite([0x10, 0], 3, (5, 4)), 8192), Some(4096));
        assert_eq!(size(&sqlite([0x10, 1], 1, (5, 5)), 4096), None);
        assert_eq!(size(&sqlite([0x10, 0], 1, (5, 5))[..50], 50), None);
    }
}
