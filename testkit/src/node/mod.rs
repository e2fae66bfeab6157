//! One node: an agent, its guard and its PostgreSQL.

mod config;
mod log;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio_postgres::Config;

pub use config::NodeConfig;

use crate::dir::TempDir;
use crate::lab::Host;
use crate::process::{Process, read_lossy, tail};
use crate::procfs;
use crate::sql::sql_config;

/// How long an orderly stop may take.
const STOP: Duration = Duration::from_secs(60);

/// A node with a home directory of its own (`data`, `pgpass`, sockets, log), on a host of a lab or
/// on this machine. Dropping it kills its agent, its guard and its PostgreSQL, and nothing else.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    host: Option<Host>,
    home: PathBuf,
    agent: Option<Process>,
    binary: Option<PathBuf>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    uptime: Option<u64>,
    resolver: Option<Ipv4Addr>,
}

impl Node {
    /// Makes the home directory of a node inside `dir` and nothing more. `config.home` is set to
    /// it.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(dir: &TempDir, host: Option<Host>, mut config: NodeConfig) -> Result<Self> {
        let home = dir.make(&config.name, "postgres")?;
        config.home.clone_from(&home);
        Ok(Self {
            config,
            host,
            home,
            agent: None,
            binary: None,
            environment: Vec::new(),
            arguments: Vec::new(),
            uptime: None,
            resolver: None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The host it is on, in a lab.
    #[must_use]
    pub const fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Its configuration, to be changed before the next start.
    pub const fn config_mut(&mut self) -> &mut NodeConfig {
        &mut self.config
    }

    /// Sets a variable in the environment of the agent from the next start on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// More arguments for `hart agent`, from the next start on.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    }

    /// Gives the node a monotonic clock that is ahead of this machine's by so many seconds, in a time
    /// namespace, from the next start on. [`Node::agent`] is the program `unshare` then, with which
    /// the agent ends.
    pub const fn set_uptime(&mut self, seconds: u64) {
        self.uptime = Some(seconds);
    }

    /// Has the node's programs ask this DNS server, and no other, from the next start on: they have an
    /// `/etc/resolv.conf` of their own, in a mount namespace.
    pub const fn set_resolver(&mut self, address: Ipv4Addr) {
        self.resolver = Some(address);
    }

    /// Runs another binary than [`hart_binary`] from the next start on, as after an upgrade.
    pub fn set_binary(&mut self, path: &Path) {
        self.binary = Some(path.to_owned());
    }

    /// The directory with everything that is its own.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// PostgreSQL's data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.config.data_dir()
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.home.join("hart.yml")
    }

    /// The URL of a path of its REST API.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.config.rest_tls.is_empty() { "http" } else { "https" };
        format!("{scheme}://{}:{}{path}", self.config.address, self.config.rest_port)
    }

    /// How to connect to its PostgreSQL as superuser.
    #[must_use]
    pub fn sql_config(&self) -> Config {
        sql_config(&self.config.address.to_string(), self.config.postgres_port)
    }

    /// As [`Node::sql_config`], from the host itself over loopback.
    #[must_use]
    pub fn local_sql_config(&self) -> Config {
        sql_config("127.0.0.1", self.config.postgres_port)
    }

