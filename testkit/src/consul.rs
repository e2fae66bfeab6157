//! A real Consul.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::dir::TempDir;
use crate::lab::Host;
use crate::port::free_ports;
use crate::process::Process;
use crate::rest::Rest;
use crate::wait::eventually;

/// How long an agent may take to have a leader and to be in its own catalogue.
const START: Duration = Duration::from_secs(60);

/// A `consul agent`: a single server that has elected itself, one of several, or a client of
/// servers. Its data is in a temporary directory; the process ends with the value. What `consul`
/// is, the `PATH` says.
#[derive(Debug)]
pub struct Consul {
    process: Option<Process>,
    place: Place,
    rest: Rest,
    arguments: Vec<String>,
    dir: TempDir,
}

/// Where an agent runs.
#[derive(Debug)]
struct Place {
    host: Option<Host>,
    address: Ipv4Addr,
    http_port: u16,
}

impl Consul {
    /// Starts a server on a host of a lab, with the usual ports, and waits until it is ready. The
    /// calling thread must be in the hub.
    ///
    /// # Errors
    /// When it does not become ready within a minute.
    pub async fn on_host(host: &Host) -> Result<Self> {
        let place = Place::on(host);
        Self::launch(place, Rest::new()?, server(host.name()), "").await
    }

    /// Starts a server on each of these hosts, which elect one of them, and waits until all are
    /// ready. The calling thread must be in the hub.
    ///
    /// # Errors
    /// When one of them does not become ready within a minute.
    pub async fn servers_on(hosts: &[Host]) -> Result<Vec<Self>> {
        if let [alone] = hosts {
            return Ok(vec![Self::on_host(alone).await?]);
        }
        let joins = hosts.iter().map(|host| format!("-retry-join={}", host.address()));
        let joins: Vec<String> = joins.collect();
        // A server that is down for a while stays a member, as with a minimum quorum in production.
        let hcl = r#"retry_interval = "1s" autopilot { cleanup_dead_servers = false }"#;
        let mut servers = Vec::new();
        for host in hosts {
            let mut arguments = vec!["-server".to_owned(), format!("-node={}", host.name())];
            arguments.push(format!("-bootstrap-expect={}", hosts.len()));
            arguments.extend(joins.clone());
            let mut server = Self::prepare(Place::on(host), Rest::new()?, arguments, hcl)?;
            server.start()?;
            servers.push(server);
        }
        for server in &mut servers {
            server.ready().await?;
        }
        Ok(servers)
    }

    /// Starts a client agent on `host` that joins `servers`; it answers on the host's
    /// `127.0.0.1:8500` and on its address.
    ///
    /// # Errors
    /// When it does not become ready within a minute.
    pub async fn client_on_host(host: &Host, servers: &[Self]) -> Result<Self> {
        let joins = servers.iter().map(|server| format!("-retry-join={}", server.place.address));
        let mut arguments = vec![format!("-node={}", host.name())];
        arguments.extend(joins);
        let hcl = r#"retry_interval = "1s""#;
        Self::launch(Place::on(host), Rest::new()?, arguments, hcl).await
    }

    /// Starts a server on loopback with free ports and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready within a minute.
    pub async fn on_loopback() -> Result<Self> {
        Self::on_loopback_with("").await
    }

    /// As [`Consul::on_loopback`], with ACLs that deny everything to everyone but the holder of
    /// `token`, a UUID.
    ///
    /// # Errors
    /// When it does not become ready within a minute.
    pub async fn on_loopback_with_acl(token: &str) -> Result<Self> {
        // The name changed in 1.11; the old one was accepted up to 1.16.
        let name = if installed()? >= (1, 11) { "initial_management" } else { "master" };
        let hcl = format!(
            "acl {{ enabled = true default_policy = \"deny\" \
             tokens {{ {name} = \"{token}\" agent = \"{token}\" }} }}"
        );
        Self::on_free_ports(&hcl, Rest::with_token(token)?).await
    }

    /// As [`Consul::on_loopback`], with further configuration in HCL.
    ///
    /// # Errors
    /// When it does not become ready within a minute.
    pub async fn on_loopback_with(hcl: &str) -> Result<Self> {
        Self::on_free_ports(hcl, Rest::new()?).await
    }

    async fn on_free_ports(hcl: &str, rest: Rest) -> Result<Self> {
        // 1.14 opens one more port, and earlier ones refuse its name.
        let grpc_tls = if installed()? >= (1, 14) { "grpc_tls = -1" } else { "" };
        let mut last = None;
        // Another program may take one of the ports meanwhile.
        for _ in 0..3 {
            let ports = free_ports(3)?;
            let &[http_port, rpc, serf] = ports.as_slice() else { bail!("too few ports") };
            let place = Place { host: None, address: Ipv4Addr::LOCALHOST, http_port };
            let hcl = format!(
                "ports {{ http = {http_port} server = {rpc} serf_lan = {serf} serf_wan = -1 \
                 dns = -1 grpc = -1 {grpc_tls} }}\n{hcl}"
            );
            match Self::launch(place, rest.clone(), server("local"), &hcl).await {
                Ok(consul) => return Ok(consul),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("not tried")?)
    }

    /// `address:port` of its HTTP API, as in `consul.host` of a node's configuration.
    #[must_use]
    pub fn address(&self) -> String {
        self.place.http()
    }

    /// The URL of an API path such as `/v1/kv/service?recurse`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.place.http())
    }

