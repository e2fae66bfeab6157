//! A pause is maintenance.

use super::*;

fn paused(snapshot: Snapshot) -> Snapshot {
    with_setting(snapshot, "pause", true.into())
}

/// n1 leads with a lease that has no end.
fn open() -> Snapshot {
    let lease = Lease { open: true, ..lease("n1", 9, LeaseState::Held) };
    paused(with_lease(cluster(), Some(lease)))
}

fn endless(mut seen: Observation) -> Observation {
    let hold = Hold { term: 5, deadline: Time::NEVER };
    (seen.lease.hold, seen.local.armed) = (Some(hold), Some(hold));
    seen
}

fn follows() -> Command {
    Command::Begin(Job::StartStandby(Some(upstream("n1"))))
}

#[test]
fn what_was_stopped_in_a_pause_stays_stopped_until_somebody_asks() {
    let mut brain = brain("n2");
    let seen = sees("n2", 100, open(), standby(1000));
    assert_eq!(commands(&mut brain, &seen), []);
    let mut seen = down(seen, false, true);
    seen.now = at(200);
    let step = brain.step(&seen);
    assert_eq!(commands(&mut brain, &seen), []);
    assert!(step.phase.contains("hart restart"), "{}", step.phase);
    assert_eq!(step.member.state, State::Stopped, "also where it has crashed");
    seen.asked.restart = true;
    seen.local.memory.origins = [(1, 3)].into();
    seen.store.snapshot = Some({
        let mut snapshot = open();
        let n1 = &mut snapshot.members.get_mut("n1").unwrap().value;
        n1.timeline_terms = [(1, 3)].into();
        snapshot.into()
    });
    assert_eq!(commands(&mut brain, &seen), [follows()]);
    seen.asked.restart = false;
    seen.now = at(300);
    assert_eq!(commands(&mut brain, &seen), [follows()], "it is started until it runs");
}

#[test]
fn it_is_started_when_the_pause_is_over_and_where_hart_has_ended_it() {
    for (pause, own, starts) in [(true, false, false), (false, false, true), (true, true, true)] {
        let mut brain = brain("n2");
        let mut seen = sees("n2", 100, open(), standby(1000));
        seen.local.memory.origins = [(1, 3)].into();
        let mut snapshot = with_setting(open(), "pause", pause.into());
        snapshot.members.get_mut("n1").unwrap().value.timeline_terms = [(1, 3)].into();
        brain.step(&seen);
        if own {
            let finished = FinishedJob { job: Job::Stop, result: Ok(JobDone::Done) };
            let mut ended = down(seen.clone(), false, true);
            ended.finished = vec![finished];
            brain.step(&ended);
        } else {
            brain.step(&down(seen.clone(), false, true));
        }
        let mut seen = down(seen, false, true);
        seen.store.snapshot = Some(snapshot.into());
        let got = commands(&mut brain, &seen);
        assert_eq!(got == [follows()], starts, "{pause} {own}: {got:?}");
    }
}

#[test]
fn an_agent_that_begins_in_a_pause_leaves_down_what_is_down() {
    let seen = down(sees("n2", 100, open(), standby(1000)), false, true);
    assert_eq!(commands(&mut brain("n2"), &seen), []);
}

#[test]
fn a_primary_that_has_ended_in_a_pause_gives_its_lease_up_and_takes_it_again_at_a_restart() {
    let mut brain = brain("n1");
    let seen = endless(sees("n1", 100, open(), primary(2000)));
    brain.step(&seen);
    let mut seen = down(seen, true, true);
    seen.now = at(200);
    assert_eq!(commands(&mut brain, &seen), [Command::Release]);
    seen.store.snapshot = Some(paused(released(cluster())).into());
    (seen.lease.hold, seen.local.armed) = (None, None);
    assert_eq!(commands(&mut brain, &seen), []);
    seen.asked.restart = true;
    seen.now = at(2000);
    assert_eq!(commands(&mut brain, &seen), [follows()]);
}

