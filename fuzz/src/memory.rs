//! An allocator that counts what the calling thread has at once.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting. Whoever runs targets installs it.
#[derive(Debug)]
pub struct Counting;

fn count(bytes: isize) {
    // A thread that ends has nothing left to count with.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: by this function's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: by this function's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        // SAFETY: by this function's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Begins to count on this thread.
pub fn begin() {
    NOW.set(0);
    MOST.set(0);
}

/// The most bytes that this thread had at once since it began to count.
#[must_use]
pub fn end() -> usize {
    usize::try_from(MOST.get()).unwrap_or(0)
}