    /// The running process, to freeze it or to read its log.
    ///
    /// # Errors
    /// When it has been killed.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("this Consul has been killed")
    }

    /// Ends it with SIGKILL; its data stays.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again after [`Consul::kill`], with the same address and data, and waits until it
    /// is ready.
    ///
    /// # Errors
    /// When it does not become ready within a minute.
    pub async fn start_again(&mut self) -> Result<()> {
        self.start()?;
        self.ready().await
    }

    /// Kills it and starts it again.
    ///
    /// # Errors
    /// When it does not become ready within a minute.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        self.start_again().await
    }

    async fn launch(place: Place, rest: Rest, arguments: Vec<String>, hcl: &str) -> Result<Self> {
        let mut consul = Self::prepare(place, rest, arguments, hcl)?;
        consul.start()?;
        consul.ready().await?;
        Ok(consul)
    }

    fn prepare(place: Place, rest: Rest, mut arguments: Vec<String>, hcl: &str) -> Result<Self> {
        let dir = TempDir::new()?;
        let address = place.address;
        arguments.push(format!("-bind={address}"));
        arguments.push(format!("-client={}", place.listen()));
        arguments.push(format!("-data-dir={}", dir.path().join("data").display()));
        arguments.push(format!("-config-file={}", write_config(dir.path(), hcl)?.display()));
        Ok(Self { process: None, place, rest, arguments, dir })
    }

    /// Starts the process without waiting until it is ready: of several servers, a majority must
    /// run for that.
    ///
    /// # Errors
    /// When Consul is not installed.
    pub fn start(&mut self) -> Result<()> {
        let mut command = Command::new("consul");
        command.arg("agent").args(&self.arguments);
        let log = self.dir.path().join("log");
        let process = match &self.place.host {
            Some(host) => host.start(&mut command, &log),
            None => Process::start(&mut command, &log),
        };
        self.process = Some(process.context("is Consul installed? `cargo xtask setup` does it")?);
        Ok(())
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.exit_status().is_none())
    }

    /// Whether the servers have a leader and it is this one.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn leads(&self) -> Result<bool> {
        let leader = self.rest.get(&self.url("/v1/status/leader")).await?.text;
        Ok(leader.trim_matches('"').split(':').next() == Some(&*self.place.address.to_string()))
    }

    /// The text behind a path.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn get(&self, path: &str) -> Result<String> {
        let answer = self.rest.get(&self.url(path)).await?;
        anyhow::ensure!(answer.ok(), "{path}: {}", answer.text);
        Ok(answer.text)
    }

    /// Waits until it has a leader and is in the catalogue, so that sessions can be made.
    ///
    /// # Errors
    /// When it is not so within a minute.
    pub async fn wait_ready(&mut self) -> Result<()> {
        self.ready().await
    }

    /// Ready is: there is a leader, and the agent is in the catalogue with its health check, so
    /// that sessions can be made.
    async fn ready(&mut self) -> Result<()> {
        let rest = self.rest.clone();
        let leader = self.url("/v1/status/leader");
        let sessions = self.url("/v1/health/state/passing");
        let process = self.process.as_mut().context("not started")?;
        let ready = eventually("Consul", START, async || {
            if let Some(status) = process.exit_status() {
                return Ok(Err(status));
            }
            let found = rest.get(&leader).await?;
            anyhow::ensure!(found.ok() && found.text.len() > 2, "no leader: {}", found.text);
            let checks = rest.get(&sessions).await?;
            anyhow::ensure!(checks.text.contains("serfHealth"), "not in the catalogue yet");
            Ok(Ok(()))
        });
        match ready.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!("Consul ended at once ({status})\n{}", process.tail()),
            Err(error) => Err(error.context(process.tail())),
        }
    }
}

impl Place {
    fn on(host: &Host) -> Self {
        Self { host: Some(host.clone()), address: host.address(), http_port: 8500 }
    }

    fn http(&self) -> String {
        format!("{}:{}", self.address, self.http_port)
    }

    /// The addresses of the API: on a host also its loopback.
    fn listen(&self) -> String {
        match self.host {
            Some(_) => format!("{} 127.0.0.1", self.address),
            None => self.address.to_string(),
        }
    }
}

fn server(node: &str) -> Vec<String> {
    vec!["-server".into(), "-bootstrap-expect=1".into(), format!("-node={node}")]
}

/// Fast elections, as on a production server; no word to the outside.
fn write_config(dir: &Path, hcl: &str) -> Result<PathBuf> {
    let path = dir.join("consul.hcl");
    let text = format!(
        "performance {{ raft_multiplier = 1 }}\n\
         check_update_interval = \"10s\"\n\
         disable_update_check = true\n\
         leave_on_terminate = false\n{hcl}\n"
    );
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The version of the installed Consul.
fn installed() -> Result<(u32, u32)> {
    let output = Command::new("consul").arg("version").output();
    let output = output.context("cannot run consul; `cargo xtask setup` installs it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    version(&text).with_context(|| format!("no version in {text:?}"))
}

/// `(1, 8)` from `Consul v1.8.7`.
fn version(text: &str) -> Option<(u32, u32)> {
    let (_, number) = text.lines().next()?.split_once(" v")?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("Consul v1.8.7\nProtocol 2"), Some((1, 8)));
        assert_eq!(version("Consul v1.21.3+ent"), Some((1, 21)));
        assert_eq!(version("nothing"), None);
    }
}
