//! The names below one cluster, from its state. Names are relative to the cluster's own name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use foldhash::HashMap;

use crate::cluster::{Cluster, Host, Member};
use crate::label::label;
use crate::name::{self, Key, Name};
use crate::node::{Node, Srv};
use crate::settings::Settings;

/// Names that no member can have.
const RESERVED: [&str; 5] = ["primary", "replica", "sync", "any", "proxy"];
/// What stands before a name to ask for its SRV records (RFC 2782), outermost last.
const SERVICE: [&[u8]; 2] = [b"_tcp", b"_postgresql"];

/// A name while the primary's lease is good, and afterwards where that makes a difference.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    led: Node,
    lost: Option<Box<Node>>,
}

/// All names below one cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Table(HashMap<Key, Entry>);

impl Table {
    /// The node with this relative name (wire form without an end, lower case).
    pub fn find(&self, relative: &[u8], led: bool) -> Option<&Node> {
        let entry = self.0.get(relative)?;
        Some(entry.lost.as_deref().filter(|_| !led).unwrap_or(&entry.led))
    }

    /// Makes the names of a cluster whose own name is `origin`; the texts are about what could
    /// not be served.
    pub fn build(cluster: &Cluster, origin: &Name, settings: &Settings) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let served = served(cluster, origin, settings, &mut problems);
        let builder = Builder { cluster, origin, settings, served };
        let led = builder.names(cluster.primary.as_deref(), &mut problems);
        // The same complaints again.
        let mut lost = builder.names(None, &mut Vec::new());
        let entries = led.into_iter().map(|(key, led)| {
            let lost = lost.remove(&key).filter(|lost| *lost != led).map(Box::new);
            (Key::from_slice(&key), Entry { led, lost })
        });
        (Self(entries.collect()), problems)
    }
}

/// A member and its label, where it has one of its own.
struct Served<'a> {
    member: &'a Member,
    label: Option<String>,
}

/// Members that can be named at all.
fn served<'a>(
    cluster: &'a Cluster,
    origin: &Name,
    settings: &Settings,
    problems: &mut Vec<String>,
) -> Vec<Served<'a>> {
    let mut members: Vec<&Member> = cluster.members.iter().collect();
    // Who is called exactly like a label has the first right to it.
    members.sort_by_key(|m| (label(&m.name).as_deref() != Ok(m.name.as_str()), m.name.clone()));
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    let mut served = Vec::new();
    for member in members {
        let scope = &cluster.scope;
        if let Host::Name(host) = &member.host
            && host.is_within(&settings.zone)
        {
            problems.push(format!(
                "member {:?} of cluster {scope:?} gives {host} as its address, which is in the \
                 zone {} itself: it is left out; set its postgresql.connect_address to an address",
                member.name, settings.zone
            ));
            continue;
        }
        let own = own_label(member, &taken, origin);
        let own = own.map_err(|problem| {
            problems.push(format!(
                "member {:?} of cluster {scope:?} has no name of its own: {problem}",
                member.name
            ));
        });
        if let Ok(label) = &own {
            taken.insert(label.clone(), &member.name);
        }
        served.push(Served { member, label: own.ok() });
    }
    served
}

fn own_label(
    member: &Member,
    taken: &BTreeMap<String, &str>,
    origin: &Name,
) -> Result<String, String> {
    let label = label(&member.name)?;
    if RESERVED.contains(&label.as_str()) {
        return Err(format!("{label} stands for a role"));
    }
    if let Some(other) = taken.get(&label) {
        return Err(format!("member {other:?} has the same label, {label}"));
    }
    let longest = SERVICE.iter().rev().copied().chain([label.as_bytes()]);
    origin.below(&wire(longest)).map_err(|error| error.to_string())?;
    Ok(label)
}

/// Labels, the most special first, in wire form.
fn wire<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut wire = Vec::new();
    labels.into_iter().for_each(|label| name::push(&mut wire, label));
    wire
}

struct Builder<'a> {
    cluster: &'a Cluster,
    origin: &'a Name,
    settings: &'a Settings,
    served: Vec<Served<'a>>,
}

