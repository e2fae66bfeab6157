//! Calls to Consul: what leaves, arrives, is lost, comes late or comes twice.

use std::time::Duration;

use hart_consul_dev::model::{Reply, Request as Call};
use hart_ha::round_trip::patience;
use hart_ha::store::Snapshot;

use crate::agent::state::Purpose;
use crate::clock::{MS, SEC, Us};
use crate::consul::store::{Parked, key};
use crate::event::{Answer, AtAgent, Event};
use crate::world::World;

/// The longest wait of one blocking query.
const WAIT: Us = 2 * SEC;
/// Deadline of a call where nothing else is said.
pub const USUAL: Us = SEC;
/// That of a write.
pub const WRITE: Us = 2 * SEC;

impl World {
    /// Sends a call.
    pub fn call(&mut self, n: usize, purpose: Purpose, what: Call, deadline: Us) {
        let id = self.number();
        let life = self.nodes[n].life;
        // HTTP repeats nothing by itself, and the agent sends no lease transaction twice.
        let once = purpose.is_lease();
        let watch = if let Purpose::Watch(index) = purpose { Some(index) } else { None };
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.calls.insert(id, purpose);
        }
        let consul = self.consul();
        let to_agent = |answer| Event::Agent(n, life, AtAgent::Answer(id, answer));
        match self.net.send(&mut self.rng, n, consul) {
            Some(delay) => {
                let delay = delay + if writes(&what) { self.net.slow_writes } else { 0 };
                let what = Box::new(what);
                if watch.is_none() && !once && self.rng.chance(self.net.twice) {
                    let later = self.t + delay + self.rng.skewed(MS, 3 * SEC);
                    let what = what.clone();
                    self.queue.push(later, Event::Call { node: n, life, call: id, what, watch });
                }
                self.queue
                    .push(self.t + delay, Event::Call { node: n, life, call: id, what, watch });
                self.queue.push(self.t + deadline, to_agent(Answer::Unknown));
            }
            // Without a connection it certainly did not get through; on an old one nobody knows.
            None if self.rng.chance(500) => {
                let after = deadline.min(SEC);
                self.queue.push(self.t + after, to_agent(Answer::NotSent));
            }
            None => self.queue.push(self.t + deadline, to_agent(Answer::Unknown)),
        }
    }

    /// The deadline of a call of `n` that usually has `usual`: a slow Consul is no silent one.
    pub fn patience(&self, n: usize, usual: Us) -> Us {
        let agent = self.nodes[n].agent.as_ref();
        let measured = agent.and_then(|agent| agent.keeper.round_trip().measured());
        micros(patience(Duration::from_micros(usual), measured))
    }

    /// A call arrives at Consul.
    pub fn call_arrives(&mut self, n: usize, life: u32, id: u64, what: &Call, watch: Option<u64>) {
        if self.t < self.store.down_until {
            let answer = if self.rng.chance(500) { Answer::NotSent } else { Answer::Unknown };
            return self.reply(n, life, id, answer);
        }
        if let Some(index) = watch {
            return self.watch_arrives(Parked { node: n, life, call: id, index });
        }
        let old = self.store.now.1.clone();
        let (reply, changed) = self.store.apply(self.t, what);
        let unsure = self.rng.chance(self.plan.raft_unsure);
        self.reply(
            n,
            life,
            id,
            if unsure { Answer::Unknown } else { Answer::Reply(Box::new(reply)) },
        );
        if changed {
            let new = self.store.now.1.clone();
            self.oracle.keys(self.t, &old, &new);
            self.must_not_renew(&old, &new);
            self.explain(&old, &new);
            self.must_leave_to_stranger(n, &old, &new);
            self.note_handover(n, &old, &new);
            self.note_takeover(n, &old, &new);
            self.note_revocation(n, &old, &new);
            self.note_request(&old, &new);
            let holder = |keys: &Snapshot| keys.lease().map(|lease| lease.holder.clone());
            if old.sync != new.sync || old.failover != new.failover || holder(&old) != holder(&new)
            {
                self.worst_moment();
            }
            if old.lease() != new.lease() {
                self.renewed = self.t;
            }
            self.keys_changed();
        }
    }

    /// Who goes by the lock alone leads as long as its session lasts.
    fn must_leave_to_stranger(&mut self, n: usize, old: &Snapshot, new: &Snapshot) {
        let theirs = |keys: &Snapshot| keys.leader_session() == self.stranger.as_ref();
        if self.stranger.is_some() && theirs(old) && !theirs(new) {
            let text = format!(
                "{} takes the lock from a living session of another program",
                self.names[n]
            );
            self.oracle.report(self.t, text);
        }
    }

    pub(crate) fn explain(&mut self, old: &Snapshot, new: &Snapshot) {
        if self.trace.is_none() {
            return;
        }
        let nobody = self.consul();
        if old.lease() != new.lease() {
            let lease = new.lease().cloned();
            let end = new.status.as_ref().and_then(|status| status.value.optime);
            let end = end.map_or_else(|| "?".to_owned(), |end| end.0.to_string());
            self.say(nobody, || match lease {
                Some(l) => format!(
                    "store: lease {:?} of {} term {} beat {} ttl {}{}, WAL to {end}",
                    l.state,
                    l.holder,
                    l.term,
                    l.beat,
                    l.ttl_ms,
                    if l.revoked_ms.is_some() { ", revoked" } else { "" }
                ),
                None => "store: no lease".to_owned(),
            });
        }
        if old.sync != new.sync {
            let sync = new.sync.clone().map(|sync| sync.value);
            self.say(nobody, || format!("store: sync {sync:?}"));
        }
        if old.leader != new.leader {
            let leader = new.leader.clone();
            self.say(nobody, || format!("store: leader {leader:?}"));
        }
        if old.initialize != new.initialize {
            let key = new.initialize.clone();
            self.say(nobody, || format!("store: initialize {key:?}"));
        }
        if old.failover != new.failover {
            let request = new.failover.clone().map(|request| request.value);
            self.say(nobody, || format!("store: failover {request:?}"));
        }
    }

    pub(crate) fn reply(&mut self, n: usize, life: u32, id: u64, answer: Answer) {
        let consul = self.consul();
        if let Some(delay) = self.net.send(&mut self.rng, consul, n) {
            self.queue.push(self.t + delay, Event::Agent(n, life, AtAgent::Answer(id, answer)));
        }
    }

    pub(crate) fn watch_arrives(&mut self, parked: Parked) {
        if self.store.now.0 > parked.index || parked.index == 0 {
            return self.answer_watch(parked);
        }
        self.store.parked.push(parked);
        self.queue.push(self.t + WAIT, Event::WaitOver { call: parked.call });
    }

    /// A blocking query's wait is over without news.
    pub fn wait_over(&mut self, call: u64) {
        if let Some(at) = self.store.parked.iter().position(|parked| parked.call == call) {
            let parked = self.store.parked.swap_remove(at);
            self.answer_watch(parked);
        }
    }

    /// Answers a blocking query. From index 0 it is a consistent read; else it may be stale.
    pub fn answer_watch(&mut self, parked: Parked) {
        let stale = parked.index != 0 && self.rng.chance(self.plan.stale);
        let (index, keys) = if stale {
            let back = self.rng.range(0, 2 * SEC);
            self.store.stale(self.t.saturating_sub(back))
        } else {
            self.store.now.clone()
        };
        self.reply(parked.node, parked.life, parked.call, Answer::Keys(index, keys));
    }

    /// What a person does with Consul directly: it arrives.
    pub fn person_puts(&mut self, name: &str, value: &serde_json::Value) {
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        let how = hart_consul_dev::model::Put::Set;
        let call = Call::Put { key: key(name), value: bytes.into(), flags: 0, how };
        self.person_does(&call);
    }

    /// A person's call.
    pub fn person_does(&mut self, call: &Call) {
        let old = self.store.now.1.clone();
        let (_, changed): (Reply, bool) = self.store.apply(self.t, call);
        if changed {
            let new = self.store.now.1.clone();
            self.oracle.keys(self.t, &old, &new);
            self.must_not_renew(&old, &new);
            self.explain(&old, &new);
            self.note_request(&old, &new);
            self.keys_changed();
        }
    }

    /// A request that names its candidate: agents see it for a moment after it was withdrawn or replaced.
    fn note_request(&mut self, old: &Snapshot, new: &Snapshot) {
        let named =
            |keys: &Snapshot| keys.failover.as_ref().is_some_and(|r| r.value.member.is_some());
        if named(old) || named(new) {
            self.requested = self.t;
        }
    }
}

/// A duration in true microseconds, as if the clock were right: deadlines of calls need not be exact.
#[must_use]
pub fn micros(by: Duration) -> Us {
    u64::try_from(by.as_micros()).unwrap_or(u64::MAX)
}

fn writes(what: &Call) -> bool {
    !matches!(what, Call::Get(_) | Call::List(_) | Call::SessionInfo(_))
}
