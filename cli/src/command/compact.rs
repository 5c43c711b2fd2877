//! `compact`

use std::sync::Arc;

use pagestore::inspect::Stat;
use pagestore::{Store, VolumeId, VolumeName};
use pagestore_compactor::plan::Action;
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Progress, Tiers};
use serde::Serialize;

use crate::args::CompactArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::progress::Bar;
use crate::render::{count, size};

#[derive(Serialize)]
struct Plan<'a> {
    name: &'a str,
    steps: Vec<StepJson>,
}

#[derive(Serialize)]
struct StepJson {
    action: &'static str,
    step: String,
    raises_oldest_revision_to: Option<u64>,
}

#[derive(Serialize)]
struct Compacted<'a> {
    name: &'a str,
    before: Figures,
    after: Figures,
}

#[derive(Serialize)]
struct Figures {
    staged_bytes: u64,
    meta_keys: u64,
    files: u64,
    file_bytes: u64,
    dropped_files: u64,
    dropped_bytes: u64,
    oldest_readable_revision: u64,
}

pub(super) async fn run(context: &mut Context, args: CompactArgs) -> Outcome {
    let store = context.open_store().await?;
    let volume = find(&store, &args.name).await?;
    let bar = Arc::new(Bar::things("compacting", 0));
    let compactor = compactor(&store, bar.clone());
    if args.dry_run {
        return plan(context, &args.name, &compactor, volume).await;
    }
    let before = figures(&store, &args.name).await?;
    compactor.compact(volume, Effort::Thorough).await?;
    let after = figures(&store, &args.name).await?;
    drop((compactor, bar));
    if context.out.is_json() {
        return Ok(context.out.json(&Compacted { name: &args.name, before, after })?);
    }
    context.out.line(format!(
        "compacted {}: {} in the meta tier before, {} after; {} in {} before, {} in {} after",
        args.name,
        size(before.staged_bytes),
        size(after.staged_bytes),
        size(before.file_bytes + before.dropped_bytes),
        count(before.files + before.dropped_files, "file"),
        size(after.file_bytes + after.dropped_bytes),
        count(after.files + after.dropped_files, "file")
    ))?;
    if after.dropped_files > 0 {
        context.out.line(format!(
            "{} ({}) still in use by readers or other files",
            count(after.dropped_files, "dropped file"),
            size(after.dropped_bytes)
        ))?;
    }
    Ok(())
}

/// The compactor of the store, in this process.
pub(crate) fn compactor(store: &Store, bar: Arc<Bar>) -> Compactor {
    let tiers = Tiers {
        meta: store.meta().clone(),
        blobs: store.blobs().clone(),
        keys: store.keys().clone(),
        env: store.env().clone(),
    };
    let options = CompactorOptions {
        owner: format!("pagestore-cli, process {}", std::process::id()),
        progress: Some(Arc::new(move |_, progress| show(&bar, progress))),
        ..CompactorOptions::default()
    };
    Compactor::new(tiers, options)
}

fn show(bar: &Bar, progress: Progress) {
    match progress {
        Progress::Flushing { done, total } => {
            bar.say("flushing");
            bar.set(done, total);
        }
        Progress::Merging { done, total } => {
            bar.say("merging");
            bar.set(done, total);
        }
        Progress::Deleting { total } => {
            bar.say("deleting");
            bar.set(0, total);
        }
        _ => bar.say("removing"),
    }
}

/// The volume's id, without opening it: an open volume would hold what is to be compacted.
pub(crate) async fn find(store: &Store, name: &str) -> Outcome<VolumeId> {
    let name = VolumeName::new(name).map_err(Failure::invalid)?;
    let volumes = store.volumes().await?;
    let volume = volumes.into_iter().find(|volume| volume.name == name);
    let missing = || {
        Failure::not_found(format!(
            "no volume of this name: {name}; `volume list` shows what there is"
        ))
    };
    Ok(volume.ok_or_else(missing)?.id)
}

async fn plan(
    context: &mut Context,
    name: &str,
    compactor: &Compactor,
    volume: VolumeId,
) -> Outcome {
    let steps = compactor.plan(volume, Effort::Thorough).await?;
    if context.out.is_json() {
        let steps = steps.iter().map(|step| StepJson {
            action: action(&step.action),
            step: step.to_string(),
            raises_oldest_revision_to: step.raise.map(|oldest| oldest.readable.0),
        });
        return Ok(context.out.json(&Plan { name, steps: steps.collect() })?);
    }
    for (index, step) in steps.iter().enumerate() {
        context.out.line(format!("{}. {step}", index + 1))?;
    }
    Ok(context.out.line(match steps.len() {
        0 => "nothing is due".to_owned(),
        _ => "what these steps make due is not foreseen; nothing was changed".to_owned(),
    })?)
}

fn action(action: &Action) -> &'static str {
    match action {
        Action::Remove(_) => "remove",
        Action::Flush(_) => "flush",
        Action::Merge(_) => "merge",
        Action::Move(_) => "move",
        Action::Delete(_) => "delete",
    }
}

async fn figures(store: &Store, name: &str) -> Outcome<Figures> {
    let volume = store.open_volume(name).await?;
    let stat = volume.inspect().stat().await;
    volume.close().await;
    let Stat { staged, file_count, file_bytes, dropped_count, dropped_bytes, oldest, .. } = stat?;
    Ok(Figures {
        staged_bytes: staged.bytes,
        meta_keys: staged.keys,
        files: file_count,
        file_bytes,
        dropped_files: dropped_count,
        dropped_bytes,
        oldest_readable_revision: oldest.0,
    })
}
