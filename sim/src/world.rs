//! The whole: nodes, Consul, network and queue, and the dispatch of events.

use std::collections::BTreeMap;
use std::sync::Arc;

use hart_ha::time::Time;
use serde_json::{Map, Value, json};

use crate::clock::{MS, NodeClock, PPM_MAX, SEC, Us};
use crate::event::{AtAgent, AtServer, Cause, Event, Queue};
use crate::faults::Plan;
use crate::mutation::Mutation;
use crate::net::Net;
use crate::node::{Facts, GUARD, LEASE, LOOP, Node, POSTGRES};
use crate::oracle::{Oracle, Seen};
use crate::pg::{Disk, Server};
use crate::rng::Rng;
use crate::store::Store;
use crate::wal::Wal;

/// What a run has covered: (state of the brain, cause) → how often.
pub type Coverage = BTreeMap<(&'static str, Cause), u64>;

/// See the module's text.
pub struct World {
    /// True time.
    pub t: Us,
    /// Chance.
    pub rng: Rng,
    /// What is to come.
    pub queue: Queue,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Their names, by number.
    pub names: Vec<String>,
    /// Consul.
    pub store: Store,
    /// All WAL.
    pub wal: Wal,
    /// The network. Consul's end has the number of nodes.
    pub net: Net,
    /// The judge.
    pub oracle: Oracle,
    /// Faults.
    pub plan: Plan,
    /// The rule that is switched off.
    pub mutation: Option<Mutation>,
    /// `bootstrap.dcs`.
    pub bootstrap: Map<String, Value>,
    /// A hash over all events: two runs of a seed must agree.
    pub hash: u64,
    /// Lines for people, where they are wanted.
    pub trace: Option<Vec<String>>,
    /// What was covered.
    pub coverage: Coverage,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// The run is over.
    pub over: bool,
    /// When a link was mended last.
    pub mended: Us,
    /// When the lease last changed in the store.
    pub renewed: Us,
    /// Since when the cluster has been healthy after the faults.
    pub healthy_since: Option<Us>,
    numbers: u64,
}

fn bootstrap(rng: &mut Rng) -> Map<String, Value> {
    let ttl = [2, 3, 3, 6, 6, 15][rng.index(6)];
    let sync = rng.chance(600);
    let loop_wait = [1, 1, 2][rng.index(3)];
    let lag = [1_048_576, 4096][rng.index(2)];
    let (strict, count, rewind) = (sync && rng.chance(200), 1 + rng.below(2), rng.chance(700));
    let config = json!({
        "ttl": ttl,
        "loop_wait": loop_wait,
        "synchronous_mode": sync,
        "synchronous_mode_strict": strict,
        "synchronous_node_count": count,
        "maximum_lag_on_failover": lag,
        "postgresql": { "use_pg_rewind": rewind },
    });
    config.as_object().cloned().unwrap_or_default()
}

impl World {
    /// A world that has not begun.
    #[must_use]
    pub fn new(seed: u64, mutation: Option<Mutation>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let count = [1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 5][rng.index(13)];
        let bootstrap = bootstrap(&mut rng);
        let plan = Plan::draw(&mut rng);
        let names: Vec<String> = (1..=count).map(|n| format!("n{n}")).collect();
        let nodes = names.iter().map(|name| node(name, &mut rng)).collect();
        let mut world = Self {
            t: 0,
            rng,
            queue: Queue::default(),
            nodes,
            net: Net::new(names.len()),
            names,
            store: Store::default(),
            wal: Wal::default(),
            oracle: Oracle::default(),
            plan,
            mutation,
            bootstrap,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: traced.then(Vec::new),
            coverage: Coverage::new(),
            faults: BTreeMap::new(),
            over: false,
            mended: 0,
            renewed: 0,
            healthy_since: None,
            numbers: 0,
        };
        for n in 0..world.nodes.len() {
            let at = world.rng.range(0, 500 * MS);
            world.queue.push(at, Event::Boot(n));
        }
        world.queue.push(SEC, Event::Sessions);
        world.queue.push(SEC, Event::Clients);
        world.begin_plan();
        world
    }

    /// Number of nodes; also Consul's end of the network.
    #[must_use]
    pub fn consul(&self) -> usize {
        self.nodes.len()
    }

    /// A new number.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Is this rule switched off?
    #[must_use]
    pub fn mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The node's clock now.
    #[must_use]
    pub fn local(&self, n: usize) -> Time {
        self.nodes[n].clock.local(self.t)
    }

    /// Says something in the trace.
    pub fn say(&mut self, who: usize, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.trace {
            let name = self.names.get(who).map_or("--", String::as_str);
            let (s, us) = (self.t / SEC, self.t % SEC);
            lines.push(format!("{s:>5}.{us:06} {name} {}", what()));
        }
    }

    /// Does one event. False: there is nothing more to do.
    pub fn turn(&mut self) -> bool {
        if self.over {
            return false;
        }
        let Some((at, event)) = self.queue.pop() else { return false };
        self.t = self.t.max(at);
        self.mix(&event);
        self.dispatch(event);
        self.judge();
        true
    }

    fn mix(&mut self, event: &Event) {
        let (kind, node) = match event {
            Event::Agent(n, _, what) => (1 + tag(what), *n),
            Event::Server(n, _, what) => (100 + *what as u64, *n),
            Event::Call { node, .. } => (200, *node),
            Event::Wal { to, .. } => (201, *to),
            Event::Ack { to, .. } => (202, *to),
            _ => (203, 0),
        };
        for word in [self.t, kind, node as u64] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// A frozen part sees what comes only when it wakes up, in any order.
    fn deferred(&mut self, n: usize, part: usize, event: Event) -> Option<Event> {
        let until = self.nodes[n].frozen[part];
        if self.t >= until {
            return Some(event);
        }
        let at = until + self.rng.range(0, 2 * MS);
        self.queue.push(at, event);
        None
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Agent(n, life, what) => self.at_agent(n, life, what),
            Event::Server(n, life, what) => self.at_server(n, life, what),
            Event::Call { node, life, call, what, watch } => {
                self.call_arrives(node, life, call, &what, watch);
            }
            Event::WaitOver { call } => self.wait_over(call),
            Event::Wal { to, link, pos } => {
                if let Some(Event::Wal { to, link, pos }) =
                    self.deferred(to, POSTGRES, Event::Wal { to, link, pos })
                {
                    self.wal_arrives(to, link, pos);
                }
            }
            Event::Ack { to, link, lsn } => {
                if self.deferred(to, POSTGRES, Event::Ack { to, link, lsn }).is_some() {
                    self.ack_arrives(to, link, lsn);
                }
            }
            Event::Pump { from, link } => self.pump(from, link),
            Event::Cut { link } => self.cut_link(link),
            Event::Clients => self.clients(),
            Event::Sessions => {
                self.queue.push(self.t + SEC, Event::Sessions);
                if self.t >= self.store.down_until && self.advance_store() {
                    self.keys_changed();
                }
            }
            Event::Fault => self.fault(),
            Event::Worst => self.strike_now(),
            Event::Heal(heal) => self.heal(heal),
            Event::Calm => self.calm(),
            Event::Check => self.check(),
            Event::Boot(n) => self.boot(n),
        }
    }

    fn at_agent(&mut self, n: usize, life: u32, what: AtAgent) {
        let Some(agent) = self.nodes[n].agent.as_ref().filter(|_| self.nodes[n].life == life)
        else {
            return;
        };
        let lease = match &what {
            AtAgent::Lease(_) => true,
            AtAgent::Answer(call, _) => agent.calls.get(call).is_some_and(|p| p.is_lease()),
            _ => false,
        };
        let part = if lease { LEASE } else { LOOP };
        let event = Event::Agent(n, life, what);
        if let Some(Event::Agent(_, _, what)) = self.deferred(n, part, event) {
            self.agent_event(n, what);
        }
    }

    fn at_server(&mut self, n: usize, life: u32, what: AtServer) {
        if self.nodes[n].server.life != life || !self.nodes[n].powered {
            return;
        }
        let part = match what {
            AtServer::Deadline | AtServer::FenceAsked => GUARD,
            // What was killed goes, whoever is frozen.
            AtServer::Gone => return self.server_gone(n),
            _ => POSTGRES,
        };
        if part == GUARD && what == AtServer::Deadline && self.t < self.nodes[n].frozen[GUARD] {
            self.overslept(n);
        }
        if self.deferred(n, part, Event::Server(n, life, what)).is_some() {
            self.server_event(n, what);
        }
    }

    /// The oracle looks at the nodes.
    fn judge(&mut self) {
        let t = self.t;
        let writing = self.nodes.iter().filter(|node| node.writes(t)).count();
        if writing == 0 {
            return;
        }
        let seen = |node: &Node| {
            let overdue = |guard: &crate::node::Guard| {
                let late = guard.armed.is_none_or(|armed| node.clock.local(t) >= armed.deadline);
                guard.late || node.is_frozen(GUARD, t) && late
            };
            let overslept = node.guard.as_ref().is_some_and(overdue);
            Seen { writes: node.writes(t), overslept: overslept.then_some(node.frozen[GUARD]) }
        };
        let seen: Vec<Seen> = self.nodes.iter().map(seen).collect();
        self.oracle.writers(t, &seen, &self.names);
    }

    /// Keys have changed: the oracle looks, and blocking queries answer.
    pub fn keys_changed(&mut self) {
        for parked in self.store.due() {
            self.answer_watch(parked);
        }
    }

    /// Lets sessions end, with the oracle looking on.
    pub fn advance_store(&mut self) -> bool {
        let old = self.store.now.1.clone();
        let changed = self.store.advance(self.t);
        if changed {
            let new = self.store.now.1.clone();
            self.oracle.keys(self.t, &old, &new);
        }
        changed
    }

    /// The settings in the store, or those of the bootstrap.
    #[must_use]
    pub fn keys(&self) -> Arc<hart_ha::store::Snapshot> {
        self.store.now.1.clone()
    }
}

fn tag(what: &AtAgent) -> u64 {
    match what {
        AtAgent::Step(_) => 1,
        AtAgent::Woken(_) => 2,
        AtAgent::Lease(_) => 3,
        AtAgent::Look(_) => 4,
        AtAgent::Answer(..) => 5,
        AtAgent::Session(_) => 6,
        AtAgent::Watch => 7,
        AtAgent::Job(_) => 8,
        AtAgent::Followed(_) => 9,
        AtAgent::Peer(..) => 10,
        AtAgent::Asked { .. } => 11,
        AtAgent::Life => 12,
        AtAgent::Fenced => 13,
        AtAgent::Checkpoint => 14,
        AtAgent::Written(_) => 15,
    }
}

fn node(name: &str, rng: &mut Rng) -> Node {
    let ppm = i64::try_from(rng.below(2 * PPM_MAX.unsigned_abs() + 1)).unwrap_or(0) - PPM_MAX;
    Node {
        name: name.to_owned(),
        clock: NodeClock { origin: rng.range(100_000 * SEC, 9_000_000 * SEC), ppm, missed: 0 },
        powered: true,
        life: 0,
        agent: None,
        guard: None,
        facts: Facts { instance: format!("i-{name}"), ..Facts::default() },
        disk: Disk::default(),
        server: Server::default(),
        frozen: [0; 4],
        slow_until: 0,
        slow_fence_until: 0,
        wanted: true,
    }
}
