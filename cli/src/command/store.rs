//! `store`

use pagestore::restore::{Lost, LostFiles, Restored};
use serde::Serialize;

use crate::args::{AcceptRestoreArgs, StoreCommand};
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::{Table, size};

pub(super) async fn run(context: &mut Context, command: StoreCommand) -> Outcome {
    match command {
        StoreCommand::AcceptRestore(args) => accept_restore(context, &args).await,
    }
}

#[derive(Serialize)]
struct RestoreJson {
    restored: bool,
    accepted: bool,
    cluster_id: Option<String>,
    made_on: Option<String>,
    revision: Option<u64>,
    went_back: bool,
    lost_files: Vec<LostJson>,
}

#[derive(Serialize)]
struct LostJson {
    volume: String,
    name: Option<String>,
    files: u64,
    bytes: u64,
    newest_revision: u64,
}

async fn accept_restore(context: &mut Context, args: &AcceptRestoreArgs) -> Outcome {
    let Some(restored) = Restored::find(context.given_url()?).await? else {
        return nothing(context);
    };
    let (cluster_id, made_on) = (hex(restored.cluster_id), hex(restored.made_on));
    let lost = restored.lost().await?;
    if args.yes {
        restored.accept().await?;
    }
    if context.out.is_json() {
        return Ok(context.out.json(&RestoreJson {
            restored: true,
            accepted: args.yes,
            cluster_id: Some(cluster_id),
            made_on: Some(made_on),
            revision: Some(lost.revision.0),
            went_back: lost.went_back(),
            lost_files: lost.files.iter().map(json).collect(),
        })?);
    }
    context.out.line(format!(
        "the store was made on etcd cluster {made_on}; this is {cluster_id}, restored from a backup or rebuilt, \
         at revision {}",
        lost.revision
    ))?;
    say_lost(context, &lost)?;
    Ok(context.out.line(if args.yes {
        "accepted: the store opens on this etcd now; check each volume with `verify`"
    } else {
        "nothing was changed; with --yes the store goes on with this etcd, and what is lost stays lost"
    })?)
}

fn nothing(context: &mut Context) -> Outcome {
    if context.out.is_json() {
        return Ok(context.out.json(&RestoreJson {
            restored: false,
            accepted: false,
            cluster_id: None,
            made_on: None,
            revision: None,
            went_back: false,
            lost_files: Vec::new(),
        })?);
    }
    Ok(context.out.line("nothing to accept: the store is on the etcd that it knows")?)
}

fn say_lost(context: &mut Context, lost: &Lost) -> Outcome {
    if lost.files.is_empty() {
        return Ok(context.out.line(
            "no file is lost; commits since the backup that were not flushed would leave no trace",
        )?);
    }
    context.out.line("files that it knows nothing of, of commits since the backup:")?;
    let mut table = Table::new(&["volume", ">files", ">size", ">newest revision"]);
    for files in &lost.files {
        let name = files.name.as_ref();
        let name =
            name.map_or_else(|| format!("{} (no such volume)", files.volume), |n| n.to_string());
        let figures = [files.count.to_string(), size(files.bytes), files.newest.to_string()];
        table.row([name].into_iter().chain(figures));
    }
    context.out.table(&table)?;
    if lost.went_back() {
        context.out.line(
            "etcd's revision went back: revisions will be given that were given before; better restore it again \
             with `etcdutl snapshot restore --bump-revision 1000000000 --mark-compacted`",
        )?;
    }
    Ok(())
}

fn json(files: &LostFiles) -> LostJson {
    LostJson {
        volume: files.volume.to_string(),
        name: files.name.as_ref().map(ToString::to_string),
        files: files.count,
        bytes: files.bytes,
        newest_revision: files.newest.0,
    }
}

fn hex(cluster: u64) -> String {
    format!("{cluster:016x}")
}
