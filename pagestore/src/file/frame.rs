//! Frames: neighbouring pages compressed together.
//!
//! ```text
//! frame  sealed, packed: page count varint; per page, its number as varint (of the first) or the
//!        difference to the one before; then the pages' contents
//! ```

use bytes::Bytes;

use super::error::{FileError, Place, Section};
use super::section::{Packer, open_packed};
use super::types::{FrameHandle, IndexEntry};
use crate::types::{HashSecret, PageNo, PageSize};
use crate::wire::{Cursor, Malformed, put_varint};

/// Raw bytes after which a frame is closed: enough for zstd to find what neighbours share, little
/// enough to fetch for one page.
pub(super) const FRAME_TARGET_BYTES: usize = 64 * 1024;

/// Most raw bytes of a frame that are accepted: pages up to the target plus one, and the page numbers.
const FRAME_MAX_RAW_BYTES: usize = 2 * FRAME_TARGET_BYTES + 4096;

/// A frame being filled.
#[derive(Debug, Default)]
pub(super) struct FrameBuilder {
    pages: Vec<PageNo>,
    contents: Vec<u8>,
}

impl FrameBuilder {
    /// Adds a page and says which slot it got. Pages come in order; one may come again.
    pub(super) fn push(&mut self, page: PageNo, content: &[u8]) -> u16 {
        let slot = u16::try_from(self.pages.len()).expect("BUG: a frame is closed at its target");
        assert!(self.pages.last().is_none_or(|last| *last <= page), "BUG: pages come in order");
        self.pages.push(page);
        self.contents.extend_from_slice(content);
        slot
    }

    pub(super) fn is_full(&self) -> bool {
        self.contents.len() >= FRAME_TARGET_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub(super) fn raw_bytes(&self) -> usize {
        self.contents.len()
    }

    /// The frame of what was pushed; begins a new one.
    pub(super) fn close(&mut self, packer: &mut Packer) -> Vec<u8> {
        let mut raw = Vec::with_capacity(self.contents.len() + 16 + self.pages.len() * 2);
        put_varint(&mut raw, self.pages.len() as u64);
        let mut last = 0;
        for page in &self.pages {
            put_varint(&mut raw, page.0 - last);
            last = page.0;
        }
        raw.extend_from_slice(&self.contents);
        self.pages.clear();
        self.contents.clear();
        packer.sealed(&raw)
    }
}

/// A decoded frame.
#[derive(Clone, Debug)]
pub struct Frame {
    place: Place,
    pages: Vec<PageNo>,
    contents: Bytes,
    page_bytes: usize,
}

impl Frame {
    /// Decodes the bytes fetched from `handle`'s range.
    ///
    /// # Errors
    /// [`FileError::Broken`] when they are not a frame of pages of `page_size`.
    pub fn decode(
        handle: FrameHandle,
        page_size: PageSize,
        bytes: &[u8],
    ) -> Result<Frame, FileError> {
        let place = Place::new(Section::Frame, handle.offset);
        let raw = open_packed(bytes, place, FRAME_MAX_RAW_BYTES)?;
        let (pages, start) = read_pages(&raw, page_size).map_err(|why| place.malformed(why))?;
        let contents = Bytes::from(raw).slice(start..);
        Ok(Frame { place, pages, contents, page_bytes: page_size.bytes() })
    }

    /// How many pages it holds.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        self.pages.len()
    }

    /// The page in `slot`, unverified. The bytes share the frame's memory.
    #[must_use]
    pub fn page(&self, slot: u16) -> Option<(PageNo, Bytes)> {
        let slot = usize::from(slot);
        let start = slot.checked_mul(self.page_bytes)?;
        let page = *self.pages.get(slot)?;
        Some((page, self.contents.slice(start..start + self.page_bytes)))
    }

