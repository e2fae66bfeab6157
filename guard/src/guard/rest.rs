//! The data directory of a PostgreSQL that has ended is put to rest: with `standby.signal` a start by
//! hand, or at boot, gives a standby and no second primary, also where no agent is left to see it.
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{self, ForkResult, Pid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use super::journal::Journal;

/// A disk that takes longer hangs, and the news of PostgreSQL's end does not wait for it.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Makes the file, empty, beside a control file; a directory that was emptied stays so. A child does
/// it, for nothing can interrupt a disk.
pub(super) fn put_to_rest(signal: &Path, journal: &mut Journal) {
    // SAFETY: the guard has one thread only, so the child may do anything.
    match unsafe { unistd::fork() } {
        Ok(ForkResult::Child) => {
            make(signal);
            // SAFETY: ends the child without running what belongs to the guard (destructors would
            // remove the guard's socket).
            unsafe { libc::_exit(0) }
        }
        Ok(ForkResult::Parent { child }) => {
            if !ends_soon(child) {
                journal.note(format_args!("the disk hangs: {} was not made", signal.display()));
                let _ = kill(child, Signal::SIGKILL);
            }
        }
        Err(errno) => journal.note(format_args!("{} was not made: {errno}", signal.display())),
    }
}

fn make(signal: &Path) {
    let whole = signal.with_file_name("global/pg_control").exists();
    if whole {
        let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(signal);
    }
}

fn ends_soon(child: Pid) -> bool {
    let pid = rustix::process::Pid::from_raw(child.as_raw());
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(pidfd) = pidfd else { return waitpid(child, None).is_ok() };
    let mut ended = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let ends = poll(&mut ended, Some(&PATIENCE)).is_ok_and(|ready| ready > 0);
    if ends {
        let _ = waitpid(child, None);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cluster_gets_the_signal() {
        let dir = std::env::temp_dir().join(format!("hart-gr-{}", std::process::id()));
        let signal = dir.join("standby.signal");
        std::fs::create_dir_all(dir.join("global")).unwrap();
        make(&signal);
        assert!(!signal.exists(), "it was emptied");
        std::fs::write(dir.join("global/pg_control"), "x").unwrap();
        make(&signal);
        assert!(signal.exists());
        make(&signal);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
