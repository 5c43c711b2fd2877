//! The functions of SQLite that this crate calls.
//!
//! They come from the symbols of a SQLite that is linked in, or, in a loadable extension, from the table
//! that the host hands over: then the process may hold a second SQLite, and only the table's is right.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use libsqlite3_sys as ffi;

/// The table; every function is present.
#[derive(Clone, Copy)]
pub struct Api {
    pub(crate) auto_extension: unsafe extern "C" fn(Option<unsafe extern "C" fn()>) -> c_int,
    pub(crate) create_module: unsafe extern "C" fn(
        *mut ffi::sqlite3,
        *const c_char,
        *const ffi::sqlite3_module,
        *mut c_void,
        Option<unsafe extern "C" fn(*mut c_void)>,
    ) -> c_int,
    pub(crate) declare_vtab: unsafe extern "C" fn(*mut ffi::sqlite3, *const c_char) -> c_int,
    pub(crate) file_control:
        unsafe extern "C" fn(*mut ffi::sqlite3, *const c_char, c_int, *mut c_void) -> c_int,
    pub(crate) log: unsafe extern "C" fn(c_int, *const c_char, ...),
    pub(crate) malloc64: unsafe extern "C" fn(u64) -> *mut c_void,
    pub(crate) result_double: unsafe extern "C" fn(*mut ffi::sqlite3_context, f64),
    pub(crate) result_int64: unsafe extern "C" fn(*mut ffi::sqlite3_context, i64),
    pub(crate) result_null: unsafe extern "C" fn(*mut ffi::sqlite3_context),
    pub(crate) result_text: unsafe extern "C" fn(
        *mut ffi::sqlite3_context,
        *const c_char,
        c_int,
        Option<unsafe extern "C" fn(*mut c_void)>,
    ),
    pub(crate) uri_key: unsafe extern "C" fn(*const c_char, c_int) -> *const c_char,
    pub(crate) uri_parameter: unsafe extern "C" fn(*const c_char, *const c_char) -> *const c_char,
    pub(crate) value_text: unsafe extern "C" fn(*mut ffi::sqlite3_value) -> *const u8,
    pub(crate) vfs_find: unsafe extern "C" fn(*const c_char) -> *mut ffi::sqlite3_vfs,
    pub(crate) vfs_register: unsafe extern "C" fn(*mut ffi::sqlite3_vfs, c_int) -> c_int,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api(..)")
    }
}

/// The oldest SQLite that has everything in the table.
pub(crate) const MIN_VERSION: c_int = 3_031_000;

static API: AtomicPtr<Api> = AtomicPtr::new(std::ptr::null_mut());

/// The functions; `None` before [`install`].
pub(crate) fn api() -> Option<&'static Api> {
    // SAFETY: the pointer is null or was leaked by `install`, and is never freed.
    unsafe { API.load(Ordering::Acquire).as_ref() }
}

/// Makes `api` the functions that everything calls. The first one stays: a process in which two
/// SQLites load the extension is served through the first, so the second is refused.
pub(crate) fn install(api: Api) -> Result<(), &'static str> {
    let new = Box::into_raw(Box::new(api));
    match API.compare_exchange(std::ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(()),
        Err(before) => {
            // SAFETY: `new` was made above and nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
            // SAFETY: what was installed is never freed.
            let before = unsafe { &*before };
            if before.vfs_register as usize == api.vfs_register as usize {
                Ok(())
            } else {
                Err("pagestore is loaded into another SQLite of this process already")
            }
        }
    }
}

impl Api {
    /// The SQLite that is linked into this program.
    #[must_use]
    pub fn linked() -> Api {
        Api {
            auto_extension: linked_auto_extension,
            create_module: ffi::sqlite3_create_module_v2,
            declare_vtab: ffi::sqlite3_declare_vtab,
            file_control: ffi::sqlite3_file_control,
            log: ffi::sqlite3_log,
            malloc64: ffi::sqlite3_malloc64,
            result_double: ffi::sqlite3_result_double,
            result_int64: ffi::sqlite3_result_int64,
            result_null: ffi::sqlite3_result_null,
            result_text: ffi::sqlite3_result_text,
            uri_key: ffi::sqlite3_uri_key,
            uri_parameter: ffi::sqlite3_uri_parameter,
            value_text: ffi::sqlite3_value_text,
            vfs_find: ffi::sqlite3_vfs_find,
            vfs_register: ffi::sqlite3_vfs_register,
        }
    }