    /// Every page in it, in slot order, unverified: hash one before trusting it.
    pub fn pages(&self) -> impl Iterator<Item = (PageNo, Bytes)> + '_ {
        (0..=u16::MAX).map_while(|slot| self.page(slot))
    }

    /// The content that an index `entry` says is in `slot`. The bytes share the frame's memory.
    ///
    /// # Errors
    /// [`FileError::Broken`] when the slot holds another page, or content of another hash.
    pub fn verified(
        &self,
        entry: &IndexEntry,
        slot: u16,
        secret: &HashSecret,
    ) -> Result<Bytes, FileError> {
        let (page, content) = self.page(slot).ok_or(self.place.broken("has too few pages"))?;
        if page != entry.page {
            return Err(self.place.broken("holds another page than the index says"));
        }
        if secret.hash(page, &content) != entry.hash && !planted!(HashAccepted) {
            return Err(self.place.broken("holds other content than the index says"));
        }
        Ok(content)
    }
}

fn read_pages(raw: &[u8], page_size: PageSize) -> Result<(Vec<PageNo>, usize), Malformed> {
    let mut cursor = Cursor::new(raw);
    let count = cursor.count(page_size.bytes())?;
    let mut pages = Vec::with_capacity(count);
    let mut last = 0u64;
    for _ in 0..count {
        last = last
            .checked_add(cursor.varint()?)
            .ok_or(cursor.malformed("names a page past the last"))?;
        pages.push(PageNo(last));
    }
    if cursor.remaining() != count * page_size.bytes() {
        return Err(cursor.malformed("is not of whole pages"));
    }
    Ok((pages, cursor.offset()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ContentHash, Revision, SECRET_BYTES};
    use std::num::NonZeroU32;

    fn frame(pages: &[u64], fill: u8) -> Vec<u8> {
        let mut builder = FrameBuilder::default();
        for page in pages {
            builder.push(PageNo(*page), &[fill; 512]);
        }
        builder.close(&mut Packer::new())
    }

    fn handle(bytes: &[u8]) -> FrameHandle {
        let bytes = NonZeroU32::new(u32::try_from(bytes.len()).unwrap()).unwrap();
        FrameHandle { offset: 77, bytes }
    }

    #[test]
    fn a_frame_yields_every_page_pushed() {
        let size = PageSize::new(512).unwrap();
        let bytes = frame(&[3, 3, 9, u64::MAX - 1], 7);
        let frame = Frame::decode(handle(&bytes), size, &bytes).unwrap();
        let pages: Vec<u64> = frame.pages().map(|(page, _)| page.0).collect();
        assert_eq!(pages, [3, 3, 9, u64::MAX - 1]);
        assert!(frame.pages().all(|(_, content)| content == [7; 512].as_slice()));
        assert!(frame.page(4).is_none());
        let error = Frame::decode(handle(&bytes), PageSize::DEFAULT, &bytes).unwrap_err();
        assert!(matches!(error, FileError::Broken { section: Section::Frame, offset: 77, .. }));
    }

    #[test]
    fn content_is_held_against_the_index() {
        let (size, secret) = (PageSize::new(512).unwrap(), HashSecret::new([1; SECRET_BYTES]));
        let bytes = frame(&[3, 9], 7);
        let frame = Frame::decode(handle(&bytes), size, &bytes).unwrap();
        let entry = |page, hash| IndexEntry {
            page: PageNo(page),
            revision: Revision(1),
            hash,
            location: None,
        };
        let right = secret.hash(PageNo(9), &[7; 512]);
        assert!(frame.verified(&entry(9, right), 1, &secret).is_ok());
        let why = |result: Result<Bytes, FileError>| result.unwrap_err().to_string();
        assert_eq!(
            why(frame.verified(&entry(9, right), 0, &secret)),
            "frame at offset 77 holds another page than the index says"
        );
        assert_eq!(
            why(frame.verified(&entry(9, ContentHash([1; 16])), 1, &secret)),
            "frame at offset 77 holds other content than the index says"
        );
        assert_eq!(
            why(frame.verified(&entry(9, right), 2, &secret)),
            "frame at offset 77 has too few pages"
        );
    }
}
