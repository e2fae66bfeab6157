//! One agent to a directory, and one identity to a place.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::HomeError;
use super::facts::io_error;

/// Where a directory is: the run of the kernel, and the locked file on its file system. A copy, on a
/// cloned machine or beside the original, is in another place; so is the same directory after a start
/// of the machine, when no earlier run can be alive. Within one place the lock shows that no other
/// agent lives.
pub(super) fn place(lock: &File) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let file = lock.metadata()?;
    Ok(format!("{} {:x}:{}", boot.trim(), file.dev(), file.ino()))
}

pub(super) fn lock(path: &Path) -> Result<Flock<File>, HomeError> {
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(io_error("open", path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| HomeError::Locked(path.to_owned()))
}
