//! Each fault, as it strikes.

use std::time::Duration;

use hart_consul_dev::model::{Behavior, Put, Request as Call, SessionSpec};
use hart_ha::kv::DynamicConfig;
use hart_ha::round_trip::borne;
use hart_ha::waits::Waits;

use crate::clock::{MS, SEC, Us};
use crate::consul::store::key;
use crate::event::Event;
use crate::faults::Kind;
use crate::faults::kinds::Kind::*;
use crate::faults::plan::Heal;
use crate::mutation::Mutation;
use crate::node::{GUARD, LEASE, LOOP, Node, POSTGRES};
use crate::pg::{Content, Stage};
use crate::world::World;

/// The shortest time between two losses of all keys.
const WIPES_APART: Us = 60 * SEC;

impl World {
    /// False: it had nothing to strike.
    #[expect(clippy::too_many_lines, reason = "a table: one arm for each fault")]
    pub(crate) fn strike(&mut self, kind: Kind, n: usize) -> bool {
        let lasts = self.lasting();
        let lasts = lasts.min(self.plan.calm_at - self.t);
        let until = self.t + lasts;
        let consul = self.consul();
        match kind {
            AgentKilled if self.nodes[n].agent.is_none() => return false,
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
            ArchiveSlow => self.archive_is_slow(n, until),
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
            SlowAnswers => {
                let by = self.rng.range(400 * MS, 2 * SEC);
                self.net.set_slow(consul, n, by);
                self.queue.push(until, Event::Heal(Heal::Fast(consul, n)));
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
            StoreWiped => return self.store_wiped(),
            SyncWaitCancelled => return self.sync_wait_cancelled(n),
            DataLost => return self.data_lost(n),
            NamedDataLost => return self.named_data_lost(n),
            ArchiveBad => self.archive_is_bad(until),
            DiskHangs => return self.disk_hangs(n),
            StrayPostgres => return self.started_by_hand(n),
            ImpostorStreams => return self.impostor_comes(n, until),
            SignalRemoved => return self.started_beside_a_job(n),
            NamesAltered => return self.names_altered(n),
            AddressMisled => return self.address_misled(until),
            StrangerAsks => self.stranger_asks(),
            ConsulFar => return self.consul_far(),
            StatusDeleted => return self.status_deleted(lasts),
            ForeignLock => return self.foreign_lock(until),
            PromotedByHand => return self.promoted_by_hand(n),
            StoppedByHand => return self.stopped_by_hand(n),
            WritesSlow => {
                self.net.slow_writes = self.rng.skewed(200 * MS, 2 * SEC);
                self.queue.push(until, Event::Heal(Heal::SwiftWrites));
            }
            _ => return self.person(kind, n),
        }
        true
    }

    /// Their backends report success with a warning: such commits are promised to nobody.
    fn sync_wait_cancelled(&mut self, n: usize) -> bool {
        !std::mem::take(&mut self.nodes[n].server.waiting).is_empty()
    }

    /// `ALTER SYSTEM SET synchronous_standby_names`, to nobody or to somebody else, and a reload.
    fn names_altered(&mut self, n: usize) -> bool {
        if !self.nodes[n].writes(self.t) {
            return false;
        }
        let other = self.rng.index(self.nodes.len());
        let names = if self.rng.chance(600) { vec![] } else { vec![self.names[other].clone()] };
        self.nodes[n].disk.altered = Some(Waits::all(names.into_iter().collect()));
        self.nodes[n].server.altered = Some((self.t, None));
        self.sync_applied(n);
        true
    }

    pub(crate) fn freeze(&mut self, n: usize, parts: &[usize], until: Us) {
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

    pub(crate) fn guard_killed(&mut self, n: usize) {
        self.notes_kill(n);
        // Nobody can tell then that a person was about to stop what it ended.
        self.nodes[n].stopped_by_hand &= self.nodes[n].server.stage == Stage::Down;
        self.kill_server(n);
        if let Some(guard) = &mut self.nodes[n].guard {
            (guard.fencing, guard.dead) = (true, true);
        }
    }

    pub(crate) fn node_crashed(&mut self, n: usize, lasts: Us) {
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
        node.hang = None;
        node.clock.origin = origin;
        self.queue.push(self.t + lasts + 2 * SEC, Event::Boot(n));
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize, until: Us) {
        if from != to {
            self.net.cut(from, to);
            self.queue.push(until, Event::Heal(Heal::Open(from, to)));
        }
    }

    pub(crate) fn cut_both(&mut self, one: usize, other: usize, until: Us) {
        self.cut(one, other, until);
        self.cut(other, one, until);
    }

    pub(crate) fn consul_blinks(&mut self) {
        let ttl = self.keys().lease().map_or(2 * SEC, |lease| lease.ttl_ms * MS);
        let lasts = self.rng.range(10 * MS, ttl / 8);
        self.store.down_until = self.t + lasts;
    }

    /// Its answers take as long as the ttl can bear, from now on to the end: the cluster must get along.
    /// So must it with the ttl of the bootstrap, or the last one that a node knows: when the store has been
    /// wiped, one of them is in force again.
    pub(crate) fn consul_far(&mut self) -> bool {
        let Some(ttl) = self.keys().config.as_ref().map(|config| config.value.ttl) else {
            return false;
        };
        let first = DynamicConfig::from_raw(self.bootstrap.clone()).unwrap_or_default().ttl;
        let agents = self.nodes.iter().filter_map(|node| node.agent.as_ref());
        let known = agents.filter_map(|agent| agent.applied.as_ref()).map(|config| config.ttl);
        let ttl = known.fold(ttl.min(first), Duration::min);
        let longest = crate::consul::micros(borne(ttl)).saturating_sub(10 * MS);
        self.net.far = self.rng.range(longest / 4, longest / 2);
        true
    }

    /// As a restarted Consul agent does it to those that hang on its checks.
    pub(crate) fn sessions_lost(&mut self) {
        let ids: Vec<_> = self.store.model.sessions().iter().map(|s| s.id.clone()).collect();
        let all = self.rng.chance(500);
        for id in ids {
            if all || self.rng.chance(500) {
                self.person_does(&Call::SessionDestroy(id));
            }
        }
    }

    pub(crate) fn store_wiped(&mut self) -> bool {
        if !self.rng.chance(300) || !self.may_lose_record() {
            return false;
        }
        self.oracle.forgive();
        self.lose_record();
        self.person_does(&Call::DeleteTree(crate::consul::store::PREFIX.into()));
        true
    }

    /// The record of the lease alone, and often the holder with it: its lock is still there.
    fn status_deleted(&mut self, lasts: Us) -> bool {
        let leader = self.keys().leader_name().map(str::to_owned);
        let Some(leader) = leader.and_then(|name| self.names.iter().position(|n| *n == name))
        else {
            return false;
        };
        if !self.may_lose_record() {
            return false;
        }
        if self.rng.chance(700) {
            self.node_crashed(leader, lasts);
        }
        self.lose_record();
        self.person_does(&Call::Delete { key: key("status"), cas: None });
        true
    }

    /// Another program, which knows no lease, takes the lock as soon as its session has let it go, and
    /// writes `status` as it knows it.
    fn foreign_lock(&mut self, until: Us) -> bool {
        let Some(session) = self.keys().leader_session().cloned() else { return false };
        // Patroni's members take the lock of a cluster that is there.
        let made = self.keys().initialize.as_ref().is_some_and(|id| !id.value.is_empty());
        if self.stranger.is_some() || !made || !self.may_lose_record() {
            return false;
        }
        let stranger = format!("00000000-0000-0000-0000-{:012x}", self.rng.draw() >> 16);
        let spec = SessionSpec { behavior: Behavior::Delete, ..SessionSpec::new("dev") };
        self.person_does(&Call::SessionCreate(stranger.as_str().into(), spec));
        for how in [Put::Release(session.as_str().into()), Put::Acquire(stranger.as_str().into())] {
            let value = b"elsewhere".as_slice().into();
            self.person_does(&Call::Put { key: key("leader"), value, flags: 0, how });
        }
        if self.keys().leader_session() != Some(&stranger) {
            return false;
        }
        self.stranger = Some(stranger);
        if self.rng.chance(500) {
            self.lose_record();
            self.person_puts("status", &serde_json::json!({ "optime": 1 }));
        }
        self.queue.push(until, Event::Heal(Heal::StrangerGone));
        true
    }

    pub(crate) fn stranger_goes(&mut self) {
        if let Some(stranger) = self.stranger.take() {
            self.person_does(&Call::SessionDestroy(stranger.as_str().into()));
        }
    }

    fn lose_record(&mut self) {
        self.oracle.lose_record();
        if let Some(lease) = self.keys().lease().filter(|lease| lease.open) {
            self.open_lost = Some((self.t, lease.term));
        }
    }

    /// Nobody does that to a running cluster twice within a minute. Whoever was never a member
    /// cannot tell a store that was wiped from a new one.
    fn may_lose_record(&mut self) -> bool {
        if self.plan.wiped.is_some_and(|at| self.t < at + WIPES_APART) {
            return false;
        }
        // A node whose own bootstrap was broken off, and that has not seen since that another's is
        // complete, knows no lease but its own.
        let complete = self.nodes.iter().any(Node::has_complete_cluster);
        let knows = |node: &Node| node.facts.term > 0 && !(complete && node.facts.bootstrapping);
        if !self.nodes.iter().all(knows) {
            return false;
        }
        self.plan.wiped = Some(self.t);
        true
    }

    /// As a configuration copied with its `connect_address`, or an address that has passed on.
    fn address_misled(&mut self, until: Us) -> bool {
        let nodes = self.nodes.len();
        let (n, to) = (self.rng.index(nodes), self.rng.index(nodes));
        if n == to {
            return false;
        }
        self.net.mislead(n, Some(to));
        self.queue.push(until, Event::Heal(Heal::Home(n)));
        true
    }

    /// A published standby's, while it is down and nobody writes. What it had confirmed is on the disk of the
    /// primary, which comes back.
    pub(crate) fn named_data_lost(&mut self, n: usize) -> bool {
        let keys = self.keys();
        let name = self.names[n].as_str();
        let leads = |name: &str| keys.leader_name() == Some(name);
        let lost = self.nodes[n].server.stage == Stage::Down && !leads(name);
        if lost {
            self.nodes[n].disk.content = Content::Empty;
            if let Some(agent) = &mut self.nodes[n].agent {
                agent.stale = true;
            }
        }
        lost
    }

    /// Only a standby's: what the primary alone has cannot be expected to survive its disk.
    pub(crate) fn data_lost(&mut self, n: usize) -> bool {
        let keys = self.keys();
        let name = self.names[n].as_str();
        let named = keys.sync.as_ref().is_some_and(|sync| sync.value.names(name));
        // An old primary that nobody has fenced yet is no copy of what the cluster has.
        let leads = |node: &Node| keys.leader_name() == Some(node.name.as_str());
        let alive = self.nodes.iter().any(|node| leads(node) && node.writes(self.t));
        let spare = !named && !leads(&self.nodes[n]);
        let lost = self.nodes[n].server.stage == Stage::Down && spare && alive;
        if lost {
            self.nodes[n].disk.content = Content::Empty;
            if let Some(agent) = &mut self.nodes[n].agent {
                agent.stale = true;
            }
        }
        lost
    }
}
