//! Exact commands for a sick primary, a sick replica, and one whose WAL is gone.

use std::collections::BTreeMap;

use crate::brain::Settings;
use crate::brain::tests::follow::its_turn;
use crate::brain::tests::*;
use crate::command::{Command, Job, Write};
use crate::kv::{DynamicConfig, FailoverRequest, LeaseState, SyncState};
use crate::observation::{
    FinishedJob, JobDone, Observation, PeerAnswer, Process, RecoveryCommand, Sql, Trouble,
};

fn trouble(since: u64, silent: bool) -> Option<Trouble> {
    Some(Trouble { since: at(since), what: "it takes no connections".into(), silent })
}

fn sick(now: u64, since: u64, silent: bool) -> Observation {
    let mut seen = holding(sees("n1", now, cluster(), primary(2000)), true);
    seen.local.trouble = trouble(since, silent);
    seen
}

fn ask() -> Command {
    let url = |name: &str| (name.to_owned(), format!("http://{name}:8008/patroni"));
    Command::Probe(BTreeMap::from([url("n2"), url("n3")]))
}

fn candidates(mut seen: Observation, answers: &[(&str, Option<PeerAnswer>)]) -> Observation {
    peers(&mut seen, answers);
    seen
}

fn with(settings: serde_json::Value, mut seen: Observation) -> Observation {
    let mut snapshot = (**seen.store.snapshot.as_ref().unwrap()).clone();
    let config = DynamicConfig::from_raw(settings.as_object().unwrap().clone()).unwrap();
    snapshot.config = Some(versioned(config, None));
    seen.store.snapshot = Some(snapshot.into());
    seen
}

/// ttl is 4 s, so `unhealthy_timeout` is 10 s.
#[test]
fn a_sick_primary_gives_up_for_a_healthy_node() {
    let mut brain = brain("n1");
    assert_eq!(commands(&mut brain, &sick(15_000, 6_000, true)), [], "sick, but not for long");
    let step = brain.step(&sick(15_500, 6_000, true));
    assert_eq!(step.member.problem.as_deref(), Some("it takes no connections"));
    assert_eq!(commands(&mut brain, &sick(16_000, 6_000, true)), [ask()]);
    let answers = [("n2", Some(answer(1000))), ("n3", None)];
    let decided = candidates(sick(16_100, 6_000, true), &answers);
    assert_eq!(commands(&mut brain, &decided), [Command::Fence], "nothing to be had in good order");
    assert_eq!(commands(&mut brain, &down(decided, true, false)), [Command::Release]);
}

#[test]
fn one_that_answers_again_is_kept_and_its_next_trouble_counts_anew() {
    let mut brain = brain("n1");
    assert_eq!(commands(&mut brain, &sick(16_000, 6_000, true)), [ask()], "who may lead?");
    let answers = [("n2", Some(answer(1000))), ("n3", Some(answer(1000)))];
    let mut well = candidates(sick(16_100, 6_000, true), &answers);
    well.local.trouble = None;
    let mut again = candidates(sick(20_000, 17_000, true), &answers);
    again.local.trouble = trouble(17_000, true);
    for seen in [well, again] {
        let got = commands(&mut brain, &seen);
        let stops = |c: &Command| matches!(c, Command::Fence | Command::Begin(Job::Stop));
        assert!(!got.iter().any(stops), "{got:?}");
    }
}

#[test]
fn one_that_answers_is_stopped_in_good_order_and_not_started_again() {
    let mut brain = brain("n1");
    let answers = [("n2", Some(answer(1000))), ("n3", Some(answer(1000)))];
    let decided = candidates(sick(16_100, 6_000, false), &answers);
    assert_eq!(commands(&mut brain, &decided), [Command::Begin(Job::Stop)]);
    let mut failed = candidates(sick(17_000, 6_000, false), &answers);
    failed.finished =
        vec![FinishedJob { job: Job::Stop, result: Err("it did not stop".to_owned()) }];
    assert_eq!(commands(&mut brain, &failed), [Command::Fence]);
    let healthy_again = Observation { finished: vec![], ..failed };
    assert_eq!(commands(&mut brain, &down(healthy_again, true, true)), [Command::Release]);
}

#[test]
fn without_a_healthy_node_a_sick_primary_stays() {
    let unable = PeerAnswer { may_lead: Some(false), ..answer(1000) };
    let mut brain = brain("n1");
    for now in [16_100, 30_000, 90_000] {
        let answers = [("n2", Some(unable.clone())), ("n3", None)];
        let seen = candidates(sick(now, 6_000, true), &answers);
        assert_eq!(commands(&mut brain, &seen), []);
    }
}

