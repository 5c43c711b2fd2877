//! The methods of an open file, as SQLite calls them: from C to a database or a journal.

use std::ffi::{CStr, c_char, c_int, c_void};

use libsqlite3_sys as ffi;

use crate::failure::{Failure, Outcome};
use crate::group::{self, Handle};
use crate::guard::{attempt, run, run_always, tell};
use crate::journal::Content;
use crate::pragma;
use crate::{api, runtime, vfs};

/// Neighbouring pages are never written along: a commit holds what changed and nothing else.
const SECTOR_SIZE: c_int = 512;
const CHARACTERISTICS: c_int = ffi::SQLITE_IOCAP_SAFE_APPEND
    | ffi::SQLITE_IOCAP_SEQUENTIAL
    | ffi::SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN;

/// A file of ours in the memory that SQLite made for it.
#[repr(C)]
pub(crate) struct File {
    /// What SQLite knows of; must come first.
    base: ffi::sqlite3_file,
    body: *mut Body,
}

/// What a file is.
#[derive(Debug)]
pub(crate) enum Body {
    Database(Handle),
    /// A database that could not be opened: every use of it says why. So the message reaches the user,
    /// which it would not from the opening itself.
    Broken(Failure),
    Journal(Content),
}

impl File {
    /// Makes `file` one of ours.
    ///
    /// # Safety
    /// `file` points to memory of at least the size of a `File` that belongs to the caller.
    pub(crate) unsafe fn install(file: *mut ffi::sqlite3_file, body: Body) {
        let new = File {
            base: ffi::sqlite3_file { pMethods: &raw const METHODS },
            body: Box::into_raw(Box::new(body)),
        };
        // SAFETY: by this function's contract.
        unsafe { file.cast::<File>().write(new) };
    }

