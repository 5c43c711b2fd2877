//! `levels`, and how a file is shown in a list.

use pagestore::inspect::{FileInfo, Levels};
use serde::Serialize;

use crate::args::LevelsArgs;
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::{Table, count, percent, size};

#[derive(Serialize)]
struct LevelsJson {
    staged: StagedJson,
    levels: Vec<LevelJson>,
    files: Vec<FileJson>,
    dropped: Vec<FileJson>,
}

#[derive(Serialize)]
struct StagedJson {
    commits: u64,
    pages: u64,
    bytes: u64,
    value_keys: u64,
    keys: u64,
}

#[derive(Serialize)]
struct LevelJson {
    level: u8,
    files: u64,
    bytes: u64,
    versions: u64,
    live_versions: u64,
    live_share: f64,
}

/// A file for scripts.
#[derive(Serialize)]
pub(super) struct FileJson {
    file: String,
    level: Option<u8>,
    origin: Option<&'static str>,
    first_page: Option<u64>,
    last_page: Option<u64>,
    oldest_revision: Option<u64>,
    newest_revision: Option<u64>,
    bytes: u64,
    versions: u64,
    live_versions: u64,
    live_share: f64,
    references: u64,
}

pub(super) async fn run(context: &mut Context, args: LevelsArgs) -> Outcome {
    let levels = context.open_volume(&args.name).await?.inspect().levels().await?;
    if context.out.is_json() {
        return Ok(context.out.json(&json(&levels))?);
    }
    let staged = &levels.staged;
    context.out.line(format!(
        "meta tier: {} staged in {}, {}; {} in all",
        size(staged.bytes),
        count(staged.commit_count, "commit"),
        count(staged.page_count, "page"),
        count(staged.keys, "key")
    ))?;
    let mut table = Table::new(&[">level", ">files", ">size", ">versions", ">live"]);
    for level in &levels.levels {
        table.row([
            level.level.to_string(),
            level.file_count.to_string(),
            size(level.bytes),
            level.version_count.to_string(),
            percent(level.live_share()),
        ]);
    }
    context.out.line("")?;
    context.out.table(&table)?;
    let mut table = Table::new(&[
        ">level",
        "file",
        "made by",
        ">pages",
        ">revisions",
        ">size",
        ">versions",
        ">live",
        ">refs",
    ]);
    levels.files.iter().chain(&levels.dropped).for_each(|file| table.row(cells(file)));
    context.out.line("")?;
    Ok(context.out.table(&table)?)
}

fn json(levels: &Levels) -> LevelsJson {
    let staged = &levels.staged;
    let level_json = levels.levels.iter().map(|level| LevelJson {
        level: level.level,
        files: level.file_count,
        bytes: level.bytes,
        versions: level.version_count,
        live_versions: level.live_count,
        live_share: level.live_share(),
    });
    LevelsJson {
        staged: StagedJson {
            commits: staged.commit_count,
            pages: staged.page_count,
            bytes: staged.bytes,
            value_keys: staged.value_keys,
            keys: staged.keys,
        },
        levels: level_json.collect(),
        files: levels.files.iter().map(file_json).collect(),
        dropped: levels.dropped.iter().map(file_json).collect(),
    }
}

pub(super) fn file_json(file: &FileInfo) -> FileJson {
    FileJson {
        file: file.id.to_string(),
        level: file.level,
        origin: file.origin.map(|origin| origin.as_str()),
        first_page: file.pages.map(|(first, _)| first.0),
        last_page: file.pages.map(|(_, last)| last.0),
        oldest_revision: file.revisions.map(|(oldest, _)| oldest.0),
        newest_revision: file.revisions.map(|(_, newest)| newest.0),
        bytes: file.bytes,
        versions: file.version_count,
        live_versions: file.live_count,
        live_share: file.live_share(),
        references: file.reference_count,
    }
}

fn cells(file: &FileInfo) -> [String; 9] {
    let range = |range: Option<(u64, u64)>| {
        range.map_or_else(|| "-".to_owned(), |(first, last)| format!("{first}-{last}"))
    };
    [
        file.level.map_or_else(|| "dropped".to_owned(), |level| level.to_string()),
        file.id.to_string(),
        file.origin.map_or("-", |origin| origin.as_str()).to_owned(),
        range(file.pages.map(|(first, last)| (first.0, last.0))),
        range(file.revisions.map(|(oldest, newest)| (oldest.0, newest.0))),
        size(file.bytes),
        file.version_count.to_string(),
        percent(file.live_share()),
        file.reference_count.to_string(),
    ]
}
