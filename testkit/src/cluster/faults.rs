//! What can happen to a whole cluster, and the way back from everything.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Cluster;
use crate::lab::Host;
use crate::procfs;
use crate::rest::Rest;
use crate::wait::eventually;

/// How long a cable may take until packets pass.
const NETWORK: Duration = Duration::from_secs(30);

impl Cluster {
    /// The host of a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn host(&self, node: &str) -> Result<Host> {
        self.node(node)?.host().cloned().context("every node has a host")
    }

    /// The hosts of the Consul servers.
    #[must_use]
    pub fn server_hosts(&self) -> Vec<Host> {
        self.lab.hosts().iter().filter(|host| host.name().starts_with("consul")).cloned().collect()
    }

    /// Takes the power from a host; see [`crate::Lab::kill_node`].
    ///
    /// # Errors
    /// When something survives.
    pub fn kill_node(&mut self, name: &str) -> Result<()> {
        self.lab.kill_node(&self.host(name)?)?;
        self.node_mut(name)?.kill_all()
    }

    /// Gives a host its network back and starts its node, and its Consul agent if it had one.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn revive_node(&mut self, name: &str) -> Result<()> {
        let at = self.nodes.iter().position(|node| node.name() == name).context("no such node")?;
        let host = self.host(name)?;
        self.lab.heal(&host)?;
        self.plugged_in(&host).await?;
        if let Some(agent) = self.agents.get_mut(at) {
            agent.restart().await?;
        }
        self.nodes[at].start()
    }

    /// Stops every process on a node's host with SIGSTOP, as a pause of a virtual machine does. The
    /// kernel goes on answering for their sockets.
    ///
    /// # Errors
    /// When one of them goes on.
    pub fn freeze_node(&self, name: &str) -> Result<()> {
        let host = self.host(name)?;
        procfs::freeze_all(|| host.processes())
    }

    /// Lets all processes on a node's host go on.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn thaw_node(&self, name: &str) -> Result<()> {
        procfs::thaw(&self.host(name)?.processes());
        Ok(())
    }

    /// Separates a node's host from all Consul servers, and from nobody else. A Consul agent on it
    /// still gossips with the agents of the other hosts, but has nobody to answer its questions.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn part_from_consul(&self, name: &str) -> Result<()> {
        let host = self.host(name)?;
        self.server_hosts().iter().try_for_each(|server| self.lab.partition(&host, server))
    }

    /// Separates a node's host from all other nodes' hosts; Consul reaches it.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn part_from_peers(&self, name: &str) -> Result<()> {
        let host = self.host(name)?;
        let others = self.nodes.iter().filter(|node| node.name() != name);
        let mut hosts = others.filter_map(|node| node.host());
        hosts.try_for_each(|other| self.lab.partition(&host, other))
    }

    /// The Consul servers, of which [`Cluster::consul`] is the first.
    pub fn servers(&mut self) -> &mut [crate::Consul] {
        &mut self.servers
    }

    /// Which of the servers leads, by its place in [`Cluster::servers`].
    ///
    /// # Errors
    /// When they have no leader within the deadline.
    pub async fn consul_leader(&self, deadline: Duration) -> Result<usize> {
        eventually("a leader of Consul's servers", deadline, async || {
            for (at, server) in self.servers.iter().enumerate() {
                if server.leads().await.unwrap_or(false) {
                    return Ok(at);
                }
            }
            anyhow::bail!("none")
        })
        .await
    }

    /// Ends all Consul servers with SIGKILL; their data stays.
    pub fn kill_consul(&mut self) {
        self.servers.iter_mut().for_each(crate::Consul::kill);
    }

    /// Starts the Consul servers and agents that do not run, and waits until all are ready.
    ///
    /// # Errors
    /// When one of them is not ready in time.
    pub async fn start_consul(&mut self) -> Result<()> {
        for consul in self.servers.iter_mut().chain(&mut self.agents) {
            if !consul.is_running() {
                consul.start()?;
            }
        }
        for consul in self.servers.iter_mut().chain(&mut self.agents) {
            consul.wait_ready().await?;
        }
        Ok(())
    }

    /// The session that locks the key `leader`.
    ///
    /// # Errors
    /// When there is none, or Consul does not answer.
    pub async fn leader_session(&self) -> Result<String> {
        let answer = self.consul_call("GET", "/v1/kv/service/ha/leader").await?;
        let session = answer[0]["Session"].as_str().context("nobody holds the lock")?;
        Ok(session.to_owned())
    }

    /// Calls a Consul server that answers; its JSON.
    ///
    /// # Errors
    /// When none answers with success.
    pub async fn consul_call(&self, method: &str, path: &str) -> Result<Value> {
        let rest = Rest::new()?;
        let mut last = None;
        for server in &self.servers {
            match rest.call(method, &server.url(path), None).await {
                Ok(answer) if answer.ok() => return answer.json(),
                Ok(answer) => last = Some(anyhow::anyhow!("{method} {path}: {answer:?}")),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no servers")?)
    }

    /// Mends everything that can be mended from outside: cables, separations, frozen processes, Consul
    /// servers and agents, and starts every agent of hart that does not run.
    ///
    /// # Errors
    /// When something cannot be started.
    pub async fn mend(&mut self) -> Result<()> {
        self.lab.heal_all()?;
        for host in self.lab.hosts() {
            procfs::thaw(&host.processes());
        }
        for node in &self.nodes {
            self.plugged_in(&self.host(node.name())?).await?;
        }
        self.start_consul().await?;
        self.start_ended()
    }

    /// Starts every agent that does not run, as a service manager does.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_ended(&mut self) -> Result<()> {
        let start = |node: &mut crate::Node| if node.agent_runs() { Ok(()) } else { node.start() };
        self.nodes.iter_mut().try_for_each(start)
    }

    /// Waits until the cluster is healthy as [`Cluster::wait_healthy`] has it, and starts every agent
    /// that ends meanwhile: one that was asked to stop may take its time.
    ///
    /// # Errors
    /// At the deadline.
    pub async fn wait_recovered(&mut self, count: usize, deadline: Duration) -> Result<String> {
        let what = format!("{count} healthy members");
        let found = eventually(&what, deadline, async || {
            self.start_ended()?;
            self.healthy(count).await
        });
        let found = found.await;
        found.with_context(|| self.logs())
    }

    /// A cable takes a moment until packets pass: a machine that boots has that behind it.
    async fn plugged_in(&self, host: &Host) -> Result<()> {
        for server in self.server_hosts() {
            self.plugged_in_to(host, server.address()).await?;
        }
        Ok(())
    }

    /// A refused connection proves the way as well as an accepted one.
    async fn plugged_in_to(&self, host: &Host, address: std::net::Ipv4Addr) -> Result<()> {
        eventually("the network", NETWORK, async || {
            let connect = move || tokio::net::TcpStream::connect((address, 9));
            let connected = host.thread(connect)?.join();
            let connected = connected.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            let error = connected.err().map(|error| error.kind());
            let there = matches!(error, None | Some(std::io::ErrorKind::ConnectionRefused));
            ensure!(there, "{} cannot reach {address}: {error:?}", host.name());
            Ok(())
        })
        .await
    }
}
