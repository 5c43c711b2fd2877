//! Transactions over attached databases.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::place::{Place, number, text};

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
fn a_conflict_over_one_attached_volume_leaves_neither_changed() {
    for mode in ["delete", "memory", "off"] {
        let place = Place::new();
        let db = place.open("one", "&writers=optimistic");
        let uri = place.uri("two", "&writers=optimistic");
        db.execute_batch(&format!(
            "attach '{uri}' as two; create table t(a); create table two.u(a)"
        ))
        .unwrap();
        for schema in ["main", "two"] {
            db.execute_batch(&format!(
                "insert into {} values(1)",
                ["t", "u"][usize::from(schema == "two")]
            ))
            .unwrap();
            assert_eq!(text(&db, &format!("pragma {schema}.journal_mode={mode}")), mode);
        }
        for (table, volume) in [("t", "one"), ("u", "two")] {
            db.execute_batch("begin; update t set a = a + 1; update u set a = a + 1").unwrap();
            let other = place.open(volume, "&writers=optimistic");
            other.execute_batch(&format!("update {table} set a = a + 10")).unwrap();
            let error = db.execute_batch("commit").unwrap_err();
            assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy), "{mode} {error}");
            assert!(db.is_autocommit());
            let sum = "select (select a from t) * 100 + (select a from u)";
            assert_eq!(
                number(&db, sum),
                if table == "t" { 1101 } else { 1112 + 100 },
                "{mode} {table}"
            );
            db.execute_batch("begin; update t set a = a + 1; update u set a = a + 1; commit")
                .unwrap();
        }
    }
}

#[test]
fn volumes_of_different_stores_cannot_be_written_together() {
    let (here, there) = (Place::new(), Place::new());
    let db = here.open("one", "");
    db.execute_batch(&format!(
        "create table t(a); attach '{}' as two; create table two.u(a)",
        there.uri("two", "")
    ))
    .unwrap();
    let error = db
        .execute_batch("begin; insert into t values(1); insert into u values(1); commit")
        .unwrap_err();
    assert!(text(&db, "pragma pagestore_error").contains("different stores"), "{error}");
    assert!(db.is_autocommit());
    assert_eq!(number(&db, "select (select count(*) from t) + (select count(*) from u)"), 0);
    db.execute_batch("begin; insert into t values(1); insert into u values(1); commit")
        .unwrap_err();
    db.execute_batch("insert into u select 1").unwrap();
}

/// As many as SQLite attaches, and the main one.
#[test]
fn eleven_databases_commit_together() {
    for mode in ["delete", "memory", "off"] {
        let place = Place::new();
        let db = place.open("v0", "");
        let names: Vec<String> = (0..11).map(|n| format!("v{n}")).collect();
        for name in &names[1..] {
            db.execute_batch(&format!("attach '{}' as {name}", place.uri(name, ""))).unwrap();
        }
        let schemas = || std::iter::once("main").chain(names[1..].iter().map(String::as_str));
        let mut sql = "begin;".to_owned();
        for schema in schemas() {
            assert_eq!(text(&db, &format!("pragma {schema}.journal_mode={mode}")), mode);
            sql += &format!(
                "create table {schema}.t(a, b); insert into {schema}.t values(1, randomblob(20000));"
            );
        }
        db.execute_batch(&sql).unwrap();
        for name in &names {
            assert!(place.open(name, "").prepare("select * from t").is_err(), "committed early");
        }
        db.execute_batch("commit").unwrap();
        let sum = |db: &Connection| -> i64 {
            schemas().map(|schema| number(db, &format!("select sum(a) from {schema}.t"))).sum()
        };
        assert_eq!(sum(&db), 11);
        let revisions: std::collections::BTreeSet<i64> = names
            .iter()
            .map(|name| number(&place.open(name, ""), "select max(revision) from pagestore_log"))
            .collect();
        assert_eq!(revisions.len(), 1, "{mode}: more than one commit");
        let update = |how: &str| {
            let updates = schemas().map(|schema| format!("update {schema}.t set a = a + 1;"));
            db.execute_batch(&format!("begin; {} {how}", updates.collect::<String>())).unwrap();
        };
        update("commit");
        assert_eq!(sum(&db), 22);
        if mode != "off" {
            update("rollback");
            assert_eq!(sum(&db), 22);
        }
    }
}

