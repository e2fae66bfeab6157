//! The guard: it is armed, watches its deadline, and fences.

use hart_ha::keeper::Hold;
use hart_ha::time::Time;

use crate::clock::{MS, SEC, Us};
use crate::event::{AtAgent, AtServer, Event};
use crate::mutation::Mutation;
use crate::node::{GUARD, Guard, LEASE};
use crate::pg::Stage;
use crate::world::World;

/// How long the guard may take to acknowledge.
pub const ARM_TIMEOUT: Us = 100 * MS;
/// How long it may take to hear of a fence.
const FENCE_TALK: Us = 100 * MS;
/// How long it may take for one before it is done without it.
const FENCE_DONE: Us = 3 * SEC;

impl World {
    pub(crate) fn arm(&mut self, n: usize, hold: Hold) {
        let fake = self.mutated(Mutation::PromoteWithoutArmedGuard);
        let uncut = self.mutated(Mutation::TtlCutIgnored);
        let (t, frozen) = (self.t, self.nodes[n].is_frozen(GUARD, self.t));
        let node = &mut self.nodes[n];
        let recovery = node.server.recovery;
        let there = node.guard.as_mut().filter(|_| node.server.stage != Stage::Down);
        let Some(agent) = &mut node.agent else { return };
        let Some(guard) = there else {
            agent.unsettled = false;
            return;
        };
        if fake && recovery {
            (agent.acked, agent.unsettled) = (Some(hold), false);
            return;
        }
        if frozen {
            guard.queued.push(hold);
            agent.unsettled = true;
            let (life, at) = (node.server.life, node.frozen[GUARD]);
            self.queue.push(at, Event::Server(n, life, AtServer::Deadline));
            node.frozen[LEASE] = node.frozen[LEASE].max(t + ARM_TIMEOUT);
            return;
        }
        if guard.fencing {
            agent.unsettled = false;
            return;
        }
        let shorter = guard.armed.is_some_and(|old| old.deadline > hold.deadline);
        if !(uncut && shorter) {
            guard.armed = Some(hold);
        }
        (agent.acked, agent.unsettled) = (Some(hold), false);
        self.watch_deadline(n);
    }

    /// A standby that gave the lease up before it was promoted need not die at its deadline. One whose
    /// guard does not hear it is told again.
    pub fn disarm_given_up(&mut self, n: usize) {
        let (now, frozen) = (self.local(n), self.nodes[n].is_frozen(GUARD, self.t));
        let node = &mut self.nodes[n];
        let (Some(agent), Some(guard)) = (&node.agent, &mut node.guard) else { return };
        let seen = &agent.seen;
        let standby = seen.local.sql.as_ref().is_some_and(|sql| sql.in_recovery);
        let armed = seen.local.armed.filter(|armed| now < armed.deadline);
        let given_up = standby && seen.lease.hold.is_none() && !seen.lease.busy;
        if let Some(armed) = armed.filter(|_| given_up && !frozen && !guard.promotes) {
            let known = guard.armed.take_if(|known| known.term <= armed.term);
            guard.queued.clear();
            if known.is_some() {
                self.say(n, || format!("guard: disarmed, term {} was given up", armed.term));
            }
        }
    }

    /// The guard wakes up at its deadline.
    pub fn watch_deadline(&mut self, n: usize) {
        let node = &self.nodes[n];
        let Some(armed) = node.guard.as_ref().and_then(|guard| guard.armed) else { return };
        if armed.deadline == Time::NEVER {
            return;
        }
        let at = node.clock.true_at(armed.deadline).max(self.t);
        let life = node.server.life;
        let late = self.rng.range(0, 2 * MS);
        self.queue.push(at + late, Event::Server(n, life, AtServer::Deadline));
    }

    /// The guard looks at the clock; only then at what has come meanwhile.
    pub(crate) fn deadline(&mut self, n: usize) {
        let now = self.local(n);
        if self.mutated(Mutation::GuardIgnoresDeadline) {
            return;
        }
        let Some(guard) = self.nodes[n].guard.as_mut().filter(|guard| !guard.fencing) else {
            return;
        };
        if let Some(armed) = guard.armed.filter(|armed| now >= armed.deadline) {
            guard.fencing = true;
            self.say(n, || format!("guard: deadline of term {} passed, fencing", armed.term));
            return self.kill_server(n);
        }
        if let Some(last) = std::mem::take(&mut guard.queued).pop() {
            guard.armed = Some(last);
        }
        self.watch_deadline(n);
    }

    /// The guard was frozen when its deadline came.
    pub fn overslept(&mut self, n: usize) {
        let now = self.local(n);
        if let Some(guard) = &mut self.nodes[n].guard {
            guard.late |= guard.armed.is_some_and(|armed| now >= armed.deadline);
        }
    }

    /// Woken up before its guard, which was frozen when the deadline came and fences it now.
    pub(crate) fn is_undead(&self, n: usize) -> bool {
        let guard = self.nodes[n].guard.as_ref();
        let overdue = |guard: &Guard| guard.armed.is_some_and(|a| self.local(n) >= a.deadline);
        let frozen = self.nodes[n].is_frozen(GUARD, self.t);
        guard.is_some_and(|guard| guard.late || frozen && overdue(guard))
    }

    /// The agent has the server fenced.
    pub fn fence(&mut self, n: usize) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if std::mem::replace(&mut agent.fencing, true) {
            return;
        }
        if self.nodes[n].server.stage == Stage::Down {
            return self.after(n, MS, AtAgent::Fenced);
        }
        self.notes_kill(n);
        let silent = self.nodes[n].is_frozen(GUARD, self.t);
        self.at_server_later(n, 100, AtServer::FenceAsked);
        self.after(n, if silent { FENCE_TALK } else { FENCE_DONE }, AtAgent::KillPast);
    }

    /// The guard hangs: PostgreSQL is killed past it, and the guard with it.
    pub(crate) fn kill_past_guard(&mut self, n: usize) {
        let fencing = self.nodes[n].agent.as_ref().is_some_and(|agent| agent.fencing);
        if fencing && self.nodes[n].server.stage != Stage::Down {
            self.say(n, || "the guard does not answer: killing PostgreSQL without it".to_owned());
            self.guard_killed(n);
        }
    }
}
