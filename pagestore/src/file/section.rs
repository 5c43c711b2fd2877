//! How parts of a file are compressed and checksummed.
//!
//! ```text
//! sealed part   xxh3-64 u64 of what follows, then it
//! packed bytes  raw length u32, packed length u32, a zstd frame of that length
//! ```

use std::cell::RefCell;

use xxhash_rust::xxh3::xxh3_64;
use zstd::zstd_safe::{CCtx, DCtx, compress_bound, get_frame_content_size};

use super::error::{FileError, Place};
use crate::wire::{Cursor, Malformed};

/// Level of everything in files: written once in the background, read often.
const LEVEL: i32 = 3;

/// Bytes that one byte of zstd's stands for at most: a block of 128 KiB of one value takes four.
const MAX_RAW_BYTES_PER_BYTE: usize = 128 * 1024 / 4;

/// Bytes of the checksum that a sealed part begins with.
const CHECKSUM_BYTES: usize = 8;

/// Compresses parts of a file.
pub(super) struct Packer {
    context: CCtx<'static>,
    packed: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> Packer {
        Packer { context: CCtx::create(), packed: Vec::new() }
    }

    /// Appends `raw`, packed.
    pub(super) fn pack(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        self.packed.clear();
        self.packed.reserve(compress_bound(raw.len()));
        self.context
            .compress(&mut self.packed, raw, LEVEL)
            .expect("BUG: zstd fails on a buffer of the size it asked for");
        for length in [raw.len(), self.packed.len()] {
            let length = u32::try_from(length).expect("BUG: a part of a file is over 4 GiB");
            out.extend_from_slice(&length.to_le_bytes());
        }
        out.extend_from_slice(&self.packed);
    }

    /// `raw` as a sealed part of its own.
    pub(super) fn sealed(&mut self, raw: &[u8]) -> Vec<u8> {
        let mut part = begin_seal();
        self.pack(raw, &mut part);
        finish_seal(&mut part);
        part
    }
}

/// A part with room for its checksum.
pub(super) fn begin_seal() -> Vec<u8> {
    vec![0; CHECKSUM_BYTES]
}

/// Fills in the checksum of a part that [`begin_seal`] began.
pub(super) fn finish_seal(part: &mut [u8]) {
    let (checksum, rest) =
        part.split_first_chunk_mut::<CHECKSUM_BYTES>().expect("BUG: the part was never begun");
    *checksum = xxh3_64(rest).to_le_bytes();
}

/// What a sealed part at `place` holds.
pub(super) fn open_seal(part: &[u8], place: Place) -> Result<&[u8], FileError> {
    let (checksum, rest) =
        part.split_first_chunk::<CHECKSUM_BYTES>().ok_or(place.broken("ends too early"))?;
    if *checksum != xxh3_64(rest).to_le_bytes() && !planted!(HashAccepted) {
        return Err(place.broken("fails its checksum"));
    }
    Ok(rest)
}

/// The next packed bytes; never more than `max_raw` of them.
pub(super) fn unpack(cursor: &mut Cursor<'_>, max_raw: usize) -> Result<Vec<u8>, Malformed> {
    thread_local! {
        static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    }
    let raw_len = cursor.u32()? as usize;
    let packed_len = cursor.u32()? as usize;
    if raw_len > max_raw {
        return Err(cursor.malformed("unpacks to more than it may"));
    }
    let packed = cursor.bytes(packed_len)?;
    // Memory is taken only for what these bytes can stand for.
    let stands_for = get_frame_content_size(packed).ok().flatten();
    if stands_for != Some(raw_len as u64) || raw_len / MAX_RAW_BYTES_PER_BYTE > packed_len {
        return Err(cursor.malformed("unpacks to another length than it says"));
    }
    let mut raw = Vec::with_capacity(raw_len);
    let length = CONTEXT
        .with_borrow_mut(|context| context.decompress(&mut raw, packed))
        .map_err(|_| cursor.malformed("does not decompress"))?;
    if length != raw_len {
        return Err(cursor.malformed("unpacks to another length than it says"));
    }
    Ok(raw)
}

/// What the sealed part that [`Packer::sealed`] made was made from.
pub(super) fn open_packed(part: &[u8], place: Place, max_raw: usize) -> Result<Vec<u8>, FileError> {
    let mut cursor = Cursor::new(open_seal(part, place)?);
    unpack(&mut cursor, max_raw)
        .and_then(|raw| cursor.finish().map(|()| raw))
        .map_err(|malformed| place.malformed(malformed))
}
