//! The programs on the client's host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{PORTS, Way, ZONE, hart};
use crate::cluster::Cluster;
use crate::consul::Consul;
use crate::dir::TempDir;
use crate::lab::Host;
use crate::node::hart_binary;
use crate::process::Process;

/// Where `hart dns` listens on the client's host.
pub(super) const ALONE: u16 = 5353;
/// Where an agent of Consul answers DNS.
const CONSUL_DNS: u16 = 8600;

/// Everything that runs there.
#[derive(Debug)]
pub(super) struct Parts {
    _programs: Vec<Process>,
    _consul: Consul,
    forwarded: PathBuf,
    agents: PathBuf,
    writers: usize,
    _dir: TempDir,
}

impl Parts {
    pub(super) async fn start(cluster: &mut Cluster, client: &Host) -> Result<Self> {
        let consul = Consul::client_on_host(client, cluster.servers()).await?;
        let dir = TempDir::new()?;
        let at = |name: &str| dir.path().join(name);
        let programs = vec![
            alone(client, &at("hart-dns.log"))?,
            dnsmasq(cluster, client, dir.path())?,
            haproxy(cluster, client, dir.path(), "haproxy")?,
            haproxy(cluster, client, dir.path(), "haproxy-dns")?,
        ];
        let (forwarded, agents) = (at("resolv.conf"), at("resolv-agents.conf"));
        write(&forwarded, "nameserver 127.0.0.1\n")?;
        let servers: String = cluster
            .nodes()
            .iter()
            .map(|n| format!("nameserver {}\n", n.config().address))
            .collect();
        write(&agents, &format!("{servers}options timeout:1 attempts:2\n"))?;
        Ok(Self { _programs: programs, _consul: consul, forwarded, agents, writers: 0, _dir: dir })
    }

    /// The resolver's file for a way that looks a name up.
    pub(super) fn resolv(&self, way: Way) -> Option<&Path> {
        match way {
            Way::Dns | Way::ConsulDns => Some(&self.forwarded),
            Way::AgentDns => Some(&self.agents),
            _ => None,
        }
    }

    /// A number that no writer has had.
    pub(super) const fn number(&mut self) -> usize {
        self.writers += 1;
        self.writers
    }
}

/// `hart dns`, which asks the Consul agent of the host.
fn alone(client: &Host, log: &Path) -> Result<Process> {
    let mut command = Command::new(hart_binary()?);
    let listen = format!("127.0.0.1:{ALONE}");
    command.args(["dns", "--zone", ZONE, "--listen", &listen, "--consul", "127.0.0.1:8500"]);
    command.args(["--metrics", "127.0.0.1:9153"]).env("NO_COLOR", "1");
    client.start(&mut command, log)
}

/// The template's file, and Consul's zone beside it.
fn dnsmasq(cluster: &Cluster, client: &Host, dir: &Path) -> Result<Process> {
    let set = format!("port={ALONE}");
    let zone = format!("zone={ZONE}");
    let text = hart(cluster, &["template", "dns-dnsmasq", "--set", &zone, "--set", &set])?;
    let file = dir.join("dnsmasq.conf");
    write(&file, &format!("{text}server=/consul/127.0.0.1#{CONSUL_DNS}\n"))?;
    let mut command = Command::new("dnsmasq");
    command.arg(format!("--conf-file={}", file.display()));
    command.args(["--keep-in-foreground", "--log-facility=-", "--pid-file=", "--user=root"]);
    command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--no-hosts", "--no-resolv"]);
    client.start(&mut command, &dir.join("dnsmasq.log"))
}

fn haproxy(cluster: &Cluster, client: &Host, dir: &Path, template: &str) -> Result<Process> {
    let socket = format!("socket={}", dir.join(format!("{template}.sock")).display());
    let mut arguments = vec!["template", template, "--set", &socket];
    let node = cluster.nodes()[0].config().address;
    let dns = [
        format!("dns={node}:53"),
        format!("zone={ZONE}"),
        format!("rw_port={}", PORTS.2),
        format!("ro_port={}", PORTS.3),
        "stats=127.0.0.1:7001".to_owned(),
    ];
    if template == "haproxy-dns" {
        dns.iter().for_each(|set| arguments.extend(["--set", set]));
    }
    let file = dir.join(format!("{template}.cfg"));
    write(&file, &hart(cluster, &arguments)?)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    client.start(&mut command, &dir.join(format!("{template}.log")))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
