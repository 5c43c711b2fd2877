//! The lock between processes: at most one writes at a time, and each gets its turn.
//!
//! The tree has a lock of its own, but that one was seen to lose a wake-up when its holder is killed, and
//! to starve all but one. So it is only ever taken inside this one, where nobody waits for it. `flock`
//! is released by the kernel whenever its holder dies. A single `flock` starves, too: who releases it and
//! asks again at once mostly wins. Hence two: who wants to write queues at the first, takes the second,
//! and lets the first go; the last writer has to queue behind whoever waits at the first.
//!
//! `flock` belongs to the open file, so each process must open the files itself (never inherit them
//! over a fork).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

const QUEUE_FILE: &str = "queue.lock";
const WRITE_FILE: &str = "write.lock";

/// The two lock files, opened by this process.
#[derive(Debug)]
pub(super) struct Turnstile {
    queue: File,
    write: File,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'t>(&'t Turnstile);

impl Turnstile {
    /// Opens or makes the lock files in `dir`.
    pub(super) fn open(dir: &Path) -> io::Result<Turnstile> {
        let open = |name: &str| {
            OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(name))
        };
        Ok(Turnstile { queue: open(QUEUE_FILE)?, write: open(WRITE_FILE)? })
    }

    /// Waits for the turn. At most one thread of a process may ask at a time: to the kernel, the threads
    /// of a process are one.
    pub(super) fn wait(&self) -> io::Result<Turn<'_>> {
        lock(&self.queue)?;
        let turn = lock(&self.write).map(|()| Turn(self));
        unlock(&self.queue)?;
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = unlock(&self.0.write) {
            tracing::error!(%error, "embedded store: lock file cannot be unlocked");
        }
    }
}

fn lock(file: &File) -> io::Result<()> {
    retried(|| flock(file, FlockOperation::LockExclusive))
}

fn unlock(file: &File) -> io::Result<()> {
    retried(|| flock(file, FlockOperation::Unlock))
}

/// A signal may interrupt the wait; the wait goes on.
fn retried(mut call: impl FnMut() -> Result<(), Errno>) -> io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_turn() {
        let dir = tempfile::tempdir().unwrap();
        let counter = std::sync::Mutex::new(0u32);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // Each thread opens its own files, as each process does.
                    let turnstile = Turnstile::open(dir.path()).unwrap();
                    for _ in 0..50 {
                        let _turn = turnstile.wait().unwrap();
                        let mut alone = counter.try_lock().unwrap();
                        *alone += 1;
                    }
                });
            }
        });
        assert_eq!(*counter.lock().unwrap(), 200);
    }
}
