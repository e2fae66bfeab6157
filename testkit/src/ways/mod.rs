//! Every way in which a client finds the primary, on real parts: PostgreSQL's drivers, HAProxy,
//! dnsmasq, the C library's resolver and Consul's DNS, on a host of their own beside a cluster.

mod crowd;
mod parts;
mod poolers;
mod seen;
mod way;
mod writer;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Config;

pub use crowd::Crowd;
pub use poolers::pool;
pub use seen::{Cost, Seen};
pub use way::Way;
pub use writer::Writer;

use crate::cluster::{Cluster, Options};
use crate::lab::Host;
use crate::node::hart_binary;
use crate::postgres::bin_dir;
use crate::wait::eventually;
use parts::Parts;
use poolers::Poolers;

/// The zone.
pub const ZONE: &str = "pg.test";
/// HAProxy's ports: to write and to read, with members from Consul and from DNS.
const PORTS: (u16, u16, u16, u16) = (5433, 5434, 6433, 6434);
/// A dead server is given up as in the strings of `hart dsn`.
const TIMEOUTS: &str = "connect_timeout=2 keepalives=1 keepalives_idle=5 keepalives_interval=1 \
                        keepalives_count=2 tcp_user_timeout=5000";

/// A cluster of three, and a client's host with everything that a client may need.
#[derive(Debug)]
pub struct Ways {
    // In the order in which they must go.
    parts: Parts,
    poolers: Poolers,
    /// The cluster.
    pub cluster: Cluster,
    client: Host,
    vip: Ipv4Addr,
    /// The strings of `hart dsn`, asked once: they stay right.
    strings: Strings,
    /// The node by whose PgBouncer clients come.
    pooler: String,
}

#[derive(Debug)]
struct Strings {
    libpq: String,
    tokio_postgres: Config,
}

impl Ways {
    /// Starts all of it and waits until it is healthy.
    ///
    /// # Errors
    /// Without root, or when a program is missing.
    pub async fn start(options: &Options, deadline: Duration) -> Result<Self> {
        let options = Options { consul_agents: true, ..options.clone() };
        let mut cluster = Cluster::prepare(3, &options).await?;
        let vip = configure(&mut cluster)?;
        cluster.start_nodes()?;
        let client = cluster.add_host("client")?;
        let primary = cluster.wait_healthy(3, deadline).await?;
        let sql = cluster.sql(&primary).await?;
        sql.rows("create table clients (way text, row bigint, primary key (way, row))").await?;
        let strings = Strings::ask(&cluster)?;
        let parts = Parts::start(&mut cluster, &client).await?;
        let poolers = Poolers::start(&cluster, deadline).await?;
        Ok(Self { parts, poolers, cluster, client, vip, strings, pooler: String::new() })
    }

    /// The client's host.
    #[must_use]
    pub const fn client(&self) -> &Host {
        &self.client
    }

