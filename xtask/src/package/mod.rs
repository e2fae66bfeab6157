//! `cargo xtask package`: a Debian package and a tarball of the release binary, and `--check`, which
//! installs, upgrades, removes and purges the package in a clean Debian.

mod check;
mod debian;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, run};
use crate::setup;

pub(crate) use debian::Package;

/// What was made.
pub(crate) struct Made {
    /// The Debian package.
    pub(crate) deb: PathBuf,
    /// The same files for other systems.
    pub(crate) tarball: PathBuf,
}

/// `package [--revision N]` or `package --check`.
pub(crate) fn package(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => show(&make("1")?),
        ["--revision", number] => show(&make(number)?),
        ["--check"] => check::check(),
        _ => bail!("unknown arguments {words:?}; it takes --revision N, --check or none"),
    }
}

fn show(made: &Made) -> Result<()> {
    for file in [&made.deb, &made.tarball] {
        let size = fs::metadata(file).with_context(|| file.display().to_string())?.len();
        println!("{} ({} kB)", file.display(), size / 1000);
    }
    Ok(())
}

/// Builds the binary and packs it; `revision` is the Debian revision, the number behind the version.
pub(crate) fn make(revision: &str) -> Result<Made> {
    setup::install(&[setup::DEBHELPER])?;
    if built_elsewhere().is_none() {
        run(&mut cargo(&["build", "--release", "--package", "hart"]))?;
    }
    pack(revision)
}

/// A binary that somebody names.
fn built_elsewhere() -> Option<PathBuf> {
    std::env::var_os("HART_BIN").map(PathBuf::from)
}

/// Packs the binary as it is.
pub(crate) fn pack(revision: &str) -> Result<Made> {
    let package = Package { version: env!("CARGO_PKG_VERSION"), revision };
    let work = folder()?.join(format!("hart-{}", package.full_version()));
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    let stage = work.join("stage");
    stage::fill(&binary()?, &stage)?;
    let tarball = tarball(&package, &stage)?;
    let deb = debian::build(&package, &work)?;
    Ok(Made { deb, tarball })
}

fn tarball(package: &Package<'_>, stage: &Path) -> Result<PathBuf> {
    let name = format!("hart-{}-{}", package.version, std::env::consts::ARCH);
    let file = folder()?.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--gzip"]);
    tar.arg(format!("--mtime=@{}", debian::moment()?));
    tar.arg(format!("--transform=s,^\\.,{name},")).arg("--directory").arg(stage);
    run(tar.arg("--create").arg("--file").arg(&file).arg("."))?;
    Ok(file)
}

/// The workspace.
pub(crate) fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has no folder")
}

/// Where packages are made: below `target`.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = target()?.join("package");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn target() -> Result<PathBuf> {
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or(root()?.join("target"), PathBuf::from))
}

fn binary() -> Result<PathBuf> {
    let binary = built_elsewhere().map_or(target()?.join("release/hart"), |binary| binary);
    if !binary.is_file() {
        bail!("{} is missing: build it first", binary.display());
    }
    Ok(binary)
}
