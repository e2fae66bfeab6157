//! A slow archive: between the request to promote and the end of recovery PostgreSQL asks it several
//! times, one call after the other, and replays nothing meanwhile.

use hart_ha::brain::Step;
use hart_ha::command::Command;
use hart_ha::observation::RecoveryCommand;
use hart_ha::time::Time;

use crate::clock::{MS, SEC, Us};
use crate::event::AtServer;
use crate::mutation::Mutation;
use crate::pg::wal::Pos;
use crate::world::World;

/// So many calls a promotion makes.
const CALLS: u32 = 5;

/// How slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Archive {
    /// How long one call takes.
    pub call: Us,
    /// Until when. A call that is under way then ends soon.
    pub until: Us,
    /// Until then its copies of last segments are not whole.
    pub bad_until: Us,
}

impl World {
    /// For everybody, or out of reach from this node.
    pub(crate) fn archive_is_slow(&mut self, n: usize, until: Us) {
        if self.rng.chance(250) {
            let archive = &mut self.nodes[n].archive;
            (archive.call, archive.until) = (Us::MAX, until);
            return;
        }
        let call = self.rng.skewed(100 * MS, 40 * SEC);
        for node in &mut self.nodes {
            (node.archive.call, node.archive.until) = (call, until);
        }
    }

    pub(crate) fn archive_is_bad(&mut self, until: Us) {
        self.nodes.iter_mut().for_each(|node| node.archive.bad_until = until);
    }

    /// The last segment was taken from the archive, whose copy is not whole: the server ends, and what it
    /// had of that segment may be gone.
    pub(crate) fn ends_in_its_promotion(&mut self, n: usize) -> bool {
        if self.t >= self.nodes[n].archive.bad_until {
            return false;
        }
        let pos = self.nodes[n].disk.pos;
        let less = Pos { lsn: pos.lsn.saturating_sub(self.rng.skewed(1, 20_000)), ..pos };
        if self.rng.chance(700) && self.wal.has(pos, less) {
            self.nodes[n].disk.pos = less;
        }
        self.kill_server(n);
        true
    }

    /// A promotion begins, and asks its archive first; or goes on behind a call.
    pub(crate) fn promotes(&mut self, n: usize, begins: bool) {
        let slow = self.t < self.nodes[n].slow_until;
        let took = self.rng.skewed(15 * MS, if slow { 3 * SEC } else { 300 * MS });
        let (t, now) = (self.t, self.local(n));
        let node = &mut self.nodes[n];
        let server = &mut node.server;
        server.calls = if begins { CALLS } else { server.calls };
        if server.calls == 0 || t >= node.archive.until {
            server.command = None;
            return self.at_server_later(n, took, AtServer::Promoted);
        }
        (server.calls, server.command) = (server.calls - 1, Some(now));
        let took = node.archive.call.min(node.archive.until - t + SEC);
        self.at_server_later(n, took, AtServer::CommandEnded);
    }

    /// As the agent sees it.
    pub(crate) fn recovery_command(&self, n: usize) -> Option<RecoveryCommand> {
        let began = self.nodes[n].server.command?;
        let seen = !self.mutated(Mutation::ArchiveNotSeen);
        seen.then(|| RecoveryCommand { name: "restore_command".to_owned(), began })
    }

    /// A promotion whose archive answers slowly is none that stands still, nor is one that waits for sessions.
    pub(crate) fn must_be_stuck(&mut self, n: usize, step: &Step) {
        let node = &self.nodes[n];
        let sql = node.agent.as_ref().and_then(|agent| agent.seen.local.sql.as_ref());
        let seen = |since: Option<Time>| sql.zip(since).is_some_and(|(sql, since)| sql.at > since);
        let waits = [("its archive", node.server.command), ("sessions", node.server.held_up)];
        let mut fences = step.decisions.iter().filter(|d| d.command == Command::Fence);
        if !fences.any(|fence| fence.reason.contains("does not get on")) {
            return;
        }
        for (what, _) in waits.into_iter().filter(|(_, since)| seen(*since)) {
            let text = format!("{}: a promotion that waits for {what} is ended", node.name);
            self.oracle.report(self.t, text);
        }
    }
}
