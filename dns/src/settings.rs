//! How the zone is served.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::name::Name;

/// How the zone is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The zone.
    pub zone: Name,
    /// How long resolvers may keep an answer; whole seconds. Negative answers as well.
    pub ttl: Duration,
    /// `replica` names the primary where no replica takes reads.
    pub replica_fallback: bool,
    /// The zone's name servers; empty: `ns.<zone>`.
    pub nameservers: Vec<Name>,
    /// The addresses of `ns.<zone>`.
    pub addresses: Vec<IpAddr>,
    /// Where questions for other zones go, from near clients only; empty: they are refused.
    pub forward: Vec<SocketAddr>,
    /// Log every question.
    pub query_log: bool,
}

impl Settings {
    /// The defaults for a zone.
    #[must_use]
    pub fn new(zone: Name) -> Self {
        Self {
            zone,
            ttl: Duration::from_secs(1),
            replica_fallback: true,
            nameservers: Vec::new(),
            addresses: Vec::new(),
            forward: Vec::new(),
            query_log: false,
        }
    }

    /// The TTL of ordinary records, in seconds.
    pub(crate) fn ttl_seconds(&self) -> u32 {
        u32::try_from(self.ttl.as_secs()).unwrap_or(u32::MAX).min(MAX_TTL)
    }
}

/// RFC 2181, section 8.
const MAX_TTL: u32 = 0x7fff_ffff;
