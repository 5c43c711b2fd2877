mod area;
mod references;

use area::{Area, Slot};
use bytes::Bytes;
use references::References;
use roaring::RoaringTreemap;
use xxhash_rust::xxh3::xxh3_64;

use super::commits::{self, BLOCK_COMMITS};
use super::directory::{
    BlockHandle, CommitBlockHandle, Directory, encode_filter, encode_references, encode_sizes,
};
use super::entry::{FileEntry, Origin, Truncation};
use super::footer::{FileIdentity, Footer, HEADER_BYTES, encode_header};
use super::index::{self, BLOCK_ENTRIES};
use super::section::Packer;
use super::types::{BodyAt, CommitRecord, EntryKey, IndexEntry, Location, SizeChange};
use crate::types::{ContentHash, FileId, PageNo, Revision};

/// Commit records up to this many bytes travel with the tail.
const TAIL_COMMIT_BYTES: u64 = 16 * 1024;

/// What an entry will take in the index, about: for telling how large the file has become.
const INDEX_BYTES_PER_ENTRY: u64 = 24;

/// What a new file is to be.
#[derive(Clone, Copy, Debug)]
pub struct FileParams {
    /// What the file will say of itself.
    pub identity: FileIdentity,
    /// The level it is for.
    pub level: u8,
    /// What makes it.
    pub origin: Origin,
}

/// A complete file, to be put in one piece.
#[derive(Debug)]
pub struct BuiltFile {
    /// The object's bytes.
    pub chunks: Vec<Bytes>,
    /// The entry to publish once the object is there.
    pub entry: FileEntry,
}

/// Builds a file in memory. Versions are pushed in index order: by page, the newest version of a page
/// first.
///
/// The newest versions of pages lie in frames in page order, one frame after the other; older ones lie
/// in frames behind all of those, so that a scan of the newest reads nothing else.
pub struct FileWriter {
    params: FileParams,
    packer: Packer,
    newest: Area,
    history: Area,
    entries: Vec<Pending>,
    pages: RoaringTreemap,
    references: References,
    commits: Vec<CommitRecord>,
    sizes: Vec<SizeChange>,
}

struct Pending {
    page: PageNo,
    revision: Revision,
    hash: ContentHash,
    body: Body,
}

#[derive(Clone, Copy)]
enum Body {
    Zero,
    Newest(Slot),
    History(Slot),
    Elsewhere(Location),
}

impl FileWriter {
    /// An empty file.
    #[must_use]
    pub fn new(params: FileParams) -> FileWriter {
        FileWriter {
            params,
            packer: Packer::new(),
            newest: Area::default(),
            history: Area::default(),
            entries: Vec::new(),
            pages: RoaringTreemap::new(),
            references: References::default(),
            commits: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Adds a version whose content goes into this file.
    pub fn push_body(
        &mut self,
        page: PageNo,
        revision: Revision,
        hash: ContentHash,
        content: &[u8],
    ) {
        let page_size = self.params.identity.page_size;
        assert_eq!(
            content.len(),
            page_size.bytes(),
            "BUG: content is of another length than a page"
        );
        if hash.is_zero_page() {
            self.push_zero(page, revision);
            return;
        }
        let body = if self.pages.contains(page.0) {
            Body::History(self.history.push(page, content, &mut self.packer))
        } else {
            Body::Newest(self.newest.push(page, content, &mut self.packer))
        };
        self.push(Pending { page, revision, hash, body });
    }

    /// Adds a version that is a page of zeros.
    pub fn push_zero(&mut self, page: PageNo, revision: Revision) {
        self.push(Pending { page, revision, hash: ContentHash::ZERO_PAGE, body: Body::Zero });
    }

    /// Adds a version whose content stays in another file, of which [`FileWriter::can_refer_to`]
    /// holds.
    pub fn push_ref(&mut self, page: PageNo, revision: Revision, hash: ContentHash, at: BodyAt) {
        assert_ne!(
            at.file, self.params.identity.id,
            "BUG: a file refers to itself before it is built"
        );
        assert!(!hash.is_zero_page(), "BUG: a page of zeros is stored nowhere");
        let location = self.references.locate(at);
        self.push(Pending { page, revision, hash, body: Body::Elsewhere(location) });
    }

    /// Adds a commit; in any order.
    pub fn push_commit(&mut self, record: CommitRecord) {
        self.check_revision(record.revision);
        self.commits.push(record);
    }

    /// Adds a change of the page count; in any order, one a revision.
    pub fn push_size_change(&mut self, change: SizeChange) {
        self.check_revision(change.revision);
        self.sizes.push(change);
    }

    /// Bytes that the file would have by now, about.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        let index = self.entries.len() as u64 * INDEX_BYTES_PER_ENTRY;
        HEADER_BYTES + self.newest.bytes() + self.history.bytes() + index
    }

    /// Versions pushed. The writer's memory is the file's bytes and some 64 bytes for each.
    #[must_use]
    pub fn version_count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// True when nothing at all was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.commits.is_empty() && self.sizes.is_empty()
    }

