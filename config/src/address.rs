//! Addresses: one host with a port, or several hosts with one port.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Where PostgreSQL listens unless it is told otherwise.
const POSTGRES: u16 = 5432;

/// `host:port`; IPv6 in brackets. The host may be a name, an address or `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Without brackets.
    pub host: String,
    /// From 1.
    pub port: u16,
}

/// `host[,host…]:port`, as `postgresql.listen` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// Without brackets; at least one.
    pub hosts: Vec<String>,
    /// From 1.
    pub port: u16,
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `:port` at the end.
    #[error("the port is missing")]
    NoPort,
    /// What follows the colon is no port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Nothing comes before the colon, or something that no host can be called.
    #[error("the host is missing or malformed")]
    Host,
}

impl Address {
    /// Stands for all addresses of the machine, so nobody can connect to it as it stands.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        is_wildcard(&self.host)
    }
}

impl Listen {
    /// PostgreSQL's `listen_addresses`.
    #[must_use]
    pub fn addresses(&self) -> String {
        self.hosts.join(",")
    }

    /// The first address that others can connect to.
    #[must_use]
    pub fn first_reachable(&self) -> Option<Address> {
        let first = self.hosts.first().filter(|host| !is_wildcard(host))?;
        Some(Address { host: first.clone(), port: self.port })
    }
}

fn is_wildcard(host: &str) -> bool {
    matches!(host, "*" | "0.0.0.0" | "::")
}

fn port(text: &str) -> Result<(&str, u16), AddressError> {
    // `[fd00::1]` and `fd00::1` end in a colon and digits too, but have no port.
    let (hosts, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
    if port.contains(']') {
        return Err(AddressError::NoPort);
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or(AddressError::Port)?;
    Ok((hosts, port))
}

pub(crate) fn host(text: &str) -> Result<String, AddressError> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = inner.unwrap_or(text);
    let odd = |c: char| c.is_whitespace() || c.is_control() || "[]/,@?#'\"\\".contains(c);
    let colons = bare.contains(':') && !is_ipv6(bare);
    if bare.is_empty() || colons || bare.contains(odd) {
        return Err(AddressError::Host);
    }
    Ok(bare.to_owned())
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (before, port) = port(text.trim())?;
        Ok(Self { host: host(before)?, port })
    }
}

impl FromStr for Listen {
    type Err = AddressError;

    /// As Patroni: the last one carries the port, PostgreSQL's own where it does not.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let hosts = |text: &str| text.split(',').map(host).collect::<Result<Vec<_>, _>>();
        let parted = port(text).and_then(|(before, port)| Ok((hosts(before)?, port)));
        let last = text.rsplit(',').next().unwrap_or_default().trim();
        let without_port = !last.contains(':') || last.ends_with(']') || is_ipv6(last);
        match parted {
            Err(_) if without_port => Ok(Self { hosts: hosts(text)?, port: POSTGRES }),
            other => other.map(|(hosts, port)| Self { hosts, port }),
        }
    }
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

/// A host as it stands in an address: IPv6 in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.hosts.iter().map(|host| bracketed(host)).collect::<Vec<_>>();
        write!(f, "{}:{}", hosts.join(","), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["10.0.0.21:8008", "[fd00::1]:8008", "node-1.example:1", "*:65535"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("[fd00::1]:1".parse::<Address>().unwrap().host, "fd00::1");
        let listen: Listen = "10.0.0.21, 127.0.0.1,[::1]:5432".parse().unwrap();
        assert_eq!(listen.addresses(), "10.0.0.21,127.0.0.1,::1");
        assert_eq!(listen.to_string(), "10.0.0.21,127.0.0.1,[::1]:5432");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(error("10.0.0.21"), AddressError::NoPort);
        assert_eq!(error("[fd00::1]"), AddressError::NoPort);
        for text in ["a:", "a:0", "a:65536", "a:+5", "a:x"] {
            assert_eq!(error(text), AddressError::Port, "{text}");
        }
        for text in [":1", "fd00:1:5432", "a b:1", "a/b:1", "u@h:1", "a,b:1", "a:2:1"] {
            assert_eq!(error(text), AddressError::Host, "{text}");
        }
        for text in ["a,,b:1", "", ",", "a:1,b:1", "a:x", "a:0"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[test]
    fn ipv6_needs_no_brackets_and_the_last_host_carries_the_port() {
        let read = |text: &str| {
            let listen: Listen = text.parse().unwrap();
            (listen.addresses(), listen.port)
        };
        for (text, hosts, port) in [
            (
                "127.0.0.1, 2001:db8::11, [2001:db8::1:2]:5678",
                "127.0.0.1,2001:db8::11,2001:db8::1:2",
                5678,
            ),
            ("::1:5433", "::1", 5433),
            ("fd00::1:5433", "fd00::1", 5433),
            ("10.0.0.1", "10.0.0.1", 5432),
            ("*", "*", 5432),
            ("10.0.0.1,[fd00::1]", "10.0.0.1,fd00::1", 5432),
            ("::", "::", 5432),
        ] {
            assert_eq!(read(text), (hosts.to_owned(), port), "{text}");
        }
        assert_eq!("::1:8008".parse::<Address>().unwrap().to_string(), "[::1]:8008");
    }

    #[test]
    fn a_wildcard_is_nothing_to_connect_to() {
        let reachable = |text: &str| text.parse::<Listen>().unwrap().first_reachable();
        assert_eq!(reachable("*:5432"), None);
        assert_eq!(reachable("[::]:5432"), None);
        assert_eq!(reachable("a,b:5432"), Some(Address { host: "a".into(), port: 5432 }));
    }
}
