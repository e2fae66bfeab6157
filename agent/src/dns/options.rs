//! From configuration or command line to the responder's settings.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use hart_config::Dns;
use hart_dns::{Host, Name, NameError, Settings};

/// What both ways of running have in common.
#[derive(Clone, Debug)]
pub struct Options {
    /// The zone.
    pub settings: Settings,
    /// A replica that is further behind (bytes) is left out.
    pub max_lag: u64,
    /// The hosts of `proxy.<scope>.<zone>`; empty: those of all members.
    pub proxies: Vec<Host>,
}

impl Options {
    /// Reads names and addresses; `addresses` are those of `ns.<zone>`.
    ///
    /// # Errors
    /// The key, the value that cannot be used, and what it should be.
    pub fn new(dns: &Dns, addresses: Vec<IpAddr>) -> Result<Self, String> {
        let wrong = |key: &str| {
            let key = key.to_owned();
            move |error: NameError| format!("dns.{key}: {error}")
        };
        let zone = Name::parse(&dns.zone).map_err(wrong("zone"))?;
        let nameservers = dns.nameservers.iter().map(|name| Name::parse(name));
        let proxies = dns.proxies.iter().map(|host| host.parse::<Host>());
        Ok(Self {
            settings: Settings {
                ttl: dns.ttl,
                replica_fallback: dns.replica_fallback,
                nameservers: nameservers.collect::<Result<_, _>>().map_err(wrong("nameservers"))?,
                addresses,
                forward: dns.forward.iter().map(|text| upstream(text)).collect::<Result<_, _>>()?,
                query_log: dns.query_log,
                ..Settings::new(zone)
            },
            max_lag: dns.max_lag,
            proxies: proxies.collect::<Result<_, _>>().map_err(wrong("proxies"))?,
        })
    }
}

const DNS_PORT: u16 = 53;

/// `10.0.0.1:53`, or an address alone.
fn upstream(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    address.or_else(|_| text.parse()).map_err(|_| {
        format!(
            "dns.forward: \"{}\" is no address of a server; write it such as 10.0.0.2:53",
            text.escape_debug()
        )
    })
}

/// The socket addresses of `host[,host…]:port`; `*` stands for all of IPv4.
///
/// # Errors
/// A host that is no address and has none.
pub fn listen_addresses(listen: &hart_config::Listen) -> Result<Vec<SocketAddr>, String> {
    let mut addresses = Vec::new();
    for host in &listen.hosts {
        let host = if host == "*" { "0.0.0.0" } else { host };
        let found = (host, listen.port).to_socket_addrs();
        let found = found.map_err(|error| {
            format!("dns.listen: {host} has no address ({error}); write an address of this machine")
        })?;
        addresses.extend(found);
    }
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns() -> Dns {
        let text = "scope: ha\nname: n1\nrestapi: {listen: 'a:1'}\nconsul: {host: c}\n\
                    postgresql: {listen: 'a:2', data_dir: /d}\ndns: {zone: pg.test}\n";
        hart_config::load_text("n1.yml", text, []).unwrap().config.dns.unwrap()
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let good = Options::new(&dns(), Vec::new()).unwrap();
        assert_eq!(good.settings.zone.to_string(), "pg.test");
        let bad = |change: &dyn Fn(&mut Dns)| {
            let mut dns = dns();
            change(&mut dns);
            Options::new(&dns, Vec::new()).unwrap_err()
        };
        assert!(bad(&|dns| dns.zone = "pg..test".into()).contains("dns.zone: \"pg..test\""));
        assert!(bad(&|dns| dns.forward = vec!["x".into()]).contains("dns.forward: \"x\""));
        assert!(bad(&|dns| dns.proxies = vec!["a b".into()]).contains("dns.proxies"));
    }

    #[test]
    fn addresses_to_listen_on() {
        let listen = |text: &str| listen_addresses(&text.parse().unwrap()).unwrap();
        assert_eq!(listen("*:53"), ["0.0.0.0:53".parse().unwrap()]);
        let both = ["127.0.0.1:53", "[::1]:53"].map(|text| text.parse().unwrap());
        assert_eq!(listen("127.0.0.1,[::1]:53"), both);
    }
}
