//! What people ask for at a bad moment.

use std::time::Duration;

use hart_ha::round_trip::borne;
use hart_ha::store::Snapshot;
use serde_json::{Value, json};

use crate::clock::SEC;
use crate::consul::micros;
use crate::event::{Cause, Event};
use crate::faults::Kind;
use crate::faults::kinds::Kind::*;
use crate::faults::plan::Heal;
use crate::oracle::allowed_lag;
use crate::pg::Stage;
use crate::world::World;

impl World {
    /// False: there was nobody to ask.
    pub(crate) fn person(&mut self, kind: Kind, n: usize) -> bool {
        if self.t < self.store.down_until {
            return false;
        }
        let keys = self.keys();
        let other = self.rng.index(self.nodes.len());
        let candidate = self.rng.chance(700).then(|| self.names[other].clone());
        match kind {
            Switchover => {
                let Some(leader) = keys.leader_name() else { return false };
                let mut request = json!({ "leader": leader });
                if let Some(candidate) = candidate.filter(|candidate| candidate != leader) {
                    request["member"] = candidate.into();
                }
                self.person_puts("failover", &request);
            }
            Failover => {
                let mut request = json!({ "member": self.names[other] });
                if let Some(holder) = self.gone_holder(&keys) {
                    request["fenced"] = holder.into();
                }
                self.person_puts("failover", &request);
            }
            Pause => {
                self.configure("pause", json!(true));
                let lasts = self.lasting();
                self.queue.push(self.t + lasts, Event::Heal(Heal::Resume));
            }
            Reinit | Restart => return self.asks_node(kind, n),
            TtlChanged => {
                let ttl = [2, 3, 6, 15, 30][self.rng.index(5)];
                if micros(borne(Duration::from_secs(ttl))) < 2 * self.net.far {
                    return false;
                }
                self.configure("ttl", json!(ttl));
            }
            FailsafeChanged => {
                let on = self.rng.chance(600);
                self.configure("failsafe_mode", json!(on));
            }
            SyncChanged => {
                let on = self.rng.chance(500);
                let quorum = on && self.number().is_multiple_of(2);
                let mode = if quorum { json!("quorum") } else { json!(on) };
                self.configure("synchronous_mode", mode);
                if self.rng.chance(300) {
                    self.other_settings();
                }
            }
            _ => {}
        }
        true
    }

    /// The holder of a lease without an end, where a person can see that its PostgreSQL has ended.
    fn gone_holder(&self, keys: &Snapshot) -> Option<String> {
        let lease = keys.lease().filter(|lease| lease.is_held() && lease.open)?;
        let n = self.names.iter().position(|name| *name == lease.holder)?;
        let gone = self.nodes[n].server.stage == Stage::Down && self.nodes[n].agent.is_none();
        gone.then(|| lease.holder.clone())
    }

    /// A lease without an end whose holder is an installation that is gone for good waits for a person.
    pub(crate) fn person_frees_the_lease(&mut self) {
        let keys = self.keys();
        let Some(lease) = keys.lease().filter(|lease| lease.is_held() && lease.open) else {
            return;
        };
        let gone = !self.nodes.iter().any(|node| node.facts.instance == lease.instance);
        let asked = keys.failover.as_ref().is_some_and(|request| !request.value.is_empty());
        if !gone || asked || self.t < self.store.down_until {
            return;
        }
        let other = self.rng.index(self.nodes.len());
        let request = json!({ "member": self.names[other], "fenced": lease.holder });
        self.person_puts("failover", &request);
    }

    /// What belongs to synchronous mode, and what every decision goes by.
    fn other_settings(&mut self) {
        let few = self.rng.index(3) + 1;
        let (key, value) = match self.rng.index(5) {
            0 => ("synchronous_mode_strict", json!(few > 1)),
            1 => ("synchronous_node_count", json!(few)),
            2 => ("maximum_lag_on_failover", json!([4096, 1_048_576, 1_048_576][few - 1])),
            3 => ("loop_wait", json!(few)),
            _ => ("maximum_lag_on_syncnode", json!([4096, 1_048_576, -1][few - 1])),
        };
        self.configure(key, value);
    }

    pub(crate) fn asks_node(&mut self, kind: Kind, n: usize) -> bool {
        let Some(agent) = &mut self.nodes[n].agent else { return false };
        match kind {
            Reinit if agent.hold.is_none() => agent.seen.asked.reinit = true,
            Restart => agent.seen.asked.restart = true,
            _ => return false,
        }
        self.wake(n, Cause::Person);
        true
    }

    pub(crate) fn configure(&mut self, key: &str, value: Value) {
        let keys = self.keys();
        if ["maximum_lag_on_failover", "synchronous_mode"].contains(&key) {
            let (changed, before) = self.lag_before;
            let lately = if self.t < changed + 30 * SEC { before } else { 0 };
            self.lag_before = (self.t, allowed_lag(&keys).max(lately));
        }
        let stored = keys.config.as_ref().map(|config| config.value.raw.clone());
        let mut raw = stored.unwrap_or_else(|| self.bootstrap.clone());
        raw.insert(key.to_owned(), value);
        self.person_puts("config", &Value::Object(raw));
    }
}
