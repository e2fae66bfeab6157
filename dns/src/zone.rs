//! The zone: every cluster and its names, immutable. A change makes a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hart_ha::time::Time;

use crate::cluster::Cluster;
use crate::name::{Key, Name};
use crate::node::Node;
use crate::question::Question;
use crate::settings::Settings;
use crate::table::Table;

/// Until when a primary may be named; moves without a new zone, because leases are renewed often.
#[derive(Debug)]
pub(crate) struct Until(AtomicU64);

impl Until {
    pub fn new(until: Option<Time>) -> Self {
        let own = Self(AtomicU64::new(0));
        own.set(until);
        own
    }

    /// `None`: as long as nothing else is published.
    pub fn set(&self, until: Option<Time>) {
        let millis = until.map_or(u64::MAX, millis);
        self.0.store(millis, Ordering::Release);
    }

    fn reaches(&self, now: Time) -> bool {
        millis(now) < self.0.load(Ordering::Acquire)
    }
}

/// Rounded down; a deadline is never moved back by it.
fn millis(time: Time) -> u64 {
    u64::try_from(time.since_origin().as_millis()).unwrap_or(u64::MAX - 1)
}

/// One cluster in the zone.
#[derive(Debug)]
pub(crate) struct Served {
    pub cluster: Cluster,
    /// Its label, where it can have one.
    pub label: Option<Key>,
    pub table: Table,
    pub until: Until,
    pub problems: Vec<String>,
}

/// The clusters by label. Only we put labels in, so their hashes need not withstand an attacker.
pub(crate) type ByLabel = foldhash::HashMap<Key, Arc<Served>>;

/// What a question finds.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// The name exists.
    Node(&'a Node),
    /// It does not.
    Nothing,
    /// It is in another zone.
    Elsewhere,
    /// Nothing is known yet.
    NotReady,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Zone {
    pub settings: Arc<Settings>,
    pub nameservers: Vec<Name>,
    /// The first name server, for SOA.
    pub mname: Name,
    /// Whose mailbox it is, for SOA.
    pub rname: Name,
    pub serial: u32,
    pub ready: bool,
    pub clusters: ByLabel,
    apex: Node,
    ns: Node,
}

/// SOA's timers: nobody transfers this zone, so only the form matters (RFC 1912, section 2.2).
pub(crate) const REFRESH: Duration = Duration::from_secs(60);
pub(crate) const RETRY: Duration = Duration::from_secs(10);
pub(crate) const EXPIRE: Duration = Duration::from_secs(3600);
/// TTL of NS and SOA when asked for by name.
pub(crate) const APEX_TTL: u32 = 60;
const NS: &[u8] = b"\x02ns";

impl Zone {
    /// An empty zone.
    pub fn new(settings: Arc<Settings>) -> Self {
        let zone = &settings.zone;
        // A zone whose own name leaves no room for them is refused before.
        let below = |labels: &[u8]| zone.below(labels).unwrap_or_else(|_| zone.clone());
        let own = below(NS);
        let given = settings.nameservers.clone();
        let nameservers = if given.is_empty() { vec![own] } else { given };
        let mut ns = Node::default();
        settings.addresses.iter().for_each(|ip| ns.add(*ip));
        let rname = below(b"\x0ahostmaster");
        let mname = nameservers.first().unwrap_or(zone).clone();
        let apex = Node { apex: true, ..Node::default() };
        let clusters = ByLabel::default();
        Self { mname, rname, nameservers, serial: 0, ready: false, clusters, apex, ns, settings }
    }

    /// The same zone with other clusters.
    pub fn with(&self, clusters: ByLabel, ready: bool, serial: u32) -> Self {
        let (apex, ns) = (self.apex.clone(), self.ns.clone());
        let (mname, rname) = (self.mname.clone(), self.rname.clone());
        let (settings, nameservers) = (self.settings.clone(), self.nameservers.clone());
        Self { settings, nameservers, mname, rname, serial, ready, clusters, apex, ns }
    }

    /// Finds the node that a question is about. Takes no lock and waits for nothing.
    pub fn find(&self, question: &Question, now: Time) -> Found<'_> {
        let zone = self.settings.zone.wire();
        let Some(below) = question.below(zone) else { return Found::Elsewhere };
        if below.is_empty() {
            return Found::Node(&self.apex);
        }
        let (rest, last) = question.split_last(below);
        if rest.is_empty() && last == &NS[1..] && self.owns_ns() {
            return Found::Node(&self.ns);
        }
        if !self.ready {
            return Found::NotReady;
        }
        let Some(served) = self.clusters.get(last) else { return Found::Nothing };
        match served.table.find(rest, served.until.reaches(now)) {
            Some(node) => Found::Node(node),
            None => Found::Nothing,
        }
    }

    /// Is `ns.<zone>` a name of ours?
    pub fn owns_ns(&self) -> bool {
        self.settings.nameservers.is_empty()
    }
}
