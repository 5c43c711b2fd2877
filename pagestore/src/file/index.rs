//! Index blocks: sorted entries (page ascending, revision descending) to hash and location.
//!
//! ```text
//! block    sealed: packed columns, then the hashes, 16 bytes each, of the entries with a location
//! columns  count varint; pages: difference to the one before; revisions: zigzag difference to the
//!          one before; locations: a tag u8 each, then as the tag says
//! tag 0    a zero page: no location, no hash
//! tag 1    the slot after the last location's, in its frame
//! tag 2    the first slot of the frame right after the last location's: bytes varint
//! tag 3    file varint, offset varint, bytes varint, slot varint
//! ```

use std::num::NonZeroU32;

use super::directory::BlockHandle;
use super::error::{FileError, Place, Section};
use super::section::{Packer, begin_seal, finish_seal, open_seal, unpack};
use super::types::{EntryKey, FrameHandle, IndexEntry, Location, resolve};
use crate::types::{ContentHash, HASH_BYTES, PageNo, Revision};
use crate::wire::{Cursor, Malformed, put_varint};

/// Entries in a block: one block, some 6 KiB, is fetched and decoded to find one page.
pub(super) const BLOCK_ENTRIES: usize = 256;

/// Most raw bytes of the columns: no entry takes 64.
const COLUMNS_MAX_BYTES: usize = BLOCK_ENTRIES * 64;

const ZERO_PAGE: u8 = 0;
const NEXT_SLOT: u8 = 1;
const NEXT_FRAME: u8 = 2;
const ANYWHERE: u8 = 3;

/// A decoded block of index entries.
#[derive(Clone, Debug)]
pub struct IndexBlock {
    entries: Box<[IndexEntry]>,
}

impl IndexBlock {
    /// Decodes the bytes fetched from `handle`'s range, of a file published at `published`.
    ///
    /// # Errors
    /// [`FileError::Broken`] when they are not that block.
    pub fn decode(
        handle: &BlockHandle,
        published: Revision,
        bytes: &[u8],
    ) -> Result<IndexBlock, FileError> {
        let place = Place::new(Section::IndexBlock, handle.offset);
        let body = open_seal(bytes, place)?;
        let entries = read_block(body, published).map_err(|why| place.malformed(why))?;
        if !entries.is_sorted_by(|left, right| left.key() < right.key()) {
            return Err(place.broken("is out of order"));
        }
        if entries.last().map(IndexEntry::key) != Some(handle.last) {
            return Err(place.broken("ends with another entry than the directory says"));
        }
        Ok(IndexBlock { entries: entries.into() })
    }

    /// A block of `entries`, sorted.
    #[cfg(test)]
    pub(crate) fn of(entries: &[IndexEntry]) -> IndexBlock {
        IndexBlock { entries: entries.into() }
    }

    /// The newest version of `page` at or below `revision`, if it is in this block: ask
    /// [`super::FileTail::block_for`] for the one block where it can be.
    #[must_use]
    pub fn find(&self, page: PageNo, revision: Revision) -> Option<&IndexEntry> {
        let key = EntryKey::new(page, revision);
        let at = self.entries.partition_point(|entry| entry.key() < key);
        self.entries.get(at).filter(|entry| entry.page == page)
    }

    /// The newest version of `page` whose content has `hash`.
    #[must_use]
    pub fn find_hash(&self, page: PageNo, hash: ContentHash) -> Option<&IndexEntry> {
        self.versions(page).iter().find(|entry| entry.hash == hash)
    }

    /// The versions of `page` in this block, newest first. More may be in the next block.
    #[must_use]
    pub fn versions(&self, page: PageNo) -> &[IndexEntry] {
        let start = self.entries.partition_point(|entry| entry.page < page);
        let end = self.entries.partition_point(|entry| entry.page <= page);
        self.entries.get(start..end).unwrap_or_default()
    }

    /// All entries, sorted by page, the newest version of a page first.
    #[must_use]
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<IndexBlock>() + size_of_val::<[IndexEntry]>(&self.entries)
    }
}

/// The block of `entries`, which are sorted and at most [`BLOCK_ENTRIES`].
pub(super) fn encode_block(entries: &[IndexEntry], packer: &mut Packer) -> Vec<u8> {
    let mut columns = Vec::with_capacity(entries.len() * 8);
    put_varint(&mut columns, entries.len() as u64);
    let mut page = 0;
    for entry in entries {
        put_varint(&mut columns, entry.page.0 - page);
        page = entry.page.0;
    }
    let mut revision = 0;
    for entry in entries {
        put_varint(&mut columns, zigzag(entry.revision.0.wrapping_sub(revision)));
        revision = entry.revision.0;
    }
    let mut last = None;
    for entry in entries {
        write_location(entry.location, &mut last, &mut columns);
    }
    let mut block = begin_seal();
    packer.pack(&columns, &mut block);
    let located = entries.iter().filter(|entry| entry.location.is_some());
    located.for_each(|entry| block.extend_from_slice(&entry.hash.0));
    finish_seal(&mut block);
    block
}

