//! The extension in programs that nobody here wrote: Debian's `sqlite3` shell and Python's `sqlite3`, on an
//! embedded store and on etcd and S3.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use pagestore_tests::harness::TestStore;

/// The system's Python: others may be built without extensions.
const PYTHON: &str = "/usr/bin/python3";
const PROJ: &str = "/usr/share/proj/proj.db";

/// The extension, built by a call of its own, without what this build tells its tests.
fn extension() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_pagestore-bank")).ancestors().nth(2).unwrap();
        let mut command = Command::new(env!("CARGO"));
        for (name, _) in std::env::vars() {
            if name.starts_with("CARGO_MANIFEST") || name.starts_with("CARGO_PKG") {
                command.env_remove(name);
            }
        }
        command
            .args(["build", "--quiet", "--package", "pagestore-sqlite-extension", "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(command.status().unwrap().success(), "the extension cannot be built");
        target.join("debug/libpagestore_sqlite.so")
    })
}

fn uri(place: &TestStore, name: &str, more: &str) -> String {
    let store = place.url().replace('%', "%25").replace('?', "%3f").replace('&', "%26");
    format!("file:{name}?vfs=pagestore&store={store}{more}")
}

/// What a program says to `input`; it must end well and say nothing on stderr.
fn say(place: &TestStore, program: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .envs(place.vars())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{program} {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn shell(place: &TestStore, name: &str, sql: &str) -> String {
    let script =
        format!(".load {}\n.open '{}'\n{sql}\n", extension().display(), uri(place, name, ""));
    say(place, "sqlite3", &["-batch", "-bail", "-init", "/dev/null"], &script)
}

fn python(place: &TestStore, program: &str) -> String {
    let start = format!(
        "import os, sqlite3, sys\n\
         db = sqlite3.connect(':memory:'); db.enable_load_extension(True)\n\
         db.load_extension({:?}); db.close()\n\
         def connect(more=''): return sqlite3.connect({:?} + more, uri=True)\n",
        extension().display().to_string(),
        uri(place, "app", ""),
    );
    say(place, PYTHON, &["-"], &format!("{start}{program}"))
}

macro_rules! on_both {
    ($($name:ident)*) => {
        mod embedded {
            $(#[test]
            fn $name() { super::$name(&super::TestStore::embedded()); })*
        }
        mod servers {
            $(#[test]
            fn $name() { super::$name(&super::TestStore::servers()); })*
        }
    };
}

on_both! {
    the_shell_works_on_a_volume
    python_works_on_a_volume
    every_row_of_a_real_database_is_the_same_cold_and_warm
}

fn the_shell_works_on_a_volume(place: &TestStore) {
    let made = shell(
        place,
        "app",
        "create table t(a, b);\ninsert into t values(1, 'x'), (2, 'y');\n\
         create virtual table f using fts5(body); insert into f values('hello world');\n\
         begin; insert into t values(3, 'z'); savepoint s; delete from t; rollback to s; commit;\n\
         create table big as with recursive n(i) as (select 1 union all select i+1 from n where i<2000) \
         select i, hex(randomblob(100)) as h from n;\n\
         delete from big where i > 5; vacuum;\n\
         select count(*) from t; select body from f('hello'); pragma integrity_check;",
    );
    assert_eq!(made, "3\nhello world\nok\n");
    let uri = uri(place, "two", "");
    let again = shell(
        place,
        "app",
        &format!(
            "attach '{uri}' as two; create table two.u as select * from main.t;\n\
             begin; insert into two.u values(4, 'w'); delete from main.t where a = 1; commit;\n\
             select (select count(*) from main.t), (select count(*) from two.u);\n\
             create temp table x as select * from t; select count(*) from x;\n\
             select count(*) > 3 from pagestore_log; pragma pagestore_version;"
        ),
    );
    assert_eq!(again, format!("2|4\n2\n1\n{}\n", env!("CARGO_PKG_VERSION")));
}

fn python_works_on_a_volume(place: &TestStore) {
    let said = python(
        place,
        "
a, b = connect(), connect('&writers=optimistic')
a.execute('create table t(a)'); a.execute('insert into t values(1)'); a.commit()
print(b.execute('select * from t').fetchall())
b.execute('insert into t values(?)', (b'\\x00\\xff',)); b.commit()
print(a.execute('select count(*) from t').fetchone())
b.isolation_level = None
b.execute('begin'); b.execute('update t set a = 5 where rowid = 1')
a.execute('update t set a = 6 where rowid = 1'); a.commit()
try: b.execute('commit')
except sqlite3.OperationalError as error: print(error, b.in_transaction)
b.execute('update t set a = a + 1 where rowid = 1')
print(a.execute('select a from t where rowid = 1').fetchone())
try: connect('&colour=red')
except sqlite3.OperationalError as error: print('colour=red' in str(error))
try: a.execute('pragma journal_mode=wal')
except sqlite3.OperationalError as error: print('no WAL' in str(error))
",
    );
    assert_eq!(said, "[(1,)]\n(2,)\ndatabase is locked False\n(7,)\nTrue\nTrue\n");
}

#[test]
fn a_child_of_fork_is_refused_and_harms_nothing() {
    let place = TestStore::embedded();
    let said = python(
        &place,
        "
db = connect(); db.execute('create table t(a)'); db.execute('insert into t values(1)'); db.commit()
sys.stdout.flush()
child = os.fork()
if child == 0:
    refused = 0
    for use in (lambda: db.execute('select * from t').fetchall(), lambda: connect().execute('select 1 from t')):
        try: use()
        except sqlite3.Error: refused += 1
    os._exit(refused)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
db.execute('insert into t values(2)'); db.commit()
print(db.execute('select sum(a) from t').fetchone())
",
    );
    assert_eq!(said, "2\n(3,)\n");
}

/// Every row of every table of Debian's `proj.db`, in a digest of each table: by a process that has nothing
/// of it in memory, and again by the same.
fn every_row_of_a_real_database_is_the_same_cold_and_warm(place: &TestStore) {
    let file = format!("file = sqlite3.connect('file:{PROJ}?mode=ro', uri=True)\n");
    python(place, &format!("{file}db = connect(); file.backup(db); db.close()"));
    let said = python(
        place,
        &format!(
            "{file}
import hashlib
def digest(db):
    names = [name for (name,) in db.execute(\"select name from sqlite_schema where type = 'table' order by 1\")]
    sums = {{}}
    for name in names:
        sums[name] = hashlib.sha256()
        for row in db.execute(f'select * from \"{{name}}\"'): sums[name].update(repr(row).encode())
    return {{name: sum.hexdigest() for name, sum in sums.items()}}
expected, db = digest(file), connect('&mode=ro')
print(len(expected) > 20, digest(db) == expected, digest(db) == expected)
print(db.execute('pragma integrity_check').fetchone())
"
        ),
    );
    assert_eq!(said, "True True True\n('ok',)\n");
}
