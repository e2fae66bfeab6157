//! PostgreSQL's processes: start, recovery, promotion, stop, end.

use hart_ha::keeper::Hold;
use hart_ha::kv::SynchronousMode;
use hart_ha::observation::JobDone;
use hart_ha::time::Time;
use hart_ha::waits::Waits;

use crate::agent::lease::Order;
use crate::clock::{MS, SEC, Us};
use crate::event::{AtAgent, AtServer, Cause, Event};
use crate::mutation::Mutation;
use crate::node::{GUARD, Guard, POSTGRES};
use crate::pg::{Content, Server, Stage};
use crate::world::World;

/// Size of a checkpoint's record.
const CHECKPOINT: u64 = 120;

impl World {
    /// Starts the server under a new guard: as primary, or (`standby`) following somebody.
    pub fn start_server(
        &mut self,
        n: usize,
        standby: Option<Option<usize>>,
        hold: Option<Hold>,
    ) -> Result<JobDone, String> {
        let local = self.local(n);
        let quick = self.rng.range(30 * MS, 200 * MS);
        let recovery = self.rng.skewed(100 * MS, 3 * SEC);
        if self.nodes[n].has_stray() {
            return self.in_the_way();
        }
        let node = &mut self.nodes[n];
        let paused = node.agent.as_ref().is_some_and(|agent| agent.paused);
        if std::mem::take(&mut node.stopped_by_hand) && paused {
            let asked = node.agent.as_ref().map(|agent| &agent.seen.asked);
            if !asked.is_some_and(|asked| asked.restart || asked.reinit) {
                let text = format!("{} starts what a person stopped in a pause", node.name);
                self.oracle.report(self.t, text);
            }
        }
        let node = &mut self.nodes[n];
        if node.server.stage != Stage::Down {
            if node.server.writes() {
                let text = format!("{}: a second server is started on the same data", node.name);
                self.oracle.report(self.t, text);
            }
            return Err("a server runs already".to_owned());
        }
        if node.disk.content != Content::Cluster {
            return Err("there is no cluster in the data directory".to_owned());
        }
        let took = if node.disk.clean { quick } else { recovery };
        node.disk.altered = None;
        node.server = Server {
            stage: Stage::Starting,
            life: node.server.life + 1,
            recovery: standby.is_some(),
            upstream: standby.flatten(),
            sync: node.disk.sync_file.clone(),
            ..Server::default()
        };
        node.guard = Some(Guard { armed: hold, ..Guard::default() });
        // What was frozen were the processes before these.
        (node.frozen[GUARD], node.frozen[POSTGRES]) = (0, 0);
        (node.disk.clean, node.disk.fresh_backup) = (false, false);
        node.disk.was_primary = standby.is_none();
        node.disk.signal = standby.is_some();
        let life = node.server.life;
        if let Some(agent) = &mut node.agent {
            (agent.up_since, agent.first_armed, agent.stale) = (Some(local), hold, true);
            (agent.seen.local.sql, agent.proof) = (None, None);
            // A kill that met nothing, while this start was under way, is none of this server.
            agent.killing = None;
        }
        self.queue.push(self.t + took, Event::Server(n, life, AtServer::Started));
        self.lease_turn(n, Some(Order::GuardChanged));
        if hold.is_some() {
            self.watch_deadline(n);
        }
        self.schedule_look(n, MS);
        Ok(JobDone::Done)
    }

    /// An event at a live server that is not frozen.
    pub fn server_event(&mut self, n: usize, what: AtServer) {
        let stage = self.nodes[n].server.stage;
        match what {
            AtServer::Started if stage == Stage::Starting => self.started(n),
            AtServer::Promote if stage == Stage::Up => self.promote_begins(n),
            AtServer::ReadersGone if stage == Stage::Up => self.readers_gone(n),
            AtServer::CommandEnded if stage == Stage::Up => self.promotes(n, false),
            AtServer::Promoted if stage == Stage::Up => self.promoted(n),
            AtServer::Deadline => self.deadline(n),
            AtServer::FenceAsked => {
                if let Some(guard) = &mut self.nodes[n].guard {
                    guard.fencing = true;
                }
                self.kill_server(n);
            }
            AtServer::Gone => self.server_gone(n),
            AtServer::Stopped if stage == Stage::Stopping => self.stopped(n),
            AtServer::Connect if stage == Stage::Up => self.connect(n),
            AtServer::SyncApplied if stage == Stage::Up => self.sync_applied(n),
            _ => {}
        }
    }

