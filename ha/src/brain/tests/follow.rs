//! Following, and data that does not fit.

use super::*;
use crate::brain::anew::GivenUp;
use crate::observation::{LastWords, Rests, RunningJob};

#[test]
fn a_replica_that_follows_has_nothing_to_do() {
    assert_eq!(commands(&mut brain("n2"), &sees("n2", 100, cluster(), standby(1000))), []);
}

/// The lease is renewed all the time.
fn beats(ms: u64) -> Snapshot {
    with_lease(cluster(), Some(lease("n1", ms, LeaseState::Held)))
}

/// Steps with the job that was begun last ended in this way; what is begun then.
fn after(brain: &mut Brain, mut seen: Observation, job: Job, done: JobDone) -> Vec<Command> {
    seen.finished = vec![FinishedJob { job, result: Ok(done) }];
    commands(brain, &seen)
}

/// n2 does not stream, and its history has been compared as it ran.
fn suspicious(brain: &mut Brain, done: &JobDone) -> Vec<Command> {
    let check = Job::CheckHistory(upstream("n1"));
    let mut seen = Observation::default();
    for ms in (100..20_000).step_by(500) {
        let sql = Sql { streaming: false, ..standby(1000) };
        seen = Observation { finished: seen.finished, ..sees("n2", ms, beats(ms), sql) };
        let got = commands(brain, &seen);
        match got.as_slice() {
            [Command::Begin(job)] if *job == check => {
                seen.finished = vec![FinishedJob { job: check.clone(), result: Ok(done.clone()) }];
            }
            [] => seen.finished.clear(),
            _ => return got,
        }
    }
    Vec::new()
}

/// Right after a switchover its control file names the former timeline, and so a comparison may be
/// wrong as long as it runs.
#[test]
fn what_a_running_server_lets_suspect_is_compared_again_at_rest() {
    let mut brain = brain("n2");
    let stop = [Command::Begin(Job::Stop)];
    assert_eq!(suspicious(&mut brain, &JobDone::Diverged(true)), stop);
    let rest = down(sees("n2", 20_100, on_timeline(2), standby(0)), false, true);
    let check = Job::CheckHistory(upstream("n1"));
    assert_eq!(commands(&mut brain, &rest), [Command::Begin(check.clone())]);
    let start = Command::Begin(Job::StartStandby(Some(upstream("n1"))));
    assert_eq!(after(&mut brain, rest, check, JobDone::Diverged(false)), [start]);
}

/// Else it would be stopped and started for ever: what is known of the timelines says that they are one.
#[test]
fn what_differs_by_its_bytes_is_compared_at_rest_whatever_is_known_of_the_timelines() {
    let mut brain = brain("n2");
    let twin = JobDone::Twin("the bytes differ".into());
    assert_eq!(suspicious(&mut brain, &twin), [Command::Begin(Job::Stop)]);
    let terms = BTreeMap::from([(1, 1)]);
    let mut keys = on_timeline(1);
    keys.members.get_mut("n1").unwrap().value.timeline_terms = terms.clone();
    let mut rest = down(sees("n2", 20_100, keys, standby(0)), false, true);
    rest.local.memory.origins = terms;
    let start = Command::Begin(Job::StartStandby(Some(upstream("n1"))));
    assert_eq!(commands(&mut super::brain("n2"), &rest), [start], "without a suspicion");
    let check = Command::Begin(Job::CheckHistory(upstream("n1")));
    assert_eq!(commands(&mut brain, &rest), [check]);
}

#[test]
fn a_rewind_that_had_nothing_to_do_is_followed_by_a_start() {
    for allowed in [false, true] {
        let mut brain = brain("n2");
        brain.settings.clone_when_diverged = allowed;
        brain.settings.clone_after_failed_rewind = allowed;
        let seen = down(sees("n2", 100, on_timeline(2), primary(0)), true, false);
        let check = Job::CheckHistory(upstream("n1"));
        let rewind = Job::Rewind(upstream("n1"));
        let got = after(&mut brain, seen.clone(), check, JobDone::Diverged(true));
        assert_eq!(got, [Command::Begin(rewind.clone())]);
        let start = Command::Begin(Job::StartStandby(Some(upstream("n1"))));
        assert_eq!(after(&mut brain, seen, rewind, JobDone::Diverged(false)), [start]);
    }
}

