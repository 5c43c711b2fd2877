//! Virtual tables: what a volume says of itself, as rows that can be queried and joined.
//!
//! `pagestore_log` and `pagestore_status` are there on every connection; an argument names the attached
//! database (`select * from pagestore_log('two')`), `main` without one. Rows are fetched when a scan
//! begins.

use std::ffi::{CStr, c_char, c_int, c_void};

use libsqlite3_sys as ffi;

use crate::api::{self, Api, sqlite_text};
use crate::failure::{Failure, Outcome};
use crate::file::{Body, File, text};
use crate::guard::{attempt, tell};
use crate::report::{self, Cell};

/// A table, by its name and columns; the last column is the hidden one that names the database.
#[derive(Debug)]
struct Kind {
    name: &'static CStr,
    declaration: &'static CStr,
    columns: usize,
    rows: fn(&crate::group::Handle) -> Outcome<Vec<Vec<Cell>>>,
}

static KINDS: [Kind; 2] = [
    Kind {
        name: c"pagestore_log",
        declaration: report::LOG,
        columns: report::LOG_COLUMNS,
        rows: report::log,
    },
    Kind {
        name: c"pagestore_status",
        declaration: report::STATUS,
        columns: report::STATUS_COLUMNS,
        rows: report::status,
    },
];

#[repr(C)]
struct Table {
    base: ffi::sqlite3_vtab,
    db: *mut ffi::sqlite3,
    kind: &'static Kind,
}

#[repr(C)]
struct Cursor {
    base: ffi::sqlite3_vtab_cursor,
    rows: Vec<Vec<Cell>>,
    at: usize,
}

/// Makes the tables known to a connection.
///
/// # Safety
/// `db` is an open connection.
pub(crate) unsafe fn register(api: &Api, db: *mut ffi::sqlite3) {
    for kind in &KINDS {
        let aux = std::ptr::from_ref(kind).cast_mut().cast::<c_void>();
        // SAFETY: by this function's contract; module and kind live for ever.
        let code =
            unsafe { (api.create_module)(db, kind.name.as_ptr(), &raw const MODULE, aux, None) };
        if code != ffi::SQLITE_OK {
            api::log(code, "a connection got no virtual tables");
        }
    }
}

static MODULE: ffi::sqlite3_module = ffi::sqlite3_module {
    iVersion: 1,
    // Without it the table exists under its module's name, and nowhere else.
    xCreate: None,
    xConnect: Some(connect),
    xBestIndex: Some(best_index),
    xDisconnect: Some(disconnect),
    xDestroy: None,
    xOpen: Some(open),
    xClose: Some(close),
    xFilter: Some(filter),
    xNext: Some(next),
    xEof: Some(eof),
    xColumn: Some(column),
    xRowid: Some(rowid),
    xUpdate: None,
    xBegin: None,
    xSync: None,
    xCommit: None,
    xRollback: None,
    xFindFunction: None,
    xRename: None,
    xSavepoint: None,
    xRelease: None,
    xRollbackTo: None,
    xShadowName: None,
    xIntegrity: None,
};