/// Its word never arrived, and the lease has run out in a picture of the past that still shows it.
#[test]
fn what_was_stopped_stays_stopped_when_the_lease_that_it_had_is_over() {
    let mut brain = brain("n1");
    let seen = holding(sees("n1", 100, paused(cluster()), primary(2000)), true);
    brain.step(&seen);
    let mut seen = down(seen, true, true);
    seen.now = at(200);
    assert_eq!(commands(&mut brain, &seen), [Command::Release]);
    (seen.lease.hold, seen.local.armed) = (None, None);
    (seen.lease.abandoned, seen.store.reachable) = (Some(5), false);
    for now in [300, 100 + FREE_MS - 1, 100 + FREE_MS, 60_000] {
        seen.now = at(now);
        assert_eq!(commands(&mut brain, &seen), [], "{now}");
    }
    assert!(brain.step(&seen).phase.contains("hart restart"));
}

#[test]
fn an_agent_that_stops_in_a_pause_leaves_its_primary_running_when_nothing_ends_it() {
    let mut seen = endless(sees("n1", 100, open(), primary(2000)));
    seen.shutdown = true;
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Exit(Exit::Stopped)]);
    // The guard has not heard yet.
    let mut armed = seen.clone();
    armed.local.armed = Some(Hold { term: 5, deadline: at(3000) });
    assert_eq!(commands(&mut brain("n1"), &armed), []);
    let mut brain = brain("n1");
    let mut running = seen.clone();
    running.store.snapshot = Some(cluster().into());
    let got = commands(&mut brain, &running);
    assert!(!got.contains(&Command::Exit(Exit::Stopped)), "no pause: {got:?}");
}

#[test]
fn a_lease_is_to_have_no_end_in_a_pause_alone() {
    let open_in = |snapshot| {
        let seen = holding(sees("n1", 100, snapshot, primary(2000)), true);
        brain("n1").step(&seen).open
    };
    assert!(open_in(paused(cluster())));
    assert!(!open_in(cluster()));
}

/// Also when the pause is over: the holder may not have heard of that.
#[test]
fn nobody_takes_an_open_lease_over_by_waiting() {
    for pause in [true, false] {
        let mut snapshot = with_setting(open(), "pause", pause.into());
        snapshot.members.remove("n1");
        snapshot.leader = None;
        let mut brain = brain("n2");
        let mut seen = sees("n2", 100, snapshot, standby(1000));
        brain.step(&seen);
        seen.now = at(100 + 10 * LONGEST_MS);
        (seen.store.arrived, seen.local.sql.as_mut().unwrap().at) = (seen.now, seen.now);
        peers(&mut seen, &[("n1", None), ("n3", Some(answer(900)))]);
        assert_eq!(commands(&mut brain, &seen), []);
        let step = brain.step(&seen);
        let problem = step.member.problem.unwrap_or_default();
        assert!(problem.contains("--fenced n1"), "{problem}: {}", step.phase);
    }
}

#[test]
fn an_open_lease_that_has_vanished_is_not_taken_over_either() {
    let mut brain = brain("n2");
    let mut seen = sees("n2", 100, open(), standby(1000));
    brain.step(&seen);
    seen.store.snapshot = Some(with_lease(cluster(), None).into());
    brain.step(&seen);
    seen.now = at(200 + 10 * LONGEST_MS);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(900)))]);
    assert_eq!(commands(&mut brain, &seen), []);
}

#[test]
fn its_holder_waits_for_one_that_has_vanished_as_for_any() {
    let mut brain = brain("n1");
    let mut seen = sees("n1", 100, with_setting(open(), "pause", false.into()), standby(1000));
    seen.store.session = None;
    brain.step(&seen);
    seen.store.session = Some("s-n1".into());
    seen.store.snapshot = Some(with_lease(cluster(), None).into());
    brain.step(&seen);
    seen.now = at(200 + LONGEST_MS);
    peers(&mut seen, &[("n2", Some(answer(900))), ("n3", Some(answer(900)))]);
    let got = commands(&mut brain, &seen);
    assert!(matches!(&got[..], [Command::Acquire(_)]), "{got:?}");
}

