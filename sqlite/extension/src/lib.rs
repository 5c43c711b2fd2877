//! `libpagestore_sqlite.so`: the VFS as an extension that any SQLite loads.
//!
//! Nothing but the entry points: `sqlite3_extension_init`, and the name that SQLite derives from the
//! file's when it does not find that one. Calls SQLite through the functions that it hands over, never
//! by symbols.

use std::ffi::{c_char, c_int, c_void};

/// The entry point of a loadable extension.
///
/// # Safety
/// To be called by SQLite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_extension_init(
    db: *mut c_void,
    message: *mut *mut c_char,
    routines: *const c_void,
) -> c_int {
    // SAFETY: the arguments are SQLite's.
    unsafe { vfs::load(db, message, routines) }
}

/// The same, by the name that SQLite derives from the file's.
///
/// # Safety
/// As [`sqlite3_extension_init`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_pagestoresqlite_init(
    db: *mut c_void,
    message: *mut *mut c_char,
    routines: *const c_void,
) -> c_int {
    // SAFETY: as above.
    unsafe { sqlite3_extension_init(db, message, routines) }
}
