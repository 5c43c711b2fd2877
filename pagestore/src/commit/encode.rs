use bytes::Bytes;

use super::core::Core;
use super::sets::SizeUse;
use super::write_set::WriteSet;
use crate::codec::{Base, PageCodec};
use crate::error::Result;
use crate::meta::txn::{StagedBody, StagedPut};
use crate::mirror::View;
use crate::snapshot::{Place, Version};
use crate::types::{ContentHash, PageNo};

/// Encodes what a transaction wrote, each page in its smallest form. A page that is as it was at the
/// base is left out: it stays in the footprint, so that its being unchanged is still compared.
pub(super) async fn encode(
    core: &Core,
    view: &View,
    writes: &WriteSet,
    size: &SizeUse,
) -> Result<Vec<StagedPut>> {
    let mut puts = Vec::with_capacity(writes.len());
    for page in writes.pages() {
        let content = writes.get(page)?.expect("BUG: the page is among those written");
        let hash = core.record.secret.hash(page, &content);
        // What the transaction itself truncated away, or added, was zeros before.
        let before = if size.lowest.contains(page) {
            core.reader.find(view, page).await?
        } else {
            Version::ZEROS
        };
        if before.hash == hash {
            continue;
        }
        puts.push(put(core, page, hash, &content, &before));
        core.reader.remember(hash, content);
    }
    Ok(puts)
}

fn put(
    core: &Core,
    page: PageNo,
    hash: ContentHash,
    content: &Bytes,
    before: &Version,
) -> StagedPut {
    if hash.is_zero_page() {
        return StagedPut { page, hash, body: None };
    }
    // A base that would have to be fetched first costs more than it saves.
    let mut base = base_of(before);
    if planted!(BaseOfFlushedVersion)
        && let Ok(state) = core.mirror.state()
    {
        let changes = state.changelog.values().rev().flat_map(|commit| &commit.pages);
        let last = changes.filter(|change| change.page == page).find_map(|change| change.staged);
        base = last.and_then(|staged| staged.base).or(base);
    }
    let base = base.and_then(|base| Some((base, core.reader.recall(base)?)));
    let base = base.as_ref().map(|(hash, content)| Base { hash: *hash, content });
    let staged = PageCodec::with(|codec| codec.encode(content, hash, base));
    let body = StagedBody { base: staged.base, value: staged.value(page) };
    StagedPut { page, hash, body: Some(body) }
}

/// The content that a delta over `before` may be taken against: of an unflushed version itself when
/// it is whole, else its base, so that no delta is ever over a delta; of a flushed one itself.
fn base_of(before: &Version) -> Option<ContentHash> {
    match &before.place {
        Place::Zeros => None,
        Place::Staged(_) if planted!(DeltaOverDelta) => Some(before.hash),
        Place::Staged(staged) => Some(staged.base.unwrap_or(before.hash)),
        Place::InFile(..) => Some(before.hash),
    }
}
