//! All members in virtual time, in steps of [`TICK`].

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::brain::Decision;
use hart_ha::command::{Command, Write};
use hart_ha::lsn::{Lsn, Timeline};
use hart_ha::observation::{Sql, Standby};
use hart_ha::time::Time;

use super::fault::Fault;
use super::look::Look;
use super::node::{Node, PROMOTION};
use super::store::Store;

/// The grain of virtual time.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Consul ends a session twice its ttl after its last renewal (`session_ttl.go`), and hart's is 10 s.
const SESSION_ENDS: Duration = Duration::from_secs(20);

/// Something that happened, so long after the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happened {
    pub after: Duration,
    pub node: String,
    pub what: String,
}

/// See the module's text.
pub(super) struct World {
    pub now: Time,
    pub nodes: Vec<Node>,
    pub happened: Vec<Happened>,
    store: Store,
    fault: Option<(Fault, Time)>,
    ttl: Duration,
    /// Ends of timelines, by the next one: whose WAL behind them is in nobody else's history.
    forks: BTreeMap<Timeline, (Timeline, Lsn)>,
    said: BTreeMap<String, Vec<String>>,
    sights: BTreeMap<String, Sight>,
}

/// What is told when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sight {
    term: Option<u64>,
    writable: bool,
    streams_from: Option<String>,
    by_promises: bool,
}

impl World {
    /// The cluster as it is, without a fault.
    pub fn new(look: &Look) -> Self {
        let now = Time::from_millis(1_000_000);
        let nodes: Vec<Node> =
            look.members.values().map(|seen| Node::new(seen, &look.snapshot, now)).collect();
        let config = look.snapshot.config.as_ref().map(|c| c.value.clone()).unwrap_or_default();
        Self {
            now,
            nodes,
            happened: Vec::new(),
            store: Store::new(look.snapshot.clone()),
            fault: None,
            ttl: config.ttl,
            forks: BTreeMap::new(),
            said: BTreeMap::new(),
            sights: BTreeMap::new(),
        }
    }

    /// Lets the brains find their places, and ends just after a renewal of the lease: whatever
    /// happens next has the whole lease before it. False: nobody leads after a minute.
    pub fn settle(&mut self) -> bool {
        let start = self.now;
        let least = start + self.ttl;
        while self.now.since(start) < Duration::from_secs(60) + self.ttl {
            let before =
                self.leader().and_then(|node| node.hold(self.now)).map(|hold| hold.deadline);
            self.tick();
            let after =
                self.leader().and_then(|node| node.hold(self.now)).map(|hold| hold.deadline);
            if self.now > least && before.is_some() && before < after {
                return true;
            }
        }
        false
    }

    /// From now on.
    pub fn break_down(&mut self, fault: Fault) {
        self.happened.clear();
        self.fault = Some((fault, self.now));
    }

    /// Goes on for so long; `each` sees the world after every step.
    pub fn run(&mut self, time: Duration, mut each: impl FnMut(&Self)) {
        let end = self.now + time;
        while self.now < end {
            self.tick();
            each(self);
        }
    }

