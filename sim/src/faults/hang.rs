//! A disk that hangs: PostgreSQL's processes sleep in the kernel, and no signal ends them before the
//! disk answers again.

use std::time::Duration;

use hart_ha::kv::{LeaseState, SynchronousMode};
use hart_ha::lease::{challenger_wait, margin};
use hart_ha::lsn::Lsn;
use hart_ha::observation::{Killing, Trouble};
use hart_ha::store::Snapshot;
use hart_ha::time::Time;

use crate::agent::lease::Order;
use crate::clock::{SEC, Us};
use crate::consul::micros;
use crate::faults::Kind;
use crate::mutation::Mutation;
use crate::node::{LEASE, LOOP, Node, POSTGRES};
use crate::pg::{Content, Stage};
use crate::world::World;

/// What was sent before a lease was abandoned may be under way for so long.
const UNDER_WAY: Us = 9 * SEC;

/// A disk that hangs.
#[derive(Clone, Copy, Debug)]
pub struct Hang {
    /// Since when, by the node's clock.
    pub since: Time,
    /// Until when.
    pub until: Us,
}

impl World {
    /// False: nothing runs there that could hang.
    pub(crate) fn disk_hangs(&mut self, n: usize) -> bool {
        let until = (self.t + self.rng.range(12 * SEC, 70 * SEC)).min(self.plan.calm_at);
        if self.nodes[n].server.stage != Stage::Up {
            return false;
        }
        // One that hangs already goes on hanging.
        let before = self.hang(n);
        let since = before.map_or_else(|| self.local(n), |hang| hang.since);
        let until = before.map_or(until, |hang| hang.until.max(until));
        self.freeze(n, &[POSTGRES], until);
        self.nodes[n].hang = Some(Hang { since, until });
        true
    }

    fn hang(&self, n: usize) -> Option<Hang> {
        self.nodes[n].hang.filter(|hang| self.t < hang.until)
    }

    /// A kill that has begun is done so much later. Until then nothing of it comes back to user mode.
    pub(crate) fn kill_takes(&mut self, n: usize, took: Us) -> Us {
        let Some(hang) = self.hang(n) else { return took };
        let server = &mut self.nodes[n].server;
        server.closed = true;
        server.waiting.clear();
        took.max(hang.until - self.t)
    }

    /// The agent begins to kill, or learns that the guard does.
    pub(crate) fn notes_kill(&mut self, n: usize) {
        let (now, t) = (self.local(n), self.t);
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.killing.get_or_insert((now, t));
        }
    }

    /// What the agent knows of it.
    pub(crate) fn observe_hang(&mut self, n: usize) {
        let hang = self.hang(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let up = agent.up_since.is_some();
        if !up {
            agent.killing = None;
        }
        let left = || "processes in uninterruptible sleep".to_owned();
        let killing = agent.killing.map(|(since, _)| Killing { since, left: left() });
        let what = || "a commit hangs".to_owned();
        let sick = hang.filter(|_| up);
        let trouble = sick.map(|hang| Trouble { since: hang.since, what: what(), silent: true });
        (agent.seen.local.killing, agent.seen.local.trouble) = (killing, trouble);
    }

    pub(crate) fn abandon(&mut self, n: usize, term: u64) {
        if !self.mutated(Mutation::UnkillableRenewsOn) {
            self.lease_turn(n, Some(Order::Abandon(term)));
        }
    }

    /// Where nothing but one disk hangs, somebody else leads soon. Looked at every second.
    pub(crate) fn must_be_led(&mut self) {
        let only = self.plan.kinds.iter().all(|kind| *kind == Kind::DiskHangs);
        let keys = self.keys();
        let Some(config) = keys.config.as_ref().map(|config| &config.value) else { return };
        let hung: Vec<usize> = (0..self.nodes.len()).filter(|n| self.hang(*n).is_some()).collect();
        // Who has no copy yet cannot lead.
        let copied = self.nodes.iter().all(|node| node.disk.content == Content::Cluster);
        // Nor can who lies too far behind, unless a person says so.
        let optime = keys.status.as_ref().and_then(|status| status.value.optime);
        let lags = |node: &Node| {
            let lag = optime.map_or(0, |end| end.bytes_since(Lsn(node.disk.pos.lsn)));
            lag > config.maximum_lag_on_failover
        };
        // Nor can who has WAL that the leader was promoted without, before it has been rewound from it.
        let holder =
            keys.lease().and_then(|lease| self.nodes.iter().find(|node| node.name == lease.holder));
        let forked = |node: &Node| {
            holder.is_some_and(|leader| self.wal.needs_rewind(node.disk.pos, leader.disk.pos))
        };
        let near = (0..self.nodes.len()).any(|n| {
            let node = &self.nodes[n];
            let up = node.server.recovery && node.server.answers();
            self.hang(n).is_none() && up && !lags(node) && !forked(node)
        });
        let leads = !copied || !near || self.nodes.iter().any(|node| node.writes(self.t));
        let off = config.synchronous_mode == SynchronousMode::Off;
        let judged = only && !leads && self.nodes.len() >= 3 && off && !config.pause;
        // Another one that hangs is another fault.
        let before = self.leaderless.take();
        let [hung] = hung[..] else { return };
        if !judged {
            return;
        }
        let since = before.filter(|(node, _)| *node == hung).map_or(self.t, |(_, since)| since);
        self.leaderless = Some((hung, since));
        let patience = config.unhealthy_timeout.unwrap_or_default() + challenger_wait(config.ttl);
        if self.t > since + micros(patience) + UNDER_WAY {
            self.oracle.report(self.t, "nobody leads, although only one disk hangs".to_owned());
        }
    }

    /// Who cannot end its PostgreSQL keeps nobody from leading.
    pub(crate) fn must_not_renew(&mut self, old: &Snapshot, new: &Snapshot) {
        let Some(lease) = new.lease().filter(|lease| old.lease() != Some(*lease)) else { return };
        // One without an end gets one when the pause is over.
        if old.lease().is_some_and(|old| old.open) && !lease.open {
            return;
        }
        let Some(n) = self.names.iter().position(|name| *name == lease.holder) else { return };
        let node = &self.nodes[n];
        let Some((_, began)) = node.agent.as_ref().and_then(|agent| agent.killing) else { return };
        let awake = began.max(node.frozen[LOOP]).max(node.frozen[LEASE]);
        let ttl = Duration::from_millis(lease.ttl_ms);
        let over = awake + micros(margin(ttl)) + UNDER_WAY;
        let dying = node.powered && node.server.stage == Stage::Dying;
        if dying && self.t > over && lease.state == LeaseState::Held {
            let text = format!("{} renews its lease although PostgreSQL cannot end", node.name);
            self.oracle.report(self.t, text);
        }
    }
}
