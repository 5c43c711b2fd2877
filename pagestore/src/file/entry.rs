use bytes::Bytes;

use super::types::resolve;
use crate::error::{Error, ErrorKind, Result};
use crate::meta::keys::FilePlace;
use crate::types::{FileId, PageCount, PageNo, Revision};
use crate::wire::{Cursor, Malformed, put_varint, seal, unseal};

/// The version written; every version from 1 to this one is read.
const VERSION: u8 = 1;

/// Most files that one file's index may point into: it keeps the entry far below the meta tier's
/// limit on a request.
pub const MAX_REFS: usize = 4096;

/// What made a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A flush of staged pages.
    Flush,
    /// A commit too large for the meta tier. Its entries take the revision of its publication.
    Bulk,
    /// A merge of other files.
    Merge,
}

impl Origin {
    /// The byte that stands for it.
    pub(super) fn tag(self) -> u8 {
        match self {
            Origin::Flush => 1,
            Origin::Bulk => 2,
            Origin::Merge => 3,
        }
    }

    /// What `tag` stands for.
    pub(super) fn from_tag(tag: u8) -> Option<Origin> {
        [Origin::Flush, Origin::Bulk, Origin::Merge].into_iter().find(|origin| origin.tag() == tag)
    }

    /// The name that people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Flush => "flush",
            Origin::Bulk => "bulk",
            Origin::Merge => "merge",
        }
    }
}

/// A file that another's index points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// The file.
    pub id: FileId,
    /// The revision in its name.
    pub named_at: Revision,
    /// Bytes of the frames pointed to.
    pub frame_bytes: u64,
    /// How many frames are pointed to.
    pub frame_count: u64,
    /// How many index entries point there.
    pub page_count: u64,
}

/// What truncations a file remembers, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Revision of the newest.
    pub newest: Revision,
    /// Lowest page count that any went through.
    pub lowest: PageCount,
}

/// A file of a volume, as the meta tier lists it. The key says level, page range and id; the value
/// the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// The file.
    pub id: FileId,
    /// The revision that is part of the object's name.
    pub named_at: Revision,
    /// 0 for files in commit order, from 1 on sorted runs.
    pub level: u8,
    /// First page that it has a version of; of a file without pages `u64::MAX`, which is no page.
    pub first: PageNo,
    /// Last page that it has a version of.
    pub last: PageNo,
    /// Revision of the file's first publication; `None` only until it is published.
    pub published: Option<Revision>,
    /// What made it.
    pub origin: Origin,
    /// Length of the object.
    pub bytes: u64,
    /// Where the tail begins: what a reader fetches first, up to the end of the object.
    pub tail_offset: u64,
    /// xxh3-64 of the tail.
    pub tail_checksum: u64,
    /// Versions of pages in the index.
    pub version_count: u64,
    /// Pages in the index.
    pub page_count: u64,
    /// Revision of the oldest version (of the oldest commit or size change, without versions).
    pub oldest: Revision,
    /// Revision of the newest version (of the newest commit or size change, without versions).
    pub newest: Revision,
    /// Commit records.
    pub commit_count: u64,
    /// When the newest commit's id was made; 0 without commits.
    pub newest_commit_ms: u64,
    /// Changes of the page count.
    pub size_change_count: u64,
    /// Truncations among them.
    pub truncation: Option<Truncation>,
    /// The files that the index points into, in the order of [`super::Location::file`], from 1.
    pub refs: Vec<FileRef>,
    /// Bytes of the file's own frames.
    pub own_frame_bytes: u64,
    /// Bytes of the pages in them before compression.
    pub raw_bytes: u64,
}

impl FileEntry {
    /// Where the key says it stands.
    #[must_use]
    pub fn place(&self) -> FilePlace {
        FilePlace { level: self.level, first: self.first, last: self.last, file: self.id }
    }

    /// True when the file has versions of no page: it remembers commits or sizes only.
    #[must_use]
    pub fn is_pageless(&self) -> bool {
        self.version_count == 0
    }

    /// True when `page` lies within the file's range. The file's filter knows for sure.
    #[must_use]
    pub fn may_hold(&self, page: PageNo) -> bool {
        !self.is_pageless() && (self.first..=self.last).contains(&page)
    }

    /// The range to fetch for [`super::FileTail::decode`].
    #[must_use]
    pub fn tail_range(&self) -> std::ops::Range<u64> {
        self.tail_offset..self.bytes
    }

    /// The value to put under the entry's key, of which `suffix` is the sealed part.
    #[must_use]
    pub fn encode(&self, suffix: &[u8]) -> Bytes {
        let mut body = Vec::with_capacity(96 + self.refs.len() * 32);
        self.write(&mut body);
        seal(suffix, VERSION, &body).into()
    }

