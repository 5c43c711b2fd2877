//! The first and the last bytes of a file.
//!
//! ```text
//! header    magic 8 bytes, version u32, log2 of the page size u8, 3 zero bytes
//! footer    volume u64, file id 16 bytes, revision in its name u64, log2 of the page size u8, origin
//!           u8, 6 zero bytes, versions u64, pages u64, commits u64; then offset u64 and length u64
//!           of: index blocks, commit blocks, size history, references, filter, directory;
//!           xxh3-64 u64 of the footer so far; version u32; magic 8 bytes
//! ```

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::entry::{FileEntry, Origin};
use super::error::{FileError, Place, Section};
use crate::types::{FileId, PageSize, Revision, VolumeId};
use crate::wire::{Cursor, Malformed};

/// The format version written; every version from 1 to this one is read.
const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"pagestr\n";

pub(super) const HEADER_BYTES: u64 = 16;
pub(super) const FOOTER_BYTES: usize = 64 + 6 * 16 + 8 + 4 + 8;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// The volume that it belongs to.
    pub volume: VolumeId,
    /// Its id.
    pub id: FileId,
    /// The revision in its name.
    pub named_at: Revision,
    /// The volume's page size.
    pub page_size: PageSize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) identity: FileIdentity,
    pub(super) origin: Origin,
    pub(super) version_count: u64,
    pub(super) page_count: u64,
    pub(super) commit_count: u64,
    pub(super) index: Range<u64>,
    pub(super) commits: Range<u64>,
    pub(super) sizes: Range<u64>,
    pub(super) references: Range<u64>,
    pub(super) filter: Range<u64>,
    pub(super) directory: Range<u64>,
}

pub(super) fn encode_header(page_size: PageSize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[page_size.log2(), 0, 0, 0]);
    out
}

/// The bytes of a file's header.
#[must_use]
pub fn header_range() -> Range<u64> {
    0..HEADER_BYTES
}

/// Holds what was fetched from a file's [`header_range`] against what its writer put there. Readers
/// have no need of it: everything in it is in the footer too.
///
/// # Errors
/// [`FileError::Broken`] when it is something else.
pub fn check_header(bytes: &[u8], page_size: PageSize) -> Result<(), FileError> {
    if bytes == encode_header(page_size) {
        return Ok(());
    }
    Err(Place::new(Section::Header, 0).broken("is not that of a file of pages of this size"))
}

impl Footer {
    fn ranges(&self) -> [&Range<u64>; 6] {
        [&self.index, &self.commits, &self.sizes, &self.references, &self.filter, &self.directory]
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&self.identity.volume.0.to_le_bytes());
        out.extend_from_slice(&self.identity.id.bytes());
        out.extend_from_slice(&self.identity.named_at.0.to_le_bytes());
        out.extend_from_slice(&[self.identity.page_size.log2(), self.origin.tag()]);
        out.extend_from_slice(&[0; 6]);
        for count in [self.version_count, self.page_count, self.commit_count] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for range in self.ranges() {
            out.extend_from_slice(&range.start.to_le_bytes());
            out.extend_from_slice(&(range.end - range.start).to_le_bytes());
        }
        let checksum = xxh3_64(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(MAGIC);
        assert_eq!(out.len(), FOOTER_BYTES, "BUG: the footer's layout and its length disagree");
        out
    }

    /// Decodes what the last bytes of the file of `entry` are, given its tail.
    pub(super) fn decode(entry: &FileEntry, tail: &[u8]) -> Result<Footer, FileError> {
        let offset = entry.bytes.saturating_sub(FOOTER_BYTES as u64);
        let place = Place::new(Section::Footer, offset);
        let start = tail.len().checked_sub(12).ok_or(place.broken("ends too early"))?;
        let (rest, end) = tail.split_at_checked(start).ok_or(place.broken("ends too early"))?;
        let mut end = Cursor::new(end);
        let version = end.u32().map_err(|why| place.malformed(why))?;
        if end.array() != Ok(*MAGIC) {
            return Err(place.broken("is not that of a file of pages"));
        }
        if version > VERSION {
            return Err(FileError::NewerVersion { found: version, newest: VERSION });
        }
        let start =
            rest.len().checked_sub(FOOTER_BYTES - 12).ok_or(place.broken("ends too early"))?;
        let body = rest.get(start..).unwrap_or_default();
        let (body, checksum) =
            body.split_last_chunk::<8>().ok_or(place.broken("ends too early"))?;
        if version == 0 || *checksum != xxh3_64(body).to_le_bytes() {
            return Err(place.broken("fails its checksum"));
        }
        let footer = Footer::read(body).map_err(|why| place.malformed(why))?;
        footer.check(entry, offset).map_err(|why| place.broken(why))?;
        Ok(footer)
    }

    fn read(body: &[u8]) -> Result<Footer, Malformed> {
        let mut cursor = Cursor::new(body);
        let (volume, id) = (VolumeId(cursor.u64()?), FileId::from_bytes(cursor.array()?));
        let named_at = Revision(cursor.u64()?);
        let page_size = PageSize::from_log2(cursor.u8()?)
            .map_err(|_| cursor.malformed("has an impossible page size"))?;
        let origin =
            Origin::from_tag(cursor.u8()?).ok_or(cursor.malformed("has an unknown origin"))?;
        cursor.bytes(6)?;
        let mut footer = Footer {
            identity: FileIdentity { volume, id, named_at, page_size },
            origin,
            version_count: cursor.u64()?,
            page_count: cursor.u64()?,
            commit_count: cursor.u64()?,
            index: 0..0,
            commits: 0..0,
            sizes: 0..0,
            references: 0..0,
            filter: 0..0,
            directory: 0..0,
        };
        let ranges = [
            &mut footer.index,
            &mut footer.commits,
            &mut footer.sizes,
            &mut footer.references,
            &mut footer.filter,
            &mut footer.directory,
        ];
        for range in ranges {
            let start = cursor.u64()?;
            let end = start
                .checked_add(cursor.u64()?)
                .ok_or(cursor.malformed("has a section past the end"))?;
            *range = start..end;
        }
        cursor.finish()?;
        Ok(footer)
    }

    fn check(&self, entry: &FileEntry, footer_offset: u64) -> Result<(), &'static str> {
        if self.identity.id != entry.id || self.identity.named_at != entry.named_at {
            return Err("is that of another file");
        }
        if (self.version_count, self.page_count, self.commit_count)
            != (entry.version_count, entry.page_count, entry.commit_count)
        {
            return Err("counts otherwise than the entry");
        }
        let ranges = self.ranges();
        let contiguous = ranges.windows(2).all(|pair| match pair {
            [left, right] => left.end == right.start,
            _ => false,
        });
        if !contiguous || self.directory.end != footer_offset {
            return Err("has its sections out of place");
        }
        Ok(())
    }
}