fn write_location(location: Option<Location>, last: &mut Option<Location>, out: &mut Vec<u8>) {
    let Some(location) = location else {
        out.push(ZERO_PAGE);
        return;
    };
    if next_slot(*last) == Some(location) {
        out.push(NEXT_SLOT);
    } else if next_frame(*last, location.frame.bytes) == Some(location) {
        out.push(NEXT_FRAME);
        put_varint(out, location.frame.bytes.get().into());
    } else {
        out.push(ANYWHERE);
        put_varint(out, location.file.into());
        put_varint(out, location.frame.offset);
        put_varint(out, location.frame.bytes.get().into());
        put_varint(out, location.slot.into());
    }
    *last = Some(location);
}

fn read_block(body: &[u8], published: Revision) -> Result<Vec<IndexEntry>, Malformed> {
    let mut hashes = Cursor::new(body);
    let columns = unpack(&mut hashes, COLUMNS_MAX_BYTES)?;
    let mut columns = Cursor::new(&columns);
    let count = columns.count(3)?;
    let mut pages = Vec::with_capacity(count);
    let mut page = 0u64;
    for _ in 0..count {
        page = page
            .checked_add(columns.varint()?)
            .ok_or(columns.malformed("names a page past the last"))?;
        pages.push(PageNo(page));
    }
    let mut revisions = Vec::with_capacity(count);
    let mut revision = 0u64;
    for _ in 0..count {
        revision = revision.wrapping_add(unzigzag(columns.varint()?));
        revisions.push(resolve(Revision(revision), published));
    }
    let mut entries = Vec::with_capacity(count);
    let mut last = None;
    for (page, revision) in pages.into_iter().zip(revisions) {
        let location = read_location(&mut last, &mut columns)?;
        let hash = match location {
            None => ContentHash::ZERO_PAGE,
            Some(_) => ContentHash(hashes.array::<HASH_BYTES>()?),
        };
        entries.push(IndexEntry { page, revision, hash, location });
    }
    columns.finish()?;
    hashes.finish()?;
    Ok(entries)
}

fn read_location(
    last: &mut Option<Location>,
    columns: &mut Cursor<'_>,
) -> Result<Option<Location>, Malformed> {
    let orphan = columns.malformed("follows no location");
    let location = match columns.u8()? {
        ZERO_PAGE => return Ok(None),
        NEXT_SLOT => next_slot(*last).ok_or(orphan)?,
        NEXT_FRAME => {
            let bytes = read_frame_bytes(columns)?;
            next_frame(*last, bytes).ok_or(orphan)?
        }
        ANYWHERE => Location {
            file: read_u16(columns)?,
            frame: FrameHandle { offset: columns.varint()?, bytes: read_frame_bytes(columns)? },
            slot: read_u16(columns)?,
        },
        _ => return Err(columns.malformed("has a location of an unknown kind")),
    };
    *last = Some(location);
    Ok(Some(location))
}

fn read_frame_bytes(columns: &mut Cursor<'_>) -> Result<NonZeroU32, Malformed> {
    u32::try_from(columns.varint()?)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or(columns.malformed("names a frame of an impossible length"))
}

fn read_u16(columns: &mut Cursor<'_>) -> Result<u16, Malformed> {
    u16::try_from(columns.varint()?).map_err(|_| columns.malformed("has a number over 16 bits"))
}

fn next_slot(last: Option<Location>) -> Option<Location> {
    let last = last?;
    Some(Location { slot: last.slot.checked_add(1)?, ..last })
}

fn next_frame(last: Option<Location>, bytes: NonZeroU32) -> Option<Location> {
    let last = last?;
    let offset = last.frame.offset.checked_add(last.frame.bytes.get().into())?;
    Some(Location { file: last.file, frame: FrameHandle { offset, bytes }, slot: 0 })
}

/// Small differences of either sign as small numbers; a difference wraps, so that it never overflows.
pub(super) fn zigzag(difference: u64) -> u64 {
    let sign = if difference >> 63 == 1 { u64::MAX } else { 0 };
    difference << 1 ^ sign
}

/// Undoes [`zigzag`].
pub(super) fn unzigzag(coded: u64) -> u64 {
    let sign = if coded & 1 == 1 { u64::MAX } else { 0 };
    coded >> 1 ^ sign
}

#[cfg(test)]
mod tests;
