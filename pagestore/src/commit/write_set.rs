use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::types::{PageCount, PageNo, PageSize};

/// Bytes of written pages that a transaction keeps in memory; more go to a temporary file.
const MEMORY_BYTES: usize = 32 << 20;

/// The pages that a transaction wrote, the last content of each. Bounded in memory.
#[derive(Debug)]
pub(super) struct WriteSet {
    page_size: PageSize,
    memory_bytes: usize,
    pages: BTreeMap<PageNo, Place>,
    in_memory: usize,
    spill: Option<Spill>,
}

#[derive(Debug)]
enum Place {
    Memory(Bytes),
    /// The slot in the temporary file.
    Spilled(u64),
}

/// A temporary file without a name: it goes when the transaction does, or the process.
#[derive(Debug)]
struct Spill {
    file: File,
    slots: u64,
}

impl WriteSet {
    /// Nothing written yet.
    #[must_use]
    pub(super) fn new(page_size: PageSize) -> WriteSet {
        WriteSet::with_memory(page_size, MEMORY_BYTES)
    }

    fn with_memory(page_size: PageSize, memory_bytes: usize) -> WriteSet {
        WriteSet { page_size, memory_bytes, pages: BTreeMap::new(), in_memory: 0, spill: None }
    }

    /// How many pages were written.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    /// The pages written, in order.
    pub(super) fn pages(&self) -> impl Iterator<Item = PageNo> + '_ {
        self.pages.keys().copied()
    }

    /// Sets the content of `page`, one page long.
    ///
    /// # Errors
    /// `Unavailable` when the temporary file cannot be written.
    pub(super) fn insert(&mut self, page: PageNo, content: Bytes) -> Result<()> {
        assert_eq!(
            content.len(),
            self.page_size.bytes(),
            "BUG: the length of a write is checked before"
        );
        let full = self.in_memory + content.len() > self.memory_bytes;
        let place = match self.pages.remove(&page) {
            Some(Place::Memory(old)) => {
                self.in_memory = self.in_memory - old.len() + content.len();
                Place::Memory(content)
            }
            Some(Place::Spilled(slot)) => self.spill(&content, Some(slot))?,
            None if full => self.spill(&content, None)?,
            None => {
                self.in_memory += content.len();
                Place::Memory(content)
            }
        };
        self.pages.insert(page, place);
        Ok(())
    }

    /// The content written to `page`, if any.
    ///
    /// # Errors
    /// `Unavailable` when the temporary file cannot be read.
    pub(super) fn get(&self, page: PageNo) -> Result<Option<Bytes>> {
        let Some(place) = self.pages.get(&page) else { return Ok(None) };
        let slot = match place {
            Place::Memory(content) => return Ok(Some(content.clone())),
            Place::Spilled(slot) => *slot,
        };
        let spill = self.spill.as_ref().expect("BUG: a spilled page has a file");
        let mut content = vec![0; self.page_size.bytes()];
        let offset = slot * content.len() as u64;
        spill.file.read_exact_at(&mut content, offset).map_err(|error| spill_error(&error))?;
        Ok(Some(content.into()))
    }

    /// Forgets the write of `page`.
    pub(super) fn remove(&mut self, page: PageNo) {
        if let Some(Place::Memory(content)) = self.pages.remove(&page) {
            self.in_memory -= content.len();
        }
    }

    /// Forgets writes to pages that `count` leaves out.
    pub(super) fn truncate(&mut self, count: PageCount) {
        for place in self.pages.split_off(&PageNo(count.0)).into_values() {
            if let Place::Memory(content) = place {
                self.in_memory -= content.len();
            }
        }
    }

    fn spill(&mut self, content: &[u8], slot: Option<u64>) -> Result<Place> {
        if self.spill.is_none() {
            let file = tempfile::tempfile().map_err(|error| spill_error(&error))?;
            self.spill = Some(Spill { file, slots: 0 });
        }
        let spill = self.spill.as_mut().expect("BUG: it was made just now");
        let slot = slot.unwrap_or(spill.slots);
        spill
            .file
            .write_all_at(content, slot * content.len() as u64)
            .map_err(|error| spill_error(&error))?;
        spill.slots = spill.slots.max(slot + 1);
        Ok(Place::Spilled(slot))
    }
}

fn spill_error(error: &std::io::Error) -> Error {
    Error::unavailable(format!(
        "a large transaction could not use its temporary file; make room in the directory of TMPDIR: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(fill: u8) -> Bytes {
        vec![fill; 512].into()
    }

    #[test]
    fn what_does_not_fit_in_memory_is_spilled_and_read_back() {
        let mut writes = WriteSet::with_memory(PageSize::new(512).unwrap(), 1024);
        for i in 0..10u8 {
            writes.insert(PageNo(i.into()), page(i)).unwrap();
        }
        for i in (0..10u8).rev() {
            writes.insert(PageNo(i.into()), page(i + 100)).unwrap();
        }
        assert_eq!(writes.in_memory, 1024);
        for i in 0..10u8 {
            assert_eq!(writes.get(PageNo(i.into())).unwrap(), Some(page(i + 100)));
        }
        assert_eq!(writes.get(PageNo(10)).unwrap(), None);
        writes.truncate(PageCount(1));
        assert_eq!((writes.len(), writes.in_memory), (1, 512));
        writes.insert(PageNo(5), page(7)).unwrap();
        assert_eq!(writes.get(PageNo(5)).unwrap(), Some(page(7)));
    }
}
