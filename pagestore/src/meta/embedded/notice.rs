//! Noticing what other processes commit.
//!
//! Every writer writes a byte to the notify file after its commit; every process that has the store open
//! watches that file. A writer killed in between is noticed by looking at the tree now and then. Nothing
//! rests on a notice but how soon something is seen.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::shared::Shared;

const NOTIFY_FILE: &str = "notify";
/// How often the tree is looked at without a notice.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often where the system gives no notices (its limit of watched files is reached).
const LOOK_EVERY_WITHOUT_NOTICES: Duration = Duration::from_millis(20);
/// Room for notices read at once; the rest is read the next time.
const BUFFER_BYTES: usize = 4096;

/// The notify file.
#[derive(Debug)]
pub(super) struct Notifier(File);

impl Notifier {
    pub(super) fn open(dir: &Path) -> io::Result<Notifier> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(NOTIFY_FILE))?;
        Ok(Notifier(file))
    }

    /// Wakes every process that has the store open.
    pub(super) fn notify(&self) {
        // Who is not woken looks by itself soon.
        if let Err(error) = self.0.write_all_at(b"!", 0) {
            tracing::debug!(%error, "embedded store: notify file cannot be written");
        }
    }
}

/// Where notices arrive.
pub(super) struct Notices(Option<OwnedFd>);

impl Notices {
    pub(super) fn open(dir: &Path) -> Notices {
        let open = || -> io::Result<OwnedFd> {
            let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            inotify::add_watch(&notices, dir.join(NOTIFY_FILE), WatchFlags::MODIFY)?;
            Ok(notices)
        };
        match open() {
            Ok(notices) => Notices(Some(notices)),
            Err(error) => {
                tracing::warn!(%error, "embedded store: no notices from the file system; polling");
                Notices(None)
            }
        }
    }

    /// Waits for a notice, or until it is time to look without one.
    fn wait(&self) {
        let limit = if self.0.is_some() { LOOK_EVERY } else { LOOK_EVERY_WITHOUT_NOTICES };
        let limit = Timespec::try_from(limit).expect("BUG: a second fits a time span");
        let mut polled: Vec<PollFd<'_>> =
            self.0.iter().map(|notices| PollFd::new(notices, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&limit)) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        drop(polled);
        let mut buffer = [0u8; BUFFER_BYTES];
        if let Some(notices) = &self.0
            && let Err(error) = rustix::io::read(notices, &mut buffer)
            && error != Errno::AGAIN
        {
            tracing::debug!(%error, "embedded store: notices cannot be read");
        }
    }
}

/// The noticing thread: until the store is closed.
pub(super) fn run(shared: &Arc<Shared>, notices: &Notices) {
    while !shared.is_closing() {
        if shared.is_behind() {
            shared.look();
        }
        notices.wait();
    }
}
