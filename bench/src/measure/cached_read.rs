//! Reads of pages that are in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use pagestore::{PageNo, Snapshot, Store};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::Result;
use crate::figure::{Figure, Target};
use crate::pages::{self, PAGE_BYTES};
use crate::rounds::Plan;

/// Pages of each volume and of the file: they fit into the page cache, not into a processor's.
const PAGES: u64 = 4096;
/// Reads between two looks at the clock.
const BATCH: u32 = 4096;

/// One thread that copies pages into a buffer, in no order.
pub(super) async fn hits(plan: Plan) -> Result<Vec<Figure>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(&directory.path().to_string_lossy()).await?;
    let mut random = pages::seeded(3);
    let image: Vec<u8> = (0..PAGES).flat_map(|_| pages::page(&mut random)).collect();
    let staged = pages::staged_volume(&store, "staged", PAGES).await?;
    let imported = pages::imported_volume(&store, "imported", &image).await?;
    let staged = warm(staged.snapshot().await?).await?;
    let imported = warm(imported.snapshot().await?).await?;
    let file = tempfile::tempfile()?;
    file.write_all_at(&image, 0)?;

    let mut random = pages::seeded(4);
    let mut other_random = pages::seeded(4);
    let ours = async || {
        Ok([
            read_snapshot(&staged, &mut random, plan).await?,
            read_snapshot(&imported, &mut random, plan).await?,
        ])
    };
    let other = async || Ok([read_file(&file, &mut other_random, plan)?; 2]);
    let rounds = plan.run(ours, other).await?;
    Ok(vec![
        rounds.figure(0, "read in memory, staged page", "ns", Target::AtMost(1.5)),
        rounds.figure(1, "read in memory, page of a file", "ns", Target::AtMost(1.5)),
    ])
}

async fn warm(snapshot: Snapshot) -> Result<Snapshot> {
    for page in 0..PAGES {
        snapshot.read(PageNo(page)).await?;
    }
    Ok(snapshot)
}

async fn read_snapshot(snapshot: &Snapshot, random: &mut StdRng, plan: Plan) -> Result<f64> {
    let mut buffer = [0; PAGE_BYTES];
    let (start, mut reads) = (Instant::now(), 0);
    while start.elapsed() < plan.span {
        for _ in 0..BATCH {
            let content = snapshot.read(PageNo(random.random_range(0..PAGES))).await?;
            buffer.copy_from_slice(&content);
            std::hint::black_box(&buffer);
        }
        reads += BATCH;
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(reads))
}

fn read_file(file: &File, random: &mut StdRng, plan: Plan) -> Result<f64> {
    let mut buffer = [0; PAGE_BYTES];
    let (start, mut reads) = (Instant::now(), 0);
    while start.elapsed() < plan.span {
        for _ in 0..BATCH {
            file.read_exact_at(&mut buffer, random.random_range(0..PAGES) * PAGE_BYTES as u64)?;
            std::hint::black_box(&buffer);
        }
        reads += BATCH;
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(reads))
}
