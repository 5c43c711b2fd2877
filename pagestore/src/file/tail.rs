use std::ops::RangeInclusive;

use bytes::Bytes;
use roaring::RoaringTreemap;
use xxhash_rust::xxh3::xxh3_64;

use super::directory::{
    BlockHandle, CommitBlockHandle, Directory, decode_filter, decode_references, decode_sizes,
};
use super::entry::FileEntry;
use super::error::{FileError, Place, Section};
use super::footer::{FileIdentity, Footer};
use super::section::open_packed;
use super::types::{BodyAt, EntryKey, Location, SizeChange};
use crate::types::{FileId, PageNo, Revision};

/// Most raw bytes of a part of the tail that are accepted, whatever else justifies more.
const PART_MAX_RAW_BYTES: u64 = 1 << 28;
/// A block of index entries or commits takes at least so many bytes: a checksum and two lengths.
const MIN_BLOCK_BYTES: u64 = 16;
/// Bytes of a count, and of any number, at most.
const VARINT_BYTES: u64 = 10;

/// Most raw bytes of each part of the tail, by what entry and footer say that there is: a part that is larger
/// lies, and is not unpacked.
struct Justified {
    directory: u64,
    filter: u64,
    references: u64,
    sizes: u64,
}

impl Justified {
    fn by(entry: &FileEntry, footer: &Footer) -> Justified {
        let of = |count: u64, bytes: u64| VARINT_BYTES.saturating_add(count.saturating_mul(bytes));
        let blocks =
            |range: &std::ops::Range<u64>| range.end.saturating_sub(range.start) / MIN_BLOCK_BYTES;
        let index = of(blocks(&footer.index), 3 * VARINT_BYTES);
        let commits = of(blocks(&footer.commits), 4 * VARINT_BYTES + 32);
        Justified {
            directory: index.saturating_add(commits),
            // A page of its own in a bitmap of its own takes 22 bytes.
            filter: of(footer.page_count, 32),
            references: of(entry.refs.len() as u64, 16 + VARINT_BYTES),
            sizes: of(entry.size_change_count, 3 * VARINT_BYTES),
        }
    }
}

/// What a reader holds of an open file: it says which block to fetch for a page.
///
/// Decoded from the file's last bytes ([`FileEntry::tail_range`]), one request.
#[derive(Clone, Debug)]
pub struct FileTail {
    identity: FileIdentity,
    published: Revision,
    directory: Directory,
    pages: RoaringTreemap,
    references: Vec<(FileId, Revision)>,
    sizes: Vec<SizeChange>,
    commits: Bytes,
    commits_offset: u64,
}

impl FileTail {
    /// Decodes the bytes fetched from the tail's range of a published file.
    ///
    /// # Errors
    /// [`FileError::Broken`] when they are not the tail of the entry's file,
    /// [`FileError::NewerVersion`] when a newer build wrote them.
    pub fn decode(entry: &FileEntry, bytes: &Bytes) -> Result<FileTail, FileError> {
        let place = Place::new(Section::Tail, entry.tail_offset);
        if bytes.len() as u64 != entry.bytes.saturating_sub(entry.tail_offset) {
            return Err(place.broken("is of another length than its entry says"));
        }
        if xxh3_64(bytes) != entry.tail_checksum {
            return Err(place.broken("fails its checksum"));
        }
        let published = entry.published.unwrap_or(Revision::ZERO);
        let footer = Footer::decode(entry, bytes)?;
        let parts = Parts { bytes, start: entry.tail_offset };
        let justified = Justified::by(entry, &footer);

        let place = Place::new(Section::Directory, footer.directory.start);
        let raw = parts.unpacked(&footer.directory, place, justified.directory)?;
        let (index, commits) = (footer.index.clone(), footer.commits.clone());
        let directory = Directory::decode(&raw, index, commits, published)
            .map_err(|why| place.malformed(why))?;

        let place = Place::new(Section::Filter, footer.filter.start);
        let raw = parts.unpacked(&footer.filter, place, justified.filter)?;
        let pages = decode_filter(&raw).map_err(|why| place.malformed(why))?;
        if pages.len() != footer.page_count {
            return Err(place.broken("counts other pages than the footer"));
        }

        let place = Place::new(Section::References, footer.references.start);
        let raw = parts.unpacked(&footer.references, place, justified.references)?;
        let references = decode_references(&raw).map_err(|why| place.malformed(why))?;
        if !references.iter().copied().eq(entry.refs.iter().map(|file| (file.id, file.named_at))) {
            return Err(place.broken("names other files than the entry"));
        }

        let place = Place::new(Section::Sizes, footer.sizes.start);
        let raw = parts.unpacked(&footer.sizes, place, justified.sizes)?;
        let sizes = decode_sizes(&raw, published).map_err(|why| place.malformed(why))?;

        let commits = parts.slice(&footer.commits).unwrap_or_default();
        let commits_offset = footer.commits.start;
        let identity = footer.identity;
        Ok(FileTail {
            identity,
            published,
            directory,
            pages,
            references,
            sizes,
            commits,
            commits_offset,
        })
    }

