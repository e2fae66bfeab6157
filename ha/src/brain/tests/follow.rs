//! Following, and data that does not fit.

use super::*;

#[test]
fn a_replica_that_follows_has_nothing_to_do() {
    assert_eq!(commands(&mut brain("n2"), &sees("n2", 100, cluster(), standby(1000))), []);
}

/// The lease is renewed all the time.
fn beats(ms: u64) -> Snapshot {
    with_lease(cluster(), Some(lease("n1", ms, LeaseState::Held)))
}

#[test]
fn a_standby_that_cannot_go_on_is_repaired_after_the_third_comparison() {
    let mut brain = brain("n2");
    let mut seen = Observation::default();
    let check = Job::CheckHistory(upstream("n1"));
    let mut checks = 0;
    for ms in (100..60_000).step_by(500) {
        // It connects now and then, and gets what does not fit.
        let sql = Sql { streaming: ms % 5000 == 100, ..standby(1000) };
        seen = Observation { finished: seen.finished, ..sees("n2", ms, beats(ms), sql) };
        match commands(&mut brain, &seen).as_slice() {
            [Command::Begin(job)] if *job == check => {
                checks += 1;
                let result = Ok(JobDone::Stuck("LOG:  incorrect prev-link".into()));
                seen.finished = vec![FinishedJob { job: check.clone(), result }];
            }
            [Command::Begin(Job::Stop)] => break,
            [] => seen.finished.clear(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(checks, 3);
    let mut seen = down(Observation { finished: Vec::new(), ..seen }, false, true);
    let rewind = Job::Rewind(upstream("n1"));
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(rewind.clone())]);
    seen.finished = vec![FinishedJob { job: rewind, result: Ok(JobDone::Diverged(true)) }];
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Clone(upstream("n1")))]);
}

#[test]
fn a_silent_leader_costs_nobody_its_data() {
    let mut brain = brain("n2");
    let mut seen = Observation::default();
    let check = Job::CheckHistory(upstream("n1"));
    for ms in (100..600_000).step_by(500) {
        let sql = Sql { streaming: false, ..standby(1000) };
        seen = Observation { finished: seen.finished, ..sees("n2", ms, beats(ms), sql) };
        match commands(&mut brain, &seen).as_slice() {
            [Command::Begin(job)] if *job == check => {
                let result = Ok(JobDone::Diverged(false));
                seen.finished = vec![FinishedJob { job: check.clone(), result }];
            }
            [] => seen.finished.clear(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_rewind_that_was_broken_off_is_tried_again_and_one_without_hope_is_not() {
    let after_rewind = |result: Result<JobDone, String>| {
        let mut brain = brain("n2");
        brain.settings.clone_after_failed_rewind = true;
        let snapshot = on_timeline(2);
        let mut seen = down(sees("n2", 100, snapshot, primary(0)), true, false);
        let check = Job::CheckHistory(upstream("n1"));
        seen.finished = vec![FinishedJob { job: check, result: Ok(JobDone::Diverged(true)) }];
        let rewind = Job::Rewind(upstream("n1"));
        assert_eq!(commands(&mut brain, &seen), [Command::Begin(rewind.clone())]);
        seen.finished = vec![FinishedJob { job: rewind, result }];
        brain.step(&seen);
        (seen.now, seen.finished) = (at(1500), Vec::new());
        commands(&mut brain, &seen)
    };
    let begin = |job: Job| vec![Command::Begin(job)];
    assert_eq!(after_rewind(Err("broken off".into())), begin(Job::Rewind(upstream("n1"))));
    let hopeless = Ok(JobDone::Hopeless("no checksums".into()));
    assert_eq!(after_rewind(hopeless), begin(Job::Clone(upstream("n1"))));
}

#[test]
fn another_timeline_of_one_number_among_the_ancestors_is_noticed() {
    let mut snapshot = cluster();
    let leader = &mut snapshot.members.get_mut("n1").unwrap().value;
    (leader.timeline, leader.timeline_terms) = (Some(6), [(4, 4), (5, 6), (6, 7)].into());
    let mut seen = sees("n2", 100, snapshot, Sql { timeline: 4, ..standby(1000) });
    seen.local.memory.origins = [(3, 2), (4, 4)].into();
    assert_eq!(commands(&mut brain("n2"), &seen), [], "it is an ancestor");
    seen.local.memory.origins = [(3, 2), (4, 5)].into();
    assert_eq!(commands(&mut brain("n2"), &seen), [Command::Begin(Job::Stop)]);
}

/// n2 has just led in term 6 and crashed; a server of Consul's still shows term 5.
#[test]
fn a_picture_of_the_past_costs_nobody_its_data() {
    let mut brain = brain("n2");
    let past = |ms| {
        let mut seen = down(sees("n2", ms, beats(ms), primary(0)), true, false);
        seen.local.control.as_mut().unwrap().timeline = 2;
        seen.local.memory.term = 6;
        seen
    };
    assert_eq!(commands(&mut brain, &past(100)), []);
    let mut silent = Observation { now: at(600_000), ..past(100) };
    silent.store.reachable = false;
    assert_eq!(commands(&mut brain, &silent), [], "Consul has been silent since");
    assert_eq!(commands(&mut brain, &past(33_399)), []);
    let clone = Command::Begin(Job::Clone(upstream("n1")));
    assert_eq!(
        commands(&mut brain, &past(33_400)),
        [clone],
        "it has been the present all the time"
    );
}

/// A store that was restored from a backup shows a reign that another node has followed since.
#[test]
fn a_lease_of_the_past_is_not_taken_back() {
    let mut brain = brain("n1");
    let past = |ms| {
        let mut seen = down(sees("n1", ms, cluster(), primary(0)), true, false);
        (seen.local.memory.term, seen.store.arrived) = (6, at(100));
        seen
    };
    for ms in (100..33_400).step_by(3_700) {
        assert_eq!(commands(&mut brain, &past(ms)), []);
    }
    assert_eq!(commands(&mut brain, &past(33_399)), []);
    let got = commands(&mut brain, &past(33_400));
    let quiet = "Consul has answered all the time, and had nothing new";
    assert!(matches!(got[..], [Command::Acquire(_)]), "{quiet}: {got:?}");
}

#[test]
fn an_old_primary_compares_then_rewinds_then_follows() {
    let snapshot = on_timeline(2);
    let mut brain = brain("n2");
    let mut seen = down(sees("n2", 100, snapshot, primary(0)), true, false);
    let check = Job::CheckHistory(upstream("n1"));
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(check.clone())]);
    seen.finished = vec![FinishedJob { job: check, result: Ok(JobDone::Diverged(true)) }];
    let rewind = Job::Rewind(upstream("n1"));
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(rewind.clone())]);
    seen.finished = vec![FinishedJob { job: rewind, result: Ok(JobDone::Done) }];
    seen.local.control = Some(Control {
        was_primary: false,
        clean: false,
        checkpoint: Lsn(1),
        timeline: 2,
        fresh_backup: false,
    });
    let start = Job::StartStandby(Some(upstream("n1")));
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(start)]);
}

