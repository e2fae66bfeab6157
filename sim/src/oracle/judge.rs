//! What must never happen, and what happened.

use std::collections::{BTreeMap, BTreeSet};

use hart_ha::kv::{Lease, SynchronousMode};
use hart_ha::store::Snapshot;

use crate::clock::{MS, Us};
use crate::pg::wal::{Branch, Pos, Wal};

/// How long a fence may take after a frozen guard has woken up.
pub const WAKING: Us = 400 * MS;

/// See the module's text.
#[derive(Default)]
pub struct Oracle {
    /// What was found, and when.
    pub violations: Vec<(Us, String)>,
    /// The highest term ever in the store, and its holder.
    reign: (u64, String),
    /// The highest term that each node was told to note.
    known: BTreeMap<String, u64>,
    /// Synchronous mode was off since the set last changed hands.
    switched: bool,
    /// The keys were wiped in this reign.
    wiped: bool,
    /// Positions of writes that were acknowledged in synchronous mode: the furthest per branch.
    safe: BTreeMap<Branch, u64>,
    /// The furthest acknowledged write of each node, in any mode.
    acked: BTreeMap<usize, Pos>,
    /// Who writes at present.
    writer: Option<usize>,
    /// How often the writer has changed.
    pub changes: u64,
    /// Acknowledged writes.
    pub writes: u64,
    /// Acknowledged writes that a later primary had not, where the rules allow it.
    pub lost: u64,
    late_acks: Vec<(Us, Pos, String)>,
    said: BTreeSet<String>,
}

/// A node as the oracle sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its PostgreSQL could write now.
    pub writes: bool,
    /// Its guard overslept its deadline; since when it is awake.
    pub overslept: Option<Us>,
    /// Its lease has no end, and the record that said so was deleted: what a pause gives up.
    pub forgotten: bool,
    /// Its lease was revoked, and its deadline has not come.
    pub former: bool,
}

impl Oracle {
    /// Notes a violation, each text once.
    pub fn report(&mut self, t: Us, what: String) {
        if self.said.insert(what.clone()) {
            self.violations.push((t, what));
        }
    }

    /// Two primaries?
    pub fn writers(&mut self, t: Us, nodes: &[Seen], names: &[String]) {
        let excused = |seen: &Seen| {
            seen.forgotten || seen.former || seen.overslept.is_some_and(|awake| t < awake + WAKING)
        };
        let all: Vec<usize> = (0..nodes.len()).filter(|n| nodes[*n].writes).collect();
        let counted: Vec<usize> = all.iter().copied().filter(|n| !excused(&nodes[*n])).collect();
        if let [one, two, ..] = counted[..] {
            let (one, two) = (&names[one], &names[two]);
            self.report(t, format!("two primaries: {one} and {two} can both write"));
        }
    }

    /// One node writes, and no other.
    pub fn only_writer(&mut self, only: usize) {
        if self.writer != Some(only) {
            self.changes += u64::from(self.writer.is_some());
            self.writer = Some(only);
        }
    }

    /// A commit is acknowledged to a client.
    pub fn acknowledged(&mut self, t: Us, node: usize, names: &[String], at: Pos, keys: &Snapshot) {
        self.writes += 1;
        self.acked.insert(node, at);
        let Some(sync) = keys.sync.as_ref().filter(|_| sync_is_on(keys)) else { return };
        if sync.value.leader.as_ref() == names.get(node) {
            let end = self.safe.entry(at.branch).or_default();
            *end = at.lsn.max(*end);
        } else if let Some(leader) = &sync.value.leader {
            // Allowed only where the new leader has it; its promotion checks that.
            let text = format!("{} acknowledged a write although sync names {leader}", names[node]);
            self.late_acks.push((t, at, text));
        }
    }

