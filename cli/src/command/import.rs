//! `import`

use std::time::Duration;

use bytes::Bytes;
use pagestore::{
    Committed, Error, ErrorKind, PageCount, PageNo, PageSize, Resolution, Store, Transaction,
    TryLock, Volume, VolumeName, VolumeOptions, WriteLock,
};
use serde::Serialize;

use crate::args::ImportArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::image::Image;
use crate::interrupt::or_interrupt;
use crate::progress::Bar;
use crate::render::{count, size};

/// Bytes read from the file at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Times that a commit without an answer is asked for, and the pause in between.
const RESOLVES: (usize, Duration) = (10, Duration::from_secs(2));

/// Times that the write lock is asked for while another has it, and the pause in between: a minute.
const LOCK_TRIES: (usize, Duration) = (1_200, Duration::from_millis(50));

/// What an import did.
#[derive(Debug, Serialize)]
pub(crate) struct Imported {
    pub(crate) name: String,
    pub(crate) revision: u64,
    pub(crate) commit: Option<String>,
    pub(crate) page_size: usize,
    pub(crate) page_count: u64,
    pub(crate) pages_written: u64,
    pub(crate) bytes: u64,
    pub(crate) sqlite: bool,
    pub(crate) created: bool,
}

pub(super) async fn run(context: &mut Context, args: ImportArgs) -> Outcome {
    VolumeName::new(&args.name).map_err(Failure::invalid)?;
    let image = Image::open(&args.file)?;
    // Refused before a store is made for it.
    image.page_size(args.page_size, args.page_size.unwrap_or(smallest()))?;
    let store = context.open_or_make_store().await?;
    let imported =
        import(&store, &args.name, image, args.page_size, VolumeOptions::default()).await?;
    if context.out.is_json() {
        return Ok(context.out.json(&imported)?);
    }
    let what = if imported.created { "into a new volume" } else { "into the volume" };
    Ok(context.out.line(format!(
        "imported {} ({}) {what} {}: {} written, revision {}",
        count(imported.page_count, "page"),
        size(imported.bytes),
        imported.name,
        count(imported.pages_written, "page"),
        imported.revision
    ))?)
}

/// Any page size that the file may turn out to have is a multiple of it.
fn smallest() -> PageSize {
    PageSize::new(512).expect("BUG: 512 is a page size")
}

/// Makes the volume exactly what `image` is, in one commit; makes the volume first if there is none,
/// and not at all if that fails.
pub(crate) async fn import(
    store: &Store,
    name: &str,
    image: Image,
    asked: Option<PageSize>,
    options: VolumeOptions,
) -> Outcome<Imported> {
    match store.open_volume(name).await {
        Ok(volume) => {
            let page_size = image.page_size(asked, volume.page_size())?;
            if page_size != volume.page_size() {
                return Err(Failure::invalid(format!(
                    "the volume {name} has pages of {} bytes, the file of {page_size}; import it into another volume",
                    volume.page_size()
                )));
            }
            let replaced = or_interrupt(replace(store, &volume, image, false)).await;
            volume.close().await;
            replaced.map_err(|failed| failed.failure)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let page_size = image.page_size(asked, PageSize::DEFAULT)?;
            let volume = store.create_volume(name, VolumeOptions { page_size, ..options }).await?;
            let replaced = or_interrupt(replace(store, &volume, image, true)).await;
            volume.close().await;
            if replaced.as_ref().is_err_and(|failed| !failed.is_unknown) {
                store.delete_volume(name).await?;
            }
            replaced.map_err(|failed| failed.failure)
        }
        Err(error) => Err(error.into()),
    }
}

/// Why an import did not happen, or is not known to have.
#[derive(Debug)]
struct Failed {
    failure: Failure,
    /// True when the commit may have happened all the same.
    is_unknown: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed { failure, is_unknown: false }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        let is_unknown = error.kind() == ErrorKind::Unknown;
        Failed { failure: error.into(), is_unknown }
    }
}

