//! Directories for a test.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::User;

/// A directory that is removed with everything in it when the value is dropped, unless
/// `HART_KEEP=1` is set. Its path is short, for Unix sockets have room for 107 bytes.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes `/tmp/hart-<pid>-<random>`, readable by everyone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let name = format!("hart-{}-{:06x}", std::process::id(), fastrand::u32(..1 << 24));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory inside, mode 0700, that belongs to `user`; as an ordinary user, to
    /// whoever runs this.
    ///
    /// # Errors
    /// When it cannot be made or `user` is unknown.
    pub fn make(&self, name: &str, user: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        give(&path, user)?;
        Ok(path)
    }

    /// Writes a file inside that only `user` can read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, user: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        give(&path, user)?;
        Ok(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var_os("HART_KEEP").is_some_and(|keep| keep == "1") {
            eprintln!("kept: {}", self.path.display());
            return;
        }
        // A process that is just dying may still create a file: once more then.
        let removed = (0..3).any(|_| fs::remove_dir_all(&self.path).is_ok());
        if !removed && self.path.exists() {
            eprintln!("left behind: {}", self.path.display());
        }
    }
}

fn give(path: &Path, user: &str) -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let owner = user_ids(user)?;
    chown(path, Some(owner.0), Some(owner.1))
        .with_context(|| format!("cannot give {} to user {user}", path.display()))
}

/// The numbers of user and group of `user`.
///
/// # Errors
/// When there is no such user.
pub(crate) fn user_ids(user: &str) -> Result<(u32, u32)> {
    let found = User::from_name(user).with_context(|| format!("cannot look up user {user}"))?;
    let found = found.with_context(|| format!("no user {user}; is PostgreSQL installed?"))?;
    Ok((found.uid.as_raw(), found.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_removed_with_its_contents_even_after_a_panic() {
        let seen = std::sync::Mutex::new(PathBuf::new());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let dir = TempDir::new().expect("dir");
            fs::write(dir.path().join("file"), "x").expect("write");
            *seen.lock().expect("lock") = dir.path().to_owned();
            panic!("on purpose");
        }));
        assert!(result.is_err());
        let path = seen.lock().expect("lock").clone();
        assert!(path.starts_with("/tmp") && !path.exists());
    }
}