    /// Who may be written to.
    pub fn leader(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| self.lives(&node.name) && node.writable(self.now))
    }

    /// Does its host run?
    pub fn lives(&self, name: &str) -> bool {
        self.fault.as_ref().is_none_or(|(fault, _)| fault.lives(name))
    }

    /// How long ago things broke down.
    pub fn since_fault(&self) -> Duration {
        self.fault.as_ref().map_or(Duration::ZERO, |(_, at)| self.now.since(*at))
    }

    fn reaches_consul(&self, name: &str) -> bool {
        self.fault.as_ref().is_none_or(|(fault, _)| fault.reaches_consul(name))
    }

    fn connects(&self, a: &str, b: &str) -> bool {
        self.fault.as_ref().is_none_or(|(fault, _)| fault.connects(a, b))
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        self.end_sessions();
        self.replicate();
        for at in 0..self.nodes.len() {
            let name = self.nodes[at].name.clone();
            if !self.lives(&name) || self.nodes[at].exited {
                continue;
            }
            self.lease(at);
            self.ask_for_promises(at);
            self.postgres(at);
            self.decide(at);
            self.tell(at);
        }
    }

    /// The watch, the keeper's requests, the guard.
    fn lease(&mut self, at: usize) {
        let reaches = self.reaches_consul(&self.nodes[at].name);
        let node = &mut self.nodes[at];
        let store = &mut self.store;
        node.look(self.now, reaches.then_some(&*store));
        let request = node.keeper.tick(self.now);
        node.send(self.now, request, reaches.then_some(store));
        if node.guard(self.now) {
            self.note(at, "the lease is over: the guard has killed PostgreSQL");
        }
    }

    fn ask_for_promises(&mut self, at: usize) {
        let Some(round) = self.nodes[at].keeper.ask(self.now) else { return };
        let name = self.nodes[at].name.clone();
        for (member, (_, question)) in &round.questions {
            let reached = self.connects(&name, member);
            let other = self.nodes.iter_mut().find(|node| node.name == *member && !node.exited);
            let given = other.filter(|_| reached).and_then(|node| {
                let promise = node.keeper.promise(self.now, question, true);
                promise.is_ok().then(|| node.keeper.identity())
            });
            self.nodes[at].keeper.heard(self.now, round.id, member, given.as_ref());
        }
    }

    fn postgres(&mut self, at: usize) {
        let now = self.now;
        if self.nodes[at].promote_at.is_some_and(|due| due <= now) {
            self.promoted(at);
        }
        let name = self.nodes[at].name.clone();
        let verdicts: BTreeMap<String, Option<bool>> = self
            .nodes
            .iter()
            .map(|other| {
                let there = self.lives(&other.name)
                    && self.connects(&name, &other.name)
                    && other.is_primary();
                (other.name.clone(), there.then(|| self.diverged(&self.nodes[at], other)))
            })
            .collect();
        self.nodes[at].work(now, |name| verdicts.get(name).copied().flatten());
    }

    fn promoted(&mut self, at: usize) {
        let Some(sql) = &mut self.nodes[at].local.sql else { return };
        let (old, end) = (sql.timeline, sql.position());
        let newest = self.forks.keys().last().copied().unwrap_or(0).max(old);
        (sql.in_recovery, sql.timeline, sql.write_lsn, sql.streaming) =
            (false, newest + 1, end, false);
        self.forks.insert(newest + 1, (old, end));
        let node = &mut self.nodes[at];
        node.promote_at = None;
        node.local.upstream = None;
        node.local.history.push((old, end, "simulated".to_owned()));
    }

    /// Has `node` WAL that is not in `leader`'s history?
    fn diverged(&self, node: &Node, leader: &Node) -> bool {
        let (timeline, position) = match (&node.local.sql, &node.local.control) {
            (Some(sql), _) => (sql.timeline, sql.position()),
            (None, Some(control)) => (control.timeline, control.checkpoint),
            _ => return false,
        };
        let mut theirs = leader.local.sql.as_ref().map_or(0, |sql| sql.timeline);
        while theirs > timeline {
            let Some((older, end)) = self.forks.get(&theirs) else { return false };
            if *older == timeline {
                return position > *end;
            }
            theirs = *older;
        }
        theirs < timeline
    }

    /// Standbys get what their primary has. Before the fault everybody stays where it was seen.
    fn replicate(&mut self) {
        let moving = self.fault.is_some();
        let rows_stay = self.since_fault() < self.ttl;
        for at in 0..self.nodes.len() {
            let source =
                self.nodes[at].local.upstream.as_ref().map(|upstream| upstream.name.clone());
            let from = self.nodes[at].local.upstream.as_ref().map(|up| (up.host.clone(), up.port));
            let leader =
                source.and_then(|name| self.nodes.iter().position(|node| node.name == name));
            let streams = leader.is_some_and(|leader| self.streams(at, leader));
            let end = leader.and_then(|leader| {
                let sql = self.nodes[leader].local.sql.as_ref()?;
                Some((sql.timeline, sql.write_lsn))
            });
            let Some(sql) = &mut self.nodes[at].local.sql else { continue };
            sql.streaming = streams && sql.in_recovery;
            sql.receives_from = from.filter(|_| sql.streaming);
            if let Some((timeline, lsn)) = end.filter(|_| sql.streaming && moving) {
                let lsn = lsn.max(sql.position());
                (sql.timeline, sql.receive_lsn, sql.replay_lsn) = (timeline, lsn, lsn);
            }
        }
        for at in 0..self.nodes.len() {
            self.rows(at, rows_stay);
        }
    }

    fn streams(&self, at: usize, leader: usize) -> bool {
        let (node, primary) = (&self.nodes[at], &self.nodes[leader]);
        node.is_running()
            && primary.is_primary()
            && self.connects(&node.name, &primary.name)
            && !self.diverged(node, primary)
    }

    /// `pg_stat_replication`. A standby that has vanished is noticed after one ttl.
    fn rows(&mut self, at: usize, stay: bool) {
        if !self.nodes[at].is_primary() {
            return;
        }
        let name = self.nodes[at].name.clone();
        let waited = self.nodes[at].local.waits_for.as_ref().map(|proof| proof.waits.of.clone());
        let row = |node: &Node, sql: &Sql| Standby {
            name: node.name.clone(),
            streaming: true,
            sync: waited.as_ref().is_some_and(|names| names.contains(&node.name)),
            flush_lsn: sql.position(),
            confirmed_lsn: sql.position(),
        };
        let follows = |node: &&Node| {
            node.local.upstream.as_ref().is_some_and(|upstream| upstream.name == name)
        };
        let mut rows: Vec<Standby> = self
            .nodes
            .iter()
            .filter(follows)
            .filter_map(|node| Some((node, node.local.sql.as_ref().filter(|sql| sql.streaming)?)))
            .map(|(node, sql)| row(node, sql))
            .collect();
        let Some(sql) = &mut self.nodes[at].local.sql else { return };
        if stay {
            let gone = |old: &&Standby| rows.iter().all(|row| row.name != old.name);
            let kept: Vec<Standby> = sql.standbys.iter().filter(gone).cloned().collect();
            rows.extend(kept);
        }
        sql.standbys = rows;
    }

    fn decide(&mut self, at: usize) {
        let step = self.nodes[at].step(self.now);
        let name = self.nodes[at].name.clone();
        let before = self.said.remove(&name).unwrap_or_default();
        let mut said = Vec::new();
        for decision in &step.decisions {
            if let Some(text) = sentence(decision) {
                if !before.contains(&text) {
                    self.note(at, text.clone());
                }
                said.push(text);
            }
        }
        self.said.insert(name, said);
        for decision in step.decisions {
            self.carry_out(at, decision.command);
        }
    }

    fn carry_out(&mut self, at: usize, command: Command) {
        let now = self.now;
        let name = self.nodes[at].name.clone();
        let reaches = self.reaches_consul(&name);
        let node = &mut self.nodes[at];
        match command {
            Command::Acquire(plan) => {
                let request = node.keeper.acquire(now, &plan);
                node.send(now, request, reaches.then_some(&mut self.store));
            }
            Command::HandOver(heir) => {
                let request = node.keeper.hand_over(now, &heir);
                node.send(now, request, reaches.then_some(&mut self.store));
            }
            Command::Release => {
                let request = node.keeper.release(now);
                node.send(now, request, reaches.then_some(&mut self.store));
            }
            Command::Carry(payload) => node.keeper.set_payload(payload),
            Command::Renew => node.keeper.hurry(now),
            Command::Pact(pact) => node.keeper.set_pact(pact),
            Command::Write(write) if reaches => {
                let session = node.session().cloned();
                self.store.write(&name, session.as_ref(), write);
            }
            Command::Probe(members) => self.probe(at, members.keys()),
            Command::Begin(job) => node.begin(now, job),
            Command::Abort => node.abort(),
            Command::Fence | Command::EndStray | Command::StopStray => node.end(false),
            Command::Promote => node.promote_at = node.promote_at.or(Some(now + PROMOTION)),
            Command::Follow(upstream) => node.local.upstream = Some(upstream),
            Command::TurnAway => node.local.upstream = None,
            Command::Remember { term } => node.local.memory.term = node.local.memory.term.max(term),
            Command::Origins(origins) => node.local.memory.origins = origins,
            Command::Lacks => node.local.memory.restored = true,
            Command::Whole => node.local.memory.restored = false,
            Command::NoteList(list) => node.local.memory.failsafe = list,
            Command::Exit(_) => node.exited = true,
            _ => {}
        }
    }

    fn probe<'a>(&mut self, at: usize, members: impl Iterator<Item = &'a String>) {
        let name = self.nodes[at].name.clone();
        for member in members {
            let reached = self.connects(&name, member);
            let other = self.nodes.iter().find(|node| node.name == *member && !node.exited);
            let answer = other.filter(|_| reached).map(|node| node.answer(self.now));
            self.nodes[at].ask(self.now, member, answer);
        }
    }

    fn end_sessions(&mut self) {
        let due = |at: Time| self.now.since(at) >= SESSION_ENDS;
        let Some((fault, at)) = self.fault.clone() else { return };
        if due(at) && self.now.since(at) < SESSION_ENDS + TICK && fault != Fault::ConsulDown {
            self.store.end_sessions(|name| !fault.reaches_consul(name));
        }
    }

    fn tell(&mut self, at: usize) {
        let node = &self.nodes[at];
        let streaming = node.local.sql.as_ref().is_some_and(|sql| sql.streaming);
        let new = Sight {
            term: node.hold(self.now).map(|hold| hold.term),
            writable: node.writable(self.now),
            streams_from: node
                .local
                .upstream
                .as_ref()
                .map(|u| u.name.clone())
                .filter(|_| streaming),
            by_promises: node.keeper.rests_on_promises(),
        };
        let old = self.sights.insert(node.name.clone(), new.clone()).unwrap_or_default();
        if let Some(term) = new.term.filter(|_| new.term != old.term) {
            self.note(at, format!("holds the lease of term {term}"));
        }
        if new.by_promises && !old.by_promises {
            self.note(at, "all members promise to leave the lease alone (failsafe)");
        }
        match (old.writable, new.writable) {
            (false, true) => self.note(at, "writes are possible here"),
            (true, false) => self.note(at, "no writes are possible here any more"),
            _ => {}
        }
        match (&old.streams_from, &new.streams_from) {
            (old, Some(from)) if old.as_ref() != Some(from) => {
                self.note(at, format!("streams from {from}"));
            }
            (Some(from), None) => self.note(at, format!("gets no WAL from {from} any more")),
            _ => {}
        }
    }

    /// What a node tries again and again is told once.
    fn note(&mut self, at: usize, what: impl Into<String>) {
        if self.fault.is_none() {
            return;
        }
        let (after, node, what) = (self.since_fault(), self.nodes[at].name.clone(), what.into());
        let last = self.happened.iter().rev().find(|told| told.node == node);
        if last.is_none_or(|told| told.what != what) {
            self.happened.push(Happened { after, node, what });
        }
    }
}

/// Decisions that matter to people.
fn sentence(decision: &Decision) -> Option<String> {
    let what = match &decision.command {
        Command::Acquire(plan) => format!("asks for the lease of term {}", plan.term),
        Command::HandOver(heir) => format!("hands the lease over to {}", heir.name),
        Command::Release => "releases the lease".to_owned(),
        Command::Begin(job) => format!("begins: {}", job.name()),
        Command::Fence | Command::EndStray | Command::StopStray => "fences PostgreSQL".to_owned(),
        Command::Promote => "promotes PostgreSQL".to_owned(),
        Command::Write(Write::Sync { standbys, .. }) => {
            let names: Vec<_> = standbys.iter().map(String::as_str).collect();
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            format!("publishes its synchronous standbys: {names}")
        }
        _ => return None,
    };
    Some(if decision.reason.is_empty() { what } else { format!("{what} ({})", decision.reason) })
}