    /// True while the file may point into `file`: it may point into [`super::MAX_REFS`] others.
    #[must_use]
    pub fn can_refer_to(&self, file: FileId) -> bool {
        self.references.can_refer_to(file)
    }

    fn push(&mut self, version: Pending) {
        self.check_revision(version.revision);
        assert!(version.page < PageNo(u64::MAX), "BUG: the last page number is no page");
        let key = EntryKey::new(version.page, version.revision);
        let last = self.entries.last().map(|last| EntryKey::new(last.page, last.revision));
        assert!(last.is_none_or(|last| last < key), "BUG: versions are pushed out of order");
        self.pages.insert(version.page.0);
        self.entries.push(version);
    }

    fn check_revision(&self, revision: Revision) {
        assert!(
            (revision == Revision::ZERO) == (self.params.origin == Origin::Bulk),
            "BUG: only the entries of a bulk file take the revision of its publication"
        );
    }

    /// The complete file.
    #[must_use]
    pub fn finish(mut self) -> BuiltFile {
        self.newest.close(&mut self.packer);
        self.history.close(&mut self.packer);
        self.commits.sort_by_key(|record| record.revision);
        self.sizes.sort_by_key(|change| change.revision);
        assert!(
            self.sizes.is_sorted_by(|a, b| a.revision < b.revision),
            "BUG: the page count changes twice at one revision"
        );
        let mut out = Output::default();
        out.chunk(encode_header(self.params.identity.page_size));
        let newest_start = out.end();
        out.chunks(self.newest.take());
        let history_start = out.end();
        out.chunks(self.history.take());

        let index_start = out.end();
        let mut directory = Directory::default();
        self.put_index(newest_start, history_start, &mut directory, &mut out);
        let commits_start = out.end();
        self.put_commits(&mut directory, &mut out);
        let tail = self.put_tail(index_start..commits_start, &directory, &mut out);
        let entry = self.entry(tail, &out, index_start - newest_start);
        BuiltFile { chunks: out.chunks, entry }
    }

    fn put_index(
        &mut self,
        newest_start: u64,
        history_start: u64,
        directory: &mut Directory,
        out: &mut Output,
    ) {
        let mut block = Vec::with_capacity(BLOCK_ENTRIES);
        for versions in self.entries.chunks(BLOCK_ENTRIES) {
            block.clear();
            block.extend(versions.iter().map(|version| IndexEntry {
                page: version.page,
                revision: version.revision,
                hash: version.hash,
                location: match version.body {
                    Body::Zero => None,
                    Body::Newest(slot) => Some(self.newest.locate(slot, newest_start)),
                    Body::History(slot) => Some(self.history.locate(slot, history_start)),
                    Body::Elsewhere(location) => Some(location),
                },
            }));
            let last = block.last().expect("BUG: a chunk is never empty").key();
            let bytes = index::encode_block(&block, &mut self.packer);
            directory.blocks.push(BlockHandle {
                offset: out.end(),
                bytes: bytes.len() as u64,
                last,
            });
            out.chunk(bytes);
        }
    }

