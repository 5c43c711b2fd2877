//! Every value decodes.

use std::sync::Arc;

use super::findings::{Damage, Finding};
use super::{Phase, Verification};
use crate::error::Result;
use crate::file::FileEntry;
use crate::levels::{Edit, Levels};
use crate::meta::keys::{VolumeKeys, WatchedKey};
use crate::meta::records::{
    ChangelogEntry, Claim, Dropped, Floor, Intent, Job, Oldest, PageCountRecord, Point, Record,
    VolumeRecord, decode_pin,
};
use crate::meta::{KeyRange, KeyValue, MetaStore, RangeRequest};

/// Keys read by one request.
const CHUNK_KEYS: usize = 1000;

impl Verification<'_> {
    /// Decodes every key but staged pages and pointers; false when the volume cannot be opened.
    pub(super) async fn check_keys(
        &mut self,
        meta: &dyn MetaStore,
        keys: &VolumeKeys,
    ) -> Result<bool> {
        let damaged_before = self.findings.count();
        let (mut files, mut has_metadata) = (Vec::new(), false);
        let mut scan = Scan::new(keys.watched());
        while let Some(chunk) = scan.next(meta).await? {
            for kv in &chunk {
                self.check_watched(keys, kv, &mut files);
                has_metadata |= keys.parse_watched(&kv.key) == Some(WatchedKey::Metadata);
            }
            self.keys_read(chunk.len(), scan.total);
        }
        if !has_metadata {
            self.findings.push(
                Finding::new(Damage::Key, "volume has no metadata")
                    .at_key(keys.suffix(&keys.metadata())),
            );
        }
        self.check_levels(&files);
        let openable = self.findings.count() == damaged_before;

        for range in [
            keys.pins(),
            keys.level_lists(),
            keys.holds(),
            keys.intents(),
            KeyRange::key(keys.claim()),
            KeyRange::key(keys.job()),
        ] {
            let mut scan = Scan::new(range);
            while let Some(chunk) = scan.next(meta).await? {
                for kv in &chunk {
                    self.check_unwatched(keys, kv);
                }
                self.keys_read(chunk.len(), scan.total);
            }
        }
        Ok(openable)
    }

    fn keys_read(&mut self, count: usize, total: u64) {
        self.report.keys_read += count as u64;
        self.tell(Phase::Keys, self.report.keys_read, total.max(self.report.keys_read));
    }

    fn check_watched(&mut self, keys: &VolumeKeys, kv: &KeyValue, files: &mut Vec<Arc<FileEntry>>) {
        let Some(key) = keys.parse_watched(&kv.key) else {
            let suffix = keys.suffix(&kv.key);
            let message = format!("unknown key among a volume's: {}", suffix.escape_ascii());
            self.findings.push(Finding::new(Damage::Key, message).at_key(suffix));
            return;
        };
        let decoded = match key {
            WatchedKey::Dropped(_) => Dropped::of(keys, kv).map(drop),
            WatchedKey::Floor => Floor::of(keys, kv).map(drop),
            WatchedKey::File(place) => {
                FileEntry::decode(place, keys.suffix(&kv.key), &kv.value, kv.mod_revision)
                    .map(|entry| files.push(Arc::new(entry)))
            }
            WatchedKey::Metadata => VolumeRecord::of(keys, kv).map(drop),
            WatchedKey::Oldest => Oldest::of(keys, kv).map(drop),
            WatchedKey::Point(_) => Point::of(keys, kv).map(drop),
            // Only its revision counts.
            WatchedKey::Head => Ok(()),
            WatchedKey::Commit(_) => ChangelogEntry::of(keys, kv).map(drop),
            WatchedKey::PageCount => PageCountRecord::of(keys, kv).map(drop),
        };
        self.expect_decoded(keys, kv, decoded);
    }

    fn check_unwatched(&mut self, keys: &VolumeKeys, kv: &KeyValue) {
        let decoded = match keys.suffix(&kv.key).get(..2) {
            Some(b"ah" | b"ar" | b"av") => decode_pin(keys, kv).map(drop),
            Some(b"au") => Intent::of(keys, kv).map(drop),
            Some(b"ag") => Claim::of(keys, kv).map(drop),
            _ => Job::of(keys, kv).map(drop),
        };
        self.expect_decoded(keys, kv, decoded);
    }

    fn expect_decoded(&mut self, keys: &VolumeKeys, kv: &KeyValue, decoded: Result<()>) {
        if let Err(error) = decoded {
            self.findings.push(Finding::new(Damage::Key, error).at_key(keys.suffix(&kv.key)));
        }
    }

    /// The files of every level from 1 on are one sorted run, and none is listed twice.
    fn check_levels(&mut self, files: &[Arc<FileEntry>]) {
        // One after the other, so that one contradiction does not hide the next.
        let mut levels = Levels::default();
        for entry in files {
            match levels.apply(&[Edit::Put(entry.clone())]) {
                Ok(next) => levels = next,
                Err(error) => {
                    self.findings.push(Finding::new(Damage::Levels, error).in_file(entry.id, None))
                }
            }
        }
    }
}

/// Reads a range of keys in chunks, each as it is now.
pub(super) struct Scan {
    rest: Option<KeyRange>,
    chunk: usize,
    /// Keys in the range, as of the first chunk.
    pub(super) total: u64,
}

impl Scan {
    pub(super) fn new(keys: KeyRange) -> Scan {
        Scan { rest: Some(keys), chunk: CHUNK_KEYS, total: 0 }
    }

    pub(super) fn in_chunks_of(self, chunk: usize) -> Scan {
        Scan { chunk, ..self }
    }

    pub(super) async fn next(&mut self, meta: &dyn MetaStore) -> Result<Option<Vec<KeyValue>>> {
        let Some(keys) = self.rest.take() else { return Ok(None) };
        let response = meta.range(RangeRequest::new(keys.clone()).limit(self.chunk)).await?;
        self.total = self.total.max(response.count);
        if let Some(last) = response.kvs.last().filter(|_| response.more) {
            let start = [&last.key, &[0][..]].concat();
            self.rest = Some(KeyRange { start: start.into(), end: keys.end });
        }
        Ok(Some(response.kvs).filter(|kvs| !kvs.is_empty()))
    }
}