#[test]
fn two_timelines_of_one_number_are_not_taken_for_one() {
    let snapshot = on_timeline(2);
    let mut seen = down(sees("n2", 100, snapshot, primary(0)), true, false);
    seen.local.control.as_mut().unwrap().timeline = 2;
    let clone = Job::Clone(upstream("n1"));
    assert_eq!(commands(&mut brain("n2"), &seen), [Command::Begin(clone)]);
}

#[test]
fn a_standby_on_another_timeline_of_the_same_number_is_cloned_anew() {
    let mut snapshot = cluster();
    let leader = &mut snapshot.members.get_mut("n1").unwrap().value;
    (leader.timeline, leader.timeline_terms) = (Some(2), [(1, 1), (2, 5)].into());
    let sql = Sql { timeline: 2, ..standby(1000) };
    let mut seen = sees("n2", 100, snapshot, sql);
    seen.local.memory.origins = [(1, 1), (2, 5)].into();
    assert_eq!(commands(&mut brain("n2"), &seen), [], "it is the same");
    seen.local.memory.origins = [(1, 1), (2, 4)].into();
    assert_eq!(commands(&mut brain("n2"), &seen), [Command::Begin(Job::Stop)]);
    let seen = down(seen, false, true);
    let clone = Command::Begin(Job::Clone(upstream("n1")));
    assert_eq!(commands(&mut brain("n2"), &seen), [clone]);
}

#[test]
fn the_term_of_a_timeline_is_noted_by_who_makes_it_and_by_who_streams_it() {
    let origins = |name: &str, seen: &Observation| -> Vec<Command> {
        let decisions = brain(name).step(seen).decisions.into_iter();
        decisions.map(|d| d.command).filter(|c| matches!(c, Command::Origins(_))).collect()
    };
    let mut seen = leads(cluster(), primary(2000));
    assert_eq!(origins("n1", &seen), [], "who knows when it began");
    seen.local.memory.origins = [(0, 4)].into();
    assert_eq!(origins("n1", &seen), [Command::Origins([(0, 4), (1, 5)].into())]);
    let mut snapshot = cluster();
    snapshot.members.get_mut("n1").unwrap().value.timeline_terms = [(1, 3)].into();
    let from = |host: &str| {
        let sql = Sql { receives_from: Some((host.into(), 5432)), ..standby(1000) };
        sees("n2", 100, snapshot.clone(), sql)
    };
    assert_eq!(origins("n2", &from("n3")), [], "it still streams from another one");
    let mut seen = from("n1");
    assert_eq!(origins("n2", &seen), [Command::Origins([(1, 3)].into())]);
    seen.local.memory.origins = [(1, 3)].into();
    assert_eq!(origins("n2", &seen), []);
}

#[test]
fn a_replica_turns_to_the_new_leader_by_a_reload() {
    let mut snapshot = with_lease(cluster(), Some(lease("n3", 10, LeaseState::Held)));
    snapshot.leader = Some(versioned("n3".into(), Some("s-n3")));
    let seen = sees("n2", 100, snapshot, standby(1000));
    assert_eq!(commands(&mut brain("n2"), &seen), [Command::Follow(upstream("n3"))]);
}

#[test]
fn a_replica_keeps_its_upstream_when_the_leader_key_is_gone() {
    let mut brain = brain("n2");
    let seen = sees("n2", 100, cluster(), standby(1000));
    brain.step(&seen);
    let mut blink = cluster();
    (blink.leader, blink.members) = (None, BTreeMap::new());
    let seen = Observation { now: at(500), ..sees("n2", 500, blink, standby(1000)) };
    assert_eq!(commands(&mut brain, &seen), []);
}

#[test]
fn addresses_are_read_from_connection_urls() {
    let read = |url| host_and_port(url);
    assert_eq!(read("postgres://10.0.0.1:5433/postgres"), Some(("10.0.0.1".into(), 5433)));
    assert_eq!(read("postgres://u@[::1]:5432/x?y"), Some(("::1".into(), 5432)));
    assert_eq!(read("postgres://n1/postgres"), Some(("n1".into(), 5432)));
    assert_eq!(read("postgres://n1:port/"), None);
    assert_eq!(read("n1"), None);
}
