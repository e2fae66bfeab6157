//! A DNS server that knows the hosts of a lab by `NAME.hart.test`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::lab::Host;
use crate::process::Process;

/// The domain of the hosts' names.
const DOMAIN: &str = "hart.test";

/// A dnsmasq on a host of its own.
#[derive(Debug)]
pub struct Dns {
    process: Process,
    hosts: PathBuf,
    address: Ipv4Addr,
}

impl Dns {
    /// The name of a host.
    #[must_use]
    pub fn name(host: &str) -> String {
        format!("{host}.{DOMAIN}")
    }

    /// Starts it on `on`; it knows all of `hosts`. Its files are in `dir`.
    ///
    /// # Errors
    /// When dnsmasq is missing, or a file cannot be written.
    pub fn start(on: &Host, hosts: &[Host], dir: &Path) -> Result<Self> {
        let lines = hosts.iter().map(|host| line(host.name(), host.address()));
        let (address, path) = (on.address(), dir.join("dns.hosts"));
        fs::write(&path, lines.collect::<String>())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mut dnsmasq = Command::new("/usr/sbin/dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file",
            "--no-resolv",
        ]);
        dnsmasq.args(["--no-hosts", "--user=root", "--bind-interfaces"]);
        dnsmasq.arg(format!("--local=/{DOMAIN}/")).arg(format!("--listen-address={address}"));
        dnsmasq.arg(format!("--addn-hosts={}", path.display()));
        let process = on.start(&mut dnsmasq, &dir.join("dns.log")).context("package dnsmasq")?;
        Ok(Self { process, hosts: path, address })
    }

    /// Where it listens, at port 53.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives a host's name another address.
    ///
    /// # Errors
    /// When it has ended, or its file cannot be written.
    pub fn change(&self, host: &str, from: Ipv4Addr, to: Ipv4Addr) -> Result<()> {
        let text = fs::read_to_string(&self.hosts)?.replace(&line(host, from), &line(host, to));
        fs::write(&self.hosts, text)?;
        self.process.signal(Signal::HUP)
    }

    /// Takes questions from now on, and answers none.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Answers again.
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> Result<()> {
        self.process.thaw()
    }
}

fn line(host: &str, address: Ipv4Addr) -> String {
    format!("{address} {}\n", Dns::name(host))
}
