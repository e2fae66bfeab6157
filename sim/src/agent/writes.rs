//! Writes to the cluster's keys, one at a time per key.

use hart_consul_dev::model::Reply;
use hart_ha::command::Write;

use serde_json::{Map, Value};

use crate::agent::state::Purpose;
use crate::clock::{MS, SEC, Us};
use crate::event::{Answer, AtAgent};
use crate::world::World;

/// The pause after a write that somebody else was quicker with.
const OUTRUN: Us = 25 * MS;

impl World {
    /// A write of the brain becomes a call, unless one to the same key is under way.
    pub fn write(&mut self, n: usize, write: Write, config: &Map<String, Value>) {
        let key = key_of(&write);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let keys = agent.seen.store.snapshot.clone().unwrap_or_default();
        let session = agent.session.clone();
        if !agent.writing.insert(key) {
            return;
        }
        let call = crate::consul::wire::call(&self.names[n], write, &keys, session, config);
        match call {
            Some((call, next)) => {
                let purpose = Purpose::Write(key, next.map(Box::new));
                self.call(n, purpose, call, 2 * SEC);
            }
            None => {
                agent.writing.remove(key);
            }
        }
    }

    /// A failed write stays under way for a pause, so that it is not tried again at once.
    pub(crate) fn written(&mut self, n: usize, key: &'static str, answer: &Answer) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let reply = if let Answer::Reply(reply) = answer { Some(&**reply) } else { None };
        let pause = match reply {
            Some(Reply::Done(true) | Reply::Txn(Ok(_))) => {
                agent.troubles.remove(key);
                0
            }
            Some(Reply::Done(false) | Reply::Txn(Err(_))) => {
                agent.troubles.remove(key);
                OUTRUN
            }
            _ => {
                let count = agent.troubles.entry(key).or_default();
                *count += 1;
                let failures = *count - 1;
                self.back_off(failures)
            }
        };
        self.after(n, pause, AtAgent::Written(key));
    }
}

fn key_of(write: &Write) -> &'static str {
    match write {
        Write::Claim | Write::Unclaim | Write::Initialize(_) => "initialize",
        Write::Config => "config",
        Write::Member(_) => "members",
        Write::ClearFailover(_) => "failover",
        Write::Sync { .. } | Write::DeleteSync(_) => "sync",
        Write::Status => "status",
        Write::History(_) => "history",
        Write::Failsafe { .. } => "failsafe",
    }
}
