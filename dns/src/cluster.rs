//! What the responder is told of a cluster.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::name::{Name, NameError};

/// Where something is reached: an address, or a name that DNS elsewhere knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name; answered with a CNAME.
    Name(Name),
}

impl FromStr for Host {
    type Err = NameError;

    /// Reads `10.0.0.1`, `fd00::1` (also in brackets) or `db1.example.org`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self::Ip).or_else(|_| Name::parse(text).map(Self::Name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, as the cluster knows it.
    pub name: String,
    /// Where PostgreSQL is reached.
    pub host: Host,
    /// PostgreSQL's port.
    pub port: u16,
    /// A running replica that takes reads: neither `noloadbalance` nor lagging.
    pub reads: bool,
    /// In the published synchronous set.
    pub sync: bool,
    /// `key=value` for TXT.
    pub facts: Vec<String>,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub scope: String,
    /// Its nodes.
    pub members: Vec<Member>,
    /// The name of the member that leads.
    pub primary: Option<String>,
    /// The hosts of `proxy.<scope>.<zone>`.
    pub proxies: Vec<Host>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names() {
        let host = |text: &str| text.parse::<Host>().unwrap();
        assert_eq!(host("[fd00::1]"), Host::Ip("fd00::1".parse().unwrap()));
        assert_eq!(host("10.0.0.1").to_string(), "10.0.0.1");
        assert_eq!(host("DB1.lan").to_string(), "db1.lan");
        assert!("a b".parse::<Host>().is_err());
    }
}
