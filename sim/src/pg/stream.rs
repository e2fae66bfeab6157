//! Streaming replication.

use crate::clock::{MS, SEC, Us};
use crate::event::{AtServer, Event};
use crate::node::{Node, POSTGRES};
use crate::pg::wal::Pos;
use crate::pg::{Receiver, Sender, Stage};
use crate::world::World;

/// A connection through which nothing gets for so long is given up.
const DEAD: Us = 10 * SEC;
/// `wal_retrieve_retry_interval`.
const RECONNECT: Us = 500 * MS;

impl World {
    /// A reload with another upstream.
    pub fn set_upstream(&mut self, n: usize, upstream: Option<usize>) {
        if self.nodes[n].server.upstream != upstream {
            self.nodes[n].server.upstream = upstream;
            self.cut_receiver(n);
            self.at_server_later(n, 5 * MS, AtServer::Connect);
        }
    }

    pub(crate) fn connect(&mut self, n: usize) {
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
    pub(crate) fn accepts(&self, n: usize, u: usize) -> bool {
        let (here, there) = (&self.nodes[n], &self.nodes[u]);
        let open = u != n && self.net.open(n, u) && self.net.open(u, n);
        let alive = there.powered && there.server.answers() && !there.is_frozen(POSTGRES, self.t);
        // The slot is in use as long as the last sender is not known to be of no use.
        let slot = there.server.senders.iter().all(|sender| sender.to != n);
        if !open || !alive || !slot || here.disk.system_id != there.disk.system_id {
            return false;
        }
        let mine = here.disk.pos;
        let end = self.wal.end_of_timeline(there.disk.pos, self.wal.timeline(mine.branch));
        // Where two promotions made the same number, the numbers fit and the WAL does not: the
        // standby finds an incorrect prev-link and gives up, again and again.
        end.is_some_and(|end| end.lsn >= mine.lsn) && self.wal.has(there.disk.pos, mine)
    }

    pub(crate) fn pump_all(&mut self, n: usize) {
        let link = |world: &Self, at: usize| world.nodes[n].server.senders.get(at).map(|s| s.link);
        let mut at = 0;
        while let Some(found) = link(self, at) {
            self.pump(n, found);
            // A dead connection is gone then.
            at += usize::from(link(self, at) == Some(found));
        }
    }

    /// Sends what a standby has not got, one message at a time.
    pub fn pump(&mut self, from: usize, link: u64) {
        let (t, pos) = (self.t, self.nodes[from].disk.pos);
        let frozen = self.nodes[from].frozen[POSTGRES];
        let found = |sender: &&Sender| sender.link == link;
        let to = self.nodes[from].server.senders.iter().find(found).map_or(from, |s| s.to);
        let powered = self.nodes[to].powered;
        let senders = &mut self.nodes[from].server.senders;
        let Some(sender) = senders.iter_mut().find(|sender| sender.link == link) else { return };
        if sender.busy || sender.acked >= pos.lsn {
            return;
        }
        if t < frozen {
            return self.queue.push(frozen + MS, Event::Pump { from, link });
        }
        if self.net.open(from, to) && powered {
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
        let Some(receiver) = node.server.receiver.filter(|r| r.link == link) else {
            return self.nobody_receives(n, link, pos);
        };
        if !node.powered || !matches!(node.server.stage, Stage::Up | Stage::Stopping) {
            return;
        }
        if node.server.promoting {
            return;
        }
        if pos.branch != node.disk.pos.branch || pos.lsn > node.disk.pos.lsn {
            node.disk.pos = pos;
            // Now and then a page is written.
            if self.rng.chance(2) {
                self.restartpoint(n);
            }
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

    /// The process is gone, and the machine says so.
    fn nobody_receives(&mut self, n: usize, link: u64, pos: Pos) {
        let sends = |node: &Node| node.server.senders.iter().any(|sender| sender.link == link);
        let Some(from) = self.nodes.iter().position(sends).filter(|_| self.nodes[n].powered) else {
            return;
        };
        if self.net.open(n, from) {
            let delay = self.net.delay(&mut self.rng, n, from);
            return self.queue.push(self.t + delay, Event::Cut { link });
        }
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

    /// A standby's connection ends.
    pub(crate) fn cut_receiver(&mut self, n: usize) {
        if let Some(receiver) = self.nodes[n].server.receiver {
            self.cut_link(receiver.link);
        }
    }

    /// A machine that is up again knows nothing of its connections, and says so when asked.
    pub fn reset_old_connections(&mut self, n: usize) {
        let links = |from: usize| {
            let senders = self.nodes[from].server.senders.iter().filter(move |s| s.to == n);
            let receiver = self.nodes[from].server.receiver.filter(move |r| r.from == n);
            senders.map(|s| s.link).chain(receiver.map(|r| r.link)).collect::<Vec<_>>()
        };
        let reached = |from: &usize| self.net.open(*from, n) && self.net.open(n, *from);
        let found: Vec<u64> = (0..self.nodes.len()).filter(reached).flat_map(links).collect();
        for link in found {
            self.queue.push(self.t + 300 * MS, Event::Cut { link });
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
}
