//! Writes to the cluster's keys, one at a time per key.

use hart_consul_dev::model::Reply;
use hart_ha::command::Write;
use hart_ha::waits::Waits;

use serde_json::{Map, Value};

use crate::agent::state::Purpose;
use crate::clock::{MS, Us};
use crate::consul::WRITE;
use crate::event::{Answer, AtAgent};
use crate::mutation::Mutation;
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
        if matches!(write, Write::DeleteSync(_)) && crate::oracle::sync_is_on(&keys) {
            let text = format!("{} deletes sync although synchronous mode is on", self.names[n]);
            self.oracle.report(self.t, text);
        }
        if self.mutated(Mutation::SyncLetGoEarly) {
            self.let_go_early(n, &write);
        }
        let call = crate::consul::wire::call(&self.names[n], write, &keys, session, config);
        let blind = key == "sync" && self.mutated(Mutation::SyncWithoutCas);
        let call = if blind { call.map(crate::consul::wire::without_cas) } else { call };
        match call {
            Some((call, next)) => {
                let purpose = Purpose::Write(key, next.map(Box::new));
                let deadline = self.patience(n, WRITE);
                self.call(n, purpose, call, deadline);
            }
            None => {
                if let Some(agent) = &mut self.nodes[n].agent {
                    agent.writing.remove(key);
                }
            }
        }
    }

    /// Commits of a primary stop waiting for whom this write takes out of the set.
    fn let_go_early(&mut self, n: usize, write: &Write) {
        let node = &mut self.nodes[n];
        match write {
            Write::Sync { standbys, quorum: 0, .. } if !node.server.recovery => {
                node.server.sync = Waits::all(standbys.clone());
            }
            Write::DeleteSync(_) => node.server.sync = Waits::nobody(),
            _ => return,
        }
        self.confirm(n);
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
        Write::ClearFailover(_) | Write::FailoverIsDue { .. } => "failover",
        Write::Sync { .. } | Write::DeleteSync(_) => "sync",
        Write::Status => "status",
        Write::History(_) => "history",
        Write::Failsafe { .. } => "failsafe",
    }
}