    fn put_commits(&mut self, directory: &mut Directory, out: &mut Output) {
        for records in self.commits.chunks(BLOCK_COMMITS) {
            let bytes = commits::encode_block(records, &mut self.packer);
            let ids = || records.iter().map(|record| record.commit);
            let (Some(first), Some(last)) = (records.first(), records.last()) else { break };
            directory.commit_blocks.push(CommitBlockHandle {
                offset: out.end(),
                bytes: bytes.len() as u64,
                commit_count: records.len() as u64,
                first: first.revision,
                last: last.revision,
                min_id: ids().min().unwrap_or(first.commit),
                max_id: ids().max().unwrap_or(first.commit),
            });
            out.chunk(bytes);
        }
    }

    /// Puts the rest of the file and says where its tail begins.
    fn put_tail(
        &mut self,
        index: std::ops::Range<u64>,
        directory: &Directory,
        out: &mut Output,
    ) -> u64 {
        let commits = index.end..out.end();
        let small = commits.end - commits.start <= TAIL_COMMIT_BYTES;
        let tail = if small { commits.start } else { commits.end };
        let mut put = |raw: &[u8]| {
            let start = out.end();
            out.chunk(self.packer.sealed(raw));
            start..out.end()
        };
        let sizes = put(&encode_sizes(&self.sizes));
        let references = put(&encode_references(&self.references.files));
        let filter = put(&encode_filter(&self.pages));
        let directory = put(&directory.encode());
        let footer = Footer {
            identity: self.params.identity,
            origin: self.params.origin,
            version_count: self.entries.len() as u64,
            page_count: self.pages.len(),
            commit_count: self.commits.len() as u64,
            index,
            commits,
            sizes,
            references,
            filter,
            directory,
        };
        out.chunk(footer.encode());
        tail
    }

    fn entry(&self, tail_offset: u64, out: &Output, own_frame_bytes: u64) -> FileEntry {
        let FileParams { identity, level, origin } = self.params;
        let versions = self.entries.iter().map(|version| version.revision);
        let changes = self.commits.iter().map(|record| record.revision);
        let changes = changes.chain(self.sizes.iter().map(|change| change.revision));
        let none = PageNo(u64::MAX);
        let truncations = self.sizes.iter().filter_map(|change| {
            change.lowest.map(|lowest| Truncation { newest: change.revision, lowest })
        });
        FileEntry {
            id: identity.id,
            named_at: identity.named_at,
            level,
            first: self.entries.first().map_or(none, |version| version.page),
            last: self.entries.last().map_or(none, |version| version.page),
            published: None,
            origin,
            bytes: out.end(),
            tail_offset,
            tail_checksum: xxh3_64(&out.since(tail_offset)),
            version_count: self.entries.len() as u64,
            page_count: self.pages.len(),
            oldest: versions.clone().min().or(changes.clone().min()).unwrap_or_default(),
            newest: versions.max().or(changes.max()).unwrap_or_default(),
            commit_count: self.commits.len() as u64,
            newest_commit_ms: self.commits.iter().map(|r| r.commit.made_ms()).max().unwrap_or(0),
            size_change_count: self.sizes.len() as u64,
            truncation: truncations.reduce(|a, b| Truncation {
                newest: a.newest.max(b.newest),
                lowest: a.lowest.min(b.lowest),
            }),
            refs: self.references.entries(),
            own_frame_bytes,
            raw_bytes: self.newest.raw_bytes + self.history.raw_bytes,
        }
    }
}

impl std::fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter")
            .field("params", &self.params)
            .field("versions", &self.entries.len())
            .finish_non_exhaustive()
    }
}

/// The object's bytes so far.
#[derive(Default)]
struct Output {
    chunks: Vec<Bytes>,
    bytes: u64,
}

impl Output {
    fn end(&self) -> u64 {
        self.bytes
    }

    fn chunk(&mut self, bytes: Vec<u8>) {
        self.bytes += bytes.len() as u64;
        self.chunks.push(bytes.into());
    }

    fn chunks(&mut self, chunks: Vec<Vec<u8>>) {
        chunks.into_iter().for_each(|chunk| self.chunk(chunk));
    }

    /// The bytes from `offset` on, where a chunk begins.
    fn since(&self, offset: u64) -> Vec<u8> {
        let mut skipped = 0;
        let mut rest = Vec::new();
        for chunk in &self.chunks {
            if skipped >= offset {
                rest.extend_from_slice(chunk);
            }
            skipped += chunk.len() as u64;
        }
        rest
    }
}
