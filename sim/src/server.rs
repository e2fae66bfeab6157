//! PostgreSQL's processes and their guard: start, recovery, promotion, replication, stop, fence.

use hart_ha::keeper::Hold;
use hart_ha::observation::JobDone;
use hart_ha::store::Snapshot;

use crate::clock::{MS, SEC, Us};
use crate::event::{AtAgent, AtServer, Cause, Event};
use crate::faults::Kind;
use crate::lease::Order;
use crate::mutation::Mutation;
use crate::node::{GUARD, Guard, POSTGRES};
use crate::pg::{Content, Receiver, Sender, Server, Stage, Waiting};
use crate::wal::Pos;
use crate::world::World;

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);
const SETTLED: std::time::Duration = std::time::Duration::from_secs(2);
/// Size of a checkpoint's record.
const CHECKPOINT: u64 = 120;
/// A connection through which nothing gets for so long is given up.
const DEAD: Us = 10 * SEC;
/// `wal_retrieve_retry_interval`.
const RECONNECT: Us = 500 * MS;

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
        node.server = Server {
            stage: Stage::Starting,
            life: node.server.life + 1,
            recovery: standby.is_some(),
            upstream: standby.flatten(),
            sync: node.disk.sync_file.clone(),
            ..Server::default()
        };
        node.guard = Some(Guard { armed: hold, ..Guard::default() });
        (node.disk.clean, node.disk.fresh_backup) = (false, false);
        node.disk.was_primary = standby.is_none();
        let life = node.server.life;
        if let Some(agent) = &mut node.agent {
            (agent.up_since, agent.first_armed, agent.stale) = (Some(local), hold, true);
            (agent.seen.local.sql, agent.proof) = (None, None);
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

    fn at_server_later(&mut self, n: usize, delay: Us, what: AtServer) {
        let life = self.nodes[n].server.life;
        self.queue.push(self.t + delay, Event::Server(n, life, what));
    }

    fn started(&mut self, n: usize) {
        let server = &mut self.nodes[n].server;
        server.stage = Stage::Up;
        if server.recovery {
            self.at_server_later(n, MS, AtServer::Connect);
        } else {
            self.nodes[n].server.closed = false;
            self.becomes_primary(n);
        }
        self.schedule_look(n, MS);
    }

    fn becomes_primary(&mut self, n: usize) {
        let pos = self.nodes[n].disk.pos;
        self.say(n, || format!("PostgreSQL is primary at {pos:?}"));
        self.append_checkpoint(n);
        if !self.is_undead(n) {
            self.oracle.primary(self.t, n, &self.names, pos, &self.wal);
            self.check_promotion(n);
        }
    }

    /// Woken up before its guard, which was frozen when the deadline came and fences it now.
    fn is_undead(&self, n: usize) -> bool {
        let guard = self.nodes[n].guard.as_ref();
        let overdue = |guard: &Guard| guard.armed.is_some_and(|a| self.local(n) >= a.deadline);
        let frozen = self.nodes[n].is_frozen(GUARD, self.t);
        guard.is_some_and(|guard| guard.late || frozen && overdue(guard))
    }

    /// In synchronous mode whoever becomes primary has entered itself before.
    fn check_promotion(&mut self, n: usize) {
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

    /// Writes a checkpoint's record.
    pub fn append_checkpoint(&mut self, n: usize) {
        let disk = &mut self.nodes[n].disk;
        disk.checkpoint = disk.pos.lsn;
        disk.pos.lsn += CHECKPOINT;
        self.pump_all(n);
    }

    /// `pg_promote()` is sent.
    pub fn promote(&mut self, n: usize) {
        let delay = self.rng.skewed(MS, 100 * MS);
        self.at_server_later(n, delay, AtServer::Promote);
    }

    fn promote_begins(&mut self, n: usize) {
        let slow = self.t < self.nodes[n].slow_until;
        let server = &mut self.nodes[n].server;
        if server.recovery && !std::mem::replace(&mut server.promoting, true) {
            let took = self.rng.skewed(15 * MS, if slow { 3 * SEC } else { 300 * MS });
            self.cut_receiver(n);
            self.at_server_later(n, took, AtServer::Promoted);
        }
    }

    fn promoted(&mut self, n: usize) {
        let links: Vec<u64> = self.nodes[n].server.senders.iter().map(|s| s.link).collect();
        links.into_iter().for_each(|link| self.cut_link(link));
        let pos = self.wal.fork(self.nodes[n].disk.pos);
        let node = &mut self.nodes[n];
        node.disk.pos = pos;
        node.disk.was_primary = true;
        let server = &mut node.server;
        (server.recovery, server.closed, server.promoting) = (false, false, false);
        server.upstream = None;
        server.sync.clone_from(&node.disk.sync_file);
        self.becomes_primary(n);
        self.schedule_look(n, MS);
    }

    /// The guard looks at the clock; only then at what has come meanwhile.
    fn deadline(&mut self, n: usize) {
        let now = self.local(n);
        if self.mutated(Mutation::GuardIgnoresDeadline) {
            return;
        }
        let Some(guard) = &mut self.nodes[n].guard else { return };
        let Some(armed) = guard.armed.filter(|_| !guard.fencing) else { return };
        if now >= armed.deadline {
            guard.fencing = true;
            self.say(n, || format!("guard: deadline of term {} passed, fencing", armed.term));
            return self.kill_server(n);
        }
        let queued = std::mem::take(&mut guard.queued);
        if let Some(last) = queued.into_iter().next_back() {
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
        let node = &mut self.nodes[n];
        node.server.stage = Stage::Down;
        node.server.closed = true;
        node.server.waiting.clear();
        node.guard = None;
        let delay = self.rng.range(200, 2 * MS);
        self.after(n, delay, AtAgent::Life);
    }

    fn stopped(&mut self, n: usize) {
        self.nodes[n].disk.clean = true;
        self.server_gone(n);
    }

    /// The agent learns that the server came or went.
    pub fn life_changed(&mut self, n: usize) {
        let early = self.mutated(Mutation::DownReportedEarly);
        let node = &mut self.nodes[n];
        let stage = node.server.stage;
        let down = stage == Stage::Down || early && stage == Stage::Dying;
        let Some(agent) = &mut node.agent else { return };
        if !down {
            return;
        }
        agent.up_since = None;
        (agent.first_armed, agent.stale, agent.proof) = (None, true, None);
        agent.seen.local.sql = None;
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

    /// The agent has the server fenced.
    pub fn fence(&mut self, n: usize) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if std::mem::replace(&mut agent.fencing, true) {
            return;
        }
        if self.nodes[n].server.stage == Stage::Down {
            return self.after(n, MS, AtAgent::Fenced);
        }
        self.at_server_later(n, 100, AtServer::FenceAsked);
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
    fn maybe_stopped(&mut self, n: usize) {
        let (server, end) = (&self.nodes[n].server, self.nodes[n].disk.pos.lsn);
        let all = server.senders.iter().all(|sender| sender.acked >= end);
        if server.stage == Stage::Stopping && !server.recovery && all {
            let took = self.rng.range(5 * MS, 60 * MS);
            self.at_server_later(n, took, AtServer::Stopped);
        }
    }

    /// The setting in the file is in force now.
    pub fn sync_applied(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.server.sync.clone_from(&node.disk.sync_file);
        self.confirm(n);
    }

    /// A reload with another upstream.
    pub fn set_upstream(&mut self, n: usize, upstream: Option<usize>) {
        if self.nodes[n].server.upstream != upstream {
            self.nodes[n].server.upstream = upstream;
            self.cut_receiver(n);
            self.at_server_later(n, 5 * MS, AtServer::Connect);
        }
    }

    fn connect(&mut self, n: usize) {
        let server = &self.nodes[n].server;
        if server.receiver.is_some() || !server.recovery || server.promoting {
            return;
        }
        let Some(u) = server.upstream else { return };
        if !self.accepts(n, u) {
            return self.at_server_later(n, RECONNECT, AtServer::Connect);
        }
        let mine = self.nodes[n].disk.pos;
        let link = self.number();
        self.nodes[n].server.receiver = Some(Receiver { from: u, link });
        let sender = Sender { to: n, link, acked: mine.lsn, busy: false, stuck: None };
        self.nodes[u].server.senders.push(sender);
        self.pump(u, link);
    }

    /// Does `u` let `n` stream? By timeline IDs and positions, as PostgreSQL does.
    fn accepts(&self, n: usize, u: usize) -> bool {
        let (here, there) = (&self.nodes[n], &self.nodes[u]);
        let open = u != n && self.net.open(n, u) && self.net.open(u, n);
        let alive = there.powered && there.server.answers() && !there.is_frozen(POSTGRES, self.t);
        if !open || !alive || here.disk.system_id != there.disk.system_id {
            return false;
        }
        let mine = here.disk.pos;
        let end = self.wal.end_of_timeline(there.disk.pos, self.wal.timeline(mine.branch));
        // Where two promotions made the same number, the numbers fit and the WAL does not: the
        // standby finds an incorrect prev-link and gives up, again and again.
        end.is_some_and(|end| end.lsn >= mine.lsn) && self.wal.has(there.disk.pos, mine)
    }

    fn pump_all(&mut self, n: usize) {
        let links: Vec<u64> = self.nodes[n].server.senders.iter().map(|s| s.link).collect();
        links.into_iter().for_each(|link| self.pump(n, link));
    }

    /// Sends what a standby has not got, one message at a time.
    pub fn pump(&mut self, from: usize, link: u64) {
        let (t, pos) = (self.t, self.nodes[from].disk.pos);
        let frozen = self.nodes[from].frozen[POSTGRES];
        let powered: Vec<bool> = self.nodes.iter().map(|node| node.powered).collect();
        let senders = &mut self.nodes[from].server.senders;
        let Some(sender) = senders.iter_mut().find(|sender| sender.link == link) else { return };
        if sender.busy || sender.acked >= pos.lsn {
            return;
        }
        if t < frozen {
            return self.queue.push(frozen + MS, Event::Pump { from, link });
        }
        let to = sender.to;
        if self.net.open(from, to) && powered[to] {
            (sender.busy, sender.stuck) = (true, None);
            let delay = self.net.delay(&mut self.rng, from, to);
            return self.queue.push(t + delay, Event::Wal { to, link, pos });
        }
        let since = *sender.stuck.get_or_insert(t);
        if t > since + DEAD {
            return self.cut_link(link);
        }
        self.queue.push(t + self.rng.range(200 * MS, 500 * MS), Event::Pump { from, link });
    }

    /// WAL arrives at a standby, and its confirmation leaves.
    pub fn wal_arrives(&mut self, n: usize, link: u64, pos: Pos) {
        let node = &mut self.nodes[n];
        let Some(receiver) = node.server.receiver.filter(|r| r.link == link) else { return };
        if !node.powered || !matches!(node.server.stage, Stage::Up | Stage::Stopping) {
            return;
        }
        if node.server.promoting {
            return;
        }
        if pos.branch != node.disk.pos.branch || pos.lsn > node.disk.pos.lsn {
            node.disk.pos = pos;
        }
        self.pump_all(n);
        let to = receiver.from;
        if self.net.open(n, to) {
            let delay = self.net.delay(&mut self.rng, n, to);
            return self.queue.push(self.t + delay, Event::Ack { to, link, lsn: pos.lsn });
        }
        // TCP sends it again.
        let again = self.t + self.rng.range(200 * MS, 500 * MS);
        self.queue.push(again, Event::Wal { to: n, link, pos });
    }

    /// A standby's confirmation arrives.
    pub fn ack_arrives(&mut self, n: usize, link: u64, lsn: u64) {
        let senders = &mut self.nodes[n].server.senders;
        let Some(sender) = senders.iter_mut().find(|sender| sender.link == link) else { return };
        sender.acked = sender.acked.max(lsn);
        sender.busy = false;
        self.confirm(n);
        self.pump(n, link);
        self.maybe_stopped(n);
    }

    /// Acknowledges the commits that everybody has confirmed.
    fn confirm(&mut self, n: usize) {
        let upto = self.nodes[n].server.confirmed(&self.names);
        let server = &mut self.nodes[n].server;
        if server.waiting.is_empty() || !server.writes() {
            return;
        }
        let (done, rest): (Vec<_>, Vec<_>) =
            server.waiting.drain(..).partition(|waiting| waiting.at.lsn <= upto);
        server.waiting = rest;
        for waiting in done {
            self.acknowledge(n, waiting);
        }
    }

    fn acknowledge(&mut self, n: usize, waiting: Waiting) {
        let keys = self.keys();
        // A frozen primary whose mode was asynchronous when its lease ended.
        let late = self.nodes[n].guard.as_ref().is_some_and(|guard| guard.late);
        let forgotten = [Kind::SyncChanged, Kind::StoreWiped];
        let switched = self.plan.kinds.iter().any(|kind| forgotten.contains(kind));
        if late && (switched || self.nodes[n].server.sync.is_empty()) {
            return;
        }
        self.oracle.acknowledged(self.t, n, &self.names, waiting.at, &keys);
        let pos = |name: &str| {
            let found = self.names.iter().position(|known| known == name)?;
            Some(self.nodes[found].disk.pos)
        };
        self.oracle.check_late(pos, &keys, &self.wal);
    }

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
            self.nodes[n].server.waiting.push(Waiting { write, at });
            self.confirm(n);
            self.pump_all(n);
        }
    }

    /// A standby's connection ends.
    fn cut_receiver(&mut self, n: usize) {
        if let Some(receiver) = self.nodes[n].server.receiver {
            self.cut_link(receiver.link);
        }
    }

    /// A connection ends at both ends.
    pub fn cut_link(&mut self, link: u64) {
        for n in 0..self.nodes.len() {
            self.nodes[n].server.senders.retain(|sender| sender.link != link);
            let receiver = &mut self.nodes[n].server.receiver;
            if receiver.is_some_and(|receiver| receiver.link == link) {
                *receiver = None;
                self.at_server_later(n, 50 * MS, AtServer::Connect);
            }
            self.maybe_stopped(n);
        }
    }

    /// All connections of a server end. `told`: the other ends notice at once.
    pub fn cut_all(&mut self, n: usize, told: bool) {
        let server = &self.nodes[n].server;
        let mut links: Vec<(usize, u64)> = server.senders.iter().map(|s| (s.to, s.link)).collect();
        links.extend(server.receiver.map(|r| (r.from, r.link)));
        for (other, link) in links {
            if told && self.net.open(n, other) {
                self.cut_link(link);
            } else {
                self.queue.push(self.t + DEAD, Event::Cut { link });
            }
        }
        let server = &mut self.nodes[n].server;
        server.senders.clear();
        server.receiver = None;
    }

    /// The lease has a new holder by the old one's own hand: has the heir everything?
    pub fn note_handover(&mut self, old: &Snapshot, new: &Snapshot) {
        let (Some(from), Some(to)) = (old.lease(), new.lease()) else { return };
        if from.holder == to.holder || !from.is_held() {
            return;
        }
        let find = |name: &str| self.names.iter().position(|known| known == name);
        let (Some(giver), Some(heir)) = (find(&from.holder), find(&to.holder)) else { return };
        let orderly = self.nodes[giver].disk.clean && self.nodes[giver].disk.was_primary;
        if orderly && self.nodes[giver].server.stage == Stage::Down && self.handing(giver) {
            let pos = self.nodes[heir].disk.pos;
            self.oracle.handed_over(self.t, giver, pos, &self.names, &self.wal);
        }
    }

    /// The lease was taken over: was there a better node that could be asked and could lead?
    pub fn note_takeover(&mut self, n: usize, old: &Snapshot, new: &Snapshot) {
        let (Some(from), Some(to)) = (old.lease(), new.lease()) else { return };
        let forced = old.failover.as_ref().is_some_and(|request| request.value.member.is_some());
        if from.term >= to.term || to.holder != self.names[n] || forced {
            return;
        }
        // Later the winner need not be the best any more: its patience is over.
        let ttl = from.ttl_ms * MS;
        if self.t > self.renewed + ttl * 17 / 10
            || self.t < self.mended + 2 * SEC
            || self.disturbed()
        {
            return;
        }
        // While a frozen primary still sends, positions move.
        if self.nodes.iter().any(|node| node.server.writes()) {
            return;
        }
        let better = (0..self.nodes.len()).find(|other| *other != n && self.is_better(*other, n));
        if let Some(other) = better {
            let (winner, better) = (&self.names[n], &self.names[other]);
            let text = format!("{winner} took over although {better} has more and may lead");
            self.oracle.report(self.t, text);
        }
    }

    /// Is anything but the old primary out of order, now or a moment ago?
    fn disturbed(&self) -> bool {
        let shaken = |node: &crate::node::Node| {
            let thawed = node.frozen.iter().any(|until| *until + SEC > self.t);
            thawed || self.t < node.slow_until
        };
        let running = |node: &&crate::node::Node| node.agent.is_some() && node.server.recovery;
        self.nodes.iter().filter(running).any(shaken) || self.net.is_disturbed()
    }

    fn is_better(&self, other: usize, n: usize) -> bool {
        let (there, here) = (&self.nodes[other], &self.nodes[n]);
        let able = there.powered && there.server.answers() && there.server.recovery;
        let known = self.local(other);
        let says = there.agent.as_ref().is_some_and(|agent| {
            let looked = agent.seen.local.sql.as_ref();
            // One that has just come up was not there when the others were asked.
            let there_already = agent.up_since.is_some_and(|since| known.since(since) > SETTLED);
            agent.view.may_lead
                && there_already
                && looked.is_some_and(|sql| known.since(sql.at) < HOUR)
        });
        let rank = |pos: Pos| (self.wal.timeline(pos.branch), pos.lsn);
        able && says && rank(there.disk.pos) > rank(here.disk.pos)
    }

    fn handing(&self, giver: usize) -> bool {
        let handing = |agent: &crate::node::Agent| agent.last_order_was_handover;
        self.nodes[giver].agent.as_ref().is_some_and(|agent| handing(agent))
    }
}
