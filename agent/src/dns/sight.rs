//! Until when the primary may be named. Pure: the caller brings the clock.
//!
//! A lease that was seen unchanged for its ttl × 1.01 + margin is over, as a challenger counts it:
//! by then its holder has been fenced. Where the holder says itself that it holds on (failsafe mode
//! while Consul is away), it is named until the moment that it gives.

use std::time::Duration;

use hart_ha::kv::Lease;
use hart_ha::lease::challenger_start;
use hart_ha::store::Snapshot;
use hart_ha::time::Time;

use super::picture;

/// Patroni's `ttl` where the cluster does not say.
const PATRONI_TTL: Duration = Duration::from_secs(30);

/// What is known of the leader, and since when.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    leader: Option<String>,
    lease: Option<Lease>,
    /// The first answer that showed this lease arrived then.
    since: Time,
    /// The store was last heard of then.
    contact: Time,
    ttl: Duration,
    /// The leader itself says: until then.
    confirmed: Option<Time>,
}

impl Sight {
    /// A read of the cluster's keys arrived.
    pub fn seen(&mut self, snapshot: &Snapshot, arrived: Time) {
        let leader = picture::leader(snapshot);
        if self.leader.as_deref() != leader {
            self.leader = leader.map(str::to_owned);
            self.confirmed = None;
        }
        let lease = snapshot.lease();
        if self.lease.as_ref() != lease || self.since == Time::ZERO {
            self.lease = lease.cloned();
            self.since = arrived;
        }
        let shared = snapshot.config.as_ref().map(|config| config.value.ttl);
        self.ttl = lease.map(Lease::ttl).or(shared).unwrap_or(PATRONI_TTL);
        self.contact(arrived);
    }

    /// The store answered, and nothing has changed.
    pub fn contact(&mut self, at: Time) {
        self.contact = self.contact.max(at);
    }

    /// The leader itself said at `asked` or later that it leads for `left` more.
    pub fn confirmed(&mut self, leader: &str, asked: Time, left: Duration) {
        if self.leader.as_deref() == Some(leader) {
            self.confirmed = self.confirmed.max(Some(asked + left));
        }
    }

    /// Who leads.
    pub fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    /// How long one beat lasts.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// From when on the leader must not be named.
    pub fn until(&self) -> Time {
        let by_store = match &self.lease {
            Some(lease) => challenger_start(self.since, lease.ttl()),
            // Patroni's lock says nothing of time; it is as old as the store's last word.
            None => challenger_start(self.contact, self.ttl),
        };
        self.confirmed.map_or(by_store, |confirmed| confirmed.max(by_store))
    }

    /// Is it time to ask the leader itself? So when half of what is left to it has passed without
    /// news.
    pub fn is_doubtful(&self, now: Time) -> bool {
        self.leader.is_some() && now.until(self.until()) < self.ttl / 2
    }
}
