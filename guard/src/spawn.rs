//! Starting a guard.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hart_ha::time::Time;
use rustix::fs::FlockOperation;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;

use crate::types::{Armed, to_ns};
use crate::watchdog::WatchdogSpec;

/// What to start. All paths are absolute; the socket's is at most 107 bytes long (unix(7)).
#[derive(Clone, Debug)]
pub struct Spec {
    /// The `hart` binary.
    pub program: PathBuf,
    /// Where the guard listens.
    pub socket: PathBuf,
    /// Locked by the guard for as long as it lives; one per data directory.
    pub lock: PathBuf,
    /// Where the guard leaves the [`crate::ExitRecord`]. Best in a directory on tmpfs, so that a
    /// hanging disk cannot delay the news.
    pub exit_file: PathBuf,
    /// Gets the output of PostgreSQL and the guard's own lines, appended.
    pub log: PathBuf,
    /// An empty cgroup for PostgreSQL (see [`crate::cgroup::prepare`]).
    pub cgroup: Option<PathBuf>,
    /// Made, empty, when PostgreSQL has ended: `standby.signal` in its data directory.
    pub standby_signal: Option<PathBuf>,
    /// The program and its arguments, visible to every user of the machine.
    pub postgres: Vec<OsString>,
    /// The whole environment of PostgreSQL.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory of both.
    pub cwd: PathBuf,
    /// A lease that holds from the first moment on.
    pub arm: Option<Armed>,
    /// From SIGQUIT to SIGKILL at a fence; a third of the lease's margin is right.
    pub grace: Duration,
    /// The kernel's watchdog, where one is to be used.
    pub watchdog: Option<WatchdogSpec>,
}

/// A guard that runs, with the postmaster it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Process id of the guard.
    pub guard_pid: i32,
    /// Process id of the postmaster.
    pub postmaster_pid: i32,
}

/// Why no PostgreSQL was started. The texts are the guard's own.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// Another guard holds the lock: that data directory's PostgreSQL runs.
    #[error("{0}")]
    Locked(String),
    /// The program could not be executed; the text names it and the reason.
    #[error("{0}")]
    Exec(String),
    /// The guard did not understand its arguments: the binary is of another version.
    #[error("the guard refused its arguments: {0}")]
    Usage(String),
    /// Anything else that the guard could not do.
    #[error("the guard could not start: {0}")]
    Failed(String),
    /// The guard itself could not be started.
    #[error("cannot {what}")]
    Io {
        /// What could not be done.
        what: String,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// No answer in time. Either the lock is held by now, or nothing is started any more.
    #[error("the guard did not say within {after:?} how the start went")]
    Timeout {
        /// The time given to it.
        after: Duration,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> SpawnError {
    let what = what.into();
    move |source| SpawnError::Io { what, source }
}

/// Starts a guard and through it PostgreSQL; returns once the program runs (which is long before
/// it accepts connections). The guard forks itself off and is nobody's child. One that stands still
/// before it has its lock, and for longer than the timeout, starts nothing when it goes on: whoever
/// does not see its lock after that may believe that no PostgreSQL comes of it.
///
/// # Errors
/// See [`SpawnError`]; except after [`SpawnError::Timeout`] nothing is left running.
pub async fn spawn(spec: &Spec, timeout: Duration) -> Result<Started, SpawnError> {
    let by = hart_clock::now() + timeout;
    let said = tokio::time::timeout(timeout, start(spec, by))
        .await
        .map_err(|_| SpawnError::Timeout { after: timeout })??;
    understand(&said)
}

async fn start(spec: &Spec, by: Time) -> Result<String, SpawnError> {
    let (reader, writer) = io::pipe().map_err(io_error("make a pipe"))?;
    let program = spec.program.display();
    let mut child = Command::new(&spec.program)
        .args(arguments(spec, by))
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.cwd)
        .stdin(Stdio::null())
        .stdout(OwnedFd::from(writer))
        .spawn()
        .map_err(io_error(format!("execute {program} in {}", spec.cwd.display())))?;
    let mut reader =
        pipe::Receiver::from_owned_fd(reader.into()).map_err(io_error("read from a pipe"))?;
    child.wait().await.map_err(io_error(format!("wait for {program}")))?;
    let mut said = String::new();
    reader.read_to_string(&mut said).await.map_err(io_error("read the guard's answer"))?;
    Ok(said)
}

fn arguments(spec: &Spec, by: Time) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["guard".into(), "--detach".into()];
    let mut option = |name: &str, value: &OsStr| args.extend([name.into(), value.to_owned()]);
    option("--socket", spec.socket.as_os_str());
    option("--lock", spec.lock.as_os_str());
    option("--exit-file", spec.exit_file.as_os_str());
    option("--log", spec.log.as_os_str());
    option("--start-by-ns", to_ns(by).to_string().as_ref());
    option("--fence-grace-ms", spec.grace.as_millis().to_string().as_ref());
    if let Some(signal) = &spec.standby_signal {
        option("--standby-signal", signal.as_os_str());
    }
    if let Some(cgroup) = &spec.cgroup {
        option("--cgroup", cgroup.as_os_str());
    }
    if let Some(armed) = &spec.arm {
        option("--term", armed.term.to_string().as_ref());
        option("--deadline-ns", to_ns(armed.deadline).to_string().as_ref());
    }
    if let Some(watchdog) = &spec.watchdog {
        args.extend(watchdog_arguments(watchdog));
    }
    args.push("--".into());
    args.extend(spec.postgres.iter().cloned());
    args
}

