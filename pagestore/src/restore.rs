//! An etcd that was restored from a backup: what is lost with what it forgot, and how to go on with it.
//!
//! Owns the change of the store's record that accepts another etcd. Changes nothing else: it deletes no
//! file, and no commit that the backup has is touched. Whatever was committed after the backup is gone
//! already; files of it that the restored etcd knows nothing of are found here, and deleted later by the
//! compactor as what nobody names.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;

use crate::blob::BlobStore;
use crate::connect::{self, Tiers};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::meta::keys::{StoreKeys, WatchedKey};
use crate::meta::records::{self, Record, StoreRecord};
use crate::meta::{Compare, KeyRange, MetaStore, Op, RangeRequest, Txn};
use crate::mirror::scan;
use crate::types::{FileId, Revision, VolumeId, VolumeName};

/// A store whose etcd is not the one that it was made on.
#[derive(Debug)]
pub struct Restored {
    meta: Arc<dyn MetaStore>,
    blobs: BlobStore,
    keys: StoreKeys,
    record: StoreRecord,
    /// When the store's record was last put.
    modified: Revision,
    /// The cluster id of the etcd there is now.
    pub cluster_id: u64,
    /// The cluster id of the etcd that the store was made on, or that was accepted last.
    pub made_on: u64,
}

/// Files of one volume that the restored etcd knows nothing of: of commits, flushes and merges after the
/// backup, or never published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostFiles {
    /// The volume.
    pub volume: VolumeId,
    /// What it is called; `None` when the backup has no such volume.
    pub name: Option<VolumeName>,
    /// How many files.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The newest revision that one of their writers had seen.
    pub newest: Revision,
}

/// What a restored etcd does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The restored etcd's revision.
    pub revision: Revision,
    /// Files, by volume; none of a volume that lost none.
    pub files: Vec<LostFiles>,
}

impl Lost {
    /// True when the restored etcd's revisions went back: it will give revisions that were given before.
    #[must_use]
    pub fn went_back(&self) -> bool {
        self.files.iter().any(|files| files.newest > self.revision)
    }
}

impl Restored {
    /// Looks at the store at `url`; `None` when its etcd is the one it was made on.
    ///
    /// # Errors
    /// `NotFound` when there is no store, `Invalid` for a URL that makes no sense or other blobs than the
    /// store's, `Unavailable`.
    pub async fn find(url: &str) -> Result<Option<Restored>> {
        connect::check_directory(url)?;
        Restored::over(connect::connect(url, &Env::system()).await?).await
    }

    /// As [`Restored::find`], over tiers of one's own.
    #[doc(hidden)]
    pub async fn over(tiers: Tiers) -> Result<Option<Restored>> {
        let Tiers { meta, blobs, root, local } = tiers;
        let keys = StoreKeys::new(root);
        let key = keys.store();
        let found = meta.range(RangeRequest::new(KeyRange::key(key.clone()))).await?;
        let kv = found.kvs.first();
        let kv = kv.ok_or_else(|| Error::not_found("there is no store in this place"))?;
        let (record, modified) = (StoreRecord::decode(&key, &kv.value)?, kv.mod_revision);
        if !local && record.blobs != blobs.place() {
            return Err(Error::invalid(format!(
                "the store keeps its blobs elsewhere: {}, not {}",
                record.blobs,
                blobs.place()
            )));
        }
        let (cluster_id, made_on) = (meta.status().await?.cluster_id, record.cluster_id);
        let restored = Restored { meta, blobs, keys, record, modified, cluster_id, made_on };
        Ok((cluster_id != made_on).then_some(restored))
    }

    /// What the restored etcd does not know. Commits that were in etcd only, and no file, leave no trace.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn lost(&self) -> Result<Lost> {
        let names = scan(self.meta.as_ref(), &self.keys.names(), None).await?;
        let mut called = BTreeMap::new();
        for kv in &names.kvs {
            let volume = records::VolumeName::decode(&kv.key, &kv.value)?.volume;
            called.insert(volume, self.keys.parse_name(&kv.key));
        }
        let mut lost = Lost { revision: names.revision, files: Vec::new() };
        for volume in self.blobs.list_volumes().await? {
            let name = called.get(&volume).cloned().flatten();
            let files = self.lost_of(volume, name).await?;
            lost.files.extend(Some(files).filter(|files| files.count > 0));
        }
        Ok(lost)
    }

    async fn lost_of(&self, volume: VolumeId, name: Option<VolumeName>) -> Result<LostFiles> {
        let mut files = LostFiles { volume, name, count: 0, bytes: 0, newest: Revision::ZERO };
        let known = self.known(volume).await?;
        let mut listed = self.blobs.list(volume);
        while let Some(object) = listed.try_next().await? {
            if !known.contains(&object.name.file) {
                files.count += 1;
                files.bytes += object.bytes;
                files.newest = files.newest.max(object.name.named_at);
            }
        }
        Ok(files)
    }

    /// The files of a volume that the restored etcd knows.
    async fn known(&self, volume: VolumeId) -> Result<HashSet<FileId>> {
        let keys = self.keys.volume(volume);
        let watched = scan(self.meta.as_ref(), &keys.watched(), None).await?;
        let files = watched.kvs.iter().filter_map(|kv| match keys.parse_watched(&kv.key) {
            Some(WatchedKey::File(place)) => Some(place.file),
            Some(WatchedKey::Dropped(file)) => Some(file),
            _ => None,
        });
        Ok(files.collect())
    }

    /// Accepts the restored etcd: from here on the store opens on it.
    ///
    /// # Errors
    /// `Conflict` when somebody else changed the store's record meanwhile, `Unavailable`.
    pub async fn accept(self) -> Result<()> {
        let key = self.keys.store();
        let record = StoreRecord { cluster_id: self.cluster_id, ..self.record };
        let txn = Txn {
            compares: vec![Compare::modified(key.clone(), self.modified)],
            then: vec![Op::put(key.clone(), record.encode(&key))],
            or_else: vec![],
        };
        if self.meta.txn(txn).await?.succeeded {
            return Ok(());
        }
        Err(Error::new(
            crate::error::ErrorKind::Conflict,
            "the store's record was changed meanwhile; look again",
        ))
    }
}
