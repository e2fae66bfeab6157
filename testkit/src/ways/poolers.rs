//! A PgBouncer on each node's host, with hart's own template and paused by the host's agent.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::hart_of;
use crate::cluster::Cluster;
use crate::node::NodeConfig;
use crate::process::Process;
use crate::wait::eventually;

/// Where each listens.
pub(super) const PORT: u16 = 6432;

/// The PgBouncers.
#[derive(Debug)]
pub(super) struct Poolers {
    programs: Vec<(String, Process)>,
}

fn dir(config: &NodeConfig) -> PathBuf {
    config.home.join("pool")
}

/// The agent's part, before it is started.
pub(super) fn configure(config: &mut NodeConfig) -> Result<()> {
    let dir = furnish(config)?;
    let dir = dir.display();
    config.extra.push_str(&format!(
        "pgbouncer:\n  poolers: [\"{dir}:{PORT}\"]\n  password: pgbouncer\n  \
         databases_file: {dir}/databases.ini\n"
    ));
    Ok(())
}

/// The directory, with users.
fn furnish(config: &NodeConfig) -> Result<PathBuf> {
    let dir = dir(config);
    fs::create_dir(&dir)?;
    fs::write(dir.join("users"), "\"postgres\" \"postgres\"\n\"pgbouncer\" \"pgbouncer\"\n")?;
    run(Command::new("chown").args(["-R", "postgres:postgres"]).arg(&dir))?;
    Ok(dir)
}

/// A PgBouncer on the host of the node `at` that leads to the node `to`, whoever leads, and is paused by nobody.
///
/// # Errors
/// A program is missing, or nobody runs the cluster yet.
pub fn pool(cluster: &Cluster, at: &str, to: &str) -> Result<Process> {
    let dir = furnish(cluster.node(at)?.config())?;
    let host = format!("host={}", cluster.node(to)?.config().address);
    let sets = [
        host,
        "port=5432".to_owned(),
        set("socket_dir", &dir),
        set("auth_file", &dir.join("users")),
    ];
    template(cluster, at, &dir, &sets)
}

impl Poolers {
    pub(super) async fn start(cluster: &Cluster, deadline: Duration) -> Result<Self> {
        let mut programs = Vec::new();
        for name in ["n1", "n2", "n3"] {
            programs.push((name.to_owned(), start(cluster, name, deadline).await?));
        }
        Ok(Self { programs })
    }

    /// After its host was lost.
    pub(super) async fn revive(
        &mut self,
        cluster: &Cluster,
        name: &str,
        deadline: Duration,
    ) -> Result<()> {
        self.programs.retain(|(other, _)| other != name);
        self.programs.push((name.to_owned(), start(cluster, name, deadline).await?));
        Ok(())
    }
}

async fn start(cluster: &Cluster, name: &str, deadline: Duration) -> Result<Process> {
    let dir = dir(cluster.node(name)?.config());
    let databases = dir.join("databases.ini");
    eventually("the file of the databases", deadline, async || {
        ensure!(databases.exists(), "none");
        Ok(())
    })
    .await?;
    let sets = [
        set("databases_file", &databases),
        set("socket_dir", &dir),
        set("auth_file", &dir.join("users")),
    ];
    template(cluster, name, &dir, &sets)
}

fn set(key: &str, path: &Path) -> String {
    format!("{key}={}", path.display())
}

/// Runs one with hart's own template.
fn template(cluster: &Cluster, name: &str, dir: &Path, sets: &[String]) -> Result<Process> {
    let mut arguments = vec!["template", "pgbouncer"];
    sets.iter().for_each(|set| arguments.extend(["--set", set]));
    let file = dir.join("pgbouncer.ini");
    fs::write(&file, hart_of(cluster, name, &arguments)?)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    command.arg(program()).arg(&file);
    cluster.host(name)?.start(&mut command, &dir.join("pgbouncer.log"))
}

/// `HART_PGBOUNCER` names another one than that on the path.
fn program() -> OsString {
    std::env::var_os("HART_PGBOUNCER").unwrap_or_else(|| "pgbouncer".into())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
