//! `export`

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures::{StreamExt, stream};
use pagestore::{PageNo, Snapshot};
use serde::Serialize;

use crate::args::ExportArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::interrupt::or_interrupt;
use crate::progress::Bar;
use crate::render::{count, size};

/// Pages read ahead of the one that is written.
const READ_AHEAD: usize = 64;
/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

#[derive(Serialize)]
struct Exported<'a> {
    name: &'a str,
    file: String,
    revision: u64,
    page_size: usize,
    page_count: u64,
    bytes: u64,
}

pub(super) async fn run(context: &mut Context, args: ExportArgs) -> Outcome {
    or_interrupt(run_to_end(context, args)).await
}

async fn run_to_end(context: &mut Context, args: ExportArgs) -> Outcome {
    let to_stdout = args.file.as_os_str() == "-";
    let target = if to_stdout { Target::Stdout } else { Target::of(&args.file)? };
    let volume = context.open_volume(&args.name).await?;
    let snapshot = match args.at {
        Some(revision) => volume.snapshot_at(revision).await?,
        None => volume.snapshot().await?,
    };
    let page_bytes = volume.page_size().bytes();
    let bytes = snapshot.page_count().0.saturating_mul(page_bytes as u64);
    match target {
        Target::Stdout => {
            copy(
                &snapshot,
                bytes,
                &mut BufWriter::with_capacity(WRITE_BYTES, std::io::stdout()),
                Path::new("-"),
            )
            .await?;
            return Ok(());
        }
        Target::Special(path) => {
            let file = File::options()
                .write(true)
                .open(&path)
                .map_err(|error| Failure::file(&path, &error))?;
            copy(&snapshot, bytes, &mut BufWriter::with_capacity(WRITE_BYTES, file), &path).await?;
        }
        Target::File(path) => export(&snapshot, bytes, &path).await?,
    }
    let exported = Exported {
        name: &args.name,
        file: args.file.display().to_string(),
        revision: snapshot.revision().0,
        page_size: page_bytes,
        page_count: snapshot.page_count().0,
        bytes,
    };
    if context.out.is_json() {
        return Ok(context.out.json(&exported)?);
    }
    Ok(context.out.line(format!(
        "exported revision {} of {} to {}: {} ({})",
        exported.revision,
        exported.name,
        exported.file,
        count(exported.page_count, "page"),
        size(bytes)
    ))?)
}

/// Where an export goes.
enum Target {
    Stdout,
    /// A regular file, there already or not.
    File(PathBuf),
    /// A device or a pipe, which must not be replaced.
    Special(PathBuf),
}

impl Target {
    fn of(path: &Path) -> Outcome<Target> {
        let Ok(metadata) = std::fs::metadata(path) else {
            return Ok(Target::File(path.to_owned()));
        };
        if metadata.is_dir() {
            return Err(Failure::invalid(format!(
                "{} is a directory; name a file in it",
                path.display()
            )));
        }
        // Through links, so that a link stays one.
        let path = path.canonicalize().map_err(|error| Failure::file(path, &error))?;
        Ok(if metadata.is_file() { Target::File(path) } else { Target::Special(path) })
    }
}

/// Writes a snapshot to a file, which is as it was until all of it is durably written.
pub(crate) async fn export(snapshot: &Snapshot, bytes: u64, path: &Path) -> Outcome {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // As any new file: what the umask leaves of it.
    let mode = std::fs::metadata(path).map_or(0o666, |metadata| metadata.permissions().mode());
    let temporary = tempfile::Builder::new()
        .prefix(".pagestore-export-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(|error| Failure::file(directory, &error))?;
    copy(snapshot, bytes, &mut BufWriter::with_capacity(WRITE_BYTES, temporary.as_file()), path)
        .await?;
    temporary.as_file().sync_all().map_err(|error| Failure::file(path, &error))?;
    temporary.persist(path).map_err(|error| Failure::file(path, &error.error))?;
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Failure::file(directory, &error))
}

/// Writes all pages in order, reading a bounded number ahead.
async fn copy(snapshot: &Snapshot, bytes: u64, to: &mut impl Write, path: &Path) -> Outcome {
    let bar = Bar::bytes("writing", bytes);
    let pages = (0..snapshot.page_count().0).map(PageNo);
    let mut reads = stream::iter(pages).map(|page| snapshot.read(page)).buffered(READ_AHEAD);
    while let Some(content) = reads.next().await {
        let content = content?;
        to.write_all(&content).map_err(|error| Failure::io(&path.display().to_string(), &error))?;
        bar.add(content.len() as u64);
    }
    to.flush().map_err(|error| Failure::io(&path.display().to_string(), &error))
}
