//! What goes wrong, when, and for how long. Each seed draws the kinds of faults that it uses, so
//! that some runs have many of a few kinds and others a few of many.

use serde_json::{Value, json};

use hart_consul_dev::model::Request as Call;

use crate::clock::{MS, SEC, Us};
use crate::event::{Cause, Event};
use crate::mutation::Mutation;
use crate::node::{GUARD, LEASE, LOOP, POSTGRES};
use crate::pg::{Content, Stage};
use crate::rng::Rng;
use crate::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    AgentKilled,
    AgentStopped,
    AgentFrozen,
    LoopStalled,
    GuardKilled,
    GuardFrozen,
    AgentAndGuardFrozen,
    PostgresKilled,
    PostgresFrozen,
    PostgresSlow,
    SlowFence,
    NodeCrashed,
    NodeFrozen,
    NodesCutFromEachOther,
    NodeIsolated,
    NodeCutFromConsul,
    OneWayCut,
    SlowLink,
    LossyNetwork,
    DuplicatesOnNetwork,
    ConsulDown,
    ConsulBlink,
    SessionsLost,
    StoreWiped,
    SyncWaitCancelled,
    Switchover,
    Failover,
    Pause,
    Reinit,
    Restart,
    TtlChanged,
    SyncChanged,
    DataLost,
}

use Kind::{
    AgentAndGuardFrozen, AgentFrozen, AgentKilled, AgentStopped, ConsulBlink, ConsulDown, DataLost,
    DuplicatesOnNetwork, Failover, GuardFrozen, GuardKilled, LoopStalled, LossyNetwork,
    NodeCrashed, NodeCutFromConsul, NodeFrozen, NodeIsolated, NodesCutFromEachOther, OneWayCut,
    Pause, PostgresFrozen, PostgresKilled, PostgresSlow, Reinit, Restart, SessionsLost, SlowFence,
    SlowLink, StoreWiped, Switchover, SyncChanged, SyncWaitCancelled, TtlChanged,
};

/// All of them.
pub const KINDS: &[Kind] = &[
    AgentKilled,
    AgentStopped,
    AgentFrozen,
    LoopStalled,
    GuardKilled,
    GuardFrozen,
    AgentAndGuardFrozen,
    PostgresKilled,
    PostgresFrozen,
    PostgresSlow,
    SlowFence,
    NodeCrashed,
    NodeFrozen,
    NodesCutFromEachOther,
    NodeIsolated,
    NodeCutFromConsul,
    OneWayCut,
    SlowLink,
    LossyNetwork,
    DuplicatesOnNetwork,
    ConsulDown,
    ConsulBlink,
    SessionsLost,
    StoreWiped,
    SyncWaitCancelled,
    Switchover,
    Failover,
    Pause,
    Reinit,
    Restart,
    TtlChanged,
    SyncChanged,
    DataLost,
];

/// Kinds that must not make the primary change.
const HARMLESS: &[Kind] = &[ConsulBlink, SessionsLost, DuplicatesOnNetwork];

/// What ends.
#[derive(Clone, Copy, Debug)]
pub enum Heal {
    /// A direction opens.
    Open(usize, usize),
    /// A direction is fast again.
    Fast(usize, usize),
    /// No loss any more.
    NoLoss,
    /// No duplicates any more.
    NoTwice,
    /// The pause ends.
    Resume,
}

/// What a seed has in store.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kinds in use.
    pub kinds: Vec<Kind>,
    /// Mean time between two faults.
    pub gap: Us,
    /// When they cease.
    pub calm_at: Us,
    /// Watch answers of a thousand that are stale.
    pub stale: u64,
    /// Writes of a thousand whose result Consul's leader does not know.
    pub raft_unsure: u64,
    /// Turning points of a thousand that a fault follows closely.
    pub worst: u64,
    /// Jobs of a thousand that fail for no reason of ours.
    pub job_failures: u64,
    /// No fault in the plan may make the primary change by itself.
    pub harmless: bool,
    /// The oracle's count of changes when the cluster was complete.
    pub settled: Option<u64>,
}

