//! `watch`

use pagestore::inspect::CommitInfo;
use pagestore::{Revision, Volume};

use super::log;
use crate::args::WatchArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::{count, time};

pub(super) async fn run(context: &mut Context, args: WatchArgs) -> Outcome {
    let volume = context.open_volume(&args.name).await?;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut shown = volume.snapshot().await?.revision();
    loop {
        tokio::select! {
            interrupted = &mut interrupt => {
                return interrupted.map_err(|error| Failure::io("cannot wait for an interrupt", &error));
            }
            commits = next(&volume, shown) => {
                for commit in commits? {
                    shown = shown.max(commit.revision);
                    show(context, &commit)?;
                }
            }
        }
    }
}

/// The commits after `shown`, once there are any.
async fn next(volume: &Volume, shown: Revision) -> Outcome<Vec<CommitInfo>> {
    volume.changed_since(shown).await?;
    Ok(volume.inspect().log_after(shown).await?)
}

fn show(context: &mut Context, commit: &CommitInfo) -> Outcome {
    if context.out.is_json() {
        return Ok(context.out.json(&log::json(commit))?);
    }
    Ok(context.out.line(format!(
        "{}  revision {}  {}  {} {}",
        time(commit.made_ms),
        commit.revision,
        commit.commit,
        count(commit.written_count, "page"),
        log::kind(commit)
    ))?)
}
