//! Every page above the floor has its pointer: without it two writers would not notice each other.

use std::collections::HashSet;

use super::Verification;
use super::findings::{Damage, Finding};
use super::keys::Scan;
use crate::error::Result;
use crate::inspect::Inspector;
use crate::meta::KeyValue;
use crate::meta::records::{Pointer, Record};
use crate::mirror::VolumeState;
use crate::types::PageNo;

impl Verification<'_> {
    pub(super) async fn check_pointers(&mut self, inspector: &Inspector) -> Result<()> {
        let core = &inspector.core;
        let state = core.mirror.fresh().await?;
        let mut seen = HashSet::new();
        let mut scan = Scan::new(core.keys.all_pointers());
        while let Some(chunk) = scan.next(core.meta.as_ref()).await? {
            for kv in &chunk {
                seen.extend(self.check_pointer(inspector, &state, kv));
            }
            self.report.keys_read += chunk.len() as u64;
        }
        let missing: Vec<PageNo> =
            state.staged.keys().filter(|page| !seen.contains(page)).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        // A pointer goes once its page is flushed.
        let state = core.mirror.fresh().await?;
        for page in missing.into_iter().filter(|page| state.staged.contains_key(page)) {
            let key = core.keys.pointer(page);
            let suffix = core.keys.suffix(&key);
            let message = format!(
                "page {page} is staged and has no pointer: volume {}, key {}",
                core.keys.id(),
                suffix.escape_ascii()
            );
            self.findings.push(Finding::new(Damage::Pointer, message).at_key(suffix));
        }
        Ok(())
    }

    fn check_pointer(
        &mut self,
        inspector: &Inspector,
        state: &VolumeState,
        kv: &KeyValue,
    ) -> Option<PageNo> {
        let keys = &inspector.core.keys;
        let suffix = keys.suffix(&kv.key);
        let place = || format!("volume {}, key {}", keys.id(), suffix.escape_ascii());
        let Some(page) = keys.parse_pointer(&kv.key) else {
            let message = format!("not the key of a pointer: {}", place());
            self.findings.push(Finding::new(Damage::Pointer, message).at_key(suffix));
            return None;
        };
        let pointer = match Pointer::of(keys, kv) {
            Ok(pointer) => pointer,
            Err(error) => {
                self.findings.push(Finding::new(Damage::Pointer, error).at_key(suffix));
                return Some(page);
            }
        };
        let staged = state.staged.get(&page).filter(|_| kv.mod_revision <= state.revision);
        if let Some(staged) = staged
            && (staged.revision, staged.hash) != (kv.mod_revision, pointer.hash)
        {
            let message = format!(
                "pointer of page {page} says {} of revision {}, the changelog {} of revision {}: {}",
                pointer.hash,
                kv.mod_revision,
                staged.hash,
                staged.revision,
                place()
            );
            self.findings.push(Finding::new(Damage::Pointer, message).at_key(suffix));
        }
        Some(page)
    }
}
