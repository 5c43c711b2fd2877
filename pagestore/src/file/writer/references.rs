use std::collections::{HashMap, HashSet};

use super::super::entry::{FileRef, MAX_REFS};
use super::super::types::{BodyAt, FrameHandle, Location};
use crate::types::{FileId, Revision};

/// The other files that the index points into.
#[derive(Default)]
pub(super) struct References {
    pub(super) files: Vec<(FileId, Revision)>,
    numbers: HashMap<FileId, u16>,
    frames: HashSet<(u16, FrameHandle)>,
    last: Option<(u16, FrameHandle)>,
    counts: Vec<FileRef>,
}

impl References {
    pub(super) fn can_refer_to(&self, file: FileId) -> bool {
        self.files.len() < MAX_REFS || self.numbers.contains_key(&file)
    }

    pub(super) fn locate(&mut self, at: BodyAt) -> Location {
        assert!(self.can_refer_to(at.file), "BUG: the file points into too many others");
        let number = *self.numbers.entry(at.file).or_insert_with(|| {
            self.files.push((at.file, at.named_at));
            let (id, named_at) = (at.file, at.named_at);
            self.counts.push(FileRef {
                id,
                named_at,
                frame_bytes: 0,
                frame_count: 0,
                page_count: 0,
            });
            u16::try_from(self.files.len()).expect("BUG: MAX_REFS is over 16 bits")
        });
        let counts = usize::from(number).checked_sub(1).and_then(|at| self.counts.get_mut(at));
        let counts = counts.expect("BUG: a numbered file has no counts");
        counts.page_count += 1;
        let frame = (number, at.frame);
        if self.last != Some(frame) && self.frames.insert(frame) {
            counts.frame_count += 1;
            counts.frame_bytes += u64::from(at.frame.bytes.get());
        }
        self.last = Some(frame);
        Location { frame: at.frame, file: number, slot: at.slot }
    }

    pub(super) fn entries(&self) -> Vec<FileRef> {
        self.counts.clone()
    }
}
