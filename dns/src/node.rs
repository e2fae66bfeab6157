//! One name and its records. The same node is read by both encoders.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

use crate::name::Name;

/// Record types (IANA's registry).
pub(crate) mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const ANY: u16 = 255;
}

/// The weight of every SRV record. With 0, which RFC 2782 would have here, HAProxy gives the server no
/// connections at all.
pub(crate) const WEIGHT: u16 = 1;

/// Where a service is (RFC 2782). Priority is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Srv {
    pub port: u16,
    /// Never an alias.
    pub target: Name,
    /// The target's address, where it is ours to give.
    pub address: Option<IpAddr>,
}

/// A name; without records it only exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// In here up to four: no pointer is to be followed to them.
    pub v4: SmallVec<[Ipv4Addr; 4]>,
    pub v6: Vec<Ipv6Addr>,
    /// Alternatives: an answer has one of them.
    pub cname: Vec<Name>,
    pub srv: Vec<Srv>,
    /// One string each, at most 255 bytes.
    pub txt: Vec<Box<[u8]>>,
    /// The zone's own name: has SOA and NS.
    pub apex: bool,
}

/// The data of one record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data<'a> {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(&'a Name),
    Srv(&'a Srv),
    Txt(&'a [u8]),
    Ns(&'a Name),
    Soa,
}

impl Data<'_> {
    /// The record's type.
    pub fn kind(&self) -> u16 {
        match self {
            Self::A(_) => kind::A,
            Self::Aaaa(_) => kind::AAAA,
            Self::Cname(_) => kind::CNAME,
            Self::Srv(_) => kind::SRV,
            Self::Txt(_) => kind::TXT,
            Self::Ns(_) => kind::NS,
            Self::Soa => kind::SOA,
        }
    }
}

impl Node {
    /// Adds an address.
    pub fn add(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) if !self.v4.contains(&ip) => self.v4.push(ip),
            IpAddr::V6(ip) if !self.v6.contains(&ip) => self.v6.push(ip),
            _ => {}
        }
    }

    /// Calls `each` for every record that answers a question of type `asked`, in an order that
    /// `turn` makes. Addresses, services and aliases are shuffled; the rest is in order.
    pub fn records<'a>(
        &'a self,
        asked: u16,
        nameservers: &'a [Name],
        turn: u64,
        mut each: impl FnMut(Data<'a>),
    ) {
        let mut order = Order::new(turn);
        if let Some(name) = order.one(&self.cname) {
            // An alias answers every type (RFC 1034, section 3.6.2).
            return each(Data::Cname(name));
        }
        match asked {
            kind::A => order.all(&self.v4, |ip| each(Data::A(*ip))),
            kind::AAAA => order.all(&self.v6, |ip| each(Data::Aaaa(*ip))),
            kind::SRV => order.all(&self.srv, |srv| each(Data::Srv(srv))),
            kind::TXT => self.txt.iter().for_each(|text| each(Data::Txt(text))),
            kind::NS if self.apex => nameservers.iter().for_each(|ns| each(Data::Ns(ns))),
            kind::SOA if self.apex => each(Data::Soa),
            // One set is enough (RFC 8482), so that such questions are of no use to anybody else.
            kind::ANY => {
                if let Some(first) = self.kinds().next() {
                    self.records(first, nameservers, turn, each);
                }
            }
            _ => {}
        }
    }

    fn kinds(&self) -> impl Iterator<Item = u16> {
        let has = [
            (kind::A, !self.v4.is_empty()),
            (kind::AAAA, !self.v6.is_empty()),
            (kind::SRV, !self.srv.is_empty()),
            (kind::SOA, self.apex),
            (kind::TXT, !self.txt.is_empty()),
        ];
        has.into_iter().filter_map(|(kind, has)| has.then_some(kind))
    }
}

/// A random order, without an allocation.
struct Order(fastrand::Rng);

/// More than that fit in no answer over UDP; what is beyond is left out in turn.
const MOST: usize = 128;

impl Order {
    fn new(turn: u64) -> Self {
        Self(fastrand::Rng::with_seed(turn))
    }

    fn one<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        match items {
            [] => None,
            [only] => Some(only),
            several => several.get(self.0.usize(..several.len())),
        }
    }

    fn all<'a, T>(&mut self, items: &'a [T], mut each: impl FnMut(&'a T)) {
        if let [] | [_] = items {
            return items.iter().for_each(each);
        }
        let count = items.len().min(MOST);
        let start = self.0.usize(..items.len());
        let mut places: [u8; MOST] = std::array::from_fn(|at| u8::try_from(at).unwrap_or(0));
        self.0.shuffle(&mut places[..count]);
        for place in &places[..count] {
            each(&items[(start + usize::from(*place)) % items.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(count: u8) -> Node {
        let mut node = Node::default();
        (0..count).for_each(|last| node.add(Ipv4Addr::new(10, 0, 0, last).into()));
        node
    }

    fn seen(node: &Node, asked: u16, turn: u64) -> Vec<String> {
        let mut seen = Vec::new();
        node.records(asked, &[], turn, |data| seen.push(format!("{data:?}")));
        seen
    }

    #[test]
    fn each_record_once_in_any_order() {
        let node = node(3);
        let mut firsts = std::collections::BTreeSet::new();
        for turn in 0..64 {
            let mut all = seen(&node, kind::A, turn);
            firsts.insert(all[0].clone());
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 3);
        }
        assert_eq!(firsts.len(), 3);
        assert_eq!(seen(&self::node(200), kind::A, 1).len(), MOST);
    }

    #[test]
    fn an_address_stands_once_and_any_is_one_set() {
        let mut node = node(2);
        node.add(Ipv4Addr::new(10, 0, 0, 1).into());
        node.txt.push(b"x".as_slice().into());
        assert_eq!(node.v4.len(), 2);
        assert_eq!(seen(&node, kind::ANY, 1).len(), 2);
        assert!(seen(&node, kind::NS, 1).is_empty());
    }
}
