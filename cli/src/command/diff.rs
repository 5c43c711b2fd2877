//! `diff`

use pagestore::inspect::{ChangedPages, Diff};
use serde::Serialize;

use crate::args::DiffArgs;
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::{Table, count};

#[derive(Serialize)]
struct DiffJson {
    from_revision: u64,
    to_revision: u64,
    from_page_count: u64,
    to_page_count: u64,
    differing_pages: u64,
    pages: Vec<RangeJson>,
}

#[derive(Serialize)]
struct RangeJson {
    first: u64,
    last: u64,
    change: &'static str,
}

pub(super) async fn run(context: &mut Context, args: DiffArgs) -> Outcome {
    let volume = context.open_volume(&args.name).await?;
    let diff = volume.inspect().diff(args.from, args.to).await?;
    if context.out.is_json() {
        return Ok(context.out.json(&json(&diff))?);
    }
    let mut table = Table::new(&[">first", ">last", ">pages", "change"]);
    for range in &diff.pages {
        let change = range.change.as_str().to_owned();
        table.row([
            range.first.to_string(),
            range.last.to_string(),
            length(range).to_string(),
            change,
        ]);
    }
    if !diff.pages.is_empty() {
        context.out.table(&table)?;
    }
    Ok(context.out.line(format!(
        "{} between revision {} ({}) and revision {} ({})",
        match differing(&diff) {
            0 => "no page differs".to_owned(),
            1 => "1 page differs".to_owned(),
            pages => format!("{pages} pages differ"),
        },
        diff.from,
        count(diff.page_count_from.0, "page"),
        diff.to,
        count(diff.page_count_to.0, "page")
    ))?)
}

fn json(diff: &Diff) -> DiffJson {
    let ranges = diff.pages.iter();
    DiffJson {
        from_revision: diff.from.0,
        to_revision: diff.to.0,
        from_page_count: diff.page_count_from.0,
        to_page_count: diff.page_count_to.0,
        differing_pages: differing(diff),
        pages: ranges
            .map(|range| RangeJson {
                first: range.first.0,
                last: range.last.0,
                change: range.change.as_str(),
            })
            .collect(),
    }
}

fn differing(diff: &Diff) -> u64 {
    diff.pages.iter().map(length).sum()
}

fn length(range: &ChangedPages) -> u64 {
    range.last.0 - range.first.0 + 1
}
