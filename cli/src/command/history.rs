//! `history`

use pagestore::PageNo;
use pagestore::inspect::{PageVersion, StoredIn};
use serde::Serialize;

use crate::args::HistoryArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::Table;

#[derive(Serialize)]
struct VersionJson {
    revision: u64,
    /// Of a flushed version all commits of the batch that made it.
    commits: Vec<String>,
    hash: String,
    encoding: &'static str,
    stored_bytes: u64,
    place: &'static str,
    base: Option<String>,
    level: Option<u8>,
    listed_in: Option<String>,
    file: Option<String>,
    frame_offset: Option<u64>,
    slot: Option<u16>,
    superseded_revision: Option<u64>,
    readable: bool,
}

pub(super) async fn run(context: &mut Context, args: HistoryArgs) -> Outcome {
    let volume = context.open_volume(&args.name).await?;
    let page = PageNo(args.number);
    let versions = volume.inspect().page_history(page).await?;
    let page_count = volume.snapshot().await?.page_count();
    if versions.is_empty() && !page_count.contains(page) {
        return Err(Failure::invalid(format!(
            "page {page} is beyond the end; the volume has {page_count} pages"
        )));
    }
    if context.out.is_json() {
        let versions: Vec<VersionJson> = versions.iter().map(json).collect();
        return Ok(context.out.json(&versions)?);
    }
    let mut table =
        Table::new(&[">revision", "commit", "encoding", ">bytes", "stored in", "readable"]);
    for version in &versions {
        table.row([
            version.revision.to_string(),
            commit(version),
            version.stored_as.as_str().to_owned(),
            version.stored_bytes.to_string(),
            place(version),
            if version.readable { "yes" } else { "no" }.to_owned(),
        ]);
    }
    Ok(context.out.table(&table)?)
}

fn json(version: &PageVersion) -> VersionJson {
    let mut json = VersionJson {
        revision: version.revision.0,
        commits: version.commits.iter().map(ToString::to_string).collect(),
        hash: version.hash.to_string(),
        encoding: version.stored_as.as_str(),
        stored_bytes: version.stored_bytes,
        place: "nowhere",
        base: None,
        level: None,
        listed_in: None,
        file: None,
        frame_offset: None,
        slot: None,
        superseded_revision: version.superseded.map(|revision| revision.0),
        readable: version.readable,
    };
    match &version.stored_in {
        StoredIn::Nowhere => {}
        StoredIn::Meta { base } => {
            json.place = "meta";
            json.base = base.map(|base| base.to_string());
        }
        StoredIn::File { level, listed_in, file, offset, slot } => {
            json.place = "file";
            json.level = Some(*level);
            json.listed_in = Some(listed_in.to_string());
            json.file = Some(file.to_string());
            json.frame_offset = Some(*offset);
            json.slot = Some(*slot);
        }
    }
    json
}

fn commit(version: &PageVersion) -> String {
    match version.commits.as_slice() {
        [] => "-".to_owned(),
        [commit] => commit.to_string(),
        [commit, others @ ..] => format!("{commit} or {} others", others.len()),
    }
}

fn place(version: &PageVersion) -> String {
    match &version.stored_in {
        StoredIn::Nowhere => "-".to_owned(),
        StoredIn::Meta { base: None } => "meta tier".to_owned(),
        StoredIn::Meta { base: Some(base) } => format!("meta tier, against {base}"),
        StoredIn::File { level, file, offset, slot, .. } => {
            format!("level {level}, file {file}, frame {offset}, slot {slot}")
        }
    }
}
