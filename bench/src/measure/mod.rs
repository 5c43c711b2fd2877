//! What is measured.

use std::pin::Pin;

use crate::Result;
use crate::figure::Figure;
use crate::rounds::Plan;

mod cached_read;
mod cold_scan;
mod embedded;
mod etcd;
mod sent_bytes;
mod snapshots;
mod sqlite;
mod stored_bytes;
mod writers;

/// What a measure comes to.
type Measured = Pin<Box<dyn Future<Output = Result<Vec<Figure>>>>>;

/// A measure: one set-up, one figure or several.
pub(crate) struct Measure {
    /// By which it is asked for.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) what: &'static str,
    pub(crate) run: fn(Plan) -> Measured,
}

/// All of them.
pub(crate) const MEASURES: &[Measure] = &[
    Measure {
        name: "etcd-commit",
        what: "commits on etcd, one client, over bare compare-and-puts",
        run: |plan| Box::pin(etcd::one_client(plan)),
    },
    Measure {
        name: "etcd-writers",
        what: "commits on etcd, 64 writers, over bare compare-and-puts of 64 clients",
        run: |plan| Box::pin(etcd::many_clients(plan)),
    },
    Measure {
        name: "etcd-snapshots",
        what: "fresh snapshots on etcd, 64 at once, over bare linearizable gets",
        run: |plan| Box::pin(snapshots::fresh(plan)),
    },
    Measure {
        name: "etcd-bytes",
        what: "bytes sent to etcd for one-row statements of SQLite over the pages they change",
        run: |plan| Box::pin(sent_bytes::one_row(plan)),
    },
    Measure {
        name: "embedded-commit",
        what: "embedded commits, one client, over syncs of a pre-written block",
        run: |plan| Box::pin(embedded::one_client(plan)),
    },
    Measure {
        name: "embedded-writers",
        what: "embedded commits, 64 threads, over one-row inserts of SQLite (WAL, FULL)",
        run: |plan| Box::pin(embedded::many_threads(plan)),
    },
    Measure {
        name: "cached-read",
        what: "reads of pages in memory over pread of pages in the system's cache",
        run: |plan| Box::pin(cached_read::hits(plan)),
    },
    Measure {
        name: "cold-scan",
        what: "a sequential scan of files behind 20 ms a request over raw ranged reads",
        run: |plan| Box::pin(cold_scan::scan(plan)),
    },
    Measure {
        name: "stored-bytes",
        what: "stored bytes of SQLite databases over the whole file through zstd -3",
        run: |plan| Box::pin(stored_bytes::databases(plan)),
    },
];
