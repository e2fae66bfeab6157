//! The cgroup that a fence kills as a whole (cgroups(7), version 2).
//!
//! ```text
//! <base>/agent      the agent and the guard
//! <base>/postgres   PostgreSQL and everything that it starts
//! ```
//!
//! The agent sits in a leaf of its own since an unprivileged process may move another only where
//! it may write to `cgroup.procs` of the common ancestor, and that must be `<base>`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hart_ha::time::Time;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

use crate::privilege::is_root;

/// Between two looks at a cgroup that is being emptied.
const ROUND: Duration = Duration::from_millis(10);

/// What the configuration asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// Where it can be had.
    #[default]
    Auto,
    /// Not at all.
    Off,
    /// In this directory of the cgroup file system, made where it is missing.
    Path(PathBuf),
}

/// Whose the cgroups are to be: the user that the agent becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What could be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The directory that holds both leaves.
    pub base: Option<PathBuf>,
    /// The leaf for PostgreSQL, as [`crate::Spec::cgroup`] wants it.
    pub postgres: Option<PathBuf>,
    /// Why there is none, and what to do.
    pub why_not: Option<String>,
}

/// Why a cgroup is not empty.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// A file of the cgroup could not be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What could not be done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// Processes outlived the deadline: most likely they hang in the kernel, on a disk.
    #[error("processes are left in {} after SIGKILL", path.display())]
    Left {
        /// The cgroup.
        path: PathBuf,
    },
}

/// Makes the cgroups and moves this process into the agent's; to be called at the start, before
/// privileges are dropped. `name` must be unique on this machine (cluster and member).
///
/// As root the place is `hart-<name>` in the process's own cgroup, given to `owner`. As another
/// user it is the own cgroup, which a service manager must have delegated (systemd's
/// `Delegate=yes`).
#[must_use]
pub fn prepare(name: &str, owner: Option<Owner>, want: &Want) -> Prepared {
    match place(name, want).and_then(|base| furnish(&base, owner).map(|()| base)) {
        Ok(base) => {
            Prepared { postgres: Some(base.join("postgres")), base: Some(base), why_not: None }
        }
        Err(why) => Prepared { why_not: Some(why), ..Prepared::default() },
    }
}

fn place(name: &str, want: &Want) -> Result<PathBuf, String> {
    if *want == Want::Off {
        return Err("switched off in the configuration".to_owned());
    }
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mount = mount_point(&read("/proc/mounts")?)
        .ok_or("cgroup v2 is not mounted; boot with systemd.unified_cgroup_hierarchy=1")?;
    if let Want::Path(path) = want {
        let inside = path.starts_with(&mount) && *path != mount;
        let problem = || format!("{} is not below {}", path.display(), mount.display());
        return inside.then(|| path.clone()).ok_or_else(problem);
    }
    let own = own_cgroup(&read("/proc/self/cgroup")?, &mount)
        .ok_or("this process is in no cgroup v2 that can be seen here")?;
    Ok(base_for(&own, &format!("hart-{}", file_name(name)), is_root()))
}

/// The base for a process in `own`. One that is in an `agent` leaf already, as after a restart by
/// itself, stays where it is.
fn base_for(own: &Path, wanted: &str, root: bool) -> PathBuf {
    let parent = own.parent().filter(|_| own.ends_with("agent"));
    match parent {
        Some(base) if !root || base.ends_with(wanted) => base.to_owned(),
        _ if root => own.join(wanted),
        _ => own.to_owned(),
    }
}

/// Letters, digits, `.`, `_` and `-` are kept; anything else could leave the directory.
fn file_name(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

/// Where cgroup v2 is mounted (proc_mounts(5)): `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified`
/// beside version 1.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = lines.find(|fields| fields.get(2) == Some(&"cgroup2"))?;
    found.get(1).map(PathBuf::from)
}

/// The line `0::/path` of `/proc/self/cgroup` (cgroups(7)).
fn own_cgroup(lines: &str, mount: &Path) -> Option<PathBuf> {
    let path = lines.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // `/../x` is outside of this cgroup namespace.
    let hidden = path.starts_with("..");
    (!hidden).then(|| if path.is_empty() { mount.to_owned() } else { mount.join(path) })
}