#[test]
fn exclusive_locking_keeps_the_locks_of_attached_databases() {
    // Set for all before and after attaching, for the attached one alone, and with a main database that
    // is no volume.
    let attach = "attach '$two' as two;";
    let exclusive = "pragma locking_mode=exclusive;";
    let begins = [
        ("", format!("{attach} {exclusive}")),
        ("", format!("{exclusive} {attach}")),
        ("", format!("{attach} pragma two.locking_mode=exclusive;")),
        ("memory", format!("{attach} {exclusive} insert into two.t values(0);")),
    ];
    for (main, begin) in begins {
        let place = Place::new();
        place.open("two", "").execute_batch("create table t(a)").unwrap();
        let db = match main {
            "memory" => {
                pagestore_sqlite::register().unwrap();
                let flags = rusqlite::OpenFlags::default() | rusqlite::OpenFlags::SQLITE_OPEN_URI;
                Connection::open_in_memory_with_flags(flags).unwrap()
            }
            _ => place.open("one", ""),
        };
        db.execute_batch(&begin.replace("$two", &place.uri("two", ""))).unwrap();
        db.execute_batch("create table main.s(a); insert into two.t values(1)").unwrap();
        let other = place.open("two", "");
        other.busy_timeout(Duration::ZERO).unwrap();
        for round in 0..3 {
            let error = other.execute_batch("insert into t values(9)").unwrap_err();
            assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy), "{begin} {error}");
            let sql = "begin; insert into two.t values(1); insert into main.s values(1); commit";
            db.execute_batch(sql).unwrap_or_else(|error| panic!("{begin} {round}: {error}"));
        }
        db.execute_batch(&format!("pragma locking_mode=normal; {}", "select * from two.t;"))
            .unwrap();
        db.execute_batch("pragma two.locking_mode=normal; select * from two.t").unwrap();
        other.execute_batch("insert into t values(9)").unwrap();
        // And from then on each commit lets go.
        db.execute_batch("insert into two.t values(1)").unwrap();
        other.execute_batch("insert into t values(9)").unwrap();
    }
}

/// Where there is no super-journal to tell the last one, the second phase of the first tells.
#[test]
fn a_conflict_of_an_exclusive_transaction_that_wrote_one_of_two_is_told_at_commit() {
    for (mode, sync) in [("delete", "full"), ("memory", "full"), ("off", "full"), ("delete", "off")]
    {
        let place = Place::new();
        let db = place.open("one", "&writers=optimistic");
        let uri = place.uri("two", "&writers=optimistic");
        db.execute_batch(&format!(
            "attach '{uri}' as two; create table t(a); create table two.u(a); \
             insert into t values(1); insert into u values(1); pragma synchronous={sync}; \
             pragma two.synchronous={sync}"
        ))
        .unwrap();
        for schema in ["main", "two"] {
            assert_eq!(text(&db, &format!("pragma {schema}.journal_mode={mode}")), mode);
        }
        db.execute_batch("begin exclusive; update t set a = a + 1").unwrap();
        let other = place.open("one", "&writers=optimistic");
        other.execute_batch("update t set a = a + 10").unwrap();
        let error = db.execute_batch("commit").unwrap_err();
        assert_eq!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseBusy),
            "{mode} {sync} {error}"
        );
        assert!(db.is_autocommit(), "{mode} {sync}");
        assert_eq!(number(&db, "select a from t"), 11, "{mode} {sync}");
        db.execute_batch("begin exclusive; update t set a = a + 1; commit").unwrap();
        assert_eq!(number(&other, "select a from t"), 12);
        assert_eq!(text(&db, "pragma integrity_check"), "ok");
    }
}
