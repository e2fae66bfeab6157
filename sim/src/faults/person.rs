//! What people ask for at a bad moment.

use serde_json::{Value, json};

use crate::event::{Cause, Event};
use crate::faults::Kind;
use crate::faults::kinds::Kind::*;
use crate::faults::plan::Heal;
use crate::world::World;

impl World {
    pub(crate) fn person(&mut self, kind: Kind, n: usize) {
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
            FailsafeChanged => {
                let on = self.rng.chance(600);
                self.configure("failsafe_mode", json!(on));
            }
            SyncChanged => {
                let on = self.rng.chance(500);
                let quorum = on && self.number().is_multiple_of(2);
                let mode = if quorum { json!("quorum") } else { json!(on) };
                self.configure("synchronous_mode", mode);
            }
            _ => {}
        }
    }

    pub(crate) fn asks_node(&mut self, kind: Kind, n: usize) {
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

    pub(crate) fn configure(&mut self, key: &str, value: Value) {
        let keys = self.keys();
        let stored = keys.config.as_ref().map(|config| config.value.raw.clone());
        let mut raw = stored.unwrap_or_else(|| self.bootstrap.clone());
        raw.insert(key.to_owned(), value);
        self.person_puts("config", &Value::Object(raw));
    }
}