    /// Gives a lost host its network, its node and its PgBouncer back.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn revive_node(&mut self, name: &str, deadline: Duration) -> Result<()> {
        self.cluster.revive_node(name).await?;
        self.poolers.revive(&self.cluster, name, deadline).await
    }

    /// Clients of PgBouncer come by one that is not on the primary's host: it outlives that host.
    ///
    /// # Errors
    /// Where there is one node only.
    pub(crate) fn pool_beside(&mut self, primary: &str) -> Result<()> {
        let names = self.cluster.nodes().iter().map(|node| node.name());
        self.pooler =
            names.into_iter().find(|name| *name != primary).context("two nodes")?.to_owned();
        Ok(())
    }

    /// The virtual address.
    #[must_use]
    pub const fn vip(&self) -> Ipv4Addr {
        self.vip
    }

    /// A client that writes by `way` from now on.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn write(&mut self, way: Way) -> Result<Writer> {
        let number = self.parts.number();
        if way == Way::TokioPostgres {
            let config = self.strings.tokio_postgres.clone();
            return Writer::tokio(&self.client, config, way.name());
        }
        // psycopg 3 prepares statements, which a server's connection that changes its client has not.
        let plain = matches!(way, Way::Psycopg2 | Way::PgBouncer);
        let driver = if plain { "psycopg2" } else { "psycopg" };
        let log = writer::log(self.cluster.dir().path(), number);
        let dsn = self.dsn(way, false);
        // There are several by PgBouncer.
        let label = match way {
            Way::PgBouncer => format!("{} {number}", way.name()),
            _ => way.name().to_owned(),
        };
        Writer::program(&self.client, self.parts.resolv(way), (driver, &dsn, &label), &log)
    }

    /// The rows that `writer` knows to be there and that are not; none if all is well.
    ///
    /// # Errors
    /// When the primary does not answer.
    pub async fn lost(&self, primary: &str, way: Way, seen: &Seen) -> Result<Vec<i64>> {
        let sql = self.cluster.sql(primary).await?;
        let rows = format!("select row from clients where way = '{}'", way.name());
        let rows = sql.rows(&rows).await?.into_iter().flatten().flatten();
        let there: BTreeSet<i64> = rows.filter_map(|row| row.parse().ok()).collect();
        Ok(seen.rows.iter().map(|(_, row)| *row).filter(|row| !there.contains(row)).collect())
    }

    /// A new client that writes by `way` comes to `node`.
    ///
    /// # Errors
    /// At the deadline.
    pub async fn leads_to(&self, way: Way, node: &str, deadline: Duration) -> Result<()> {
        let what = format!("{} to lead to {node}", way.name());
        eventually(&what, deadline, async || {
            let (name, read_only) = self.ask(way, false).await?;
            ensure!(name == node && read_only == "off", "it is {name}, read-only: {read_only}");
            Ok(())
        })
        .await
    }

    /// A new client that only reads by `way` comes to a standby of these.
    ///
    /// # Errors
    /// At the deadline.
    pub async fn reads_at(&self, way: Way, nodes: &[&str], deadline: Duration) -> Result<()> {
        let what = format!("{} to lead to one of {nodes:?} for reading", way.name());
        eventually(&what, deadline, async || {
            let (name, read_only) = self.ask(way, true).await?;
            let one = nodes.contains(&&*name);
            ensure!(one && read_only == "on", "it is {name}, read-only: {read_only}");
            Ok(())
        })
        .await
    }

    /// Does a client that uses `way` get past a host that does not answer at all? psycopg 3 does from
    /// 3.1.13 on; before, its time is up at the first silent host of a list.
    ///
    /// # Errors
    /// When psycopg is not installed.
    pub fn passes_silent_hosts(way: Way) -> Result<bool> {
        if way != Way::Psycopg3 {
            return Ok(true);
        }
        let mut python = Command::new(writer::PYTHON);
        let output = python.args(["-c", "import psycopg; print(psycopg.__version__)"]).output()?;
        let version = String::from_utf8(output.stdout)?;
        let mut parts = version.trim().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
        ensure!(version != [0, 0, 0], "psycopg is not installed; `cargo xtask setup` does it");
        Ok(version >= [3, 1, 13])
    }

    /// What `dig` prints on the client's host, a line each, in order: the data alone, unless `+all` is
    /// among the arguments.
    ///
    /// # Errors
    /// When it gets no answer.
    pub fn dig(&self, server: Ipv4Addr, port: u16, arguments: &[&str]) -> Result<Vec<String>> {
        let (server, port) = (format!("@{server}"), port.to_string());
        let mut command = Command::new("dig");
        command.args([&server, "-p", &port, "+time=2", "+tries=1"]).args(arguments);
        if !arguments.contains(&"+all") {
            command.arg("+short");
        }
        let output = self.client.output(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "dig {server} {arguments:?}: {text}");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }

    /// The name of the node whose server answers and `transaction_read_only`.
    async fn ask(&self, way: Way, reads: bool) -> Result<(String, String)> {
        let sql = "select setting, current_setting('transaction_read_only') from pg_settings \
                   where name = 'data_directory'";
        let (directory, read_only) = if way == Way::TokioPostgres {
            self.by_tokio(sql, reads).await?
        } else {
            self.by_psql(way, sql, reads)?
        };
        // Each node has its data in a directory of its own name.
        let name = directory.trim_end_matches("/data").rsplit('/').next().unwrap_or_default();
        Ok((name.to_owned(), read_only))
    }

    fn by_psql(&self, way: Way, sql: &str, reads: bool) -> Result<(String, String)> {
        let psql = bin_dir()?.join("psql");
        let psql = psql.to_str().context("a path")?;
        let mut command = writer::resolving(self.parts.resolv(way), psql);
        command.args(["-XAt", "-F", " ", "-c", sql, &self.dsn(way, reads)]);
        let output = self.client.output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let text = String::from_utf8(output.stdout)?;
        let (first, second) = text.trim().split_once(' ').with_context(|| said)?;
        Ok((first.to_owned(), second.to_owned()))
    }

    async fn by_tokio(&self, sql: &'static str, reads: bool) -> Result<(String, String)> {
        let mut config = self.strings.tokio_postgres.clone();
        if reads {
            config.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadOnly);
        }
        let asked = self.client.thread(async move || {
            let sql_connection = crate::sql::Sql::connect(&config).await?;
            let rows = sql_connection.rows(sql).await?;
            anyhow::Ok(rows.into_iter().next().unwrap_or_default())
        })?;
        // It has bounds of its own.
        let asked = tokio::task::spawn_blocking(move || asked.join()).await?;
        let row = asked.map_err(|_| anyhow::anyhow!("a thread panicked"))???;
        let [Some(first), Some(second)] = row.as_slice() else { anyhow::bail!("{row:?}") };
        Ok((first.clone(), second.clone()))
    }

    /// A string for libpq; `reads`: to a standby.
    fn dsn(&self, way: Way, reads: bool) -> String {
        let to = |host: &str, port: u16, attrs: &str| {
            format!(
                "host={host} port={port} user=postgres password=postgres dbname=postgres \
                 target_session_attrs={attrs} {TIMEOUTS}"
            )
        };
        let here = "127.0.0.1";
        let (role, any) = (if reads { "replica" } else { "primary" }, "any");
        match way {
            Way::Psycopg2 | Way::Psycopg3 | Way::TokioPostgres => {
                let writes = format!("{} password=postgres", self.strings.libpq);
                if reads { writes.replace("=read-write", "=standby") } else { writes }
            }
            Way::HaProxy => to(here, if reads { PORTS.1 } else { PORTS.0 }, any),
            Way::HaProxyDns => to(here, if reads { PORTS.3 } else { PORTS.2 }, any),
            Way::Vip => to(&self.vip.to_string(), 5432, any),
            Way::Dns | Way::AgentDns => to(&format!("{role}.ha.{ZONE}"), 5432, any),
            Way::PgBouncer => {
                let node = self.cluster.node(&self.pooler);
                let address = node.map(|node| node.config().address.to_string());
                to(&address.unwrap_or_default(), poolers::PORT, any)
            }
            // It may have two for a moment.
            Way::ConsulDns => {
                let attrs = if reads { "standby" } else { "read-write" };
                to(&format!("{role}.ha.service.consul"), 5432, attrs)
            }
        }
    }
}

