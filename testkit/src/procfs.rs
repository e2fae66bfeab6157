//! Processes as `/proc` shows them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// How long a process may take to go after SIGKILL.
const DEATH: Duration = Duration::from_secs(10);

/// Whether a process with this id exists and is not a zombie.
#[must_use]
pub fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The state letter in `/proc/PID/stat`, after the name in parentheses.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// All process ids.
pub(crate) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Processes other than this one that belong to the directory `path`: their command line names
/// something in it, they work in it, or they write their output there. Finds an agent, a guard, a
/// postmaster and its children, whoever their parent is now.
pub(crate) fn using_path(path: &Path) -> Vec<u32> {
    let own = std::process::id();
    pids().into_iter().filter(|pid| *pid != own && uses_path(*pid, path)).collect()
}

fn uses_path(pid: u32, path: &Path) -> bool {
    let inside = |link: &str| {
        fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|target| target.starts_with(path))
    };
    // With the slash, for `/tmp/n1` is not `/tmp/n10`.
    let wanted = path.join("");
    let wanted = wanted.as_os_str().as_bytes();
    ["cwd", "fd/1", "fd/2"].into_iter().any(inside)
        || fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(wanted.len().max(1)).any(|part| part == wanted))
}

/// Processes other than this one in the network namespace with this inode number.
pub(crate) fn in_namespace(inode: u64) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let own = std::process::id();
    let inside = |pid: &u32| {
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found.ino() == inode)
    };
    pids().into_iter().filter(|pid| *pid != own && inside(pid)).collect()
}

/// Stops with SIGSTOP what `find` finds, again and again until it finds nothing that runs, for a
/// process may fork while it is being looked for.
///
/// # Errors
/// When processes go on after several rounds.
pub fn freeze_all(find: impl Fn() -> Vec<u32>) -> Result<()> {
    for _ in 0..500 {
        let running: Vec<u32> = find().into_iter().filter(|pid| runs(*pid)).collect();
        if running.is_empty() {
            return Ok(());
        }
        for pid in running {
            // It may have ended meanwhile.
            let _ = signal(pid, Signal::STOP);
        }
    }
    anyhow::bail!("processes {:?} go on after SIGSTOP", find())
}

/// Lets processes go on that were stopped with SIGSTOP; those that have ended are left out.
pub fn thaw(pids: &[u32]) {
    for pid in pids {
        let _ = signal(*pid, Signal::CONT);
    }
}

/// Neither stopped nor ended. One in uninterruptible sleep stops before it comes back to itself.
fn runs(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'T' | 't' | 'Z' | 'X' | 'D'))
}

/// The name of a process's program, its first 15 bytes.
pub(crate) fn program(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// What a process calls itself: its command line, which PostgreSQL's processes rewrite.
#[must_use]
pub fn title(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    Some(text.trim_end().to_owned())
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let target = to_pid(pid)?;
    kill_process(target, signal).with_context(|| format!("cannot send {signal:?} to {pid}"))
}

/// SIGKILLs what `find` finds, again and again until it finds nothing, for a process may fork
/// while it is being looked for.
///
/// # Errors
/// When processes remain after several rounds.
pub(crate) fn kill_all(find: impl Fn() -> Vec<u32>) -> Result<()> {
    for _ in 0..50 {
        let found: Vec<u32> = find().into_iter().filter(|pid| alive(*pid)).collect();
        if found.is_empty() {
            return Ok(());
        }
        found.iter().for_each(|pid| kill_and_wait(*pid));
    }
    anyhow::bail!("processes {:?} survive SIGKILL", find())
}

/// A process file descriptor cannot mean another process that got the same number meanwhile.
fn kill_and_wait(pid: u32) {
    let Ok(target) = to_pid(pid) else { return };
    let Ok(process) = pidfd_open(target, PidfdFlags::empty()) else { return };
    let _ = pidfd_send_signal(&process, Signal::KILL);
    wait_readable(&process, DEATH);
}

/// Waits until the process has ended, whoever its parent is. False when it has not in time.
pub(crate) fn wait_gone(pid: u32, deadline: Duration) -> bool {
    let Ok(target) = to_pid(pid) else { return true };
    match pidfd_open(target, PidfdFlags::empty()) {
        Ok(process) => wait_readable(&process, deadline),
        Err(_) => true,
    }
}

fn wait_readable(process: &rustix::fd::OwnedFd, deadline: Duration) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let limit = Timespec::try_from(deadline).ok();
    poll(&mut fds, limit.as_ref()).is_ok_and(|ready| ready > 0)
}

fn to_pid(pid: u32) -> Result<Pid> {
    let raw = i32::try_from(pid).ok().filter(|raw| *raw > 1).and_then(Pid::from_raw);
    raw.with_context(|| format!("{pid} is no process of ours"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    #[tokio::test]
    async fn finds_and_kills_by_working_directory_and_by_argument() {
        let dir = crate::TempDir::new().expect("dir");
        let sleep = |change: &dyn Fn(&mut Command)| {
            let mut command = Command::new("sleep");
            change(command.arg("600"));
            Sleeper(command.spawn().expect("spawn"))
        };
        let inside = sleep(&|command| _ = command.current_dir(dir.path()));
        // No shell in between, whose own name would be seen for a moment.
        let named = sleep(&|command| _ = command.arg0(dir.path().join("data")));
        let other = sleep(&|_| ());

        let mut expected = vec![inside.0.id(), named.0.id()];
        expected.sort_unstable();
        // Until the kernel has put its arguments in place, a new program has none to be seen by.
        let all = async || {
            let mut found = using_path(dir.path());
            found.sort_unstable();
            anyhow::ensure!(found == expected, "{found:?}, not {expected:?}");
            Ok(())
        };
        crate::eventually("both", Duration::from_secs(30), all).await.expect("found");

        kill_all(|| using_path(dir.path())).expect("killed");
        assert!(!alive(inside.0.id()) && !alive(named.0.id()) && alive(other.0.id()));
    }

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn nobody_signals_init() {
        assert!(signal(1, Signal::CONT).is_err());
        assert!(signal(0, Signal::CONT).is_err());
    }
}
