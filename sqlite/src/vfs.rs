//! The VFS as SQLite calls it: names, opening, and what is left to the VFS beneath.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libsqlite3_sys as ffi;

use crate::api::{self, Api};
use crate::database::{Database, Mode};
use crate::failure::{Failure, Outcome};
use crate::file::{Body, File, text};
use crate::guard::run;
use crate::journal::Content;
use crate::name::{self, Defaults, MAX_FULL_NAME};
use crate::runtime::wait;
use crate::{group, stores};

/// The VFS's name.
const NAME: &CStr = c"pagestore";

/// The VFS that was the default before ours: temporary files, shared libraries, randomness and time are
/// left to it.
static BENEATH: AtomicPtr<ffi::sqlite3_vfs> = AtomicPtr::new(std::ptr::null_mut());
static OURS: AtomicPtr<ffi::sqlite3_vfs> = AtomicPtr::new(std::ptr::null_mut());
static DEFAULTS: OnceLock<Defaults> = OnceLock::new();

/// Registers the VFS, as SQLite's default one if `as_default`. May be done over and over.
pub(crate) fn register(api: &Api, defaults: Defaults, as_default: bool) -> Result<(), String> {
    let _ = DEFAULTS.set(defaults);
    let mut ours = OURS.load(Ordering::Acquire);
    if ours.is_null() {
        // SAFETY: finds the default VFS; there always is one, or null.
        let beneath = unsafe { (api.vfs_find)(std::ptr::null()) };
        // SAFETY: a registered VFS is never freed while it may be used.
        let Some(below) = (unsafe { beneath.as_ref() }) else {
            return Err("this SQLite has no VFS for temporary files".into());
        };
        BENEATH.store(beneath, Ordering::Release);
        ours = Box::into_raw(Box::new(new_vfs(below)));
        OURS.store(ours, Ordering::Release);
    }
    // SAFETY: the VFS lives for ever.
    match unsafe { (api.vfs_register)(ours, c_int::from(as_default)) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(format!("SQLite did not take the VFS: error {code}")),
    }
}

