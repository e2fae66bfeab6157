//! What can go wrong between hosts.

use std::sync::PoisonError;

use anyhow::{Context, Result};

use super::ip::{self, Batch};
use super::switch::{Trouble, Which};
use super::{BRIDGE, Host, Lab};

/// No interface has this address, so frames for it vanish on the bridge without any error to the
/// sender, as in a real partition. (A blackhole route would fail `connect` at once.)
const NOWHERE: &str = "02:00:00:00:de:ad";

/// The preference of the rules that close ports.
const CLOSED: &str = "7";

impl Lab {
    /// Pulls the host's network cable. Its own addresses still work on the host itself.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut(&self, host: &Host) -> Result<()> {
        self.cable(host, "down")
    }

    /// Plugs the cable in again.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn heal(&self, host: &Host) -> Result<()> {
        self.cable(host, "up")
    }

    /// Loses silently every packet between two hosts, in both directions; others still reach both.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn partition(&self, a: &Host, b: &Host) -> Result<()> {
        lose(a, b)?;
        lose(b, a)
    }

    /// Ends [`Lab::partition`].
    ///
    /// # Errors
    /// When `ip` fails, also when there was no partition.
    pub fn unite(&self, a: &Host, b: &Host) -> Result<()> {
        find(a, b)?;
        find(b, a)
    }

    /// Loses silently what `from` sends to `to`; the other direction works, so that neither can
    /// have a TCP connection to the other.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn block(&self, from: &Host, to: &Host) -> Result<()> {
        lose(from, to)
    }

    /// Ends [`Lab::block`].
    ///
    /// # Errors
    /// When `ip` fails, also when nothing was blocked.
    pub fn unblock(&self, from: &Host, to: &Host) -> Result<()> {
        find(from, to)
    }

    /// Loses silently what `host` sends from this TCP port to all other hosts, so that connections to it
    /// neither come about nor end; all other ports work, and so does this one on the host itself.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn close_port(&self, host: &Host, port: u16) -> Result<()> {
        let mut batch = Batch::in_namespace(host.netns());
        for other in self.hosts().iter().filter(|other| other.name() != host.name()) {
            let to = other.address();
            batch.add(format!("rule add pref {CLOSED} to {to} ipproto tcp sport {port} blackhole"));
        }
        batch.run()
    }

    /// Ends every [`Lab::close_port`] of this host.
    pub fn open_ports(&self, host: &Host) {
        // One rule each, until there is none left.
        while ip::run(&["-netns", host.netns().name(), "rule", "delete", "pref", CLOSED]).is_ok() {}
    }

    /// Frames `from` one host `to` another (`None`: any) have trouble from now on; with `port`, only those of
    /// TCP and UDP that have it at either end. The number ends it. Where several such rules meet, their
    /// delays add up. Needs [`Lab::with_switch`].
    ///
    /// # Errors
    /// Without such a switch.
    pub fn disturb(
        &self,
        from: Option<&Host>,
        to: Option<&Host>,
        port: Option<u16>,
        trouble: Trouble,
    ) -> Result<u64> {
        let switch = self.switch.as_ref().context("the lab has no switch in user space")?;
        let which = Which { from: from.map(Host::socket), to: to.map(Host::socket), port };
        Ok(switch.disturb(which, trouble))
    }

    /// The same in both directions.
    ///
    /// # Errors
    /// As [`Lab::disturb`].
    pub fn disturb_both(
        &self,
        one: Option<&Host>,
        other: Option<&Host>,
        port: Option<u16>,
        trouble: Trouble,
    ) -> Result<[u64; 2]> {
        Ok([self.disturb(one, other, port, trouble)?, self.disturb(other, one, port, trouble)?])
    }

    /// Ends what [`Lab::disturb`] began.
    ///
    /// # Errors
    /// When it had ended already.
    pub fn calm(&self, rules: &[u64]) -> Result<()> {
        let switch = self.switch.as_ref().context("the lab has no switch in user space")?;
        let over: Vec<_> = rules.iter().filter(|rule| !switch.end(**rule)).collect();
        anyhow::ensure!(over.is_empty(), "the rules {over:?} of the switch had ended already");
        Ok(())
    }

    /// Takes the power from a host: the cable goes first, so that nobody gets a farewell of TCP,
    /// then every process on it is killed. [`Lab::heal`] gives it its network back.
    ///
    /// # Errors
    /// When `ip` fails or a process survives.
    pub fn kill_node(&self, host: &Host) -> Result<()> {
        self.cut(host)?;
        host.kill_processes()
    }

    /// Ends every fault between hosts: all cables are in, nobody is separated from anybody.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn heal_all(&self) -> Result<()> {
        if let Some(switch) = &self.switch {
            self.out.lock().unwrap_or_else(PoisonError::into_inner).clear();
            switch.end_all();
        }
        for host in self.hosts() {
            self.heal(host)?;
            self.open_ports(host);
            let mut batch = Batch::in_namespace(host.netns());
            batch.add("neighbour flush nud permanent dev eth0".into());
            batch.run()?;
        }
        Ok(())
    }

    fn cable(&self, host: &Host, state: &str) -> Result<()> {
        if self.switch.is_some() {
            return self.socket(host, state == "up");
        }
        let mut hub = Batch::in_namespace(&self.hub);
        hub.add(format!("link set {} {state}", host.port()));
        if state == "up" {
            // What the hub could not reach before must not stay unreachable for a while.
            hub.add(format!("neighbour flush dev {BRIDGE}"));
            hub.run()?;
            let mut own = Batch::in_namespace(host.netns());
            own.add("neighbour flush dev eth0".into());
            return own.run();
        }
        hub.run()
    }

    fn socket(&self, host: &Host, up: bool) -> Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if up {
            return out.remove(host.name()).map_or(Ok(()), |rules| self.calm(&rules));
        }
        if !out.contains_key(host.name()) {
            let rules = self.disturb_both(Some(host), None, None, Trouble::CUT)?;
            out.insert(host.name().to_owned(), rules);
        }
        Ok(())
    }
}

fn lose(from: &Host, to: &Host) -> Result<()> {
    let mut batch = Batch::in_namespace(from.netns());
    let address = to.address();
    batch.add(format!("neighbour replace {address} lladdr {NOWHERE} nud permanent dev eth0"));
    batch.run()
}

fn find(from: &Host, to: &Host) -> Result<()> {
    let mut batch = Batch::in_namespace(from.netns());
    batch.add(format!("neighbour delete {} dev eth0", to.address()));
    batch.run()
}
