//! A disk of its own, which can fail.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::program::run_program;

/// An ext4 file system on a loop device, unmounted at the end. Needs root.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    path: PathBuf,
}

impl LoopDisk {
    /// Makes `megabytes` in the file `image` and mounts them on the directory `path`, for this owner
    /// alone.
    ///
    /// # Errors
    /// When it cannot be made or mounted.
    pub fn mount(image: PathBuf, path: &Path, megabytes: u64, owner: (u32, u32)) -> Result<Self> {
        let file = File::create_new(&image).with_context(|| image.display().to_string())?;
        file.set_len(megabytes * 1024 * 1024)?;
        drop(file);
        run_program(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        let disk = Self { image, path: path.to_owned() };
        disk.attach()?;
        std::fs::remove_dir(path.join("lost+found"))?;
        std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(path, mode)?;
        Ok(disk)
    }

    /// It takes no more writes, as after an error: the kernel does this by itself then, also under
    /// files that are open.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn fail(&self) -> Result<()> {
        let mut abort = Command::new("mount");
        run_program(abort.args(["-o", "remount,abort"]).arg(&self.path)).map(drop)
    }

    /// It hangs: whoever writes to it sleeps, and cannot be killed, until what this returns is dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self) -> Result<Frozen> {
        run_program(Command::new("fsfreeze").arg("--freeze").arg(&self.path))?;
        Ok(Frozen(self.path.clone()))
    }

    /// It is checked and works again. Nobody may have a file open on it.
    ///
    /// # Errors
    /// When it is in use.
    pub fn mend(&self) -> Result<()> {
        run_program(Command::new("umount").arg(&self.path))?;
        self.attach()
    }

    /// The kernel repairs what its journal tells.
    fn attach(&self) -> Result<()> {
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "ext4", "-o", "loop,errors=remount-ro"]);
        run_program(mount.arg(&self.image).arg(&self.path)).map(drop)
    }
}

/// A disk that hangs.
#[derive(Debug)]
#[must_use]
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = run_program(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0)) {
            eprintln!("{} stays frozen: {error:#}", self.0.display());
        }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just dying may still have a file open.
        let mut unmount = Command::new("umount");
        if let Err(error) = run_program(unmount.arg("--lazy").arg(&self.path)) {
            eprintln!("{} stays mounted: {error:#}", self.path.display());
        }
    }
}
