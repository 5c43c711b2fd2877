//! `log`, and how a commit is shown.

use pagestore::inspect::{CommitInfo, CommitKind};
use serde::Serialize;

use crate::args::LogArgs;
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::{Table, time};

/// A commit for scripts.
#[derive(Serialize)]
pub(super) struct CommitJson {
    revision: u64,
    commit: String,
    time: String,
    time_ms: u64,
    base_revision: u64,
    pages_written: u64,
    page_count: Option<u64>,
    kind: &'static str,
    flushed: bool,
    readable: bool,
}

pub(super) async fn run(context: &mut Context, args: LogArgs) -> Outcome {
    let volume = context.open_volume(&args.name).await?;
    let commits = volume.inspect().log(args.limit.unwrap_or(usize::MAX)).await?;
    if context.out.is_json() {
        let commits: Vec<CommitJson> = commits.iter().map(json).collect();
        return Ok(context.out.json(&commits)?);
    }
    let mut table =
        Table::new(&[">revision", "commit", "time", ">pages", ">page count", "kind", "readable"]);
    commits.iter().for_each(|commit| table.row(cells(commit)));
    Ok(context.out.table(&table)?)
}

pub(super) fn json(commit: &CommitInfo) -> CommitJson {
    CommitJson {
        revision: commit.revision.0,
        commit: commit.commit.to_string(),
        time: time(commit.made_ms),
        time_ms: commit.made_ms,
        base_revision: commit.base.0,
        pages_written: commit.written_count,
        page_count: commit.page_count.map(|count| count.0),
        kind: kind(commit),
        flushed: commit.flushed,
        readable: commit.readable,
    }
}

fn cells(commit: &CommitInfo) -> [String; 7] {
    [
        commit.revision.to_string(),
        commit.commit.to_string(),
        time(commit.made_ms),
        commit.written_count.to_string(),
        commit.page_count.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        kind(commit).to_owned(),
        if commit.readable { "yes" } else { "no" }.to_owned(),
    ]
}

pub(super) fn kind(commit: &CommitInfo) -> &'static str {
    match commit.kind {
        CommitKind::Staged => "staged",
        CommitKind::Bulk => "bulk",
    }
}
