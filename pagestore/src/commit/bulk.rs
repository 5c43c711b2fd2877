use std::collections::HashSet;
use std::sync::Arc;

use super::core::Core;
use super::sets::SizeUse;
use super::write_set::WriteSet;
use crate::blob::ObjectName;
use crate::error::{Error, Result};
use crate::file::{
    BuiltFile, CommitKind, CommitRecord, FileEntry, FileIdentity, FileParams, FileWriter, Origin,
    SizeChange,
};
use crate::meta::MetaError;
use crate::meta::keys::VolumeKeys;
use crate::meta::records::Intent;
use crate::meta::txn::{self, FilePut};
use crate::mirror::scan;
use crate::types::{CommitId, FileId, Revision};

/// A file is closed once it is about this long: small enough to be held in memory and to be put in
/// one piece, long enough that a scan reads few.
const FILE_BYTES: u64 = 64 << 20;
/// After so many files they become twice as long, so that a very large commit makes few enough.
const FILES_PER_DOUBLING: usize = 16;
/// How often they do: a quarter of a GiB is held in memory by whoever writes that much.
const MAX_DOUBLINGS: usize = 2;

/// The files of a bulk commit: uploaded, under intents, and not published yet.
///
/// However the commit ends, also when its caller stops waiting or an upload fails: the files that it
/// did not publish are given up.
#[derive(Debug)]
pub(super) struct BulkFiles {
    core: Arc<Core>,
    /// Files that there are intents of, or may be.
    entries: Vec<FileEntry>,
}

impl BulkFiles {
    /// What publishes them.
    pub(super) fn puts(&self, keys: &VolumeKeys) -> Vec<FilePut> {
        self.entries
            .iter()
            .map(|entry| {
                let place = entry.place();
                let key = keys.file(place);
                FilePut { place, value: entry.encode(keys.suffix(&key)) }
            })
            .collect()
    }

    /// Pages in them.
    pub(super) fn page_count(&self) -> u64 {
        self.entries.iter().map(|entry| entry.page_count).sum()
    }

    /// True when every file has its intent still. One that has lost it, with the session's lease, can
    /// never be published.
    pub(super) async fn are_intended(&self) -> Result<bool> {
        let intents = scan(self.core.meta.as_ref(), &self.core.keys.intents(), None).await?;
        let there = intents.kvs.iter().filter_map(|kv| self.core.keys.parse_intent(&kv.key));
        let there: HashSet<FileId> = there.collect();
        Ok(self.entries.iter().all(|entry| there.contains(&entry.id)))
    }

    /// To be called once the files are published: there is nothing to give up any more.
    pub(super) fn set_published(&mut self) {
        self.entries.clear();
    }

    /// Takes the intents back, and the objects, of what was not and never will be published. What
    /// cannot be taken back now goes with the session's lease, and then the compactor finds it.
    pub(super) async fn give_up(&mut self) {
        while let Some(entry) = self.entries.last() {
            give_up(&self.core, entry).await;
            self.entries.pop();
        }
    }
}

impl Drop for BulkFiles {
    fn drop(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let (core, entries) = (self.core.clone(), std::mem::take(&mut self.entries));
        self.core.env.spawn_if_running(async move {
            for entry in &entries {
                give_up(&core, entry).await;
            }
        });
    }
}

pub(super) async fn give_up(core: &Core, entry: &FileEntry) {
    let Ok(response) = core.meta.txn(txn::give_up(&core.keys, entry.id)).await else { return };
    // Without its intent it was published, or it is for the compactor to find: unless the upload outlived
    // the volume. Then nobody may be looking for it any more.
    if !response.succeeded && !outlived_volume(core, entry).await {
        return;
    }
    let name = ObjectName { volume: core.keys.id(), named_at: entry.named_at, file: entry.id };
    if let Err(error) = core.blobs.delete(&name).await {
        tracing::debug!(%error, "an unpublished file was left to the compactor");
    }
}

