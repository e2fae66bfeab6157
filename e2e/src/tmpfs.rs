//! A small disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::program::run_program;

/// A file system in memory, unmounted at the end. Needs root.
#[derive(Debug)]
pub struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts `megabytes` on the directory `path`, for this owner alone.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(path: &Path, megabytes: u32, (uid, gid): (u32, u32)) -> Result<Self> {
        let options = format!("size={megabytes}m,mode=0700,uid={uid},gid={gid}");
        let mut mount = Command::new("mount");
        run_program(mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Gives it another size; what is in it stays.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resize(&self, megabytes: u32) -> Result<()> {
        let options = format!("remount,size={megabytes}m");
        run_program(Command::new("mount").args(["-o", &options]).arg(&self.path)).map(drop)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that is just dying may still have a file open.
        let mut unmount = Command::new("umount");
        if let Err(error) = run_program(unmount.arg("--lazy").arg(&self.path)) {
            eprintln!("{} stays mounted: {error:#}", self.path.display());
        }
    }
}
