//! Frames on a local disk, for reads that would cost a request. Off unless asked for.
//!
//! A frame is kept as it came, compressed and with its own checksum, under its file's id and its
//! offset, and with a seal that says which frame it is. Whoever reads it checks both, as if it had come
//! from the blob tier, and discards what fails: so nothing is synced, and a torn or foreign file costs one
//! request, never a wrong page or an error. Several
//! processes may share a directory: entries appear by rename, and whichever process has written an
//! eighth of the bound sweeps out the least recently used ones of all.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::env::{Env, Task};
use crate::error::{Error, Result};
use crate::types::FileId;

/// Bytes of a seal.
const SEAL_BYTES: usize = 8;
/// Frames that wait to be written; more are not kept. 64 frames of 64 KiB are 4 MiB.
const QUEUE_FRAMES: usize = 64;
/// A use is noted on disk only when the last note is older.
const TOUCH_AFTER: Duration = Duration::from_secs(600);
/// A temporary file this old was left by a process that is gone.
const TEMPORARY_AGE: Duration = Duration::from_secs(3600);
const TEMPORARY_PREFIX: &str = "tmp-";
/// A sweep comes after an eighth of the bound was written, and leaves seven.
const SWEEP_SHARE: u64 = 8;

/// Names a frame for ever: files are immutable and their ids are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameKey {
    /// The file whose frame it is.
    pub file: FileId,
    /// Where the frame begins in it.
    pub offset: u64,
}

impl FrameKey {
    /// Directory entries spread over 256 folders.
    fn path(self, root: &Path) -> PathBuf {
        let folded = self.file.bytes().iter().fold(0, |sum, byte| sum ^ byte);
        let [_, _, _, _, _, high, low, _] = self.offset.to_be_bytes();
        let folder = folded ^ high ^ low;
        root.join(format!("{folder:02x}")).join(format!("{}-{:016x}", self.file, self.offset))
    }

    /// What ends the frame's file: another frame, whole as it may be, has another one.
    fn seal(self, frame: &[u8]) -> [u8; SEAL_BYTES] {
        let name = [&self.file.bytes()[..], &self.offset.to_le_bytes()].concat();
        xxh3_64_with_seed(frame, xxh3_64(&name)).to_le_bytes()
    }
}

/// A directory of frames.
pub struct DiskCache {
    shared: Arc<Shared>,
    queue: mpsc::Sender<(FrameKey, Bytes)>,
    _writer: Task,
}

struct Shared {
    root: PathBuf,
    max_bytes: u64,
    env: Env,
}

impl DiskCache {
    /// Opens or makes the directory `root` for at most about `max_bytes` of frames; each further
    /// process that shares it may go an eighth over.
    ///
    /// # Errors
    /// `Unavailable` when the directory cannot be made or read.
    pub async fn open(root: PathBuf, max_bytes: u64, env: &Env) -> Result<DiskCache> {
        let shared = Arc::new(Shared { root, max_bytes, env: env.clone() });
        let swept = shared.blocking(|shared| {
            fs::create_dir_all(&shared.root)?;
            shared.sweep()
        });
        swept.await.map_err(|error| {
            Error::unavailable(format!("the disk cache cannot be used: {}", shared.root.display()))
                .with_source(error)
        })?;
        let (queue, frames) = mpsc::channel(QUEUE_FRAMES);
        let writer = env.spawn(write_all(Arc::clone(&shared), frames));
        Ok(DiskCache { shared, queue, _writer: writer })
    }

    /// The `len` bytes of a frame, as they were put; not checked. Any failure is a miss.
    pub async fn get(&self, key: FrameKey, len: usize) -> Option<Bytes> {
        self.shared.blocking(move |shared| shared.read(key, len)).await.ok()
    }

    /// Keeps a frame that has been checked, a moment later; or not, when the disk does not keep up.
    pub fn offer(&self, key: FrameKey, frame: Bytes) {
        if self.queue.try_send((key, frame)).is_err() {
            tracing::trace!(file = %key.file, offset = key.offset, "disk cache busy: not kept");
        }
    }

