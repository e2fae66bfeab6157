//! Every process that descends from the postmaster, and how to kill all of them.
//!
//! Two ways at once: `cgroup.kill` (cgroups(7)), and SIGKILL to the guard's own children again
//! and again. The guard is a subreaper, so whoever loses its parent becomes its child; killing
//! one layer brings up the next, until `waitpid` knows no child any more.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, openat, seek};
use rustix::io::{Errno, pread, pwrite, read};
use rustix::process::{Pid, Signal, getpid, kill_process};

const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);

pub(super) struct Tree {
    me: Pid,
    procfs: OwnedFd,
    /// Absent where the kernel was built without `CONFIG_PROC_CHILDREN`.
    children: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
}

struct Cgroup {
    procs: OwnedFd,
    events: OwnedFd,
    /// Absent before Linux 5.14.
    kill: Option<OwnedFd>,
}

impl Tree {
    pub fn new() -> io::Result<Self> {
        let me = getpid();
        let procfs = open("/proc", READ | OFlags::DIRECTORY, Mode::empty())?;
        let pid = me.as_raw_nonzero();
        let children = openat(&procfs, format!("{pid}/task/{pid}/children"), READ, Mode::empty());
        Ok(Self { me, procfs, children: children.ok(), cgroup: None })
    }

    /// Opens the files of the cgroup that PostgreSQL is to live in; returns the `cgroup.procs`
    /// through which it enters.
    pub fn add_cgroup(&mut self, dir: &Path) -> io::Result<OwnedFd> {
        let file = |name: &str, how| open(dir.join(name), how | OFlags::CLOEXEC, Mode::empty());
        let entry = file("cgroup.procs", OFlags::WRONLY)?;
        let procs = file("cgroup.procs", OFlags::RDONLY)?;
        let events = file("cgroup.events", OFlags::RDONLY)?;
        let kill = file("cgroup.kill", OFlags::WRONLY).ok();
        self.cgroup = Some(Cgroup { procs, events, kill });
        Ok(entry)
    }

    pub fn has_cgroup_kill(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.kill.is_some())
    }

    /// The file that becomes urgent (`POLLPRI`) when the cgroup empties or fills.
    pub fn events(&self) -> Option<&OwnedFd> {
        self.cgroup.as_ref().map(|cgroup| &cgroup.events)
    }

    /// Whether the kernel says that the cgroup has no live process. True without a cgroup.
    pub fn is_empty(&self) -> bool {
        let Some(cgroup) = &self.cgroup else { return true };
        let mut text = [0; 128];
        let length = match pread(&cgroup.events, &mut text, 0) {
            Ok(length) => length,
            // The directory was removed, which needs it to be empty. Anything else says nothing.
            Err(errno) => return errno == Errno::NODEV,
        };
        !text[..length].windows(11).any(|part| part == b"populated 1")
    }

    /// One round of killing. To be repeated until nothing is left.
    pub fn kill_all(&self) {
        if let Some(cgroup) = &self.cgroup {
            let killed = cgroup.kill.as_ref().is_some_and(|kill| pwrite(kill, b"1", 0).is_ok());
            if !killed {
                each_number(&cgroup.procs, |pid| self.kill(pid));
            }
        }
        match &self.children {
            Some(children) => each_number(children, |pid| self.kill(pid)),
            None => self.scan(|pid| self.kill(pid)),
        }
    }

    fn kill(&self, pid: i32) {
        if let Some(pid) = Pid::from_raw(pid)
            && pid != self.me
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Calls `visit` with every child that `/proc/*/stat` shows.
    fn scan(&self, mut visit: impl FnMut(i32)) {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let _ = seek(&self.procfs, SeekFrom::Start(0));
        let mut entries = RawDir::new(self.procfs.as_fd(), &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name();
            let pid = name.to_str().ok().and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && self.parent_of(name) == Some(self.me.as_raw_nonzero().get())
            {
                visit(pid);
            }
        }
    }

    /// Field 4 of `/proc/PID/stat` (proc(5)); field 2 is in parentheses and may contain anything.
    fn parent_of(&self, pid: &std::ffi::CStr) -> Option<i32> {
        let dir = openat(&self.procfs, pid, READ | OFlags::DIRECTORY, Mode::empty()).ok()?;
        let stat = openat(&dir, c"stat", READ, Mode::empty()).ok()?;
        let mut text = [0; 512];
        let length = read(&stat, &mut text).ok()?;
        let text = &text[..length];
        let after_name = text.iter().rposition(|&byte| byte == b')')? + 1;
        let mut fields = std::str::from_utf8(&text[after_name..]).ok()?.split_ascii_whitespace();
        fields.nth(1)?.parse().ok()
    }
}

/// Calls `visit` with every decimal number in a file, without allocating.
fn each_number(file: &OwnedFd, mut visit: impl FnMut(i32)) {
    let mut buffer = [0; 4096];
    let (mut offset, mut number) = (0, 0_i32);
    while let Ok(length) = pread(file, &mut buffer, offset) {
        for byte in &buffer[..length] {
            if byte.is_ascii_digit() {
                number = number.saturating_mul(10).saturating_add(i32::from(byte - b'0'));
            } else if number > 0 {
                visit(std::mem::take(&mut number));
            }
        }
        if length == 0 {
            break;
        }
        offset += length as u64;
    }
    if number > 0 {
        visit(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Gone is only what the kernel says is gone.
    #[test]
    fn a_cgroup_that_cannot_be_read_is_not_empty() {
        let mut tree = Tree::new().unwrap();
        assert!(tree.is_empty(), "without a cgroup the children alone count");
        // A directory can be opened and not read: EISDIR.
        let dir = || open("/proc", READ | OFlags::DIRECTORY, Mode::empty()).unwrap();
        tree.cgroup = Some(Cgroup { procs: dir(), events: dir(), kill: None });
        assert!(!tree.is_empty());
    }

    #[test]
    fn finds_children_through_proc() {
        let child = Sleeper(Command::new("sleep").arg("1000").spawn().unwrap());
        let tree = Tree::new().unwrap();
        let name = std::ffi::CString::new(child.0.id().to_string()).unwrap();
        assert_eq!(tree.parent_of(&name), Some(tree.me.as_raw_nonzero().get()));
        assert_eq!(tree.parent_of(c"self-not-there"), None);
        for _ in 0..2 {
            let mut children = Vec::new();
            tree.scan(|pid| children.push(pid));
            assert!(children.contains(&child.0.id().cast_signed()), "{children:?}");
            assert!(!children.contains(&tree.me.as_raw_nonzero().get()));
        }
    }

    #[test]
    fn reads_numbers_across_buffer_ends() {
        let path = std::env::temp_dir().join(format!("hart-numbers-{}", std::process::id()));
        let text: String = (1..3000).map(|n| format!("{} ", n * 31)).collect();
        std::fs::write(&path, text.trim_end()).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut seen = Vec::new();
        each_number(&file.into(), |n| seen.push(n));
        assert_eq!(seen, (1..3000).map(|n| n * 31).collect::<Vec<_>>());
    }
}