#[test]
fn who_says_that_the_holder_is_gone_may_have_another_one_lead() {
    let takes = |fenced: Option<&str>, lives: bool, primary: bool| {
        let request = FailoverRequest { fenced: fenced.map(str::to_owned), ..failover_to("n2") };
        let mut snapshot = open();
        snapshot.failover = Some(versioned(request, None));
        if !lives {
            snapshot.members.remove("n1");
        }
        let mut brain = brain("n2");
        let mut seen = sees("n2", 100, snapshot, standby(1000));
        let role = if primary { Role::Primary } else { Role::Replica };
        let theirs = primary.then(|| PeerAnswer { role, ..answer(1000) });
        seen.local.memory.failsafe = addresses(&["n1", "n2", "n3"]);
        peers(&mut seen, &[("n1", theirs.clone()), ("n3", Some(answer(900)))]);
        let mut got = commands(&mut brain, &seen);
        seen.now = at(100 + FREE_MS);
        peers(&mut seen, &[("n1", theirs), ("n3", Some(answer(900)))]);
        got.extend(commands(&mut brain, &seen));
        got.iter().any(|command| matches!(command, Command::Acquire(plan) if plan.term == 6))
    };
    assert!(takes(Some("n1"), false, false));
    assert!(!takes(None, false, false), "nobody has said so");
    assert!(!takes(Some("n3"), false, false), "of another one");
    assert!(!takes(Some("n1"), true, false), "its agent lives, and hands over itself");
    assert!(!takes(Some("n1"), false, true), "it answers as primary");
}

/// Another installation of its name has its entry, and it is alive: whoever called it gone was wrong.
#[test]
fn an_open_lease_that_is_renewed_is_nobodys_to_take() {
    let mut brain = brain("n2");
    let request = FailoverRequest { fenced: Some("n1".into()), ..failover_to("n2") };
    let picture = |beat| {
        let lease = Lease { open: true, ..lease("n1", beat, LeaseState::Held) };
        let mut snapshot = paused(with_lease(cluster(), Some(lease)));
        snapshot.failover = Some(versioned(request.clone(), None));
        snapshot.members.get_mut("n1").unwrap().value.instance = "i-new".into();
        snapshot
    };
    let mut acquires = |now, beat, arrived| {
        let mut seen = sees("n2", arrived, picture(beat), standby(1000));
        seen.now = at(now);
        seen.local.memory.failsafe = addresses(&["n1", "n2", "n3"]);
        peers(&mut seen, &[("n1", Some(answer(900))), ("n3", Some(answer(900)))]);
        let got = commands(&mut brain, &seen);
        got.iter().any(|command| matches!(command, Command::Acquire(_)))
    };
    for beat in 10..20 {
        assert!(!acquires(beat * 1000, beat, beat * 1000), "it was renewed a moment ago");
    }
    assert!(!acquires(19_000 + FREE_MS - 1, 19, 19_000));
    assert!(acquires(19_000 + FREE_MS, 19, 19_000), "nobody has renewed it for a whole lease");
}

/// The holder's machine was set up anew under its name: the installation that has the lease has no agent.
#[test]
fn another_installation_of_the_holders_name_is_not_the_holder() {
    let lives = |instance: &str| {
        let mut snapshot = open();
        let n1 = &mut snapshot.members.get_mut("n1").unwrap().value;
        n1.instance = instance.to_owned();
        snapshot.has_agent("n1", "i-n1")
    };
    assert!(lives("i-n1"));
    assert!(lives(""), "it does not say which one it is");
    assert!(!lives("i-new"));
}

/// `pg_ctl stop` of what `pg_ctl start` had started.
#[test]
fn what_was_started_and_stopped_by_hand_in_a_pause_stays_stopped() {
    let mut brain = brain("n2");
    let seen = down(sees("n2", 100, open(), standby(1000)), false, true);
    let mut stray = seen.clone();
    stray.local.stray = Some("postmaster 4711".into());
    brain.step(&sees("n2", 90, open(), standby(1000)));
    let finished = vec![FinishedJob { job: Job::Stop, result: Ok(JobDone::Done) }];
    brain.step(&Observation { finished, ..seen.clone() });
    assert_eq!(commands(&mut brain, &stray), []);
    assert_eq!(commands(&mut brain, &seen), []);
    assert!(brain.step(&seen).phase.contains("hart restart"));
    // What hart itself has ended is started, as after `hart restart`.
    let mut asked = stray.clone();
    asked.asked.restart = true;
    assert_eq!(commands(&mut brain, &asked), [Command::StopStray]);
    let mut ended = seen.clone();
    ended.asked.restart = true;
    assert!(!brain.step(&ended).phase.contains("left so"));
}

