//! SQL on volumes of an embedded store, through a linked SQLite.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod attached;
mod file_controls;
mod place;

use rusqlite::{Connection, ErrorCode, ffi};

use place::{Place, number, text};

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

#[test]
fn a_queue_of_writers_waits_and_never_conflicts_at_commit() {
    let place = Place::new();
    let (a, b) = (place.open("app", ""), place.open("app", ""));
    a.execute_batch("create table t(a); insert into t values(1)").unwrap();
    a.execute_batch("begin immediate").unwrap();
    b.busy_timeout(std::time::Duration::ZERO).unwrap();
    let error = b.execute_batch("begin immediate").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    // Readers go on.
    assert_eq!(number(&b, "select count(*) from t"), 1);
    a.execute_batch("insert into t values(2); commit").unwrap();
    b.execute_batch("begin immediate; insert into t values(3); commit").unwrap();
    assert_eq!(number(&a, "select count(*) from t"), 3);
    // Who read before another wrote cannot go on to write.
    b.execute_batch("begin").unwrap();
    assert_eq!(number(&b, "select count(*) from t"), 3);
    a.execute_batch("insert into t values(4)").unwrap();
    let error = b.execute_batch("insert into t values(5)").unwrap_err();
    assert_eq!(error.sqlite_error().unwrap().extended_code, ffi::SQLITE_BUSY_SNAPSHOT);
    b.execute_batch("rollback; insert into t values(5)").unwrap();
    assert_eq!(number(&a, "select count(*) from t"), 5);
}

#[test]
fn optimistic_writers_conflict_over_a_page_and_can_run_again() {
    let place = Place::new();
    let (a, b) =
        (place.open("app", "&writers=optimistic"), place.open("app", "&writers=optimistic"));
    a.execute_batch(
        "create table t(a); create table u(a); insert into t values(1); insert into u values(1)",
    )
    .unwrap();
    assert_eq!(number(&b, "select count(*) from t"), 1);
    // On tables of their own they do not meet.
    a.execute_batch("begin; update t set a = 2").unwrap();
    b.execute_batch("begin; update u set a = 2; commit").unwrap();
    a.execute_batch("commit").unwrap();
    // On one page the second is told, and its transaction is gone.
    a.execute_batch("begin; update t set a = a + 1").unwrap();
    b.execute_batch("update t set a = a + 10").unwrap();
    let error = a.execute_batch("commit").unwrap_err();
    assert_eq!(error.sqlite_error().unwrap().extended_code, ffi::SQLITE_BUSY_SNAPSHOT);
    assert!(a.is_autocommit());
    a.execute_batch("begin; update t set a = a + 1; commit").unwrap();
    assert_eq!(number(&b, "select a from t"), 13);
    // What was only read counts, too.
    a.execute_batch("begin; insert into u select a from t").unwrap();
    b.execute_batch("update t set a = 0").unwrap();
    assert!(a.execute_batch("commit").is_err());
    for db in [&a, &b] {
        assert_eq!(text(db, "pragma integrity_check"), "ok");
    }
}

#[test]
fn an_optimistic_writer_takes_turns_with_a_queue() {
    let place = Place::new();
    let (queue, other) = (place.open("app", ""), place.open("app", "&writers=optimistic"));
    queue.execute_batch("create table t(a); create table u(a)").unwrap();
    queue.execute_batch("begin immediate; insert into t values(1)").unwrap();
    let waiting = std::thread::spawn(move || {
        other.execute_batch("insert into u values(1)").unwrap();
        other
    });
    std::thread::sleep(std::time::Duration::from_millis(50));
    queue.execute_batch("commit").unwrap();
    let other = waiting.join().unwrap();
    assert_eq!(number(&other, "select (select count(*) from t) + (select count(*) from u)"), 2);
}

