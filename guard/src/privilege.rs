//! From root to the user that PostgreSQL runs as.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::{User, geteuid, getuid, initgroups, setgid, setuid};
use thiserror::Error;

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its home directory.
    pub home: PathBuf,
}

/// Why the process does not run as the user wanted.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// `/etc/passwd` (or what stands for it) does not know the name.
    #[error("there is no user {0:?} on this machine; name one that exists with --user")]
    NoSuchUser(String),
    /// Only root can become somebody else.
    #[error("only root can become user {0:?}; start as root or as that user")]
    NotRoot(String),
    /// A step failed.
    #[error("cannot {what}")]
    System {
        /// The step.
        what: String,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// Root came back when asked for: nothing may go on.
    #[error("the process could become root again after it became user {0:?}")]
    Revocable(String),
}

fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> PrivilegeError {
    let what = what.into();
    move |source| PrivilegeError::System { what, source: source.into() }
}

/// Whether this process has root's rights.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The account of a user name.
///
/// # Errors
/// [`PrivilegeError::NoSuchUser`], or the user database cannot be read.
pub fn lookup(user: &str) -> Result<Account, PrivilegeError> {
    let found = User::from_name(user).map_err(system(format!("look up user {user:?}")))?;
    let found = found.ok_or_else(|| PrivilegeError::NoSuchUser(user.to_owned()))?;
    Ok(Account {
        name: found.name,
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
        home: found.dir,
    })
}

/// `HOME`, `USER` and `LOGNAME` for programs of this process's user, as the user database has them. A
/// process that has changed its user keeps root's, and libpq would look for certificates there. A
/// `HOME` that does belong to the user stays. Looked up once, by whoever is first.
pub fn home_and_name() -> &'static [(String, String)] {
    static KNOWN: OnceLock<Vec<(String, String)>> = OnceLock::new();
    KNOWN.get_or_init(|| variables(std::env::var_os("HOME").map(PathBuf::from)))
}

fn variables(inherited: Option<PathBuf>) -> Vec<(String, String)> {
    let uid = geteuid();
    let own = |dir: &PathBuf| fs::metadata(dir).is_ok_and(|found| found.uid() == uid.as_raw());
    let user = User::from_uid(uid).ok().flatten();
    let home = inherited.filter(own).or_else(|| user.as_ref().map(|user| user.dir.clone()));
    let home = home.map(|dir| ("HOME".to_owned(), dir.to_string_lossy().into_owned()));
    let names = user.map(|user| ["USER", "LOGNAME"].map(|key| (key.to_owned(), user.name.clone())));
    home.into_iter().chain(names.into_iter().flatten()).collect()
}

/// Makes this process, for good, one of `user`; to be called before any thread is started. Before,
/// it takes along what only root can give and the guard needs: the right to lock memory, to run at
/// the lowest real-time priority or the best nice value, and to be spared by the OOM killer. Nothing happens where the
/// process is `user`'s already.
///
/// # Errors
/// See [`PrivilegeError`]; the process is then not fit to go on.
pub fn drop_privileges(user: &str) -> Result<Account, PrivilegeError> {
    let account = lookup(user)?;
    if getuid().as_raw() == account.uid && geteuid().as_raw() == account.uid {
        return Ok(account);
    }
    if !is_root() {
        return Err(PrivilegeError::NotRoot(account.name));
    }
    let oom_before = take_along();
    let name = CString::new(account.name.as_str())
        .map_err(|_| PrivilegeError::NoSuchUser(account.name.clone()))?;
    let gid = nix::unistd::Gid::from_raw(account.gid);
    let uid = nix::unistd::Uid::from_raw(account.uid);
    initgroups(&name, gid).map_err(system(format!("take the groups of {user:?}")))?;
    setgid(gid).map_err(system(format!("take group {gid}")))?;
    setuid(uid).map_err(system(format!("become user {user:?}")))?;
    if !uid.is_root() && setuid(nix::unistd::Uid::from_raw(0)).is_ok() {
        return Err(PrivilegeError::Revocable(account.name));
    }
    // The change of user made /proc/self root's; with this it is our own again.
    prctl::set_dumpable(true).map_err(system("make /proc/self accessible"))?;
    if let Some(score) = oom_before {
        let _ = fs::write(OOM_SCORE, score.trim());
    }
    Ok(account)
}

/// Raises limits; what fails costs a layer of the guard, which reports it. The lowest
/// `oom_score_adj` that root has set is also the lowest that the process may set itself later
/// (proc(5)), hence down now and back up after. Returns the value to go back to.
fn take_along() -> Option<String> {
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_RTPRIO) {
        let _ = setrlimit(Resource::RLIMIT_RTPRIO, 1, hard.max(1));
    }
    // 40 stands for a nice value of -20 (getrlimit(2)).
    let _ = setrlimit(Resource::RLIMIT_NICE, 40, 40);
    let before = fs::read_to_string(OOM_SCORE).ok()?;
    fs::write(OOM_SCORE, "-1000").ok()?;
    Some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_is_the_users_own() {
        let me = User::from_uid(geteuid()).unwrap().expect("the tests' user has an account");
        let home = |inherited: Option<&str>| {
            let found = variables(inherited.map(PathBuf::from));
            assert!(found.contains(&("LOGNAME".to_owned(), me.name.clone())), "{found:?}");
            found.into_iter().find(|(name, _)| name == "HOME").map(|(_, home)| PathBuf::from(home))
        };
        assert_eq!(home(None), Some(me.dir.clone()));
        assert_eq!(home(Some("/nonexistent")), Some(me.dir));
        let other = std::env::temp_dir().join(format!("hart-home-{}", std::process::id()));
        fs::create_dir_all(&other).unwrap();
        assert_eq!(home(other.to_str()), Some(other.clone()));
        fs::remove_dir(&other).unwrap();
    }

    #[test]
    fn looks_up_users() {
        let root = lookup("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        let error = lookup("no-such-user-here").unwrap_err();
        assert!(matches!(error, PrivilegeError::NoSuchUser(name) if name == "no-such-user-here"));
    }
}
