//! What SQLite asks a file beside its bytes, and what a header may say.

use std::ffi::{CStr, c_char, c_int, c_void};

use rusqlite::{Connection, ErrorCode, ffi};

use crate::place::{Place, number, text};

fn control<T>(db: &Connection, op: c_int, arg: &mut T) -> c_int {
    let arg: *mut c_void = std::ptr::from_mut(arg).cast();
    // SAFETY: the connection is open, and `arg` is what the operation takes.
    unsafe { ffi::sqlite3_file_control(db.handle(), c"main".as_ptr(), op, arg) }
}

#[test]
fn what_is_told_of_overwrites_is_remembered() {
    let place = Place::new();
    let ask = |db: &Connection, mut value: c_int| {
        let code = control(db, ffi::SQLITE_FCNTL_POWERSAFE_OVERWRITE, &mut value);
        assert_eq!(code, ffi::SQLITE_OK);
        value
    };
    for (option, first) in [("", 1), ("&psow=TRUE", 1), ("&psow=0", 0)] {
        let db = place.open("app", option);
        assert_eq!(ask(&db, -1), first, "{option}");
        assert_eq!(ask(&db, 1 - first), 1 - first);
        assert_eq!(ask(&db, -1), 1 - first);
        db.execute_batch("create table if not exists t(a); insert into t values(1)").unwrap();
    }
    assert_eq!(number(&place.open("app", ""), "select count(*) from t"), 3);
}

#[test]
fn the_name_of_a_temporary_file_is_that_of_the_vfs_beneath() {
    let db = Place::new().open("app", "");
    let mut name: *mut c_char = std::ptr::null_mut();
    assert_eq!(control(&db, ffi::SQLITE_FCNTL_TEMPFILENAME, &mut name), ffi::SQLITE_OK);
    assert!(!name.is_null());
    // SAFETY: SQLite gave a string of its own, to be freed.
    let text = unsafe {
        let text = CStr::from_ptr(name).to_str().unwrap().to_owned();
        ffi::sqlite3_free(name.cast());
        text
    };
    assert!(text.starts_with('/') && !std::path::Path::new(&text).exists(), "{text}");
}

#[test]
fn a_database_grows_and_shrinks_in_chunks_if_asked_to() {
    let place = Place::new();
    let db = place.open("app", "");
    let mut chunk: c_int = 64 * 4096;
    assert_eq!(control(&db, ffi::SQLITE_FCNTL_CHUNK_SIZE, &mut chunk), ffi::SQLITE_OK);
    let pages = || {
        number(
            &place.open("app", ""),
            "select value from pagestore_status where name = 'page_count'",
        )
    };
    db.execute_batch("pragma auto_vacuum=full; create table t(a)").unwrap();
    assert_eq!(pages(), 64);
    db.execute_batch("insert into t values(zeroblob(300000))").unwrap();
    assert_eq!(pages(), 128);
    assert!((70..90).contains(&number(&db, "pragma page_count")));
    db.execute_batch("delete from t").unwrap();
    assert_eq!(pages(), 64);
    assert_eq!(text(&place.open("app", ""), "pragma integrity_check"), "ok");
    // Without, the next commit makes it as long as it has to be.
    chunk = 0;
    assert_eq!(control(&db, ffi::SQLITE_FCNTL_CHUNK_SIZE, &mut chunk), ffi::SQLITE_OK);
    db.execute_batch("insert into t values(zeroblob(20000))").unwrap();
    assert_eq!(pages(), number(&db, "pragma page_count"));
}

#[test]
fn a_header_of_a_future_sqlite_is_for_sqlite_to_judge() {
    // Bytes 18 and 19: what one must understand to write it, and to read it.
    for (versions, reads, writes) in
        [([1, 1], true, true), ([2, 2], true, true), ([3, 1], true, false), ([1, 3], false, false)]
    {
        let place = Place::new();
        let file = place.0.path().join("file.db");
        Connection::open(&file)
            .unwrap()
            .execute_batch("create table t(a); insert into t values(1)")
            .unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[18..20].copy_from_slice(&versions);
        place.import("app", &bytes);
        let db = place.open("app", "");
        let read = db.query_row("select a from t", [], |row| row.get::<_, i64>(0));
        assert_eq!(read.is_ok(), reads, "{versions:?} {read:?}");
        let written = db.execute_batch("insert into t values(2)");
        assert_eq!(written.is_ok(), writes, "{versions:?} {written:?}");
        if !reads {
            assert_eq!(read.unwrap_err().sqlite_error_code(), Some(ErrorCode::NotADatabase));
        } else if !writes {
            assert_eq!(written.unwrap_err().sqlite_error_code(), Some(ErrorCode::ReadOnly));
        }
    }
}

/// As SQLite before 3.7 leaves it, which does not write the count of pages.
#[test]
fn a_count_of_pages_that_does_not_hold_is_not_believed() {
    let place = Place::new();
    let file = place.0.path().join("file.db");
    let plain = Connection::open(&file).unwrap();
    plain.execute_batch("create table t(a); insert into t values(zeroblob(50000))").unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let pages = i64::try_from(bytes.len() / 4096).unwrap();
    bytes[28..32].copy_from_slice(&2_u32.to_be_bytes());
    bytes[24..28].copy_from_slice(&77_u32.to_be_bytes());
    place.import("app", &bytes);
    let db = place.open("app", "");
    assert_eq!(number(&db, "pragma page_count"), pages);
    assert_eq!(text(&db, "pragma integrity_check"), "ok");
    db.execute_batch("insert into t values(1)").unwrap();
    assert_eq!(text(&place.open("app", ""), "pragma integrity_check"), "ok");
    assert_eq!(number(&db, "select count(*) from t"), 2);
}