    /// Writes the configuration and starts the agent, as user `postgres` when run as root.
    ///
    /// # Errors
    /// When the binary is missing or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let text = self.config.render();
        self.start_with(&text)
    }

    /// Starts the agent with this text as its configuration file.
    ///
    /// # Errors
    /// When the binary is missing or cannot be started.
    pub fn start_with(&mut self, yaml: &str) -> Result<()> {
        self.write_config(yaml)?;
        if let Some(address) = self.resolver {
            fs::write(self.resolv_conf(), format!("nameserver {address}\n"))?;
        }
        let mut command = self.program(self.binary.clone().map_or_else(hart_binary, Ok)?);
        command.arg("agent").args(&self.arguments);
        if crate::is_root() {
            command.args(["--user", "postgres"]);
        }
        command.arg(self.config_file()).env("NO_COLOR", "1").current_dir("/");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = self.log_path();
        let agent = match &self.host {
            Some(host) => host.start(&mut command, &log)?,
            None => Process::start(&mut command, &log)?,
        };
        self.agent = Some(agent);
        Ok(())
    }

    /// The running agent.
    ///
    /// # Errors
    /// When it has not been started or has been stopped.
    pub fn agent(&mut self) -> Result<&mut Process> {
        let name = &self.config.name;
        self.agent.as_mut().with_context(|| format!("the agent of {name} has not been started"))
    }

    /// Stops the agent in order, with SIGTERM; its PostgreSQL stops as well.
    ///
    /// # Errors
    /// When it has not ended after a minute.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let status = self.agent()?.stop(STOP)?;
        self.agent = None;
        Ok(status)
    }

    /// Ends the agent alone with SIGKILL.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// Whether the agent runs.
    pub fn agent_runs(&mut self) -> bool {
        self.agent.as_mut().is_some_and(|agent| agent.exit_status().is_none())
    }

    /// Process id of the guard, if one runs.
    #[must_use]
    pub fn guard(&self) -> Option<u32> {
        let agent = self.agent.as_ref().map(Process::id);
        let named = |pid| procfs::program(pid).is_some_and(|name| name.starts_with("hart"));
        let is = |pid: &u32| Some(*pid) != agent && named(*pid);
        self.processes().into_iter().find(is)
    }

    /// The postmaster and its children.
    #[must_use]
    pub fn postgres(&self) -> Vec<u32> {
        let is = |pid: &u32| procfs::program(*pid).is_some_and(|name| name == "postgres");
        self.processes().into_iter().filter(is).collect()
    }

    /// Process id of the postmaster, from `postmaster.pid`, if that process lives.
    #[must_use]
    pub fn postmaster(&self) -> Option<u32> {
        let file = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
        let pid = file.lines().next()?.trim().parse().ok()?;
        procfs::alive(pid).then_some(pid)
    }

    /// Ends the postmaster alone with SIGKILL.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill_postmaster(&self) -> Result<()> {
        let pid =
            self.postmaster().with_context(|| format!("{} has no postmaster", self.name()))?;
        procfs::signal(pid, Signal::KILL)
    }

    /// Ends agent, guard and PostgreSQL with SIGKILL.
    ///
    /// # Errors
    /// When one of them survives.
    pub fn kill_all(&mut self) -> Result<()> {
        self.agent = None;
        procfs::kill_all(|| self.processes())
    }

    /// Agent, guard, postmaster and its children.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        procfs::using_path(&self.home)
    }

    /// Where the agent's output goes, over all its starts.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.home.join("hart.log")
    }

    /// The agent's output so far.
    #[must_use]
    pub fn log(&self) -> String {
        read_lossy(&self.log_path())
    }

    /// The last lines of the agent's output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log(), 40)
    }

    /// Whether the agent's output contains `text`.
    #[must_use]
    pub fn log_contains(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// The lines of level WARN or ERROR that contain none of `announced`.
    #[must_use]
    pub fn unexpected_lines(&self, announced: &[&str]) -> Vec<String> {
        log::unexpected(&self.log(), announced)
    }

    fn program(&self, binary: PathBuf) -> Command {
        if self.resolver.is_some() {
            let mut command = Command::new("unshare");
            let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
            command.args(["--mount", "sh", "-c", script]).arg(self.resolv_conf()).arg(binary);
            return command;
        }
        let Some(uptime) = self.uptime else { return Command::new(binary) };
        let (mut command, uptime) = (Command::new("unshare"), uptime.to_string());
        command.args(["--time", "--boottime", &uptime, "--monotonic", &uptime]);
        command.args(["--fork", "--kill-child"]).arg(binary);
        command
    }

    fn resolv_conf(&self) -> PathBuf {
        self.home.join("resolv.conf")
    }

    fn write_config(&self, yaml: &str) -> Result<()> {
        let path = self.config_file();
        fs::write(&path, yaml).with_context(|| format!("cannot write {}", path.display()))?;
        if crate::is_root() {
            let (user, group) = crate::dir::user_ids("postgres")?;
            std::os::unix::fs::chown(&path, Some(user), Some(group))?;
        }
        use std::os::unix::fs::PermissionsExt;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.kill_all() {
            eprintln!("{}: {error:#}", self.name());
        }
    }
}

/// The binary under test: `HART_BIN`, or `hart` beside the running test or benchmark in cargo's
/// target directory.
///
/// # Errors
/// When it has not been built.
pub fn hart_binary() -> Result<PathBuf> {
    for name in ["HART_BIN", "CARGO_BIN_EXE_hart"] {
        if let Some(path) = std::env::var_os(name) {
            return Ok(path.into());
        }
    }
    let own = std::env::current_exe().context("cannot find the running program")?;
    // Tests are in target/<profile>/deps, other binaries in target/<profile>.
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join("hart"));
    found.into_iter().find(|path| path.is_file()).with_context(|| {
        format!("no binary hart near {}; run `cargo build -p hart` or set HART_BIN", own.display())
    })
}