    pub(crate) fn at_server_later(&mut self, n: usize, delay: Us, what: AtServer) {
        let life = self.nodes[n].server.life;
        self.queue.push(self.t + delay, Event::Server(n, life, what));
    }

    pub(crate) fn started(&mut self, n: usize) {
        let t = self.t;
        let server = &mut self.nodes[n].server;
        server.stage = Stage::Up;
        server.by_hand = server.by_hand.map(|_| t);
        if server.recovery {
            self.at_server_later(n, MS, AtServer::Connect);
        } else {
            self.nodes[n].server.closed = false;
            self.becomes_primary(n);
        }
        self.schedule_look(n, MS);
    }

    pub(crate) fn becomes_primary(&mut self, n: usize) {
        let pos = self.nodes[n].disk.pos;
        self.nodes[n].disk.control = pos.branch;
        self.say(n, || format!("PostgreSQL is primary at {pos:?}"));
        self.append_checkpoint(n);
        let by_hand = self.nodes[n].has_stray() || self.nodes[n].server.by_hand.is_some();
        // Who may be writable beside the one that revoked its lease may start again, too.
        if !self.is_undead(n) && !by_hand && !self.is_former(n) {
            self.oracle.primary(self.t, n, &self.names, pos, &self.wal);
            self.check_promotion(n);
        }
    }

    /// In synchronous mode whoever becomes primary has entered itself before.
    pub(crate) fn check_promotion(&mut self, n: usize) {
        let keys = self.keys();
        if !crate::oracle::sync_is_on(&keys) {
            return;
        }
        let leader = keys.sync.as_ref().and_then(|sync| sync.value.leader.clone());
        if leader.as_ref().is_some_and(|leader| *leader != self.names[n]) {
            let text = format!("{} is primary, sync is {leader:?}'s", self.names[n]);
            self.oracle.report(self.t, text);
        }
    }

    /// The control file names the timeline that was replayed.
    pub(crate) fn restartpoint(&mut self, n: usize) {
        self.nodes[n].disk.control = self.nodes[n].disk.pos.branch;
    }

    /// Writes a checkpoint's record.
    pub fn append_checkpoint(&mut self, n: usize) {
        let disk = &mut self.nodes[n].disk;
        disk.checkpoint = disk.pos.lsn;
        disk.pos.lsn += CHECKPOINT;
        self.pump_all(n);
    }

    /// `pg_promote()` is sent.
    pub fn promote(&mut self, n: usize) {
        // Only the guard can do it, and a PostgreSQL that was started past it has none.
        let Some(guard) = &mut self.nodes[n].guard else { return };
        guard.promotes = true;
        self.must_have_noted(n);
        let applied = self.nodes[n].agent.as_ref().and_then(|agent| agent.applied.as_ref());
        let strict = applied.is_some_and(|config| {
            config.synchronous_mode_strict && config.synchronous_mode != SynchronousMode::Off
        });
        if !strict {
            self.nodes[n].disk.sync_file = Waits::nobody();
        }
        self.nodes[n].server.by_hand = None;
        let delay = self.rng.skewed(MS, 100 * MS);
        self.at_server_later(n, delay, AtServer::Promote);
    }

    pub(crate) fn promote_begins(&mut self, n: usize) {
        let server = &mut self.nodes[n].server;
        if server.recovery && !std::mem::replace(&mut server.promoting, true) {
            self.cut_receiver(n);
            if !self.readers_hold_up(n) {
                self.promotes(n, true);
            }
        }
    }

    pub(crate) fn promoted(&mut self, n: usize) {
        if self.ends_in_its_promotion(n) {
            return;
        }
        let links: Vec<u64> = self.nodes[n].server.senders.iter().map(|s| s.link).collect();
        links.into_iter().for_each(|link| self.cut_link(link));
        let (t, pos) = (self.t, self.wal.fork(self.nodes[n].disk.pos));
        let node = &mut self.nodes[n];
        node.disk.pos = pos;
        (node.disk.was_primary, node.disk.signal) = (true, false);
        let server = &mut node.server;
        (server.recovery, server.closed, server.promoting) = (false, false, false);
        server.by_hand = server.by_hand.map(|_| t);
        server.upstream = None;
        server.sync.clone_from(node.disk.names());
        self.becomes_primary(n);
        self.schedule_look(n, MS);
    }

