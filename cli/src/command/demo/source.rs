//! What the demo imports.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::writer::Random;
use crate::failure::{Failure, Outcome};

/// A real SQLite database that Debian's `proj-data` brings.
const PROJ_DB: &str = "/usr/share/proj/proj.db";
/// Rows of the database that the demo makes.
const ROWS: u64 = 40_000;
/// Pages of the image, where there is no SQLite.
const IMAGE_PAGES: u64 = 2048;
const IMAGE_PAGE_BYTES: usize = 4096;

/// A file, and what it is.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) what: String,
}

/// The given file; else a database made with SQLite; else one that is here; else made-up pages.
pub(super) fn choose(given: Option<PathBuf>, scratch: &Path) -> Outcome<Source> {
    if let Some(path) = given {
        return Ok(Source { what: format!("{}", path.display()), path });
    }
    let made = scratch.join("demo.db");
    if make_database(&made).is_some() {
        return Ok(Source {
            path: made,
            what: format!("a SQLite database of {ROWS} rows, made with sqlite3"),
        });
    }
    if Path::new(PROJ_DB).is_file() {
        let what =
            format!("{PROJ_DB}, a real SQLite database (there is no sqlite3 here to make one)");
        return Ok(Source { path: PROJ_DB.into(), what });
    }
    let image = scratch.join("demo.image");
    make_image(&image).map_err(|error| Failure::file(&image, &error))?;
    let what = "an image of made-up pages (there is neither sqlite3 nor a SQLite database here)"
        .to_owned();
    Ok(Source { path: image, what })
}

/// A database with a table and two indexes, if SQLite's shell is installed and does it.
fn make_database(path: &Path) -> Option<()> {
    let script = format!(
        "PRAGMA journal_mode=DELETE; BEGIN;
         CREATE TABLE account(id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance INTEGER NOT NULL, note TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
           INSERT INTO account SELECT i, 'owner ' || (i * 7919 % {ROWS}), i * 31 % 100000,
             printf('note %d: %s', i, hex(i * 2654435761)) FROM n;
         CREATE INDEX account_owner ON account(owner); CREATE INDEX account_balance ON account(balance);
         COMMIT;"
    );
    sqlite(path, &script).map(drop)
}

/// What SQLite's own check says of the database; `None` where SQLite's shell is not installed.
pub(super) fn integrity(path: &Path) -> Option<String> {
    sqlite(path, "PRAGMA integrity_check;")
}

fn sqlite(path: &Path, script: &str) -> Option<String> {
    let output =
        Command::new("sqlite3").arg(path).arg(script).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn make_image(path: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut random = Random(1);
    for page in 0..IMAGE_PAGES {
        let mut content = Vec::with_capacity(IMAGE_PAGE_BYTES + 64);
        while content.len() < IMAGE_PAGE_BYTES {
            writeln!(
                content,
                "page {page}: account {:6} holds {:8}",
                random.below(100_000),
                random.below(1 << 30)
            )?;
        }
        content.truncate(IMAGE_PAGE_BYTES);
        file.write_all(&content)?;
    }
    file.into_inner()?.sync_all()
}
