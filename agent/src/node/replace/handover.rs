//! What one run of the agent gives to the next in the same process: sockets that only root could open, or
//! at which callers wait; and signals that come in between.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{SocketType, getsockname, sockopt};

/// `<pid> <version> <fd> …`; of another process than this one it means nothing. Not among the variables
/// that the configuration reads.
const VARIABLE: &str = "_HART_HANDED_OVER";
/// They wait for the next run instead of ending it before it listens to them.
const HELD: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2];

/// What the run before has left.
#[derive(Debug, Default)]
pub struct Left {
    /// Its version; `None`: there was none in this process.
    pub version: Option<String>,
    sockets: Mutex<Vec<OwnedFd>>,
}

/// What the run before this one in the same process has left. The first call reads it: before any
/// descriptor is opened.
pub fn left() -> &'static Left {
    static LEFT: OnceLock<Left> = OnceLock::new();
    LEFT.get_or_init(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        match understand(&text, std::process::id()) {
            Some((version, numbers)) => Left {
                version: Some(version),
                sockets: Mutex::new(numbers.into_iter().filter_map(taken).collect()),
            },
            None => Left::default(),
        }
    })
}

fn understand(text: &str, me: u32) -> Option<(String, Vec<i32>)> {
    let mut words = text.split(' ');
    let ours = words.next()?.parse() == Ok(me);
    let version = words.next().filter(|_| ours)?;
    Some((version.to_owned(), words.filter_map(|word| word.parse().ok()).collect()))
}

/// The descriptor of this number, if it was left open over the change of programs.
fn taken(number: i32) -> Option<OwnedFd> {
    if number <= 2 || !Path::new(&format!("/proc/self/fd/{number}")).exists() {
        return None;
    }
    // SAFETY: it is open. If it is somebody's of this run, it has FD_CLOEXEC, as everything that a run
    // opens has, and is let alone below; else it was left for this run, which asks for it once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    match fcntl_getfd(&fd) {
        Ok(flags) if !flags.contains(FdFlags::CLOEXEC) => {
            fcntl_setfd(&fd, FdFlags::CLOEXEC).ok()?;
            Some(fd)
        }
        _ => {
            let _somebodys = fd.into_raw_fd();
            None
        }
    }
}

impl Left {
    /// A socket that is bound to this address already.
    pub fn socket(&self, address: SocketAddr, kind: SocketType) -> Option<OwnedFd> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |fd: &OwnedFd| {
            let bound = getsockname(fd).ok().and_then(|bound| SocketAddr::try_from(bound).ok());
            bound == Some(address) && sockopt::socket_type(fd).ok() == Some(kind)
        };
        let at = sockets.iter().position(fits)?;
        Some(sockets.swap_remove(at))
    }

    /// The same, as a listener.
    pub fn listener(&self, address: SocketAddr) -> Option<TcpListener> {
        self.socket(address, SocketType::STREAM).map(TcpListener::from)
    }

    /// Closes what nobody has asked for: the configuration has changed since. And takes note of the
    /// processes that the run before had begun, when they end.
    pub fn close_rest(&self) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let children = if self.version.is_some() { children() } else { Vec::new() };
        if !children.is_empty() {
            let reap = move || {
                for pid in children {
                    let _ended = waitpid(pid, None);
                }
            };
            let thread = std::thread::Builder::new().name("reaper".to_owned());
            let _ = thread.spawn(reap);
        }
    }
}

/// Before this run has started any.
fn children() -> Vec<Pid> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// Signals that came in between are heard from now on.
pub fn hear_signals() {
    let _ = HELD.into_iter().collect::<SigSet>().thread_unblock();
}

/// Puts `program` in the place of this process, with the same arguments. Comes back only where that failed.
pub fn execute(program: &Path, version: &str, sockets: &[OwnedFd]) -> io::Error {
    let mut text = format!("{} {version}", std::process::id());
    for socket in sockets {
        match fcntl_setfd(socket.as_fd(), FdFlags::empty()) {
            Ok(()) => text.push_str(&format!(" {}", socket.as_raw_fd())),
            Err(error) => tracing::warn!("a socket is not handed over: {error}"),
        }
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("hart"));
    let held: SigSet = HELD.into_iter().collect();
    let _ = held.thread_block();
    let error = Command::new(program).arg0(name).args(arguments).env(VARIABLE, text).exec();
    let _ = held.thread_unblock();
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_very_process_left_is_taken() {
        assert_eq!(understand("77 0.1.0 5 6", 77), Some(("0.1.0".to_owned(), vec![5, 6])));
        for other in ["", "78 0.1.0 5", "77", "x 0.1.0"] {
            assert_eq!(understand(other, 77), None, "{other}");
        }
    }

    #[test]
    fn a_socket_is_found_by_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let left = Left { version: None, sockets: Mutex::new(vec![OwnedFd::from(listener)]) };
        assert!(left.socket(address, SocketType::DGRAM).is_none());
        let mut other = address;
        other.set_port(address.port() ^ 1);
        assert!(left.listener(other).is_none());
        let found = left.listener(address).unwrap();
        assert_eq!(found.local_addr().unwrap(), address);
        assert!(left.listener(address).is_none(), "once");
    }
}
