//! Clients find the primary by a virtual address, by HAProxy and by a string with all hosts, before
//! and after a switchover and after a host has frozen. Needs root.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Options, Process, Sql, eventually, hart_binary, sql_config};

/// CAP_NET_ADMIN as a bit of /proc/PID/status.
const NET_ADMIN: u64 = 1 << 12;

struct Clients {
    cluster: Cluster,
    /// The primary's address.
    vip: Ipv4Addr,
    /// The replica's.
    readers: Ipv4Addr,
}

impl Clients {
    async fn start() -> Result<Self> {
        let mut cluster = Cluster::prepare(3, &Options::default()).await?;
        let [a, b, c, _] = cluster.nodes()[0].host().context("a host")?.address().octets();
        let (vip, readers) = (Ipv4Addr::new(a, b, c, 200), Ipv4Addr::new(a, b, c, 201));
        for name in ["n1", "n2", "n3"] {
            let node = cluster.node_mut(name)?;
            let text = node.config().render();
            let listen = format!("listen: \"{},127.0.0.1:5432\"", node.config().address);
            ensure!(text.contains(&listen), "{text}");
            let text = text.replace(&listen, "listen: \"*:5432\"");
            let section = format!(
                "vip: {{interface: eth0, addresses: [{vip}/24], replica_addresses: [{readers}/24]}}\n"
            );
            node.start_with(&format!("{text}{section}"))?;
        }
        cluster.wait_healthy(3, DEADLINE).await?;
        Ok(Self { cluster, vip, readers })
    }

    /// Is the primary's virtual address on this node's interface?
    fn has_vip(&self, node: &str) -> Result<bool> {
        self.has(node, self.vip)
    }

    fn has(&self, node: &str, address: Ipv4Addr) -> Result<bool> {
        let host = self.cluster.host(node)?;
        let output =
            host.output(Command::new("ip").args(["-o", "address", "show", "dev", "eth0"]))?;
        Ok(String::from_utf8_lossy(&output.stdout).contains(&format!("{address}/24")))
    }

    /// Waits until a client at the replica's address reads at `node`, and no other node of `there` has
    /// that address.
    async fn readers_are_at(&self, node: &str, there: &[&str]) -> Result<()> {
        eventually(&format!("the replica's address to be at {node}"), DEADLINE, async || {
            let has = |name: &&str| self.has(name, self.readers).unwrap_or(false);
            let found: Vec<_> = there.iter().copied().filter(has).collect();
            ensure!(found == [node], "it is at {found:?}");
            let sql = Sql::connect(&sql_config(&self.readers.to_string(), 5432)).await?;
            let standby = sql.value("select pg_is_in_recovery()::text").await?;
            let is_primary = self.cluster.primary().await? == node;
            ensure!(standby.as_deref() == Some(if is_primary { "false" } else { "true" }));
            Ok(())
        })
        .await
    }

    /// Waits until a client at `address:port` writes at `node`.
    async fn leads_to(&self, address: Ipv4Addr, port: u16, node: &str) -> Result<()> {
        let expected = IpAddr::from(self.cluster.host(node)?.address());
        eventually(&format!("{address}:{port} leads to {node}"), DEADLINE, async || {
            let sql = Sql::connect(&sql_config(&address.to_string(), port)).await?;
            let read_only = sql.value("show transaction_read_only").await?;
            ensure!(read_only.as_deref() == Some("off"), "it is read-only");
            let at = sql.value("select host(inet_server_addr())").await?.unwrap_or_default();
            let at: IpAddr = at.parse()?;
            // The server's own address is the virtual one where the client used that.
            ensure!(at == expected || at == IpAddr::from(self.vip) && self.has_vip(node)?, "{at}");
            Ok(())
        })
        .await
    }

