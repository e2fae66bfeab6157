//! A whole cluster in a lab.

mod faults;
mod options;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_workload::{Plan, Target};
use serde_json::{Value, json};

pub use options::Options;

use crate::consul::Consul;
use crate::dir::TempDir;
use crate::dns::Dns;
use crate::lab::{Entered, Host, Lab};
use crate::node::{Node, NodeConfig};
use crate::postgres::bin_dir;
use crate::rest::{Answer, Rest};
use crate::sql::Sql;
use crate::wait::eventually;
use crate::writers::Writers;

/// Hosts `n1`, `n2`, … with a node each, and a host `consul` with a Consul server. The thread that
/// made it is in the lab's hub while it lives, so that REST and SQL reach the hosts; it must use a
/// `current_thread` runtime, as `#[tokio::test]` does.
///
/// When a test panics, the end of each agent's log is printed.
#[derive(Debug)]
pub struct Cluster {
    // In the order in which they must go.
    nodes: Vec<Node>,
    agents: Vec<Consul>,
    servers: Vec<Consul>,
    dns: Option<Dns>,
    rest: Rest,
    _in_hub: Entered,
    lab: Lab,
    dir: TempDir,
}

impl Cluster {
    /// Makes hosts and Consul and starts `count` nodes; does not wait for them.
    ///
    /// # Errors
    /// Without root, or when something is missing.
    pub async fn start(count: usize, options: &Options) -> Result<Self> {
        let mut cluster = Self::prepare(count, options).await?;
        cluster.start_nodes()?;
        Ok(cluster)
    }

    /// Makes hosts and Consul, and the nodes without starting them.
    ///
    /// # Errors
    /// Without root, or when something is missing.
    pub async fn prepare(count: usize, options: &Options) -> Result<Self> {
        let mut lab = match options.switch {
            Some(seed) => Lab::with_switch(count, seed)?,
            None => Lab::new(count)?,
        };
        let hosts = lab.hosts().to_vec();
        let in_hub = lab.enter_hub()?;
        let servers = Consul::servers_on(&server_hosts(&mut lab, options.servers)?).await?;
        let endpoints: Vec<String> = servers.iter().map(Consul::address).collect();
        let (dir, bin_dir) = (TempDir::new()?, bin_dir()?);
        let dns = options.by_name.then(|| dns(&mut lab, &dir)).transpose()?;
        let (mut nodes, mut agents) = (Vec::new(), Vec::new());
        for host in hosts {
            let mut found_at = endpoints.clone();
            if options.consul_agents {
                agents.push(Consul::client_on_host(&host, &servers).await?);
                found_at.insert(0, "127.0.0.1:8500".into());
            }
            let name = host.name().to_owned();
            let (first, others) = found_at.split_first().context("no Consul servers")?;
            let mut config = NodeConfig::new(&name, host.address(), first, bin_dir.clone());
            if options.other_endpoints {
                config.other_consuls = others.to_vec();
            }
            options.dcs.iter().for_each(|(key, value)| config.dcs(key, value.clone()));
            config.open = options.open;
            config.parameters.clone_from(&options.parameters);
            config.extra.clone_from(&options.extra);
            if dns.is_some() {
                config.known_as = Some(Dns::name(&name));
                config.listen_everywhere = true;
                config.consul = Dns::name("consul") + ":8500";
            }
            let mut node = Node::new(&dir, Some(host), config)?;
            if let Some(dns) = &dns {
                node.set_resolver(dns.address());
            }
            nodes.push(node);
        }
        Ok(Self { nodes, agents, servers, dns, rest: Rest::new()?, _in_hub: in_hub, lab, dir })
    }

