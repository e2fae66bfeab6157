//! Clients' writes, and when they are acknowledged.

use hart_ha::store::Snapshot;
use hart_ha::waits::Voters;

use crate::clock::{MS, SEC, Us};
use crate::event::Event;
use crate::faults::Kind;
use crate::node::{LOOP, POSTGRES};
use crate::pg::Waiting;
use crate::pg::wal::Pos;
use crate::world::World;

/// How long it may take to put hart's own names in force again.
const PUT_BACK: Us = SEC;

impl World {
    /// Clients write wherever they are let in.
    pub fn clients(&mut self) {
        let next = self.t + self.rng.range(150 * MS, 450 * MS);
        self.queue.push(next, Event::Clients);
        for n in 0..self.nodes.len() {
            if !self.nodes[n].writes(self.t) {
                continue;
            }
            let write = self.number();
            self.nodes[n].disk.pos.lsn += self.rng.range(100, 400);
            let at = self.nodes[n].disk.pos;
            self.nodes[n].server.waiting.push(Waiting { write, at, since: self.t });
            self.confirm(n);
            self.pump_all(n);
        }
    }

    /// The setting in the file is in force now.
    pub fn sync_applied(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.server.sync.clone_from(node.disk.names());
        node.server.altered = node.server.altered.filter(|_| node.disk.altered.is_some());
        self.confirm(n);
    }

    /// The agent has asked the server since other names than its own are in force, is free to do
    /// something about it: it leads, and has read in Consul who is published, and that the mode is on.
    /// From now on it knows.
    pub(crate) fn note_altered(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some((since, seen)) = node.server.altered else { return };
        let Some(agent) = &node.agent else { return };
        let looked = agent.seen.local.sql.as_ref().map(|sql| node.clock.true_at(sql.asked));
        let snapshot = agent.seen.store.snapshot.as_ref();
        let leads = agent.hold.is_some() && snapshot.is_some();
        if snapshot.is_some_and(|keys| !crate::oracle::sync_is_on(keys)) {
            // With the mode off it has nothing to put back.
            node.server.altered = Some((since, None));
        } else if seen.is_none()
            && agent.job.is_none()
            && leads
            && looked.is_some_and(|at| at > since)
        {
            node.server.altered = Some((since, Some(self.t)));
        }
    }

    /// Nothing is promised for what is acknowledged until the agent could have seen that others than
    /// its own names are in force, and for the time that it then needs to put its own back.
    fn is_altered(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        // Nobody is there to put anything back, or is about to go.
        if node.agent.as_ref().is_none_or(|agent| agent.seen.shutdown) {
            return node.server.altered.is_some();
        }
        // An agent that is frozen once more puts nothing back.
        let asleep = node.frozen[LOOP].max(node.frozen[POSTGRES]);
        let late = |seen: Us| self.t < seen.max(asleep) + PUT_BACK;
        node.server.altered.is_some_and(|(_, seen)| seen.is_none_or(late))
    }

    /// Acknowledges the commits that everybody has confirmed.
    pub(crate) fn confirm(&mut self, n: usize) {
        let upto = self.nodes[n].server.confirmed(&self.names);
        let server = &mut self.nodes[n].server;
        if server.waiting.is_empty() || !server.writes() {
            return;
        }
        let done = server.waiting.iter().take_while(|waiting| waiting.at.lsn <= upto).count();
        for waiting in server.waiting.drain(..done).collect::<Vec<_>>() {
            self.acknowledge(n, waiting);
        }
    }

    pub(crate) fn acknowledge(&mut self, n: usize, waiting: Waiting) {
        let keys = self.keys();
        // A frozen primary whose mode was asynchronous when its lease ended.
        let late = self.nodes[n].guard.as_ref().is_some_and(|guard| guard.late);
        let forgotten = [Kind::SyncChanged, Kind::StoreWiped];
        let switched = self.plan.kinds.iter().any(|kind| forgotten.contains(kind));
        // With the mode switched off they are hart's own business no more, until it is on again.
        let off = self.nodes[n].server.altered.is_some() && !crate::oracle::sync_is_on(&keys);
        if self.is_altered(n) || self.is_new_impostor(n) || off {
            return;
        }
        if late && (switched || self.nodes[n].server.sync.is_nobody()) {
            return;
        }
        // As is one that was started past the guard under an agent that is frozen since.
        let unseen = self.nodes[n].has_stray() && self.nodes[n].server.by_hand.is_some();
        if unseen && switched {
            return;
        }
        self.check_published(n, waiting.at, &keys);
        self.must_be_the_successors(n, waiting.at);
        self.oracle.acknowledged(self.t, n, &self.names, waiting.at, &keys);
        let pos = |name: &str| {
            let found = self.names.iter().position(|known| known == name)?;
            Some(self.nodes[found].disk.pos)
        };
        self.oracle.check_late(pos, &keys, &self.wal);
    }

    /// The rule of synchronous mode itself: while a set is published, a write is acknowledged only
    /// when every standby in it has it; with a quorum, so many that a candidate and those that it
    /// must hear cannot all lack it.
    fn check_published(&mut self, n: usize, at: Pos, keys: &Snapshot) {
        let Some(sync) = keys.sync.as_ref().map(|sync| &sync.value) else { return };
        if sync.leader.as_ref() != self.names.get(n) {
            return;
        }
        let Voters { names, quorum } = sync.voters();
        let lacks = |name: &&String| {
            let found = self.nodes.iter().find(|node| node.name == **name);
            found.is_none_or(|node| !self.wal.has(node.disk.pos, at))
        };
        let lacking: Vec<_> = names.iter().filter(lacks).cloned().collect();
        if lacking.len() > quorum {
            let (name, lacking) = (&self.names[n], lacking.join(", "));
            let text = format!("{name} acknowledged a write that {lacking} lacks, as published");
            self.oracle.report(self.t, text);
        }
    }
}
