use std::num::NonZeroU32;

use super::super::frame::FrameBuilder;
use super::super::section::Packer;
use super::super::types::{FrameHandle, Location};
use crate::types::PageNo;

/// A frame, by its number in its area, and a place in it.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    frame: usize,
    slot: u16,
}

/// Frames that lie one after the other.
#[derive(Default)]
pub(super) struct Area {
    open: FrameBuilder,
    frames: Vec<Vec<u8>>,
    /// Where each frame begins and how long it is, from the area's start.
    handles: Vec<FrameHandle>,
    pub(super) raw_bytes: u64,
}

impl Area {
    pub(super) fn push(&mut self, page: PageNo, content: &[u8], packer: &mut Packer) -> Slot {
        let slot = Slot { frame: self.frames.len(), slot: self.open.push(page, content) };
        self.raw_bytes += content.len() as u64;
        if self.open.is_full() {
            self.close(packer);
        }
        slot
    }

    pub(super) fn close(&mut self, packer: &mut Packer) {
        if self.open.is_empty() {
            return;
        }
        let frame = self.open.close(packer);
        let bytes = u32::try_from(frame.len()).ok().and_then(NonZeroU32::new);
        self.handles.push(FrameHandle {
            offset: self.closed_bytes(),
            bytes: bytes.expect("BUG: a frame is longer than its pages allow"),
        });
        self.frames.push(frame);
    }

    fn closed_bytes(&self) -> u64 {
        self.handles.last().map_or(0, |last| last.range().end)
    }

    /// What it takes, about: the open frame counts as if it would halve.
    pub(super) fn bytes(&self) -> u64 {
        self.closed_bytes() + self.open.raw_bytes() as u64 / 2
    }

    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.frames)
    }

    pub(super) fn locate(&self, slot: Slot, start: u64) -> Location {
        let frame = self.handles.get(slot.frame).expect("BUG: a slot's frame was never closed");
        let frame = FrameHandle { offset: start + frame.offset, bytes: frame.bytes };
        Location { frame, file: 0, slot: slot.slot }
    }
}