unsafe extern "C" fn connect(
    db: *mut ffi::sqlite3,
    aux: *mut c_void,
    _argc: c_int,
    _argv: *const *const c_char,
    table: *mut *mut ffi::sqlite3_vtab,
    _message: *mut *mut c_char,
) -> c_int {
    let Some(api) = api::api() else { return ffi::SQLITE_ERROR };
    // SAFETY: the module was registered with one of KINDS.
    let Some(kind) = (unsafe { aux.cast::<Kind>().as_ref::<'static>() }) else {
        return ffi::SQLITE_ERROR;
    };
    // SAFETY: SQLite is connecting a table of this connection.
    let code = unsafe { (api.declare_vtab)(db, kind.declaration.as_ptr()) };
    if code == ffi::SQLITE_OK {
        let base = ffi::sqlite3_vtab::default();
        // SAFETY: SQLite hands over where to put the table.
        unsafe { *table = Box::into_raw(Box::new(Table { base, db, kind })).cast() };
    }
    code
}

unsafe extern "C" fn disconnect(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: `connect` made it, and SQLite gives it back once.
    drop(unsafe { Box::from_raw(table.cast::<Table>()) });
    ffi::SQLITE_OK
}

/// The database's name is the only thing that is looked for by us.
unsafe extern "C" fn best_index(
    table: *mut ffi::sqlite3_vtab,
    info: *mut ffi::sqlite3_index_info,
) -> c_int {
    // SAFETY: both are SQLite's, with as many constraints as it says.
    let (table, info, constraints, usage) = unsafe {
        let info = &mut *info;
        let count = usize::try_from(info.nConstraint).unwrap_or(0);
        if count == 0 {
            info.estimatedCost = 1000.0;
            return ffi::SQLITE_OK;
        }
        let constraints = std::slice::from_raw_parts(info.aConstraint, count);
        let usage = std::slice::from_raw_parts_mut(info.aConstraintUsage, count);
        (&*table.cast::<Table>(), info, constraints, usage)
    };
    info.estimatedCost = 1000.0;
    for (constraint, usage) in constraints.iter().zip(usage) {
        let is_schema = usize::try_from(constraint.iColumn) == Ok(table.kind.columns);
        let is_equal = c_int::from(constraint.op) == ffi::SQLITE_INDEX_CONSTRAINT_EQ;
        if is_schema && is_equal {
            if constraint.usable == 0 {
                return ffi::SQLITE_CONSTRAINT;
            }
            (usage.argvIndex, usage.omit) = (1, 1);
            info.idxNum = 1;
            break;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn open(
    _table: *mut ffi::sqlite3_vtab,
    cursor: *mut *mut ffi::sqlite3_vtab_cursor,
) -> c_int {
    let new = Cursor { base: ffi::sqlite3_vtab_cursor::default(), rows: Vec::new(), at: 0 };
    // SAFETY: SQLite hands over where to put the cursor.
    unsafe { *cursor = Box::into_raw(Box::new(new)).cast() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: `open` made it, and SQLite gives it back once.
    drop(unsafe { Box::from_raw(cursor.cast::<Cursor>()) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn filter(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    index: c_int,
    _text: *const c_char,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) -> c_int {
    // SAFETY: the cursor is of `open`, its table of `connect`; SQLite has set the pointer in between.
    let (cursor, table) = unsafe {
        let cursor = &mut *cursor.cast::<Cursor>();
        let table = &mut *cursor.base.pVtab.cast::<Table>();
        (cursor, table)
    };
    let rows = attempt(ffi::SQLITE_ERROR, || {
        let schema = match (index, argc, api::api()) {
            // SAFETY: with index 1 there is one argument.
            (1, 1.., Some(api)) => unsafe { text((api.value_text)(*argv).cast()) },
            _ => Some("main".to_owned()),
        };
        let schema = schema.unwrap_or_else(|| "main".to_owned());
        // SAFETY: the connection is open while a statement of it runs.
        let body = unsafe { body_of(table.db, &schema) };
        match body {
            Some(Body::Database(handle)) => (table.kind.rows)(handle),
            Some(Body::Broken(failure)) => Err(failure.clone()),
            _ => Err(Failure::new(
                ffi::SQLITE_ERROR,
                format!("not a database on pagestore: {schema}"),
            )),
        }
    });
    match rows {
        Ok(rows) => {
            (cursor.rows, cursor.at) = (rows, 0);
            ffi::SQLITE_OK
        }
        Err(failure) => {
            // SQLite frees what was there before it looks again.
            table.base.zErrMsg = sqlite_text(&failure.message);
            tell(failure)
        }
    }
}

/// The main file of an attached database.
///
/// # Safety
/// `db` is an open connection, and the database stays attached while the answer is used.
pub(crate) unsafe fn body_of<'a>(db: *mut ffi::sqlite3, schema: &str) -> Option<&'a Body> {
    let api = api::api()?;
    let schema = std::ffi::CString::new(schema).ok()?;
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: by this function's contract; the operation puts a pointer to the file.
    unsafe {
        let to = (&raw mut file).cast();
        (api.file_control)(db, schema.as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, to);
        File::body(file)
    }
}

unsafe extern "C" fn next(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: the cursor is of `open`.
    unsafe { (*cursor.cast::<Cursor>()).at += 1 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn eof(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: the cursor is of `open`.
    let cursor = unsafe { &*cursor.cast::<Cursor>() };
    c_int::from(cursor.at >= cursor.rows.len())
}

unsafe extern "C" fn column(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    column: c_int,
) -> c_int {
    // SAFETY: the cursor is of `open`.
    let cursor = unsafe { &*cursor.cast::<Cursor>() };
    let cell = usize::try_from(column).ok().and_then(|at| cursor.rows.get(cursor.at)?.get(at));
    let Some(api) = api::api() else { return ffi::SQLITE_ERROR };
    // SAFETY: the context is SQLite's; texts are copied before the call returns.
    unsafe {
        match cell {
            Some(Cell::Integer(value)) => (api.result_int64)(context, *value),
            Some(Cell::Real(value)) => (api.result_double)(context, *value),
            Some(Cell::Text(value)) => {
                let length = c_int::try_from(value.len()).unwrap_or(0);
                let copied = ffi::SQLITE_TRANSIENT();
                (api.result_text)(context, value.as_ptr().cast(), length, copied);
            }
            Some(Cell::Null) | None => (api.result_null)(context),
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn rowid(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    rowid: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the cursor is of `open`; SQLite hands over where to put the answer.
    unsafe {
        *rowid = i64::try_from((*cursor.cast::<Cursor>()).at).unwrap_or(i64::MAX);
    }
    ffi::SQLITE_OK
}