    /// A node has become a primary: does it have all that must not be lost?
    pub fn primary(&mut self, t: Us, node: usize, names: &[String], pos: Pos, wal: &Wal) {
        for (branch, lsn) in &self.safe.clone() {
            let what = Pos { branch: *branch, lsn: *lsn };
            if !wal.has(pos, what) {
                let name = &names[node];
                let text = format!(
                    "a write acknowledged in synchronous mode is lost: {name} is primary at {pos:?} \
                     without {what:?}"
                );
                self.report(t, text);
            }
        }
        // What it once lost in asynchronous mode is lost.
        self.acked.retain(|acker, at| *acker != node || wal.has(pos, *at));
        let others = self.acked.iter().filter(|(other, at)| **other != node && !wal.has(pos, **at));
        self.lost += others.count() as u64;
    }

    /// The keys have changed.
    pub fn keys(&mut self, t: Us, old: &Snapshot, new: &Snapshot) {
        if let Some(lease) = new.lease().filter(|lease| Some(*lease) != old.lease()) {
            self.lease(t, lease);
        }
        let claimed = |keys: &Snapshot| keys.sync.as_ref().and_then(|s| s.value.leader.clone());
        self.switched |= !sync_is_on(new);
        if !sync_is_on(new) || new.sync.is_none() {
            self.safe.clear();
        } else if let (Some(before), Some(after)) = (claimed(old), claimed(new))
            && before != after
            && sync_is_on(old)
        {
            // Where the mode was off meanwhile, anybody could take the lease.
            let switched = std::mem::take(&mut self.switched);
            let named = switched || old.sync.as_ref().is_some_and(|sync| sync.value.names(&after));
            if !named && !forced(old, &after) {
                self.report(t, format!("{after} took sync over without having been in it"));
            }
            if forced(old, &after) {
                self.safe.clear();
            }
        }
    }

    fn lease(&mut self, t: Us, lease: &Lease) {
        let (term, holder) = self.reign.clone();
        let falls = lease.term < term || (lease.term == term && lease.holder != holder);
        // After the keys were wiped a node can only go on from what it has seen itself.
        let known = self.known.get(&lease.holder).copied().unwrap_or_default();
        if falls && (!self.wiped || lease.term <= known) {
            let new = &lease.holder;
            self.report(t, format!("term {} of {new} after term {term} of {holder}", lease.term));
        }
        if lease.term > term || falls {
            self.wiped = false;
            self.reign = (lease.term, lease.holder.clone());
        }
    }

    /// A lease was handed over: the heir must have every acknowledged write of the giver.
    pub fn handed_over(&mut self, t: Us, from: usize, heir: Pos, names: &[String], wal: &Wal) {
        if let Some(at) = self.acked.get(&from)
            && !wal.has(heir, *at)
        {
            self.report(
                t,
                format!("{} handed over to a node without its last writes", names[from]),
            );
        }
    }

    /// A node notes a term.
    pub fn noted(&mut self, name: &str, term: u64) {
        let known = self.known.entry(name.to_owned()).or_default();
        *known = term.max(*known);
    }

    /// Late acknowledgements must be on the node that was named instead.
    pub fn check_late(&mut self, named: impl Fn(&str) -> Option<Pos>, keys: &Snapshot, wal: &Wal) {
        let leader = keys.sync.as_ref().and_then(|sync| sync.value.leader.clone());
        for (t, at, text) in std::mem::take(&mut self.late_acks) {
            let pos = leader.as_deref().and_then(&named);
            if !pos.is_some_and(|pos| wal.has(pos, at)) {
                self.report(t, text);
            }
        }
    }

    /// The lease's record was deleted: its terms may begin anew.
    pub fn lose_record(&mut self) {
        self.wiped = true;
    }

    /// Nothing that was acknowledged is remembered: an operator gave it up, or Consul was wiped.
    pub fn forgive(&mut self) {
        self.wiped = true;
        self.safe.clear();
    }
}

/// Does the configuration say that writes wait?
#[must_use]
pub fn sync_is_on(keys: &Snapshot) -> bool {
    keys.config.as_ref().is_some_and(|c| c.value.synchronous_mode != SynchronousMode::Off)
}

/// Did an operator ask for a failover (not a switchover) to this node?
fn forced(keys: &Snapshot, name: &str) -> bool {
    keys.failover.as_ref().is_some_and(|request| {
        request.value.leader.is_none() && request.value.member.as_deref() == Some(name)
    })
}
