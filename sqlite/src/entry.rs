//! How the VFS gets into a SQLite: as an extension that it loads, or registered by a program that has
//! SQLite linked in.

use std::ffi::{c_char, c_int, c_void};

use libsqlite3_sys as ffi;

use crate::api::{self, Api};
use crate::file::Body;
use crate::name::{Defaults, Writers};
use crate::{vfs, vtab};

/// Makes the VFS `pagestore` known to the SQLite that is linked into this program (`rusqlite`'s, say).
/// Databases are opened by `file:NAME?vfs=pagestore&store=URL` from here on.
///
/// # Errors
/// What to tell the user.
pub fn register() -> Result<(), String> {
    install(Api::linked())
}

/// True when `sql` ends with a complete statement, as the linked SQLite sees it.
#[must_use]
pub fn is_complete(sql: &str) -> bool {
    let Ok(sql) = std::ffi::CString::new(sql) else { return true };
    // SAFETY: the text ends with NUL.
    unsafe { ffi::sqlite3_complete(sql.as_ptr()) != 0 }
}

/// What a loadable extension's entry point does.
///
/// # Safety
/// The arguments are those of SQLite's call of the entry point.
#[must_use]
pub unsafe fn load(db: *mut c_void, message: *mut *mut c_char, routines: *const c_void) -> c_int {
    let loaded: std::thread::Result<Result<(), String>> = std::panic::catch_unwind(|| {
        // SAFETY: by this function's contract.
        unsafe { Api::from_routines(routines) }.and_then(install)?;
        if let Some(api) = api::api().filter(|_| !db.is_null()) {
            // SAFETY: the connection that loads an extension is open.
            unsafe { vtab::register(api, db.cast()) };
        }
        Ok(())
    });
    match loaded.unwrap_or_else(|_| Err("panicked while it was loaded".into())) {
        Ok(()) => ffi::SQLITE_OK_LOAD_PERMANENTLY,
        Err(text) => {
            if !message.is_null() {
                // SAFETY: SQLite hands over where to put the message, or null.
                unsafe { *message = api::sqlite_text(&text) };
            }
            ffi::SQLITE_ERROR
        }
    }
}

fn install(api: Api) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let as_default = match variable("PAGESTORE_SQLITE_DEFAULT").as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(other) => return Err(format!("PAGESTORE_SQLITE_DEFAULT is 0 or 1, not {other}")),
    };
    let writers = variable("PAGESTORE_SQLITE_WRITERS");
    let defaults = Defaults {
        store: variable("PAGESTORE_STORE"),
        writers: writers.as_deref().map_or(Ok(Writers::default()), Writers::parse)?,
        plain_paths: as_default,
    };
    if as_default && defaults.store.is_none() {
        return Err("PAGESTORE_SQLITE_DEFAULT=1 needs PAGESTORE_STORE".into());
    }
    api::install(api)?;
    let api = api::api().ok_or("nothing was installed")?;
    // First, because it may fail, and SQLite unloads an extension that does: then no VFS of it may be left.
    // SAFETY: the entry point has the signature that SQLite calls it with.
    let code = unsafe {
        let entry: unsafe extern "C" fn(
            *mut ffi::sqlite3,
            *mut *mut c_char,
            *const c_void,
        ) -> c_int = opened;
        (api.auto_extension)(Some(std::mem::transmute::<
            unsafe extern "C" fn(*mut ffi::sqlite3, *mut *mut c_char, *const c_void) -> c_int,
            unsafe extern "C" fn(),
        >(entry)))
    };
    match code {
        ffi::SQLITE_OK => vfs::register(api, defaults, as_default),
        ffi::SQLITE_NOMEM => Err("out of memory".into()),
        code => Err(format!("SQLite refused: error {code}")),
    }
}

/// SQLite calls this for every connection that is opened: a database that could not be opened says why.
unsafe extern "C" fn opened(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    _routines: *const c_void,
) -> c_int {
    crate::guard::run(ffi::SQLITE_ERROR, || {
        let Some(api) = api::api() else { return Ok(ffi::SQLITE_OK) };
        // SAFETY: the connection is open.
        let body = unsafe {
            vtab::register(api, db);
            vtab::body_of(db, "main")
        };
        let Some(Body::Broken(failure)) = body else { return Ok(ffi::SQLITE_OK) };
        if !message.is_null() {
            // SAFETY: SQLite hands over where to put the message, or null.
            unsafe { *message = api::sqlite_text(&format!("pagestore: {}", failure.message)) };
        }
        Ok(failure.code)
    })
}