    /// Starts every node.
    ///
    /// # Errors
    /// When the binary is missing.
    pub fn start_nodes(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Node::start)
    }

    /// Asks the nodes with this client from now on.
    pub fn ask_with(&mut self, rest: Rest) {
        self.rest = rest;
    }

    /// The network, for faults.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The DNS server that knows the names of members and Consul.
    ///
    /// # Errors
    /// Without [`Options::by_name`].
    pub fn dns(&self) -> Result<&Dns> {
        self.dns.as_ref().context("its members are known by addresses")
    }

    /// Adds a host without a node, such as a client's.
    ///
    /// # Errors
    /// When the name is too long, or `ip` fails.
    pub fn add_host(&mut self, name: &str) -> Result<Host> {
        self.lab.add_host(name).cloned()
    }

    /// The Consul server, or the first of them.
    pub fn consul(&mut self) -> &mut Consul {
        &mut self.servers[0]
    }

    /// The Consul client agents, in the order of the nodes, if there are any.
    pub fn consul_agents(&mut self) -> &mut [Consul] {
        &mut self.agents
    }

    /// The directory around the homes of the nodes.
    #[must_use]
    pub const fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// The nodes in order of their names.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.with_context(|| format!("no node {name}"))
    }

    /// The node of this name, to start and stop it.
    ///
    /// # Errors
    /// When there is none.
    pub fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        let found = self.nodes.iter_mut().find(|node| node.name() == name);
        found.with_context(|| format!("no node {name}"))
    }

    /// Calls a node's REST API, at most 2 s.
    ///
    /// # Errors
    /// When no answer comes; any status is an answer.
    pub async fn rest(
        &self,
        node: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer> {
        self.rest.call(method, &self.node(node)?.url(path), body).await
    }

    /// Connects to a node's PostgreSQL as superuser.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn sql(&self, node: &str) -> Result<Sql> {
        Sql::connect(&self.node(node)?.sql_config()).await
    }

    /// Waits until exactly one node says that it is primary and is out of recovery; its name.
    ///
    /// # Errors
    /// At the deadline.
    pub async fn wait_primary(&self, deadline: Duration) -> Result<String> {
        self.dump(eventually("a primary", deadline, async || self.primary().await).await)
    }

    /// Waits until the primary is another than `old`; its name.
    ///
    /// # Errors
    /// At the deadline.
    pub async fn wait_new_primary(&self, old: &str, deadline: Duration) -> Result<String> {
        let found = eventually("a new primary", deadline, async || {
            let primary = self.primary().await?;
            ensure!(primary != old, "it is still {old}");
            Ok(primary)
        });
        self.dump(found.await)
    }

    /// Waits until the cluster has `count` members, one of them a primary and all others streaming
    /// from it; the name of the primary.
    ///
    /// # Errors
    /// At the deadline.
    pub async fn wait_healthy(&self, count: usize, deadline: Duration) -> Result<String> {
        let what = format!("{count} healthy members");
        self.dump(eventually(&what, deadline, async || self.healthy(count).await).await)
    }

    /// The name of a published synchronous standby, as soon as there is one: only such a node may take
    /// over in synchronous mode.
    ///
    /// # Errors
    /// At the deadline.
    pub async fn wait_synchronous_standby(&self, deadline: Duration) -> Result<String> {
        let found = eventually("a synchronous standby", deadline, async || {
            for node in &self.nodes {
                if self.rest(node.name(), "GET", "/sync", None).await?.status == 200 {
                    return Ok(node.name().to_owned());
                }
            }
            anyhow::bail!("none yet")
        });
        self.dump(found.await)
    }

    /// Moves the primary to `candidate`, or to whichever is best; waits for the API's answer.
    ///
    /// # Errors
    /// When it answers with another status than 2xx, or not within 60 s.
    pub async fn switchover(&self, candidate: Option<&str>) -> Result<()> {
        let leader = self.primary().await?;
        let mut body = json!({ "leader": leader });
        if let Some(candidate) = candidate {
            body["candidate"] = candidate.into();
        }
        let rest = self.rest.patient(Duration::from_secs(60));
        let url = self.node(&leader)?.url("/switchover");
        let answer = rest.call("POST", &url, Some(&body)).await?;
        ensure!(answer.ok(), "switchover refused: {} {}", answer.status, answer.text);
        Ok(())
    }

    /// Starts a writer on each host that writes to that host's own node, 100 rows/s each, numbered
    /// from `first` on.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start_writers(&self, first: i32) -> Result<Writers> {
        self.start_writers_with(first, |plan| plan)
    }

    /// As [`Cluster::start_writers`], with other deadlines or another rate.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start_writers_with(&self, first: i32, change: impl Fn(Plan) -> Plan) -> Result<Writers> {
        let plans = (first..).zip(&self.nodes).filter_map(|(number, node)| {
            let target = hart_workload::Node::new(node.name(), node.local_sql_config());
            Some((node.host()?.clone(), change(Plan::new(number, Target::Fixed(target)))))
        });
        Writers::start(plans)
    }

    /// The lines of level WARN or ERROR of all agents that contain none of `announced`, with the
    /// node's name in front. That a lease has run out, and who leads since, is what a failover says.
    #[must_use]
    pub fn unexpected_lines(&self, announced: &[&str]) -> Vec<String> {
        let announced = &[announced, &["has run out"]].concat();
        let of = |node: &Node| {
            let name = node.name().to_owned();
            node.unexpected_lines(announced).into_iter().map(move |line| format!("{name}: {line}"))
        };
        self.nodes.iter().flat_map(of).collect()
    }

    /// The name of the node that says it is primary and whose PostgreSQL accepts writes.
    ///
    /// # Errors
    /// When it is none, or more than one.
    pub async fn primary(&self) -> Result<String> {
        let mut found = Vec::new();
        for node in &self.nodes {
            let answer = self.rest.get(&node.url("/primary")).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                found.push(node.name());
            }
        }
        let &[primary] = found.as_slice() else { anyhow::bail!("primaries: {found:?}") };
        let writable = self.sql(primary).await?.value("show transaction_read_only").await?;
        ensure!(writable.as_deref() == Some("off"), "{primary} is read-only");
        Ok(primary.to_owned())
    }

    /// The members that stream from `primary`, by its `pg_stat_replication`, in order. The WAL stream
    /// of a base backup has another name than the member that it is for, and does not count.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn streaming(&self, primary: &str) -> Result<Vec<String>> {
        let sql = "select string_agg(distinct application_name, ',') from pg_stat_replication \
                   where state = 'streaming'";
        let rows = self.sql(primary).await?.value(sql).await?.unwrap_or_default();
        let names = self.nodes.iter().map(Node::name).filter(|name| *name != primary);
        let streams = |name: &&str| rows.split(',').any(|row| row == *name);
        Ok(names.filter(streams).map(str::to_owned).collect())
    }

    async fn healthy(&self, count: usize) -> Result<String> {
        let primary = self.primary().await?;
        let answer = self.rest(&primary, "GET", "/cluster", None).await?.json()?;
        let members = answer["members"].as_array().context("no members")?;
        let up =
            |member: &&Value| matches!(member["state"].as_str(), Some("running" | "streaming"));
        let running = members.iter().filter(up).count();
        ensure!(running == count && members.len() == count, "members: {}", answer["members"]);
        let streaming = self.streaming(&primary).await?;
        ensure!(streaming.len() + 1 == count, "streaming: {streaming:?}");
        Ok(primary)
    }

    /// Adds the logs to an error.
    fn dump<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| self.logs())
    }

    /// The end of each agent's log.
    #[must_use]
    pub fn logs(&self) -> String {
        let log = |node: &Node| format!("--- {}\n{}\n", node.name(), node.log_tail());
        self.nodes.iter().map(log).collect()
    }
}

fn dns(lab: &mut Lab, dir: &TempDir) -> Result<Dns> {
    let on = lab.add_host("dns")?.clone();
    Dns::start(&on, lab.hosts(), dir.path())
}

fn server_hosts(lab: &mut Lab, servers: usize) -> Result<Vec<Host>> {
    let name = |number: usize| match number {
        1 => "consul".to_owned(),
        _ => format!("consul{number}"),
    };
    (1..=servers.max(1)).map(|number| lab.add_host(&name(number)).cloned()).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}