fn new_vfs(below: &ffi::sqlite3_vfs) -> ffi::sqlite3_vfs {
    let own = c_int::try_from(size_of::<File>()).expect("BUG: a file is small");
    ffi::sqlite3_vfs {
        iVersion: 2,
        // The VFS beneath opens its files in the same memory.
        szOsFile: own.max(below.szOsFile),
        mxPathname: c_int::try_from(MAX_FULL_NAME).expect("BUG: a name is short"),
        pNext: std::ptr::null_mut(),
        zName: NAME.as_ptr(),
        pAppData: std::ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: Some(dl_open),
        xDlError: Some(dl_error),
        xDlSym: Some(dl_sym),
        xDlClose: Some(dl_close),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(get_last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

fn beneath() -> Outcome<&'static ffi::sqlite3_vfs> {
    // SAFETY: it is set before ours is registered, and a registered VFS is never freed.
    unsafe { BENEATH.load(Ordering::Acquire).as_ref() }
        .ok_or_else(|| Failure::new(ffi::SQLITE_INTERNAL, "no VFS beneath"))
}

fn defaults() -> Defaults {
    let mut defaults = DEFAULTS.get().cloned().unwrap_or_default();
    if !defaults.plain_paths {
        // A host may set it after it has loaded the extension. Names that are paths mean one store for
        // as long as the process lives.
        defaults.store = std::env::var("PAGESTORE_STORE").ok().filter(|url| !url.is_empty());
    }
    defaults
}

/// The options of a file name's URI.
///
/// # Safety
/// `name` is a file name as SQLite hands it to a VFS for a main database.
unsafe fn options(name: *const c_char) -> Vec<(String, String)> {
    let Some(api) = api::api() else { return Vec::new() };
    let mut options = Vec::new();
    for index in 0..c_int::MAX {
        // SAFETY: by this function's contract; keys and values are NUL-terminated.
        let (key, value) = unsafe {
            let key = (api.uri_key)(name, index);
            if key.is_null() {
                break;
            }
            (text(key), text((api.uri_parameter)(name, key)))
        };
        options.extend(key.zip(value));
    }
    options
}

fn directory() -> String {
    std::env::current_dir().map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default()
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands over memory for the file. Without methods it need not be closed.
    unsafe { (*file).pMethods = std::ptr::null() };
    run(ffi::SQLITE_CANTOPEN, || {
        let kinds = ffi::SQLITE_OPEN_MAIN_DB
            | ffi::SQLITE_OPEN_MAIN_JOURNAL
            | ffi::SQLITE_OPEN_SUPER_JOURNAL
            | ffi::SQLITE_OPEN_WAL;
        if flags & kinds == 0 || name.is_null() {
            let below = beneath()?;
            let open = below.xOpen.ok_or_else(|| Failure::new(ffi::SQLITE_CANTOPEN, "no xOpen"))?;
            let below = BENEATH.load(Ordering::Acquire);
            // SAFETY: the arguments are SQLite's; the memory is large enough for this VFS too.
            return Ok(unsafe { open(below, name, file, flags, out_flags) });
        }
        // SAFETY: the name is a string.
        let full = unsafe { text(name) }.unwrap_or_default();
        let mut shown = flags;
        let body = if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
            // SAFETY: the name is of a main database.
            let options = unsafe { options(name) };
            let body = open_database(&full, &options, flags)?;
            if let Body::Database(handle) = &body
                && handle.lock().is_read_only()
            {
                shown = (shown & !ffi::SQLITE_OPEN_READWRITE) | ffi::SQLITE_OPEN_READONLY;
            }
            body
        } else {
            open_journal(&full, flags)?
        };
        // SAFETY: `szOsFile` is at least the size of a `File`.
        unsafe { File::install(file, body) };
        if !out_flags.is_null() {
            // SAFETY: SQLite hands over where to put the answer, or null.
            unsafe { *out_flags = shown };
        }
        Ok(ffi::SQLITE_OK)
    })
}

/// Asks the VFS beneath, where temporary files are, for the name of one: `SQLITE_FCNTL_TEMPFILENAME`.
///
/// # Safety
/// `to` is where a string of SQLite's is to be put.
pub(crate) unsafe fn temporary_name(to: *mut c_void) -> Outcome<c_int> {
    let below = beneath()?;
    let open = below.xOpen.ok_or_else(|| Failure::new(ffi::SQLITE_CANTOPEN, "no xOpen"))?;
    let words = usize::try_from(below.szOsFile).unwrap_or(0).div_ceil(size_of::<u64>());
    let mut memory = vec![0_u64; words];
    let file: *mut ffi::sqlite3_file = memory.as_mut_ptr().cast();
    let flags = ffi::SQLITE_OPEN_TEMP_DB
        | ffi::SQLITE_OPEN_READWRITE
        | ffi::SQLITE_OPEN_CREATE
        | ffi::SQLITE_OPEN_EXCLUSIVE
        | ffi::SQLITE_OPEN_DELETEONCLOSE;
    // SAFETY: the memory is as large as that VFS wants it, and outlives the file. A file has methods
    // exactly if it is open, and is closed once.
    unsafe {
        let none = std::ptr::null_mut();
        let mut code = open(std::ptr::from_ref(below).cast_mut(), none, file, flags, none.cast());
        if let Some(methods) = (*file).pMethods.as_ref() {
            if let (ffi::SQLITE_OK, Some(control)) = (code, methods.xFileControl) {
                code = control(file, ffi::SQLITE_FCNTL_TEMPFILENAME, to);
            }
            if let Some(close) = methods.xClose {
                close(file);
            }
        }
        Ok(code)
    }
}

/// A database, or the reason why there is none.
fn open_database(full: &str, options: &[(String, String)], flags: c_int) -> Outcome<Body> {
    let mode = Mode {
        read_only: flags & ffi::SQLITE_OPEN_READONLY != 0,
        may_create: flags & ffi::SQLITE_OPEN_CREATE != 0,
    };
    let target = name::parse_target(full, options, &defaults())
        .map_err(|message| Failure::new(ffi::SQLITE_CANTOPEN, message));
    match target.and_then(|target| Database::open(target, mode)) {
        Ok(Some(database)) => Ok(Body::Database(group::register(database))),
        Ok(None) => {
            Err(Failure::new(ffi::SQLITE_CANTOPEN, format!("no volume of this name: {full}")))
        }
        Err(failure) => {
            api::log(failure.code, &failure.message);
            Ok(Body::Broken(failure))
        }
    }
}

fn open_journal(full: &str, flags: c_int) -> Outcome<Body> {
    if flags & ffi::SQLITE_OPEN_WAL != 0 {
        return Err(Failure::new(ffi::SQLITE_CANTOPEN, "pagestore has no WAL"));
    }
    if flags & ffi::SQLITE_OPEN_SUPER_JOURNAL != 0 {
        let create = flags & ffi::SQLITE_OPEN_CREATE != 0;
        // One that is gone names no journals any more.
        return Ok(Body::Journal(group::super_journal(full, create).unwrap_or_default()));
    }
    Ok(Body::Journal(Content::default()))
}

/// The volume that a full name means, where names are paths.
fn plain_volume(full: &str) -> Option<(String, String)> {
    let defaults = defaults();
    let is_super =
        |(_, end): (&str, &str)| end.len() == 9 && end.chars().all(|c| c.is_ascii_hexdigit());
    let is_journal = full.ends_with("-journal")
        || full.ends_with("-wal")
        || full.rsplit_once("-mj").is_some_and(is_super);
    if !defaults.plain_paths || is_journal {
        return None;
    }
    let volume = name::volume_of(&name::absolute(full, &directory())).ok()?;
    Some((defaults.store?, volume))
}

unsafe extern "C" fn delete(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_dir: c_int,
) -> c_int {
    run(ffi::SQLITE_IOERR_DELETE, || {
        // SAFETY: the name is a string.
        let full = unsafe { text(name) }.unwrap_or_default();
        if let Some(committed) = group::delete_super(&full, sync_dir != 0) {
            return committed.map(|()| ffi::SQLITE_OK);
        }
        let Some((url, volume)) = plain_volume(&full) else { return Ok(ffi::SQLITE_OK) };
        let failed = Failure::io(ffi::SQLITE_IOERR_DELETE);
        let open = stores::open(&url, false).map_err(&failed)?;
        match wait(open.store.delete_volume(&volume)) {
            Err(error) if error.kind() == pagestore::ErrorKind::NotFound => {
                Ok(ffi::SQLITE_IOERR_DELETE_NOENT)
            }
            deleted => deleted.map(|()| ffi::SQLITE_OK).map_err(failed),
        }
    })
}

unsafe extern "C" fn access(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    found: *mut c_int,
) -> c_int {
    run(ffi::SQLITE_IOERR_ACCESS, || {
        if flags == ffi::SQLITE_ACCESS_READWRITE {
            // SQLite asks for a directory for temporary files, which are not ours.
            let vfs = beneath()?;
            let access = vfs.xAccess.expect("BUG: a VFS without xAccess");
            // SAFETY: the arguments are SQLite's.
            return Ok(unsafe { access(std::ptr::from_ref(vfs).cast_mut(), name, flags, found) });
        }
        // SAFETY: the name is a string.
        let full = unsafe { text(name) }.unwrap_or_default();
        let is_there = group::has_super(&full)
            || match plain_volume(&full) {
                Some((url, volume)) => {
                    let failed = Failure::io(ffi::SQLITE_IOERR_ACCESS);
                    let open = stores::open(&url, false).map_err(&failed)?;
                    match wait(open.store.open_volume(&volume)) {
                        Ok(_) => true,
                        Err(error) if error.kind() == pagestore::ErrorKind::NotFound => false,
                        Err(error) => return Err(failed(error)),
                    }
                }
                // Journals are nobody's but their handle's.
                None => false,
            };
        // SAFETY: SQLite hands over where to put the answer.
        unsafe { *found = c_int::from(is_there) };
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    to: *mut c_char,
) -> c_int {
    run(ffi::SQLITE_CANTOPEN, || {
        // SAFETY: SQLite asks for the full names of main databases, as it got them.
        let (short, options) = unsafe { (text(name).unwrap_or_default(), options(name)) };
        let full = name::full_name(&short, &options, &defaults(), &directory());
        if full.len() >= usize::try_from(room).unwrap_or(0) {
            return Err(Failure::new(
                ffi::SQLITE_CANTOPEN,
                format!("the name is too long: {full}"),
            ));
        }
        // SAFETY: there is room for the name and a NUL.
        unsafe {
            std::ptr::copy_nonoverlapping(full.as_ptr(), to.cast::<u8>(), full.len());
            *to.add(full.len()) = 0;
        }
        Ok(ffi::SQLITE_OK)
    })
}

/// Calls a method of the VFS beneath; `$missing` where it has none.
macro_rules! below {
    ($method:ident, $missing:expr $(, $argument:expr)*) => {
        match beneath().ok().and_then(|below| below.$method) {
            // SAFETY: the arguments are SQLite's, with the VFS that they are for.
            Some(method) => unsafe { method(BENEATH.load(Ordering::Acquire) $(, $argument)*) },
            None => $missing,
        }
    };
}

unsafe extern "C" fn dl_open(_vfs: *mut ffi::sqlite3_vfs, name: *const c_char) -> *mut c_void {
    below!(xDlOpen, std::ptr::null_mut(), name)
}

unsafe extern "C" fn dl_error(_vfs: *mut ffi::sqlite3_vfs, room: c_int, message: *mut c_char) {
    below!(xDlError, (), room, message);
}

/// A function of a shared library.
type Symbol = unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *mut c_void, *const c_char);

unsafe extern "C" fn dl_sym(
    _vfs: *mut ffi::sqlite3_vfs,
    library: *mut c_void,
    name: *const c_char,
) -> Option<Symbol> {
    below!(xDlSym, None, library, name)
}

unsafe extern "C" fn dl_close(_vfs: *mut ffi::sqlite3_vfs, library: *mut c_void) {
    below!(xDlClose, (), library);
}

unsafe extern "C" fn randomness(
    _vfs: *mut ffi::sqlite3_vfs,
    count: c_int,
    to: *mut c_char,
) -> c_int {
    below!(xRandomness, 0, count, to)
}

unsafe extern "C" fn sleep(_vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    below!(xSleep, 0, microseconds)
}

unsafe extern "C" fn current_time(_vfs: *mut ffi::sqlite3_vfs, to: *mut f64) -> c_int {
    below!(xCurrentTime, ffi::SQLITE_ERROR, to)
}

unsafe extern "C" fn current_time_int64(
    _vfs: *mut ffi::sqlite3_vfs,
    to: *mut ffi::sqlite3_int64,
) -> c_int {
    below!(xCurrentTimeInt64, ffi::SQLITE_ERROR, to)
}

unsafe extern "C" fn get_last_error(
    _vfs: *mut ffi::sqlite3_vfs,
    _room: c_int,
    _message: *mut c_char,
) -> c_int {
    0
}