#[test]
fn after_conflicts_in_a_row_an_optimistic_writer_takes_the_queues_lock() {
    let place = Place::new();
    let (a, b) =
        (place.open("app", "&writers=optimistic"), place.open("app", "&writers=optimistic"));
    a.execute_batch("create table t(a); insert into t values(0)").unwrap();
    b.busy_timeout(std::time::Duration::ZERO).unwrap();
    for _ in 0..3 {
        a.execute_batch("begin; update t set a = a + 1").unwrap();
        b.execute_batch("update t set a = a + 1").unwrap();
        assert!(a.execute_batch("commit").is_err());
    }
    a.execute_batch("begin; update t set a = a + 1").unwrap();
    let writer = std::thread::spawn(move || b.execute_batch("update t set a = a + 1"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    a.execute_batch("commit").unwrap();
    // It waited at its commit, and then it conflicted.
    assert!(writer.join().unwrap().is_err());
    assert_eq!(number(&a, "select a from t"), 4);
}

#[test]
fn two_optimistic_inserters_into_tables_of_their_own_hardly_ever_conflict() {
    const COMMITS: i64 = 300;
    let place = Place::new();
    let db = place.open("app", "");
    db.execute_batch("create table t0(a); create table t1(a)").unwrap();
    let inserters: Vec<_> = (0..2)
        .map(|table| {
            let db = place.open("app", "&writers=optimistic");
            std::thread::spawn(move || {
                let mut conflicts = 0;
                for _ in 0..COMMITS {
                    let sql = format!("insert into t{table} values(hex(randomblob(50)))");
                    while let Err(error) = db.execute_batch(&sql) {
                        assert_eq!(
                            error.sqlite_error_code(),
                            Some(ErrorCode::DatabaseBusy),
                            "{error}"
                        );
                        conflicts += 1;
                    }
                }
                conflicts
            })
        })
        .collect();
    let conflicts: i64 = inserters.into_iter().map(|inserter| inserter.join().unwrap()).sum();
    assert!(conflicts * 100 < 2 * COMMITS, "{conflicts} of {} commits", 2 * COMMITS);
    for table in 0..2 {
        assert_eq!(number(&db, &format!("select count(*) from t{table}")), COMMITS);
    }
    assert_eq!(text(&db, "pragma integrity_check"), "ok");
}

#[test]
fn statements_that_read_on_across_a_commit_see_their_own_changes() {
    for writers in ["queue", "optimistic"] {
        let place = Place::new();
        let more = format!("&writers={writers}");
        let (db, other) = (place.open("app", &more), place.open("app", &more));
        db.execute_batch(
            "pragma cache_size=2; create table t(a, b); create table u(a); \
             with recursive n(i) as (select 1 union all select i+1 from n where i<500) \
             insert into t select i, hex(randomblob(100)) from n",
        )
        .unwrap();
        let mut statement = db.prepare("select a from t").unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut seen = 0;
        while let Some(row) = rows.next().unwrap() {
            seen += 1;
            assert_eq!(row.get::<_, i64>(0).unwrap(), seen);
            if seen % 100 == 0 {
                let updated = db.execute("update t set b = 'x' where a = ?", [seen]);
                if seen == 100 {
                    updated.unwrap_or_else(|_| {
                        panic!("{writers}: {}", text(&db, "pragma pagestore_error"))
                    });
                    // Somebody else commits beside it from now on.
                    other.execute_batch("insert into u values(1)").unwrap_or_else(|_| {
                        panic!("{writers}: {}", text(&other, "pragma pagestore_error"))
                    });
                }
                let sql = format!("select b from t where a = {seen}");
                if seen == 100 {
                    assert_eq!(text(&db, &sql), "x");
                }
            }
        }
        assert_eq!(seen, 500);
        drop(rows);
        drop(statement);
        assert_eq!(number(&db, "select count(*) from u"), 1);
        assert_eq!(text(&db, "pragma integrity_check"), "ok");
    }
}

#[test]
fn the_past_is_read_only_and_stays() {
    let place = Place::new();
    let db = place.open("app", "");
    db.execute_batch("create table t(a); insert into t values(1)").unwrap();
    let then: i64 = text(&db, "pragma pagestore_revision").parse().unwrap();
    db.execute_batch("insert into t values(2)").unwrap();
    let past = place.open("app", &format!("&at={then}"));
    assert_eq!(number(&past, "select count(*) from t"), 1);
    assert_eq!(number(&db, "select count(*) from t"), 2);
    let error = past.execute_batch("insert into t values(3)").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly));
    let error = place.try_open("app", "&at=999999").unwrap_err().to_string();
    assert!(error.contains("has not come yet"), "{error}");
    let stale = place.open("app", "&stale=1");
    assert!(number(&stale, "select count(*) from t") <= 2);
    stale
        .execute_batch("insert into t values(4)")
        .or_else(|_| stale.execute_batch("insert into t values(4)"))
        .unwrap();
    assert_eq!(number(&stale, "select count(*) from t"), 3);
}