    fn hart(&self, node: &str, arguments: &[&str]) -> Result<String> {
        let file = self.cluster.node(node)?.config_file();
        let output = Command::new(hart_binary()?).arg("-c").arg(file).args(arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "hart {arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// HAProxy in the hub, with the file that is rendered now.
    fn haproxy(&self) -> Result<Process> {
        let dir = self.cluster.dir().path();
        let (file, socket) = (dir.join("haproxy.cfg"), dir.join("haproxy.sock"));
        let set = format!("socket={}", socket.display());
        let out = file.to_str().context("a path")?;
        self.hart("n1", &["template", "haproxy", "--output", out, "--set", &set])?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        Process::start(&mut command, &dir.join("haproxy.log"))
    }

    /// psql with the string of `hart dsn` writes at the primary.
    async fn psql_finds_the_primary(&self, ask: &str) -> Result<()> {
        let dsn = self.hart(ask, &["dsn", "-U", "postgres"])?;
        let psql = hart_testkit::bin_dir()?.join("psql");
        eventually("psql by the list of hosts", DEADLINE, async || {
            let output = Command::new(&psql)
                .env("PGPASSWORD", "postgres")
                .args(["-XAtc", "show transaction_read_only", dsn.trim()])
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.stdout == b"off\n", "{said}");
            Ok(())
        })
        .await
    }

    /// The same by tokio-postgres.
    async fn tokio_postgres_finds_the_primary(&self, ask: &str) -> Result<()> {
        let dsn = self.hart(ask, &["dsn", "-U", "postgres", "-f", "tokio-postgres"])?;
        let mut config: tokio_postgres::Config = dsn.trim().parse()?;
        config.password("postgres");
        eventually("tokio-postgres by the list of hosts", DEADLINE, async || {
            let sql = Sql::connect(&config).await?;
            let read_only = sql.value("show transaction_read_only").await?;
            ensure!(read_only.as_deref() == Some("off"), "it is read-only");
            Ok(())
        })
        .await
    }
}

/// The effective rights of each thread of a process.
fn rights(pid: u32) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        all.push(u64::from_str_radix(line.context("no CapEff")?.trim(), 16)?);
    }
    Ok(all)
}

#[tokio::test]
async fn clients_follow_the_primary() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let mut clients = Clients::start().await?;
    let first = clients.cluster.wait_primary(DEADLINE).await?;
    let hub = clients.cluster.lab().hub_address();
    let _haproxy = clients.haproxy()?;
    clients.leads_to(clients.vip, 5432, &first).await?;
    clients.leads_to(hub, 5433, &first).await?;

    // One thread of the agent may change addresses; nobody else has any of root's rights.
    let node = clients.cluster.node_mut(&first)?;
    let agent = rights(node.agent()?.id())?;
    assert_eq!(agent.iter().filter(|has| **has == NET_ADMIN).count(), 1, "{agent:x?}");
    assert_eq!(agent.iter().filter(|has| **has != 0).count(), 1, "{agent:x?}");
    for pid in [node.guard(), node.postmaster()] {
        assert_eq!(rights(pid.context("it runs")?)?, [0]);
    }

    let heir = ["n1", "n2", "n3"].into_iter().find(|name| *name != first).context("another")?;
    clients.cluster.switchover(Some(heir)).await?;
    clients.leads_to(clients.vip, 5432, heir).await?;
    clients.leads_to(hub, 5433, heir).await?;
    assert!(!clients.has_vip(&first)?, "taken off before the lease was handed over");
    clients.psql_finds_the_primary(heir).await?;
    clients.tokio_postgres_finds_the_primary(heir).await?;

    // Agent, guard and PostgreSQL stand still; only the kernel is left to take the address off.
    clients.cluster.wait_healthy(3, DEADLINE).await?;
    clients.cluster.freeze_node(heir)?;
    let third = clients.cluster.wait_new_primary(heir, DEADLINE).await?;
    clients.leads_to(clients.vip, 5432, &third).await?;
    clients.leads_to(hub, 5433, &third).await?;
    assert!(!clients.has_vip(heir)?, "the kernel has taken it off the frozen host");
    clients.psql_finds_the_primary(&third).await?;
    // The frozen host's kernel still accepts connections, and tokio-postgres waits for the server's
    // first word without a bound of its own: it gets a host that is really gone.
    clients.cluster.kill_node(heir)?;
    clients.tokio_postgres_finds_the_primary(&third).await
}

/// The replica's address is at the first replica that there is, and at the primary where there is none.
#[tokio::test]
async fn readers_follow_the_replicas_address() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let mut clients = Clients::start().await?;
    let primary = clients.cluster.wait_primary(DEADLINE).await?;
    let replicas: Vec<_> = ["n1", "n2", "n3"].into_iter().filter(|name| *name != primary).collect();
    let &[first, second] = replicas.as_slice() else { panic!("{replicas:?}") };
    clients.readers_are_at(first, &["n1", "n2", "n3"]).await?;
    clients.cluster.kill_node(first)?;
    clients.readers_are_at(second, &[second, &primary]).await?;
    clients.cluster.kill_node(second)?;
    clients.readers_are_at(&primary, &[&primary]).await
}
