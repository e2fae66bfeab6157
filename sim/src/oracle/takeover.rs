//! Was the right node given the lease?

use hart_ha::kv::Lease;
use hart_ha::lsn::Lsn;
use hart_ha::store::Snapshot;

use crate::clock::{MS, SEC, Us};
use crate::consul::micros;
use crate::node::{LOOP, Node};
use crate::pg::wal::Pos;
use crate::world::World;

/// How late a node may notice that a lease has run out.
const LATE: Us = 3 * SEC;
/// So long a candidate that nothing holds up takes to compare positions.
const AT_ONCE: Us = 2 * SEC;

impl World {
    /// The lease has a new holder by the old one's own hand: has the heir everything?
    pub fn note_handover(&mut self, by: usize, old: &Snapshot, new: &Snapshot) {
        let (Some(from), Some(to)) = (old.lease(), new.lease()) else { return };
        if from.holder == to.holder || !from.is_held() || from.holder != self.names[by] {
            return;
        }
        if let Some(heir) = self.names.iter().position(|name| *name == to.holder) {
            let pos = self.nodes[heir].disk.pos;
            self.oracle.handed_over(self.t, by, pos, &self.names, &self.wal);
        }
    }

    /// The lease was taken over: was there a better node that could be asked and could lead?
    pub fn note_takeover(&mut self, n: usize, old: &Snapshot, new: &Snapshot) {
        let (Some(from), Some(to)) = (old.lease(), new.lease()) else { return };
        // A request that was withdrawn a moment ago is still seen.
        let named = old.failover.as_ref().is_some_and(|request| request.value.member.is_some());
        let forced = named || self.requested > 0 && self.t < self.requested + 100 * MS;
        // In a pause only who gave the lease up last takes it by itself.
        let again = self.paused_for(n) && from.holder == to.holder;
        if from.term >= to.term || to.holder != self.names[n] || forced || again {
            return;
        }
        self.check_lag(n, old);
        self.must_not_be_barred(n, from);
        if self.t > self.patience_of(n, old, from)
            || self.t < self.mended + 2 * SEC
            || self.disturbed()
        {
            return;
        }
        // While a frozen primary still sends, positions move.
        if self.nodes.iter().any(|node| node.server.writes()) {
            return;
        }
        let better = (0..self.nodes.len()).find(|other| *other != n && self.is_better(*other, n));
        if let Some(other) = better {
            let (winner, better) = (&self.names[n], &self.names[other]);
            let (has, more) = (self.nodes[n].disk.pos, self.nodes[other].disk.pos);
            let text = format!(
                "{winner} took over although {better} has more ({more:?}, not {has:?}) and may lead"
            );
            self.oracle.report(self.t, text);
        }
    }

    /// What a takeover does not need keeps nobody from it: a comparison with a host that is silent ends with
    /// that host's lease.
    fn must_not_be_barred(&mut self, n: usize, lease: &Lease) {
        let ttl = lease.ttl_ms * MS;
        let lasts = if lease.is_held() { ttl } else { 0 };
        let node = &self.nodes[n];
        let Some(agent) = &node.agent else { return };
        let (began, ended) = agent.compared;
        // It counts from when it saw the lease; and Consul's answers may be late.
        let awake = node.born.max(node.frozen[LOOP]);
        let answered = self.store.down_until.min(self.t);
        let counts = self.renewed.max(awake).max(self.mended).max(answered);
        // An agent that begins sees the lease after two round trips.
        let seen = counts + lasts + ttl / 5 + LATE + 4 * self.net.far;
        // What it waited for longer was something else, as a Consul that was down.
        let at_once = self.t < ended + AT_ONCE;
        // One without an end is followed until a person says that its holder is gone.
        if began < self.renewed + lasts && ended > seen && at_once && !lease.open {
            let text = format!("{}: a comparison of timelines barred the race", node.name);
            self.oracle.report(self.t, text);
        }
    }

