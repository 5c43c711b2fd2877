//! What pages hold: made from the seed of the run and the transaction that wrote them.

use std::hash::{DefaultHasher, Hasher as _};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use super::Tag;

/// Bytes that differ between two versions of a page written with [`Content::Change`], beside the tag.
const CHANGED_BYTES: usize = 12;

/// What a transaction writes into a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Zeros.
    Zeros,
    /// The page's own pattern with a few bytes changed.
    Change,
    /// What was there with a few bytes changed; the transaction has read it.
    Patch,
    /// Noise.
    Noise,
}

impl Content {
    /// The page's bytes, which were `before`. One seed, tag and page give one content, which no other tag
    /// gives.
    #[must_use]
    pub fn bytes(self, seed: u64, tag: Tag, page: u64, before: &[u8]) -> Bytes {
        let page_size = before.len();
        let mut content = vec![0; page_size];
        let mut own = rng((seed, tag, page));
        match self {
            Content::Zeros => return content.into(),
            Content::Change => {
                // Half of the bits are random: it compresses, but not to nothing.
                let mut pattern = rng((seed, page));
                content.iter_mut().for_each(|byte| *byte = b'a' + pattern.random_range(0..16));
                for _ in 0..CHANGED_BYTES {
                    content[own.random_range(0..page_size)] = own.random();
                }
            }
            Content::Patch => {
                content.copy_from_slice(before);
                for _ in 0..CHANGED_BYTES {
                    content[own.random_range(0..page_size)] = own.random();
                }
            }
            Content::Noise => own.fill(&mut content[..]),
        }
        content[..4].copy_from_slice(&tag.number.to_le_bytes());
        content[4] = tag.writer;
        content.into()
    }
}

fn rng(of: impl std::hash::Hash) -> SmallRng {
    SmallRng::seed_from_u64(hash(&of))
}

fn hash(of: &(impl std::hash::Hash + ?Sized)) -> u64 {
    // Without a key of its own: the same in every process.
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A page's content in a few bytes.
#[must_use]
pub fn digest(content: &[u8]) -> u64 {
    hash(content)
}
