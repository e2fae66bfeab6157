//! Looks at PostgreSQL.

use hart_ha::lsn::Lsn;
use hart_ha::observation::{Sql, Standby};

use crate::event::Cause;
use crate::mutation::Mutation;
use crate::node::POSTGRES;
use crate::pg::Stage;
use crate::world::World;

impl World {
    /// What a server says of its timeline: a standby that is not connected knows what its control file
    /// says, and the agent what it has seen it stream.
    fn said_timeline(&mut self, n: usize) -> u32 {
        let node = &mut self.nodes[n];
        let pos = node.disk.pos;
        let true_one = self.wal.timeline(pos.branch);
        if !node.server.recovery {
            return true_one;
        }
        if node.server.receiver.is_some() {
            node.facts.streamed = Some(pos);
        }
        let control = self.wal.timeline(node.disk.control);
        let streamed = node.facts.streamed.filter(|at| at.lsn <= pos.lsn);
        control.max(streamed.map_or(0, |at| self.wal.timeline(at.branch))).min(true_one)
    }

    /// A standby that has the history of a later timeline than it names makes a restartpoint.
    fn ask_in_doubt(&mut self, n: usize, said: u32) {
        let node = &self.nodes[n];
        let believed = self.mutated(Mutation::LaggingTimelineBelieved);
        if !believed && said < self.wal.timeline(node.disk.pos.branch) && self.rng.chance(500) {
            self.restartpoint(n);
        }
    }

    /// A look at PostgreSQL.
    pub fn look(&mut self, n: usize) {
        let now = self.local(n);
        let slow = self.t < self.nodes[n].slow_until && self.rng.chance(700);
        let node = &self.nodes[n];
        let Some(agent) = &node.agent else { return };
        let blind = slow || node.is_frozen(POSTGRES, self.t) || node.server.stage != Stage::Up;
        if agent.up_since.is_none() || blind {
            return;
        }
        let timeline = self.said_timeline(n);
        let impostors = self.impostors_seen(n);
        let node = &self.nodes[n];
        let server = &node.server;
        let pos = node.disk.pos;
        let standby = |sender: &crate::pg::Sender| Standby {
            name: self.names[sender.to].clone(),
            streaming: true,
            sync: server.sync.of.contains(&self.names[sender.to]),
            flush_lsn: Lsn(sender.acked),
            confirmed_lsn: Lsn(sender.acked),
        };
        let lsn = |is: bool| Lsn(if is { pos.lsn } else { 0 });
        let sql = Sql {
            at: now,
            asked: now,
            // No connection of the agent's breaks while the server stays.
            backend: 0,
            in_recovery: server.recovery,
            timeline,
            write_lsn: lsn(!server.recovery),
            receive_lsn: lsn(server.recovery),
            replay_lsn: lsn(server.recovery),
            streaming: server.receiver.is_some(),
            receives_from: server.receiver.map(|r| (self.names[r.from].clone(), 5432)),
            standbys: server.senders.iter().map(standby).chain(self.impostors_row(n)).collect(),
            pending_restart: false,
            waits: !server.sync.is_nobody(),
            names: server.sync.names(),
            overridden: Vec::new(),
            lax_commits: Vec::new(),
            impostors,
            recovery_command: self.recovery_command(n),
            held_up: self.held_up(n),
            // Nobody pauses replay in this world.
            rests: None,
        };
        self.ask_in_doubt(n, timeline);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let old = agent.seen.local.sql.replace(sql);
        let new = agent.seen.local.sql.as_ref();
        let same = match (&old, new) {
            (Some(old), Some(new)) => Sql { at: new.at, asked: new.asked, ..old.clone() } == *new,
            _ => false,
        };
        if !same {
            self.wake(n, Cause::Server);
        }
    }
}