/// n2 wants its data to be copied anew, and says so; the others have had time to see it.
pub(in crate::brain) fn its_turn(
    brain: &mut Brain,
    mut seen: Observation,
    others: &[(&str, State, bool)],
) -> Vec<Command> {
    let mut keys = (**seen.store.snapshot.as_ref().unwrap()).clone();
    keys.members.get_mut("n2").unwrap().value.to_be_copied = true;
    for (name, state, wants) in others {
        let other = &mut keys.members.get_mut(*name).unwrap().value;
        (other.state, other.to_be_copied) = (*state, *wants);
    }
    seen.store.snapshot = Some(keys.into());
    seen.finished.clear();
    assert_eq!(commands(brain, &seen), [], "others may want it as well");
    for ms in [2500, 2499] {
        later(&mut seen, ms);
        assert_eq!(commands(brain, &seen), []);
    }
    later(&mut seen, 1);
    let got = commands(brain, &seen);
    if !got.is_empty() {
        return got;
    }
    // One at rest says that it begins.
    let mut keys = (**seen.store.snapshot.as_ref().unwrap()).clone();
    keys.members.get_mut("n2").unwrap().value.state = brain.step(&seen).member.state;
    seen.store.snapshot = Some(keys.into());
    commands(brain, &seen)
}

/// The leader has renewed its lease meanwhile.
pub(super) fn later(seen: &mut Observation, ms: u64) {
    let mut keys = (**seen.store.snapshot.as_ref().unwrap()).clone();
    let lease = keys.status.as_mut().and_then(|status| status.value.lease.as_mut());
    lease.into_iter().for_each(|lease| lease.beat += 1);
    seen.store.snapshot = Some(keys.into());
    seen.now = seen.now + Duration::from_millis(ms);
    seen.store.arrived = seen.now;
}

#[test]
fn a_twin_is_copied_anew_only_if_the_settings_say_so_and_at_rest() {
    let twin = JobDone::Twin("the bytes differ".into());
    let check = Job::CheckHistory(upstream("n1"));
    let rest = || down(sees("n2", 20_100, on_timeline(2), standby(0)), false, true);
    for allowed in [false, true] {
        let mut brain = brain("n2");
        brain.settings.clone_when_diverged = allowed;
        assert_eq!(suspicious(&mut brain, &twin), [Command::Begin(Job::Stop)]);
        assert_eq!(commands(&mut brain, &rest()), [Command::Begin(check.clone())]);
        assert_eq!(after(&mut brain, rest(), check.clone(), twin.clone()), []);
        let clone = Command::Begin(Job::Clone(upstream("n1")));
        let got = its_turn(&mut brain, rest(), &[]);
        assert_eq!(got, if allowed { vec![clone] } else { vec![] });
        let problem = brain.step(&rest()).member.problem.unwrap_or_default();
        assert_eq!(problem.contains("hart reinit"), !allowed, "{problem}");
    }
}

#[test]
fn two_members_are_never_copied_anew_at_once() {
    let turn = |others: &[(&str, State, bool)]| {
        let mut brain = brain("n2");
        let mut seen = sees("n2", 100, cluster(), standby(1000));
        seen.asked.reinit = true;
        its_turn(&mut brain, seen, others)
    };
    let stop = [Command::Begin(Job::Stop)];
    assert_eq!(turn(&[]), stop);
    assert_eq!(turn(&[("n3", State::CreatingReplica, false)]), []);
    assert_eq!(turn(&[("n3", State::Running, true)]), stop, "n2 comes before n3");
    let mut brain = brain("n3");
    for ms in (100..60_000).step_by(500) {
        let mut keys = beats(ms);
        for name in ["n2", "n3"] {
            keys.members.get_mut(name).unwrap().value.to_be_copied = true;
        }
        let mut seen = sees("n3", ms, keys, standby(1000));
        seen.asked.reinit = true;
        assert_eq!(commands(&mut brain, &seen), [], "n2 comes first");
    }
}

