//! Running programs to their end.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_testkit::{Process, TempDir};

use crate::DEADLINE;

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// All that it wrote.
    pub output: String,
}

/// Runs `program`, a copy of the binary or the binary itself, as this owner, to its end.
///
/// # Errors
/// When it does not start or does not end in time.
pub fn run_hart(
    program: &Path,
    arguments: &[&str],
    owner: Option<(u32, u32)>,
    dir: &TempDir,
) -> Result<Ended> {
    let mut command = Command::new(program);
    command.args(arguments).env("NO_COLOR", "1").current_dir("/");
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    let log = dir.path().join("output");
    let _ = std::fs::remove_file(&log);
    let mut process = Process::start(&mut command, &log)?;
    let status = process.wait(DEADLINE)?;
    Ok(Ended { code: status.code(), output: process.log() })
}

/// Runs a program that must succeed; its standard output.
///
/// # Errors
/// When it does not, with its error output.
pub fn run_program(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("cannot run {program:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program:?} failed: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// User and group of a file.
///
/// # Errors
/// When it is not there.
pub fn owner_of(path: &Path) -> Result<(u32, u32)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.uid(), metadata.gid()))
}

/// Those of `processes` whose program has this name (its first 15 bytes).
#[must_use]
pub fn named(name: &str, processes: &[u32]) -> Vec<u32> {
    let is = |pid: &&u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    processes.iter().filter(is).copied().collect()
}
