//! The postmaster that owns the data directory, if there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::leftovers;
use crate::postgres::Postgres;
use crate::settings::Settings;

/// A live postmaster, as `postmaster.pid` and `/proc` describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postmaster {
    /// Process ID.
    pub pid: i32,
    /// A standalone backend (`postgres --single`), which no client reaches.
    pub standalone: bool,
    /// TCP port.
    pub port: Option<u16>,
    /// Directory of its Unix socket.
    pub socket_dir: Option<PathBuf>,
    /// What it says of itself: `starting`, `ready`, `standby`, `stopping`.
    pub status: Option<String>,
}

impl Postmaster {
    /// Reads `postmaster.pid` (eight lines; the later ones appear as start-up goes on).
    fn parse(text: &str) -> Option<Self> {
        let line = |n: usize| text.lines().nth(n).map(str::trim).filter(|l| !l.is_empty());
        let id = line(0)?.parse::<i32>().ok()?;
        Some(Self {
            // A standalone backend writes its ID negated.
            pid: id.checked_abs().filter(|pid| *pid > 1)?,
            standalone: id < 0,
            port: line(3).and_then(|l| l.parse().ok()),
            socket_dir: line(4).map(PathBuf::from),
            status: line(7).map(str::to_owned),
        })
    }
}

impl Postgres {
    /// The live postmaster of this data directory. A left-over `postmaster.pid`, also one whose
    /// process ID belongs to another program by now, gives `None`.
    ///
    /// # Errors
    /// `postmaster.pid` cannot be read, or not within the time.
    pub async fn postmaster(&self, within: Duration) -> Result<Option<Postmaster>> {
        let settings = self.settings();
        blocking("the look for a postmaster", within, move || find(&settings)).await
    }

    /// Process IDs of all PostgreSQL processes that work in this data directory. Backends without a
    /// postmaster (it was killed) are among them; a new postmaster cannot start beside them.
    ///
    /// # Errors
    /// The data directory cannot be read, or not within the time.
    pub async fn processes(&self, within: Duration) -> Result<Vec<i32>> {
        let settings = self.settings();
        blocking("the look for processes", within, move || working_in(&settings.data_dir)).await
    }

    /// Makes the server read its configuration again, by SIGHUP to the postmaster. Needs no
    /// connection, so it works with all connection slots taken.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or the signal was refused.
    pub async fn reload(&self, within: Duration) -> Result<()> {
        let settings = self.settings();
        blocking("the reload", within, move || signal(&settings, "reload", Signal::SIGHUP)).await
    }
}

/// As [`Postgres::postmaster`], on the calling thread.
pub(crate) fn find(settings: &Settings) -> Result<Option<Postmaster>> {
    let path = settings.data_dir.join("postmaster.pid");
    let Some(bytes) = files::read_optional(&path)? else { return Ok(None) };
    let found = Postmaster::parse(&String::from_utf8_lossy(&bytes));
    let Some(dir) = real_path(&settings.data_dir)? else { return Ok(None) };
    Ok(found.filter(|found| works_in(found.pid, &dir)))
}

/// Sends a signal to the postmaster of this data directory.
pub(crate) fn signal(settings: &Settings, doing: &'static str, signal: Signal) -> Result<()> {
    let not_running = || Error::NotRunning { doing, data_dir: settings.data_dir.clone() };
    let pid = find(settings)?.ok_or_else(not_running)?.pid;
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(not_running()),
        Err(errno) => {
            Err(Error::io("signal", &PathBuf::from(format!("/proc/{pid}")))(errno.into()))
        }
    }
}

