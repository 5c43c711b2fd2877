use std::fmt;

use zstd::zstd_safe::{CCtx, DCtx, compress_bound};

use crate::types::{MAX_PAGE_SIZE, PageSize};

/// Level of staged pages: a page lives in the meta tier for minutes and is compressed while a commit
/// waits. Higher levels take twice the time for a few bytes of 85.
const LEVEL: i32 = 1;

/// Bytes of the zstd frame header of every page: magic, descriptor, content size.
const HEADER_BYTES: usize = 7;

/// How a zstd dictionary begins. zstd would parse content that begins so instead of using it as it
/// is, so such content is no prefix.
const DICTIONARY_MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

/// zstd over single pages, without the frame header: it is the same for all pages of one size.
pub(super) struct PageZstd {
    compress: CCtx<'static>,
    decompress: DCtx<'static>,
    scratch: Vec<u8>,
}

impl PageZstd {
    pub(super) fn new() -> PageZstd {
        let scratch = Vec::with_capacity(compress_bound(MAX_PAGE_SIZE as usize));
        PageZstd { compress: CCtx::create(), decompress: DCtx::create(), scratch }
    }

    /// The compressed `content`, a page; `None` when zstd does not yield what a reader expects.
    pub(super) fn compress(&mut self, content: &[u8], prefix: Option<&[u8]>) -> Option<&[u8]> {
        self.scratch.clear();
        match prefix {
            None => self.compress.compress(&mut self.scratch, content, LEVEL),
            Some(prefix) if prefix.starts_with(&DICTIONARY_MAGIC) => return None,
            Some(prefix) => {
                self.compress.compress_using_dict(&mut self.scratch, content, prefix, LEVEL)
            }
        }
        .ok()?;
        self.scratch.strip_prefix(&header(content.len())?)
    }

    /// The page that `body` was compressed from; `None` when it was not.
    pub(super) fn decompress(
        &mut self,
        body: &[u8],
        prefix: Option<&[u8]>,
        page_size: PageSize,
    ) -> Option<Vec<u8>> {
        if body.len() > compress_bound(page_size.bytes()) {
            return None;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&header(page_size.bytes())?);
        self.scratch.extend_from_slice(body);
        let mut content = Vec::with_capacity(page_size.bytes());
        let length = match prefix {
            None => self.decompress.decompress(&mut content, &self.scratch),
            Some(prefix) if prefix.starts_with(&DICTIONARY_MAGIC) => return None,
            Some(prefix) => {
                self.decompress.decompress_using_dict(&mut content, &self.scratch, prefix)
            }
        }
        .ok()?;
        (length == page_size.bytes()).then_some(content)
    }
}

impl fmt::Debug for PageZstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageZstd")
    }
}

/// The frame header of `page_bytes` of content: single segment, two bytes of content size, no
/// checksum, no dictionary id.
fn header(page_bytes: usize) -> Option<[u8; HEADER_BYTES]> {
    let [low, high] = u16::try_from(page_bytes.checked_sub(256)?).ok()?.to_le_bytes();
    Some([0x28, 0xb5, 0x2f, 0xfd, 0x60, low, high])
}
