//! One node of the demo.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use hart_types::Chain;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::place::Place;
use super::procs;
use crate::cli::Fail;

/// How long programs on a slow disk may take to say their version.
const PROGRAMS: Duration = Duration::from_secs(20);

/// What the agents inherit of `HART_*` and `PATRONI_*`: only how to reach Consul. The rest would
/// make all three the same node.
const INHERITED: [&str; 7] = ["TOKEN", "TOKEN_FILE", "VERIFY", "CACERT", "CERT", "KEY", "DC"];

/// An agent with its guard and its PostgreSQL.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Port of PostgreSQL.
    pub port: u16,
    /// Port of the REST API.
    pub rest_port: u16,
    /// Its directory.
    pub home: PathBuf,
    /// Where its agent logs.
    pub log: PathBuf,
    agent: Option<Child>,
}

/// What all nodes have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The cluster's name.
    pub scope: String,
    /// Consul's URL.
    pub consul: String,
    /// Where PostgreSQL's programs are.
    pub bin_dir: Option<PathBuf>,
}

impl Node {
    /// Makes its directory and its configuration file; starts nothing.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn make(
        place: &Place,
        shared: &Shared,
        name: &str,
        (port, rest_port): (u16, u16),
    ) -> Result<Self, Fail> {
        let home = place.make_home(name)?;
        let log = place.dir.join(format!("{name}.log"));
        let node = Self { name: name.to_owned(), port, rest_port, home, log, agent: None };
        place.write(&node.file(), &node.configuration(shared))?;
        Ok(node)
    }

    /// Its configuration file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.home.join("hart.yml")
    }

    /// The address of its REST API.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.rest_port)
    }

    /// In Patroni's form, as a real node would have it.
    #[must_use]
    pub fn configuration(&self, shared: &Shared) -> String {
        let Self { name, port, rest_port, .. } = self;
        let Shared { scope, consul, bin_dir } = shared;
        let home = self.home.display();
        let bin_dir = bin_dir.as_ref().map(|dir| format!("\n  bin_dir: {}", dir.display()));
        let bin_dir = bin_dir.unwrap_or_default();
        format!(
            r#"scope: {scope}
name: {name}
restapi: {{listen: "127.0.0.1:{rest_port}", connect_address: "127.0.0.1:{rest_port}"}}
consul: {{url: "{consul}", register_service: true}}
bootstrap:
  dcs:
    ttl: 3
    loop_wait: 1
    maximum_lag_on_failover: 1048576
    failsafe_mode: true
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters: {{max_connections: 50, shared_buffers: 32MB, wal_keep_size: 128MB}}
  initdb: [{{encoding: UTF8}}, data-checksums]
postgresql:
  listen: "127.0.0.1:{port}"
  connect_address: "127.0.0.1:{port}"
  data_dir: {home}/data{bin_dir}
  pgpass: {home}/pgpass
  authentication:
    superuser: {{username: postgres, password: postgres}}
    replication: {{username: replicator, password: rep}}
    rewind: {{username: rewinder, password: rew}}
  parameters: {{unix_socket_directories: {home}}}
  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 md5", "host replication replicator 127.0.0.1/32 md5"]
watchdog: {{mode: off}}
tags: {{nofailover: false}}
"#
        )
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// The program or the log cannot be opened.
    pub fn start(&mut self, place: &Place) -> Result<(), Fail> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&place.program);
        command.arg("agent").arg(self.file());
        if let Some(user) = place.user() {
            command.args(["--user", user]);
        }
        for (name, _) in hart_config::process_env() {
            if !is_inherited(&name) {
                command.env_remove(name);
            }
        }
        // A process group of its own: Ctrl-C at the terminal is for the demo, which then stops
        // everything in order.
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let agent = command.spawn().map_err(|error| {
            Fail::failed(format!("cannot start {}: {error}", place.program.display()))
        })?;
        self.agent = Some(agent);
        Ok(())
    }

    /// How the agent ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.agent.as_mut()?.try_wait().ok().flatten()
    }

    /// Is its agent running?
    pub fn is_up(&mut self) -> bool {
        self.agent.is_some() && self.ended().is_none()
    }

    /// SIGKILL for its postmaster alone; its process id and those of its children.
    ///
    /// # Errors
    /// There is none.
    pub fn kill_postmaster(&self) -> Result<(i32, Vec<i32>), Fail> {
        let pid = procs::postmaster(&self.home.join("data"));
        let pid = pid.ok_or_else(|| Fail::failed(format!("{} runs no PostgreSQL", self.name)))?;
        let children = procs::children(pid);
        procs::kill_now(pid);
        Ok((pid, children))
    }

    /// SIGKILL for everything: agent, guard, PostgreSQL.
    ///
    /// # Errors
    /// Something survives.
    pub async fn lose(&mut self) -> Result<(), Fail> {
        let killed = procs::kill_all(&self.home).await;
        if let Some(mut agent) = self.agent.take() {
            // It is dead already: this reaps it, and cannot take long.
            let _ = agent.kill().await;
        }
        killed
    }

    /// Asks the agent to stop in good order and waits; true when it has.
    pub async fn stop(&mut self, within: Duration) -> bool {
        let Some(agent) = &mut self.agent else { return true };
        if let Some(pid) = agent.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        timeout(within, agent.wait()).await.is_ok_and(|ended| ended.is_ok_and(|s| s.success()))
    }

    /// The last lines of the agent's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// A demo that ends in an unforeseen way leaves nothing running.
