//! Which faults strike in which round: all of it from the seed.

use std::time::Duration;

use fastrand::Rng;

use crate::harm::Harm;

/// Whom a fault strikes, decided when it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// Who leads when the round begins.
    Primary,
    /// The first or second of the others.
    Replica(usize),
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strike {
    pub(crate) harm: Harm,
    pub(crate) victim: Victim,
    /// How long nothing else happens afterwards.
    pub(crate) pause: Duration,
}

/// The faults of one round in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strikes {
    pub(crate) number: usize,
    pub(crate) strikes: Vec<Strike>,
}

/// The faults of all rounds.
#[derive(Debug)]
pub(crate) struct Plan {
    random: Rng,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed) }
    }

    /// One to three faults, mostly one: the account of a single fault is the clearest.
    pub(crate) fn next(&mut self, number: usize) -> Strikes {
        let count = match self.random.u8(..10) {
            0..=4 => 1,
            5..=7 => 2,
            _ => 3,
        };
        Strikes { number, strikes: (0..count).map(|_| self.strike()).collect() }
    }

    fn strike(&mut self) -> Strike {
        let harm = self.random.choice(Harm::ALL).unwrap_or(Harm::PostmasterKilled);
        let victim = match self.random.u8(..10) {
            0..=5 => Victim::Primary,
            6..=7 => Victim::Replica(0),
            _ => Victim::Replica(1),
        };
        // From at once to longer than a lease.
        let pause = match self.random.u8(..4) {
            0 => self.random.u64(..200),
            1 => self.random.u64(200..2000),
            _ => self.random.u64(2000..9000),
        };
        Strike { harm, victim, pause: Duration::from_millis(pause) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_everything() {
        let rounds = |seed| {
            let mut plan = Plan::new(seed);
            (0..50).map(|number| plan.next(number)).collect::<Vec<_>>()
        };
        assert_eq!(rounds(3), rounds(3));
        assert_ne!(rounds(3), rounds(4));
        assert!(rounds(3).iter().all(|round| (1..=3).contains(&round.strikes.len())));
    }
}