/// `pg_ctl stop` while hart makes commits wait: that job ends without PostgreSQL, and has not ended it.
#[test]
fn what_was_stopped_beside_a_job_in_a_pause_stays_stopped() {
    let sync = Job::Sync(all(&["n2"]));
    for (job, rests) in [(sync, true), (Job::Stop, false)] {
        let mut brain = brain("n1");
        let seen = holding(sees("n1", 100, open(), primary(1000)), true);
        brain.step(&seen);
        let finished = vec![FinishedJob { job, result: Err("no primary runs".into()) }];
        let step = brain.step(&Observation { finished, ..down(seen, true, true) });
        let given_up = step.decisions.iter().any(|did| did.command == Command::Release);
        assert_eq!(given_up, rests, "{}", step.phase);
    }
}

/// A request for a copy that comes to nothing, as when this node takes its lease again, starts nothing.
#[test]
fn what_was_stopped_in_a_pause_is_started_again_by_a_copy_and_not_by_the_request_for_one() {
    let mut brain = brain("n2");
    let seen = sees("n2", 100, open(), standby(1000));
    brain.step(&seen);
    let mut seen = down(seen, false, true);
    brain.step(&seen);
    seen.asked.reinit = true;
    brain.step(&seen);
    seen.asked.reinit = false;
    assert_eq!(commands(&mut brain, &seen), []);
    assert!(brain.step(&seen).phase.contains("hart restart"));
    let job = Job::Clone(upstream("n1"));
    seen.finished = vec![FinishedJob { job, result: Ok(JobDone::Done) }];
    assert!(!brain.step(&seen).phase.contains("hart restart"));
}

#[test]
fn a_machine_that_was_started_anew_goes_on_from_its_open_lease() {
    let takes = |former: &str| {
        let lease =
            Lease { open: true, instance: "i-0".into(), ..lease("n1", 9, LeaseState::Held) };
        let snapshot = with_lease(cluster(), Some(lease));
        let mut brain = brain("n1");
        let mut seen = sees("n1", 100, snapshot, standby(1000));
        seen.local.memory.former = vec![former.into(), "i-1".into()];
        brain.step(&seen);
        seen.now = at(100 + FREE_MS);
        peers(&mut seen, &[("n2", Some(answer(900))), ("n3", Some(answer(900)))]);
        let got = commands(&mut brain, &seen);
        got.iter().any(|command| matches!(command, Command::Acquire(_)))
    };
    assert!(takes("i-0"));
    assert!(!takes("i-another"));
}

#[test]
fn an_open_lease_is_taken_back_as_it_is_whatever_the_guard_keeps() {
    let mut seen = sees("n1", 100, with_setting(open(), "pause", false.into()), primary(2000));
    seen.local.armed = Some(Hold { term: 5, deadline: Time::NEVER });
    let got = commands(&mut brain("n1"), &seen);
    let [Command::Acquire(plan)] = &got[..] else { panic!("{got:?}") };
    assert!(plan.open && plan.term == 5);
}

/// Its end could not be written: nothing else would ever give it one.
#[test]
fn an_open_lease_that_was_abandoned_begins_anew_when_postgresql_is_gone() {
    let mut brain = brain("n1");
    let snapshot = with_setting(open(), "pause", false.into());
    let mut seen = sees("n1", 100, snapshot, primary(2000));
    seen.lease.abandoned = Some(5);
    seen.local.armed = Some(Hold { term: 5, deadline: Time::NEVER });
    assert_eq!(commands(&mut brain, &seen), [], "it runs");
    let mut seen = down(seen, true, false);
    (seen.now, seen.local.armed) = (at(200), None);
    let got = commands(&mut brain, &seen);
    assert!(matches!(&got[..], [Command::Acquire(plan)] if plan.term == 6), "{got:?}");
}

/// It gave the lease up before it was promoted, and the word of that was lost.
#[test]
fn an_open_lease_that_was_abandoned_by_a_standby_begins_anew() {
    let mut seen = sees("n1", 100, open(), standby(1000));
    seen.lease.abandoned = Some(5);
    let got = commands(&mut brain("n1"), &seen);
    assert!(matches!(&got[..], [Command::Acquire(plan)] if plan.term == 6), "{got:?}");
    seen.local.sql = None;
    let got = commands(&mut brain("n1"), &seen);
    assert!(!got.iter().any(|c| matches!(c, Command::Acquire(_))), "it may write: {got:?}");
}

