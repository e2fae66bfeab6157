//! The process body of `hart guard`.

mod args;
mod clients;
mod dog;
mod harden;
mod journal;
mod launch;
mod lease;
mod requests;
mod rest;
mod server;
mod tree;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use hart_ha::time::Time;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd;
use rustix::event::epoll;
use rustix::fs::FlockOperation;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use thiserror::Error;

use args::Options;
use clients::Listener;
use dog::Dog;
use journal::Journal;
use lease::Lease;
use server::{Parts, Server};
use tree::Tree;

/// Set while the guard promises not to allocate; the tests' allocator holds it to that.
#[doc(hidden)]
pub static QUIET: AtomicBool = AtomicBool::new(false);

const EX_USAGE: i32 = 64;

/// Why no PostgreSQL was started. The first word of the text is what [`crate::spawn`] goes by.
#[derive(Debug, Error)]
enum Failure {
    #[error("usage: {0}")]
    Usage(String),
    #[error("locked: another guard holds {0}; stop its PostgreSQL first")]
    Locked(String),
    #[error("exec: {0}")]
    Exec(String),
    #[error("failed: {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("failed: {0}")]
    Refused(String),
}

impl Failure {
    /// `sysexits.h`: usage, temporary failure, cannot execute, operating system error.
    fn code(&self) -> i32 {
        match self {
            Self::Usage(_) => EX_USAGE,
            Self::Locked(_) | Self::Refused(_) => 75,
            Self::Exec(_) => 126,
            Self::Io { .. } => 71,
        }
    }
}

fn failed<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Failure {
    let what = what.into();
    move |source| Failure::Io { what, source: source.into() }
}

/// Runs the guard with the arguments that follow the word `guard`, and returns the exit status of
/// the process once PostgreSQL is gone. To be called before any thread exists: the postmaster's
/// `PR_SET_PDEATHSIG` follows the *thread* that forked it.
///
/// ```text
/// guard [--detach] --socket PATH --lock PATH --exit-file PATH --log PATH [--cgroup DIR]
///       [--standby-signal PATH]
///       [--term N --deadline-ns N] [--start-by-ns N] [--fence-grace-ms N]
///       [--watchdog PATH [--watchdog-required] [--watchdog-testing] [--watchdog-safety-ms N]]
///       -- PROGRAM [ARGUMENT...]
/// ```
///
/// One line on standard output tells how the start went: `started GUARD_PID POSTMASTER_PID`, or
/// `usage: …` (exit status 64), `locked: …`, `exec: …`, `failed: …`.
#[must_use]
pub fn run(args: Vec<OsString>) -> i32 {
    match body(args) {
        Ok(code) => code,
        Err(failure) => {
            say(&failure.to_string());
            failure.code()
        }
    }
}

fn body(args: Vec<OsString>) -> Result<i32, Failure> {
    let options = args::parse(args).map_err(Failure::Usage)?;
    if options.detach && launch::fork_off().map_err(failed("cannot fork"))? {
        return Ok(0);
    }
    let mut server = start(options)?;
    QUIET.store(true, std::sync::atomic::Ordering::Relaxed);
    server.run();
    QUIET.store(false, std::sync::atomic::Ordering::Relaxed);
    server.finish();
    Ok(0)
}

