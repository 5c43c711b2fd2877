//! What a commit sends to etcd, to the byte, beside the pages that it changes.

use std::path::Path;

use bytes::Bytes;
use pagestore::{PageNo, Store, Volume};
use pagestore_tests::harness::EtcdServer;

use super::etcd::url;
use super::sqlite::{Shell, make_table};
use crate::Result;
use crate::figure::{Figure, Pair, Target};
use crate::pages::{PAGE_BYTES, imported_volume};
use crate::proxy::CountingProxy;
use crate::rounds::Plan;

/// Rows of the table: some 13 MB with its indexes.
const ROWS: usize = 100_000;
/// Statements of each kind.
const STATEMENTS: usize = 20;
/// Where SQLite keeps counters that change with every commit, on the first page. A VFS makes them up.
const COUNTERS: [std::ops::Range<usize>; 2] = [24..28, 92..96];

const UPDATE: &str = "UPDATE item SET price = price + 1, kind = (kind + 7) % 37 \
                      WHERE id = 1 + abs(random() % 100000);";
const INSERT: &str = "INSERT INTO item(name, kind, price, note) VALUES \
                      ('item ' || abs(random() % 1000000), abs(random() % 37), \
                       abs(random() % 100000) / 100.0, 'from shelf 7, box 4711, as good as new');";

/// One-row updates and inserts into a table with three indexes.
pub(super) async fn one_row(_: Plan) -> Result<Vec<Figure>> {
    let (directory, blobs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let file = directory.path().join("shop.db");
    let mut shell = Shell::open(&file)?;
    make_table(&mut shell, ROWS)?;

    let etcd = EtcdServer::start();
    let proxy = CountingProxy::start(etcd.address()).await?;
    let store = Store::open(&url(&proxy.address().to_string(), &blobs)).await?;
    let mut image = read_image(&file)?;
    let volume = imported_volume(&store, "shop", &image).await?;
    let mut figures = Vec::new();
    for (name, statement) in [("UPDATE", UPDATE), ("INSERT", INSERT)] {
        let mut pair = Pair { ours: 0.0, other: 0.0 };
        for _ in 0..STATEMENTS {
            shell.run(statement)?;
            let next = read_image(&file)?;
            let before = proxy.sent_bytes();
            let pages = commit_changes(&volume, &image, &next).await?;
            pair.ours += (proxy.sent_bytes() - before) as f64 / STATEMENTS as f64;
            pair.other += (pages * PAGE_BYTES) as f64 / STATEMENTS as f64;
            image = next;
        }
        let name = format!("bytes to etcd for a one-row {name}, over pages");
        figures.push(Figure::exact(name, "B", Target::AtMost(0.1), pair));
    }
    Ok(figures)
}

fn read_image(file: &Path) -> Result<Vec<u8>> {
    let mut image = std::fs::read(file)?;
    for range in COUNTERS {
        if let Some(counter) = image.get_mut(range) {
            counter.fill(0);
        }
    }
    Ok(image)
}

/// Commits the pages that differ; returns how many.
async fn commit_changes(volume: &Volume, old: &[u8], new: &[u8]) -> Result<usize> {
    let mut transaction = volume.begin().await?;
    let mut old = old.chunks_exact(PAGE_BYTES);
    for (number, content) in (0..).zip(new.chunks_exact(PAGE_BYTES)) {
        let before = old.next();
        if before == Some(content) {
            continue;
        }
        if before.is_some() {
            // SQLite has read what it changes.
            transaction.read(PageNo(number)).await?;
        }
        transaction.write(PageNo(number), Bytes::copy_from_slice(content))?;
    }
    let count = transaction.written_count();
    transaction.commit().await?;
    Ok(count)
}
