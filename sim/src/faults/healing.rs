//! Faults end, and the cluster must come back by itself.

use serde_json::json;

use crate::clock::{SEC, Us};
use crate::event::Event;
use crate::faults::kinds::Kind::*;
use crate::faults::plan::Heal;
use crate::node::Node;
use crate::world::World;

/// How long a cluster may take to heal after the last fault.
const HEAL_BOUND: Us = 150 * SEC;
/// How long it must then stay as it is.
const STEADY: Us = 12 * SEC;

impl World {
    /// A fault ends.
    pub fn heal(&mut self, heal: Heal) {
        self.mended = self.t;
        match heal {
            Heal::Open(from, to) => self.net.set_cut(from, to, false),
            Heal::Fast(from, to) => self.net.set_slow(from, to, 0),
            Heal::NoLoss => self.net.loss = 0,
            Heal::NoTwice => self.net.twice = 0,
            Heal::Resume => self.configure("pause", json!(false)),
        }
    }

    /// All faults cease; from now on the cluster must heal by itself.
    pub fn calm(&mut self) {
        let nobody = self.consul();
        self.say(nobody, || "ALL FAULTS CEASE".to_owned());
        self.net.mend();
        self.store.down_until = self.store.down_until.min(self.t);
        (self.plan.stale, self.plan.raft_unsure, self.plan.job_failures) = (0, 0, 0);
        if self.plan.kinds.contains(&Pause) {
            self.configure("pause", json!(false));
        }
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            node.wanted = true;
            (node.slow_until, node.slow_fence_until) = (0, 0);
            self.queue.push(self.t + SEC, Event::Boot(n));
        }
        self.queue.push(self.t + SEC, Event::Check);
    }

    /// Has the cluster healed, and does it stay so?
    pub fn check(&mut self) {
        if self.keys().config.as_ref().is_some_and(|config| config.value.pause) {
            self.configure("pause", json!(false));
        }
        for n in 0..self.nodes.len() {
            // An agent that was stopped in good order by a late request is started again.
            self.nodes[n].wanted = true;
            self.boot(n);
        }
        let healthy = self.is_healthy();
        let changes = self.oracle.changes;
        let (steady, before) = self.healthy_since.get_or_insert((self.t, changes));
        if healthy && *before != changes {
            let text = "the primary changed although all was well".to_owned();
            self.oracle.report(self.t, text);
        }
        if !healthy {
            self.healthy_since = None;
            if self.t > self.plan.calm_at + HEAL_BOUND {
                let what = self.ailment();
                self.oracle.report(self.t, format!("the cluster did not heal: {what}"));
                self.over = true;
            }
        } else if self.t > *steady + STEADY {
            self.finish();
        }
        self.queue.push(self.t + SEC, Event::Check);
    }

    pub(crate) fn finish(&mut self) {
        self.over = true;
        if let Some(before) = self.plan.settled
            && self.oracle.changes != before
        {
            let text = "the primary changed although nothing was wrong with it".to_owned();
            self.oracle.report(self.t, text);
        }
    }

    /// Where failsafe mode is on: everybody is on the list, and the leader's keeper knows it.
    pub(crate) fn is_agreed(&self) -> bool {
        let keys = self.keys();
        let on = keys.config.as_ref().is_some_and(|config| config.value.failsafe_mode);
        let listed = keys.failsafe.as_ref().map_or(0, |list| list.value.len());
        let pact = |node: &Node| node.agent.as_ref().is_some_and(|agent| agent.keeper.pact() > 0);
        !on || listed == self.nodes.len() && self.nodes.iter().any(pact)
    }

    /// One primary that holds the lease, and everybody follows it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.ailment().is_empty()
    }

    pub(crate) fn ailment(&self) -> String {
        let writers: Vec<usize> =
            (0..self.nodes.len()).filter(|n| self.nodes[*n].writes(self.t)).collect();
        let [primary] = writers[..] else {
            return format!("{} nodes accept writes", writers.len());
        };
        let keys = self.keys();
        let name = &self.names[primary];
        if keys.leader.as_ref().is_none_or(|l| l.value != *name || l.session.is_none()) {
            return format!("{name} accepts writes without the lock");
        }
        if !keys.lease().is_some_and(|l| l.is_held() && l.holder == *name) {
            return format!("{name} accepts writes without the lease");
        }
        for (n, node) in self.nodes.iter().enumerate() {
            let follows = node.server.receiver.is_some_and(|r| r.from == primary);
            if n != primary && !(node.server.recovery && node.server.answers() && follows) {
                let (mine, theirs) = (node.disk.pos, self.nodes[primary].disk.pos);
                let twins = !self.wal.needs_rewind(mine, theirs) && !self.wal.has(theirs, mine);
                let why = if twins { ": its WAL is another's, with the same numbers" } else { "" };
                return format!("{} does not follow {name}{why}", node.name);
            }
            if !keys.members.contains_key(&node.name) {
                return format!("{} has no member entry", node.name);
            }
        }
        let sync = keys.sync.as_ref().map(|sync| sync.value.standbys().len());
        if crate::oracle::sync_is_on(&keys) && self.nodes.len() > 1 && sync.unwrap_or(0) == 0 {
            return "no synchronous standby is published".to_owned();
        }
        if keys.failover.as_ref().is_some_and(|request| !request.value.is_empty()) {
            return "an operator's request is neither done nor refused".to_owned();
        }
        let stopping = |node: &&Node| node.agent.as_ref().is_some_and(|agent| agent.seen.shutdown);
        if let Some(node) = self.nodes.iter().find(stopping) {
            return format!("{} is still stopping", node.name);
        }
        String::new()
    }
}
