//! Every commit above the floor has its pages staged, and they decode.

use std::collections::HashMap;

use bytes::Bytes;

use super::findings::{Damage, Finding};
use super::keys::Scan;
use super::{Phase, Verification};
use crate::codec::{Expected, PageCodec, StagedValue};
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::Inspector;
use crate::meta::{KeyRange, KeyValue, RangeRequest};
use crate::mirror::VolumeState;
use crate::types::{ContentHash, PageNo, Revision};

/// Staged pages read by one request: at most 64 KiB each.
const CHUNK_KEYS: usize = 64;

/// A staged value, as its key names it.
type StagedKey = (ContentHash, Option<ContentHash>);

/// Staged values that commits above the floor need: for which page, and since when.
type Needed = HashMap<StagedKey, (PageNo, Revision)>;

impl Verification<'_> {
    pub(super) async fn check_staged(&mut self, inspector: &Inspector) -> Result<()> {
        let core = &inspector.core;
        let state = core.mirror.fresh().await?;
        let mut needed = needed(&state);
        let mut scan = Scan::new(core.keys.all_staged()).in_chunks_of(CHUNK_KEYS);
        let mut done = 0;
        while let Some(chunk) = scan.next(core.meta.as_ref()).await? {
            for kv in &chunk {
                let key = core.keys.parse_staged(&kv.key);
                let need = key.and_then(|key| needed.remove(&key));
                self.check_value(inspector, kv, need).await?;
            }
            done += chunk.len() as u64;
            self.report.keys_read += chunk.len() as u64;
            self.tell(Phase::Staged, done, scan.total.max(done));
        }
        for (key, (page, revision)) in needed {
            self.check_missing(inspector, key, page, revision).await?;
        }
        Ok(())
    }

    /// One staged value. What no commit needs any more is checked as far as it can be.
    async fn check_value(
        &mut self,
        inspector: &Inspector,
        kv: &KeyValue,
        need: Option<(PageNo, Revision)>,
    ) -> Result<()> {
        let core = &inspector.core;
        let suffix = core.keys.suffix(&kv.key);
        let finding = |error: Error| Finding::new(Damage::Staged, error).at_key(suffix);
        let place = || format!("volume {}, key {}", core.keys.id(), suffix.escape_ascii());
        let Some((hash, base)) = core.keys.parse_staged(&kv.key) else {
            self.findings.push(finding(Error::corrupt(place(), "not the key of a staged page")));
            return Ok(());
        };
        let page = match StagedValue::decode(&kv.value) {
            Ok(value) => value.page,
            Err(error) => {
                self.findings.push(finding(error.at(place())));
                return Ok(());
            }
        };
        let base = match base {
            None => None,
            Some(base) => match self.base(inspector, page, base).await? {
                Ok(content) => Some(content),
                // Of a value that was flushed and is about to be removed the base may be gone already.
                Err(_) if need.is_none() => return Ok(()),
                Err(error) => {
                    self.findings.push(finding(
                        error.context(format!("the base of a staged page: {}", place())),
                    ));
                    return Ok(());
                }
            },
        };
        let expected_page = need.map_or(page, |(page, _)| page);
        let record = &core.record;
        let expected = Expected {
            page: expected_page,
            hash,
            secret: &record.secret,
            page_size: record.page_size,
        };
        let decoded = PageCodec::with(|codec| codec.decode(&kv.value, &expected, base.as_deref()));
        if let Err(error) = decoded {
            self.findings.push(finding(error.at(place())).of_pages(expected_page, expected_page));
        }
        Ok(())
    }

    /// The content of a base; what is wrong with it, in the inner result.
    async fn base(
        &self,
        inspector: &Inspector,
        page: PageNo,
        base: ContentHash,
    ) -> Result<Result<Bytes>> {
        match inspector.core.reader.base(page, base).await {
            Ok(Some(content)) => Ok(Ok(content)),
            Ok(None) => {
                Ok(Err(Error::corrupt(base, "content is neither staged nor in a listed file")))
            }
            Err(error) if is_damage(&error) => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    /// A staged value that was not there: damage, unless it was flushed meanwhile.
    async fn check_missing(
        &mut self,
        inspector: &Inspector,
        key: StagedKey,
        page: PageNo,
        revision: Revision,
    ) -> Result<()> {
        let core = &inspector.core;
        let name = core.keys.staged(key.0, key.1);
        let found = core.meta.range(RangeRequest::new(KeyRange::key(name.clone()))).await?;
        let state = core.mirror.fresh().await?;
        if found.kvs.is_empty() && revision > state.floor.up_to {
            let suffix = core.keys.suffix(&name);
            let message = format!(
                "page {page} of revision {revision} is not staged: volume {}, key {}",
                core.keys.id(),
                suffix.escape_ascii()
            );
            self.findings
                .push(Finding::new(Damage::Staged, message).at_key(suffix).of_pages(page, page));
        }
        Ok(())
    }
}

fn needed(state: &VolumeState) -> Needed {
    let mut needed = Needed::new();
    for ((revision, _), commit) in state.unflushed() {
        for change in &commit.pages {
            if let Some(staged) = change.staged {
                needed.insert((change.hash, staged.base), (change.page, *revision));
            }
        }
    }
    needed
}

/// True for what verification reports; false for what keeps it from looking.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::NotFound)
}
