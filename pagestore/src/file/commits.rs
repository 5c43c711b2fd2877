//! Commit blocks: what the changelog said, kept after it was flushed.
//!
//! ```text
//! block   sealed, packed: count varint; per commit: revision zigzag difference to the one before,
//!         id 16 bytes, base zigzag difference to the revision, pages written varint, kind u8
//! ```

use super::directory::CommitBlockHandle;
use super::error::{FileError, Place, Section};
use super::index::{unzigzag, zigzag};
use super::section::{Packer, open_packed};
use super::types::{CommitKind, CommitRecord, resolve};
use crate::types::{CommitId, Revision};
use crate::wire::{Cursor, Malformed, put_varint};

/// Commits in a block: `log` fetches one to show the newest, a lookup by id the few that may hold it.
pub(super) const BLOCK_COMMITS: usize = 1024;

/// Most raw bytes of a block: no commit takes 64.
const BLOCK_MAX_RAW_BYTES: usize = BLOCK_COMMITS * 64;

const STAGED: u8 = 1;
const BULK: u8 = 2;

/// The commits of the block fetched from `handle`'s range, of a file published at `published`, sorted
/// by revision.
///
/// # Errors
/// [`FileError::Broken`] when the bytes are not that block.
pub fn decode_commits(
    handle: &CommitBlockHandle,
    published: Revision,
    bytes: &[u8],
) -> Result<Vec<CommitRecord>, FileError> {
    let place = Place::new(Section::CommitBlock, handle.offset);
    let raw = open_packed(bytes, place, BLOCK_MAX_RAW_BYTES)?;
    let commits = read_block(&raw, published).map_err(|why| place.malformed(why))?;
    if commits.len() as u64 != handle.commit_count
        || !commits.is_sorted_by_key(|record| record.revision)
    {
        return Err(place.broken("holds other commits than the directory says"));
    }
    Ok(commits)
}

pub(super) fn encode_block(commits: &[CommitRecord], packer: &mut Packer) -> Vec<u8> {
    let mut raw = Vec::with_capacity(commits.len() * 24);
    put_varint(&mut raw, commits.len() as u64);
    let mut last = 0;
    for record in commits {
        let revision = record.revision.0;
        put_varint(&mut raw, zigzag(revision.wrapping_sub(last)));
        raw.extend_from_slice(&record.commit.bytes());
        put_varint(&mut raw, zigzag(record.base.0.wrapping_sub(revision)));
        put_varint(&mut raw, record.written_count);
        raw.push(match record.kind {
            CommitKind::Staged => STAGED,
            CommitKind::Bulk => BULK,
        });
        last = revision;
    }
    packer.sealed(&raw)
}

fn read_block(raw: &[u8], published: Revision) -> Result<Vec<CommitRecord>, Malformed> {
    let mut cursor = Cursor::new(raw);
    let count = cursor.count(20)?;
    let mut commits = Vec::with_capacity(count);
    let mut last = 0u64;
    for _ in 0..count {
        let revision = last.wrapping_add(unzigzag(cursor.varint()?));
        last = revision;
        commits.push(CommitRecord {
            revision: resolve(Revision(revision), published),
            commit: CommitId::from_bytes(cursor.array()?),
            base: Revision(revision.wrapping_add(unzigzag(cursor.varint()?))),
            written_count: cursor.varint()?,
            kind: match cursor.u8()? {
                STAGED => CommitKind::Staged,
                BULK => CommitKind::Bulk,
                _ => return Err(cursor.malformed("has a commit of an unknown kind")),
            },
        });
    }
    cursor.finish()?;
    Ok(commits)
}