    /// Sends SIGQUIT or SIGKILL; what runs may write until it is gone.
    pub fn kill_server(&mut self, n: usize) {
        let slow = self.t < self.nodes[n].slow_fence_until;
        let took =
            if slow { self.rng.range(150 * MS, 280 * MS) } else { self.rng.range(1, 20 * MS) };
        let server = &mut self.nodes[n].server;
        if matches!(server.stage, Stage::Down | Stage::Dying) {
            return;
        }
        server.stage = Stage::Dying;
        let took = self.kill_takes(n, took);
        self.at_server_later(n, took, AtServer::Gone);
        if self.mutated(Mutation::DownReportedEarly) {
            self.after(n, MS, AtAgent::Life);
        }
    }

    /// The last process is gone.
    pub fn server_gone(&mut self, n: usize) {
        if self.nodes[n].server.stage == Stage::Down {
            return;
        }
        self.say(n, || "PostgreSQL is gone".to_owned());
        self.cut_all(n, true);
        let rests = !self.mutated(Mutation::RestIsWritable);
        let node = &mut self.nodes[n];
        let working = node.agent.as_ref().is_some_and(|agent| agent.job.is_some() || agent.fencing);
        // What hart does at the same moment is its own stop.
        node.stopped_by_hand &= !working;
        // A primary that a person stops in a pause is left as it is.
        let by_hand = node.guard.as_ref().is_some_and(|guard| {
            let endless = guard.armed.is_some_and(|armed| armed.deadline == Time::NEVER);
            endless && !guard.fencing && !working && !node.server.recovery
        });
        node.server.stage = Stage::Down;
        node.server.closed = true;
        node.server.waiting.clear();
        node.disk.signal |=
            rests && !by_hand && node.guard.as_ref().is_some_and(|guard| !guard.dead);
        node.guard = None;
        let delay = self.rng.range(200, 2 * MS);
        self.after(n, delay, AtAgent::Life);
    }

    pub(crate) fn stopped(&mut self, n: usize) {
        self.nodes[n].disk.clean = true;
        if !self.mutated(Mutation::LaggingTimelineBelieved) {
            self.restartpoint(n);
        }
        self.server_gone(n);
    }

    /// Asks the server to stop in good order.
    pub fn stop_server(&mut self, n: usize) {
        let slow = self.t < self.nodes[n].slow_until;
        let server = &mut self.nodes[n].server;
        match (server.stage, server.recovery) {
            (Stage::Up, false) => {
                (server.stage, server.closed) = (Stage::Stopping, true);
                server.waiting.clear();
                self.append_checkpoint(n);
                let limit = if slow { 20 * SEC } else { 6 * SEC };
                self.at_server_later(n, limit, AtServer::Stopped);
                self.maybe_stopped(n);
            }
            (Stage::Up, true) => {
                server.stage = Stage::Stopping;
                let took = self.rng.range(5 * MS, 150 * MS);
                self.at_server_later(n, took, AtServer::Stopped);
            }
            (Stage::Starting, _) => self.kill_server(n),
            _ => {}
        }
    }

    /// A stopping primary is gone when every connected standby has the last record.
    pub(crate) fn maybe_stopped(&mut self, n: usize) {
        let (server, end) = (&self.nodes[n].server, self.nodes[n].disk.pos.lsn);
        let all = server.senders.iter().all(|sender| sender.acked >= end);
        if server.stage == Stage::Stopping && !server.recovery && all {
            let took = self.rng.range(5 * MS, 60 * MS);
            self.at_server_later(n, took, AtServer::Stopped);
        }
    }

    /// The agent learns that the server came or went.
    pub fn life_changed(&mut self, n: usize) {
        let early = self.mutated(Mutation::DownReportedEarly);
        let node = &mut self.nodes[n];
        let stage = node.server.stage;
        let down = node.guard.is_none() || early && stage == Stage::Dying;
        let Some(agent) = &mut node.agent else { return };
        if !down {
            return;
        }
        agent.up_since = None;
        (agent.first_armed, agent.stale, agent.proof) = (None, true, None);
        agent.seen.local.sql = None;
        if stage == Stage::Down {
            agent.seen.local.stray = None;
        }
        let stopping = agent.job.as_ref().is_some_and(|running| Self::stops(&running.job));
        self.lease_turn(n, Some(Order::GuardChanged));
        if stopping {
            self.job_ended(n, Ok(JobDone::Done));
        }
        if self.nodes[n].agent.as_ref().is_some_and(|agent| agent.fencing) {
            self.after(n, 100, AtAgent::Fenced);
        }
        self.wake(n, Cause::Server);
    }
}
