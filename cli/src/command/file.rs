//! `file`

use pagestore::inspect::FileDetail;
use serde::Serialize;

use super::levels::{FileJson, file_json};
use crate::args::FileArgs;
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::{Table, pairs, percent, size};

#[derive(Serialize)]
struct DetailJson {
    #[serde(flatten)]
    file: FileJson,
    object: String,
    published_revision: u64,
    commits: u64,
    size_changes: u64,
    own_frame_bytes: u64,
    raw_bytes: u64,
    tail_bytes: u64,
    index_blocks: Vec<BlockJson>,
    frames: Vec<FrameJson>,
    referenced_files: Vec<ReferenceJson>,
}

#[derive(Serialize)]
struct BlockJson {
    offset: u64,
    bytes: u64,
    versions: u64,
    first_page: u64,
    last_page: u64,
}

#[derive(Serialize)]
struct FrameJson {
    offset: u64,
    bytes: u64,
    versions: u64,
    newest_versions: u64,
    first_page: u64,
    last_page: u64,
}

#[derive(Serialize)]
struct ReferenceJson {
    file: String,
    frames: u64,
    frame_bytes: u64,
    versions: u64,
}

pub(super) async fn run(context: &mut Context, args: FileArgs) -> Outcome {
    let detail = context.open_volume(&args.name).await?.inspect().file(args.file).await?;
    if context.out.is_json() {
        return Ok(context.out.json(&json(&detail))?);
    }
    for line in summary(&detail) {
        context.out.line(line)?;
    }
    let mut blocks =
        Table::new(&["index block at", ">size", ">versions", ">first page", ">last page"]);
    for block in &detail.blocks {
        let numbers =
            [block.version_count, block.first.0, block.last.0].map(|number| number.to_string());
        blocks.row([block.offset.to_string(), size(block.bytes)].into_iter().chain(numbers));
    }
    let mut frames =
        Table::new(&["frame at", ">size", ">versions", ">newest", ">first page", ">last page"]);
    for frame in &detail.frames {
        let numbers = [frame.version_count, frame.newest_count, frame.first.0, frame.last.0]
            .map(|number| number.to_string());
        frames.row([frame.offset.to_string(), size(frame.bytes)].into_iter().chain(numbers));
    }
    let mut references = Table::new(&["points into", ">frames", ">size", ">versions"]);
    for reference in &detail.references {
        references.row([
            reference.id.to_string(),
            reference.frame_count.to_string(),
            size(reference.frame_bytes),
            reference.version_count.to_string(),
        ]);
    }
    let tables = [
        (blocks, detail.blocks.len()),
        (frames, detail.frames.len()),
        (references, detail.references.len()),
    ];
    for (table, rows) in tables {
        if rows > 0 {
            context.out.line("")?;
            context.out.table(&table)?;
        }
    }
    Ok(())
}

fn summary(detail: &FileDetail) -> Vec<String> {
    let info = &detail.info;
    pairs(&[
        ("file", info.id.to_string()),
        ("object", detail.object.clone()),
        ("level", info.level.map_or_else(|| "-".to_owned(), |level| level.to_string())),
        ("made by", info.origin.map_or("-", |origin| origin.as_str()).to_owned()),
        ("published at", format!("revision {}", detail.published)),
        ("size", size(info.bytes)),
        (
            "frames",
            format!("{} ({} of pages)", size(detail.own_frame_bytes), size(detail.raw_bytes)),
        ),
        ("tail", size(detail.tail_bytes)),
        (
            "pages",
            info.pages
                .map_or_else(|| "none".to_owned(), |(first, last)| format!("{first} to {last}")),
        ),
        (
            "revisions",
            info.revisions
                .map_or_else(|| "-".to_owned(), |(oldest, newest)| format!("{oldest} to {newest}")),
        ),
        ("versions", format!("{}, {} live", info.version_count, percent(info.live_share()))),
        ("commits", detail.commit_count.to_string()),
        ("size changes", detail.size_change_count.to_string()),
    ])
}

fn json(detail: &FileDetail) -> DetailJson {
    let blocks = detail.blocks.iter().map(|block| BlockJson {
        offset: block.offset,
        bytes: block.bytes,
        versions: block.version_count,
        first_page: block.first.0,
        last_page: block.last.0,
    });
    let frames = detail.frames.iter().map(|frame| FrameJson {
        offset: frame.offset,
        bytes: frame.bytes,
        versions: frame.version_count,
        newest_versions: frame.newest_count,
        first_page: frame.first.0,
        last_page: frame.last.0,
    });
    let references = detail.references.iter().map(|reference| ReferenceJson {
        file: reference.id.to_string(),
        frames: reference.frame_count,
        frame_bytes: reference.frame_bytes,
        versions: reference.version_count,
    });
    DetailJson {
        file: file_json(&detail.info),
        object: detail.object.clone(),
        published_revision: detail.published.0,
        commits: detail.commit_count,
        size_changes: detail.size_change_count,
        own_frame_bytes: detail.own_frame_bytes,
        raw_bytes: detail.raw_bytes,
        tail_bytes: detail.tail_bytes,
        index_blocks: blocks.collect(),
        frames: frames.collect(),
        referenced_files: references.collect(),
    }
}