/// Takes the volume's write lock, as SQLite's writers do that wait for one another: they wait for an
/// import, and it for them.
async fn take_turn(store: &Store, volume: &Volume) -> Outcome<WriteLock> {
    for _ in 0..LOCK_TRIES.0 {
        let base = volume.snapshot().await?;
        match store.try_lock(volume.name().as_str(), Some(&base)).await? {
            TryLock::Taken(lock) => return Ok(lock),
            TryLock::Overtaken => {}
            TryLock::Held => tokio::time::sleep(LOCK_TRIES.1).await,
        }
    }
    Err(Failure::overtaken(format!(
        "another has been writing to {} for a minute; end its transaction, and run the import again",
        volume.name()
    )))
}

/// Makes the volume exactly what `image` is.
async fn replace(
    store: &Store,
    volume: &Volume,
    image: Image,
    created: bool,
) -> Result<Imported, Failed> {
    let lock = take_turn(store, volume).await?;
    let replaced = replace_alone(volume, &lock, image, created).await;
    lock.release().await;
    replaced
}

async fn replace_alone(
    volume: &Volume,
    lock: &WriteLock,
    mut image: Image,
    created: bool,
) -> Result<Imported, Failed> {
    let page_bytes = volume.page_size().bytes();
    let (bytes, sqlite) = (image.bytes(), image.is_sqlite());
    let page_count = bytes / page_bytes as u64;
    let mut transaction = volume.begin().await?;
    fill(&mut transaction, &mut image, page_bytes).await?;
    if transaction.page_count() != PageCount(page_count) {
        transaction.truncate(PageCount(page_count));
    }
    let pages_written = transaction.written_count() as u64;
    transaction.require_lock(lock, true);
    let committed = match transaction.commit().await {
        Ok(committed) => committed,
        Err(error) if error.kind() == ErrorKind::Unknown => resolve(volume, error).await?,
        Err(error) => return Err(error.into()),
    };
    Ok(Imported {
        name: volume.name().to_string(),
        revision: committed.revision.0,
        commit: committed.commit.map(|commit| commit.to_string()),
        page_size: page_bytes,
        page_count,
        pages_written,
        bytes,
        sqlite,
        created,
    })
}

/// Writes every page of `image` that the volume does not have already.
async fn fill(transaction: &mut Transaction, image: &mut Image, page_bytes: usize) -> Outcome {
    let bar = Bar::bytes("reading", image.bytes());
    let before = transaction.page_count();
    let (mut page, mut rest) = (0, image.bytes());
    while rest > 0 {
        let length = usize::try_from(rest).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let mut chunk = vec![0; length];
        image.read(&mut chunk)?;
        for content in chunk.chunks(page_bytes) {
            let is_new = !before.contains(PageNo(page));
            // New pages are zeros anyway.
            if !is_new {
                transaction.write_if_changed(PageNo(page), content).await?;
            } else if content.iter().any(|byte| *byte != 0) {
                transaction.write(PageNo(page), Bytes::copy_from_slice(content))?;
            }
            page += 1;
        }
        rest -= length as u64;
        bar.add(length as u64);
    }
    image.check_unchanged()
}

/// What became of a commit that nobody answered.
async fn resolve(volume: &Volume, error: Error) -> Result<Committed, Failed> {
    let Some(token) = error.commit_token() else { return Err(error.into()) };
    for _ in 0..RESOLVES.0 {
        tokio::time::sleep(RESOLVES.1).await;
        match volume.resolve(token).await {
            Ok(Resolution::Committed(revision)) => {
                return Ok(Committed { revision, commit: Some(token.commit) });
            }
            Ok(Resolution::Aborted) => {
                let message = "the connection was lost in mid-commit, and the commit did not happen; run the import again";
                return Err(Failure::refused(message).into());
            }
            Ok(Resolution::Forgotten) => break,
            Err(_) => {}
        }
    }
    Err(error.into())
}
