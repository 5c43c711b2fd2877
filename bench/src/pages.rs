//! Content for pages: rows of words and numbers, about half as long once compressed.

use bytes::Bytes;
use pagestore::{PageNo, Store, Volume, VolumeOptions};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::Result;

/// Bytes a page, here.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Bytes that one commit changes in a page.
const CHANGED_BYTES: usize = 100;
/// Pages that one commit of a filling stages at most: more would go into a file.
const STAGED_AT_ONCE: u64 = 256;

const WORDS: [&str; 16] = [
    "survey",
    "grid",
    "datum",
    "ellipsoid",
    "north",
    "height",
    "meridian",
    "offset",
    "false",
    "region",
    "scale",
    "transform",
    "geodetic",
    "vertical",
    "axis",
    "unit",
];

/// A page that depends on the generator alone.
pub(crate) fn page(random: &mut StdRng) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE_BYTES + 64);
    while page.len() < PAGE_BYTES {
        page.extend(random.next_u64().to_le_bytes());
        for _ in 0..3 {
            let word = WORDS.get(random.random_range(0..WORDS.len())).copied().unwrap_or_default();
            page.extend(word.bytes());
        }
        page.extend(random.next_u32().to_le_bytes());
    }
    page.truncate(PAGE_BYTES);
    page
}

/// Changes 100 bytes of a page.
pub(crate) fn change(page: &mut [u8], random: &mut StdRng) {
    let start = random.random_range(0..page.len().saturating_sub(CHANGED_BYTES).max(1));
    let row = page.iter_mut().skip(start).take(CHANGED_BYTES);
    row.for_each(|byte| *byte = random.random());
}

/// A generator: the same numbers in every run.
pub(crate) fn seeded(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A new volume of `count` pages, staged in the meta tier.
pub(crate) async fn staged_volume(store: &Store, name: &str, count: u64) -> Result<Volume> {
    let volume = store.create_volume(name, VolumeOptions::default()).await?;
    let mut random = seeded(1);
    let mut next = 0;
    while next < count {
        let mut transaction = volume.begin().await?;
        let end = count.min(next + STAGED_AT_ONCE);
        for number in next..end {
            transaction.write(PageNo(number), page(&mut random))?;
        }
        transaction.commit().await?;
        next = end;
    }
    Ok(volume)
}

/// A new volume that holds `image`, committed at once: into files, when it is large.
pub(crate) async fn imported_volume(store: &Store, name: &str, image: &[u8]) -> Result<Volume> {
    let volume = store.create_volume(name, VolumeOptions::default()).await?;
    let mut transaction = volume.begin().await?;
    for (number, content) in (0..).zip(image.chunks_exact(PAGE_BYTES)) {
        transaction.write(PageNo(number), Bytes::copy_from_slice(content))?;
    }
    transaction.commit().await?;
    Ok(volume)
}
