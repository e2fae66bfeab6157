//! PgBouncers, as far as the decisions see them: paused at once, late, or never.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::keeper::Addressee;
use hart_ha::observation::PoolersAnswer;
use hart_ha::time::Time;

use crate::clock::{MS, SEC, Us};
use crate::consul::micros;
use crate::event::{AtAgent, Cause};
use crate::rng::Rng;
use crate::world::World;

/// How long an agent may take to answer, beyond its poolers' time.
const ANSWER: Us = SEC;

/// Chance of its own, so that what else a seed has in store does not depend on poolers.
#[derive(Debug)]
pub struct Poolers {
    rng: Rng,
    /// How long a node's poolers may take to pause; zero: there are none.
    pause: Duration,
}

impl Poolers {
    /// Every third world has some.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0070_6762_6f75_6e63);
        let some = rng.below(3) == 0;
        let pause = if some { Duration::from_millis(rng.range(200, 5000)) } else { Duration::ZERO };
        Self { rng, pause }
    }
}

impl World {
    /// How long it may take to pause those of node `n`; the last node never has any.
    #[must_use]
    pub fn poolers_of(&self, n: usize) -> Duration {
        if n > 0 && n + 1 == self.nodes.len() { Duration::ZERO } else { self.poolers.pause }
    }

    /// Asks members to pause theirs, unless they are being asked.
    pub fn pause_poolers(
        &mut self,
        n: usize,
        members: &BTreeMap<String, Addressee>,
        within: Duration,
    ) {
        let asked = self.local(n);
        for name in members.keys() {
            let Some(peer) = self.names.iter().position(|known| known == name) else { continue };
            let open = self.net.open(n, peer) && self.net.open(peer, n);
            let Some(agent) = &mut self.nodes[n].agent else { return };
            if !agent.pausing.insert(peer) {
                continue;
            }
            let rng = &mut self.poolers.rng;
            let (delay, paused) = match rng.below(8) {
                0..=3 if open => (rng.range(MS, 30 * MS), Ok(())),
                4..=5 if open => (rng.range(MS, micros(within).max(2 * MS)), Ok(())),
                6 if open => (micros(within), Err("a transaction goes on".to_owned())),
                _ => (micros(within) + ANSWER, Err("no answer".to_owned())),
            };
            self.after(n, delay, AtAgent::Paused(peer, asked, paused));
        }
    }

    /// A member's answer, or its silence.
    pub fn poolers_answered(
        &mut self,
        n: usize,
        peer: usize,
        asked: Time,
        paused: Result<(), String>,
    ) {
        let name = self.names[peer].clone();
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.pausing.remove(&peer);
        agent.seen.poolers.insert(name, PoolersAnswer { asked, paused });
        self.wake(n, Cause::Peer);
    }
}