#[test]
fn old_answers_do_not_count() {
    let mut seen = sick(60_000, 6_000, true);
    peers(&mut seen, &[("n2", Some(answer(1000))), ("n3", Some(answer(1000)))]);
    seen.now = at(63_000);
    seen = holding(seen, true);
    assert_eq!(commands(&mut brain("n1"), &seen), [ask()]);
}

#[test]
fn a_sick_primary_stays_in_pause_without_consul_and_where_it_is_told_to() {
    let answers = [("n2", Some(answer(1000))), ("n3", None)];
    let ready = || candidates(sick(16_100, 6_000, true), &answers);
    let paused = with(serde_json::json!({"ttl": 4, "pause": true}), ready());
    assert_eq!(commands(&mut brain("n1"), &paused), []);
    let never = with(serde_json::json!({"ttl": 4, "unhealthy_timeout": 0}), ready());
    assert_eq!(commands(&mut brain("n1"), &never), []);
    let mut cut_off = ready();
    cut_off.store.reachable = false;
    assert_eq!(commands(&mut brain("n1"), &cut_off), []);
}

#[test]
fn in_synchronous_mode_only_a_published_node_counts() {
    let see = |named: &str| {
        let settings = serde_json::json!({"ttl": 4, "synchronous_mode": true});
        let answers = [("n2", Some(answer(1000))), ("n3", Some(answer(1000)))];
        let mut seen = with(settings, candidates(sick(16_100, 6_000, true), &answers));
        let mut snapshot = (**seen.store.snapshot.as_ref().unwrap()).clone();
        snapshot.sync = Some(versioned(SyncState::new("n1", &names(&[named])), None));
        seen.store.snapshot = Some(snapshot.into());
        commands(&mut brain("n1"), &seen)
    };
    assert_eq!(see("n2"), [Command::Fence]);
    assert!(!see("n9").contains(&Command::Fence), "nobody else has everything");
}

#[test]
fn a_sick_replica_may_not_lead_and_says_why() {
    let mut seen = sees("n2", 100, cluster(), standby(1000));
    seen.local.trouble = trouble(50, true);
    let verdict = brain("n2").step(&seen).verdict;
    assert!(!verdict.may_lead());
    assert!(format!("{verdict:?}").contains("it takes no connections"), "{verdict:?}");
}

#[test]
fn a_promotion_that_stands_still_is_given_up() {
    let mut brain = brain("n1");
    let see = |now, replayed| {
        let answers = [("n2", Some(answer(1000))), ("n3", Some(answer(1000)))];
        candidates(holding(sees("n1", now, cluster(), standby(replayed)), true), &answers)
    };
    assert_eq!(commands(&mut brain, &see(10_000, 1000)), [Command::Promote]);
    for now in [12_000, 16_000, 22_000, 29_000] {
        let got = commands(&mut brain, &see(now, now));
        assert!(!got.contains(&Command::Fence), "it replays: {got:?}");
    }
    let still = |now| see(now, 29_000);
    assert!(!commands(&mut brain, &still(38_000)).contains(&Command::Fence));
    assert_eq!(commands(&mut brain, &still(39_100)), [Command::Fence], "no stop would end it");
    assert_eq!(commands(&mut brain, &down(still(39_200), false, true)), [Command::Release]);
}

/// n1 promotes, has replayed everything, and restore_command runs since `began`.
fn asks_its_archive(now: u64, began: u64) -> Observation {
    let answers = [("n2", Some(answer(1000))), ("n3", Some(answer(1000)))];
    let call = RecoveryCommand { name: "restore_command".into(), began: at(began) };
    let sql = Sql { recovery_command: Some(call), streaming: false, ..standby(1000) };
    candidates(holding(sees("n1", now, cluster(), sql), true), &answers)
}

fn fences(brain: &mut crate::brain::Brain, seen: &Observation) -> bool {
    commands(brain, seen).contains(&Command::Fence)
}

#[test]
fn a_promotion_that_waits_for_its_archive_goes_on() {
    let mut brain = brain("n1");
    assert_eq!(commands(&mut brain, &asks_its_archive(10_000, 9_000)), [Command::Promote]);
    // Seven calls of 29 s, one after the other, and nothing is replayed.
    for call in 0..7 {
        let began = 10_100 + call * 29_100;
        for now in (began..began + 29_000).step_by(1000) {
            assert!(!fences(&mut brain, &asks_its_archive(now, began)), "{now}");
        }
    }
    let step = brain.step(&asks_its_archive(212_000, 184_700));
    let words = "the promotion waits for its archive: call 7 of restore_command";
    assert_eq!(step.phase, format!("promoting; {words}"));
    assert_eq!(step.member.problem.as_deref(), Some(words));
    // Nothing runs any more, and it still does not get on.
    let mut still = asks_its_archive(214_000, 0);
    still.local.sql.as_mut().unwrap().recovery_command = None;
    assert!(!fences(&mut brain, &still));
    (still.now, still.lease.hold.as_mut().unwrap().deadline) = (at(224_100), at(227_000));
    peers(&mut still, &[("n2", Some(answer(1000))), ("n3", Some(answer(1000)))]);
    assert!(fences(&mut brain, &still));
}

