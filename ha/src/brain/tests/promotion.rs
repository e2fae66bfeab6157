//! Promotions that end PostgreSQL.

use super::*;
use crate::brain::eligible::Verdict;
use crate::observation::LastWords;

fn at_ms(mut seen: Observation, ms: u64) -> Observation {
    (seen.now, seen.store.arrived) = (at(ms), at(ms));
    seen.lease.hold = Some(Hold { term: 5, deadline: at(ms + 3000) });
    seen.local.armed = seen.lease.hold;
    if let Some(sql) = &mut seen.local.sql {
        (sql.at, sql.asked) = (at(ms), at(ms));
    }
    seen
}

/// It is promoted, ends, and is up again with so much.
fn ends(brain: &mut Brain, ms: u64, has: u64) -> Vec<Command> {
    let mut rest = down(leads(cluster(), standby(0)), false, false);
    let words = "FATAL: archive file has wrong size".to_owned();
    rest.local.last_words = Some(LastWords { text: words, outside: false });
    commands(brain, &at_ms(rest, ms));
    commands(brain, &at_ms(leads(cluster(), standby(has)), ms + 100))
}

/// What it does of weight.
fn ends_with(step: &Step) -> Vec<Command> {
    let weighs = |command: &Command| {
        matches!(command, Command::Lacks | Command::Release | Command::Promote | Command::Fence)
    };
    step.decisions.iter().map(|decision| decision.command.clone()).filter(weighs).collect()
}

#[test]
fn nobody_is_promoted_again_with_less_than_it_had() {
    let mut brain = brain("n1");
    assert_eq!(commands(&mut brain, &leads(cluster(), standby(1000))), [Command::Promote]);
    assert_eq!(ends(&mut brain, 200, 600), [], "it may replay more");
    let step = |brain: &mut Brain, ms, has| brain.step(&at_ms(leads(cluster(), standby(has)), ms));
    let waits = step(&mut brain, 1000, 700);
    assert!(waits.phase.starts_with("replaying what was here before"), "{}", waits.phase);
    assert_eq!(ends_with(&waits), [], "{:?}", waits.decisions);
    assert_eq!(ends_with(&step(&mut brain, 5900, 700)), [], "not still for long enough");
    let given_up = step(&mut brain, 6100, 700);
    assert_eq!(ends_with(&given_up), [Command::Lacks, Command::Release]);
    let problem = given_up.member.problem.unwrap();
    assert!(problem.contains("wrong size") && problem.contains("--candidate"), "{problem}");
}

#[test]
fn who_has_all_again_is_promoted_again_and_not_for_ever() {
    let mut brain = brain("n1");
    assert_eq!(commands(&mut brain, &leads(cluster(), standby(1000))), [Command::Promote]);
    for ms in [1000, 2000] {
        assert_eq!(ends(&mut brain, ms, 1000), [Command::Promote]);
    }
    assert_eq!(ends(&mut brain, 3000, 1000), [Command::Release], "three promotions have ended it");
    // It is left to the others for a while.
    let free = released(cluster());
    let mut seen = sees("n1", 3500, free, standby(1000));
    seen.store.arrived = at(3500);
    let verdict = brain.step(&seen).verdict;
    let left = matches!(&verdict, Verdict::MayNot(refusal) if refusal.rule == "promotion");
    assert!(left, "{verdict:?}");
}

#[test]
fn another_reign_is_another_promotion() {
    let mut brain = brain("n1");
    assert_eq!(commands(&mut brain, &leads(cluster(), standby(1000))), [Command::Promote]);
    let mut later = leads(cluster(), standby(600));
    let mut lease = lease("n1", 11, LeaseState::Held);
    lease.term = 6;
    later.store.snapshot = Some(Arc::new(with_lease(cluster(), Some(lease))));
    later.local.memory.term = 6;
    later.lease.hold = Some(Hold { term: 6, deadline: at(5000) });
    later.local.armed = later.lease.hold;
    assert_eq!(commands(&mut brain, &later), [Command::Promote]);
}
