//! Starting the postmaster.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{self, ForkResult};
use rustix::process::Pid;

use super::harden::OOM_SCORE;
use super::journal::Journal;
use super::{Failure, failed};

/// The steps of the child that may fail, as they come through the pipe: step, then errno.
const EXEC: u8 = 1;
const CGROUP: u8 = 2;
const DEATH_SIGNAL: u8 = 3;
const OUTPUT: u8 = 4;
const NOTE_LEN: usize = 5;

pub(super) struct Launched {
    pub pid: Pid,
    pub in_cgroup: bool,
    pub pdeathsig: bool,
    notes: Vec<(u8, Errno)>,
}

impl Launched {
    /// Notes the layers that the child could not have.
    pub fn tell(&self, journal: &mut Journal) {
        for (step, errno) in &self.notes {
            let layer = if *step == CGROUP { "cgroup" } else { "parent-death signal" };
            journal.note(format_args!("no {layer}: {errno}"));
        }
    }
}

/// Forks; true in the parent, which is then to end, so that the child is nobody's child.
pub(super) fn fork_off() -> nix::Result<bool> {
    // SAFETY: the guard has one thread only, so the child may do anything.
    Ok(matches!(unsafe { unistd::fork()? }, ForkResult::Parent { .. }))
}

/// Forks and executes `argv`; returns once the program runs, or with why it does not.
pub(super) fn postmaster(
    argv: &[CString],
    log: &File,
    cgroup_procs: Option<&OwnedFd>,
    oom_score: Option<String>,
) -> Result<Launched, Failure> {
    let (reader, writer) =
        unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(failed("cannot make a pipe"))?;
    let guard = unistd::getpid();
    // SAFETY: the guard has one thread only, so the child may do anything.
    match unsafe { unistd::fork() }.map_err(failed("cannot fork"))? {
        ForkResult::Child => {
            drop(reader);
            let mut report = Report(File::from(writer));
            match become_postmaster(argv, log, cgroup_procs, oom_score, guard, &mut report) {
                Ok(never) => match never {},
                Err((step, errno)) => report.send(step, errno),
            }
            // SAFETY: ends the child without running what belongs to the guard (destructors
            // would remove the guard's socket).
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let notes = read_notes(File::from(reader));
            if let Some((step, errno)) =
                notes.iter().find(|(step, _)| matches!(*step, EXEC | OUTPUT))
            {
                let _ = nix::sys::wait::waitpid(child, None);
                return Err(start_failure(*step, *errno, argv));
            }
            let pid = Pid::from_raw(child.as_raw())
                .ok_or_else(|| Failure::Refused("fork gave process id 0".into()))?;
            let had = |step| !notes.iter().any(|(noted, _)| *noted == step);
            let in_cgroup = cgroup_procs.is_some() && had(CGROUP);
            Ok(Launched { pid, in_cgroup, pdeathsig: had(DEATH_SIGNAL), notes })
        }
    }
}

fn start_failure(step: u8, errno: Errno, argv: &[CString]) -> Failure {
    let program = argv.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    let error = std::io::Error::from(errno);
    if step == EXEC {
        return Failure::Exec(format!("cannot execute {program}: {error}"));
    }
    failed("cannot redirect PostgreSQL's output")(error)
}

struct Report(File);

impl Report {
    fn send(&mut self, step: u8, errno: Errno) {
        let mut note = [step; NOTE_LEN];
        note[1..].copy_from_slice(&(errno as i32).to_le_bytes());
        let _ = self.0.write_all(&note);
    }
}

/// Everything the child said before the program took over and the pipe closed by itself.
fn read_notes(mut reader: File) -> Vec<(u8, Errno)> {
    let mut bytes = Vec::new();
    let _ = reader.read_to_end(&mut bytes);
    let errno = |note: &[u8]| {
        let raw = note[1..].try_into().map_or(0, i32::from_le_bytes);
        (note[0], Errno::from_raw(raw))
    };
    bytes.chunks_exact(NOTE_LEN).map(errno).collect()
}

/// The child between fork and exec.
fn become_postmaster(
    argv: &[CString],
    log: &File,
    cgroup_procs: Option<&OwnedFd>,
    oom_score: Option<String>,
    guard: unistd::Pid,
    report: &mut Report,
) -> Result<Infallible, (u8, Errno)> {
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGQUIT) {
        report.send(DEATH_SIGNAL, errno);
    }
    // Had the guard died before the line above took effect, no signal would come any more.
    if unistd::getppid() != guard {
        return Err((EXEC, Errno::ESRCH));
    }
    if let Some(procs) = cgroup_procs
        && let Err(errno) = unistd::write(procs, b"0")
    {
        report.send(CGROUP, errno);
    }
    let _ = unistd::setsid();
    if let Some(score) = oom_score {
        let _ = fs::write(OOM_SCORE, score.trim());
    }
    redirect(log).map_err(|errno| (OUTPUT, errno))?;
    default_signals();
    let Some(program) = argv.first() else { return Err((EXEC, Errno::ENOENT)) };
    unistd::execvp(program, argv).map_err(|errno| (EXEC, errno))
}

fn redirect(log: &File) -> nix::Result<()> {
    let null = File::open("/dev/null").map_err(|_| Errno::ENODEV)?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(log)?;
    unistd::dup2_stderr(log)
}

/// An ignored signal would stay ignored across exec, and so would a blocked one.
fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: restores the default action; no handler of ours is involved. For numbers that
        // cannot be changed the call fails without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = SigSet::empty().thread_set_mask();
}
