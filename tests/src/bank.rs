//! A bank in SQLite: accounts whose sum stays as it is, and tellers in processes of their own that move
//! money between them, write every transfer into a ledger, and say what was acknowledged.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi, params};
use serde::{Deserialize, Serialize};

/// Accounts; large enough rows that they lie on many pages.
pub const ACCOUNTS: i64 = 64;
/// What each begins with.
pub const OPENING: i64 = 1_000;
const PADDING: i64 = 900;
/// How long SQLite waits for a lock that another holds.
const BUSY: Duration = Duration::from_secs(60);

/// What a teller is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Teller {
    /// The database's URI.
    pub uri: String,
    /// Which of the tellers; it has a ledger of its own.
    pub number: i64,
    /// How often it was started before.
    pub run: i64,
    /// Seed of its choices.
    pub seed: u64,
}

/// Opens a database by URI.
///
/// # Panics
/// When it cannot be opened.
#[must_use]
pub fn open(uri: &str) -> Connection {
    pagestore_sqlite::register().expect("the VFS");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(uri, flags).unwrap_or_else(|error| panic!("{error}"));
    db.busy_timeout(BUSY).expect("a busy timeout");
    db
}

/// Makes the bank, with a ledger for each of so many tellers.
///
/// # Panics
/// When it cannot.
pub fn found(uri: &str, tellers: i64) {
    let mut db = open(uri);
    let tx = db.transaction().expect("a transaction");
    tx.execute_batch("create table account(id integer primary key, balance int, padding blob)")
        .expect("a table");
    for id in 0..ACCOUNTS {
        tx.execute("insert into account values(?, ?, zeroblob(?))", params![id, OPENING, PADDING])
            .expect("an account");
    }
    for teller in 0..tellers {
        tx.execute_batch(&format!(
            "create table ledger{teller}(run int, number int, giver int, taker int, amount int, \
             primary key(run, number)) without rowid"
        ))
        .expect("a ledger");
    }
    tx.commit().expect("a bank");
}

/// Moves money until killed. Prints `! number` when SQLite acknowledged a transfer, `? number` when it
/// failed in a way that leaves open whether it happened, `~` when it has to be run again.
///
/// # Panics
/// When the database says something that it must not.
pub fn work(teller: &Teller) {
    let db = open(&teller.uri);
    let mut rng = SmallRng::seed_from_u64(teller.seed);
    let mut out = std::io::stdout().lock();
    let mut say = |line: &str| {
        writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
    };
    for number in 0.. {
        let (giver, amount) = (rng.random_range(0..ACCOUNTS), rng.random_range(1..10));
        let taker = (giver + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        loop {
            match transfer(&db, teller, number, (giver, taker, amount)) {
                Ok(()) => say(&format!("! {number}")),
                Err(error) if is_to_be_run_again(&error) => {
                    say("~");
                    roll_back(&db);
                    continue;
                }
                Err(error) => {
                    assert!(may_happen(&error), "{error:?}");
                    eprintln!("teller {} {number}: {error}", teller.number);
                    say(&format!("? {number}"));
                    roll_back(&db);
                }
            }
            break;
        }
    }
}

/// Whatever SQLite has left open after an error is given up.
fn roll_back(db: &Connection) {
    if !db.is_autocommit() {
        db.execute_batch("rollback").expect("a rollback");
    }
}

fn transfer(
    db: &Connection,
    teller: &Teller,
    number: i64,
    (giver, taker, amount): (i64, i64, i64),
) -> rusqlite::Result<()> {
    let run =
        |sql: &str, params: &[&dyn rusqlite::ToSql]| db.prepare(sql)?.execute(params).map(drop);
    let queue = !teller.uri.contains("writers=optimistic");
    run(if queue { "begin immediate" } else { "begin" }, &[])?;
    // Half a transfer would show as a balance that does not fit the ledgers.
    run("update account set balance = balance - ? where id = ?", &[&amount, &giver])?;
    run("update account set balance = balance + ? where id = ?", &[&amount, &taker])?;
    run(
        &format!("insert into ledger{} values(?, ?, ?, ?, ?)", teller.number),
        &[&teller.run, &number, &giver, &taker, &amount],
    )?;
    run("commit", &[])
}

fn is_to_be_run_again(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// A store that is away for a moment, and a commit of which nobody heard.
fn may_happen(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code & 0xff == ffi::SQLITE_IOERR)
}

/// One consistent look at the bank.
#[derive(Debug)]
pub struct Books {
    /// Balance by account.
    pub balances: BTreeMap<i64, i64>,
    /// All transfers: teller, run, number.
    pub transfers: Vec<(i64, i64, i64)>,
}

/// Reads everything in one transaction and checks that balances and ledgers fit.
///
/// # Errors
/// SQLite's.
///
/// # Panics
/// When the books do not balance: a transfer was lost, doubled or halved.
pub fn audit(db: &Connection, tellers: i64) -> rusqlite::Result<Books> {
    db.execute_batch("begin")?;
    let books = read(db, tellers);
    db.execute_batch("rollback")?;
    let (books, expected) = books?;
    assert_eq!(books.balances, expected, "balances and ledgers differ");
    assert_eq!(books.balances.values().sum::<i64>(), ACCOUNTS * OPENING, "the sum changed");
    Ok(books)
}

fn read(db: &Connection, tellers: i64) -> rusqlite::Result<(Books, BTreeMap<i64, i64>)> {
    let mut expected: BTreeMap<i64, i64> = (0..ACCOUNTS).map(|id| (id, OPENING)).collect();
    let mut transfers = Vec::new();
    for teller in 0..tellers {
        let sql = format!("select run, number, giver, taker, amount from ledger{teller}");
        let mut statement = db.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            transfers.push((teller, row.get(0)?, row.get(1)?));
            let amount: i64 = row.get(4)?;
            *expected.entry(row.get(2)?).or_default() -= amount;
            *expected.entry(row.get(3)?).or_default() += amount;
        }
    }
    let mut statement = db.prepare("select id, balance from account")?;
    let balances = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let balances = balances.collect::<rusqlite::Result<_>>()?;
    Ok((Books { balances, transfers }, expected))
}
