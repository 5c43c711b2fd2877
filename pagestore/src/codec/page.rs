use bytes::Bytes;

use super::zstd::PageZstd;
use super::{CodecError, StagedValue};
use crate::types::{ContentHash, HashSecret, PageNo, PageSize};

/// A delta below this share of the page is taken without trying what rarely beats it.
const GOOD_DELTA_SHARE: usize = 16;

/// How a staged body stands for a page's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// The content itself, which zstd cannot shrink.
    Raw,
    /// The content, compressed.
    Whole,
    /// The content XOR the base, compressed.
    Xor,
    /// The content, compressed with the base as what went before it.
    Prefix,
}

impl Encoding {
    /// The byte that stands for it.
    #[must_use]
    pub fn tag(self) -> u8 {
        match self {
            Encoding::Raw => 1,
            Encoding::Whole => 2,
            Encoding::Xor => 3,
            Encoding::Prefix => 4,
        }
    }

    /// What `tag` stands for.
    #[must_use]
    pub fn from_tag(tag: u8) -> Option<Encoding> {
        [Encoding::Raw, Encoding::Whole, Encoding::Xor, Encoding::Prefix]
            .into_iter()
            .find(|encoding| encoding.tag() == tag)
    }

    /// True when decoding needs the base.
    #[must_use]
    pub fn is_delta(self) -> bool {
        matches!(self, Encoding::Xor | Encoding::Prefix)
    }

    /// The name that people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Raw => "raw",
            Encoding::Whole => "whole",
            Encoding::Xor => "xor",
            Encoding::Prefix => "prefix",
        }
    }
}

/// Content that a delta may be taken against.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// Its hash.
    pub hash: ContentHash,
    /// The content, a page.
    pub content: &'a [u8],
}

/// A page's content as it is to be staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// How the body stands for the content.
    pub encoding: Encoding,
    /// The base, of a delta.
    pub base: Option<ContentHash>,
    /// The encoded content.
    pub body: Vec<u8>,
}

/// What a staged value must turn out to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The page.
    pub page: PageNo,
    /// The hash of its content.
    pub hash: ContentHash,
    /// The volume's secret.
    pub secret: &'a HashSecret,
    /// The volume's page size.
    pub page_size: PageSize,
}

/// Encodes and decodes single pages. Holds the compressor's memory: keep one a thread.
#[derive(Debug)]
pub struct PageCodec {
    zstd: PageZstd,
    xored: Vec<u8>,
}

impl Default for PageCodec {
    fn default() -> PageCodec {
        PageCodec::new()
    }
}

impl PageCodec {
    /// A codec of one's own.
    #[must_use]
    pub fn new() -> PageCodec {
        PageCodec { zstd: PageZstd::new(), xored: Vec::new() }
    }

    /// Runs `work` with the calling thread's codec.
    pub fn with<T>(work: impl FnOnce(&mut PageCodec) -> T) -> T {
        thread_local! {
            static CODEC: std::cell::RefCell<PageCodec> = std::cell::RefCell::default();
        }
        CODEC.with_borrow_mut(work)
    }

    /// The smallest form of `content`, whose hash is `hash`. A base of the same hash is ignored, so
    /// that no content is ever staged as a delta against itself.
    pub fn encode(&mut self, content: &[u8], hash: ContentHash, base: Option<Base<'_>>) -> Staged {
        let base = base.filter(|base| base.hash != hash && base.content.len() == content.len());
        let mut best = Staged { encoding: Encoding::Raw, base: None, body: Vec::new() };
        let mut best_bytes = content.len();
        if let Some(base) = base {
            if let Some(body) = self.zstd.compress(content, Some(base.content)) {
                best.take(Encoding::Prefix, Some(base.hash), body, &mut best_bytes);
            }
            if best_bytes <= content.len() / GOOD_DELTA_SHARE {
                return best;
            }
            xor_into(&mut self.xored, content, base.content);
            if let Some(body) = self.zstd.compress(&self.xored, None) {
                best.take(Encoding::Xor, Some(base.hash), body, &mut best_bytes);
            }
        }
        if best_bytes > content.len() / GOOD_DELTA_SHARE
            && let Some(body) = self.zstd.compress(content, None)
        {
            best.take(Encoding::Whole, None, body, &mut best_bytes);
        }
        if best.encoding == Encoding::Raw {
            best.body.extend_from_slice(content);
        }
        best
    }

    /// The content that a staged value stands for, which is what was `expected` or nothing. `base` is
    /// needed for a delta only: the content whose hash the value's key names.
    ///
    /// # Errors
    /// [`CodecError`], for every value that does not stand for the expected content.
    pub fn decode(
        &mut self,
        value: &[u8],
        expected: &Expected<'_>,
        base: Option<&[u8]>,
    ) -> Result<Bytes, CodecError> {
        let StagedValue { encoding, page, body } = StagedValue::decode(value)?;
        if page != expected.page {
            return Err(CodecError::WrongPage { found: page, expected: expected.page });
        }
        let content = self.decode_body(encoding, body, expected.page_size, base)?;
        let found = expected.secret.hash(page, &content);
        if found != expected.hash && !planted!(HashAccepted) {
            return Err(CodecError::WrongHash { page, found, expected: expected.hash });
        }
        Ok(content.into())
    }

    fn decode_body(
        &mut self,
        encoding: Encoding,
        body: &[u8],
        page_size: PageSize,
        base: Option<&[u8]>,
    ) -> Result<Vec<u8>, CodecError> {
        let base = base.filter(|base| base.len() == page_size.bytes());
        let content = match encoding {
            Encoding::Raw => (body.len() == page_size.bytes()).then(|| body.to_vec()),
            Encoding::Whole => self.zstd.decompress(body, None, page_size),
            Encoding::Xor => {
                let base = base.ok_or(CodecError::NoBase)?;
                let mut content = self.zstd.decompress(body, None, page_size);
                if let Some(content) = &mut content {
                    xor_in_place(content, base);
                }
                content
            }
            Encoding::Prefix => {
                let base = base.ok_or(CodecError::NoBase)?;
                self.zstd.decompress(body, Some(base), page_size)
            }
        };
        content.ok_or(CodecError::BrokenBody)
    }
}

impl Staged {
    fn take(
        &mut self,
        encoding: Encoding,
        base: Option<ContentHash>,
        body: &[u8],
        best_bytes: &mut usize,
    ) {
        if body.len() < *best_bytes {
            *best_bytes = body.len();
            self.encoding = encoding;
            self.base = base;
            self.body.clear();
            self.body.extend_from_slice(body);
        }
    }
}

fn xor_into(out: &mut Vec<u8>, left: &[u8], right: &[u8]) {
    out.clear();
    out.extend(left.iter().zip(right).map(|(left, right)| left ^ right));
}

fn xor_in_place(content: &mut [u8], base: &[u8]) {
    content.iter_mut().zip(base).for_each(|(byte, base)| *byte ^= base);
}

#[cfg(test)]
mod tests;