    /// What the file says of itself: hold volume and page size against what was expected.
    #[must_use]
    pub fn identity(&self) -> &FileIdentity {
        &self.identity
    }

    /// Revision of the file's publication, which [`super::IndexBlock::decode`] wants.
    #[must_use]
    pub fn published(&self) -> Revision {
        self.published
    }

    /// True exactly when the file has a version of `page`.
    #[must_use]
    pub fn holds(&self, page: PageNo) -> bool {
        self.pages.contains(page.0)
    }

    /// Exactly the pages that the file has versions of.
    #[must_use]
    pub fn pages(&self) -> &RoaringTreemap {
        &self.pages
    }

    /// The one block where the newest version of `page` at or below `revision` is, if there is one.
    #[must_use]
    pub fn block_for(&self, page: PageNo, revision: Revision) -> Option<&BlockHandle> {
        if !self.holds(page) {
            return None;
        }
        let key = EntryKey::new(page, revision);
        let at = self.directory.blocks.partition_point(|block| block.last < key);
        self.directory.blocks.get(at)
    }

    /// The blocks where versions of `pages` are.
    #[must_use]
    pub fn blocks_of(&self, pages: RangeInclusive<PageNo>) -> &[BlockHandle] {
        let blocks = &self.directory.blocks;
        let first = EntryKey::new(*pages.start(), Revision::MAX);
        let last = EntryKey::new(*pages.end(), Revision::ZERO);
        let start = blocks.partition_point(|block| block.last < first);
        let end = blocks.partition_point(|block| block.last < last).saturating_add(1);
        blocks.get(start..end.min(blocks.len())).unwrap_or_default()
    }

    /// All index blocks, in order.
    #[must_use]
    pub fn blocks(&self) -> &[BlockHandle] {
        &self.directory.blocks
    }

    /// All commit blocks, oldest first.
    #[must_use]
    pub fn commit_blocks(&self) -> &[CommitBlockHandle] {
        &self.directory.commit_blocks
    }

    /// The bytes of a commit block, when the tail holds them: then they need no fetch.
    #[must_use]
    pub fn commit_block_bytes(&self, handle: &CommitBlockHandle) -> Option<Bytes> {
        let parts = Parts { bytes: &self.commits, start: self.commits_offset };
        parts.slice(&handle.range())
    }

    /// How the page count changed, oldest first.
    #[must_use]
    pub fn sizes(&self) -> &[SizeChange] {
        &self.sizes
    }

    /// The files that the index points into with the revisions in their names, from
    /// [`Location::file`] 1 on.
    #[must_use]
    pub fn references(&self) -> &[(FileId, Revision)] {
        &self.references
    }

    /// The file and place that a location of this file's index means.
    ///
    /// # Errors
    /// [`FileError::Broken`] when it names a file that is not among the references.
    pub fn resolve(&self, location: Location) -> Result<BodyAt, FileError> {
        let (file, named_at) = match usize::from(location.file).checked_sub(1) {
            None => (self.identity.id, self.identity.named_at),
            Some(at) => *self.references.get(at).ok_or(
                Place::new(Section::References, 0).broken("lack a file that the index points into"),
            )?,
        };
        Ok(BodyAt { file, named_at, frame: location.frame, slot: location.slot })
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<FileTail>()
            + size_of_val::<[BlockHandle]>(&self.directory.blocks)
            + size_of_val::<[CommitBlockHandle]>(&self.directory.commit_blocks)
            + size_of_val::<[(FileId, Revision)]>(&self.references)
            + size_of_val::<[SizeChange]>(&self.sizes)
            + self.pages.serialized_size()
            + self.commits.len()
    }
}

/// Bytes of a file from `start` on.
struct Parts<'a> {
    bytes: &'a Bytes,
    start: u64,
}

impl Parts<'_> {
    fn slice(&self, range: &std::ops::Range<u64>) -> Option<Bytes> {
        let start = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (start <= end && end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }

    fn unpacked(
        &self,
        range: &std::ops::Range<u64>,
        place: Place,
        justified: u64,
    ) -> Result<Vec<u8>, FileError> {
        let part = self.slice(range).ok_or(place.broken("lies outside the tail"))?;
        let most = usize::try_from(justified.min(PART_MAX_RAW_BYTES)).unwrap_or(usize::MAX);
        open_packed(&part, place, most)
    }
}