    /// The entry whose key says `place`, whose value was put at `mod_revision`. An entry that was not
    /// published before takes that as the revision of its publication.
    ///
    /// # Errors
    /// `Corrupt` when the seal or the body is broken, `Invalid` for a version newer than this build.
    pub fn decode(
        place: FilePlace,
        suffix: &[u8],
        value: &[u8],
        mod_revision: Revision,
    ) -> Result<FileEntry> {
        let key = || format!("entry of file {} at key {}", place.file, suffix.escape_ascii());
        let unsealed = unseal(suffix, value).map_err(|why| Error::corrupt(key(), why))?;
        if unsealed.version == 0 || unsealed.version > VERSION {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "written in format version {}, this build reads up to version {VERSION}; upgrade it: {}",
                    unsealed.version,
                    key()
                ),
            ));
        }
        let mut cursor = Cursor::new(unsealed.body);
        let read = || {
            let entry = FileEntry::read(place, &mut cursor)?.published_at(mod_revision);
            entry.check().map_err(|why| cursor.malformed(why))?;
            cursor.finish().map(|()| entry)
        };
        read().map_err(|why| Error::corrupt(key(), why))
    }

    fn published_at(mut self, revision: Revision) -> FileEntry {
        let published = *self.published.get_or_insert(revision);
        self.oldest = resolve(self.oldest, published);
        self.newest = resolve(self.newest, published);
        if let Some(truncation) = &mut self.truncation {
            truncation.newest = resolve(truncation.newest, published);
        }
        self
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.origin.tag());
        let truncation = self.truncation;
        out.push(u8::from(self.published.is_some()) | u8::from(truncation.is_some()) << 1);
        out.extend_from_slice(&self.tail_checksum.to_le_bytes());
        let fields = [
            self.named_at.0,
            self.bytes,
            self.tail_offset,
            self.version_count,
            self.page_count,
            self.oldest.0,
            self.newest.0,
            self.commit_count,
            self.newest_commit_ms,
            self.size_change_count,
            self.own_frame_bytes,
            self.raw_bytes,
        ];
        fields.iter().for_each(|field| put_varint(out, *field));
        if let Some(published) = self.published {
            put_varint(out, published.0);
        }
        if let Some(truncation) = truncation {
            put_varint(out, truncation.newest.0);
            put_varint(out, truncation.lowest.0);
        }
        put_varint(out, self.refs.len() as u64);
        for file in &self.refs {
            out.extend_from_slice(&file.id.bytes());
            let fields = [file.named_at.0, file.frame_bytes, file.frame_count, file.page_count];
            fields.iter().for_each(|field| put_varint(out, *field));
        }
    }

    fn read(place: FilePlace, body: &mut Cursor<'_>) -> Result<FileEntry, Malformed> {
        let origin = Origin::from_tag(body.u8()?).ok_or(body.malformed("has an unknown origin"))?;
        let flags = body.u8()?;
        if flags > 3 {
            return Err(body.malformed("has unknown flags"));
        }
        let mut entry = FileEntry {
            id: place.file,
            level: place.level,
            first: place.first,
            last: place.last,
            origin,
            tail_checksum: body.u64()?,
            named_at: Revision(body.varint()?),
            bytes: body.varint()?,
            tail_offset: body.varint()?,
            version_count: body.varint()?,
            page_count: body.varint()?,
            oldest: Revision(body.varint()?),
            newest: Revision(body.varint()?),
            commit_count: body.varint()?,
            newest_commit_ms: body.varint()?,
            size_change_count: body.varint()?,
            own_frame_bytes: body.varint()?,
            raw_bytes: body.varint()?,
            published: None,
            truncation: None,
            refs: Vec::new(),
        };
        if flags & 1 != 0 {
            entry.published = Some(Revision(body.varint()?));
        }
        if flags & 2 != 0 {
            let (newest, lowest) = (Revision(body.varint()?), PageCount(body.varint()?));
            entry.truncation = Some(Truncation { newest, lowest });
        }
        for _ in 0..body.count(16 + 4)? {
            entry.refs.push(FileRef {
                id: FileId::from_bytes(body.array()?),
                named_at: Revision(body.varint()?),
                frame_bytes: body.varint()?,
                frame_count: body.varint()?,
                page_count: body.varint()?,
            });
        }
        Ok(entry)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.tail_offset > self.bytes {
            return Err("has its tail past its end");
        }
        if self.first > self.last {
            return Err("has its first page after its last");
        }
        if self.page_count > self.version_count
            || (self.page_count == 0) != (self.version_count == 0)
        {
            return Err("has other counts of pages than of versions");
        }
        if self.oldest > self.newest {
            return Err("has its oldest version after its newest");
        }
        if self.refs.len() > MAX_REFS {
            return Err("points into too many files");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