    /// Until when the winner certainly had to wait for better ones: a ttl as it is now, less what the
    /// clocks may differ by. It begins when it could take the lease, and asked the others.
    fn patience_of(&self, n: usize, old: &Snapshot, lease: &Lease) -> Us {
        let ttl = lease.ttl_ms * MS;
        let set = old.config.as_ref().map_or(ttl, |config| micros(config.value.ttl));
        let free = self.renewed + if lease.is_held() { ttl } else { 0 };
        let asked = self.nodes[n].agent.as_ref().and_then(|agent| agent.asks_since);
        let asked = asked.filter(|(_, change)| *change == self.renewed).map_or(0, |(t, _)| t);
        free.max(asked) + ttl.min(set) * 7 / 10
    }

    /// Without synchronous standbys nobody takes over by itself who lacks more than is allowed of
    /// what the last record says.
    fn check_lag(&mut self, n: usize, old: &Snapshot) {
        let (Some(config), Some(status)) = (&old.config, &old.status) else { return };
        // Whoever began the cluster was lost before it was complete, and nobody was led to it:
        // another one begins it anew.
        let complete = old.initialize.as_ref().is_some_and(|id| !id.value.is_empty());
        if !complete && self.nodes[n].facts.bootstrapping {
            return;
        }
        let have = Lsn(self.nodes[n].disk.pos.lsn);
        let lag = status.value.optime.map_or(0, |end| end.bytes_since(have));
        let (changed, before) = self.lag_before;
        let seen_by_all = self.t > changed + micros(config.value.ttl);
        let limit = allowed_lag(old).max(if seen_by_all { 0 } else { before });
        if lag > limit {
            let text =
                format!("{} took over without {lag} bytes, {limit} are allowed", self.names[n]);
            self.oracle.report(self.t, text);
        }
    }

    /// Is anything but the old primary out of order, now or a moment ago?
    pub(crate) fn disturbed(&self) -> bool {
        let shaken = |node: &Node| {
            let thawed = node.frozen.iter().any(|until| *until + SEC > self.t);
            // What it says of its position may be from before.
            thawed || self.t < node.slow_until + SEC
        };
        let running = |node: &&Node| node.agent.is_some() && node.server.recovery;
        self.nodes.iter().filter(running).any(shaken) || self.net.is_disturbed()
    }

    pub(crate) fn is_better(&self, other: usize, n: usize) -> bool {
        let (there, here) = (&self.nodes[other], &self.nodes[n]);
        let able = there.powered && there.server.answers() && there.server.recovery;
        // When the winner asked it last, in true time: whoever could not lead then, as one that has
        // just come up, could not be better placed.
        let asked = here.agent.as_ref().and_then(|agent| agent.seen.peers.get(&there.name));
        let asked = asked.map_or(self.t, |probe| here.clock.true_at(probe.asked));
        let since = there.agent.as_ref().and_then(|agent| agent.view.may_lead_since);
        let says = since.is_some_and(|since| since <= asked);
        able && says && self.has_more(other, n)
    }

    /// By the order in which the timelines began; where somebody does not know when its own did, by
    /// their numbers, and then the judge wants both.
    fn has_more(&self, other: usize, n: usize) -> bool {
        let (there, here) = (self.nodes[other].disk.pos, self.nodes[n].disk.pos);
        let number = |pos: Pos| self.wal.timeline(pos.branch);
        let knows = |node: &Node| node.facts.origins.contains_key(&number(node.disk.pos));
        let by_number = (number(there), there.lsn) > (number(here), here.lsn);
        let by_birth = (there.branch, there.lsn) > (here.branch, here.lsn);
        by_birth && (by_number || self.nodes.iter().all(knows))
    }
}

/// How much of what the last record says a new holder may lack: with synchronous standbys that is their
/// matter.
pub(crate) fn allowed_lag(keys: &Snapshot) -> u64 {
    let limit = |keys: &Snapshot| Some(keys.config.as_ref()?.value.maximum_lag_on_failover);
    let by_standbys = crate::oracle::sync_is_on(keys) && keys.sync.is_some();
    if by_standbys { u64::MAX } else { limit(keys).unwrap_or(u64::MAX) }
}
