//! `demo`: the main job, start to end.
//!
//! Whatever it claims it checks against a model of its own: the writers say which commits were
//! acknowledged, and every revision that is looked at must be exactly what those commits make of the
//! file. It succeeds only if every check held.

mod model;
mod script;
mod source;
pub(super) mod writer;

use std::path::{Path, PathBuf};

use pagestore::{Snapshot, Store, Volume};
use serde::Serialize;

use crate::args::DemoArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::interrupt::or_interrupt;
use model::Model;
use source::Source;

/// The demo under way.
#[derive(Debug)]
struct Demo<'a> {
    context: &'a mut Context,
    scratch: &'a Path,
    url: String,
    source: Source,
    store: Store,
    volume: Volume,
    imported: Imported,
    model: Model,
    checks: Vec<Check>,
    figures: Figures,
}

/// The volume as it was imported.
#[derive(Debug)]
struct Imported {
    revision: u64,
    snapshot: Snapshot,
}

/// Something that had to hold.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    held: bool,
}

/// What was measured on the way.
#[derive(Debug, Default, Serialize)]
struct Figures {
    seed: u64,
    image_bytes: u64,
    commits: u64,
    conflicts: u64,
    commits_per_second: f64,
    commits_per_second_while_compacting: f64,
    staged_bytes_before_compaction: u64,
    staged_bytes_after_compaction: u64,
    meta_keys_before_compaction: u64,
    meta_keys_after_compaction: u64,
    file_bytes_after_compaction: u64,
    revisions_compared: u64,
}

#[derive(Serialize)]
struct Summary<'a> {
    held: bool,
    store: &'a str,
    volume: &'a str,
    checks: &'a [Check],
    figures: &'a Figures,
}

pub(super) async fn run(context: &mut Context, args: DemoArgs) -> Outcome {
    or_interrupt(run_to_end(context, args)).await
}

async fn run_to_end(context: &mut Context, args: DemoArgs) -> Outcome {
    let scratch = tempfile::Builder::new()
        .prefix("pagestore-demo-")
        .tempdir()
        .map_err(|error| Failure::io("cannot make a temporary directory", &error))?;
    let source = source::choose(args.file, scratch.path())?;
    let (url, is_own) = match context.url() {
        Some(url) => (url.to_owned(), false),
        None => (scratch.path().join("store").display().to_string(), true),
    };
    let mut demo = Demo::begin(context, scratch.path(), source, url).await?;
    let outcome = demo.play().await;
    demo.volume.close().await;
    outcome?;
    demo.finish(is_own)
}

impl Demo<'_> {
    async fn play(&mut self) -> Outcome {
        self.show_conflict().await?;
        self.write().await?;
        self.resize().await?;
        self.compare("before compaction").await?;
        self.write_while_compacting().await?;
        self.compact().await?;
        self.compare("after compaction").await?;
        self.look().await?;
        self.check_snapshot().await?;
        self.verify().await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Explains; to people only.
    fn say(&mut self, text: impl AsRef<str>) -> Outcome {
        if !self.context.out.is_json() {
            self.context.out.line(text)?;
        }
        Ok(())
    }

    /// Heads a step.
    fn step(&mut self, text: impl AsRef<str>) -> Outcome {
        self.say(format!("\n== {}", text.as_ref()))
    }

    /// Notes whether something held.
    fn check(&mut self, what: impl Into<String>, held: bool) -> Outcome {
        let what = what.into();
        self.say(format!("   {} {what}", if held { "[held]  " } else { "[FAILED]" }))?;
        self.checks.push(Check { what, held });
        Ok(())
    }

    fn finish(self, is_own: bool) -> Outcome {
        let Demo { context, url, volume, checks, figures, .. } = self;
        let failed = checks.iter().filter(|check| !check.held).count();
        let name = volume.name().as_str();
        if context.out.is_json() {
            let summary = Summary {
                held: failed == 0,
                store: &without_password(&url),
                volume: name,
                checks: &checks,
                figures: &figures,
            };
            context.out.json(&summary)?;
        } else {
            script::figures(context, &figures)?;
            let rest = match is_own {
                true => "the store was in a temporary directory and is gone".to_owned(),
                false => format!(
                    "the volume is still there: `pagestore-cli volume delete {name}` removes it"
                ),
            };
            context.out.line(format!(
                "\n{} of {} checks held; {rest}",
                checks.len() - failed,
                checks.len()
            ))?;
        }
        match failed {
            0 => Ok(()),
            _ => Err(Failure::check(format!(
                "{failed} of {} checks of the demo did not hold",
                checks.len()
            ))),
        }
    }
}

/// A store's URL as it may be shown.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://...@{place}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("etcd://me:secret@a:1/r?blobs=x"), "etcd://...@a:1/r?blobs=x");
        assert_eq!(without_password("/tmp/a@b"), "/tmp/a@b");
    }
}
