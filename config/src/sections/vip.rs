//! `vip`: addresses that follow the primary, put on an interface by the agent.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::keys::{KeyDoc, Kind, key};
use crate::reader::Section;
use crate::words::words;

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VipAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
}

impl fmt::Display for VipAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl FromStr for VipAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ip, prefix) = text
            .split_once('/')
            .ok_or("the length of the network's prefix is missing, such as 10.0.0.100/24")?;
        let ip: IpAddr = ip.trim().parse().map_err(|_| format!("{ip:?} is no address"))?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let number = prefix.trim().parse().ok().filter(|bits| (1..=longest).contains(bits));
        let prefix = number.ok_or_else(|| format!("a prefix has 1 to {longest} bits"))?;
        let link_local = |ip: Ipv6Addr| ip.segments()[0] & 0xffc0 == 0xfe80;
        let special = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
        if special || matches!(ip, IpAddr::V6(ip) if link_local(ip)) {
            return Err("clients of other machines cannot use it".to_owned());
        }
        Ok(Self { ip, prefix })
    }
}

words! {
    /// What to do where another host answers for the address.
    VipConflict {
        /// Say so, and wait until it does not.
        #[default]
        Refuse = "refuse",
        /// Say so, and take the address all the same.
        Take = "take",
    }
}

/// Addresses that follow the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The interface that they are put on.
    pub interface: String,
    /// On the primary.
    pub addresses: Vec<VipAddress>,
    /// On one replica, or on the primary where no replica runs.
    pub replica_addresses: Vec<VipAddress>,
    /// What to do where another host answers for an address.
    pub conflict: VipConflict,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("vip", Kind::Section, "Addresses that follow the primary; without this section none do."),
    key("vip.interface", Kind::Text, "The interface that they are put on; needed.")
        .env("VIP_INTERFACE"),
    key("vip.addresses", Kind::List, "On the primary, with prefix length: 10.0.0.100/24."),
    key(
        "vip.replica_addresses",
        Kind::List,
        "On one running replica; on the primary where there is none.",
    ),
    key(
        "vip.conflict",
        Kind::Words(VipConflict::WORDS),
        "Another host has the address: wait until it does not, or take it.",
    )
    .default("refuse"),
];

/// Linux' longest name of an interface.
const LONGEST_NAME: usize = 15;

impl Vip {
    /// `None` where there is no such section.
    pub(crate) fn read(top: &Section<'_>) -> Option<Self> {
        let section = top.section("vip");
        let interface = read_interface(&section);
        let conflict = section.word("conflict").unwrap_or_default();
        let addresses = read_addresses(&section, "addresses");
        let replica_addresses = read_addresses(&section, "replica_addresses");
        if section.is_given() && section.given("interface").is_none() && interface.is_empty() {
            section.missing("interface");
        }
        if section.is_given() && section.given("addresses").is_none() {
            section.missing("addresses");
        }
        let both = |other: &VipAddress| addresses.iter().any(|address| address.ip == other.ip);
        if let Some(twice) = replica_addresses.iter().find(|address| both(address))
            && let Some(node) = section.given("replica_addresses")
        {
            let what = format!("{} is in vip.addresses, too", twice.ip);
            section.problem("replica_addresses", node, what, "give it another address");
        }
        section.is_given().then_some(Self { interface, addresses, replica_addresses, conflict })
    }
}

fn read_interface(section: &Section<'_>) -> String {
    let name = section.text("interface").unwrap_or_default();
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if let Some(node) = section.given("interface")
        && (name.is_empty() || name.len() > LONGEST_NAME || name.contains(odd) || name == "lo")
    {
        let what = format!("expected an interface on a network, found {}", node.found());
        section.problem("interface", node, what, "write it as `ip link` does, such as eth0");
    }
    name
}

fn read_addresses(section: &Section<'_>, key: &str) -> Vec<VipAddress> {
    let texts = section.list(key);
    let mut addresses: Vec<VipAddress> = Vec::new();
    let Some(node) = section.given(key) else { return addresses };
    for text in texts {
        let hint = "write a list such as [10.0.0.100/24, \"fd00::100/64\"]";
        match text.parse::<VipAddress>() {
            Ok(address) if addresses.iter().any(|other| other.ip == address.ip) => {
                section.problem(key, node, format!("{} is listed twice", address.ip), hint);
            }
            Ok(address) => addresses.push(address),
            Err(why) => {
                section.problem(
                    key,
                    node,
                    format!("expected addresses, found {text:?}: {why}"),
                    hint,
                );
            }
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_text;

    const LEAST: &str = "scope: ha\nname: n1\nrestapi: {listen: 'a:1'}\nconsul: {host: c}\n\
                         postgresql: {listen: 'a:2', data_dir: /d}\n";

    fn read(text: &str) -> Result<Option<Vip>, String> {
        let loaded = load_text("n1.yml", &format!("{LEAST}{text}"), []);
        loaded.map(|loaded| loaded.config.vip).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        assert_eq!(read(""), Ok(None));
        let text = "vip: {interface: eth0, addresses: [10.0.0.100/24, 'fd00::100/64']}";
        let vip = read(text).unwrap().unwrap();
        let shown: Vec<_> = vip.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.100/24", "fd00::100/64"]);
        assert_eq!((vip.interface.as_str(), vip.conflict), ("eth0", VipConflict::Refuse));
        assert_eq!(vip.replica_addresses, []);
    }

    #[test]
    fn wrong_ones_are_named() {
        for (text, said) in [
            ("vip: {addresses: [10.0.0.1/24]}", "vip.interface"),
            ("vip: {interface: eth0}", "vip.addresses"),
            ("vip: {interface: eth0, addresses: [10.0.0.1]}", "prefix is missing"),
            ("vip: {interface: eth0, addresses: [10.0.0.1/33]}", "1 to 32 bits"),
            ("vip: {interface: eth0, addresses: [10.0.0.x/3]}", "\"10.0.0.x\" is no address"),
            ("vip: {interface: eth0, addresses: [127.0.0.1/8]}", "other machines"),
            ("vip: {interface: eth0, addresses: ['fe80::1/64']}", "other machines"),
            ("vip: {interface: eth0, addresses: [10.0.0.1/24, 10.0.0.1/16]}", "listed twice"),
            (
                "vip: {interface: e, addresses: [10.0.0.1/24], replica_addresses: [10.0.0.1/24]}",
                "10.0.0.1 is in vip.addresses, too",
            ),
            ("vip: {interface: a_very_long_name_0, addresses: [10.0.0.1/24]}", "vip.interface"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
