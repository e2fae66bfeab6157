//! Where the name of another server leads. What is written for PostgreSQL has the addresses beside the name, so
//! somebody has to see when they change: this module says so.

use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::Duration;

use hart_names::Names;
use tokio::time::Instant;

use crate::postgres::Postgres;
use crate::probe::Receiver;
use crate::settings::{Credentials, Role, Upstream};

/// How long a name that nothing is known of is waited for before a program of PostgreSQL's gets it as it is.
pub(crate) const NAME: Duration = Duration::from_secs(2);

/// What the files say of an upstream's addresses.
pub(crate) type Written = (Upstream, Vec<SocketAddr>);

/// What a name leads to now, beside what PostgreSQL was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As it was told, or nobody knows better.
    Same,
    /// There are more than it was told.
    More,
    /// It was told one that is not there any more, or none at all.
    Other,
}

impl Postgres {
    /// The addresses of this server's name; empty where they are not found out in time, or it is an address. After
    /// that, what is written for PostgreSQL has them.
    pub async fn look_up(&self, upstream: &Upstream, within: Duration) -> Vec<SocketAddr> {
        if !is_name(&upstream.host) {
            return Vec::new();
        }
        let found = Names::system().resolve(&upstream.host, Instant::now() + within).await;
        found.unwrap_or_else(|error| {
            tracing::debug!(%error, "PostgreSQL gets the name alone");
            Vec::new()
        })
    }

    /// What this server's name leads to, beside what PostgreSQL was told. The name is looked up meanwhile, for the
    /// next time.
    #[must_use]
    pub fn place(&self, upstream: &Upstream) -> Place {
        if !is_name(&upstream.host) || self.has_own() {
            return Place::Same;
        }
        Names::system().refresh(&upstream.host);
        let known = Names::system().known(&upstream.host);
        let written = self.written().lock().unwrap_or_else(PoisonError::into_inner);
        match written.as_ref().filter(|(of, _)| of == upstream) {
            Some((_, written)) => compare(written, &known),
            None => Place::Same,
        }
    }

    /// What is known of the upstream's addresses. Asks nobody, so that what was decided is written at once.
    pub(crate) fn places(&self, role: &Role) -> Vec<SocketAddr> {
        match role {
            Role::Standby { upstream: Some(upstream), .. } => Names::system().known(&upstream.host),
            _ => Vec::new(),
        }
    }

    /// The configuration says by itself where libpq goes.
    fn has_own(&self) -> bool {
        sets_place(&self.settings().replication)
    }

    pub(crate) fn note_written(&self, role: &Role, at: Vec<SocketAddr>) {
        let written = match role {
            Role::Standby { upstream: Some(upstream), .. } => Some((upstream.clone(), at)),
            _ => None,
        };
        *self.written().lock().unwrap_or_else(PoisonError::into_inner) = written;
    }

    /// A connection to where the name led once is none to the server of that name.
    pub(crate) fn compare_places(&self, receiver: Option<&mut Receiver>) {
        let Some(receiver) = receiver.filter(|_| !self.has_own()) else { return };
        let host = receiver.sender_host.as_deref().unwrap_or_default();
        let known = Names::system().known(host);
        receiver.elsewhere = is_elsewhere(receiver.addresses.as_deref(), &known);
    }
}

fn compare(written: &[SocketAddr], known: &[SocketAddr]) -> Place {
    let all_there = written.iter().all(|address| known.contains(address));
    match (known.is_empty(), written.is_empty() || !all_there) {
        (true, _) => Place::Same,
        (false, true) => Place::Other,
        (false, false) if written.len() == known.len() => Place::Same,
        (false, false) => Place::More,
    }
}

fn is_elsewhere(connected: Option<&str>, known: &[SocketAddr]) -> bool {
    let Some(connected) = connected.filter(|text| !text.is_empty()) else { return false };
    !known.is_empty() && !connected.split(',').all(|one| known.iter().any(|at| text(at) == one))
}

/// The options of this role say by themselves where libpq goes.
pub(crate) fn sets_place(who: &Credentials) -> bool {
    ["host", "hostaddr"].iter().any(|name| who.conninfo.contains_key(*name))
}

/// `host` and `hostaddr`: as many hosts as addresses.
pub(crate) fn for_libpq(host: &str, at: &[SocketAddr]) -> (String, Option<String>) {
    if at.is_empty() || !is_name(host) {
        return (host.to_owned(), None);
    }
    let addresses: Vec<String> = at.iter().map(text).collect();
    (vec![host; at.len()].join(","), Some(addresses.join(",")))
}

fn text(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => {
            format!("{}%{}", address.ip(), address.scope_id())
        }
        other => other.ip().to_string(),
    }
}

/// Not an address, not the directory of a socket, and not several of them.
fn is_name(host: &str) -> bool {
    let plain = !host.is_empty() && !host.contains(['/', ',', '@', ':']);
    plain && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(all: &[&str]) -> Vec<SocketAddr> {
        all.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn only_names_are_looked_up() {
        for host in
            ["198.51.100.1", "2001:db8::1", "[2001:db8::1]", "/run/postgresql", "@x", "a,b", ""]
        {
            assert!(!is_name(host), "{host}");
            assert_eq!(for_libpq(host, &at(&["198.51.100.9"])), (host.to_owned(), None));
        }
        assert!(is_name("db1.example") && is_name("db1"));
        let scoped: SocketAddr = "[fe80::1%3]:0".parse().unwrap();
        assert_eq!(for_libpq("db1", &[scoped]).1.unwrap(), "fe80::1%3");
    }

    #[test]
    fn what_the_name_leads_to_is_compared_with_what_was_told() {
        let (a, b, both) = (["198.51.100.1"], ["198.51.100.2"], ["198.51.100.2", "198.51.100.1"]);
        assert_eq!(compare(&at(&a), &at(&a)), Place::Same);
        assert_eq!(compare(&at(&a), &[]), Place::Same, "a name that is silent stays where it was");
        assert_eq!(compare(&at(&a), &at(&b)), Place::Other);
        assert_eq!(compare(&[], &at(&b)), Place::Other, "it was told none");
        assert_eq!(compare(&at(&a), &at(&both)), Place::More);
        assert_eq!(compare(&at(&both), &at(&a)), Place::Other);
    }

    /// It would vouch for another server's WAL.
    #[test]
    fn a_connection_to_where_the_name_led_once_is_none_to_that_server() {
        let known = at(&["198.51.100.2", "2001:db8::2"]);
        assert!(is_elsewhere(Some("198.51.100.1"), &known));
        assert!(is_elsewhere(Some("198.51.100.1,2001:db8::2"), &known), "it may be at the first");
        assert!(!is_elsewhere(Some("2001:db8::2"), &known));
        assert!(!is_elsewhere(Some("198.51.100.1"), &[]) && !is_elsewhere(None, &known));
        assert!(!is_elsewhere(Some(""), &known));
    }
}
