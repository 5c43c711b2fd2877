//! The operating system's randomness, replaced: what std, tokio and others draw for their hash tables and
//! queues depends on the seed of the thread's run.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Calls by threads of no run.
static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From here on randomness on this thread depends on `seed`.
pub fn set(seed: u64) {
    STATE.set(Some(seed));
}

/// Takes the place of libc's function of this name in every program that links this crate.
///
/// # Safety
/// `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    let seeded = STATE.get();
    let mut state = seeded.unwrap_or_else(|| {
        // A thread of no run, such as a test program's: differs from call to call.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let call = CALLS.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        since.as_nanos() as u64 ^ call ^ u64::from(std::process::id()) << 32
    });
    for at in 0..length {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        // SAFETY: the caller vouches for `length` bytes.
        unsafe { buffer.add(at).write((state >> 56) as u8) };
    }
    if seeded.is_some() {
        STATE.set(Some(state));
    }
    length.cast_signed()
}
