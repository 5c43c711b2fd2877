//! Every call of the VFS fails, one after the other, once and for ever: no crash, and the database is
//! whole afterwards, with all of a transaction or nothing of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use pagestore_sqlite::fail_call;
use rusqlite::{Connection, OpenFlags};

/// Each is run on a database with 20 rows in `t`, and adds some to both tables in every transaction.
const SCRIPTS: [&str; 5] = [
    "delete from t where rowid > 20; insert into t select a, b from t limit 3; insert into u values(1)",
    "begin; delete from t where rowid > 20; insert into t select a + 100, hex(randomblob(200)) from t; commit",
    "pragma cache_size = 2; begin; delete from t where rowid > 20; \
     insert into t select 5, hex(randomblob(500)) from t limit 8; savepoint s; \
     delete from t; rollback to s; insert into u select a from t limit 1; commit",
    "begin; update t set b = hex(randomblob(200)); rollback; delete from t where a = 3; vacuum",
    "attach '$two' as two; begin; insert into two.w values(1); insert into t values(1, 'x'); commit; detach two",
];

fn open(store: &str, name: &str, more: &str) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri(store, name, more), flags)
}

fn uri(store: &str, name: &str, more: &str) -> String {
    format!("file:{name}?vfs=pagestore&store={store}{more}")
}

fn text(db: &Connection, sql: &str) -> String {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn prepare(store: &str, name: &str) {
    let db = open(store, name, "").unwrap();
    db.execute_batch(
        "create table t(a, b); create table u(a); create index i on t(a); \
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 20) \
         insert into t select i, hex(randomblob(300)) from n",
    )
    .unwrap();
    let two = open(store, &format!("{name}-two"), "").unwrap();
    two.execute_batch("create table w(a)").unwrap();
}

fn sweep(writers: &str, scripts: &[usize]) {
    pagestore_sqlite::register().unwrap();
    // Durability is not what is tested here.
    let shm = std::path::Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let store = dir.path().display().to_string();
    let more = format!("&writers={writers}");
    for index in scripts {
        for for_ever in [false, true] {
            let name = format!("db-{index}-{for_ever}");
            prepare(&store, &name);
            let script =
                SCRIPTS[*index].replace("$two", &uri(&store, &format!("{name}-two"), &more));
            let checkers =
                [&name, &format!("{name}-two")].map(|name| open(&store, name, "").unwrap());
            let calls = (1..)
                .find(|call| {
                    fail_call(*call, for_ever);
                    let done = attempt(&store, &name, &more, &script);
                    let calls = fail_call(0, false);
                    for checker in &checkers {
                        let integrity = text(checker, "pragma integrity_check");
                        assert_eq!(integrity, "ok", "{script}, call {call}, for ever: {for_ever}");
                    }
                    if SCRIPTS[*index].contains("$two") {
                        // The attached database has a row for each that the script added to this one.
                        let here = text(&checkers[0], "select count(*) || '' from t where b = 'x'");
                        let there = text(&checkers[1], "select count(*) || '' from w");
                        assert_eq!(here, there, "call {call}, for ever: {for_ever}");
                    }
                    assert!(calls >= *call || done.is_ok(), "{script}: {done:?}");
                    calls < *call
                })
                .unwrap();
            assert!(calls > 20, "hardly anything was called");
        }
    }
}

fn attempt(store: &str, name: &str, more: &str, script: &str) -> rusqlite::Result<()> {
    let db = open(store, name, more)?;
    let done = db.execute_batch(script);
    if !db.is_autocommit() {
        // It may well fail, too; then the transaction ends with the connection.
        let _ = db.execute_batch("rollback");
    }
    done
}

#[test]
fn a_failing_call_of_the_vfs_breaks_nothing() {
    sweep("queue", &[0, 1, 2, 3, 4]);
    sweep("optimistic", &[1, 4]);
}
