//! Runs of seeds, and their sums.

use std::collections::BTreeMap;

use crate::agent::states::class_name;
use crate::clock::{SEC, Us};
use crate::event::{CAUSES, Cause};
use crate::mutation::Mutation;
use crate::world::World;

/// What was covered: (state of the brain, cause) → how often.
pub type Coverage = BTreeMap<(&'static str, Cause), u64>;

/// What one seed gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Simulated time.
    pub took: Us,
    /// Violations and their times.
    pub violations: Vec<(Us, String)>,
    /// A hash over all events.
    pub hash: u64,
    /// Events.
    pub events: u64,
    /// Lines, where a trace was asked for.
    pub trace: Vec<String>,
    /// State of the brain × cause.
    pub coverage: Coverage,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Writes acknowledged.
    pub writes: u64,
    /// Changes of the primary.
    pub changes: u64,
    /// Furthest acknowledged writes that were lost where the rules allow it.
    pub lost: u64,
    /// Leases that were taken before they were over.
    pub revoked: u64,
}

/// How a violation begins that says that the cluster did not heal.
pub const HEALED_NOT: &str = "the cluster did not heal";
/// How one begins that says that the primary changed for no reason.
pub const CHANGED: &str = "the primary changed";
/// How one begins that says that the cluster fell ill again for no reason.
const STAYED_NOT: &str = "the cluster did not stay well";
const ENDLESS: &str = "a loop without end";

/// More events than this in one run is a loop without end.
const EVENTS_MAX: u64 = 4_000_000;

/// Runs one seed to its end, or to its first violation where a mutation is to be caught.
#[must_use]
pub fn run(seed: u64, mutation: Option<Mutation>, traced: bool) -> Outcome {
    run_world(World::new(seed, mutation, traced), seed, mutation)
}

/// Runs one seed in a world in which the lease of a silent holder is revoked.
#[must_use]
pub fn run_revoking(seed: u64, traced: bool) -> Outcome {
    let mut world = World::new(seed, None, traced);
    world.revoke();
    run_world(world, seed, None)
}

/// Runs a seed as for this mutation, with its rule in force.
#[must_use]
pub fn run_in_force(seed: u64, mutation: Mutation) -> Outcome {
    let mut world = World::new(seed, Some(mutation), false);
    world.mutation = None;
    run_world(world, seed, None)
}

fn run_world(mut world: World, seed: u64, mutation: Option<Mutation>) -> Outcome {
    let mut events = 0;
    while world.turn() {
        events += 1;
        if events > EVENTS_MAX {
            world.oracle.report(world.t, "a loop without end".to_owned());
            break;
        }
        let found = &world.oracle.violations;
        if mutation.is_some_and(|mutation| found.iter().any(|(_, what)| mutation.explains(what))) {
            break;
        }
    }
    Outcome {
        seed,
        took: world.t,
        violations: world.oracle.violations,
        hash: world.hash,
        events,
        trace: world.trace.unwrap_or_default(),
        coverage: coverage(&world.coverage[..]),
        faults: world.faults,
        writes: world.oracle.writes,
        changes: world.oracle.changes,
        lost: world.oracle.lost,
        revoked: world.revoked,
    }
}

fn coverage(counts: &[[u32; CAUSES.len()]]) -> Coverage {
    let mut coverage = Coverage::new();
    for (class, counts) in counts.iter().enumerate() {
        for (cause, count) in CAUSES.into_iter().zip(counts).filter(|(_, count)| **count > 0) {
            *coverage.entry((class_name(class), cause)).or_default() += u64::from(*count);
        }
    }
    coverage
}

/// Is this a broken promise about data or primaries, not only a cluster that needs too long?
#[must_use]
pub fn is_unsafe(violation: &str) -> bool {
    ![HEALED_NOT, STAYED_NOT, CHANGED, ENDLESS]
        .iter()
        .any(|harmless| violation.starts_with(harmless))
}

/// The sum of many runs.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Seeds.
    pub seeds: u64,
    /// Simulated time.
    pub took: Us,
    /// Events.
    pub events: u64,
    /// Violations: seed, time, what.
    pub violations: Vec<(u64, Us, String)>,
    /// State of the brain × cause.
    pub coverage: Coverage,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Writes acknowledged.
    pub writes: u64,
    /// Changes of the primary.
    pub changes: u64,
    /// See [`Outcome::lost`].
    pub lost: u64,
    /// See [`Outcome::revoked`].
    pub revoked: u64,
}

impl Sum {
    /// Adds a run.
    pub fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.took += outcome.took;
        self.events += outcome.events;
        self.writes += outcome.writes;
        self.changes += outcome.changes;
        self.lost += outcome.lost;
        self.revoked += outcome.revoked;
        let seed = outcome.seed;
        self.violations.extend(outcome.violations.into_iter().map(|(t, what)| (seed, t, what)));
        for (pair, count) in outcome.coverage {
            *self.coverage.entry(pair).or_default() += count;
        }
        for (kind, count) in outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }

    /// The last line of a run.
    #[must_use]
    pub fn line(&self) -> String {
        let hours = self.took / SEC / 3600;
        let revoked = match self.revoked {
            0 => String::new(),
            count => format!(", {count} leases revoked"),
        };
        format!(
            "{} seeds, {hours} simulated hours, {} violations{revoked}",
            self.seeds,
            self.violations.len()
        )
    }
}
