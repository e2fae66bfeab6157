//! One event after the other, and a look by the oracle after each.

use hart_ha::kv::Term;
use hart_ha::time::Time;

use crate::clock::{MS, SEC, Us};
use crate::event::{AtAgent, AtServer, Event};
use crate::mutation::Mutation;
use crate::node::{GUARD, Guard, LEASE, LOOP, Node, POSTGRES};
use crate::oracle::{Seen, WAKING};
use crate::world::World;

/// The longest loop_wait, and time for the look and the kill.
const NOTICED: Us = 4 * SEC;

impl World {
    /// Does one event. False: there is nothing more to do.
    pub fn turn(&mut self) -> bool {
        if self.over {
            return false;
        }
        let Some((at, event)) = self.queue.pop() else { return false };
        self.t = self.t.max(at);
        self.mix(&event);
        self.dispatch(event);
        self.judge();
        true
    }

    pub(crate) fn mix(&mut self, event: &Event) {
        let (kind, node) = match event {
            Event::Agent(n, _, what) => (1 + tag(what), *n),
            Event::Server(n, _, what) => (100 + *what as u64, *n),
            Event::Call { node, .. } => (200, *node),
            Event::Wal { to, .. } => (201, *to),
            Event::Ack { to, .. } => (202, *to),
            _ => (203, 0),
        };
        for word in [self.t, kind, node as u64] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// A frozen part sees what comes only when it wakes up, in any order.
    pub(crate) fn deferred(&mut self, n: usize, part: usize, event: Event) -> Option<Event> {
        let until = self.nodes[n].frozen[part];
        if self.t >= until {
            return Some(event);
        }
        let at = until + self.rng.range(0, 2 * MS);
        self.queue.push(at, event);
        None
    }

    pub(crate) fn dispatch(&mut self, event: Event) {
        match event {
            Event::Agent(n, life, what) => self.at_agent(n, life, what),
            Event::Server(n, life, what) => self.at_server(n, life, what),
            Event::Call { node, life, call, what, watch } => {
                self.call_arrives(node, life, call, &what, watch);
            }
            Event::WaitOver { call } => self.wait_over(call),
            Event::Wal { to, link, pos } => {
                if let Some(Event::Wal { to, link, pos }) =
                    self.deferred(to, POSTGRES, Event::Wal { to, link, pos })
                {
                    self.wal_arrives(to, link, pos);
                }
            }
            Event::Ack { to, link, lsn } => {
                if self.deferred(to, POSTGRES, Event::Ack { to, link, lsn }).is_some() {
                    self.ack_arrives(to, link, lsn);
                }
            }
            Event::Pump { from, link } => self.pump(from, link),
            Event::Cut { link } => self.cut_link(link),
            Event::Clients => self.clients(),
            Event::Sessions => {
                self.queue.push(self.t + SEC, Event::Sessions);
                self.must_be_led();
                if self.t >= self.store.down_until && self.advance_store() {
                    self.keys_changed();
                }
            }
            Event::Fault => self.fault(),
            Event::Worst => self.strike_now(),
            Event::Heal(heal) => self.heal(heal),
            Event::Calm => self.calm(),
            Event::Check => self.check(),
            Event::Boot(n) => self.boot(n),
        }
    }

    pub(crate) fn at_agent(&mut self, n: usize, life: u32, what: AtAgent) {
        let Some(agent) = self.nodes[n].agent.as_ref().filter(|_| self.nodes[n].life == life)
        else {
            return;
        };
        let lease = match &what {
            AtAgent::Lease(_)
            | AtAgent::LeaseNotSent(_)
            | AtAgent::Question { .. }
            | AtAgent::Word(_) => true,
            AtAgent::Answer(call, _) => agent.calls.get(call).is_some_and(|p| p.is_lease()),
            _ => false,
        };
        let part = if lease { LEASE } else { LOOP };
        let event = Event::Agent(n, life, what);
        if let Some(Event::Agent(_, _, what)) = self.deferred(n, part, event) {
            self.agent_event(n, what);
        }
    }

    pub(crate) fn at_server(&mut self, n: usize, life: u32, what: AtServer) {
        if self.nodes[n].server.life != life || !self.nodes[n].powered {
            return;
        }
        let part = match what {
            AtServer::Deadline | AtServer::FenceAsked => GUARD,
            // What was killed goes, whoever is frozen.
            AtServer::Gone => return self.server_gone(n),
            _ => POSTGRES,
        };
        if part == GUARD && what == AtServer::Deadline && self.t < self.nodes[n].frozen[GUARD] {
            self.overslept(n);
            if self.mutated(Mutation::GuardSleepsOn) {
                let at = self.nodes[n].frozen[GUARD] + SEC;
                return self.queue.push(at, Event::Server(n, life, what));
            }
        }
        if self.deferred(n, part, Event::Server(n, life, what)).is_some() {
            self.server_event(n, what);
        }
    }

    /// The oracle looks at the nodes.
    pub(crate) fn judge(&mut self) {
        self.check_stays();
        let t = self.t;
        let mut writing = (0..self.nodes.len()).filter(|n| self.nodes[*n].writes(t));
        let Some(first) = writing.next() else { return };
        if writing.next().is_none() {
            return self.oracle.only_writer(first);
        }
        // Whose agent was started since does not know that the lease of that term has no end.
        let lost = self.open_lost.filter(|(at, _)| self.nodes.iter().any(|node| node.born > *at));
        let forgotten = |node: &Node| lost.is_some_and(|(_, term)| has_no_end(node, term));
        let seen: Vec<Seen> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(n, node)| Seen {
                forgotten: forgotten(node),
                former: self.is_former(n),
                ..seen(node, t)
            })
            .collect();
        self.oracle.writers(t, &seen, &self.names);
    }