/// Everything that can fail happens here, and before the postmaster exists.
fn start(options: Options) -> Result<Server, Failure> {
    harden::close_inherited();
    // Fails only for the leader of a process group, that is, in the foreground: no harm.
    let _ = rustix::process::setsid();
    let signals = take_signals()?;
    let lock = take_lock(&options.lock)?;
    // With the lock in its hands: who looks at it after that time either sees it, or nothing starts.
    if options.start_by.is_some_and(|by| hart_clock::now() >= by) {
        return Err(Failure::Refused(
            "it comes too late: whoever asked for it has given it up; PostgreSQL was not started"
                .into(),
        ));
    }
    remove_stale(&options.exit_file)?;
    let log = open_log(&options.log)?;
    let mut journal = Journal::new();
    let (mut layers, oom_before) = harden::protect(&mut journal);
    let (tree, cgroup_procs) = open_tree(&options, &mut journal)?;
    let lease = Lease::new(options.arm);
    if lease.over(hart_clock::now()) {
        return Err(Failure::Refused("the deadline has passed; PostgreSQL was not started".into()));
    }
    let listener = Listener::bind(&options.socket)
        .map_err(failed(format!("cannot listen on {}", options.socket.display())))?;
    let timer =
        timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
            .map_err(failed("cannot make a timer"))?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("cannot make epoll"))?;
    server::watch(&epoll, &signals, &timer, &listener, &tree)
        .map_err(failed("cannot watch for events"))?;

    let mut dog = watchdog(&options, &mut journal)?;
    // A watchdog that was opened for a PostgreSQL that does not run must not bite.
    let launched = launch::postmaster(&options.postgres, &log, cgroup_procs.as_ref(), oom_before)
        .inspect_err(|_| dog.stand_down())?;
    layers.pdeathsig = launched.pdeathsig;
    layers.cgroup = launched.in_cgroup;
    layers.cgroup_kill = launched.in_cgroup && tree.has_cgroup_kill();
    launched.tell(&mut journal);
    let me = unistd::getpid().as_raw();
    say(&format!("started {me} {}", launched.pid.as_raw_nonzero()));
    harden::redirect_output(&log);
    journal.flush(&log);
    let parts = Parts { epoll, signals, timer, listener, lock, log };
    Ok(Server::new(options, parts, tree, lease, layers, journal, dog, me, launched.pid))
}

/// With a lease from the start PostgreSQL is to be primary, and the watchdog runs before it does.
fn watchdog(options: &Options, journal: &mut Journal) -> Result<Dog<dog::File>, Failure> {
    let Some(spec) = &options.watchdog else { return Ok(Dog::new(None, false, None)) };
    let device = dog::File::new(&spec.device, spec.testing)
        .map_err(failed(format!("cannot use {}", spec.device.display())))?;
    let mut dog = Dog::new(Some(device), spec.required, spec.safety_margin);
    if let Some(armed) = options.arm.filter(|armed| armed.deadline != Time::NEVER) {
        dog.guard(armed, hart_clock::now());
        if dog.forbids() {
            let (device, state) = (spec.device.display(), dog.state());
            return Err(Failure::Refused(format!(
                "the required watchdog {device}: {state}; PostgreSQL was not started as primary"
            )));
        }
        journal.note(format_args!("watchdog: {}", dog.state()));
    }
    Ok(dog)
}

/// All signals come through the descriptor, so none can end the guard but SIGKILL.
fn take_signals() -> Result<SignalFd, Failure> {
    let mut mask = SigSet::all();
    // A fault of our own must end the process, not be queued.
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT]
    {
        mask.remove(fault);
    }
    mask.thread_block().map_err(failed("cannot block signals"))?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(failed("cannot make a signal descriptor"))
}

fn take_lock(path: &Path) -> Result<OwnedFd, Failure> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed(format!("cannot open {}", path.display())))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::Locked(path.display().to_string())),
        Err(errno) => Err(failed(format!("cannot lock {}", path.display()))(errno)),
    }
}

/// The record of the run before must not be taken for this one's.
fn remove_stale(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(format!("cannot remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

fn open_log(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(failed(format!("cannot open {}", path.display())))
}

/// A cgroup that cannot be used costs a layer, not the start; one with survivors in it does cost
/// the start, for they may still write to the data directory.
fn open_tree(options: &Options, journal: &mut Journal) -> Result<(Tree, Option<OwnedFd>), Failure> {
    let mut tree = Tree::new().map_err(failed("cannot open /proc"))?;
    let Some(dir) = &options.cgroup else { return Ok((tree, None)) };
    match tree.add_cgroup(dir) {
        Ok(procs) if tree.is_empty() => Ok((tree, Some(procs))),
        Ok(_) => Err(Failure::Refused(format!(
            "processes of an earlier run are left in {}; kill them first",
            dir.display()
        ))),
        Err(error) => {
            journal.note(format_args!("no cgroup: {}: {error}", dir.display()));
            Ok((tree, None))
        }
    }
}

/// Tells the one who started us. If nobody listens any more, that is no reason to stop.
fn say(line: &str) {
    let stdout = io::stdout();
    let _ = io::Write::write_all(&mut stdout.lock(), format!("{line}\n").as_bytes());
}