impl Plan {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Self {
        let harmless = rng.chance(60);
        let pool = if harmless { HARMLESS } else { KINDS };
        let many = if harmless { pool.len() } else { 1 + rng.index(9) };
        let kinds = (0..many).map(|_| pool[rng.index(pool.len())]).collect();
        Self {
            kinds,
            gap: rng.skewed(500 * MS, 20 * SEC),
            calm_at: rng.range(40 * SEC, 150 * SEC),
            stale: if rng.chance(250) && !harmless { rng.range(5, 200) } else { 0 },
            raft_unsure: if rng.chance(200) && !harmless { rng.range(5, 200) } else { 0 },
            job_failures: if rng.chance(100) && !harmless { rng.range(5, 150) } else { 0 },
            worst: if rng.chance(500) && !harmless { rng.range(50, 600) } else { 0 },
            harmless,
            settled: None,
        }
    }
}

/// How long a cluster may take to heal after the last fault.
const HEAL_BOUND: Us = 150 * SEC;
/// How long it must then stay as it is.
const STEADY: Us = 12 * SEC;

impl World {
    /// Enters the plan into the queue.
    pub fn begin_plan(&mut self) {
        let first = 8 * SEC + self.rng.range(0, 12 * SEC);
        self.queue.push(first, Event::Fault);
        self.queue.push(self.plan.calm_at, Event::Calm);
    }

    /// The next fault.
    pub fn fault(&mut self) {
        if self.t >= self.plan.calm_at {
            return;
        }
        let gap = self.plan.gap;
        let next = self.t + self.rng.range(gap / 8, gap * 2);
        self.queue.push(next, Event::Fault);
        if self.plan.harmless && self.plan.settled.is_none() {
            if !self.is_healthy() {
                return;
            }
            self.plan.settled = Some(self.oracle.changes);
        }
        self.any_fault();
    }

    /// Something has just changed that a fault may hurt most: perhaps one strikes now.
    pub fn worst_moment(&mut self) {
        if self.t < self.plan.calm_at && self.rng.chance(self.plan.worst) {
            let at = self.t + self.rng.skewed(0, 600 * MS);
            self.queue.push(at, Event::Worst);
        }
    }

    /// A fault out of turn.
    pub fn strike_now(&mut self) {
        if self.t < self.plan.calm_at && !self.plan.harmless {
            self.any_fault();
        }
    }

    fn any_fault(&mut self) {
        let kind = self.plan.kinds[self.rng.index(self.plan.kinds.len())];
        let n = self.victim();
        *self.faults.entry(name_of(kind)).or_default() += 1;
        self.say(n, || format!("FAULT {kind:?}"));
        self.strike(kind, n);
    }

    /// More often than not the one that matters: whoever leads.
    fn victim(&mut self) -> usize {
        let any = self.rng.index(self.nodes.len());
        let leader = self.keys().leader_name().map(str::to_owned);
        let found = leader.and_then(|leader| self.names.iter().position(|name| *name == leader));
        found.filter(|_| self.rng.chance(600)).unwrap_or(any)
    }

    /// How long a fault lasts: around the lease's length, where it hurts, or longer.
    fn lasting(&mut self) -> Us {
        match self.rng.below(4) {
            0 => self.rng.range(10 * MS, SEC),
            1 => self.rng.range(SEC, 5 * SEC),
            2 => self.rng.range(2 * SEC, 9 * SEC),
            _ => self.rng.range(5 * SEC, 40 * SEC),
        }
    }