    /// Keys have changed: the oracle looks, and blocking queries answer.
    pub fn keys_changed(&mut self) {
        for parked in self.store.due() {
            self.answer_watch(parked);
        }
    }

    /// Lets sessions end, with the oracle looking on.
    pub fn advance_store(&mut self) -> bool {
        let old = self.store.now.1.clone();
        let changed = self.store.advance(self.t);
        if changed {
            let new = self.store.now.1.clone();
            self.oracle.keys(self.t, &old, &new);
        }
        changed
    }
}

fn seen(node: &Node, t: Us) -> Seen {
    let overdue = |guard: &Guard| {
        let late = guard.armed.is_none_or(|armed| node.clock.local(t) >= armed.deadline);
        guard.late || node.is_frozen(GUARD, t) && late
    };
    // An agent that is awake kills past a guard that hangs.
    let awake = t >= node.frozen[LOOP].max(node.slow_fence_until).max(node.born) + WAKING;
    let able = node.agent.is_some() && awake;
    let overslept = node.guard.as_ref().is_some_and(overdue) && !able;
    let by_hand = node.server.by_hand.map(|since| noticed(node, t, since));
    let overslept = overslept.then_some(node.frozen[GUARD]);
    Seen {
        writes: node.writes(t),
        overslept: by_hand.max(overslept),
        forgotten: false,
        former: false,
    }
}

fn has_no_end(node: &Node, term: Term) -> bool {
    let armed = node.guard.as_ref().and_then(|guard| guard.armed);
    armed.is_some_and(|hold| hold.deadline == Time::NEVER && hold.term == term)
}

/// Until when an agent certainly sees what a person did behind its back. Nothing else would.
fn noticed(node: &Node, t: Us, since: Us) -> Us {
    match &node.agent {
        None => t,
        // In a pause it is tolerated.
        Some(agent) if agent.paused || agent.applied.is_none() => t,
        Some(_) => {
            let asleep = node.frozen[LOOP].max(node.frozen[POSTGRES]);
            since.max(asleep).max(node.resumed).max(node.slow_until).max(node.born) + NOTICED
        }
    }
}

fn tag(what: &AtAgent) -> u64 {
    match what {
        AtAgent::Step(_) => 1,
        AtAgent::Woken(_) => 2,
        AtAgent::Lease(_) => 3,
        AtAgent::Look(_) => 4,
        AtAgent::Answer(..) => 5,
        AtAgent::Session(_) => 6,
        AtAgent::Watch => 7,
        AtAgent::Job(_) => 8,
        AtAgent::Followed(_) => 9,
        AtAgent::Peer(..) => 10,
        AtAgent::Asked { .. } => 11,
        AtAgent::Life => 12,
        AtAgent::Fenced => 13,
        AtAgent::Checkpoint => 14,
        AtAgent::Written(_) => 15,
        AtAgent::NotFollowed => 16,
        AtAgent::KillPast => 17,
        AtAgent::LeaseNotSent(_) => 18,
        AtAgent::Question { .. } => 19,
        AtAgent::Word(_) => 20,
        AtAgent::Paused(..) => 21,
        AtAgent::Looked => 22,
        AtAgent::TurnedAway => 23,
    }
}