/// Who is at rest for its copy has it before anybody else is stopped for one.
#[test]
fn a_member_that_has_been_stopped_for_its_copy_goes_first() {
    let mut brain = brain("n3");
    let sees_n2 = |ms, state, wants, mine| {
        let mut keys = beats(ms);
        let n2 = &mut keys.members.get_mut("n2").unwrap().value;
        (n2.state, n2.to_be_copied) = (state, wants);
        let n3 = &mut keys.members.get_mut("n3").unwrap().value;
        (n3.state, n3.to_be_copied) = (mine, true);
        let mut seen = sees("n3", ms, keys, standby(1000));
        seen.asked.reinit = true;
        seen
    };
    assert_eq!(commands(&mut brain, &sees_n2(100, State::Running, false, State::Running)), []);
    let seen = sees_n2(5100, State::Running, false, State::Running);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Stop)]);
    let mut seen = sees_n2(5200, State::Running, true, State::Stopping);
    seen.job = Some(RunningJob { job: Job::Stop, since: at(5100) });
    assert!(brain.step(&seen).member.to_be_copied, "it is still said while the job runs");
    // It begins when Consul shows that it does, and nobody else who has.
    let at_rest = |ms, other, mine| {
        let mut seen = down(sees_n2(ms, other, true, mine), false, true);
        seen.store.arrived = at(ms);
        seen
    };
    let seen = at_rest(5300, State::Running, State::Stopped);
    assert_eq!(commands(&mut brain, &seen), []);
    assert_eq!(brain.step(&seen).member.state, State::CreatingReplica);
    let both = at_rest(5350, State::CreatingReplica, State::CreatingReplica);
    assert_eq!(commands(&mut brain.clone(), &both), [], "the other one may have begun");
    let seen = at_rest(5400, State::Running, State::CreatingReplica);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Clone(upstream("n1")))]);

    let mut n2 = super::brain("n2");
    for ms in (100..60_000).step_by(500) {
        let mut keys = beats(ms);
        keys.members.get_mut("n2").unwrap().value.to_be_copied = true;
        let n3 = &mut keys.members.get_mut("n3").unwrap().value;
        (n3.state, n3.to_be_copied) = (State::Stopping, true);
        let mut seen = sees("n2", ms, keys, standby(1000));
        seen.asked.reinit = true;
        assert_eq!(commands(&mut n2, &seen), [], "n3 is on its way");
    }
}

/// A picture of the past may leave the other one's wish out.
#[test]
fn who_has_seen_another_one_that_comes_first_waits_anew() {
    let mut brain = brain("n3");
    let mut sees_n2 = |ms: u64, wants: bool| {
        let mut keys = beats(ms);
        keys.members.get_mut("n3").unwrap().value.to_be_copied = true;
        keys.members.get_mut("n2").unwrap().value.to_be_copied = wants;
        let mut seen = sees("n3", ms, keys, standby(1000));
        seen.asked.reinit = true;
        commands(&mut brain, &seen)
    };
    for (ms, wants) in [(0, false), (4900, true), (5000, false), (9900, false)] {
        assert_eq!(sees_n2(ms, wants), [], "{ms}");
    }
    assert_eq!(sees_n2(10_000, false), [Command::Begin(Job::Stop)]);
}

/// Cut off from Consul, nobody hears of the others.
#[test]
fn the_time_to_see_the_others_counts_by_consuls_answers() {
    let mut brain = brain("n3");
    let mut sees = |ms: u64, arrived: u64| {
        let mut keys = beats(arrived);
        keys.members.get_mut("n3").unwrap().value.to_be_copied = true;
        let mut seen = sees("n3", ms, keys, standby(1000));
        seen.asked.reinit = true;
        seen.store.arrived = at(arrived);
        commands(&mut brain, &seen)
    };
    for (ms, arrived) in [(100, 100), (5200, 4900), (5900, 4900)] {
        assert_eq!(sees(ms, arrived), [], "{ms}");
    }
    assert_eq!(sees(6000, 6000), [Command::Begin(Job::Stop)]);
}

/// It did not start three times, and waits for its turn to be copied anew: now it runs after all.
#[test]
fn a_base_backup_that_streams_after_all_is_kept() {
    let mut brain = brain("n2");
    let mut rest = down(sees("n2", 100, beats(100), standby(0)), false, true);
    rest.local.control.as_mut().unwrap().fresh_backup = true;
    let job = Job::StartStandby(Some(upstream("n1")));
    let failed = |_| FinishedJob { job: job.clone(), result: Err("no memory".into()) };
    rest.finished = (0..3).map(failed).collect();
    assert_eq!(commands(&mut brain, &rest), []);
    assert!(brain.must_clone.is_some(), "{:?}", brain.must_clone);
    let mut runs = sees("n2", 200, beats(200), Sql { streaming: false, ..standby(1000) });
    assert_eq!(commands(&mut brain, &runs), []);
    assert!(brain.must_clone.is_some(), "it runs, and gets nothing yet");
    runs.local.sql.as_mut().unwrap().streaming = true;
    commands(&mut brain, &runs);
    assert_eq!(brain.must_clone, None);
}