    fn strike(&mut self, kind: Kind, n: usize) {
        let lasts = self.lasting();
        let lasts = lasts.min(self.plan.calm_at - self.t);
        let until = self.t + lasts;
        let consul = self.consul();
        match kind {
            AgentKilled => {
                self.lose_agent(n);
                let back = if self.rng.chance(500) { self.rng.range(50 * MS, SEC) } else { lasts };
                self.queue.push(self.t + back, Event::Boot(n));
            }
            AgentStopped => {
                self.ask_to_stop(n);
                self.nodes[n].wanted = true;
                self.queue.push(until + 3 * SEC, Event::Boot(n));
            }
            AgentFrozen => self.freeze(n, &[LOOP, LEASE], until),
            LoopStalled => self.freeze(n, &[LOOP], until),
            GuardKilled => self.guard_killed(n),
            GuardFrozen => self.freeze(n, &[GUARD], until),
            AgentAndGuardFrozen => self.freeze(n, &[LOOP, LEASE, GUARD], until),
            PostgresKilled => self.kill_server(n),
            PostgresFrozen => self.freeze(n, &[POSTGRES], until),
            PostgresSlow => self.nodes[n].slow_until = until,
            SlowFence => self.nodes.iter_mut().for_each(|node| node.slow_fence_until = until),
            NodeCrashed => self.node_crashed(n, lasts),
            NodeFrozen => self.freeze(n, &[LOOP, LEASE, GUARD, POSTGRES], until),
            NodeIsolated => (0..=consul).for_each(|other| self.cut_both(n, other, until)),
            NodeCutFromConsul => self.cut_both(n, consul, until),
            NodesCutFromEachOther => {
                let other = self.rng.index(self.nodes.len());
                self.cut_both(n, other, until);
            }
            OneWayCut => {
                let other = self.rng.index(consul + 1);
                let (from, to) = if self.rng.chance(500) { (n, other) } else { (other, n) };
                self.cut(from, to, until);
            }
            SlowLink => {
                let other = if self.rng.chance(600) { consul } else { self.rng.index(consul) };
                let by = self.rng.skewed(50 * MS, 4 * SEC);
                for (from, to) in [(n, other), (other, n)] {
                    if self.rng.chance(700) {
                        self.net.set_slow(from, to, by);
                        self.queue.push(until, Event::Heal(Heal::Fast(from, to)));
                    }
                }
            }
            LossyNetwork => {
                self.net.loss = self.rng.range(10, 400);
                self.queue.push(until, Event::Heal(Heal::NoLoss));
            }
            DuplicatesOnNetwork => {
                self.net.twice = self.rng.range(10, 500);
                self.queue.push(until, Event::Heal(Heal::NoTwice));
            }
            ConsulDown => self.store.down_until = until,
            ConsulBlink => self.consul_blinks(),
            SessionsLost => self.sessions_lost(),
            StoreWiped if self.rng.chance(300) => self.store_wiped(),
            StoreWiped => {}
            SyncWaitCancelled => self.nodes[n].server.waiting.clear(),
            DataLost => self.data_lost(n),
            _ => self.person(kind, n),
        }
    }

    fn freeze(&mut self, n: usize, parts: &[usize], until: Us) {
        if !self.nodes[n].powered {
            return;
        }
        for part in parts {
            let frozen = &mut self.nodes[n].frozen[*part];
            *frozen = until.max(*frozen);
        }
        let whole = parts.len() == 4;
        if whole && self.mutated(Mutation::ClockStopsInFreeze) {
            let missed = until - self.t;
            self.nodes[n].clock.missed += missed;
        }
    }

    fn guard_killed(&mut self, n: usize) {
        self.kill_server(n);
        if let Some(guard) = &mut self.nodes[n].guard {
            guard.fencing = true;
        }
    }

    fn node_crashed(&mut self, n: usize, lasts: Us) {
        if !self.nodes[n].powered {
            return;
        }
        self.lose_agent(n);
        self.cut_all(n, false);
        let origin = self.rng.range(100_000 * SEC, 9_000_000 * SEC);
        let node = &mut self.nodes[n];
        node.powered = false;
        node.guard = None;
        (node.server.stage, node.server.closed) = (Stage::Down, true);
        node.server.life += 1;
        node.server.waiting.clear();
        node.frozen = [0; 4];
        node.clock.origin = origin;
        self.queue.push(self.t + lasts + 2 * SEC, Event::Boot(n));
    }

    fn cut(&mut self, from: usize, to: usize, until: Us) {
        if from != to {
            self.net.set_cut(from, to, true);
            self.queue.push(until, Event::Heal(Heal::Open(from, to)));
        }
    }

    fn cut_both(&mut self, one: usize, other: usize, until: Us) {
        self.cut(one, other, until);
        self.cut(other, one, until);
    }

