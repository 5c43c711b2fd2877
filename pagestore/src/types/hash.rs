use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Builder;

use super::PageNo;

/// Bytes of a content hash.
pub const HASH_BYTES: usize = 16;
/// Bytes of a volume's hash secret.
pub const SECRET_BYTES: usize = 192;

/// The hash of one page of one volume: xxh3-128 over the page number and the content, keyed with
/// the volume's secret. Two pages of equal content have different hashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; HASH_BYTES]);

impl ContentHash {
    /// Stands for a page of zeros, which is never stored.
    pub const ZERO_PAGE: ContentHash = ContentHash([0; HASH_BYTES]);

    /// True for the hash that stands for a page of zeros.
    #[must_use]
    pub fn is_zero_page(self) -> bool {
        self == Self::ZERO_PAGE
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The random secret of a volume. Without it nobody can craft two contents of one hash.
#[derive(Clone, PartialEq, Eq)]
pub struct HashSecret(Arc<[u8; SECRET_BYTES]>);

impl HashSecret {
    /// A secret of the given random bytes.
    #[must_use]
    pub fn new(bytes: [u8; SECRET_BYTES]) -> HashSecret {
        HashSecret(Arc::new(bytes))
    }

    /// The bytes, as the volume's metadata stores them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// The hash of `content` as page `page`; [`ContentHash::ZERO_PAGE`] when it is all zeros.
    #[must_use]
    pub fn hash(&self, page: PageNo, content: &[u8]) -> ContentHash {
        if is_zero(content) {
            return ContentHash::ZERO_PAGE;
        }
        let mut state = Xxh3Builder::new().with_secret(*self.0).build();
        state.update(&page.0.to_be_bytes());
        state.update(content);
        ContentHash(state.digest128().to_be_bytes())
    }
}

impl fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSecret(..)")
    }
}

fn is_zero(content: &[u8]) -> bool {
    let mut words = content.chunks_exact(16);
    words.all(|word| word == [0; 16]) && words.remainder().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(fill: u8) -> HashSecret {
        HashSecret::new(std::array::from_fn(|i| fill.wrapping_add(i.to_le_bytes()[0])))
    }

    #[test]
    fn hash_depends_on_page_content_and_secret() {
        let base = secret(1).hash(PageNo(7), b"abc");
        assert_eq!(base, secret(1).hash(PageNo(7), b"abc"));
        assert_ne!(base, secret(1).hash(PageNo(8), b"abc"));
        assert_ne!(base, secret(1).hash(PageNo(7), b"abd"));
        assert_ne!(base, secret(2).hash(PageNo(7), b"abc"));
    }

    #[test]
    fn hash_is_frozen() {
        let long = vec![0x5a; 4096];
        assert_eq!(
            secret(0).hash(PageNo(1), &long).to_string(),
            "ef5a629383e4d5875f5acbdcab3e772e"
        );
    }

    #[test]
    fn zero_content_has_the_zero_hash() {
        assert!(secret(3).hash(PageNo(1), &[0; 513]).is_zero_page());
        let mut content = [0; 513];
        content[512] = 1;
        assert!(!secret(3).hash(PageNo(1), &content).is_zero_page());
    }
}