/// The archive may be out of reach from here only; but where it is as slow for everybody, the lease must
/// not go round for ever.
#[test]
fn an_archive_that_never_answers_costs_the_lease_later_each_time() {
    let mut brain = brain("n1");
    let mut now = 10_000;
    for limit in [30_000, 60_000, 120_000] {
        assert_eq!(commands(&mut brain, &asks_its_archive(now, now)), [Command::Promote]);
        let begun = now + 100;
        assert!(!fences(&mut brain, &asks_its_archive(begun, begun)));
        assert!(!fences(&mut brain, &asks_its_archive(begun + limit - 1, begun)));
        let step = brain.step(&asks_its_archive(begun + limit, begun));
        let fence = step.decisions.iter().find(|decision| decision.command == Command::Fence);
        let words = format!("restore_command has not come back for {} s", limit / 1000);
        assert!(fence.is_some_and(|fence| fence.reason.contains(&words)), "{step:?}");
        let gone = down(asks_its_archive(begun + limit + 100, begun), false, true);
        assert_eq!(commands(&mut brain, &gone), [Command::Release]);
        now = begun + limit + 1000;
        // The next reign.
        (brain.sick.term, brain.given_up, brain.promoting) = (0, None, None);
    }
    // It has led since.
    commands(&mut brain, &holding(sees("n1", now, cluster(), primary(2000)), true));
    brain.promoting = None;
    assert_eq!(commands(&mut brain, &asks_its_archive(now + 1000, now)), [Command::Promote]);
    assert!(!fences(&mut brain, &asks_its_archive(now + 1100, now)));
    assert!(fences(&mut brain, &asks_its_archive(now + 31_200, now)));
}

#[test]
fn a_promotion_that_waits_for_its_archive_waits_on_where_nobody_else_may_lead() {
    let mut brain = brain("n1");
    let alone = |now| {
        let mut seen = asks_its_archive(now, 10_000);
        peers(&mut seen, &[("n2", None), ("n3", None)]);
        seen
    };
    assert_eq!(commands(&mut brain, &alone(10_000)), [Command::Promote]);
    for now in (10_100..600_000).step_by(5000) {
        assert!(!fences(&mut brain, &alone(now)), "{now}");
    }
}

/// Otherwise everybody would wait for it, and it would try again and again.
#[test]
fn a_candidate_that_cannot_lead_is_not_waited_for() {
    let mut brain = brain("n1");
    let see = |now| {
        let answers = [("n2", Some(answer(1000))), ("n3", Some(answer(1000)))];
        let mut snapshot = cluster();
        let request = FailoverRequest { member: Some("n1".into()), ..FailoverRequest::default() };
        snapshot.failover = Some(versioned(request, None));
        candidates(holding(sees("n1", now, snapshot, standby(1000)), true), &answers)
    };
    let index = see(0).store.snapshot.unwrap().failover.as_ref().unwrap().index;
    assert_eq!(commands(&mut brain, &see(10_000)), [Command::Promote]);
    commands(&mut brain, &see(10_100));
    let step = brain.step(&see(20_200));
    let got: Vec<_> = step.decisions.into_iter().map(|decision| decision.command).collect();
    let clear = Command::Write(Write::ClearFailover(index));
    assert!(got.contains(&clear) && got.contains(&Command::Fence), "{got:?}");
    assert!(step.refused.is_some_and(|why| why.contains("does not get on")));
}

#[test]
fn a_crash_after_long_work_is_given_time_to_recover() {
    let mut brain = brain("n1");
    let sql = Sql { at: at(900_000), ..primary(2000) };
    let up = holding(sees("n1", 900_000, cluster(), sql), true);
    assert_eq!(commands(&mut brain, &up), []);
    let recovering = |now| {
        let mut seen = holding(sees("n1", now, cluster(), primary(2000)), true);
        seen.local.sql = None;
        seen.local.process = Process::Running { since: at(0) };
        seen
    };
    assert_eq!(commands(&mut brain, &recovering(901_000)), [], "primary_start_timeout is 300 s");
    assert_eq!(commands(&mut brain, &recovering(1_200_100)), [Command::Fence]);
}

fn starved(now: u64) -> Observation {
    let sql = Sql { streaming: false, ..standby(1000) };
    let mut seen = sees("n2", now, cluster(), sql);
    seen.local.wal_gone = Some("requested WAL segment X has already been removed".into());
    seen
}

