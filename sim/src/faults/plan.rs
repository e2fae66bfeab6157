//! What a seed has in store, and when it strikes.

use crate::clock::{MS, SEC, Us};
use crate::event::Event;
use crate::faults::Kind;
use crate::faults::kinds::{DRAWN, HARMLESS, HARMLESS_WITH_FAILSAFE};
use crate::rng::Rng;
use crate::world::World;

/// What ends.
#[derive(Clone, Copy, Debug)]
pub enum Heal {
    /// A direction opens.
    Open(usize, usize),
    /// A direction is fast again.
    Fast(usize, usize),
    /// No loss any more.
    NoLoss,
    /// No duplicates any more.
    NoTwice,
    /// The REST address is the node's own again.
    Home(usize),
    /// The pause ends.
    Resume,
    /// Consul writes quickly again.
    SwiftWrites,
    /// The other program's session ends.
    StrangerGone,
    /// Who streamed under a member's name goes.
    ImpostorGone(usize),
}

/// What a seed has in store.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kinds in use.
    pub kinds: Vec<Kind>,
    /// Mean time between two faults.
    pub gap: Us,
    /// When they cease.
    pub calm_at: Us,
    /// Watch answers of a thousand that are stale.
    pub stale: u64,
    /// Writes of a thousand whose result Consul's leader does not know.
    pub raft_unsure: u64,
    /// Turning points of a thousand that a fault follows closely.
    pub worst: u64,
    /// Jobs of a thousand that fail for no reason of ours.
    pub job_failures: u64,
    /// No fault in the plan may make the primary change by itself.
    pub harmless: bool,
    /// When the store was wiped last.
    pub wiped: Option<Us>,
}

impl Plan {
    /// Draws one.
    pub fn draw(rng: &mut Rng, failsafe: bool) -> Self {
        let harmless = rng.chance(60);
        let pool = match (harmless, failsafe) {
            (true, true) => HARMLESS_WITH_FAILSAFE,
            (true, false) => HARMLESS,
            (false, _) => DRAWN,
        };
        let many = if harmless { pool.len() } else { 1 + rng.index(9) };
        let kinds = (0..many).map(|_| pool[rng.index(pool.len())]).collect();
        Self {
            kinds,
            gap: rng.skewed(500 * MS, 20 * SEC),
            calm_at: rng.range(40 * SEC, 150 * SEC),
            stale: if rng.chance(250) && !harmless { rng.range(5, 200) } else { 0 },
            raft_unsure: if rng.chance(200) && !harmless { rng.range(5, 200) } else { 0 },
            job_failures: if rng.chance(100) && !harmless { rng.range(5, 150) } else { 0 },
            worst: if rng.chance(500) && !harmless { rng.range(50, 600) } else { 0 },
            harmless,
            wiped: None,
        }
    }
}

impl World {
    /// Enters the plan into the queue.
    pub fn begin_plan(&mut self) {
        let first = 8 * SEC + self.rng.range(0, 12 * SEC);
        self.queue.push(first, Event::Fault);
        self.queue.push(self.plan.calm_at, Event::Calm);
    }

    /// The next fault.
    pub fn fault(&mut self) {
        if self.t >= self.plan.calm_at {
            return;
        }
        let gap = self.plan.gap;
        let next = self.t + self.rng.range(gap / 8, gap * 2);
        self.queue.push(next, Event::Fault);
        if self.plan.harmless && self.stays.is_none() {
            if !self.is_healthy() || !self.is_agreed() {
                return;
            }
            self.must_stay("nothing was wrong with it");
        }
        self.any_fault();
    }

    /// Something has just changed that a fault may hurt most: perhaps one strikes now.
    pub fn worst_moment(&mut self) {
        if self.t < self.plan.calm_at && self.rng.chance(self.plan.worst) {
            let at = self.t + self.rng.skewed(0, 600 * MS);
            self.queue.push(at, Event::Worst);
        }
    }

    /// A fault out of turn.
    pub fn strike_now(&mut self) {
        if self.t < self.plan.calm_at && !self.plan.harmless {
            self.any_fault();
        }
    }

    pub(crate) fn any_fault(&mut self) {
        let kind = self.plan.kinds[self.rng.index(self.plan.kinds.len())];
        let n = self.victim();
        self.say(n, || format!("FAULT {kind:?}"));
        if self.strike(kind, n) {
            *self.faults.entry(kind.name()).or_default() += 1;
        }
    }

    /// More often than not the one that matters: whoever leads.
    pub(crate) fn victim(&mut self) -> usize {
        let any = self.rng.index(self.nodes.len());
        let leader = self.keys().leader_name().map(str::to_owned);
        let found = leader.and_then(|leader| self.names.iter().position(|name| *name == leader));
        found.filter(|_| self.rng.chance(600)).unwrap_or(any)
    }

    /// How long a fault lasts: around the lease's length, where it hurts, or longer.
    pub(crate) fn lasting(&mut self) -> Us {
        match self.rng.below(4) {
            0 => self.rng.range(10 * MS, SEC),
            1 => self.rng.range(SEC, 5 * SEC),
            2 => self.rng.range(2 * SEC, 9 * SEC),
            _ => self.rng.range(5 * SEC, 40 * SEC),
        }
    }
}
