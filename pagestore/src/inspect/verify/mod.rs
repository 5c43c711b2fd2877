//! Verification: reads everything and says what is broken.
//!
//! Owns the comparison of what ought to be there with what is. Never stops at the first damage, never
//! repairs, and never takes for damage what a compactor moved meanwhile: whatever is missing is looked
//! for again in a newer state first.
//!
//! ```text
//! keys     every value of the volume decodes; the files of a level are one sorted run
//! staged   every commit above the floor has its pages staged, its pointers, and they decode
//! files    every listed object has its length, and every section and frame its checksum and content
//! pages    every page of a revision can be read
//! ```

mod files;
mod findings;
mod frames;
mod keys;
mod pages;
mod pointers;
mod sections;
mod staged;

use std::fmt;

use crate::error::{Error, Result};
use crate::meta::keys::VolumeKeys;
use crate::meta::records::{self, Record};
use crate::meta::{KeyRange, RangeRequest};
use crate::store::Store;
use crate::types::{PageCount, Revision, VolumeId, VolumeName};

use findings::Findings;
pub use findings::{Damage, Finding};

/// What a verification does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Decodes the volume's keys.
    Keys,
    /// Decodes staged pages.
    Staged,
    /// Reads files; counted in bytes.
    Files,
    /// Reads the pages of a revision.
    Pages,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Keys => "keys",
            Phase::Staged => "staged pages",
            Phase::Files => "files",
            Phase::Pages => "pages",
        })
    }
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, as far as is known.
    pub total: u64,
}

/// Who is told how far a verification is.
pub type Tell<'a> = &'a (dyn Fn(Progress) + Sync);

/// What a verification came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The volume.
    pub volume: VolumeId,
    /// The revision of which every page was read; `None` when the volume could not be opened.
    pub revision: Option<Revision>,
    /// Pages at that revision.
    pub page_count: PageCount,
    /// Pages of it that were read and are what was written.
    pub pages_read: u64,
    /// Keys of the meta tier that were decoded.
    pub keys_read: u64,
    /// Files of which every section and frame was read (only their tails, when one revision is
    /// verified).
    pub files_read: u64,
    /// Versions of pages found in them.
    pub versions_read: u64,
    /// Bytes read from the blob tier for them.
    pub file_bytes_read: u64,
    /// Objects of the volume that no key names: a compactor removes them; no damage.
    pub unnamed_objects: u64,
    /// What is broken.
    pub findings: Vec<Finding>,
    /// How much more is broken than `findings` has room for.
    pub more_findings: u64,
}

impl Report {
    /// True when nothing is broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A verification under way.
struct Verification<'a> {
    report: Report,
    findings: Findings,
    tell: Tell<'a>,
}

impl Verification<'_> {
    fn tell(&self, phase: Phase, done: u64, total: u64) {
        (self.tell)(Progress { phase, done, total });
    }
}

/// Reads everything of a volume and says what is broken: every key, every staged page, every section
/// and frame of every file, and every page of the newest revision. With a revision given, every page of
/// that one, and of the files only what is needed to find them.
///
/// # Errors
/// `NotFound` for the volume or the revision, `Expired` for a revision that is no longer kept,
/// `Unavailable` when a tier does not answer. Damage is no error but a finding.
pub async fn verify(
    store: &Store,
    name: &str,
    at: Option<Revision>,
    tell: Tell<'_>,
) -> Result<Report> {
    let keys = find(store, name).await?;
    let report = Report {
        volume: keys.id(),
        revision: None,
        page_count: PageCount::default(),
        pages_read: 0,
        keys_read: 0,
        files_read: 0,
        versions_read: 0,
        file_bytes_read: 0,
        unnamed_objects: 0,
        findings: Vec::new(),
        more_findings: 0,
    };
    let mut verification = Verification { report, findings: Findings::default(), tell };
    let openable = verification.check_keys(store.meta().as_ref(), &keys).await?;
    if openable {
        let inspector = store.open_volume(name).await?.inspect();
        // Opened before all else, so that what it shows is held.
        let snapshot = match at {
            Some(revision) => inspector.volume.snapshot_at(revision).await?,
            None => inspector.volume.snapshot().await?,
        };
        verification.report.revision = Some(snapshot.revision());
        verification.report.page_count = snapshot.page_count();
        verification.check_staged(&inspector).await?;
        verification.check_pointers(&inspector).await?;
        let unreadable = verification.check_files(&inspector, at.is_none()).await?;
        verification.check_pages(&snapshot, &unreadable).await?;
    }
    let Verification { mut report, findings, .. } = verification;
    (report.findings, report.more_findings) = findings.into_parts();
    Ok(report)
}

async fn find(store: &Store, name: &str) -> Result<VolumeKeys> {
    let name = VolumeName::new(name).map_err(Error::invalid)?;
    let key = store.keys().name(&name);
    let response = store.meta().range(RangeRequest::new(KeyRange::key(key.clone()))).await?;
    let kv = response
        .kvs
        .first()
        .ok_or_else(|| Error::not_found(format!("no volume of this name: {name}")))?;
    Ok(store.keys().volume(records::VolumeName::decode(&key, &kv.value)?.volume))
}
