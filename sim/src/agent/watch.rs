//! The watch on the cluster's keys.

use std::time::Duration;

use crate::mutation::Mutation;
use hart_consul_dev::model::Request as Call;
use hart_ha::kv::Lease;
use hart_ha::lease::margin;

use crate::agent::state::Purpose;
use crate::clock::{MS, SEC, Us};
use crate::consul::USUAL;
use crate::event::{Answer, AtAgent, Cause};
use crate::world::World;

/// A blocking query's wait, and a share for the server's jitter.
const WATCH_WAIT: Us = 2_125 * MS;

impl World {
    /// The watch asks on.
    pub fn watch_on(&mut self, n: usize, index: u64) {
        let what = Call::List(crate::consul::store::PREFIX.into());
        let deadline = self.patience(n, USUAL) + if index == 0 { 0 } else { WATCH_WAIT };
        self.call(n, Purpose::Watch(index), what, deadline);
    }

    pub(crate) fn watch_answered(&mut self, n: usize, index: u64, answer: Answer) {
        let (now, marginless) = (self.local(n), self.mutated(Mutation::MarginZero));
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let store = &mut agent.seen.store;
        if let Answer::Keys(answered, keys) = answer {
            agent.failures.1 = 0;
            store.reachable = true;
            if answered != index {
                let ttl = keys.lease().map(Lease::ttl).filter(|_| marginless);
                (store.snapshot, store.arrived) =
                    (Some(keys), now - ttl.map_or(Duration::ZERO, margin));
                self.doubt_session(n);
            }
            let next = if answered < index { 0 } else { answered };
            self.watch_on(n, next);
        } else {
            store.reachable = false;
            let failures = agent.failures.1;
            agent.failures.1 += 1;
            let pause = self.back_off(failures);
            self.after(n, pause, AtAgent::Watch);
        }
        self.wake(n, Cause::Store);
    }

    pub(crate) fn back_off(&mut self, failures: u32) -> Us {
        let pause = ((100 * MS) << failures.min(8)).min(SEC);
        self.rng.range(pause * 3 / 4, pause * 5 / 4)
    }
}