impl Builder<'_> {
    fn names(&self, primary: Option<&str>, problems: &mut Vec<String>) -> BTreeMap<Vec<u8>, Node> {
        let leads = |s: &&Served<'_>| Some(s.member.name.as_str()) == primary;
        let pick = |fits: &dyn Fn(&&Served<'_>) -> bool| -> Vec<&Served<'_>> {
            self.served.iter().filter(fits).collect()
        };
        let primary = pick(&leads);
        let reads = pick(&|s| s.member.reads && !leads(s));
        let sync = pick(&|s| s.member.reads && s.member.sync && !leads(s));
        let any = pick(&|s| s.member.reads || leads(s));
        let fallback = reads.is_empty() && self.settings.replica_fallback;
        let replica = if fallback { &primary } else { &reads };

        let mut names = BTreeMap::new();
        let roles: [(&str, &[&Served<'_>]); 5] = [
            ("", &primary),
            ("primary", &primary),
            ("replica", replica),
            ("sync", &sync),
            ("any", &any),
        ];
        for (name, members) in roles {
            let node = self.role(name, members, problems);
            self.insert(&mut names, name, node, members);
        }
        for served in &self.served {
            if let Some(label) = &served.label {
                let node = self.role(label, &[served], problems);
                self.insert(&mut names, label, node, &[served]);
            }
        }
        names.insert(wire([b"proxy".as_slice()]), self.proxies(problems));
        names
    }

    /// Addresses and texts of several members under one name.
    fn role(&self, name: &str, members: &[&Served<'_>], problems: &mut Vec<String>) -> Node {
        let hosts = members.iter().map(|served| &served.member.host);
        let mut node = self.addresses(name, hosts, problems);
        if node.cname.is_empty() {
            // Nothing may stand beside an alias.
            node.txt = members.iter().map(|served| text(served.member)).collect();
        }
        node
    }

    fn addresses<'h>(
        &self,
        name: &str,
        hosts: impl Iterator<Item = &'h Host>,
        problems: &mut Vec<String>,
    ) -> Node {
        let mut node = Node::default();
        for host in hosts {
            match host {
                Host::Ip(ip) => node.add(*ip),
                Host::Name(host) if node.cname.contains(host) => {}
                Host::Name(host) => node.cname.push(host.clone()),
            }
        }
        let addresses = node.v4.len() + node.v6.len();
        if addresses > 0 && !node.cname.is_empty() {
            let names: Vec<String> = node.cname.drain(..).map(|name| name.to_string()).collect();
            problems.push(format!(
                "cluster {:?} has members with an address and members with a name; as one name \
                 cannot have addresses and an alias, {} left out of {name}.{}",
                self.cluster.scope,
                names.join(", "),
                self.origin
            ));
        }
        node
    }

    fn proxies(&self, problems: &mut Vec<String>) -> Node {
        let outside =
            |host: &&Host| !matches!(host, Host::Name(n) if n.is_within(&self.settings.zone));
        let hosts = self.cluster.proxies.iter().filter(outside);
        self.addresses("proxy", hosts, problems)
    }

    /// Puts a name and its `_postgresql._tcp` in; `_tcp` in between only exists.
    fn insert(
        &self,
        names: &mut BTreeMap<Vec<u8>, Node>,
        label: &str,
        node: Node,
        members: &[&Served<'_>],
    ) {
        let own: Vec<&[u8]> = (!label.is_empty()).then_some(label.as_bytes()).into_iter().collect();
        names.insert(wire(own.iter().copied()), node);
        let [tcp, postgresql] = SERVICE;
        let between = [&[tcp], own.as_slice()].concat();
        names.insert(wire(between.iter().copied()), Node::default());
        let srv = members.iter().filter_map(|served| self.srv(served)).collect();
        let service = [&[postgresql, tcp], own.as_slice()].concat();
        names.insert(wire(service.iter().copied()), Node { srv, ..Node::default() });
    }

    /// A target must not be an alias (RFC 2782), so a host with a name is given as it is.
    fn srv(&self, served: &Served<'_>) -> Option<Srv> {
        let port = served.member.port;
        match &served.member.host {
            Host::Name(host) => Some(Srv { port, target: host.clone(), address: None }),
            Host::Ip(ip) => {
                let label = served.label.as_ref()?;
                let target = self.origin.below(&wire([label.as_bytes()])).ok()?;
                Some(Srv { port, target, address: Some(plain(*ip)) })
            }
        }
    }
}

/// `::ffff:10.0.0.1` is an IPv4 address.
fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The member's name and facts as one string of at most 255 bytes.
fn text(member: &Member) -> Box<[u8]> {
    let mut text = format!("name={}", member.name);
    for fact in &member.facts {
        if text.len() + 1 + fact.len() <= 255 {
            text.push(' ');
            text.push_str(fact);
        }
    }
    let mut bytes = text.into_bytes();
    bytes.truncate(255);
    bytes.into()
}