    /// What `file` is; `None` for a file of another VFS.
    ///
    /// # Safety
    /// `file` is null or an open file of SQLite's, and stays open while the answer is used.
    pub(crate) unsafe fn body<'a>(file: *mut ffi::sqlite3_file) -> Option<&'a Body> {
        // SAFETY: every open file begins with its methods.
        let methods = unsafe { file.as_ref()? }.pMethods;
        if !std::ptr::eq(methods, &raw const METHODS) {
            return None;
        }
        // SAFETY: with our methods it was made by `install`, whose box lives until it is closed.
        unsafe { (*file.cast::<File>()).body.as_ref() }
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Without shared memory, so without WAL.
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// The file's body, or the error of a file that is none of ours.
///
/// # Safety
/// As [`File::body`].
unsafe fn body<'a>(file: *mut ffi::sqlite3_file) -> Outcome<&'a Body> {
    // SAFETY: by this function's contract.
    unsafe { File::body(file) }
        .ok_or_else(|| Failure::new(ffi::SQLITE_MISUSE, "a file of another VFS"))
}

fn offset_of(offset: ffi::sqlite3_int64) -> Outcome<u64> {
    u64::try_from(offset).map_err(|_| Failure::new(ffi::SQLITE_MISUSE, "a negative offset"))
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    run_always(|| {
        // SAFETY: SQLite closes a file once, and every file with these methods was made by `install`.
        let body = unsafe {
            let file = &mut *file.cast::<File>();
            file.base.pMethods = std::ptr::null();
            Box::from_raw(std::mem::replace(&mut file.body, std::ptr::null_mut()))
        };
        // What ends with a volume or a store is done on their threads.
        let _entered = runtime::handle().ok().map(tokio::runtime::Handle::enter);
        if let Body::Database(handle) = body.as_ref() {
            handle.set_connection(0);
            handle.lock().unlock(ffi::SQLITE_LOCK_NONE);
        }
        drop(body);
    })
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    to: *mut c_void,
    count: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    run(ffi::SQLITE_IOERR_READ, || {
        // SAFETY: SQLite hands over a buffer of `count` bytes; they are set before they are read.
        let to = unsafe {
            let count = usize::try_from(count).unwrap_or(0);
            std::ptr::write_bytes(to.cast::<u8>(), 0, count);
            std::slice::from_raw_parts_mut(to.cast::<u8>(), count)
        };
        let offset = offset_of(offset)?;
        // SAFETY: SQLite calls the methods of open files only.
        let read = match unsafe { body(file) }? {
            Body::Database(handle) => handle.lock().read(offset, to)?,
            Body::Journal(content) => content.read(offset, to)?,
            // The header is read while the file is being opened.
            Body::Broken(_) => 0,
        };
        Ok(if read < to.len() { ffi::SQLITE_IOERR_SHORT_READ } else { ffi::SQLITE_OK })
    })
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    count: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    run(ffi::SQLITE_IOERR_WRITE, || {
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: SQLite hands over `count` bytes.
        let from = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count) };
        let offset = offset_of(offset)?;
        // SAFETY: as in `read`.
        match unsafe { body(file) }? {
            Body::Database(handle) => handle.lock().write(offset, from)?,
            Body::Journal(content) => content.write(offset, from)?,
            Body::Broken(failure) => return Err(failure.clone()),
        }
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    run(ffi::SQLITE_IOERR_TRUNCATE, || {
        let size = offset_of(size)?;
        // SAFETY: as in `read`.
        match unsafe { body(file) }? {
            Body::Database(handle) => handle.lock().truncate(size)?,
            Body::Journal(content) => content.truncate(size)?,
            Body::Broken(failure) => return Err(failure.clone()),
        }
        Ok(ffi::SQLITE_OK)
    })
}

/// Nothing: what is committed is durable, and a journal need not outlive its process.
unsafe extern "C" fn sync(_file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    run(ffi::SQLITE_IOERR_FSYNC, || Ok(ffi::SQLITE_OK))
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    size: *mut ffi::sqlite3_int64,
) -> c_int {
    run(ffi::SQLITE_IOERR_FSTAT, || {
        // SAFETY: as in `read`.
        let bytes = match unsafe { body(file) }? {
            Body::Database(handle) => handle.lock().size()?,
            Body::Journal(content) => content.length(),
            Body::Broken(_) => 0,
        };
        // SAFETY: SQLite hands over where to put the answer.
        unsafe { *size = i64::try_from(bytes).unwrap_or(i64::MAX) };
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    run(ffi::SQLITE_IOERR_LOCK, || {
        // SAFETY: as in `read`.
        match unsafe { body(file) }? {
            Body::Database(handle) => handle.lock().lock(level)?,
            Body::Journal(_) => {}
            Body::Broken(failure) => return Err(failure.clone()),
        }
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    run_always(|| {
        // SAFETY: as in `read`.
        if let Some(Body::Database(handle)) = unsafe { File::body(file) } {
            handle.lock().unlock(level);
        }
    })
}

unsafe extern "C" fn check_reserved_lock(
    file: *mut ffi::sqlite3_file,
    reserved: *mut c_int,
) -> c_int {
    run(ffi::SQLITE_IOERR_CHECKRESERVEDLOCK, || {
        // SAFETY: as in `read`.
        let is_reserved = match unsafe { body(file) }? {
            Body::Database(handle) => handle.lock().is_reserved()?,
            _ => false,
        };
        // SAFETY: SQLite hands over where to put the answer.
        unsafe { *reserved = c_int::from(is_reserved) };
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn file_control(
    file: *mut ffi::sqlite3_file,
    op: c_int,
    arg: *mut c_void,
) -> c_int {
    let done = attempt(ffi::SQLITE_IOERR, || {
        // SAFETY: as in `read`.
        match unsafe { body(file) }? {
            // SAFETY: SQLite hands over what `op` says.
            Body::Database(handle) => unsafe { control_database(handle, op, arg) },
            Body::Broken(failure) if op == ffi::SQLITE_FCNTL_PRAGMA => Err(failure.clone()),
            _ => Ok(ffi::SQLITE_NOTFOUND),
        }
    });
    match done {
        Ok(code) => code,
        Err(failure) => {
            // SAFETY: as in `read`.
            if op == ffi::SQLITE_FCNTL_SYNC
                && let Some(Body::Database(handle)) = unsafe { File::body(file) }
            {
                // However it failed: SQLite rolls back now, and must not commit by that.
                handle.lock().fail();
            }
            if op == ffi::SQLITE_FCNTL_PRAGMA {
                // SAFETY: of this operation the argument is an array of at least three strings.
                unsafe { *arg.cast::<*mut c_char>() = api::sqlite_text(&failure.message) };
            }
            tell(failure)
        }
    }
}

/// # Safety
/// `arg` is what SQLite hands over with `op`.
unsafe fn control_database(handle: &Handle, op: c_int, arg: *mut c_void) -> Outcome<c_int> {
    let answer = |value: c_int| {
        // SAFETY: of the operations that it is used for the argument is an int.
        unsafe { *arg.cast::<c_int>() = value };
        Ok(ffi::SQLITE_OK)
    };
    match op {
        ffi::SQLITE_FCNTL_SYNC => {
            // SAFETY: the argument is null or the name of the super-journal.
            let name = unsafe { text(arg.cast()) };
            group::sync(handle, name.as_deref())?;
            Ok(ffi::SQLITE_OK)
        }
        ffi::SQLITE_FCNTL_COMMIT_PHASETWO => {
            group::phase_two(handle)?;
            Ok(ffi::SQLITE_OK)
        }
        ffi::SQLITE_FCNTL_PDB => {
            // SAFETY: the argument is where the b-tree keeps its connection.
            let connection = unsafe { *arg.cast::<*mut ffi::sqlite3>() };
            group::join(handle, connection as usize);
            Ok(ffi::SQLITE_OK)
        }
        // SAFETY: the argument is an array of three strings, the last of which may be null.
        ffi::SQLITE_FCNTL_PRAGMA => unsafe {
            let cells = arg.cast::<*mut c_char>();
            let name = text(*cells.add(1)).unwrap_or_default();
            let value = text(*cells.add(2));
            match pragma::run(handle, &name, value.as_deref())? {
                pragma::Answer::NotOurs => Ok(ffi::SQLITE_NOTFOUND),
                pragma::Answer::Text(answer) => {
                    *cells = api::sqlite_text(&answer);
                    Ok(ffi::SQLITE_OK)
                }
            }
        },
        // SAFETY: the argument is where the string is to be put.
        ffi::SQLITE_FCNTL_VFSNAME => unsafe {
            *arg.cast::<*mut c_char>() = api::sqlite_text("pagestore");
            Ok(ffi::SQLITE_OK)
        },
        ffi::SQLITE_FCNTL_LOCKSTATE => answer(handle.lock().level),
        ffi::SQLITE_FCNTL_HAS_MOVED | ffi::SQLITE_FCNTL_LAST_ERRNO => answer(0),
        ffi::SQLITE_FCNTL_POWERSAFE_OVERWRITE => {
            let mut database = handle.lock();
            // SAFETY: the argument is an int: negative asks, and anything else tells.
            let told = unsafe { *arg.cast::<c_int>() };
            if told >= 0 {
                database.powersafe_overwrite = told != 0;
            }
            answer(c_int::from(database.powersafe_overwrite))
        }
        // SAFETY: the argument is where the string is to be put.
        ffi::SQLITE_FCNTL_TEMPFILENAME => unsafe { vfs::temporary_name(arg) },
        ffi::SQLITE_FCNTL_CHUNK_SIZE => {
            // SAFETY: the argument is an int.
            let bytes = u64::try_from(unsafe { *arg.cast::<c_int>() }).unwrap_or(0);
            handle.lock().chunk_bytes = Some(bytes).filter(|bytes| *bytes > 0);
            Ok(ffi::SQLITE_OK)
        }
        ffi::SQLITE_FCNTL_SIZE_HINT => Ok(ffi::SQLITE_OK),
        _ => Ok(ffi::SQLITE_NOTFOUND),
    }
}

/// # Safety
/// `text` is null or ends with NUL.
pub(crate) unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: by this function's contract.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    SECTOR_SIZE
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: as in `read`.
    match unsafe { File::body(file) } {
        Some(Body::Database(handle)) if !handle.lock().powersafe_overwrite => CHARACTERISTICS,
        _ => CHARACTERISTICS | ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE,
    }
}
