//! Looking into a volume: its log, the history of a page, what differs between two revisions, where
//! everything is stored, and whether it is all there.
//!
//! Owns reading for people and tools; commits and snapshots never come through here. It reads files
//! as they are stored, past every cache, and changes nothing. What it shows is the state at one moment:
//! when a compactor takes a file away meanwhile, the look begins anew.

use std::sync::Arc;

use crate::commit::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::mirror::VolumeState;
use crate::volume::Volume;

mod diff;
mod file;
mod history;
mod levels;
mod log;
mod objects;
mod verify;

pub use diff::{Change, ChangedPages, Diff};
pub use file::{BlockInfo, FileDetail, FrameInfo, ReferenceInfo};
pub use history::{PageVersion, StoredAs, StoredIn};
pub use levels::{FileInfo, LevelInfo, Levels, StagedInfo, Stat};
pub use log::{CommitInfo, CommitKind};
pub use verify::{Damage, Finding, Phase, Progress, Report, Tell, verify};

/// Times that a look overtaken by a compactor begins anew.
const MAX_TRIES: usize = 12;
/// Requests to the blob tier, or lookups of pages, under way at once.
const CONCURRENCY: usize = 8;

/// Looks into one volume. A clone is cheap.
#[derive(Clone, Debug)]
pub struct Inspector {
    core: Arc<Core>,
    volume: Volume,
}

impl Volume {
    /// A look into the volume, for people and tools.
    #[must_use]
    pub fn inspect(&self) -> Inspector {
        Inspector { core: self.core().clone(), volume: self.clone() }
    }
}

impl Inspector {
    /// What `look` sees of a fresh state; of a newer one when a file that the state lists is gone.
    async fn look<T, F>(&self, mut look: impl FnMut(Arc<VolumeState>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        for _ in 1..MAX_TRIES {
            self.core.mirror.abreast().await?;
            match look(self.core.mirror.state()?).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                seen => return seen,
            }
        }
        self.core.mirror.abreast().await?;
        look(self.core.mirror.state()?).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(&error),
            _ => error,
        })
    }
}

/// A listed file was not there, however often the list was read anew.
fn missing(error: &Error) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a listed file is missing: {error}"))
}