/// Nothing can be started beside it: that says nothing of the data.
#[test]
fn a_base_backup_that_did_not_start_beside_a_stray_is_kept() {
    let mut brain = brain("n2");
    let mut rest = down(sees("n2", 100, beats(100), standby(0)), false, true);
    rest.local.control.as_mut().unwrap().fresh_backup = true;
    let job = Job::StartStandby(Some(upstream("n1")));
    let failed = |_| FinishedJob { job: job.clone(), result: Err("it ended at once".into()) };
    rest.finished = (0..3).map(failed).collect();
    assert_eq!(commands(&mut brain, &rest), []);
    rest.finished.clear();
    rest.local.stray = Some("postmaster 4711".into());
    assert!(brain.must_clone.is_some());
    assert_eq!(commands(&mut brain, &rest), [Command::EndStray]);
    assert_eq!(brain.must_clone, None);
}

/// Otherwise it would be copied again and again.
#[test]
fn a_base_backup_that_fails_for_what_lies_outside_is_not_copied_again() {
    let mut brain = brain("n2");
    let mut rest = down(sees("n2", 100, beats(100), standby(0)), false, true);
    rest.local.control.as_mut().unwrap().fresh_backup = true;
    rest.local.last_words = Some(LastWords { text: "a stray history".into(), outside: true });
    let job = Job::StartStandby(Some(upstream("n1")));
    let failed = |_| FinishedJob { job: job.clone(), result: Err("a stray history".into()) };
    rest.finished = (0..5).map(failed).collect();
    assert_eq!(commands(&mut brain, &rest), []);
    assert_eq!(brain.must_clone, None);
    rest.finished.clear();
    let step = brain.step(&rest);
    assert_eq!(
        step.member.problem.as_deref(),
        Some("start as standby keeps failing: a stray history")
    );
    (rest.now, rest.store.arrived) = (at(60_000), at(60_000));
    assert_eq!(commands(&mut brain, &rest), [Command::Begin(job)], "it is tried again");
}

#[test]
fn what_does_not_fit_one_leader_may_fit_the_next() {
    let mut brain = brain("n2");
    brain.must_clone =
        Some(GivenUp { leader: "n3".into(), proof: "a twin".into(), term: 0, by_entry: false });
    let rest = down(sees("n2", 100, on_timeline(2), standby(0)), false, true);
    assert_eq!(commands(&mut brain, &rest), [Command::Begin(Job::CheckHistory(upstream("n1")))]);
}

/// The leader led once before; its entry is of that reign, on the timeline from which ours began.
#[test]
fn what_an_entry_of_an_earlier_reign_proves_is_dropped_when_the_leader_has_written_a_new_one() {
    let mut brain = brain("n2");
    brain.settings.clone_when_diverged = true;
    let mut rest = down(sees("n2", 100, on_timeline(1), standby(0)), true, true);
    rest.local.control.as_mut().unwrap().timeline = 2;
    assert_eq!(commands(&mut brain, &rest), []);
    assert_eq!(commands(&mut brain, &rest), []);
    assert!(brain.step(&rest).phase.contains("to be copied anew"));
    let mut newer = down(sees("n2", 200, on_timeline(3), standby(0)), true, true);
    newer.local.control = rest.local.control.clone();
    assert_eq!(commands(&mut brain, &newer), [Command::Begin(Job::CheckHistory(upstream("n1")))]);
}