/// Removes `postmaster.pid` and the lock of the socket, both of a postmaster of this data directory
/// whose process is gone. PostgreSQL does so itself, except when the process ID was given to
/// another process of the same user, as after a reboot, or when nobody has reaped the dead one yet.
pub(crate) fn remove_stale_locks(settings: &Settings) -> Result<()> {
    if find(settings)?.is_some() || !working_in(&settings.data_dir)?.is_empty() {
        return Ok(());
    }
    let path = settings.data_dir.join("postmaster.pid");
    if files::remove_if_there(&path)? {
        tracing::info!(file = %path.display(), "removed the pid file of a dead postmaster");
    }
    let Some(dir) = &settings.socket_dir else { return Ok(()) };
    let lock = dir.join(format!(".s.PGSQL.{}.lock", settings.port));
    if is_lock_of(&lock, &settings.data_dir)? && files::remove_if_there(&lock)? {
        tracing::info!(file = %lock.display(), "removed the socket's lock of a dead postmaster");
    }
    Ok(())
}

/// The lock of a socket has the first lines of a `postmaster.pid`; the second is the data directory.
fn is_lock_of(lock: &Path, data_dir: &Path) -> Result<bool> {
    let Some(bytes) = files::read_optional(lock)? else { return Ok(false) };
    let text = String::from_utf8_lossy(&bytes);
    let named = text.lines().nth(1).map(|line| Path::new(line.trim()).canonicalize());
    Ok(named.is_some_and(|named| named.ok() == data_dir.canonicalize().ok()))
}

/// PostgreSQL's processes in this directory; in one that is not there, none.
pub(crate) fn working_in(data_dir: &Path) -> Result<Vec<i32>> {
    let Some(dir) = real_path(data_dir)? else { return Ok(Vec::new()) };
    Ok(leftovers::processes().filter(|pid| works_in(*pid, &dir)).collect())
}

fn real_path(dir: &Path) -> Result<Option<PathBuf>> {
    match dir.canonicalize() {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", dir)(error)),
    }
}

/// Whether this process is PostgreSQL and its working directory (all of PostgreSQL's processes
/// change to it) is the data directory, by its real path. A zombie has no working directory.
fn works_in(pid: i32, dir: &Path) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let is_postgres = matches!(name.trim(), "postgres" | "postmaster");
    is_postgres && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_pid_file() {
        let text = "4711\n/srv/data\n1700000000\n5433\n/tmp\nlocalhost\n  1 2\nready   \n";
        let found = Postmaster::parse(text).unwrap();
        assert_eq!((found.pid, found.port), (4711, Some(5433)));
        assert_eq!(found.status.as_deref(), Some("ready"));
        assert_eq!(found.socket_dir, Some(PathBuf::from("/tmp")));
        assert_eq!(Postmaster::parse("-4711\n").unwrap().pid, 4711);
    }

    #[test]
    fn does_not_trust_nonsense() {
        for text in ["", "\n", "x\n", "0\n", "1\n", "-2147483648\n"] {
            assert_eq!(Postmaster::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn another_program_with_the_same_pid_is_not_a_postmaster() {
        let dir = std::env::temp_dir().join(format!("hart-pm-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let settings = Settings::new("demo", "n1", &dir);
        let pid_file = dir.join("postmaster.pid");
        fs::write(&pid_file, format!("{}\n{}\n", std::process::id(), dir.display())).unwrap();
        assert_eq!(find(&settings).unwrap(), None);
        let socket = |port: u16| dir.join(format!(".s.PGSQL.{port}.lock"));
        let mut settings = settings;
        settings.socket_dir = Some(dir.clone());
        let (ours, anothers) = (socket(settings.port), socket(settings.port + 1));
        fs::copy(&pid_file, &ours).unwrap();
        fs::write(&anothers, format!("{}\n/elsewhere\n", std::process::id())).unwrap();
        remove_stale_locks(&settings).unwrap();
        assert!(!pid_file.exists() && !ours.exists());
        settings.port += 1;
        remove_stale_locks(&settings).unwrap();
        assert!(anothers.exists(), "it belongs to another data directory");
        fs::remove_dir_all(&dir).unwrap();
    }
}
