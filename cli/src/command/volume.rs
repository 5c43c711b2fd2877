//! `volume`

use pagestore::inspect::Stat;
use pagestore::{VolumeName, VolumeOptions};
use serde::Serialize;

use crate::args::{CreateArgs, VolumeCommand};
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::{self, Table, count, pairs, size, time};

pub(super) async fn run(context: &mut Context, command: VolumeCommand) -> Outcome {
    match command {
        VolumeCommand::Create(args) => create(context, args).await,
        VolumeCommand::List => list(context).await,
        VolumeCommand::Stat(args) => stat(context, &args.name).await,
        VolumeCommand::Delete(args) => delete(context, &args.name).await,
    }
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    id: String,
}

async fn create(context: &mut Context, args: CreateArgs) -> Outcome {
    // A wrong name is no reason to make a store.
    VolumeName::new(&args.name).map_err(crate::failure::Failure::invalid)?;
    let store = context.open_or_make_store().await?;
    let options = VolumeOptions { page_size: args.page_size, keep: args.keep };
    let volume = store.create_volume(&args.name, options).await?;
    let id = volume.id().to_string();
    context.opened(volume);
    if context.out.is_json() {
        return Ok(context.out.json(&Named { name: &args.name, id })?);
    }
    let (page_size, keep) = (args.page_size, render::keep(args.keep));
    Ok(context.out.line(format!(
        "created volume {} ({id}): pages of {page_size} bytes, keep {keep}",
        args.name
    ))?)
}

async fn list(context: &mut Context) -> Outcome {
    let volumes = context.open_store().await?.volumes().await?;
    if context.out.is_json() {
        let volumes: Vec<Named<'_>> = volumes
            .iter()
            .map(|volume| Named { name: volume.name.as_str(), id: volume.id.to_string() })
            .collect();
        return Ok(context.out.json(&volumes)?);
    }
    let mut table = Table::new(&["id", "name"]);
    volumes.iter().for_each(|volume| table.row([volume.id.to_string(), volume.name.to_string()]));
    Ok(context.out.table(&table)?)
}

#[derive(Serialize)]
struct StatJson<'a> {
    name: &'a str,
    id: String,
    page_size: usize,
    page_count: u64,
    bytes: u64,
    keep: String,
    created: String,
    head_revision: u64,
    head_time: Option<String>,
    flushed_revision: u64,
    oldest_readable_revision: u64,
    staged_commits: u64,
    staged_pages: u64,
    staged_bytes: u64,
    staged_keys: u64,
    meta_keys: u64,
    deepest_level: Option<u8>,
    files: u64,
    file_bytes: u64,
    dropped_files: u64,
    dropped_bytes: u64,
    blob_bytes: u64,
}

async fn stat(context: &mut Context, name: &str) -> Outcome {
    let stat = context.open_volume(name).await?.inspect().stat().await?;
    if context.out.is_json() {
        return Ok(context.out.json(&stat_json(name, &stat))?);
    }
    for line in stat_lines(name, &stat) {
        context.out.line(line)?;
    }
    Ok(())
}

fn stat_json<'a>(name: &'a str, stat: &Stat) -> StatJson<'a> {
    StatJson {
        name,
        id: stat.id.to_string(),
        page_size: stat.page_size.bytes(),
        page_count: stat.page_count.0,
        bytes: stat.page_count.0.saturating_mul(stat.page_size.bytes() as u64),
        keep: render::keep(stat.keep),
        created: time(stat.created_ms),
        head_revision: stat.head.0,
        head_time: stat.head_ms.map(time),
        flushed_revision: stat.floor.0,
        oldest_readable_revision: stat.oldest.0,
        staged_commits: stat.staged.commit_count,
        staged_pages: stat.staged.page_count,
        staged_bytes: stat.staged.bytes,
        staged_keys: stat.staged.value_keys,
        meta_keys: stat.staged.keys,
        deepest_level: stat.deepest_level,
        files: stat.file_count,
        file_bytes: stat.file_bytes,
        dropped_files: stat.dropped_count,
        dropped_bytes: stat.dropped_bytes,
        blob_bytes: stat.file_bytes + stat.dropped_bytes,
    }
}

fn stat_lines(name: &str, stat: &Stat) -> Vec<String> {
    let bytes = stat.page_count.0.saturating_mul(stat.page_size.bytes() as u64);
    let head = match stat.head_ms {
        Some(ms) => format!("revision {}, {}", stat.head, time(ms)),
        None => format!("revision {}, no commits", stat.head),
    };
    let levels = match stat.deepest_level {
        Some(deepest) => format!("0 to {deepest}"),
        None => "none".to_owned(),
    };
    pairs(&[
        ("volume", name.to_owned()),
        ("id", stat.id.to_string()),
        ("page size", stat.page_size.to_string()),
        ("pages", format!("{} ({})", stat.page_count, size(bytes))),
        ("keep", render::keep(stat.keep)),
        ("created", time(stat.created_ms)),
        ("head", head),
        ("flushed up to", format!("revision {}", stat.floor)),
        ("oldest readable", format!("revision {}", stat.oldest)),
        (
            "staged",
            format!(
                "{} in {}, {} ({} of values)",
                size(stat.staged.bytes),
                count(stat.staged.commit_count, "commit"),
                count(stat.staged.page_count, "page"),
                count(stat.staged.value_keys, "key")
            ),
        ),
        ("keys in the meta tier", stat.staged.keys.to_string()),
        ("levels", levels),
        ("files", format!("{} ({})", stat.file_count, size(stat.file_bytes))),
        ("dropped files", format!("{} ({})", stat.dropped_count, size(stat.dropped_bytes))),
    ])
}

async fn delete(context: &mut Context, name: &str) -> Outcome {
    context.open_store().await?.delete_volume(name).await?;
    if context.out.is_json() {
        return Ok(context.out.json(&serde_json::json!({ "deleted": name }))?);
    }
    Ok(context.out.line(format!("deleted volume {name}; a compactor removes what it held"))?)
}
