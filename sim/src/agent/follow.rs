//! Turning to another upstream.

use hart_ha::observation::Upstream;

use crate::clock::MS;
use crate::event::{AtAgent, Cause};
use crate::world::World;

impl World {
    pub(crate) fn follow(&mut self, n: usize, upstream: &Upstream) {
        let Some(target) = self.names.iter().position(|name| *name == upstream.name) else {
            return;
        };
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if !std::mem::replace(&mut agent.following, true) {
            let delay = self.rng.range(2 * MS, 30 * MS);
            self.after(n, delay, AtAgent::Followed(target));
        }
    }

    pub(crate) fn followed(&mut self, n: usize, target: usize) {
        let upstream = self.upstream_of(target);
        let good = self.nodes[n].server.answers() && self.nodes[n].server.recovery;
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.following = false;
        if good {
            agent.upstream = Some(upstream);
            self.set_upstream(n, Some(target));
        }
        self.wake(n, Cause::Job);
    }

    /// Node `n` as an upstream.
    #[must_use]
    pub fn upstream_of(&self, n: usize) -> Upstream {
        Upstream { name: self.names[n].clone(), host: self.names[n].clone(), port: 5432 }
    }
}