impl Drop for Node {
    fn drop(&mut self) {
        for _ in 0..1000 {
            let found = procs::of(&self.home);
            if found.is_empty() {
                return;
            }
            found.into_iter().for_each(procs::kill_now);
            std::thread::yield_now();
        }
    }
}

/// May the agents see this variable?
#[must_use]
pub fn is_inherited(name: &str) -> bool {
    let suffix = ["HART_CONSUL_", "PATRONI_CONSUL_"].iter().find_map(|p| name.strip_prefix(p));
    suffix.is_some_and(|suffix| INHERITED.contains(&suffix))
}

/// Is PostgreSQL there? Better said once now than by three agents.
///
/// # Errors
/// It is not, with what to do.
pub async fn find_programs(bin_dir: Option<&Path>) -> Result<(), Fail> {
    let mut settings = hart_postgres::Settings::new("demo", "n1", "/nonexistent");
    settings.bin_dir = bin_dir.map(Path::to_owned);
    let version = hart_postgres::Postgres::new(settings).version(PROGRAMS).await;
    version.map(drop).map_err(|error| Fail::usage(Chain(&error).to_string()))
}

/// Ports that nobody uses at the moment: PostgreSQL and REST of each of `count` nodes. All are
/// held until the last is found, so that they differ.
///
/// # Errors
/// The machine has none left.
pub fn free_ports(count: usize) -> Result<Vec<(u16, u16)>, Fail> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push((TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?));
    }
    held.iter().map(|(p, r)| Ok((p.local_addr()?.port(), r.local_addr()?.port()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_accepted_without_a_warning() {
        let node = Node {
            name: "n1".into(),
            port: 5433,
            rest_port: 8009,
            home: "/nonexistent/n1".into(),
            log: "/nonexistent/n1.log".into(),
            agent: None,
        };
        let consul = "http://127.0.0.1:8500".to_owned();
        let shared = Shared { scope: "demo".into(), consul, bin_dir: Some("/opt/pg/bin".into()) };
        let loaded = hart_config::load_text("n1", &node.configuration(&shared), []).unwrap();
        assert_eq!(loaded.warnings, []);
        let config = loaded.config;
        assert_eq!(config.consul.endpoints, ["http://127.0.0.1:8500"]);
        assert_eq!(config.bootstrap.dynamic.ttl, Duration::from_secs(3));
        assert_eq!(config.postgresql.bin_dir.unwrap(), PathBuf::from("/opt/pg/bin"));
        assert_eq!(config.postgresql.listen.port, 5433);
    }

    #[test]
    fn only_the_way_to_consul_is_inherited() {
        assert!(is_inherited("HART_CONSUL_TOKEN") && is_inherited("PATRONI_CONSUL_CACERT"));
        assert!(!is_inherited("HART_NAME") && !is_inherited("PATRONI_CONSUL_HOST"));
    }
}