/// True when the volume was deleted, and the file was not published before: then it never will be. One that
/// was published is for the eraser, because a snapshot of the deleted volume may read it.
async fn outlived_volume(core: &Core, entry: &FileEntry) -> bool {
    let Ok(watched) = scan(core.meta.as_ref(), &core.keys.watched(), None).await else {
        return false;
    };
    let metadata = core.keys.metadata();
    watched.kvs.iter().all(|kv| kv.key != metadata)
        && !watched.published_files(&core.keys).contains(&entry.id)
}

/// Writes all pages of a transaction into files, and uploads these: data before metadata.
pub(super) async fn upload(
    core: &Arc<Core>,
    writes: &WriteSet,
    size: &SizeUse,
    commit: CommitId,
    base: Revision,
) -> Result<BulkFiles> {
    let mut files = BulkFiles { core: core.clone(), entries: Vec::new() };
    let uploaded = upload_all(&mut files, writes, size, commit, base).await;
    if uploaded.is_err() {
        files.give_up().await;
    }
    uploaded.map(|()| files)
}

async fn upload_all(
    files: &mut BulkFiles,
    writes: &WriteSet,
    size: &SizeUse,
    commit: CommitId,
    base: Revision,
) -> Result<()> {
    let core = &files.core.clone();
    let mut writer = None;
    for page in writes.pages() {
        let writer_now = writer.get_or_insert_with(|| new_writer(core, base));
        if files.entries.is_empty() && writer_now.is_empty() {
            // The first file speaks for the commit.
            let written_count = writes.len() as u64;
            let record = CommitRecord {
                revision: Revision::ZERO,
                commit,
                base,
                written_count,
                kind: CommitKind::Bulk,
            };
            writer_now.push_commit(record);
            if size.changed {
                let lowest = size.truncates().then_some(size.lowest);
                writer_now.push_size_change(SizeChange {
                    revision: Revision::ZERO,
                    lowest,
                    last: size.last,
                });
            }
        }
        let content = writes.get(page)?.expect("BUG: the page is among those written");
        let hash = core.record.secret.hash(page, &content);
        writer_now.push_body(page, Revision::ZERO, hash, &content);
        if writer_now.written_bytes() >= file_bytes(files.entries.len()) {
            put(core, files, writer.take(), base).await?;
        }
        // Encoding a large file takes a while: let others have the thread in between.
        tokio::task::consume_budget().await;
    }
    put(core, files, writer, base).await
}

/// How long the file after so many others becomes.
fn file_bytes(files: usize) -> u64 {
    FILE_BYTES << (files / FILES_PER_DOUBLING).min(MAX_DOUBLINGS)
}

fn new_writer(core: &Core, base: Revision) -> FileWriter {
    FileWriter::new(FileParams {
        identity: FileIdentity {
            volume: core.keys.id(),
            id: core.env.file_id(),
            named_at: base,
            page_size: core.record.page_size,
        },
        level: 0,
        origin: Origin::Bulk,
    })
}

/// Puts an intent, then the object.
async fn put(
    core: &Core,
    files: &mut BulkFiles,
    writer: Option<FileWriter>,
    base: Revision,
) -> Result<()> {
    let Some(writer) = writer else { return Ok(()) };
    if files.entries.len() == txn::MAX_FILES {
        return Err(Error::invalid("the transaction is too large for one commit; split it"));
    }
    let BuiltFile { chunks, entry } = writer.finish();
    let (file, intent) = (entry.id, Intent { named_at: base });
    files.entries.push(entry);
    let intend = |lease| core.meta.txn(txn::intend(&core.keys, core.created, file, &intent, lease));
    let lease = core.session.lease().await;
    let response = match intend(lease).await {
        Err(MetaError::LeaseNotFound) => intend(core.session.replace_lease(lease).await?).await?,
        response => response?,
    };
    if !response.succeeded {
        return Err(Error::not_found(format!("volume was deleted: {}", core.keys.id())));
    }
    let name = ObjectName { volume: core.keys.id(), named_at: base, file };
    core.blobs.put_create(&name, chunks).await?;
    Ok(())
}