fn compared(mut seen: Observation, done: JobDone) -> Observation {
    let job = Job::CheckHistory(upstream("n1"));
    seen.finished = vec![FinishedJob { job, result: Ok(done) }];
    seen
}

fn gone() -> JobDone {
    JobDone::WalGone("n1 has no WAL at 0/3E8 on timeline 1 any more".into())
}

#[test]
fn a_replica_whose_wal_is_gone_is_copied_anew_when_it_has_nothing_of_its_own() {
    let mut brain = brain("n2");
    let check = Command::Begin(Job::CheckHistory(upstream("n1")));
    assert_eq!(commands(&mut brain, &starved(100)), [check]);
    let same = compared(starved(200), gone());
    assert_eq!(commands(&mut brain, &same), [], "it says so first");
    assert_eq!(its_turn(&mut brain, same.clone(), &[]), [Command::Begin(Job::Stop)]);
    let mut stopped = down(Observation { finished: vec![], ..same }, false, true);
    (stopped.now, stopped.store.arrived) = (at(5300), at(5300));
    let clone = Command::Begin(Job::Clone(upstream("n1")));
    assert_eq!(its_turn(&mut brain, stopped.clone(), &[]), [clone]);
    stopped.now = at(10_300);
    let mut done = stopped.clone();
    done.finished =
        vec![FinishedJob { job: Job::Clone(upstream("n1")), result: Ok(JobDone::Done) }];
    done.local.wal_gone = None;
    done.local.control.as_mut().unwrap().fresh_backup = true;
    let start = Command::Begin(Job::StartStandby(Some(upstream("n1"))));
    assert_eq!(commands(&mut brain, &done), [start]);
}

/// Everybody who may log in can write into PostgreSQL's log.
#[test]
fn what_the_log_says_costs_nobody_its_data_when_the_leader_has_the_wal() {
    for found in [JobDone::Diverged(false), JobDone::Diverged(true)] {
        let mut brain = brain("n2");
        commands(&mut brain, &starved(100));
        assert_eq!(commands(&mut brain, &compared(starved(200), found)), []);
        let step = brain.step(&starved(300));
        assert!(!step.member.to_be_copied && step.member.problem.is_none(), "{step:?}");
    }
}

#[test]
fn where_it_is_not_allowed_the_remedy_is_named() {
    let settings = Settings { clone_when_wal_is_gone: false, ..brain("n2").settings };
    let mut brain = crate::brain::Brain::new(settings);
    commands(&mut brain, &starved(100));
    assert_eq!(commands(&mut brain, &compared(starved(200), gone())), []);
    let step = brain.step(&starved(300));
    assert!(step.phase.contains("hart reinit"), "{}", step.phase);
    assert!(step.member.problem.is_some_and(|problem| problem.contains("has no WAL")));
}

/// An archive that was away for a moment, and is back: the standby goes on by it.
#[test]
fn a_replica_that_replays_again_keeps_its_data() {
    let mut brain = brain("n2");
    commands(&mut brain, &starved(100));
    commands(&mut brain, &compared(starved(200), gone()));
    let more = |seen: &mut Observation, by: u64| {
        let sql = seen.local.sql.as_mut().unwrap();
        sql.replay_lsn = crate::lsn::Lsn(sql.replay_lsn.0 + by);
    };
    let mut replays = starved(300);
    more(&mut replays, 16);
    let asks = [Command::Begin(Job::CheckHistory(upstream("n1")))];
    assert_eq!(commands(&mut brain, &replays), asks, "it is proved anew");
    let streams = |seen: &mut Observation| seen.local.sql.as_mut().unwrap().streaming = true;
    commands(&mut brain, &compared(starved(400), gone()));
    let mut streaming = starved(500);
    streams(&mut streaming);
    commands(&mut brain, &streaming);
    assert_eq!(commands(&mut brain, &starved(600)), asks);
}

/// What an archive has not got now it may have in a minute.
#[test]
fn where_there_is_an_archive_it_has_time_to_come_back() {
    let settings = Settings { archive: true, ..brain("n2").settings };
    let mut brain = crate::brain::Brain::new(settings);
    let led = |now: u64| {
        let mut seen = starved(now);
        let renewed = with_lease(cluster(), Some(lease("n1", now, LeaseState::Held)));
        seen.store.snapshot = Some(renewed.into());
        seen
    };
    commands(&mut brain, &led(100));
    commands(&mut brain, &compared(led(200), gone()));
    let step = brain.step(&led(60_000));
    assert!(step.phase.contains("five minutes") && !step.member.to_be_copied, "{}", step.phase);
    commands(&mut brain, &compared(led(300_050), gone()));
    assert!(!brain.step(&led(300_090)).member.to_be_copied);
    assert!(brain.step(&led(300_200)).member.to_be_copied, "it has stood still for five minutes");
}