    /// Removes a frame that failed its check.
    pub async fn discard(&self, key: FrameKey) {
        tracing::warn!(file = %key.file, offset = key.offset, "disk cache: removing a broken frame");
        let removed =
            self.shared.blocking(move |shared| fs::remove_file(key.path(&shared.root))).await;
        if let Err(error) = removed {
            tracing::debug!(%error, "disk cache: a broken frame stays");
        }
    }
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskCache")
            .field("root", &self.shared.root)
            .field("max_bytes", &self.shared.max_bytes)
            .finish_non_exhaustive()
    }
}

async fn write_all(shared: Arc<Shared>, mut frames: mpsc::Receiver<(FrameKey, Bytes)>) {
    let mut written = 0;
    while let Some((key, frame)) = frames.recv().await {
        written += frame.len() as u64;
        let sweep = written >= shared.max_bytes / SWEEP_SHARE;
        if sweep {
            written = 0;
        }
        let result = shared.blocking(move |shared| {
            shared.write(key, &frame)?;
            if sweep { shared.sweep() } else { Ok(()) }
        });
        if let Err(error) = result.await {
            tracing::debug!(%error, "disk cache: a frame was not kept");
        }
    }
}

impl Shared {
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Shared) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let shared = Arc::clone(self);
        let done = self.env.blocking(move || work(&shared)).await;
        done.unwrap_or_else(|| Err(io::Error::other("shutting down")))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.env.wall_ms())
    }

    fn read(&self, key: FrameKey, len: usize) -> io::Result<Bytes> {
        let path = key.path(&self.root);
        let mut frame = fs::read(&path)?;
        let seal = frame.split_off(frame.len().saturating_sub(SEAL_BYTES));
        if frame.len() != len || seal != key.seal(&frame) {
            fs::remove_file(&path)?;
            return Err(io::Error::other("torn, or another frame"));
        }
        let file = fs::File::open(&path)?;
        let now = self.now();
        if now.duration_since(file.metadata()?.modified()?).is_ok_and(|age| age > TOUCH_AFTER) {
            file.set_modified(now)?;
        }
        Ok(frame.into())
    }

    fn write(&self, key: FrameKey, frame: &[u8]) -> io::Result<()> {
        let path = key.path(&self.root);
        let folder = path.parent().expect("BUG: an entry lies in a folder");
        fs::create_dir_all(folder)?;
        let temporary = folder.join(format!("{TEMPORARY_PREFIX}{:016x}", self.env.random_u64()));
        let sealed = [frame, &key.seal(frame)].concat();
        let result = fs::write(&temporary, sealed).and_then(|()| fs::rename(&temporary, &path));
        if result.is_err() {
            // Whatever is left of it, a later sweep finds.
            fs::remove_file(&temporary).ok();
        }
        result
    }

    /// Removes the least recently used frames down to seven eighths of the bound.
    fn sweep(&self) -> io::Result<()> {
        let mut found = self.scan()?;
        let mut held: u64 = found.iter().map(|entry| entry.bytes).sum();
        let keep = self.max_bytes - self.max_bytes / SWEEP_SHARE;
        found.sort_unstable_by_key(|entry| entry.used);
        for entry in found {
            let abandoned = entry.is_temporary
                && self.now().duration_since(entry.used).is_ok_and(|age| age > TEMPORARY_AGE);
            if held <= keep && !abandoned {
                continue;
            }
            held -= entry.bytes;
            ignore_missing(fs::remove_file(&entry.path))?;
        }
        Ok(())
    }

    fn scan(&self) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.root)? {
            let folder = folder?;
            // Only what this cache makes: two hexadecimal digits.
            let is_ours = folder.file_name().to_str().is_some_and(|name| {
                name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
            if !is_ours || !folder.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(folder.path())? {
                found.extend(Entry::of(&entry?)?);
            }
        }
        Ok(found)
    }
}

