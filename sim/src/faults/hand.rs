//! What a person does to PostgreSQL behind the agent's back.

use hart_ha::command::Job;

use crate::clock::{MS, SEC};
use crate::event::AtServer;
use crate::faults::Kind;
use crate::mutation::Mutation;
use crate::node::{GUARD, LOOP, POSTGRES};
use crate::pg::{Content, Stage};
use crate::world::World;

impl World {
    /// `pg_ctl start` where PostgreSQL is down, `pg_ctl restart` where it runs: what runs then has no
    /// guard. A restart may be quicker than the guard is with `standby.signal`, and than the agent.
    pub(crate) fn started_by_hand(&mut self, n: usize) -> bool {
        let node = &self.nodes[n];
        let job = node.agent.as_ref().and_then(|agent| agent.job.as_ref()).map(|it| &it.job);
        let rewinds = matches!(job, Some(Job::Rewind(_)));
        let works = !rewinds && !matches!(job, None | Some(Job::CheckHistory(_)));
        let whole = node.disk.content == Content::Cluster || rewinds;
        if !node.powered || !whole || works {
            return false;
        }
        let in_pause = node.agent.is_some() && !node.is_frozen(LOOP, self.t) && self.paused_for(n);
        match node.server.stage {
            Stage::Down if in_pause && !node.disk.signal => self.start_stray(n, true),
            // Nobody was there to put it to rest: agent and guard were killed.
            Stage::Down if !node.disk.signal && !self.mutated(Mutation::RestIsWritable) => {
                return false;
            }
            Stage::Down => self.start_stray(n, false),
            Stage::Up if node.guard.is_some() && !node.is_frozen(POSTGRES, self.t) => {
                self.restart_by_hand(n);
            }
            _ => return false,
        }
        true
    }

    /// Somebody removes `standby.signal` and starts PostgreSQL while the agent compares or rewinds it.
    pub(crate) fn started_beside_a_job(&mut self, n: usize) -> bool {
        let node = &mut self.nodes[n];
        let job = node.agent.as_ref().and_then(|agent| agent.job.as_ref()).map(|it| &it.job);
        let works = matches!(job, Some(Job::Rewind(_) | Job::CheckHistory(_)));
        if !node.powered || !works || node.server.stage != Stage::Down {
            return false;
        }
        node.disk.signal = false;
        self.start_stray(n, true);
        true
    }

    fn restart_by_hand(&mut self, n: usize) {
        // An agent that is away looks long after the lease: then only the signal is left.
        let t = self.t;
        let awake = self.nodes[n].agent.is_some() && !self.nodes[n].is_frozen(LOOP, t);
        let quick = awake && self.rng.chance(300);
        if awake && self.rng.chance(500) {
            let until = self.t + self.rng.range(100 * MS, 1500 * MS);
            self.freeze(n, &[LOOP], until);
        }
        let signal = self.nodes[n].disk.signal;
        self.nodes[n].disk.clean = true;
        self.server_gone(n);
        if quick {
            self.nodes[n].disk.signal = signal;
        }
        self.start_stray(n, quick);
    }

    /// Does the agent of this node know that the cluster is paused?
    pub(crate) fn paused_for(&self, n: usize) -> bool {
        self.nodes[n].agent.as_ref().is_some_and(|agent| agent.paused)
    }

    /// `pg_ctl stop` in a pause. It stays stopped until somebody asks.
    pub(crate) fn stopped_by_hand(&mut self, n: usize) -> bool {
        let node = &self.nodes[n];
        let idle = node.agent.as_ref().is_some_and(|agent| {
            let asked = &agent.seen.asked;
            agent.job.is_none() && !agent.fencing && !asked.restart && !asked.reinit
        });
        let awake = !node.is_frozen(POSTGRES, self.t) && !node.is_frozen(LOOP, self.t);
        if !idle || !awake || node.server.stage != Stage::Up || !self.paused_for(n) {
            return false;
        }
        self.nodes[n].stopped_by_hand = true;
        self.stop_server(n);
        true
    }

    /// `pg_promote()`, `pg_ctl promote`.
    pub(crate) fn promoted_by_hand(&mut self, n: usize) -> bool {
        let t = self.t;
        // Standbys take the resting names of a new mode up at their next look.
        if self.plan.kinds.contains(&Kind::SyncChanged) {
            return false;
        }
        let node = &mut self.nodes[n];
        let leads = node.agent.as_ref().is_some_and(|agent| agent.hold.is_some());
        let standby = node.server.stage == Stage::Up && node.server.recovery;
        if !standby || leads || node.guard.is_none() || node.is_frozen(GUARD, t) {
            return false;
        }
        if !node.server.promoting {
            node.server.by_hand = Some(t + SEC);
        }
        self.at_server_later(n, MS, AtServer::Promote);
        true
    }
}