fn watchdog_arguments(spec: &WatchdogSpec) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--watchdog".into(), spec.device.clone().into()];
    if spec.testing {
        args.push("--watchdog-testing".into());
    }
    if spec.required {
        args.push("--watchdog-required".into());
    }
    if let Some(safety) = spec.safety_margin {
        let ms = u64::try_from(safety.as_millis()).unwrap_or(u64::MAX);
        args.extend(["--watchdog-safety-ms".into(), ms.to_string().into()]);
    }
    args
}

fn understand(said: &str) -> Result<Started, SpawnError> {
    let line = said.trim_end();
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "started" => {
            let mut pids = rest.split(' ').map(str::parse);
            if let (Some(Ok(guard_pid)), Some(Ok(postmaster_pid))) = (pids.next(), pids.next()) {
                return Ok(Started { guard_pid, postmaster_pid });
            }
            Err(SpawnError::Failed(format!("unexpected answer {line:?}")))
        }
        "locked:" => Err(SpawnError::Locked(rest.to_owned())),
        "exec:" => Err(SpawnError::Exec(rest.to_owned())),
        "usage:" => Err(SpawnError::Usage(rest.to_owned())),
        "failed:" => Err(SpawnError::Failed(rest.to_owned())),
        "" => Err(SpawnError::Failed("it ended without a word".to_owned())),
        _ => Err(SpawnError::Failed(format!("unexpected answer {line:?}"))),
    }
}

/// Whether a guard lives, by the lock that it holds. Asking takes the lock for a moment where it
/// is free, so ask only in the process that starts guards, and not while it starts one.
///
/// # Errors
/// The file cannot be opened or locked. That it does not exist means that no guard lives.
pub fn guard_lives(lock: &Path) -> io::Result<bool> {
    let file = match File::open(lock) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_the_guard_says() {
        let started = understand("started 12 13\n").unwrap();
        assert_eq!(started, Started { guard_pid: 12, postmaster_pid: 13 });
        assert!(
            matches!(understand("locked: held"), Err(SpawnError::Locked(text)) if text == "held")
        );
        assert!(matches!(understand("exec: no x"), Err(SpawnError::Exec(text)) if text == "no x"));
        assert!(matches!(understand("usage: y"), Err(SpawnError::Usage(_))));
        for odd in ["", "started", "started x y", "failed: z", "Segmentation fault"] {
            assert!(matches!(understand(odd), Err(SpawnError::Failed(_))), "{odd}");
        }
    }
}