struct Entry {
    used: SystemTime,
    bytes: u64,
    is_temporary: bool,
    path: PathBuf,
}

impl Entry {
    /// `None` when another process has just removed it.
    fn of(entry: &fs::DirEntry) -> io::Result<Option<Entry>> {
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_temporary =
            entry.file_name().as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes());
        Ok(Some(Entry {
            used: metadata.modified()?,
            bytes: metadata.len(),
            is_temporary,
            path: entry.path(),
        }))
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> FrameKey {
        FrameKey { file: FileId::from_bytes([n; 16]), offset: u64::from(n) << 16 }
    }

    fn shared(root: &Path, max_bytes: u64) -> Arc<Shared> {
        Arc::new(Shared { root: root.to_owned(), max_bytes, env: Env::system() })
    }

    fn entries(root: &Path) -> usize {
        shared(root, 0).scan().unwrap().len()
    }

    #[tokio::test]
    async fn a_frame_comes_back_from_another_process() {
        let dir = tempfile::tempdir().unwrap();
        shared(dir.path(), 1 << 20).write(key(1), b"frame").unwrap();
        let cache = DiskCache::open(dir.path().into(), 1 << 20, &Env::system()).await.unwrap();
        assert_eq!(cache.get(key(1), 5).await.unwrap(), "frame");
        assert_eq!(cache.get(key(2), 5).await, None);
        cache.discard(key(1)).await;
        cache.discard(key(1)).await;
        assert_eq!(cache.get(key(1), 5).await, None);
    }

    #[tokio::test]
    async fn what_is_offered_is_written_behind() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(dir.path().into(), 1 << 20, &Env::system()).await.unwrap();
        cache.offer(key(3), Bytes::from_static(b"later"));
        while cache.get(key(3), 5).await.is_none() {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_frame_of_another_length_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path(), 1 << 20);
        shared.write(key(1), b"torn").unwrap();
        assert!(shared.read(key(1), 5).is_err());
        assert_eq!(entries(dir.path()), 0);
    }

    #[test]
    fn a_frame_in_anothers_place_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path(), 1 << 20);
        shared.write(key(1), b"one").unwrap();
        shared.write(key(2), b"two").unwrap();
        fs::rename(key(1).path(dir.path()), key(2).path(dir.path())).unwrap();
        assert!(shared.read(key(2), 3).is_err());
        assert_eq!(entries(dir.path()), 0);
    }

    #[test]
    fn a_sweep_keeps_what_was_used_last_and_nothing_foreign_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        // Seven eighths of it are seven frames of ten bytes with their seals.
        let shared = shared(dir.path(), 8 * 18);
        fs::write(dir.path().join("notes.txt"), [0; 500]).unwrap();
        for n in 0..16 {
            shared.write(key(n), &[n; 10]).unwrap();
            let file = fs::File::open(key(n).path(dir.path())).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1000 + u64::from(n))).unwrap();
        }
        // A use long after the write moves it to the end of the queue.
        shared.read(key(2), 10).unwrap();
        shared.sweep().unwrap();
        let kept: Vec<u8> = (0..16).filter(|n| key(*n).path(dir.path()).exists()).collect();
        assert_eq!(kept, [2, 10, 11, 12, 13, 14, 15]);
        assert!(dir.path().join("notes.txt").exists());
    }

    #[test]
    fn temporary_files_of_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path(), 1 << 20);
        shared.write(key(1), b"x").unwrap();
        let folder = key(1).path(dir.path()).parent().unwrap().to_owned();
        fs::write(folder.join("tmp-new"), b"x").unwrap();
        fs::write(folder.join("tmp-old"), b"x").unwrap();
        let old = fs::File::open(folder.join("tmp-old")).unwrap();
        old.set_modified(UNIX_EPOCH).unwrap();
        shared.sweep().unwrap();
        assert!(folder.join("tmp-new").exists() && !folder.join("tmp-old").exists());
        assert_eq!(entries(dir.path()), 2);
    }
}
