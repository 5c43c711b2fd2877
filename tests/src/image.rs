//! Generated images: of any length, quick to make, and about as compressible as a database.

use std::io::Write;

use bytes::Bytes;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::harness::Seed;

/// Noise from which pages take their part.
const NOISE_BYTES: usize = 8 << 20;
/// What the rest of a page looks like.
const TEXT: &[u8] = b"INSERT INTO readings (station, sensor, taken_at, value) VALUES ";
/// Of so many pages one is empty, as in files that have grown.
const EMPTY_EVERY: u64 = 64;

/// An image, by what it is made of. Equal ones have equal pages.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Image {
    /// What its noise comes from.
    pub seed: u64,
    /// Bytes a page.
    pub page_bytes: usize,
    /// Pages.
    pub page_count: u64,
}

/// The pages of an image.
#[derive(Debug)]
pub struct Pages {
    image: Image,
    noise: Vec<u8>,
    text: Vec<u8>,
}

impl Image {
    /// Its pages.
    #[must_use]
    pub fn pages(self) -> Pages {
        let mut noise = vec![0; NOISE_BYTES];
        Seed(self.seed).rng().fill(&mut noise[..]);
        let text = TEXT.iter().copied().cycle().take(self.page_bytes).collect();
        Pages { image: self, noise, text }
    }
}

impl Pages {
    /// A page: half of it compresses away; no two with anything in them are equal.
    #[must_use]
    pub fn page(&self, page: u64) -> Bytes {
        let bytes = self.image.page_bytes;
        if page % EMPTY_EVERY == EMPTY_EVERY - 1 {
            return vec![0; bytes].into();
        }
        let mut content = self.text.clone();
        let from = page.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % (NOISE_BYTES - bytes);
        content[..bytes / 2].copy_from_slice(&self.noise[from..from + bytes / 2]);
        content[..8].copy_from_slice(&page.to_le_bytes());
        content.into()
    }

    /// Writes the whole image.
    pub fn write_to(&self, mut to: impl Write) {
        for page in 0..self.image.page_count {
            to.write_all(&self.page(page)).unwrap();
        }
        to.flush().unwrap();
    }
}
