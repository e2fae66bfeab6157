//! What makes the guard harder to stop than the things it guards against.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::sys::prctl;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::mm::{MlockAllFlags, mlockall};

use super::journal::Journal;
use crate::types::Layers;

pub(super) const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Closes what the starter left open beyond standard input, output and error: an inherited
/// descriptor would keep the agent's files and sockets alive as long as PostgreSQL lives.
pub(super) fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet, so none is closed under its
    // owner. The raw call, since not every C library has the wrapper.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if done == 0 {
        return;
    }
    for fd in 3..1024 {
        // SAFETY: as above; the loop serves kernels before 5.9.
        drop(unsafe { close(fd) });
    }
}

/// # Safety
/// Nobody else may own `fd`.
unsafe fn close(fd: i32) -> Option<OwnedFd> {
    // SAFETY: F_GETFD has no effect; it tells whether `fd` is open.
    let open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
    // SAFETY: it is open and, by this function's contract, nobody's.
    open.then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes every protection that this user may have, and notes those that it may not. Returns them
/// with the `oom_score_adj` that PostgreSQL is to go back to.
pub(super) fn protect(journal: &mut Journal) -> (Layers, Option<String>) {
    let _ = prctl::set_name(c"hart-guard");
    let oom_before = fs::read_to_string(OOM_SCORE).ok();
    let mut had = |layer: &str, result: io::Result<()>| match result {
        Ok(()) => true,
        Err(error) => {
            journal.note(format_args!("no {layer}: {error}"));
            false
        }
    };
    let realtime = had("real-time scheduling (RLIMIT_RTPRIO)", realtime());
    let nice = !realtime && had("better nice value (RLIMIT_NICE)", nice());
    let layers = Layers {
        subreaper: had("subreaper", prctl::set_child_subreaper(true).map_err(Into::into)),
        memory_locked: had(
            "memory lock (RLIMIT_MEMLOCK)",
            mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(Into::into),
        ),
        realtime,
        nice,
        oom_protected: had("protection from the OOM killer", fs::write(OOM_SCORE, "-1000")),
        ..Layers::default()
    };
    (layers, oom_before)
}

/// The lowest real-time priority, which PostgreSQL does not inherit.
fn realtime() -> io::Result<()> {
    schedule(libc::SCHED_RR, 1)
}

/// What comes next to it: the best nice value, which PostgreSQL does not inherit either.
fn nice() -> io::Result<()> {
    schedule(libc::SCHED_OTHER, 0)?;
    Ok(rustix::process::setpriority_process(None, -20)?)
}

fn schedule(policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameters` outlives the call, which only reads it. The raw call, since musl's
    // wrapper always answers ENOSYS.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            policy | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets go of the starter's pipe or terminal.
pub(super) fn redirect_output(log: &File) {
    if let Ok(null) = File::open("/dev/null") {
        let _ = dup2_stdin(&null);
    }
    let _ = dup2_stdout(log);
    let _ = dup2_stderr(log);
}
