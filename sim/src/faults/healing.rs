//! Faults end, and the cluster must come back by itself.

use serde_json::json;

use crate::clock::{SEC, Us};
use crate::consul::WRITE;
use crate::event::Event;
use crate::faults::kinds::Kind::*;
use crate::faults::plan::Heal;
use crate::node::Node;
use crate::world::World;

/// How long a cluster may take to heal after the last fault.
const HEAL_BOUND: Us = 150 * SEC;
/// How long it must then stay as it is.
const STEADY: Us = 12 * SEC;
/// After this long it must stay as it is.
const SETTLED: Us = 3 * SEC;
/// Every call that was under way when the faults ceased is over then, with a Consul that was fast.
const AFTERMATH: Us = 6 * SEC;
/// A blocking query's wait, and the pause behind a failure.
const BESIDE: Us = 4 * SEC;
/// A commit that waits longer than this hangs.
const HANGS: Us = 2 * SEC;

impl World {
    /// A fault ends.
    pub fn heal(&mut self, heal: Heal) {
        self.mended = self.t;
        match heal {
            Heal::Open(from, to) => self.net.end_cut(from, to),
            Heal::Fast(from, to) => self.net.set_slow(from, to, 0),
            Heal::Home(n) => self.net.mislead(n, None),
            Heal::NoLoss => self.net.loss = 0,
            Heal::NoTwice => self.net.twice = 0,
            Heal::SwiftWrites => self.net.slow_writes = 0,
            Heal::StrangerGone => self.stranger_goes(),
            Heal::ImpostorGone(n) => self.impostor_goes(n),
            Heal::Resume => self.configure("pause", json!(false)),
        }
    }

    /// All faults cease; from now on the cluster must heal by itself.
    pub fn calm(&mut self) {
        let nobody = self.consul();
        self.say(nobody, || "ALL FAULTS CEASE".to_owned());
        let longest = (0..self.nodes.len()).map(|n| self.patience(n, WRITE)).max().unwrap_or(0);
        self.aftermath = AFTERMATH.max(longest + BESIDE);
        self.net.mend();
        self.store.down_until = self.store.down_until.min(self.t);
        (self.plan.stale, self.plan.raft_unsure, self.plan.job_failures) = (0, 0, 0);
        if self.plan.kinds.contains(&Pause) {
            self.configure("pause", json!(false));
        }
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            node.wanted = true;
            // What an agent notices late because of it, it notices from now on.
            node.slow_until = node.slow_until.min(self.t);
            node.slow_fence_until = node.slow_fence_until.min(self.t);
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
        self.person_frees_the_lease();
        let ailment = self.ailment();
        if ailment.is_empty() {
            self.is_well();
        } else {
            self.is_ill(&ailment);
        }
        self.queue.push(self.t + SEC, Event::Check);
    }

    fn is_well(&mut self) {
        if self.healthy_since.is_none() {
            self.ill_at = None;
        }
        let since = *self.healthy_since.get_or_insert(self.t);
        if self.is_settled(since) {
            self.must_stay("all was well");
        }
        let late = self.aftermath.saturating_sub(AFTERMATH);
        if self.t > since.max(self.plan.calm_at + late) + STEADY {
            self.over = true;
        }
    }

    fn is_ill(&mut self, ailment: &str) {
        // A connection may just be made anew: at one look, but not at two. A set is changed by two writes, each of
        // which takes a round trip and is read back.
        let slow = 4 * self.net.far;
        let again = self.ill_at.is_some_and(|first| self.t >= first + slow);
        self.ill_at.get_or_insert(self.t);
        let settled = self.healthy_since.is_some_and(|since| self.is_settled(since));
        if settled && !again {
            return;
        }
        if settled {
            self.oracle.report(self.t, format!("the cluster did not stay well: {ailment}"));
        }
        self.healthy_since = None;
        if self.t > self.plan.calm_at + HEAL_BOUND {
            self.oracle.report(self.t, format!("the cluster did not heal: {ailment}"));
            self.over = true;
        }
    }

    /// Nothing that was sent or lost before the faults ceased can still make a difference.
    fn is_settled(&self, since: Us) -> bool {
        self.t >= (since + SETTLED).max(self.plan.calm_at + self.aftermath)
    }

    /// From now on the primary has no reason to stop.
    pub(crate) fn must_stay(&mut self, why: &'static str) {
        let primary = (0..self.nodes.len()).find(|n| self.nodes[*n].writes(self.t));
        self.stays = self.stays.or(primary.map(|primary| (primary, why)));
    }

    /// Looked at after every event.
    pub(crate) fn check_stays(&mut self) {
        if let Some((primary, why)) = self.stays
            && !self.nodes[primary].writes(self.t)
        {
            let text = format!("the primary changed or stopped although {why}");
            self.oracle.report(self.t, text);
            self.stays = None;
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
            let receives = node.server.receiver.filter(|receiver| receiver.from == primary);
            let sends = |link| self.nodes[primary].server.senders.iter().any(|s| s.link == link);
            let follows = receives.is_some_and(|receiver| sends(receiver.link));
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
        let on = crate::oracle::sync_is_on(&keys);
        if on && self.nodes.len() > 1 && sync.unwrap_or(0) == 0 {
            return "no synchronous standby is published".to_owned();
        }
        let server = &self.nodes[primary].server;
        if !on && (sync.is_some() || !server.sync.is_nobody()) {
            return format!("synchronous mode is off, and {name} still waits or publishes");
        }
        // Alone in strict mode they wait by the user's wish.
        let hang = server.waiting.first().is_some_and(|first| first.since + HANGS < self.t);
        if hang && self.nodes.len() > 1 {
            return format!("commits hang on {name}");
        }
        if keys.failover.as_ref().is_some_and(|request| !request.value.is_empty()) {
            return "an operator's request is neither done nor refused".to_owned();
        }
        if self.nodes[primary].agent.as_ref().is_none_or(|agent| agent.hold.is_none()) {
            return format!("the agent of {name} does not lead");
        }
        let asked = |node: &&Node| {
            let asked = node.agent.as_ref().map(|agent| &agent.seen.asked);
            asked.is_some_and(|asked| asked.restart || asked.reinit)
        };
        if let Some(node) = self.nodes.iter().find(asked) {
            return format!("{} has still to do what it was asked for", node.name);
        }
        let stopping = |node: &&Node| node.agent.as_ref().is_some_and(|agent| agent.seen.shutdown);
        if let Some(node) = self.nodes.iter().find(stopping) {
            return format!("{} is still stopping", node.name);
        }
        String::new()
    }
}
