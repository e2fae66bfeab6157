//! The whole: nodes, Consul, network and queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use hart_ha::kv::Term;
use hart_ha::time::Time;
use serde_json::{Map, Value, json};

use crate::agent::poolers::Poolers;
use crate::agent::states::CLASSES;
use crate::clock::{MS, NodeClock, PPM_MAX, SEC, Us};
use crate::consul::store::Store;
use crate::event::CAUSES;
use crate::event::Event;
use crate::faults::Plan;
use crate::mutation::Mutation;
use crate::net::Net;
use crate::node::{Facts, Node};
use crate::oracle::Oracle;
use crate::oracle::revoked::Former;
use crate::pg::wal::Wal;
use crate::pg::{Archive, Disk, Server};
use crate::queue::Queue;
use crate::rng::Rng;

/// See the module's text.
pub struct World {
    /// True time.
    pub t: Us,
    /// Chance.
    pub rng: Rng,
    /// Poolers before the cluster.
    pub poolers: Poolers,
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
    pub coverage: Box<[[u32; CAUSES.len()]; CLASSES]>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// The run is over.
    pub over: bool,
    /// When a link was mended last.
    pub mended: Us,
    /// So long after the faults have ceased the calls that were under way are over.
    pub aftermath: Us,
    /// When the lease last changed in the store.
    pub renewed: Us,
    /// When a record that said that a lease has no end was last lost, and the lease's term.
    pub open_lost: Option<(Us, Term)>,
    /// When a request that names a candidate was last there.
    pub requested: Us,
    /// How much a new holder might lack before a person last changed that, and when: a takeover may rest
    /// on a picture of before.
    pub lag_before: (Us, u64),
    /// Since when the cluster has been healthy after the faults.
    pub healthy_since: Option<Us>,
    /// Since when nobody leads while a disk hangs.
    pub leaderless: Option<(usize, Us)>,
    /// Since when it has been ill, at some look or other.
    pub ill_at: Option<Us>,
    /// The primary that must now stay, and why.
    pub stays: Option<(usize, &'static str)>,
    /// The session of another program that holds the lock.
    pub stranger: Option<String>,
    /// Holders whose lease was taken before it was over.
    pub formers: Vec<Former>,
    /// How often that was.
    pub revoked: u64,
    /// The cluster's first backup.
    pub backup: Option<Disk>,
    /// Nodes without data restore it while nobody leads.
    pub restores: bool,
    numbers: u64,
}

fn bootstrap(seed: u64, rng: &mut Rng) -> Map<String, Value> {
    let ttl = [2, 3, 3, 6, 6, 15][rng.index(6)];
    let sync = rng.chance(600);
    let loop_wait = [1, 1, 2][rng.index(3)];
    let failsafe = rng.chance(750);
    let lag = [1_048_576, 4096][rng.index(2)];
    let (strict, count, rewind) = (sync && rng.chance(200), 1 + rng.below(2), rng.chance(700));
    // Not drawn: the draws that follow shall stay as they were.
    let quorum = sync && seed.is_multiple_of(3);
    let config = json!({
        "ttl": ttl,
        "loop_wait": loop_wait,
        "synchronous_mode": if quorum { json!("quorum") } else { json!(sync) },
        "synchronous_mode_strict": strict,
        "synchronous_node_count": count,
        "maximum_lag_on_failover": lag,
        "failsafe_mode": failsafe,
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
        let mut bootstrap = bootstrap(seed, &mut rng);
        let mut plan = Plan::draw(&mut rng, bootstrap["failsafe_mode"] == json!(true));
        if let Some(kinds) = mutation.map(Mutation::faults).filter(|kinds| !kinds.is_empty()) {
            (plan.kinds, plan.harmless) = (kinds.to_vec(), false);
        }
        if mutation.is_some_and(Mutation::is_of_the_vote) {
            plan.worst = plan.worst.max(400);
            bootstrap.insert("synchronous_mode".to_owned(), json!("quorum"));
        }
        if mutation == Some(Mutation::VanishedMadeAgain) {
            // A former holder has to be back before its lease is over, in a moment without a record.
            plan.worst = plan.worst.max(600);
            bootstrap.insert("ttl".to_owned(), json!(15));
        }
        let names: Vec<String> = (1..=count).map(|n| format!("n{n}")).collect();
        let nodes = names.iter().map(|name| node(name, &mut rng)).collect();
        let mut world = Self {
            t: 0,
            rng,
            poolers: Poolers::new(seed),
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
            coverage: Box::new([[0; CAUSES.len()]; CLASSES]),
            faults: BTreeMap::new(),
            over: false,
            mended: 0,
            aftermath: 0,
            renewed: 0,
            open_lost: None,
            requested: 0,
            lag_before: (0, 0),
            healthy_since: None,
            leaderless: None,
            ill_at: None,
            stays: None,
            stranger: None,
            formers: Vec::new(),
            revoked: 0,
            backup: None,
            // Not drawn: the draws that follow shall stay as they were.
            restores: seed.is_multiple_of(5) || mutation == Some(Mutation::RestoredCounts),
            numbers: 0,
        };
        for n in 0..world.nodes.len() {
            let at = world.rng.range(0, 500 * MS);
            world.queue.push(at, Event::Boot(n));
        }
        world.queue.push(SEC, Event::Sessions);
        world.queue.push(SEC, Event::Clients);
        world.begin_plan();
        if mutation.is_some_and(Mutation::revokes) {
            world.revoke();
        }
        world
    }

    /// In this world the lease of a silent holder is revoked; there are synchronous standbys.
    pub fn revoke(&mut self) {
        self.bootstrap.insert("takeover".to_owned(), json!("revoke"));
        if self.bootstrap["synchronous_mode"] == json!(false) {
            self.bootstrap.insert("synchronous_mode".to_owned(), json!(true));
        }
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

    /// The settings in the store, or those of the bootstrap.
    #[must_use]
    pub fn keys(&self) -> Arc<hart_ha::store::Snapshot> {
        self.store.now.1.clone()
    }
}

fn node(name: &str, rng: &mut Rng) -> Node {
    let ppm = i64::try_from(rng.below(2 * PPM_MAX.unsigned_abs() + 1)).unwrap_or(0) - PPM_MAX;
    Node {
        name: name.to_owned(),
        clock: NodeClock { origin: rng.range(100_000 * SEC, 9_000_000 * SEC), ppm, missed: 0 },
        powered: true,
        born: 0,
        life: 0,
        agent: None,
        guard: None,
        facts: Facts { instance: format!("i-{name}"), ..Facts::default() },
        disk: Disk::default(),
        server: Server::default(),
        frozen: [0; 4],
        slow_until: 0,
        slow_fence_until: 0,
        archive: Archive::default(),
        hang: None,
        wanted: true,
        stopped_by_hand: false,
        resumed: 0,
    }
}