#[test]
fn the_page_size_is_that_of_creation() {
    for size in [512, 1024, 8192, 65536] {
        let place = Place::new();
        let db = place.open("app", "");
        db.execute_batch(&format!(
            "pragma page_size={size}; create table t(a); insert into t values(1)"
        ))
        .unwrap();
        assert_eq!(number(&place.open("app", ""), "pragma page_size"), size);
        let other = if size == 4096 { 8192 } else { 4096 };
        let error = db.execute_batch(&format!("pragma page_size={other}; vacuum")).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure), "{error}");
        assert!(text(&db, "pragma pagestore_error").contains("page size"));
        assert_eq!(number(&place.open("app", ""), "select count(*) from t"), 1);
        assert_eq!(text(&db, "pragma integrity_check"), "ok");
        db.execute_batch("insert into t values(2)").unwrap();
    }
}

#[test]
fn exclusive_locking_keeps_the_lock_and_is_refused_to_optimists() {
    let place = Place::new();
    let db = place.open("app", "");
    db.execute_batch("create table t(a); pragma locking_mode=exclusive; insert into t values(1)")
        .unwrap();
    let other = place.open("app", "");
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    assert!(other.execute_batch("insert into t values(2)").is_err());
    db.execute_batch("insert into t values(3); update t set a = a + 1").unwrap();
    assert_eq!(number(&other, "select sum(a) from t"), 6);
    db.execute_batch("pragma locking_mode=normal").unwrap();
    assert_eq!(number(&db, "select count(*) from t"), 2);
    other.execute_batch("insert into t values(2)").unwrap();
    let optimist = place.open("app", "&writers=optimistic");
    let error = optimist.execute_batch("pragma locking_mode=exclusive").unwrap_err().to_string();
    assert!(error.contains("exclude each other"), "{error}");
}