/// Its WAL would be overwritten by what another server with a timeline of this number sends.
#[test]
fn a_replica_turns_to_a_leader_of_its_timelines_number_only_when_it_is_its_timeline() {
    let sees_leader = |timeline, terms: &[(u32, u64)], role| {
        let mut keys = with_lease(cluster(), Some(lease("n3", 10, LeaseState::Held)));
        keys.leader = Some(versioned("n3".into(), Some("s-n3")));
        let leader = &mut keys.members.get_mut("n3").unwrap().value;
        (leader.timeline, leader.role) = (Some(timeline), role);
        leader.timeline_terms = terms.iter().copied().collect();
        let mut seen = sees("n2", 100, keys, Sql { timeline: 2, ..standby(1000) });
        seen.local.memory.origins = [(1, 1), (2, 3)].into();
        seen
    };
    let got = |seen: &Observation| commands(&mut brain("n2"), seen);
    let follow = [Command::Follow(upstream("n3"))];
    let check = Job::CheckHistory(upstream("n3"));
    assert_eq!(got(&sees_leader(2, &[(2, 3)], Role::Primary)), follow, "it is the same");
    assert_eq!(
        got(&sees_leader(3, &[(2, 3), (3, 5)], Role::Primary)),
        follow,
        "it goes on from it"
    );
    assert_eq!(got(&sees_leader(2, &[(2, 3)], Role::Replica)), follow, "it is yet to be promoted");
    assert_eq!(got(&sees_leader(1, &[(1, 1)], Role::Replica)), [], "it will make this number anew");
    assert_eq!(got(&sees_leader(2, &[(2, 5)], Role::Primary)), [], "it is another one");
    let unknown = sees_leader(2, &[], Role::Primary);
    assert_eq!(got(&unknown), [Command::Begin(check.clone())]);
    let mut brain = brain("n2");
    let compared = after(&mut brain, unknown.clone(), check.clone(), JobDone::Diverged(false));
    assert_eq!(compared, follow);
    let mut brain = super::brain("n2");
    let twin = JobDone::Twin("the bytes differ".into());
    assert_eq!(after(&mut brain, unknown, check, twin), [], "it stays as it is");
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

/// The leader has nothing to do with it, and its log has not, either.
#[test]
fn whoever_has_paused_replay_is_told_why_nothing_comes() {
    for (rests, word) in
        [(Rests::Paused, "pg_wal_replay_resume()"), (Rests::Delayed, "recovery_min_apply_delay")]
    {
        let sql = Sql { streaming: false, rests: Some(rests), ..standby(1000) };
        let phase = brain("n2").step(&sees("n2", 100, beats(100), sql)).phase;
        let begins = phase.starts_with("following n1, from which nothing comes: replay is");
        assert!(begins && phase.contains(word), "{phase}");
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
        (brain, seen)
    };
    let begin = |job: Job| vec![Command::Begin(job)];
    let (mut brain, seen) = after_rewind(Err("broken off".into()));
    assert_eq!(commands(&mut brain, &seen), begin(Job::Rewind(upstream("n1"))));
    let (mut brain, seen) = after_rewind(Ok(JobDone::Hopeless("no checksums".into())));
    assert_eq!(its_turn(&mut brain, seen, &[]), begin(Job::Clone(upstream("n1"))));
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
    brain.settings.clone_when_diverged = true;
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
    assert_eq!(commands(&mut brain, &past(33_400)), []);
    let clone = Command::Begin(Job::Clone(upstream("n1")));
    let present = "it has been the present all the time";
    assert_eq!(its_turn(&mut brain, past(33_400), &[]), [clone], "{present}");
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
    let quiet = "Consul has answered all the time, and had nothing new: it races, for a new term";
    assert!(matches!(got[..], [Command::Begin(Job::StartStandby(_))]), "{quiet}: {got:?}");
    let mut seen = sees("n1", 33_500, cluster(), standby(1000));
    (seen.local.memory.term, seen.store.arrived) = (6, at(100));
    peers(&mut seen, &[("n2", None), ("n3", None)]);
    let got = commands(&mut brain, &seen);
    assert!(matches!(&got[..], [Command::Acquire(plan)] if plan.term == 7), "{got:?}");
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
        fresh_backup: true,
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
    for allowed in [false, true] {
        let mut brain = brain("n2");
        brain.settings.clone_when_diverged = allowed;
        assert_eq!(commands(&mut brain, &seen), []);
        let got = its_turn(&mut brain, seen.clone(), &[]);
        assert_eq!(got, if allowed { vec![Command::Begin(clone.clone())] } else { vec![] });
    }
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
    let mut brain = brain("n2");
    brain.settings.clone_when_diverged = true;
    assert_eq!(commands(&mut brain, &seen), []);
    assert_eq!(its_turn(&mut brain, seen, &[]), [clone]);
}

/// Somebody promoted this node by hand, from the timeline on which the leader still is.
#[test]
fn what_was_promoted_past_hart_is_compared_and_rewound() {
    let mut snapshot = cluster();
    snapshot.members.get_mut("n1").unwrap().value.timeline_terms = [(1, 1)].into();
    let mut seen = down(sees("n2", 100, snapshot, standby(0)), true, false);
    seen.local.control.as_mut().unwrap().timeline = 2;
    let twin = |seen: &Observation| brain("n2").step(seen).member.problem;
    assert!(twin(&seen).unwrap().contains("began its own without it"), "nothing is known of it");
    seen.local.memory.origins = [(1, 1)].into();
    let check = Job::CheckHistory(upstream("n1"));
    let mut brain = brain("n2");
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(check.clone())]);
    let rewind = [Command::Begin(Job::Rewind(upstream("n1")))];
    assert_eq!(after(&mut brain, seen.clone(), check, JobDone::Diverged(true)), rewind);
    // The rewind waits until it is written down that nothing is known of these timelines any more.
    seen.local.memory.origins.clear();
    assert_eq!(commands(&mut brain, &seen), rewind);
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
