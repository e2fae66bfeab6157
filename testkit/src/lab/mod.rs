//! Hosts on one machine: network namespaces joined by a bridge, with faults between them.

mod fault;
mod host;
mod ip;
mod netns;
mod sweep;
mod switch;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use anyhow::{Context, Result};

pub use host::Host;
pub use netns::Entered;
pub use switch::Trouble;

use ip::Batch;
use netns::NetNs;
use switch::Switch;

/// Name of the bridge in the hub.
const BRIDGE: &str = "br0";

/// First host's last octet, as in the documentation's examples (`10.0.0.21`).
const FIRST_HOST: u8 = 21;

/// A network of its own: a hub with a bridge and any number of hosts. Addresses and interfaces
/// exist inside its namespaces only. Dropping it kills every process in them and removes them;
/// what a run left behind that could not do so is removed by the next one.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    net: [u8; 3],
    hosts: Vec<Host>,
    hub: NetNs,
    /// Instead of the kernel's bridge.
    switch: Option<Switch>,
    /// Cables that are out, with the rules of the switch for that.
    out: Mutex<BTreeMap<String, [u64; 2]>>,
}

impl Lab {
    /// Makes hosts `n1` to `n<hosts>` in a random 10.x.y.0/24.
    ///
    /// # Errors
    /// Without root, or when `ip` (package iproute2) is missing or fails.
    pub fn new(hosts: usize) -> Result<Self> {
        Self::make(hosts, None)
    }

    /// The same with a switch in user space, which can also make frames slow, lose some of them, or all of
    /// one port: see [`Lab::disturb`]. Chance goes by the seed.
    ///
    /// # Errors
    /// As [`Lab::new`], and without /dev/net/tun.
    pub fn with_switch(hosts: usize, seed: u64) -> Result<Self> {
        Self::make(hosts, Some(Switch::start(seed)?))
    }

    fn make(hosts: usize, switch: Option<Switch>) -> Result<Self> {
        sweep::leftovers();
        let prefix = format!("hart-{}-{:06x}", std::process::id(), fastrand::u32(..1 << 24));
        let hub = NetNs::create(&format!("{prefix}-hub"))
            .context("network namespaces need root and the package iproute2")?;
        let net = [10, fastrand::u8(1..=250), fastrand::u8(1..=250)];
        let out = Mutex::default();
        let mut lab = Self { prefix, net, hosts: Vec::new(), hub, switch, out };
        lab.build_hub()?;
        for number in 1..=hosts {
            lab.add_host(&format!("n{number}"))?;
        }
        Ok(lab)
    }

    /// Adds a host; its address is the next free one.
    ///
    /// # Errors
    /// When the name is too long for an interface (12 bytes), or `ip` fails.
    pub fn add_host(&mut self, name: &str) -> Result<&Host> {
        anyhow::ensure!(name.len() <= 12, "host name {name:?} is longer than 12 bytes");
        let last = u8::try_from(self.hosts.len()).ok().and_then(|n| n.checked_add(FIRST_HOST));
        let address = self.address(last.context("too many hosts")?);
        let netns = NetNs::create(&format!("{}-{name}", self.prefix))?;
        let port = format!("v-{name}");
        let socket = self.plug_in(&netns, &port)?;
        let mut inside = Batch::in_namespace(&netns);
        inside.add("link set lo up".into());
        inside.add(format!("address add {address}/24 dev eth0"));
        inside.add("link set eth0 up".into());
        inside.run()?;
        self.hosts.push(Host::new(name, address, port, socket, netns));
        self.hosts.last().context("just added")
    }

    /// The number of its socket at the switch, where there is one.
    fn plug_in(&self, netns: &NetNs, port: &str) -> Result<usize> {
        if let Some(switch) = &self.switch {
            let _inside = netns.enter()?;
            return switch.plug_in("eth0");
        }
        let mut hub = Batch::in_namespace(&self.hub);
        hub.add(format!("link add {port} type veth peer name eth0 netns {}", netns.name()));
        hub.add(format!("link set {port} master {BRIDGE} up"));
        hub.run()?;
        Ok(0)
    }

    /// The hosts in order of creation.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts
            .iter()
            .find(|host| host.name() == name)
            .with_context(|| format!("no host {name}"))
    }

    /// The hub's own address; it reaches every host.
    #[must_use]
    pub fn hub_address(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Moves the calling thread into the hub until the value is dropped, so that its sockets
    /// reach the hosts. Only this thread: use a `current_thread` runtime, as `#[tokio::test]` does.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter_hub(&self) -> Result<Entered> {
        self.hub.enter()
    }

    /// The common beginning of the names of its namespaces, as `ip netns list` shows them.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn build_hub(&self) -> Result<()> {
        let mut hub = Batch::in_namespace(&self.hub);
        hub.add("link set lo up".into());
        if let Some(switch) = &self.switch {
            let _inside = self.hub.enter()?;
            switch.plug_in(BRIDGE)?;
        } else {
            // Without forwarding delay a healed link carries traffic at once.
            hub.add(format!("link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0"));
        }
        hub.add(format!("address add {}/24 dev {BRIDGE}", self.hub_address()));
        hub.add(format!("link set {BRIDGE} up"));
        hub.run()
    }

    const fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, last)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Its devices go with the namespaces.
        self.switch = None;
        // Clones of hosts may outlive this, for instance in threads.
        self.hosts.iter().for_each(|host| host.netns().remove());
    }
}
