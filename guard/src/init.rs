//! Process 1 of a container: nobody else takes note of the dead there.
//!
//! Whoever loses its parent becomes a child of process 1: each guard, and PostgreSQL when its guard
//! dies. As process 1 the agent would have to wait for children of which it knows nothing, beside the
//! runtime that waits for its own. So process 1 only waits: it starts the agent as a child, passes
//! signals on to it, reaps whoever has died, and ends as the agent does.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Pid};

/// What a service manager or a person may send, and the word of a dead child.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
];

/// Where this is process 1: `None` in the child that is to go on, and in process 1 itself, when that
/// child has ended, its exit code. Anywhere else `None`. To be called before any thread exists.
///
/// # Errors
/// The operating system gives no process.
pub fn become_init() -> nix::Result<Option<u8>> {
    if unistd::getpid().as_raw() != 1 {
        return Ok(None);
    }
    under_init()
}

/// As [`become_init`], whatever the number of this process.
fn under_init() -> nix::Result<Option<u8>> {
    let signals: SigSet = PASSED_ON.into_iter().collect();
    signals.thread_block()?;
    // SAFETY: there is one thread only, by this function's contract, so the child may do anything.
    match unsafe { unistd::fork()? } {
        ForkResult::Child => {
            signals.thread_unblock()?;
            Ok(None)
        }
        ForkResult::Parent { child } => Ok(Some(serve(child, &signals))),
    }
}

fn serve(child: Pid, signals: &SigSet) -> u8 {
    loop {
        if let Some(code) = reap(child) {
            return code;
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            // It may have ended in this moment.
            Ok(signal) => drop(kill(child, signal)),
        }
    }
}

/// Takes note of all that have died; gives the child's end.
fn reap(child: Pid) -> Option<u8> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => ended = Some(code),
            // As a shell tells it.
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                ended = Some(128 + signal as i32);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
            Ok(_) | Err(_) => {}
        }
    }
    ended.map(|code| u8::try_from(code).unwrap_or(u8::MAX))
}
