//! Journals: what SQLite writes down to be able to roll back.
//!
//! Nobody else ever needs one, because nothing is in the store before it is committed: a journal belongs
//! to its handle and goes with it. Small ones stay in memory, large ones go to a temporary file.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex};

use libsqlite3_sys as ffi;
use tempfile::SpooledTempFile;

use crate::failure::{Failure, Outcome};

/// Bytes of a journal that are kept in memory.
const MEMORY_BYTES: usize = 8 << 20;

/// The content of a journal; of a super-journal, shared by those who have it open.
#[derive(Clone, Debug)]
pub(crate) struct Content(Arc<Mutex<Spooled>>);

#[derive(Debug)]
struct Spooled {
    file: SpooledTempFile,
    length: u64,
}

impl Default for Content {
    fn default() -> Content {
        let file = SpooledTempFile::new(MEMORY_BYTES);
        Content(Arc::new(Mutex::new(Spooled { file, length: 0 })))
    }
}

impl Content {
    /// Bytes from `offset` on: fewer than asked for at the end.
    pub(crate) fn read(&self, offset: u64, to: &mut [u8]) -> Outcome<usize> {
        let mut spooled = crate::group::lock(&self.0);
        let left = spooled.length.saturating_sub(offset);
        let count = to.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let to = to.get_mut(..count).unwrap_or_default();
        let mut read = || {
            spooled.file.seek(SeekFrom::Start(offset))?;
            spooled.file.read_exact(to)
        };
        read().map_err(|error| failure(ffi::SQLITE_IOERR_READ, &error))?;
        Ok(count)
    }

    pub(crate) fn write(&self, offset: u64, content: &[u8]) -> Outcome<()> {
        let mut spooled = crate::group::lock(&self.0);
        let mut write = || {
            spooled.file.seek(SeekFrom::Start(offset))?;
            spooled.file.write_all(content)
        };
        write().map_err(|error| failure(ffi::SQLITE_IOERR_WRITE, &error))?;
        spooled.length = spooled.length.max(offset + content.len() as u64);
        Ok(())
    }

    pub(crate) fn truncate(&self, length: u64) -> Outcome<()> {
        let mut spooled = crate::group::lock(&self.0);
        if length < spooled.length {
            let cut = spooled.file.set_len(length);
            cut.map_err(|error| failure(ffi::SQLITE_IOERR_TRUNCATE, &error))?;
            spooled.length = length;
        }
        Ok(())
    }

    pub(crate) fn length(&self) -> u64 {
        crate::group::lock(&self.0).length
    }
}

fn failure(code: std::ffi::c_int, error: &std::io::Error) -> Failure {
    Failure::new(
        code,
        format!(
            "a journal could not use its temporary file; make room in the directory of TMPDIR: {error}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_also_beyond_memory() {
        let content = Content::default();
        let block = vec![7; 1 << 20];
        for at in (0..12u64).rev() {
            content.write(at << 20, &block).unwrap();
        }
        assert_eq!(content.length(), 12 << 20);
        let mut end = [0; 8];
        assert_eq!(content.read((12 << 20) - 4, &mut end).unwrap(), 4);
        assert_eq!(end, [7, 7, 7, 7, 0, 0, 0, 0]);
        content.truncate(3).unwrap();
        assert_eq!(content.read(0, &mut end).unwrap(), 3);
        assert_eq!(content.read(9, &mut end).unwrap(), 0);
        content.write(5, &[1]).unwrap();
        assert_eq!(content.length(), 6);
        assert_eq!(content.read(0, &mut end).unwrap(), 6);
        assert_eq!(end[..6], [7, 7, 7, 0, 0, 1]);
    }
}
