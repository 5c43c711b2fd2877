//! A process of ours: started, stopped and killed by its id.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{READY_WITHIN, spawner, wait_for};

/// How long a process may take to stop once it was told to.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
/// Lines of a server's log that an error shows.
const LOG_LINES: usize = 30;

/// A process that dies with its value, or with the test process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

/// Why a server did not start.
#[derive(Debug)]
pub struct StartError(String);

impl StartError {
    pub(super) fn port_was_taken(&self) -> bool {
        self.0.to_lowercase().contains("address already in use")
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Process {
    /// Starts `command`; what it prints is appended to the file `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Process, StartError> {
        let name = command.get_program().to_string_lossy().into_owned();
        let out = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let child = spawner::spawn(command).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                StartError(format!("{name} is not installed; run ./dev.sh setup"))
            }
            _ => StartError(format!("cannot start {name}: {error}")),
        })?;
        Ok(Process { child, name, log: log.to_owned(), ended: None })
    }

    /// Waits until `ready` says so; fails when the process ends before.
    pub fn wait_ready(&mut self, mut ready: impl FnMut() -> bool) -> Result<(), StartError> {
        let outcome = wait_for(READY_WITHIN, || {
            if ready() {
                return Some(Ok(()));
            }
            self.exit_status().map(|status| Err(format!("ended with {status}")))
        });
        let outcome = outcome.unwrap_or_else(|| Err("was not ready in time".to_owned()));
        outcome.map_err(|why| self.failure(&why))
    }

    /// That something is wrong with it, with what it said last.
    pub(super) fn failure(&self, why: &str) -> StartError {
        StartError(format!("{} {why}; its last words:\n{}", self.name, self.last_words()))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.ended = self.ended.or_else(|| self.child.try_wait().unwrap());
        self.ended
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_for(limit, || self.exit_status())
    }

    /// Waits for its end, and gives the most memory that it had, in bytes.
    pub fn wait_for_peak(&mut self, limit: Duration) -> Option<(ExitStatus, u64)> {
        let status = format!("/proc/{}/status", self.child.id());
        let mut peak = 0;
        wait_for(limit, || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            // Only rises; what came in its very last moments is missed. Gone once it has ended.
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            peak = peak.max(kib.unwrap_or(0) << 10);
            self.exit_status()
        })
        .map(|status| (status, peak))
    }

    /// Kills it at once, as a crash would.
    pub fn kill9(&mut self) {
        if self.exit_status().is_none() {
            self.signal(Signal::KILL);
            self.ended = Some(self.child.wait().unwrap());
        }
    }

    /// Asks it to end.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Freezes it: it keeps its connections and answers nothing.
    pub fn stop(&mut self) {
        self.signal(Signal::STOP);
        // The signal is only sent by then: on a busy machine threads go on for a while.
        let stopped = wait_for(STOPPED_WITHIN, || self.is_stopped().then_some(()));
        assert!(stopped.is_some(), "{} did not stop", self.name);
    }

    /// True when each of its threads is stopped, or gone.
    fn is_stopped(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.child.id());
        let Ok(tasks) = std::fs::read_dir(tasks) else { return true };
        tasks.flatten().all(|task| {
            let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { return true };
            // The name in parentheses may hold anything; the state follows it.
            let state =
                stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
            matches!(state, Some('T' | 't' | 'Z' | 'X'))
        })
    }

    /// Lets it go on.
    pub fn cont(&mut self) {
        self.signal(Signal::CONT);
    }

    /// The end of what it printed.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn signal(&mut self, signal: Signal) {
        // A process that has been waited for has given its id back.
        if self.exit_status().is_none() {
            kill_process(self.id(), signal).unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}