    /// The host's table of functions, as an extension's entry gets it.
    ///
    /// # Errors
    /// What to tell the user when the host's SQLite is too old or leaves functions out.
    ///
    /// # Safety
    /// `routines` is null or points to SQLite's `sqlite3_api_routines`.
    #[expect(
        clippy::missing_transmute_annotations,
        reason = "the fields of the table say the types"
    )]
    pub unsafe fn from_routines(routines: *const c_void) -> Result<Api, String> {
        let table = routines.cast::<Option<unsafe extern "C" fn()>>();
        if table.is_null() {
            return Err("SQLite handed over no functions".into());
        }
        let get = |index: usize| {
            // SAFETY: the table is SQLite's, to which entries are only ever appended; the indexes
            // below are of entries that the version checked first has.
            unsafe { *table.add(index) }.ok_or_else(|| {
                format!(
                    "this SQLite was built without a function that pagestore needs (entry {index})"
                )
            })
        };
        // SAFETY: entry 67 has this type in every version of SQLite 3.
        let libversion_number: unsafe extern "C" fn() -> c_int =
            unsafe { std::mem::transmute(get(67)?) };
        // SAFETY: takes nothing, changes nothing.
        let version = unsafe { libversion_number() };
        if version < MIN_VERSION {
            return Err(format!(
                "pagestore needs SQLite 3.31 or later, this is 3.{}",
                version / 1000 % 1000
            ));
        }
        macro_rules! entry {
            ($index:literal) => {
                // SAFETY: the entry has the type of the field it is put into, by sqlite3ext.h, in
                // every version from MIN_VERSION on.
                unsafe { std::mem::transmute::<unsafe extern "C" fn(), _>(get($index)?) }
            };
        }
        Ok(Api {
            auto_extension: entry!(192),
            create_module: entry!(119),
            declare_vtab: entry!(50),
            file_control: entry!(127),
            log: entry!(167),
            malloc64: entry!(197),
            result_double: entry!(79),
            result_int64: entry!(83),
            result_null: entry!(84),
            result_text: entry!(85),
            uri_key: entry!(245),
            uri_parameter: entry!(189),
            value_text: entry!(109),
            vfs_find: entry!(141),
            vfs_register: entry!(142),
        })
    }
}

/// The bindings type the entry point in full; the table of functions has it bare.
unsafe extern "C" fn linked_auto_extension(entry: Option<unsafe extern "C" fn()>) -> c_int {
    // SAFETY: the caller's entry is an extension's entry point, whatever its written type.
    unsafe {
        ffi::sqlite3_auto_extension(std::mem::transmute::<
            Option<unsafe extern "C" fn()>,
            Option<
                unsafe extern "C" fn(
                    *mut ffi::sqlite3,
                    *mut *mut c_char,
                    *const ffi::sqlite3_api_routines,
                ) -> c_int,
            >,
        >(entry))
    }
}

/// Copies `text` into memory of SQLite's, for a cell that SQLite frees. Null when there is no memory.
pub(crate) fn sqlite_text(text: &str) -> *mut c_char {
    let Some(api) = api() else { return std::ptr::null_mut() };
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    // SAFETY: any size may be asked for.
    let copy = unsafe { (api.malloc64)(bytes.len() as u64 + 1) }.cast::<u8>();
    if !copy.is_null() {
        // SAFETY: the memory is one byte longer than `bytes` and belongs to nobody else yet.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
            *copy.add(bytes.len()) = 0;
        }
    }
    copy.cast()
}

/// Says something in SQLite's log.
pub(crate) fn log(code: c_int, message: &str) {
    let Some(api) = api() else { return };
    let text: Vec<u8> = message.bytes().filter(|byte| *byte != 0).chain([0]).collect();
    // SAFETY: the format takes one string, and both end with NUL.
    unsafe { (api.log)(code, c"pagestore: %s".as_ptr(), text.as_ptr()) };
}
