//! Where the suite runs, and as whom.
//!
//! The suite has fixed ports and may wipe `service/` in the Consul that it finds: as root each feature
//! gets a network and processes of its own, which end with it. PostgreSQL refuses to run as root, so
//! then it all runs as user `postgres`.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::arguments::Arguments;
use super::checkout;
use super::result::{self, Scenario};
use crate::command::{find, is_root, output};

/// How long one feature may take; the slowest takes about five minutes.
const DEADLINE: &str = "1500";

/// Process 1 of the feature's own processes: it sets the network up, and reaps who is left behind.
const INIT: &str = "ip link set lo up && \"$@\"; exit $?";

/// What became of one feature.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) feature: String,
    pub(super) scenarios: Vec<Scenario>,
    /// Why there is no result.
    pub(super) problem: Option<String>,
}

/// The folder that it all happens in, and the user.
pub(super) struct Host {
    folder: PathBuf,
    kept: bool,
    /// User and group of `postgres`, as root.
    user: Option<(u32, u32)>,
    /// With PostgreSQL's own programs first: a wrapper there takes other options.
    path: String,
}

impl Host {
    pub(super) fn new(work: Option<PathBuf>) -> Result<Self> {
        let kept = work.is_some();
        let own = || std::env::temp_dir().join(format!("hart-suite-{}", std::process::id()));
        let folder = std::path::absolute(work.unwrap_or_else(own)).context("no such folder")?;
        let failed = || format!("cannot make {}", folder.display());
        fs::create_dir_all(&folder).with_context(failed)?;
        let user = is_root().then(postgres_user).transpose()?;
        if let Some((user, group)) = user {
            chown(&folder, Some(user), Some(group)).with_context(failed)?;
        }
        let programs = server_programs()?;
        let inherited = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{inherited}", programs.display());
        Ok(Self { folder, kept, user, path })
    }

