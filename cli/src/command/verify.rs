//! `verify`

use std::sync::Mutex;

use pagestore::inspect::{Finding, Phase, Progress, Report, verify};
use serde::Serialize;

use crate::args::VerifyArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::progress::Bar;
use crate::render::{count, size};

#[derive(Serialize)]
struct ReportJson {
    name: String,
    volume: String,
    clean: bool,
    revision: Option<u64>,
    page_count: u64,
    pages_read: u64,
    keys_read: u64,
    files_read: u64,
    versions_read: u64,
    file_bytes_read: u64,
    unnamed_objects: u64,
    findings: Vec<FindingJson>,
    more_findings: u64,
}

#[derive(Serialize)]
struct FindingJson {
    damage: &'static str,
    message: String,
    key: Option<String>,
    file: Option<String>,
    offset: Option<u64>,
    pages: Vec<[u64; 2]>,
}

pub(super) async fn run(context: &mut Context, args: VerifyArgs) -> Outcome {
    let store = context.open_store().await?;
    if let Ok(volume) = store.open_volume(&args.name).await {
        // Shared with the verification, so that it is closed at the end.
        context.opened(volume);
    }
    let bar = Mutex::new(None);
    let report = verify(&store, &args.name, args.at, &|progress| show(&bar, progress)).await?;
    drop(bar);
    if context.out.is_json() {
        context.out.json(&json(&args.name, &report))?;
    } else {
        for finding in &report.findings {
            context.out.line(line(finding))?;
        }
        context.out.line(summary(&args.name, &report))?;
    }
    match report.findings.len() as u64 + report.more_findings {
        0 => Ok(()),
        found => Err(Failure::damaged(format!(
            "volume {} is damaged: {}; restore what is named from a copy of the blob or meta tier",
            args.name,
            count(found, "finding")
        ))),
    }
}

/// One bar for each phase.
fn show(bar: &Mutex<Option<(Phase, Bar)>>, progress: Progress) {
    let Ok(mut bar) = bar.lock() else { return };
    if bar.as_ref().is_none_or(|(phase, _)| *phase != progress.phase) {
        let new = match progress.phase {
            Phase::Files => Bar::bytes("files", progress.total),
            Phase::Keys => Bar::things("keys", progress.total),
            Phase::Staged => Bar::things("staged pages", progress.total),
            Phase::Pages => Bar::things("pages", progress.total),
        };
        // The old one goes before the new one is drawn.
        drop(bar.take());
        *bar = Some((progress.phase, new));
    }
    if let Some((_, bar)) = bar.as_ref() {
        bar.set(progress.done, progress.total);
    }
}

fn line(finding: &Finding) -> String {
    let ranges: Vec<String> = finding
        .pages
        .iter()
        .map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        )
        .collect();
    let pages =
        if ranges.is_empty() { String::new() } else { format!(" (pages {})", ranges.join(", ")) };
    format!("damaged {}: {}{pages}", finding.damage.as_str(), finding.message)
}

fn summary(name: &str, report: &Report) -> String {
    let read = format!(
        "{} read, {} with {} ({}), {}",
        count(report.keys_read, "key"),
        count(report.files_read, "file"),
        count(report.versions_read, "version"),
        size(report.file_bytes_read),
        count(report.pages_read, "page")
    );
    let revision = report
        .revision
        .map_or_else(|| "not opened".to_owned(), |revision| format!("revision {revision}"));
    let verdict = if report.is_clean() { "clean" } else { "damaged" };
    format!("volume {name}, {revision}: {verdict}; {read}")
}

fn json(name: &str, report: &Report) -> ReportJson {
    let findings = report.findings.iter().map(|finding| FindingJson {
        damage: finding.damage.as_str(),
        message: finding.message.clone(),
        key: finding.key.clone(),
        file: finding.file.map(|file| file.to_string()),
        offset: finding.offset,
        pages: finding.pages.iter().map(|(first, last)| [first.0, last.0]).collect(),
    });
    ReportJson {
        name: name.to_owned(),
        volume: report.volume.to_string(),
        clean: report.is_clean(),
        revision: report.revision.map(|revision| revision.0),
        page_count: report.page_count.0,
        pages_read: report.pages_read,
        keys_read: report.keys_read,
        files_read: report.files_read,
        versions_read: report.versions_read,
        file_bytes_read: report.file_bytes_read,
        unnamed_objects: report.unnamed_objects,
        findings: findings.collect(),
        more_findings: report.more_findings,
    }
}
