//! A PostgreSQL whose guard is dead: killed, and seen to be gone.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hart_ha::time::Time;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thiserror::Error;
use tokio::io::Interest;

use crate::watched::watched;

/// Between two looks at a zombie; no event tells of its end.
const ROUND: Duration = Duration::from_millis(5);
/// A parent that has not taken note of a dead child by then never will.
const REAPED: Duration = Duration::from_secs(1);

/// Why processes of a data directory may be left.
#[derive(Debug, Error)]
pub enum KillError {
    /// The data directory or the list of processes cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which of them.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// A process is another user's.
    #[error("cannot kill process {pid} of the data directory {}; end it by hand", data_dir.display())]
    Refused {
        /// The process.
        pid: i32,
        /// The data directory.
        data_dir: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// It outlived the deadline: most likely it hangs in the kernel, on a disk.
    #[error("process {pid} is left after SIGKILL")]
    Left {
        /// The process.
        pid: i32,
    },
}

/// Kills every process of a data directory's PostgreSQL and returns how many they were, when the
/// kernel says that all of them are gone. For use where no guard lives ([`crate::guard_lives`]), or
/// where it is frozen: `when_dead` is called when nothing of them runs any more, and is the place to
/// kill such a guard, which would never take note of its dead children.
///
/// `postmaster` is the process id from `postmaster.pid`; it counts only where that process works
/// in `data_dir`, as every postmaster does, so that a number used again by a stranger does no
/// harm. With it go all its descendants, and without it every process named `postgres` that works
/// in `data_dir`: backends that outlived their postmaster.
///
/// # Errors
/// See [`KillError`].
pub async fn kill_tree(
    postmaster: Option<i32>,
    data_dir: &Path,
    deadline: Time,
    when_dead: impl FnOnce(),
) -> Result<usize, KillError> {
    let read_error = |path: &Path| {
        let path = path.to_owned();
        move |source| KillError::Read { path, source }
    };
    let dir = fs::canonicalize(data_dir).map_err(read_error(data_dir))?;
    let mut held: Vec<Held> = Vec::new();
    // Stopped processes start no others, so this comes to an end with all of them held.
    loop {
        let all = processes().map_err(read_error(Path::new("/proc")))?;
        let new: Vec<_> =
            all.into_iter().filter(|it| belongs(it, postmaster, &dir, &held)).collect();
        if new.is_empty() {
            break;
        }
        for process in new {
            held.extend(Held::stop(process, &dir)?);
        }
    }
    for process in &held {
        process.signal(Signal::KILL, &dir)?;
    }
    let count = held.len();
    let mut dead = Vec::with_capacity(count);
    for process in held {
        dead.push(process.dead(deadline).await?);
    }
    when_dead();
    for process in dead {
        process.gone(deadline).await;
    }
    Ok(count)
}

fn belongs(process: &Process, postmaster: Option<i32>, dir: &Path, held: &[Held]) -> bool {
    let is_held = |pid: i32| held.iter().any(|held| held.process.pid == pid);
    if process.ended() || is_held(process.pid) || process.pid == own_pid() {
        return false;
    }
    let named = postmaster == Some(process.pid) || process.name == "postgres";
    is_held(process.parent) || (named && process.works_in(dir))
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// A line of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub pid: i32,
    pub name: String,
    pub parent: i32,
    /// One letter, as `ps` shows it.
    pub state: char,
    /// In clock ticks after boot; with the process id it names a process for ever.
    started: u64,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: i32, stat: &str) -> Option<Self> {
        // The name is in parentheses and may contain some itself.
        let (_, rest) = stat.split_once('(')?;
        let (name, rest) = rest.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            state: fields.first()?.chars().next()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// A zombie: nothing of it runs.
    pub fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Waits until its parent has taken note of its end: a zombie's number still keeps a new
    /// postmaster from starting, for it looks alive to the check of `postmaster.pid`. Where a
    /// parent never does, as in a container whose process 1 reaps nobody, that is not waited for.
    async fn gone(&self, deadline: Time) {
        let deadline = deadline.min(hart_clock::now() + REAPED);
        let is_listed = || Self::read(self.pid).is_some_and(|now| now.started == self.started);
        while is_listed() && hart_clock::now() < deadline {
            tokio::time::sleep(ROUND).await;
        }
    }

    pub fn works_in(&self, dir: &Path) -> bool {
        fs::read_link(format!("/proc/{}/cwd", self.pid)).is_ok_and(|cwd| cwd == dir)
    }
}

pub(crate) fn processes() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(pid.and_then(Process::read));
    }
    Ok(found)
}

/// A process by a descriptor that cannot come to mean another one (`pidfd_open(2)`).
struct Held {
    process: Process,
    pidfd: OwnedFd,
}

impl Held {
    /// Stops a process; `None` where it has ended in the meantime.
    fn stop(process: Process, dir: &Path) -> Result<Option<Self>, KillError> {
        let Some(pid) = Pid::from_raw(process.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(refused(process.pid, dir, errno)),
        };
        // Only now can the number not be used again.
        let same = Process::read(process.pid).is_some_and(|now| now.started == process.started);
        if !same {
            return Ok(None);
        }
        let held = Self { process, pidfd };
        held.signal(Signal::STOP, dir)?;
        Ok(Some(held))
    }

    fn signal(&self, signal: Signal, dir: &Path) -> Result<(), KillError> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(refused(self.process.pid, dir, errno)),
        }
    }

    /// Waits until nothing of the process runs.
    async fn dead(self, deadline: Time) -> Result<Process, KillError> {
        let pid = self.process.pid;
        // A pidfd can be read once its process has ended.
        let ended = watched(self.pidfd, Interest::READABLE)
            .map_err(|source| KillError::Read { path: format!("/proc/{pid}").into(), source })?;
        let left = deadline.since(hart_clock::now());
        match tokio::time::timeout(left, ended.readable()).await {
            Ok(Ok(_)) => Ok(self.process),
            _ => Err(KillError::Left { pid }),
        }
    }
}

fn refused(pid: i32, dir: &Path, errno: rustix::io::Errno) -> KillError {
    KillError::Refused { pid, data_dir: dir.to_owned(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_with_any_name() {
        let numbers = (3..=52).map(|n| if n == 4 { "41".into() } else { n.to_string() });
        let mut fields: Vec<String> = numbers.collect();
        fields[0] = "Z".into();
        let stat = format!("42 (a) b (c) {}", fields.join(" "));
        let process = Process::parse(42, &stat).unwrap();
        assert_eq!((process.name.as_str(), process.parent), ("a) b (c", 41));
        assert_eq!((process.ended(), process.started), (true, 22));
        assert_eq!(Process::parse(42, "42 (x"), None);
        assert_eq!(Process::parse(42, "42 (x) R"), None);
    }

    #[test]
    fn reads_itself() {
        let own = Process::read(own_pid()).unwrap();
        assert!(own.works_in(&std::env::current_dir().unwrap()));
        assert!(!own.works_in(Path::new("/proc")));
        let same = |found: &Process| (found.pid, found.started) == (own.pid, own.started);
        assert!(processes().unwrap().iter().any(same));
    }
}