    /// Without a network of its own, one feature at a time, and not where Consul runs already.
    pub(super) fn may_start(&self, jobs: usize) -> Result<()> {
        if self.user.is_some() {
            return Ok(());
        }
        ensure!(jobs == 1, "only root can run several features beside each other: no --jobs");
        let consul = SocketAddr::from(([127, 0, 0, 1], 8500));
        let taken = TcpStream::connect_timeout(&consul, Duration::from_secs(1)).is_ok();
        ensure!(
            !taken,
            "a Consul runs on {consul}: the suite would delete its keys below service/"
        );
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn shown(&self) -> String {
        self.folder.display().to_string()
    }

    pub(super) fn python(&self) -> PathBuf {
        self.path("venv/bin/python")
    }

    /// Copies a program to where the user may run it.
    pub(super) fn take(&self, program: &Path, name: &str) -> Result<()> {
        let copied = fs::copy(program, self.path(name));
        copied.map(|_| ()).with_context(|| format!("cannot copy {}", program.display()))
    }

    /// A command that runs as the user.
    pub(super) fn as_user(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = if let Some((user, group)) = self.user {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &user.to_string(), "--regid", &group.to_string()]);
            // setpriv itself still has root's rights when it looks for the program: env has not.
            command.args(["--init-groups", "--", "env", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.env("HOME", &self.folder).env("PATH", &self.path).current_dir(&self.folder);
        command
    }

    /// Removes the folder, unless it is wanted.
    pub(super) fn leave(&self, well: bool) {
        if well && !self.kept {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    fn give(&self, path: &Path) -> Result<()> {
        let Some((user, group)) = self.user else { return Ok(()) };
        let owner = format!("{user}:{group}");
        output(Command::new("chown").args(["-R", &owner]).arg(path)).map(|_| ())
    }

    /// Behave on one feature, in its copy of the checkout.
    fn behave(&self, feature: &str, copy: &Path) -> Command {
        let as_user = self.as_user(self.python());
        let mut command = Command::new("timeout");
        command.args(["--kill-after", "10", DEADLINE]);
        if self.user.is_some() {
            command.args(["unshare", "--net", "--pid", "--fork", "--kill-child=KILL"]);
            command.args(["--mount-proc", "--", "sh", "-c", INIT, "sh"]);
        }
        command.arg(as_user.get_program()).args(as_user.get_args());
        command.args(["-m", "behave", "--no-color", "-f", "json", "-o", "result.json"]);
        command.args(["-f", "plain", &format!("features/{feature}.feature")]);
        command.env_clear().env("PATH", &self.path).env("HOME", copy).env("LANG", "C.UTF-8");
        command.env("TMPDIR", copy.join("tmp")).env("DCS", "consul");
        command.current_dir(copy).stdin(Stdio::null());
        command
    }

    fn run(&self, feature: &str, checkout: &Path) -> Result<Vec<Scenario>> {
        let copy = self.path(feature);
        if copy.exists() {
            fs::remove_dir_all(&copy)
                .with_context(|| format!("cannot empty {}", copy.display()))?;
        }
        checkout::copy(checkout, &copy, &self.path("hart"))?;
        fs::create_dir(copy.join("tmp")).context("no folder for sockets")?;
        self.give(&copy)?;
        let log = copy.join("behave.log");
        let file = fs::File::create(&log).context("no log")?;
        let both = file.try_clone().context("no log")?;
        let ended = self.behave(feature, &copy).stdout(file).stderr(both).status();
        let ended = ended.context("behave cannot be started")?;
        let text = fs::read_to_string(copy.join("result.json")).unwrap_or_default();
        let shown = fs::read_to_string(&log).unwrap_or_default();
        result::read(&text, &shown).with_context(|| format!("{ended}; see {}", log.display()))
    }
}

/// Runs all features, `jobs` beside each other, and answers in the order in which they are given.
pub(super) fn all(host: &Host, arguments: &Arguments) -> Result<Vec<Outcome>> {
    let waiting = Mutex::new(arguments.features.iter().enumerate());
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some((place, feature)) = waiting.lock().ok().and_then(|mut next| next.next()) {
            eprintln!("{feature}: running");
            let ran = host.run(feature, &arguments.checkout);
            let (scenarios, problem) = match ran {
                Ok(scenarios) => (scenarios, None),
                Err(error) => (Vec::new(), Some(format!("no result: {error:#}"))),
            };
            eprintln!("{feature}: done");
            let outcome = Outcome { feature: feature.clone(), scenarios, problem };
            done.lock().map(|mut done| done.push((place, outcome))).unwrap_or_default();
        }
    };
    std::thread::scope(|scope| (0..arguments.jobs).for_each(|_| drop(scope.spawn(work))));
    let Ok(mut done) = done.into_inner() else { bail!("a feature's thread has ended early") };
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, outcome)| outcome).collect())
}

fn postgres_user() -> Result<(u32, u32)> {
    let number = |option: &str| {
        let said = output(Command::new("id").args([option, "postgres"]))?;
        let said = String::from_utf8_lossy(&said);
        said.trim().parse::<u32>().with_context(|| format!("id said {said:?}"))
    };
    Ok((number("-u")?, number("-g")?))
}

/// Where `postgres` and its programs are: those on `PATH`, or Debian's newest.
fn server_programs() -> Result<PathBuf> {
    if let Some(found) = find("postgres").and_then(|program| program.canonicalize().ok()) {
        return found.parent().map(Path::to_path_buf).context("postgres has no folder");
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = versions.filter_map(|entry| Some((number(&entry.path())?, entry.path())));
    let newest = versions.max().map(|(_, path)| path.join("bin"));
    newest.context("no PostgreSQL server on PATH nor in /usr/lib/postgresql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behave_runs_unprivileged_and_with_nothing_of_the_callers() {
        let folder = std::env::temp_dir().join(format!("xtask-{}-host", std::process::id()));
        let mut host = Host::new(Some(folder.clone())).unwrap();
        host.user = Some((101, 104));
        let command = host.behave("recovery", &folder.join("recovery"));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let line = words.join(" ");
        fs::remove_dir_all(&folder).unwrap();
        assert!(line.contains("unshare --net --pid"), "{line}");
        assert!(line.contains("setpriv --reuid 101 --regid 104"), "{line}");
        assert!(line.ends_with("features/recovery.feature"), "{line}");
        let given = command.get_envs().any(|(name, value)| name == "DCS" && value.is_some());
        assert!(given, "{command:?}");
    }
}
