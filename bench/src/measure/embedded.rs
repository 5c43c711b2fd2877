//! Commits on an embedded store.

use std::time::Instant;

use pagestore::Store;

use super::etcd::MANY;
use super::sqlite::Shell;
use super::writers::{self, Begin, PAGES_PER_WRITER, Writer};
use crate::Result;
use crate::bare::PrewrittenLog;
use crate::figure::{Figure, Target};
use crate::pages::staged_volume;
use crate::rounds::Plan;

/// Rows inserted in one go before the clock is looked at.
const ROWS: usize = 200;

/// One client, one commit after the other.
pub(super) async fn one_client(plan: Plan) -> Result<Vec<Figure>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(&directory.path().to_string_lossy()).await?;
    let volume = staged_volume(&store, "v", PAGES_PER_WRITER).await?;
    let mut writers = vec![Writer::new(&volume, 0)];
    let mut log = PrewrittenLog::new()?;
    let ours = async || Ok([writers::run(&mut writers, Begin::Fresh, plan).await?.p50_ms]);
    let other = async || Ok([log.sync(plan)?.p50_ms]);
    let rounds = plan.run(ours, other).await?;
    Ok(vec![rounds.figure(0, "embedded commit, 1 client, p50", "ms", Target::AtMost(1.3))])
}

/// Many threads on pages of their own.
pub(super) async fn many_threads(plan: Plan) -> Result<Vec<Figure>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(&directory.path().to_string_lossy()).await?;
    let volume = staged_volume(&store, "v", MANY as u64 * PAGES_PER_WRITER).await?;
    let mut writers: Vec<Writer> =
        (0..MANY as u64).map(|number| Writer::new(&volume, number)).collect();
    let mut shell = Shell::open(&directory.path().join("sqlite.db"))?;
    shell.run("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")?;
    shell.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, b TEXT);")?;
    let ours = async || Ok([writers::run(&mut writers, Begin::Fresh, plan).await?.per_second]);
    let other = async || Ok([insert(&mut shell, plan)?]);
    let rounds = plan.run(ours, other).await?;
    Ok(vec![rounds.figure(0, "embedded commits, 64 threads", "/s", Target::AtLeast(3.0))])
}

/// One-row inserts, each a transaction; how many a second.
fn insert(shell: &mut Shell, plan: Plan) -> Result<f64> {
    let batch = "INSERT INTO t(a, b) VALUES (random(), 'a row of a hundred bytes or so, \
                 as they are in many a table of many a program');\n"
        .repeat(ROWS);
    let (start, mut rows) = (Instant::now(), 0);
    while start.elapsed() < plan.span {
        shell.run(&batch)?;
        rows += ROWS;
    }
    Ok(rows as f64 / start.elapsed().as_secs_f64())
}
