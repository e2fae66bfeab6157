//! One look-up by the system.

use std::net::SocketAddr;
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use tokio::time::Instant;

/// The shortest time that glibc waits for a silent server (`options timeout:1`).
pub(crate) const GLIBC_WAITS: Duration = Duration::from_secs(1);

/// Why a look-up came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The name does not exist: whatever was known of it is over.
    NoSuchName,
    /// It says nothing about the name.
    Otherwise(String),
}

/// Asks the system; blocks for as long as the resolver is silent.
pub(crate) fn system(host: &str) -> Result<Vec<SocketAddr>, Failed> {
    let begun = Instant::now();
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(host), None, Some(hints))
        .map_err(|error| sort(error.kind(), error.to_string(), begun.elapsed()))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for entry in found {
        let address = entry.map_err(|error| Failed::Otherwise(error.to_string()))?.sockaddr;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(Failed::Otherwise("an answer without an address".to_owned()));
    }
    Ok(addresses)
}

/// Seen with glibc 2.36: it says "no such name" also after a server of a search domain was silent and the bare name
/// does not exist, and "no data" also where IPv4 failed and IPv6 has none. So the first counts only where nobody was
/// waited for, and the second never.
fn sort(kind: LookupErrorKind, why: String, took: Duration) -> Failed {
    match kind {
        LookupErrorKind::NoName if took < GLIBC_WAITS => Failed::NoSuchName,
        _ => Failed::Otherwise(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_prompt_no_such_name_is_one() {
        let sorted = |kind, took| sort(kind, "why".to_owned(), Duration::from_millis(took));
        assert_eq!(sorted(LookupErrorKind::NoName, 900), Failed::NoSuchName);
        let otherwise = Failed::Otherwise("why".to_owned());
        assert_eq!(sorted(LookupErrorKind::NoName, 1000), otherwise);
        assert_eq!(sorted(LookupErrorKind::NoData, 0), otherwise);
        assert_eq!(sorted(LookupErrorKind::Again, 0), otherwise);
    }

    /// What the hosts file and the system's own rules know is found.
    #[test]
    fn the_hosts_file_counts() {
        let found = system("localhost").unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        assert!(matches!(system("a\0b"), Err(Failed::Otherwise(_))));
    }
}