    fn consul_blinks(&mut self) {
        let ttl = self.keys().lease().map_or(2 * SEC, |lease| lease.ttl_ms * MS);
        let lasts = self.rng.range(10 * MS, ttl / 8);
        self.store.down_until = self.t + lasts;
    }

    /// As a restarted Consul agent does it to those that hang on its checks.
    fn sessions_lost(&mut self) {
        let ids: Vec<_> = self.store.model.sessions().iter().map(|s| s.id.clone()).collect();
        let all = self.rng.chance(500);
        for id in ids {
            if all || self.rng.chance(500) {
                self.person_does(&Call::SessionDestroy(id));
            }
        }
    }

    fn store_wiped(&mut self) {
        self.oracle.forgive();
        self.person_does(&Call::DeleteTree(crate::store::PREFIX.into()));
    }

    /// Only a standby's: what the primary alone has cannot be expected to survive its disk.
    fn data_lost(&mut self, n: usize) {
        let keys = self.keys();
        let name = self.names[n].as_str();
        let named = keys.sync.as_ref().is_some_and(|sync| sync.value.names(name));
        let leads = keys.leader_name() == Some(name);
        let writers = self.nodes.iter().filter(|node| node.writes(self.t)).count();
        if self.nodes[n].server.stage == Stage::Down && !named && !leads && writers == 1 {
            self.nodes[n].disk.content = Content::Empty;
            if let Some(agent) = &mut self.nodes[n].agent {
                agent.stale = true;
            }
        }
    }

    fn person(&mut self, kind: Kind, n: usize) {
        if self.t < self.store.down_until {
            return;
        }
        let keys = self.keys();
        let other = self.rng.index(self.nodes.len());
        let candidate = self.rng.chance(700).then(|| self.names[other].clone());
        match kind {
            Switchover => {
                let Some(leader) = keys.leader_name() else { return };
                let mut request = json!({ "leader": leader });
                if let Some(candidate) = candidate.filter(|candidate| candidate != leader) {
                    request["member"] = candidate.into();
                }
                self.person_puts("failover", &request);
            }
            Failover => {
                self.person_puts("failover", &json!({ "member": self.names[other] }));
            }
            Pause => {
                self.configure("pause", json!(true));
                let lasts = self.lasting();
                self.queue.push(self.t + lasts, Event::Heal(Heal::Resume));
            }
            Reinit | Restart => self.asks_node(kind, n),
            TtlChanged => {
                let ttl = [2, 3, 6, 15, 30][self.rng.index(5)];
                self.configure("ttl", json!(ttl));
            }
            SyncChanged => {
                let on = self.rng.chance(500);
                self.configure("synchronous_mode", json!(on));
            }
            _ => {}
        }
    }

