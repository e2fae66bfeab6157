//! A Debian in a folder that its own systemd runs (systemd-nspawn), on a wire with others.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::net::BRIDGE;
use super::{Layer, Net};
use crate::command::{run, succeeds};

/// Booting takes seconds; a busy computer may take longer.
const BOOT: Duration = Duration::from_secs(120);

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a shell's words in the folder of a system that is not started, and answers what they print.
pub(crate) fn chroot(root: &Path, words: &str) -> Result<String> {
    let mut command = Command::new("chroot");
    command.arg(root).args(["env", "-i", PATH, "HOME=/root", "DEBIAN_FRONTEND=noninteractive"]);
    said(command.args(["sh", "-ec", words]), words)
}

fn said(command: &mut Command, words: &str) -> Result<String> {
    let done = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let error = String::from_utf8_lossy(&done.stderr);
        bail!("failed ({}): {words}\n{said}{error}", done.status);
    }
    Ok(said)
}

/// A machine that runs; it is killed when it is dropped.
pub(crate) struct Machine {
    /// Its host name.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) root: PathBuf,
    nspawn: Child,
    init: String,
    /// After the process that uses it.
    _layer: Layer,
}

impl Machine {
    /// Starts a system, and waits until its services run. `run` is unique on this computer.
    pub(crate) fn boot(
        run: &str,
        name: &str,
        layer: Layer,
        net: &Net,
        address: &str,
    ) -> Result<Self> {
        let root = layer.root();
        fs::write(root.join("etc/hostname"), format!("{name}\n"))?;
        let log = File::create(root.with_extension("log"))?;
        let mut start = Command::new("nsenter");
        start.arg(format!("--net={}", net.file())).arg("systemd-nspawn");
        start.args([
            "--register=no",
            "--keep-unit",
            "--boot",
            "--console=pipe",
            "--capability=all",
        ]);
        start.arg(format!("--network-bridge={BRIDGE}"));
        start.arg("--directory").arg(&root).arg(format!("--machine={run}-{name}"));
        start.arg(format!("--hostname={name}"));
        // What a machine of today has: cgroups of version 2 alone, whatever this computer has.
        start.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        start.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
        let nspawn = start.spawn().context("cannot run nsenter")?;
        let mut machine =
            Self { name: name.to_owned(), root, nspawn, init: String::new(), _layer: layer };
        machine.wait_for_init()?;
        machine.shell(&format!("ip address add {address}/24 dev host0; ip link set host0 up"))?;
        Ok(machine)
    }

    fn wait_for_init(&mut self) -> Result<()> {
        let log = self.root.with_extension("log");
        let late = format!("{} does not come up within {BOOT:?}: see {}", self.name, log.display());
        until(BOOT, || {
            if let Some(status) = self.nspawn.try_wait()? {
                bail!("systemd-nspawn ended ({status}): see {}", log.display());
            }
            let children = format!("/proc/{0}/task/{0}/children", self.nspawn.id());
            let children = fs::read_to_string(children).unwrap_or_default();
            let Some(init) = children.split_whitespace().next() else { return Ok(None) };
            init.clone_into(&mut self.init);
            let asked = "systemctl is-system-running | grep -Eqx 'running|degraded'";
            Ok(succeeds(&mut self.inside(asked)).then_some(()))
        })?
        .context(late)
    }

    /// A shell's words, to be run by root in the machine; the first that fails ends them.
    pub(crate) fn inside(&self, words: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target", &self.init, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
            "--root", "--wd", "--",
        ]);
        command.args([
            "env",
            "-i",
            PATH,
            "HOME=/root",
            "LANG=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
            "bash",
            "-euo",
            "pipefail",
            "-c",
            words,
        ]);
        command
    }

    /// Runs them and answers what they print.
    pub(crate) fn shell(&self, words: &str) -> Result<String> {
        said(&mut self.inside(words), words).with_context(|| format!("on {}", self.name))
    }

    /// Runs them and shows what they print.
    pub(crate) fn show(&self, words: &str) -> Result<()> {
        run(&mut self.inside(words)).with_context(|| format!("on {}", self.name))
    }

    /// Asks until `wanted` says yes of what the words print.
    pub(crate) fn wait(
        &self,
        words: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let mut last = String::new();
        let said = until(within, || {
            // What fails may work later, such as a question to a service that is being started.
            let said = self.shell(words);
            last = said.as_ref().map_or_else(|error| format!("{error:#}"), Clone::clone);
            Ok(said.ok().filter(|said| wanted(said)))
        })?;
        said.with_context(|| format!("on {}, after {within:?}, still: {words}\n{last}", self.name))
    }

    /// For a person.
    pub(crate) fn how_to_enter(&self) -> String {
        format!(
            "nsenter --target {} --mount --uts --ipc --net --pid --cgroup --root --wd",
            self.init
        )
    }

    /// Power is cut.
    fn kill(&mut self) {
        let mut kill = Command::new("kill");
        let _ = kill.args(["-KILL", &self.init]).stderr(Stdio::null()).status();
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks again and again until there is something; `None`: not within the time.
#[expect(clippy::disallowed_methods, reason = "another machine tells nobody of what happens on it")]
fn until<T>(within: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let end = Instant::now() + within;
    loop {
        let found = look()?;
        if found.is_some() || Instant::now() > end {
            return Ok(found);
        }
        sleep(Duration::from_millis(200));
    }
}