#[test]
fn tables_and_pragmas_show_the_log_and_the_figures() {
    let place = Place::new();
    let db = place.open("app", "");
    assert_eq!(number(&db, "select count(*) from pagestore_log"), 0);
    db.execute_batch(&format!("attach '{}' as two", place.uri("two", ""))).unwrap();
    db.execute_batch("create table t(a); insert into t values(1); create table two.u(a)").unwrap();
    assert_eq!(number(&db, "select count(*) from pagestore_log"), 2);
    assert_eq!(number(&db, "select count(*) from pagestore_log('two')"), 1);
    let newest = number(&db, "select revision from pagestore_log order by revision desc limit 1");
    assert!(text(&db, "pragma pagestore_revision").parse::<i64>().unwrap() >= newest);
    let status = |name: &str| {
        let sql = format!("select value from pagestore_status('main') where name = '{name}'");
        number(&db, &sql)
    };
    assert_eq!(status("commits"), 2);
    assert_eq!(status("page_count"), 2);
    assert_eq!(status("staged_commits"), 2);
    assert_eq!(status("head_revision"), newest);
    let joined = "select count(*) from pagestore_log l join pagestore_status s \
                  on s.name = 'head_revision' and s.value = l.revision";
    assert_eq!(number(&db, joined), 1);
    let error = db.query_row("select * from pagestore_log('none')", [], |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("not a database on pagestore"), "{error}");
    let memory = Connection::open_in_memory().unwrap();
    assert!(memory.query_row("select * from pagestore_status", [], |_| Ok(())).is_err());
    assert_eq!(text(&db, "pragma pagestore_version"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn everything_sqlite_can_works_as_on_a_file() {
    let script = "
        create table t(id integer primary key, a text unique, b blob);
        insert into t(a, b) values('x', zeroblob(100000)), ('y', randomblob(20000));
        create virtual table f using fts5(body);
        insert into f values('the quick brown fox'), ('jumps over the lazy dog');
        create virtual table r using rtree(id, lo, hi);
        insert into r values(1, 0.0, 10.0), (2, 5.0, 20.0);
        create temp table x as select * from t;
        create index ia on t(a, length(b));
        create trigger tr after insert on t begin insert into f values(new.a); end;
        begin; savepoint one; insert into t(a) values('z'); savepoint two; delete from t;
        rollback to two; release one; commit;
        create view v as select a, json_extract('{\"k\": [1, 2]}', '$.k[1]') as j from t;
        update t set b = null where a = 'x';
        pragma incremental_vacuum;
        vacuum;
        analyze;
        drop index ia;
        alter table t add column c default 7;
        reindex;";
    let queries = [
        "select group_concat(a || c) from (select a, c from t order by a)",
        "select group_concat(rowid) from f('fox or z')",
        "select group_concat(id) from r where lo < 6 and hi > 12",
        "select group_concat(a || j) from v",
        "select count(*) from temp.x",
        "select group_concat(name) from (select name from sqlite_schema order by name)",
        "pragma integrity_check",
        "select coalesce(sum(length(b)), 0) from t",
    ];
    for (mode, vacuum) in [("delete", "none"), ("off", "full"), ("persist", "incremental")] {
        let place = Place::new();
        let local = Connection::open_in_memory().unwrap();
        let db = place.open("app", "");
        for db in [&local, &db] {
            db.execute_batch(&format!("pragma auto_vacuum={vacuum}; pragma journal_mode={mode}"))
                .unwrap();
            db.execute_batch(script).unwrap();
        }
        for query in queries {
            let show = |db: &Connection| {
                db.query_row(query, [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap()
            };
            assert_eq!(show(&local), show(&db), "{query}");
        }
        let again = place.open("app", "&mode=ro");
        assert_eq!(text(&again, "pragma integrity_check"), "ok");
    }
}

#[test]
fn a_database_beyond_four_gib_is_read_and_written() {
    const PAGES: u32 = 70_000;
    let place = Place::new();
    let db = place.open("app", "");
    db.execute_batch("pragma page_size=65536; create table t(a); insert into t values('small')")
        .unwrap();
    drop(db);
    // Most of it never written: zeros, which take no room.
    let store = pagestore::blocking::Store::open(&place.0.path().display().to_string()).unwrap();
    let mut tx = store.open_volume("app").unwrap().begin().unwrap();
    let mut first = tx.read(pagestore::PageNo(0)).unwrap().to_vec();
    first[28..32].copy_from_slice(&PAGES.to_be_bytes());
    tx.write(pagestore::PageNo(0), first).unwrap();
    tx.truncate(pagestore::PageCount(PAGES.into()));
    tx.commit().unwrap();
    drop(store);
    let db = place.open("app", "");
    db.execute_batch(
        "insert into t values(zeroblob(300000)); update t set a = a || 'x' where rowid = 1",
    )
    .unwrap();
    db.execute("insert into t values(?)", ["y".repeat(200_000)]).unwrap();
    let other = place.open("app", "");
    assert!(number(&other, "pragma page_count") > i64::from(PAGES));
    assert_eq!(number(&other, "select sum(length(a)) from t"), 500_006);
    assert_eq!(
        number(&other, "select count(*) from t where a = replace(hex(zeroblob(100000)), '0', 'y')"),
        1
    );
}
