use pagestore::{PageNo, PageSize, Store, VolumeOptions};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// A store in a directory of its own.
pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        pagestore_sqlite::register().unwrap();
        Place(tempfile::tempdir().unwrap())
    }

    pub(crate) fn uri(&self, name: &str, more: &str) -> String {
        format!("file:{name}?vfs=pagestore&store={}{more}", self.0.path().display())
    }

    /// Makes a volume of the bytes of a file, as a tool does that knows nothing of SQLite.
    pub(crate) fn import(&self, name: &str, bytes: &[u8]) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(&self.0.path().display().to_string()).await.unwrap();
            let page_size = PageSize::new(4096).unwrap();
            let options = VolumeOptions { page_size, ..VolumeOptions::default() };
            let volume = store.create_volume(name, options).await.unwrap();
            let mut transaction = volume.begin().await.unwrap();
            for (page, content) in (0..).zip(bytes.chunks(page_size.bytes())) {
                transaction.write(PageNo(page), content.to_vec()).unwrap();
            }
            transaction.commit().await.unwrap();
        });
    }

    pub(crate) fn open(&self, name: &str, more: &str) -> Connection {
        self.try_open(name, more).unwrap()
    }

    pub(crate) fn try_open(&self, name: &str, more: &str) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(self.uri(name, more), flags)
    }
}

pub(crate) fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

pub(crate) fn text(db: &Connection, sql: &str) -> String {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}