/// A client on `host` that writes by the PgBouncer at `address` from now on, as those of [`Way::PgBouncer`] do.
///
/// # Errors
/// When it cannot be started.
pub fn pooled(host: &Host, address: Ipv4Addr, label: &str, log: &Path) -> Result<Writer> {
    let dsn = format!(
        "host={address} port={} user=postgres password=postgres dbname=postgres \
         target_session_attrs=any {TIMEOUTS}",
        poolers::PORT
    );
    Writer::program(host, None, ("psycopg2", &dsn, label), log)
}

/// Seconds on the clock of [`Seen`].
#[must_use]
pub fn monotonic() -> f64 {
    writer::monotonic()
}

/// Virtual address and DNS in every node; what the address is.
fn configure(cluster: &mut Cluster) -> Result<Ipv4Addr> {
    let [a, b, c, _] = cluster.nodes()[0].config().address.octets();
    let vip = Ipv4Addr::new(a, b, c, 200);
    for name in ["n1", "n2", "n3"] {
        let config = cluster.node_mut(name)?.config_mut();
        config.listen_everywhere = true;
        config.extra.push_str(&format!(
            "vip: {{interface: eth0, addresses: [{vip}/24]}}\n\
             dns: {{zone: {ZONE}, listen: \"{}:53\"}}\n",
            config.address
        ));
        poolers::configure(config)?;
    }
    Ok(vip)
}

impl Strings {
    fn ask(cluster: &Cluster) -> Result<Self> {
        let libpq = hart(cluster, &["dsn", "-U", "postgres"])?.trim().to_owned();
        let dsn = hart(cluster, &["dsn", "-U", "postgres", "-f", "tokio-postgres"])?;
        let mut tokio_postgres: Config = dsn.trim().parse()?;
        tokio_postgres.password("postgres");
        Ok(Self { libpq, tokio_postgres })
    }
}

/// Runs `hart` with the first node's configuration.
fn hart(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    hart_of(cluster, cluster.nodes()[0].name(), arguments)
}

fn hart_of(cluster: &Cluster, node: &str, arguments: &[&str]) -> Result<String> {
    let node = cluster.node(node)?;
    let mut command = Command::new(hart_binary()?);
    command.arg("-c").arg(node.config_file()).args(arguments);
    let host = node.host().context("a host")?;
    let output = host.output(&mut command)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "hart {arguments:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}
