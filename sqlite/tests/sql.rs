//! SQL on volumes of an embedded store, through a linked SQLite.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        pagestore_sqlite::register().unwrap();
        Place(tempfile::tempdir().unwrap())
    }

    fn uri(&self, name: &str, more: &str) -> String {
        format!("file:{name}?vfs=pagestore&store={}{more}", self.0.path().display())
    }

    fn open(&self, name: &str, more: &str) -> Connection {
        self.try_open(name, more).unwrap()
    }

    fn try_open(&self, name: &str, more: &str) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(self.uri(name, more), flags)
    }
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn text(db: &Connection, sql: &str) -> String {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn what_is_committed_is_read_by_other_connections() {
    let place = Place::new();
    let db = place.open("app", "");
    db.execute_batch("create table t(a, b); insert into t values(1, 'x')").unwrap();
    let other = place.open("app", "");
    assert_eq!(number(&other, "select count(*) from t"), 1);
    db.execute_batch("insert into t values(2, 'y')").unwrap();
    assert_eq!(number(&other, "select sum(a) from t"), 3);
    other.execute_batch("update t set a = a + 10").unwrap();
    assert_eq!(number(&db, "select sum(a) from t"), 23);
    drop((db, other));
    let again = place.open("app", "");
    assert_eq!(number(&again, "select sum(a) from t"), 23);
    assert_eq!(text(&again, "pragma integrity_check"), "ok");
}

#[test]
fn what_is_rolled_back_leaves_nothing() {
    let place = Place::new();
    let db = place.open("app", "");
    db.execute_batch("create table t(a); insert into t values(1)").unwrap();
    db.execute_batch("begin; insert into t values(2); rollback").unwrap();
    assert_eq!(number(&db, "select count(*) from t"), 1);
    // Spilled: pages reach the file before the rollback.
    db.execute_batch(
        "pragma cache_size=5; begin; with recursive n(i) as (select 1 union all select i+1 from n where i<5000) \
         insert into t select hex(randomblob(100)) from n; delete from t where rowid=1; rollback",
    )
    .unwrap();
    assert_eq!(number(&db, "select count(*) from t"), 1);
    db.execute_batch(
        "begin; insert into t values(2); savepoint s; insert into t values(3); rollback to s; release s; commit",
    )
    .unwrap();
    assert_eq!(number(&db, "select count(*) from t"), 2);
    assert_eq!(text(&place.open("app", ""), "pragma integrity_check"), "ok");
}

#[test]
fn a_transaction_larger_than_the_cache_commits_as_one() {
    let place = Place::new();
    let db = place.open("app", "");
    db.execute_batch("pragma page_size=1024; create table t(a)").unwrap();
    let reader = place.open("app", "");
    db.execute_batch(
        "pragma cache_size=5; begin; with recursive n(i) as (select 1 union all select i+1 from n where i<5000) \
         insert into t select hex(randomblob(100)) from n",
    )
    .unwrap();
    assert_eq!(number(&reader, "select count(*) from t"), 0);
    db.execute_batch("commit").unwrap();
    assert_eq!(number(&reader, "select count(*) from t"), 5000);
    db.execute_batch("delete from t where rowid > 10; vacuum").unwrap();
    assert_eq!(number(&reader, "select count(*) from t"), 10);
    assert!(number(&reader, "pragma page_count") < 10);
    assert_eq!(number(&reader, "pragma page_size"), 1024);
    assert_eq!(text(&reader, "pragma integrity_check"), "ok");
}

#[test]
fn attached_databases_commit_together_in_every_journal_mode() {
    for mode in ["delete", "truncate", "persist", "memory", "off"] {
        for synchronous in ["off", "normal", "full", "extra"] {
            let place = Place::new();
            let db = place.open("one", "");
            db.execute_batch(&format!("attach '{}' as two", place.uri("two", ""))).unwrap();
            for schema in ["main", "two"] {
                let now = text(&db, &format!("pragma {schema}.journal_mode={mode}"));
                assert_eq!(now, mode);
                db.execute_batch(&format!("pragma {schema}.synchronous={synchronous}")).unwrap();
                db.execute_batch(&format!("create table {schema}.t(a)")).unwrap();
            }
            db.execute_batch(
                "begin; insert into main.t values(1); insert into two.t values(2); commit",
            )
            .unwrap();
            let (one, two) = (place.open("one", ""), place.open("two", ""));
            assert_eq!(number(&one, "select sum(a) from t"), 1, "{mode} {synchronous}");
            assert_eq!(number(&two, "select sum(a) from t"), 2, "{mode} {synchronous}");
            db.execute_batch(
                "begin; insert into main.t values(1); insert into two.t values(2); rollback",
            )
            .unwrap();
            assert_eq!(number(&two, "select sum(a) from t"), 2);
            // One of them holds EXCLUSIVE and has nothing to write.
            db.execute_batch("begin exclusive; insert into main.t values(5); commit").unwrap();
            assert_eq!(number(&one, "select sum(a) from t"), 6);
            db.execute_batch("begin exclusive; insert into two.t values(5); commit").unwrap();
            assert_eq!(number(&two, "select sum(a) from t"), 7);
        }
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let place = Place::new();
    let message = |more: &str| place.try_open("app", more).unwrap_err().to_string();
    assert!(message("&sync=off").contains("sync=off"), "{}", message("&sync=off"));
    assert!(message("&nolock=1").contains("nolock"));
    assert!(message("&mode=ro").contains("unable to open"));
    let db = place.open("app", "");
    db.execute_batch("create table t(a)").unwrap();
    let error = db.execute_batch("pragma journal_mode=wal").unwrap_err().to_string();
    assert!(error.contains("WAL"), "{error}");
    let read_only = place.open("app", "&mode=ro");
    let error = read_only.execute_batch("insert into t values(1)").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly));
}
