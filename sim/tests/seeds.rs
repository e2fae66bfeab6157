//! The same seed gives the same run; the seeds hold; the seeds that once failed hold.

use hart_sim::mutation::Mutation;
use hart_sim::run::{Outcome, is_unsafe, run, run_revoking};

fn holds(outcome: &Outcome) {
    assert!(
        outcome.violations.is_empty(),
        "seed {}: {:?}; see `hart-sim --seed {}`",
        outcome.seed,
        outcome.violations,
        outcome.seed
    );
}

#[test]
fn a_seed_gives_the_same_run_each_time_traced_or_not() {
    for seed in [3, 17] {
        let (first, second, traced) =
            (run(seed, None, false), run(seed, None, false), run(seed, None, true));
        assert_eq!((first.hash, first.events), (second.hash, second.events));
        assert_eq!((first.hash, first.took), (traced.hash, traced.took));
        assert!(!traced.trace.is_empty() && first.trace.is_empty());
    }
    assert_ne!(run(3, None, false).hash, run(17, None, false).hash);
}

#[test]
fn a_run_does_something() {
    let outcome = run(5, None, false);
    assert!(outcome.writes > 10, "{} writes", outcome.writes);
    assert!(!outcome.faults.is_empty() && !outcome.coverage.is_empty());
}

#[test]
fn a_few_seeds_hold() {
    (1..=12).for_each(|seed| holds(&run(seed, None, false)));
}

fn listed(text: &str) -> Vec<u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let seeds: Vec<u64> =
        lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert!(!seeds.is_empty());
    seeds
}

#[test]
fn seeds_that_once_failed_hold() {
    let seeds = listed(include_str!("../seeds.txt"));
    seeds.into_iter().for_each(|seed| holds(&run(seed, None, false)));
}

#[test]
fn seeds_that_once_failed_where_leases_are_revoked_hold() {
    let seeds = listed(include_str!("../revoking-seeds.txt"));
    seeds.into_iter().for_each(|seed| holds(&run_revoking(seed, false)));
}

#[test]
fn a_few_seeds_in_which_leases_are_revoked_hold() {
    let outcomes: Vec<_> = (1..=24).map(|seed| run_revoking(seed, false)).collect();
    outcomes.iter().for_each(holds);
    assert!(outcomes.iter().any(|outcome| outcome.revoked > 0), "none was revoked");
}

#[test]
fn a_guard_that_does_not_fence_is_noticed() {
    let caught = (1..=40).find(|seed| {
        let outcome = run(*seed, Some(Mutation::GuardIgnoresDeadline), false);
        outcome.violations.iter().any(|(_, what)| is_unsafe(what))
    });
    assert!(caught.is_some());
}
