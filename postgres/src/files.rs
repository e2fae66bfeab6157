//! Files written so that a crash leaves either the old or the new content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::settings::RunAs;

/// So many looks at a disk may hang at once; then it hangs for good, and one more tells nothing new.
const HANGING_MAX: usize = 32;
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Runs file work on a thread of its own, so that a slow disk does not hold up the caller's other
/// tasks, and gives up waiting after `within` (the thread goes on; nothing can interrupt a disk). Not
/// on the runtime's threads: others need those, also while the disk hangs.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    within: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    let begun = UNDER_WAY.fetch_add(1, Ordering::Relaxed) < HANGING_MAX
        && std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || {
                let result = work();
                UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
                let _ = done.send(result);
            })
            .is_ok();
    if !begun {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        tokio::time::sleep(within).await;
        return Err(Error::Deadline { what, within });
    }
    match tokio::time::timeout(within, result).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::Abandoned { what }),
        Err(_) => Err(Error::Deadline { what, within }),
    }
}

/// Gives an open file or directory to the user that PostgreSQL runs as, when that is not ourselves. By
/// its name another could have been put in its place: the directory may be that user's.
fn give(file: &File, path: &Path, owner: Option<RunAs>) -> Result<()> {
    let Some(RunAs { uid, gid }) = owner else { return Ok(()) };
    std::os::unix::fs::fchown(file, Some(uid), Some(gid))
        .map_err(Error::io("change the owner of", path))
}

/// The content of a file, or `None` when there is no such file.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// Replaces a file by temporary file, fsync, rename and fsync of the directory. Returns `false`
/// when it had this content and mode already.
pub(crate) fn write_atomic(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<RunAs>,
) -> Result<bool> {
    if is_same(path, content, mode) {
        return Ok(false);
    }
    let dir = parent(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A name of its own: a writer whose caller has gone may still be at work on the same file, and
    // would put this one's half-written file in place.
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!(".{name}.hart-tmp.{}.{writer}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let written = write_new(&temporary, content, mode, owner)
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io("replace", path)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_path(&dir)?;
    Ok(true)
}

fn is_same(path: &Path, content: &[u8], mode: u32) -> bool {
    let same_mode = fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o777 == mode);
    same_mode && fs::read(path).is_ok_and(|old| old == content)
}

/// Creates a file that must not exist, with its mode from the start, and fsyncs it.
pub(crate) fn write_new(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<RunAs>,
) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(Error::io("create", path))?;
    file.write_all(content).map_err(Error::io("write", path))?;
    give(&file, path, owner)?;
    file.sync_all().map_err(Error::io("fsync", path))
}

/// Copies a regular file to where none must be, and fsyncs it. Neither end is followed where it is a
/// symbolic link: both lie in directories of the user that PostgreSQL runs as, and we may be root.
pub(crate) fn copy_new(from: &Path, to: &Path, owner: Option<RunAs>) -> Result<()> {
    let plain = nix::fcntl::OFlag::O_NOFOLLOW.bits() | nix::fcntl::OFlag::O_NONBLOCK.bits();
    let opened = OpenOptions::new().read(true).custom_flags(plain).open(from);
    let mut source = opened.map_err(Error::io("open", from))?;
    if !source.metadata().map_err(Error::io("look at", from))?.is_file() {
        let odd = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
        return Err(Error::io("copy", from)(odd));
    }
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let mut file = created.map_err(Error::io("create", to))?;
    io::copy(&mut source, &mut file).map_err(Error::io("copy", from))?;
    give(&file, to, owner)?;
    file.sync_all().map_err(Error::io("fsync", to))
}

/// Gives a directory to the user that PostgreSQL runs as, and nothing that a symbolic link in its place
/// leads to.
pub(crate) fn give_dir(dir: &Path, owner: Option<RunAs>) -> Result<()> {
    if owner.is_none() {
        return Ok(());
    }
    let plain = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_DIRECTORY;
    let opened = OpenOptions::new().read(true).custom_flags(plain.bits()).open(dir);
    give(&opened.map_err(Error::io("open", dir))?, dir, owner)
}

/// Removes a file if it is there. Returns whether it was.
pub(crate) fn remove_if_there(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("remove", path)(e)),
    }
}

/// fsyncs a file or a directory.
pub(crate) fn sync_path(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("fsync", path))
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Writes out the whole file system below each of these directories (one `syncfs` is much faster
/// than an fsync for each of a thousand files, and since Linux 5.8 reports write errors as well).
pub(crate) fn sync_filesystems(dirs: &[PathBuf]) -> Result<()> {
    for dir in dirs {
        let file = File::open(dir).map_err(Error::io("open", dir))?;
        nix::unistd::syncfs(file.as_fd()).map_err(|e| Error::io("syncfs", dir)(e.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;

    /// Root would read a file of its own for the user that PostgreSQL runs as, or write over one.
    #[test]
    fn a_copy_follows_no_link_at_either_end() {
        let dir = std::env::temp_dir().join(format!("hart-copy-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let [file, link, to] = ["file", "link", "to"].map(|name| dir.join(name));
        fs::write(&file, "secret").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(copy_new(&link, &to, None).is_err() && !to.exists());
        assert!(copy_new(&file, &link, None).is_err(), "it is there");
        assert!(copy_new(&dir, &to, None).is_err(), "no regular file");
        copy_new(&file, &to, None).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"secret");
        let owner = Some(RunAs { uid: Uid::current().as_raw(), gid: Gid::current().as_raw() });
        give_dir(&dir, owner).unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        assert!(give_dir(&link, owner).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn replaces_and_reports_changes() {
        let dir = std::env::temp_dir().join(format!("hart-files-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.conf");
        assert!(write_atomic(&path, b"one", 0o600, None).unwrap());
        assert!(!write_atomic(&path, b"one", 0o600, None).unwrap());
        assert!(write_atomic(&path, b"two", 0o600, None).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no temporary file stays");
        assert!(remove_if_there(&path).unwrap());
        assert!(!remove_if_there(&path).unwrap());
        fs::remove_dir_all(&dir).unwrap();
    }

    /// A writer whose caller gave up waiting is still at work when the next one begins.
    #[test]
    fn writers_at_one_time_leave_a_whole_file() {
        let dir = std::env::temp_dir().join(format!("hart-writers-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("pass");
        std::thread::scope(|scope| {
            for letter in [b"a", b"b", b"c", b"d"] {
                let path = &path;
                scope.spawn(move || {
                    for round in 1..60 {
                        let text = letter.repeat(round * 100);
                        write_atomic(path, &text, 0o600, None).unwrap();
                        let found = fs::read(path).unwrap();
                        assert!(found.len() >= 100 && found.iter().all(|b| *b == found[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "a temporary file stayed");
        fs::remove_dir_all(&dir).unwrap();
    }
}
