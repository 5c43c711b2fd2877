//! How much room a database takes up.

use std::path::{Path, PathBuf};

use pagestore::Store;

use super::sqlite::{Shell, make_table};
use crate::Result;
use crate::figure::{Figure, Pair, Target};
use crate::pages::imported_volume;
use crate::rounds::Plan;

/// A real database that Debian ships.
const REAL: &str = "/usr/share/proj/proj.db";
/// Rows of the one made here.
const ROWS: usize = 200_000;

/// A real database, and one made here.
pub(super) async fn databases(_: Plan) -> Result<Vec<Figure>> {
    let directory = tempfile::tempdir()?;
    let made = directory.path().join("made.db");
    make_table(&mut Shell::open(&made)?, ROWS)?;
    let mut figures = Vec::new();
    for (name, file) in [("proj.db", PathBuf::from(REAL)), ("a table with 3 indexes", made)] {
        if !file.exists() {
            eprintln!("  {} is not there: left out", file.display());
            continue;
        }
        let image = std::fs::read(&file)?;
        let pair = Pair { ours: stored(&image).await? as f64, other: whole(&image)? as f64 };
        let name = format!("stored size of {name}, over zstd -3");
        figures.push(Figure::exact(name, "B", Target::AtMost(1.15), pair));
    }
    Ok(figures)
}

fn whole(image: &[u8]) -> Result<usize> {
    Ok(zstd::bulk::compress(image, 3)?.len())
}

/// Bytes of the files that an import of `image` makes.
async fn stored(image: &[u8]) -> Result<u64> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(&directory.path().to_string_lossy()).await?;
    let volume = imported_volume(&store, "v", image).await?;
    if !volume.state()?.staged.is_empty() {
        return Err("the import is too small to become files".into());
    }
    bytes_below(&directory.path().join("blobs"))
}

fn bytes_below(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
