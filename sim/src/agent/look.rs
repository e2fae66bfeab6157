//! Looks at PostgreSQL.

use hart_ha::lsn::Lsn;
use hart_ha::observation::{Sql, Standby};

use crate::event::Cause;
use crate::node::POSTGRES;
use crate::pg::Stage;
use crate::world::World;

impl World {
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
        let server = &node.server;
        let pos = node.disk.pos;
        let standby = |sender: &crate::pg::Sender| Standby {
            name: self.names[sender.to].clone(),
            streaming: true,
            sync: server.sync.of.contains(&self.names[sender.to]),
            flush_lsn: Lsn(sender.acked),
        };
        let lsn = |is: bool| Lsn(if is { pos.lsn } else { 0 });
        let sql = Sql {
            at: now,
            asked: now,
            // No connection of the agent's breaks while the server stays.
            backend: 0,
            in_recovery: server.recovery,
            timeline: self.wal.timeline(pos.branch),
            write_lsn: lsn(!server.recovery),
            receive_lsn: lsn(server.recovery),
            replay_lsn: lsn(server.recovery),
            streaming: server.receiver.is_some(),
            receives_from: server.receiver.map(|r| (self.names[r.from].clone(), 5432)),
            standbys: server.senders.iter().map(standby).collect(),
            pending_restart: false,
            waits: !server.sync.is_nobody(),
            names: server.sync.names(),
            overridden: Vec::new(),
            lax_commits: Vec::new(),
        };
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
