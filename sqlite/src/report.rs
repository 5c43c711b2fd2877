//! What the virtual tables show.

use std::ffi::CStr;

use libsqlite3_sys as ffi;
use pagestore::inspect::CommitKind;

use crate::failure::{Failure, Outcome};
use crate::group::Handle;
use crate::runtime::wait;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

impl From<u64> for Cell {
    fn from(value: u64) -> Cell {
        Cell::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

pub(crate) const LOG: &CStr =
    c"create table x(revision int, commit_id text, time_ms int, base_revision int, \
    pages_written int, page_count int, kind text, flushed int, readable int, schema hidden)";
pub(crate) const LOG_COLUMNS: usize = 9;

/// The volume's commits, newest first.
pub(crate) fn log(handle: &Handle) -> Outcome<Vec<Vec<Cell>>> {
    let Some(volume) = handle.lock().volume().cloned() else { return Ok(Vec::new()) };
    let log = wait(volume.inspect().log(usize::MAX)).map_err(Failure::io(ffi::SQLITE_IOERR))?;
    let row = |commit: &pagestore::inspect::CommitInfo| {
        let kind = match commit.kind {
            CommitKind::Staged => "staged",
            CommitKind::Bulk => "bulk",
        };
        vec![
            commit.revision.0.into(),
            Cell::Text(commit.commit.to_string()),
            commit.made_ms.into(),
            commit.base.0.into(),
            commit.written_count.into(),
            commit.page_count.map(|count| count.0).into(),
            Cell::Text(kind.to_owned()),
            u64::from(commit.flushed).into(),
            u64::from(commit.readable).into(),
        ]
    };
    Ok(log.iter().map(row).collect())
}

pub(crate) const STATUS: &CStr = c"create table x(name text, value, schema hidden)";
pub(crate) const STATUS_COLUMNS: usize = 2;

/// The volume and the connection in figures.
pub(crate) fn status(handle: &Handle) -> Outcome<Vec<Vec<Cell>>> {
    let (volume, counts, target) = {
        let database = handle.lock();
        (database.volume().cloned(), database.counts, database.target().clone())
    };
    let mut rows = Vec::new();
    let mut add = |name: &str, value: Cell| rows.push(vec![Cell::Text(name.to_owned()), value]);
    add("volume", Cell::Text(target.volume.clone()));
    add("writers", Cell::Text(format!("{:?}", target.writers).to_ascii_lowercase()));
    add("commits", counts.commits.into());
    add("conflicts", counts.conflicts.into());
    add("pages_read", counts.reads.into());
    add("pages_read_from_memory", counts.hits.into());
    let share = (counts.hits * 10_000).checked_div(counts.reads).map(u32::try_from);
    if let Some(Ok(share)) = share {
        add("cache_hit_rate", Cell::Real(f64::from(share) / 10_000.0));
    }
    let Some(volume) = volume else { return Ok(rows) };
    let failed = Failure::io(ffi::SQLITE_IOERR);
    let stat = wait(volume.inspect().stat()).map_err(&failed)?;
    let levels = wait(volume.inspect().levels()).map_err(&failed)?;
    add("page_size", (stat.page_size.bytes() as u64).into());
    add("page_count", stat.page_count.0.into());
    add("head_revision", stat.head.0.into());
    add("head_ms", stat.head_ms.into());
    add("flushed_revision", stat.floor.0.into());
    add("oldest_revision", stat.oldest.0.into());
    add("staged_commits", stat.staged.commit_count.into());
    add("staged_pages", stat.staged.page_count.into());
    add("staged_bytes", stat.staged.bytes.into());
    add("files", stat.file_count.into());
    add("file_bytes", stat.file_bytes.into());
    add("dropped_files", stat.dropped_count.into());
    add("dropped_bytes", stat.dropped_bytes.into());
    for level in &levels.levels {
        add(&format!("level_{}_files", level.level), level.file_count.into());
        add(&format!("level_{}_bytes", level.level), level.bytes.into());
    }
    Ok(rows)
}
