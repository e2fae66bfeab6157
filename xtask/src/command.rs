//! Running other programs.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// `cargo` as it was called, with these arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Runs to the end, showing what is run and its output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("failed ({status}): {line}");
    }
    Ok(())
}

/// Runs to the end and answers what it printed on stdout.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let line = show(command);
    let done = command.output().with_context(|| format!("cannot run {line}"))?;
    if !done.status.success() {
        bail!("failed ({}): {line}", done.status);
    }
    Ok(done.stdout)
}

/// Becomes this program: its output is the last, its exit code is ours, and Ctrl-C is for it
/// alone. Returns only when it cannot be started.
pub(crate) fn become_it(command: &mut Command) -> Result<()> {
    let line = show(command);
    Err(command.exec()).with_context(|| format!("cannot run {line}"))
}

/// Whether the program runs and succeeds; its output is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Where a program is on `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

/// Whether this process is root: its own directory in `/proc` belongs to its effective user.
pub(crate) fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|own| own.uid() == 0)
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = words.join(" ");
    eprintln!("$ {line}");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_run() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
        assert!(succeeds(Command::new("sh").args(["-c", "exit 0"])));
        assert!(!succeeds(Command::new("sh").args(["-c", "exit 3"])));
        assert!(!succeeds(&mut Command::new("no-such-program-anywhere")));
        assert!(run(Command::new("sh").args(["-c", "exit 3"])).is_err());
        assert_eq!(output(Command::new("sh").args(["-c", "echo x"])).unwrap(), b"x\n");
        assert!(output(Command::new("sh").args(["-c", "echo x; exit 3"])).is_err());
    }
}
