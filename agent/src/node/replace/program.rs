//! A binary of hart: where it lies, which file that is, and whether it could do an agent's work.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long a binary may take to say its version.
const SAY: Duration = Duration::from_secs(5);
/// How long it may take over the configuration and the machine.
const CHECK: Duration = Duration::from_secs(30);
/// So much is shown of what a program says that is no hart, in characters.
const SHOWN: usize = 120;

/// Which file a path leads to. A package's upgrade puts another one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file at `path`, links followed.
    ///
    /// # Errors
    /// There is none, or it cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found: Metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            changed: (found.mtime(), found.mtime_nsec()),
        })
    }
}

/// The binary that this process runs.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where it was started from, and where the next version is looked for.
    pub path: PathBuf,
    /// Which file runs.
    pub runs: Option<Stamp>,
}

impl Program {
    /// To be asked before the working directory changes. The name by which it was started counts where it
    /// leads to the file that runs, for it may be a link that an upgrade turns to another file.
    #[must_use]
    pub fn own() -> Self {
        let runs = Stamp::of(Path::new("/proc/self/exe")).ok();
        let named = std::env::args_os().next().map(PathBuf::from);
        let named = named.filter(|name| name.components().count() > 1);
        let named = named.and_then(|name| std::path::absolute(name).ok());
        let same = |path: &PathBuf| Stamp::of(path).is_ok_and(|stamp| Some(stamp) == runs);
        let path = named.filter(same).or_else(|| std::env::current_exe().ok());
        Self { path: path.unwrap_or_else(|| "hart".into()), runs }
    }

    /// Is the file at the path another one than that which runs? `None`: it is the same, or there is none.
    #[must_use]
    pub fn newer(&self) -> Option<Stamp> {
        Stamp::of(&self.path).ok().filter(|there| Some(*there) != self.runs)
    }

    /// Whether the binary at the path could go on with this agent's work: its version.
    ///
    /// # Errors
    /// It is no hart, or one that could not take what it is given, does not run here, or (unless `force`) its `check`
    /// finds what is in the way.
    pub async fn verify(&self, file: Option<PathBuf>, force: bool) -> Result<String, String> {
        let version = version_of(&self.path).await?;
        takes_over(&self.path, &version).await?;
        match file {
            Some(file) if !force => check(&self.path, &file).await.map(|()| version),
            _ => Ok(version),
        }
    }
}

/// The version of the hart at `path`, such as `0.1.0`.
///
/// # Errors
/// It does not run, or is no hart; names the path.
pub async fn version_of(path: &Path) -> Result<String, String> {
    let (_, said) = run(path, &["--version".as_ref()], SAY).await?;
    let version = said.trim().strip_prefix("hart ").map(str::trim);
    let version = version.filter(|text| !text.is_empty() && !text.contains(char::is_whitespace));
    version.map(str::to_owned).ok_or_else(|| {
        let said: String = said.trim().chars().take(SHOWN).collect();
        format!("{} is no hart: asked for its version it says {said:?}", path.display())
    })
}

/// A hart that knows nothing of such a change would leave the sockets that it is given open, and the signals blocked: it could
/// neither listen nor be stopped.
async fn takes_over(path: &Path, version: &str) -> Result<(), String> {
    let asked = ["upgrade-agent".as_ref(), "--help".as_ref()];
    let (knows, _) = run(path, &asked, SAY).await?;
    if knows {
        return Ok(());
    }
    Err(format!(
        "{} is hart {version}, which is too old to take a running agent's place: end this agent with SIGKILL (systemctl \
         kill --kill-whom=main -s KILL hart) and have that one started; it finds PostgreSQL under its guard",
        path.display()
    ))
}

/// What the new version thinks of the configuration and this machine, as `hart check` would say it.
async fn check(path: &Path, file: &Path) -> Result<(), String> {
    let (good, said) = run(path, &["check".as_ref(), file.as_os_str()], CHECK).await?;
    if good {
        return Ok(());
    }
    let mut lines = said.lines().peekable();
    let mut failed = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("FAIL") {
            let remedy = lines.next_if(|next| next.trim_start().starts_with("remedy:"));
            failed.extend([found.trim(), remedy.unwrap_or_default().trim()].map(str::to_owned));
        }
    }
    failed.retain(|line| !line.is_empty());
    let why = if failed.is_empty() { said.trim().to_owned() } else { failed.join("; ") };
    Err(format!("{} check {}: {why}", path.display(), file.display()))
}

/// Whether it ended well, and what it said.
async fn run(
    path: &Path,
    arguments: &[&std::ffi::OsStr],
    within: Duration,
) -> Result<(bool, String), String> {
    let failed = |error: io::Error| format!("{} cannot be executed: {error}", path.display());
    let mut command = Command::new(path);
    let command = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(within, command.output()).await;
    let output = output.map_err(|_| {
        let seconds = within.as_secs();
        format!("{} {:?} did not end within {seconds} s", path.display(), arguments[0])
    })?;
    let output = output.map_err(failed)?;
    let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    Ok((output.status.success(), String::from_utf8_lossy(said).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Script(PathBuf);

    impl Script {
        fn new(text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hart-program-{:x}", fastrand::u64(..)));
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Self(path)
        }

        fn program(&self) -> Program {
            Program { path: self.0.clone(), runs: None }
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[tokio::test]
    async fn a_binary_that_could_not_do_it_is_refused_with_the_reason() {
        let file = || Some(PathBuf::from("/etc/hart/n1.yml"));
        let missing = Program { path: "/nonexistent/hart".into(), runs: None };
        let why = missing.verify(file(), false).await.unwrap_err();
        assert!(why.starts_with("/nonexistent/hart cannot be executed: "), "{why}");
        let other = Script::new("echo 'postgres (PostgreSQL) 15.14'");
        let why = other.program().verify(None, true).await.unwrap_err();
        assert!(why.contains("is no hart") && why.contains("PostgreSQL"), "{why}");
        let old = Script::new("[ $1 = --version ] && echo hart 0.0.1 && exit\nexit 64");
        let why = old.program().verify(None, true).await.unwrap_err();
        assert!(
            why.contains("is hart 0.0.1, which is too old") && why.contains("SIGKILL"),
            "{why}"
        );
        let text = "[ $1 = --version ] && echo hart 9.8.7 && exit\n\
                    [ $1 = upgrade-agent ] && exit\n\
                    echo 'ok    user           postgres'\n\
                    echo 'FAIL  configuration  colour: unknown key'\n\
                    echo '                     remedy: take it out'\nexit 1";
        let strict = Script::new(text);
        let why = strict.program().verify(file(), false).await.unwrap_err();
        assert!(
            why.ends_with(
                "check /etc/hart/n1.yml: configuration  colour: unknown key; remedy: take it out"
            ),
            "{why}"
        );
        assert_eq!(strict.program().verify(file(), true).await.as_deref(), Ok("9.8.7"));
        let good = Script::new("echo hart 9.8.7");
        assert_eq!(good.program().verify(file(), false).await.as_deref(), Ok("9.8.7"));
    }

    #[test]
    fn another_file_at_the_path_is_noticed() {
        let script = Script::new("true");
        let runs = Stamp::of(&script.0).ok();
        let program = Program { path: script.0.clone(), runs };
        assert_eq!(program.newer(), None);
        let other = Script::new("echo another");
        std::fs::rename(&other.0, &script.0).unwrap();
        assert!(program.newer().is_some());
        std::fs::remove_file(&script.0).unwrap();
        assert_eq!(program.newer(), None, "what is not there cannot take over");
    }
}
