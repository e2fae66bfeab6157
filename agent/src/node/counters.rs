//! What the agent counts and measures of itself, for `GET /metrics`. All of it only grows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hart_ha::kv::{LeaseState, Term};

/// Upper bounds of what is counted together, in microseconds: from a quick round trip to what ends a short lease.
pub const BOUNDS_MICROS: [u64; 12] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];

/// How often something took place, how long it took altogether, and how often it took how long.
#[derive(Debug, Default)]
pub struct Timing {
    count: AtomicU64,
    micros: AtomicU64,
    /// By the first bound that is not exceeded.
    within: [AtomicU64; BOUNDS_MICROS.len()],
}

impl Timing {
    /// It took place once, for so long.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        if let Some(at) = BOUNDS_MICROS.iter().position(|bound| micros <= *bound) {
            self.within[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it took no longer than each of [`BOUNDS_MICROS`].
    pub fn up_to(&self) -> [u64; BOUNDS_MICROS.len()] {
        let mut sum = 0;
        std::array::from_fn(|at| {
            sum += self.within[at].load(Ordering::Relaxed);
            sum
        })
    }

    /// How often, and how long.
    pub fn get(&self) -> (u64, Duration) {
        let micros = Duration::from_micros(self.micros.load(Ordering::Relaxed));
        (self.count.load(Ordering::Relaxed), micros)
    }
}

/// Why this node came to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The lease of another node had run out.
    Expired,
    /// Another node held it, was silent, and had it taken before it had run out.
    Revoked,
    /// Another node had released it: it was stopped, or sick, or could not start PostgreSQL.
    Released,
    /// Another node handed it over.
    HandedOver,
    /// The store had none: the cluster is new, or its keys were lost.
    Missing,
    /// It was this node's own, and the agent or the session had been away.
    TakenBack,
}

impl Cause {
    /// All of them, with their words.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Expired, "expired"),
        (Self::Revoked, "revoked"),
        (Self::Released, "released"),
        (Self::HandedOver, "handed_over"),
        (Self::Missing, "missing"),
        (Self::TakenBack, "taken_back"),
    ];

    /// Of a takeover for this term, with term and state of the lease as it is in the store, by a
    /// node that is a standby or not.
    pub fn of(term: Term, lease: Option<(Term, LeaseState)>, standby: bool) -> Self {
        match lease {
            None => Self::Missing,
            Some((_, LeaseState::Released)) => Self::Released,
            Some((before, _)) if before < term => Self::Expired,
            Some(_) if standby => Self::HandedOver,
            Some(_) => Self::TakenBack,
        }
    }
}

/// All counters of the agent.
#[derive(Debug, Default)]
pub struct Counters {
    /// Turns of the loop, without the wait for the next event.
    pub turns: Timing,
    /// Lease transactions that Consul answered.
    pub lease: Timing,
    /// Renewals of the session that Consul answered.
    pub session: Timing,
    /// The round trip to Consul in microseconds, as the lease thread measures it; 0: not yet.
    round_trip: AtomicU64,
    /// Requests of both kinds without an answer that could be used.
    pub errors: AtomicU64,
    /// WAL files that are kept because they are not in the archive yet.
    unarchived: AtomicU64,
    /// Lines of PostgreSQL's files that it does not take.
    file_faults: AtomicU64,
    /// Parameters that are left out of its files.
    left_out: AtomicU64,
    takeovers: [AtomicU64; Cause::ALL.len()],
}

impl Counters {
    /// This node has come to lead.
    pub fn took_over(&self, cause: Cause) {
        self.takeovers[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A round trip to Consul takes so long.
    pub fn set_round_trip(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.round_trip.store(micros, Ordering::Relaxed);
    }

    /// How long a round trip to Consul takes, where it was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// So many WAL files are kept because they are not in the archive.
    pub fn set_unarchived(&self, files: usize) {
        self.unarchived.store(u64::try_from(files).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many those are.
    pub fn unarchived(&self) -> u64 {
        self.unarchived.load(Ordering::Relaxed)
    }

    /// PostgreSQL does not take so many lines of its files.
    pub fn set_file_faults(&self, lines: usize) {
        self.file_faults.store(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many those are.
    pub fn file_faults(&self) -> u64 {
        self.file_faults.load(Ordering::Relaxed)
    }

    /// So many parameters are left out of PostgreSQL's files.
    pub fn set_left_out(&self, parameters: usize) {
        self.left_out.store(u64::try_from(parameters).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many those are.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// How often, for this cause.
    pub fn takeovers(&self, cause: Cause) -> u64 {
        self.takeovers[cause as usize].load(Ordering::Relaxed)
    }

    /// A request to Consul has had this outcome.
    pub fn asked<T, E>(&self, timing: &Timing, time: Duration, outcome: &Result<T, E>) {
        match outcome {
            Ok(_) => timing.took(time),
            Err(_) => drop(self.errors.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takeover_has_its_cause() {
        let (held, released) = (Some((4, LeaseState::Held)), Some((4, LeaseState::Released)));
        assert_eq!(Cause::of(5, held, true), Cause::Expired);
        assert_eq!(Cause::of(5, released, true), Cause::Released);
        assert_eq!(Cause::of(4, held, true), Cause::HandedOver);
        assert_eq!(Cause::of(4, held, false), Cause::TakenBack);
        assert_eq!(Cause::of(1, None, false), Cause::Missing);
    }

    #[test]
    fn causes_are_counted_apart() {
        let counters = Counters::default();
        counters.took_over(Cause::HandedOver);
        let counts = Cause::ALL.map(|(cause, _)| counters.takeovers(cause));
        assert_eq!(counts, [0, 0, 0, 1, 0, 0]);
    }
}
