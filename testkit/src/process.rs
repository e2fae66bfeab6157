//! A process that ends with the value.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::procfs;

/// A child process whose output goes to a log file and that is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, so that Ctrl-C in a terminal reaches it
    /// only through this value. Output is appended to the file `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program not be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = open_log(log)?;
        let errors = output.try_clone()?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child =
            command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// How it ended, or `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        procfs::signal(self.id(), signal)
    }

    /// Stops it with SIGSTOP, as a hanging machine would.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Process::freeze`].
    ///
    /// # Errors
    /// When it is gone already.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills it with SIGKILL and reaps it; nothing when it has ended already.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop with SIGTERM and waits.
    ///
    /// # Errors
    /// When it has not ended at the deadline.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if self.exit_status().is_none() {
            self.signal(Signal::TERM)?;
        }
        self.wait(deadline)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended at the deadline; quotes the end of its log.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if !procfs::wait_gone(self.id(), deadline) {
            anyhow::bail!("process {} did not end within {deadline:?}\n{}", self.id(), self.tail());
        }
        Ok(self.child.wait()?)
    }

    /// The last lines of its log, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log(), 30)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

fn open_log(log: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(log);
    opened.with_context(|| format!("cannot open log {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_and_the_process_ends_with_the_value() {
        let dir = crate::TempDir::new().expect("dir");
        let log = dir.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo hello; echo world >&2"]);
        let mut process = Process::start(&mut command, &log).expect("start");
        assert!(process.wait(Duration::from_secs(30)).expect("ended").success());
        assert_eq!(process.log(), "hello\nworld\n");

        let sleeper = Process::start(Command::new("sleep").arg("600"), &log).expect("start");
        let pid = sleeper.id();
        sleeper.freeze().expect("frozen");
        assert!(procfs::alive(pid));
        drop(sleeper);
        assert!(!procfs::alive(pid));
    }
}