    fn asks_node(&mut self, kind: Kind, n: usize) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        match kind {
            Reinit if agent.hold.is_none() && agent.job.is_none() => {
                agent.seen.asked.reinit = true;
            }
            Restart if agent.job.is_none() => agent.seen.asked.restart = true,
            _ => return,
        }
        self.wake(n, Cause::Person);
    }

    fn configure(&mut self, key: &str, value: Value) {
        let keys = self.keys();
        let stored = keys.config.as_ref().map(|config| config.value.raw.clone());
        let mut raw = stored.unwrap_or_else(|| self.bootstrap.clone());
        raw.insert(key.to_owned(), value);
        self.person_puts("config", &Value::Object(raw));
    }

    /// A fault ends.
    pub fn heal(&mut self, heal: Heal) {
        self.mended = self.t;
        match heal {
            Heal::Open(from, to) => self.net.set_cut(from, to, false),
            Heal::Fast(from, to) => self.net.set_slow(from, to, 0),
            Heal::NoLoss => self.net.loss = 0,
            Heal::NoTwice => self.net.twice = 0,
            Heal::Resume => self.configure("pause", json!(false)),
        }
    }

    /// All faults cease; from now on the cluster must heal by itself.
    pub fn calm(&mut self) {
        let nobody = self.consul();
        self.say(nobody, || "ALL FAULTS CEASE".to_owned());
        self.net.mend();
        self.store.down_until = self.store.down_until.min(self.t);
        (self.plan.stale, self.plan.raft_unsure, self.plan.job_failures) = (0, 0, 0);
        if self.plan.kinds.contains(&Pause) {
            self.configure("pause", json!(false));
        }
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            node.wanted = true;
            (node.slow_until, node.slow_fence_until) = (0, 0);
            self.queue.push(self.t + SEC, Event::Boot(n));
        }
        self.queue.push(self.t + SEC, Event::Check);
    }

    /// Has the cluster healed, and does it stay so?
    pub fn check(&mut self) {
        if self.keys().config.as_ref().is_some_and(|config| config.value.pause) {
            self.configure("pause", json!(false));
        }
        for n in 0..self.nodes.len() {
            // An agent that was stopped in good order by a late request is started again.
            self.nodes[n].wanted = true;
            self.boot(n);
        }
        let healthy = self.is_healthy();
        let steady = self.healthy_since.get_or_insert(self.t);
        if !healthy {
            self.healthy_since = None;
            if self.t > self.plan.calm_at + HEAL_BOUND {
                let what = self.ailment();
                self.oracle.report(self.t, format!("the cluster did not heal: {what}"));
                self.over = true;
            }
        } else if self.t > *steady + STEADY {
            self.finish();
        }
        self.queue.push(self.t + SEC, Event::Check);
    }

    fn finish(&mut self) {
        self.over = true;
        if let Some(before) = self.plan.settled
            && self.oracle.changes != before
        {
            let text = "the primary changed although nothing was wrong with it".to_owned();
            self.oracle.report(self.t, text);
        }
    }

    /// One primary that holds the lease, and everybody follows it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.ailment().is_empty()
    }

    fn ailment(&self) -> String {
        let writers: Vec<usize> =
            (0..self.nodes.len()).filter(|n| self.nodes[*n].writes(self.t)).collect();
        let [primary] = writers[..] else {
            return format!("{} nodes accept writes", writers.len());
        };
        let keys = self.keys();
        let name = &self.names[primary];
        if keys.leader.as_ref().is_none_or(|l| l.value != *name || l.session.is_none()) {
            return format!("{name} accepts writes without the lock");
        }
        if !keys.lease().is_some_and(|l| l.is_held() && l.holder == *name) {
            return format!("{name} accepts writes without the lease");
        }
        for (n, node) in self.nodes.iter().enumerate() {
            let follows = node.server.receiver.is_some_and(|r| r.from == primary);
            if n != primary && !(node.server.recovery && node.server.answers() && follows) {
                let (mine, theirs) = (node.disk.pos, self.nodes[primary].disk.pos);
                let twins = !self.wal.needs_rewind(mine, theirs) && !self.wal.has(theirs, mine);
                let why = if twins { ": its WAL is another's, with the same numbers" } else { "" };
                return format!("{} does not follow {name}{why}", node.name);
            }
            if !keys.members.contains_key(&node.name) {
                return format!("{} has no member entry", node.name);
            }
        }
        let sync = keys.sync.as_ref().map(|sync| sync.value.standbys().len());
        if crate::oracle::sync_is_on(&keys) && self.nodes.len() > 1 && sync.unwrap_or(0) == 0 {
            return "no synchronous standby is published".to_owned();
        }
        String::new()
    }
}

fn name_of(kind: Kind) -> &'static str {
    const NAMES: [&str; 33] = [
        "agent killed",
        "agent stopped",
        "agent frozen",
        "loop stalled",
        "guard killed",
        "guard frozen",
        "agent and guard frozen",
        "PostgreSQL killed",
        "PostgreSQL frozen",
        "PostgreSQL slow",
        "slow fence",
        "node crashed",
        "node frozen",
        "nodes cut from each other",
        "node isolated",
        "node cut from Consul",
        "one-way cut",
        "slow link",
        "lossy network",
        "duplicates on the network",
        "Consul down",
        "Consul blinks",
        "sessions lost",
        "store wiped",
        "sync wait cancelled",
        "switchover",
        "failover",
        "pause",
        "reinit",
        "restart",
        "ttl changed",
        "sync mode changed",
        "data lost",
    ];
    NAMES[kind as usize]
}
