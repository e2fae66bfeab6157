//! Patroni itself, to be compared with: its programs out of Python's package index.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::cluster::Cluster;

/// The version that hart is compared with.
pub const VERSION: &str = "4.1.5";
/// That of the system: other users may run it, which another one on the path may lie out of reach for.
const PYTHON: &str = "/usr/bin/python3";

/// Patroni's programs.
#[derive(Clone, Debug)]
pub struct Patroni {
    bin: PathBuf,
}

impl Patroni {
    /// Installs it below `dir`, unless it is there already. Several may do so at the same time.
    ///
    /// # Errors
    /// There is no Python, or no package index.
    pub fn install(dir: &Path) -> Result<Self> {
        let venv = dir.join(format!("patroni-{VERSION}"));
        let about = || format!("cannot make {}", venv.display());
        fs::create_dir_all(dir).with_context(about)?;
        let lock = File::create(venv.with_extension("lock")).with_context(about)?;
        flock(&lock, FlockOperation::LockExclusive).with_context(about)?;
        let ready = venv.join("ready");
        if !ready.exists() {
            fill(&venv)?;
            File::create(ready).with_context(about)?;
        }
        Ok(Self { bin: venv.join("bin") })
    }

    /// One of its programs, or Python.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Has it run all nodes of a cluster that has not been started, by their own configuration files, with the shortest
    /// times that it takes.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn equip(&self, cluster: &mut Cluster) -> Result<()> {
        let text = format!(
            "#!/bin/sh\n# The configuration file is the last argument, as that of `hart agent`.\n\
             for file; do :; done\n\
             exec setpriv --reuid postgres --regid postgres --init-groups {} \"$file\"\n",
            self.program("patroni").display()
        );
        let script = cluster.dir().write("patroni", "root", &text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let names: Vec<String> =
            cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
        for name in names {
            let node = cluster.node_mut(&name)?;
            node.set_binary(&script);
            for (key, value) in [("ttl", 20), ("loop_wait", 1), ("retry_timeout", 3)] {
                node.config_mut().dcs(key, value.into());
            }
        }
        Ok(())
    }
}

fn fill(venv: &Path) -> Result<()> {
    run(Command::new(python()).args(["-m", "venv", "--clear"]).arg(venv))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--retries", "1"]);
    run(pip.args([&format!("patroni[consul]=={VERSION}"), "psycopg2-binary"]))
}

/// Debian keeps what makes environments in a package of its own.
fn python() -> &'static str {
    let mut own = Command::new(PYTHON);
    let whole = own.args(["-c", "import venv, ensurepip"]).output();
    if whole.is_ok_and(|output| output.status.success()) { PYTHON } else { "python3" }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
