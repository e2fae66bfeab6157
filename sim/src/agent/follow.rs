//! Turning to another upstream.

use hart_ha::observation::Upstream;

use crate::clock::{MS, SEC, Us};
use crate::event::{AtAgent, Cause};
use crate::world::World;

/// After a failure to turn to another server.
const FOLLOW_AGAIN: Us = SEC;

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

    /// Follows nobody: the WAL receiver ends.
    pub(crate) fn turn_away(&mut self, n: usize) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if !std::mem::replace(&mut agent.following, true) {
            let delay = self.rng.range(2 * MS, 30 * MS);
            self.after(n, delay, AtAgent::TurnedAway);
        }
    }

    pub(crate) fn turned_away(&mut self, n: usize) {
        let good = self.nodes[n].server.answers() && self.nodes[n].server.recovery;
        if !good {
            return self.after(n, FOLLOW_AGAIN, AtAgent::NotFollowed);
        }
        let Some(agent) = &mut self.nodes[n].agent else { return };
        (agent.following, agent.upstream) = (false, None);
        self.set_upstream(n, None);
        self.wake(n, Cause::Job);
    }

    pub(crate) fn followed(&mut self, n: usize, target: usize) {
        let upstream = self.upstream_of(target);
        let good = self.nodes[n].server.answers() && self.nodes[n].server.recovery;
        if !good {
            return self.after(n, FOLLOW_AGAIN, AtAgent::NotFollowed);
        }
        let Some(agent) = &mut self.nodes[n].agent else { return };
        (agent.following, agent.upstream) = (false, Some(upstream));
        self.set_upstream(n, Some(target));
        self.wake(n, Cause::Job);
    }

    /// Node `n` as an upstream.
    #[must_use]
    pub fn upstream_of(&self, n: usize) -> Upstream {
        Upstream { name: self.names[n].clone(), host: self.names[n].clone(), port: 5432 }
    }
}