#[test]
fn a_primary_that_was_promoted_by_hand_is_left_alone_in_a_pause_and_said() {
    for pause in [true, false] {
        let snapshot = with_setting(cluster(), "pause", pause.into());
        let seen = sees("n2", 100, snapshot, primary(2000));
        let step = brain("n2").step(&seen);
        let fenced = step.decisions.iter().any(|d| d.command == Command::Fence);
        assert_eq!(fenced, !pause);
        assert_eq!(step.warning.is_some_and(|text| text.contains("n1 holds")), pause);
    }
}

/// A person has said that it does not write any more, and it does.
#[test]
fn who_led_before_is_fenced_in_a_pause_as_well() {
    let lease = Lease { term: 6, ..lease("n2", 9, LeaseState::Held) };
    let mut seen = sees("n1", 100, paused(with_lease(cluster(), Some(lease))), primary(2000));
    seen.local.armed = Some(Hold { term: 5, deadline: Time::NEVER });
    let got = commands(&mut brain("n1"), &seen);
    assert!(got.contains(&Command::Fence), "{got:?}");
}

#[test]
fn a_running_primary_takes_a_free_lease_in_a_pause() {
    let mut brain = brain("n2");
    let mut seen = sees("n2", 100, paused(released(cluster())), primary(2000));
    brain.step(&seen);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(3000)))]);
    let got = commands(&mut brain, &seen);
    assert!(matches!(&got[..], [Command::Acquire(plan)] if plan.term == 6), "{got:?}");
}

#[test]
fn another_clusters_data_ends_no_agent_in_a_pause() {
    for (pause, ends) in [(true, false), (false, true)] {
        let snapshot = with_setting(cluster(), "pause", pause.into());
        let mut seen = sees("n2", 100, snapshot, standby(1000));
        seen.local.data = Data::Cluster { system_id: "77".into() };
        let mut brain = brain("n2");
        let got = commands(&mut brain, &seen);
        assert_eq!(got.iter().any(|c| matches!(c, Command::Exit(Exit::Refused(_)))), ends);
        assert_eq!(brain.step(&seen).warning.is_some(), pause);
        seen.asked.reinit = true;
        seen.now = at(200);
        let copies = commands(&mut brain, &seen).is_empty();
        assert!(ends || copies, "its turn to be copied has yet to come");
    }
}

#[test]
fn what_was_started_past_the_agent_is_left_alone_in_a_pause_and_keeps_the_lease() {
    let stray = |snapshot| {
        let mut seen = down(sees("n1", 100, snapshot, primary(2000)), true, false);
        seen.local.stray = Some("postmaster 4711".into());
        seen
    };
    assert_eq!(commands(&mut brain("n1"), &stray(cluster())), [Command::EndStray]);
    let mut seen = endless(stray(open()));
    assert_eq!(commands(&mut brain("n1"), &seen), [], "the lease stays");
    seen.store.snapshot = Some(with_setting(open(), "pause", false.into()).into());
    let step = brain("n1").step(&seen);
    let stops = step.decisions.iter().any(|decision| decision.command == Command::StopStray);
    assert!(stops, "in good order: nobody leads before it has ended");
    assert!(step.open, "it gets an end when nothing without a guard writes any more");
    let mut asked = endless(stray(open()));
    asked.asked.restart = true;
    assert_eq!(commands(&mut brain("n1"), &asked), [Command::StopStray]);
    let got = commands(&mut brain("n1"), &stray(paused(released(cluster()))));
    assert!(matches!(&got[..], [Command::Acquire(_)]), "{got:?}");
}

/// Its guard should have ended it, and hangs. A pause that began while Consul did not answer has never been said in
/// the lease: others take it over.
#[test]
fn a_primary_whose_deadline_has_come_is_fenced_in_a_pause_as_well() {
    for (deadline, fenced) in [(90, true), (150, false)] {
        let mut seen = sees("n1", 100, paused(cluster()), primary(2000));
        seen.lease.hold = None;
        seen.local.armed = Some(Hold { term: 5, deadline: at(deadline) });
        let got = commands(&mut brain("n1"), &seen);
        assert_eq!(got.contains(&Command::Fence), fenced, "{deadline}: {got:?}");
    }
}