fn furnish(base: &Path, owner: Option<Owner>) -> Result<(), String> {
    const EVERY: [&str; 4] = ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];
    let hint = if is_root() { "" } else { "; start as root, or under systemd with Delegate=yes" };
    for dir in [base.to_owned(), base.join("agent"), base.join("postgres")] {
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!("cannot make {}: {error}{hint}", dir.display()));
            }
            _ => {}
        }
        for file in EVERY.iter().chain(&["cgroup.kill"]) {
            give(&dir.join(file), owner)?;
        }
    }
    let procs = base.join("agent/cgroup.procs");
    fs::write(&procs, "0")
        .map_err(|error| format!("cannot enter {}: {error}{hint}", procs.display()))
}

/// Gives a file to the owner; one that this kernel does not have is passed over.
fn give(path: &Path, owner: Option<Owner>) -> Result<(), String> {
    let Some(owner) = owner.filter(|_| is_root()) else { return Ok(()) };
    match std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot give {} to uid {}: {error}", path.display(), owner.uid))
        }
        _ => Ok(()),
    }
}

/// Whether a live process is in the cgroup or below it. One that does not exist has none.
///
/// # Errors
/// `cgroup.events` cannot be read.
pub fn populated(path: &Path) -> io::Result<bool> {
    match fs::read_to_string(path.join("cgroup.events")) {
        // ENODEV: removed between open and read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        text => Ok(text?.lines().any(|line| line == "populated 1")),
    }
}

/// Kills every process in the cgroup and returns when the kernel says that it is empty; for the
/// PostgreSQL of a guard that died.
///
/// # Errors
/// See [`CgroupError`].
pub async fn kill_and_wait(path: &Path, deadline: Time) -> Result<(), CgroupError> {
    let error = |what, file| move |source| CgroupError::Io { what, path: file, source };
    while populated(path).map_err(error("read", path.join("cgroup.events")))? {
        if hart_clock::now() >= deadline {
            return Err(CgroupError::Left { path: path.to_owned() });
        }
        kill_once(path).map_err(error("kill the processes in", path.to_owned()))?;
        tokio::time::sleep(ROUND).await;
    }
    Ok(())
}

fn kill_once(path: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).open(path.join("cgroup.kill")) {
        // Before Linux 5.14.
        Err(error) if error.kind() == io::ErrorKind::NotFound => kill_each(path),
        file => io::Write::write_all(&mut file?, b"1"),
    }
}

fn kill_each(path: &Path) -> io::Result<()> {
    for line in fs::read_to_string(path.join("cgroup.procs"))?.lines() {
        let pid = line.parse().ok().and_then(Pid::from_raw);
        match pid.map(|pid| kill_process(pid, Signal::KILL)) {
            None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => {}
            Some(Err(errno)) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Removes the leaves and the base as far as they are empty and ours to remove.
pub fn remove(base: &Path) {
    for dir in [base.join("postgres"), base.join("agent"), base.to_owned()] {
        let _ = fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_in_both_layouts() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_point(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(mount_point(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(mount_point("cgroup /sys/fs/cgroup/pids cgroup rw 0 0\n"), None);
    }

    #[test]
    fn finds_the_own_cgroup() {
        let own = |lines: &str| own_cgroup(lines, Path::new("/m"));
        assert_eq!(own("8:pids:/x\n0::/\n"), Some("/m".into()));
        assert_eq!(
            own("0::/system.slice/hart.service\n"),
            Some("/m/system.slice/hart.service".into())
        );
        assert_eq!(own("0::/../other\n"), None);
        assert_eq!(own("8:pids:/x\n"), None);
    }

    #[test]
    fn chooses_the_base() {
        let base = |own: &str, root| base_for(Path::new(own), "hart-a", root);
        assert_eq!(base("/m", true), Path::new("/m/hart-a"));
        assert_eq!(base("/m/hart-a/agent", true), Path::new("/m/hart-a"));
        assert_eq!(base("/m/hart-b/agent", true), Path::new("/m/hart-b/agent/hart-a"));
        assert_eq!(base("/m/s/hart.service", false), Path::new("/m/s/hart.service"));
        assert_eq!(base("/m/s/hart.service/agent", false), Path::new("/m/s/hart.service"));
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        assert_eq!(file_name("a/../b c"), "a_.._b_c");
    }

    #[test]
    fn says_why_not() {
        let off = prepare("x", None, &Want::Off);
        assert!(off.postgres.is_none() && off.why_not.unwrap().contains("switched off"));
        let outside = prepare("x", None, &Want::Path("/tmp/x".into()));
        assert!(outside.postgres.is_none() && outside.why_not.is_some());
    }

    #[test]
    fn a_cgroup_that_does_not_exist_is_empty() {
        assert!(!populated(Path::new("/sys/fs/cgroup/no-such-cgroup")).unwrap());
    }
}
