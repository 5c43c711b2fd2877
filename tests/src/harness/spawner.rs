//! One thread that starts every server and lives as long as the test process.
//!
//! A server asks the kernel to be killed when its parent dies. The kernel takes the thread that
//! started it for the parent, and a test's own thread ends with the test.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

type Order = (Command, Sender<io::Result<Child>>);

static SPAWNER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
    let (orders, queue) = channel::<Order>();
    std::thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for (mut command, reply) in queue {
                // The one who asked may have given up; then the child is reaped when it dies.
                let _ = reply.send(command.spawn());
            }
        })
        .unwrap();
    Mutex::new(orders)
});

/// Starts `command` so that it dies with this process.
#[allow(unsafe_code)]
pub(super) fn spawn(mut command: Command) -> io::Result<Child> {
    let parent = getpid();
    // SAFETY: between fork and exec only two system calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        });
    }
    let (reply, answer) = channel();
    SPAWNER.lock().unwrap().send((command, reply)).unwrap();
    answer.recv().unwrap()
}
