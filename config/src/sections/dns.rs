//! `dns`: the DNS responder inside the agent.

use std::time::Duration;

use crate::address::Listen;
use crate::keys::{KeyDoc, Kind, key};
use crate::reader::Section;

/// The DNS responder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The zone whose names it answers, such as `pg.example.org`.
    pub zone: String,
    /// Where it listens, UDP and TCP.
    pub listen: Listen,
    /// How long resolvers may keep an answer.
    pub ttl: Duration,
    /// `replica` names the primary where no replica takes reads.
    pub replica_fallback: bool,
    /// A replica that is further behind (bytes) is left out.
    pub max_lag: u64,
    /// The hosts of `proxy.<scope>.<zone>`; empty: those of all members.
    pub proxies: Vec<String>,
    /// The zone's name servers; empty: `ns.<zone>`, which is this responder.
    pub nameservers: Vec<String>,
    /// Servers for other zones, `address:port`; empty: other zones are refused.
    pub forward: Vec<String>,
    /// Log every question.
    pub query_log: bool,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("dns", Kind::Section, "The DNS responder; without this section there is none."),
    key("dns.zone", Kind::Text, "The zone whose names it answers; needed.").env("DNS_ZONE"),
    key("dns.listen", Kind::Listen, "Where it listens, UDP and TCP; addresses, not names.")
        .default("127.0.0.1:5353")
        .env("DNS_LISTEN"),
    key(
        "dns.record_ttl",
        Kind::Seconds,
        "How long resolvers may keep an answer, in whole seconds.",
    )
    .default("1"),
    key("dns.replica_fallback", Kind::Flag, "replica names the primary where no replica reads.")
        .default("true"),
    key("dns.max_lag", Kind::Whole, "A replica that is more bytes behind is left out.")
        .default("104857600"),
    key("dns.proxies", Kind::List, "Hosts of proxy.<scope>.<zone>; those of all members."),
    key("dns.nameservers", Kind::List, "The zone's name servers; ns.<zone>, this responder."),
    key("dns.forward", Kind::List, "address:port of servers for other zones; those are refused."),
    key("dns.query_log", Kind::Flag, "Log every question.").default("false"),
];

impl Dns {
    /// `None` where there is no such section.
    pub(crate) fn read(top: &Section<'_>) -> Option<Self> {
        let section = top.section("dns");
        let zone = section.text("zone");
        if section.is_given() && zone.is_none() {
            section.missing("zone");
        }
        let dns = Self {
            zone: zone.unwrap_or_default(),
            listen: section.address("listen").unwrap_or_default(),
            ttl: section.seconds("record_ttl").unwrap_or_default(),
            replica_fallback: section.flag("replica_fallback").unwrap_or_default(),
            max_lag: section.whole("max_lag").unwrap_or_default(),
            proxies: section.list("proxies"),
            nameservers: section.list("nameservers"),
            forward: section.list("forward"),
            query_log: section.flag("query_log").unwrap_or_default(),
        };
        section.is_given().then_some(dns)
    }
}

#[cfg(test)]
mod tests {
    use crate::load_text;

    const LEAST: &str = "scope: ha\nname: n1\nrestapi: {listen: 'a:1'}\nconsul: {host: c}\n\
                         postgresql: {listen: 'a:2', data_dir: /d}\n";

    #[test]
    fn a_zone_is_all_that_is_needed() {
        let read = |text: &str| load_text("n1.yml", &format!("{LEAST}{text}"), []);
        assert_eq!(read("").unwrap().config.dns, None);
        let dns = read("dns: {zone: pg.test}").unwrap().config.dns.unwrap();
        assert_eq!(
            (dns.zone.as_str(), dns.listen.to_string().as_str()),
            ("pg.test", "127.0.0.1:5353")
        );
        assert_eq!((dns.ttl.as_secs(), dns.max_lag, dns.replica_fallback), (1, 104_857_600, true));
        let missing = read("dns: {record_ttl: 2}").unwrap_err().to_string();
        assert!(missing.contains("dns.zone"), "{missing}");
    }
}
