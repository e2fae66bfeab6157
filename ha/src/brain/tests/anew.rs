//! What was proved against a leader's data, and for how long it counts.

use super::*;

/// n2's data does not fit n1, which leads, and pg_rewind cannot mend that.
fn given_up() -> Brain {
    let mut brain = brain("n2");
    brain.settings.clone_after_failed_rewind = true;
    let mut seen = down(sees("n2", 100, on_timeline(2), primary(0)), true, false);
    let job = Job::Rewind(upstream("n1"));
    let result = Ok(JobDone::Hopeless("no common ancestor".into()));
    seen.finished = vec![FinishedJob { job, result }];
    brain.step(&seen);
    brain
}

/// n1 has given the lease up; the set is `leader`'s, and names n2.
fn may_lead_after(leader: &str) -> bool {
    let mut brain = given_up();
    let snapshot = with_sync(released(cluster()), leader, &["n2"]);
    let mut seen = sees("n2", 1000, snapshot, standby(1000));
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(1000)))]);
    brain.step(&seen).decisions.iter().any(|d| matches!(d.command, Command::Acquire(_)))
}

/// Nobody else has every acknowledged commit, and nobody could lead.
#[test]
fn whoever_is_published_may_lead_again_when_the_leader_that_published_nothing_is_gone() {
    assert!(may_lead_after("n2"));
    assert!(may_lead_after("n3"));
    assert!(!may_lead_after("n1"), "what was compared is that leader's own set");
}

#[test]
fn nothing_published_is_rewound_or_copied_for_a_leader_that_did_not_publish_it() {
    let rewinds = |leader: &str| {
        let mut snapshot = with_sync(on_timeline(2), leader, &["n2"]);
        snapshot.config.as_mut().unwrap().value.postgresql.use_pg_rewind = true;
        let mut seen = down(sees("n2", 100, snapshot, primary(0)), true, false);
        let job = Job::CheckHistory(upstream("n1"));
        seen.finished = vec![FinishedJob { job, result: Ok(JobDone::Diverged(true)) }];
        let step = brain("n2").step(&seen);
        let job = Command::Begin(Job::Rewind(upstream("n1")));
        (step.decisions.iter().any(|d| d.command == job), step.phase)
    };
    let (begun, phase) = rewinds("n1");
    assert!(begun, "{phase}");
    for leader in ["n2", "n3"] {
        let (begun, phase) = rewinds(leader);
        assert!(!begun && phase.contains("the data here is kept"), "{phase}");
    }
    let copies = |leader: &str| {
        let snapshot = with_sync(on_timeline(2), leader, &["n2"]);
        let seen = down(sees("n2", 2000, snapshot, primary(0)), true, false);
        let mut brain = given_up();
        brain.step(&seen).member.to_be_copied
    };
    assert!(copies("n1"));
    assert!(!copies("n3"));
}
