//! Where the demo's files are, and whose they are.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use hart_guard::privilege::{Account, is_root, lookup};

use crate::cli::Fail;

/// A Unix socket's path has room for 107 bytes; what the nodes add takes less than 40 of them.
const LONGEST: usize = 64;

/// The demo's directory.
#[derive(Debug)]
pub struct Place {
    /// Where it is.
    pub dir: PathBuf,
    /// The program that the nodes run, readable for their user.
    pub program: PathBuf,
    owner: Option<Account>,
    made: bool,
    keep: bool,
}

impl Place {
    /// Makes the directory, or takes an empty one.
    ///
    /// # Errors
    /// It cannot be made, it is not empty, or there is no such user.
    pub fn make(dir: Option<&Path>, keep: bool, user: &str) -> Result<Self, Fail> {
        let owner = if is_root() { Some(account(user)?) } else { None };
        let dir = match dir {
            Some(dir) => std::path::absolute(dir)?,
            None => {
                let id = format!("hart-demo-{}-{:04x}", std::process::id(), fastrand::u16(..));
                std::env::temp_dir().join(id)
            }
        };
        if dir.as_os_str().len() > LONGEST {
            return Err(Fail::usage(format!("{} is too long for Unix sockets", dir.display()))
                .hint("name a shorter directory with --dir"));
        }
        let made = make(&dir)?;
        let mut place = Self { dir, program: PathBuf::new(), owner, made, keep };
        place.program = place.find_program()?;
        Ok(place)
    }

    /// The user that the nodes are started as, where it is not this one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.owner.as_ref().map(|owner| owner.name.as_str())
    }

    /// Makes a directory for one node, for its user alone.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn make_home(&self, name: &str) -> Result<PathBuf, Fail> {
        let home = self.dir.join(name);
        fs::create_dir(&home).map_err(|error| io("make", &home, &error))?;
        self.give(&home, 0o700)?;
        Ok(home)
    }

    /// Writes a file that only the nodes' user may read.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, path: &Path, text: &str) -> Result<(), Fail> {
        fs::write(path, text).map_err(|error| io("write", path, &error))?;
        self.give(path, 0o600)
    }

    /// Removes everything, unless it is to be kept, and says what it did. After a failure the logs
    /// stay.
    #[must_use]
    pub fn leave(&self, failed: bool) -> String {
        let dir = self.dir.display();
        if self.keep {
            return format!("data and logs were kept in {dir}");
        }
        let removed = match (failed, self.made) {
            (true, _) => clear(&self.dir, true),
            (false, true) => fs::remove_dir_all(&self.dir),
            // The directory itself was there before.
            (false, false) => clear(&self.dir, false),
        };
        match removed {
            Ok(()) if failed => {
                format!("the logs are in {dir}; the data have been removed (--keep keeps them)")
            }
            Ok(()) => {
                format!("data and logs were in {dir} and have been removed (--keep keeps them)")
            }
            Err(error) => format!("data and logs are left in {dir}: {error}"),
        }
    }

    /// The nodes' user must be able to start this very program again (as guard). Where it lies in
    /// somebody's private directory, a copy is made.
    fn find_program(&self) -> Result<PathBuf, Fail> {
        let own = std::env::current_exe()?;
        if self.owner.is_none() || is_open(&own) {
            return Ok(own);
        }
        let copy = self.dir.join("hart");
        fs::copy(&own, &copy).map_err(|error| io("copy hart to", &copy, &error))?;
        fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
        Ok(copy)
    }

    fn give(&self, path: &Path, mode: u32) -> Result<(), Fail> {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        if let Some(owner) = &self.owner {
            chown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| io("give away", path, &e))?;
        }
        Ok(())
    }
}

fn account(user: &str) -> Result<Account, Fail> {
    let hint = "install PostgreSQL's server package, which makes the user, or give --user";
    lookup(user).map_err(|error| Fail::usage(error.to_string()).hint(hint))
}

/// True: it was not there before.
fn make(dir: &Path) -> Result<bool, Fail> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(|error| io("make", dir, &error))?;
            fs::set_permissions(dir, Permissions::from_mode(0o755))?;
            return Ok(true);
        }
        Err(error) => return Err(io("read", dir, &error)),
    };
    match entries.next() {
        None => Ok(false),
        Some(_) => Err(Fail::usage(format!("{} is not empty", dir.display()))
            .hint("name an empty or new directory with --dir; nothing was touched")),
    }
}

/// Removes what is in the directory, but for the logs if these are to stay.
fn clear(dir: &Path, keep_logs: bool) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|end| end == "log");
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if !(keep_logs && is_log) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// May everybody start it?
fn is_open(program: &Path) -> bool {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |found| found.permissions().mode());
    mode(program) & 0o005 == 0o005 && program.ancestors().skip(1).all(|dir| mode(dir) & 0o001 != 0)
}

fn io(what: &str, path: &Path, error: &std::io::Error) -> Fail {
    Fail::failed(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_somebody_else_is_not_touched() {
        let dir = std::env::temp_dir().join(format!("hart-place-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("thesis"), "x").unwrap();
        let refused = make(&dir).unwrap_err();
        fs::remove_file(dir.join("thesis")).unwrap();
        assert_eq!((refused.code(), make(&dir)), (64, Ok(false)));
        fs::remove_dir(&dir).unwrap();
        assert_eq!(make(&dir), Ok(true));
        fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn after_a_failure_the_logs_stay() {
        let dir = std::env::temp_dir().join(format!("hart-leave-{}", std::process::id()));
        fs::create_dir_all(dir.join("n1/data")).unwrap();
        fs::write(dir.join("n1.log"), "x").unwrap();
        let program = PathBuf::new();
        let place = Place { dir: dir.clone(), program, owner: None, made: true, keep: false };
        let said = place.leave(true);
        assert!(dir.join("n1.log").exists() && !dir.join("n1").exists(), "{said}");
        let said = place.leave(false);
        assert!(!dir.exists() && said.contains("have been removed"), "{said}");
    }

    #[test]
    fn a_program_in_a_private_directory_is_not_open() {
        let dir = std::env::temp_dir().join(format!("hart-open-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let program = dir.join("program");
        fs::write(&program, "x").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        let open = is_open(&program);
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
        let closed = is_open(&program);
        fs::remove_dir_all(&dir).unwrap();
        assert!(open && !closed);
    }
}
