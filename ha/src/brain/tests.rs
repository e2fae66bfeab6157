//! Exact commands for exact pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::command::{Exit, Job, Write};
use crate::keeper::{AcquirePlan, Heir, Hold};
use crate::kv::{FailoverRequest, Lease, LeaseState, Role, State, Status, SyncState};
use crate::lsn::Lsn;
use crate::observation::{
    Control, FinishedJob, JobDone, PeerAnswer, Probe, Process, Sql, Standby, SyncProof, Upstream,
};
use crate::store::Versioned;

const TTL_MS: u64 = 4000;
/// ttl × 1.01 + 400 ms.
const FREE_MS: u64 = 4440;
/// The same for the longest ttl of all.
const LONGEST_MS: u64 = 33_300;

pub(super) fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

pub(super) fn brain(name: &str) -> Brain {
    let raw = serde_json::json!({"ttl": 4, "loop_wait": 1, "postgresql": {"use_pg_rewind": true}});
    Brain::new(Settings {
        name: name.into(),
        instance: format!("i-{name}"),
        tags: Tags::default(),
        bootstrap: DynamicConfig::from_raw(raw.as_object().unwrap().clone()).unwrap(),
        conn_url: format!("postgres://{name}:5432/postgres"),
        api_url: format!("http://{name}:8008/patroni"),
        clone_after_failed_rewind: false,
        clone_when_diverged: false,
        clone_when_wal_is_gone: true,
        beats: 0,
    })
}

pub(super) fn versioned<T>(value: T, session: Option<&str>) -> Versioned<T> {
    Versioned { value, index: 7, session: session.map(str::to_owned) }
}

pub(super) fn member(name: &str, role: Role) -> Versioned<Member> {
    let value = Member {
        conn_url: format!("postgres://{name}:5432/postgres"),
        api_url: format!("http://{name}:8008/patroni"),
        state: State::Running,
        role,
        instance: format!("i-{name}"),
        timeline: Some(1),
        ..Member::default()
    };
    versioned(value, Some(&format!("s-{name}")))
}

fn lease(holder: &str, beat: u64, state: LeaseState) -> Lease {
    let instance = format!("i-{holder}");
    Lease { holder: holder.into(), instance, term: 5, ttl_ms: TTL_MS, beat, state }
}

/// n1 leads n2 and n3.
pub(super) fn cluster() -> Snapshot {
    let status = Status {
        optime: Some(Lsn(1000)),
        lease: Some(lease("n1", 9, LeaseState::Held)),
        ..Status::default()
    };
    let config = brain("n1").settings.bootstrap;
    Snapshot {
        initialize: Some(versioned("42".into(), None)),
        config: Some(versioned(config, None)),
        leader: Some(versioned("n1".into(), Some("s-n1"))),
        status: Some(versioned(status, None)),
        members: [("n1", Role::Primary), ("n2", Role::Replica), ("n3", Role::Replica)]
            .map(|(name, role)| (name.to_owned(), member(name, role)))
            .into(),
        ..Snapshot::default()
    }
}

fn with_lease(mut snapshot: Snapshot, lease: Option<Lease>) -> Snapshot {
    snapshot.status.as_mut().unwrap().value.lease = lease;
    snapshot
}

pub(super) fn upstream(name: &str) -> Upstream {
    Upstream { name: name.into(), host: name.into(), port: 5432 }
}

pub(super) fn standby(position: u64) -> Sql {
    Sql {
        in_recovery: true,
        timeline: 1,
        receive_lsn: Lsn(position),
        replay_lsn: Lsn(position),
        streaming: true,
        ..Sql::default()
    }
}

pub(super) fn primary(position: u64) -> Sql {
    Sql { timeline: 1, write_lsn: Lsn(position), ..Sql::default() }
}

/// What `name` sees: a running server with these positions.
pub(super) fn sees(name: &str, now: u64, snapshot: Snapshot, sql: Sql) -> Observation {
    let mut seen = Observation { now: at(now), ..Observation::default() };
    seen.store.arrived = at(now);
    seen.store.reachable = true;
    seen.store.session = Some(format!("s-{name}"));
    seen.store.snapshot = Some(snapshot.into());
    seen.local.data = Data::Cluster { system_id: "42".into() };
    seen.local.process = Process::Running { since: at(0) };
    seen.local.memory.term = 5;
    seen.local.upstream = Some(upstream("n1"));
    let looked = if sql.at == Time::ZERO { seen.now } else { sql.at };
    seen.local.sql = Some(Sql { at: looked, ..sql });
    seen
}

pub(super) fn holding(mut seen: Observation, armed: bool) -> Observation {
    let hold = Hold { term: 5, deadline: seen.now + Duration::from_secs(3) };
    seen.lease.hold = Some(hold);
    seen.local.armed = armed.then_some(hold);
    seen
}

pub(super) fn down(mut seen: Observation, was_primary: bool, clean: bool) -> Observation {
    seen.local.process = Process::Down;
    seen.local.sql = None;
    seen.local.control = Some(Control {
        was_primary,
        clean,
        checkpoint: Lsn(2000),
        timeline: 1,
        fresh_backup: false,
    });
    seen
}

pub(super) fn answer(position: u64) -> PeerAnswer {
    PeerAnswer {
        state: State::Running,
        role: Role::Replica,
        timeline: 1,
        position: Lsn(position),
        may_lead: Some(true),
        ..PeerAnswer::default()
    }
}

pub(super) fn peers(seen: &mut Observation, answers: &[(&str, Option<PeerAnswer>)]) {
    let asked = seen.now;
    seen.peers = answers
        .iter()
        .map(|(name, answer)| ((*name).to_owned(), Probe { asked, answer: answer.clone() }))
        .collect();
}

/// The commands of a step, less those that only keep books.
pub(super) fn commands(brain: &mut Brain, seen: &Observation) -> Vec<Command> {
    let books = |command: &Command| {
        matches!(
            command,
            Command::Write(Write::Member(_) | Write::Failsafe { .. })
                | Command::Carry(_)
                | Command::Origins(_)
                | Command::Slots { .. }
        )
    };
    let step = brain.step(seen);
    step.decisions.into_iter().map(|d| d.command).filter(|c| !books(c)).collect()
}

fn addresses(names: &[&str]) -> BTreeMap<String, String> {
    names.iter().map(|n| ((*n).to_owned(), format!("http://{n}:8008/patroni"))).collect()
}

pub(super) fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_replica_that_follows_has_nothing_to_do() {
    assert_eq!(commands(&mut brain("n2"), &sees("n2", 100, cluster(), standby(1000))), []);
}

#[test]
fn a_replica_waits_for_the_whole_lease_then_compares_then_takes_over() {
    let mut brain = brain("n2");
    let first = sees("n2", 100, cluster(), standby(1000));
    assert_eq!(commands(&mut brain, &first), []);
    let mut seen = Observation { now: at(100 + FREE_MS - 401), ..first.clone() };
    assert_eq!(commands(&mut brain, &seen), [], "not yet time to compare");
    seen.now = at(100 + FREE_MS - 400);
    assert_eq!(commands(&mut brain, &seen), [Command::Probe(addresses(&["n1", "n3"]))]);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(1000)))]);
    seen.now = at(100 + FREE_MS - 1);
    assert_eq!(commands(&mut brain, &seen), [], "the lease is not over");
    seen.now = at(100 + FREE_MS);
    let plan = AcquirePlan { at: 7, unlock: Some("s-n1".into()), term: 6, beat: 9, released: None };
    assert_eq!(commands(&mut brain, &seen), [Command::Acquire(plan)]);
}

#[test]
fn a_beat_seen_in_between_starts_the_wait_anew() {
    let mut brain = brain("n2");
    brain.step(&sees("n2", 100, cluster(), standby(1000)));
    let renewed = with_lease(cluster(), Some(lease("n1", 10, LeaseState::Held)));
    let mut seen = sees("n2", 4000, renewed, standby(1000));
    brain.step(&seen);
    seen.now = at(100 + FREE_MS);
    assert_eq!(commands(&mut brain, &seen), []);
}

fn race(name: &str, position: u64, rivals: &[(&str, Option<PeerAnswer>)]) -> Vec<Command> {
    let released = with_lease(cluster(), Some(lease("n1", 9, LeaseState::Released)));
    let mut brain = brain(name);
    let mut seen = sees(name, 100, Snapshot { leader: None, ..released }, standby(position));
    brain.step(&seen);
    peers(&mut seen, rivals);
    commands(&mut brain, &seen)
}

fn takes_over() -> Vec<Command> {
    let released = Some(("n1".to_owned(), 5));
    vec![Command::Acquire(AcquirePlan { at: 7, unlock: None, term: 6, beat: 9, released })]
}

#[test]
fn the_furthest_wal_wins_then_priority_then_name() {
    let rival = |position| Some(answer(position));
    assert_eq!(race("n2", 1000, &[("n1", None), ("n3", rival(1000))]), takes_over());
    assert_eq!(race("n3", 1000, &[("n1", None), ("n2", rival(1000))]), []);
    assert_eq!(race("n3", 1001, &[("n1", None), ("n2", rival(1000))]), takes_over());
    assert_eq!(race("n2", 1000, &[("n1", None), ("n3", rival(1001))]), []);
    let preferred =
        PeerAnswer { tags: Tags { failover_priority: Some(2), ..Tags::default() }, ..answer(1000) };
    assert_eq!(race("n2", 1000, &[("n1", None), ("n3", Some(preferred))]), []);
    let newer = PeerAnswer { timeline: 2, ..answer(10) };
    assert_eq!(race("n2", 1000, &[("n1", None), ("n3", Some(newer))]), []);
    let unable = PeerAnswer { may_lead: Some(false), ..answer(9999) };
    assert_eq!(race("n2", 1000, &[("n1", None), ("n3", Some(unable))]), takes_over());
}

fn race_with_request(request: FailoverRequest, snapshot: Snapshot, sql: Sql) -> Vec<Command> {
    let released = with_lease(snapshot, Some(lease("n1", 9, LeaseState::Released)));
    let failover = Some(versioned(request, None));
    let mut seen = sees("n2", 100, Snapshot { leader: None, failover, ..released }, sql);
    let mut brain = brain("n2");
    brain.step(&seen);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(9000)))]);
    commands(&mut brain, &seen)
}

#[test]
fn a_failover_request_overrides_lag_and_rank_but_never_the_synchronous_set() {
    let failover = FailoverRequest { member: Some("n2".into()), ..FailoverRequest::default() };
    let switchover = FailoverRequest { leader: Some("n1".into()), ..failover.clone() };
    let mut ahead = cluster();
    ahead.status.as_mut().unwrap().value.optime = Some(Lsn(1 << 30));
    let race = |request: &FailoverRequest, snapshot: &Snapshot| {
        race_with_request(request.clone(), snapshot.clone(), standby(1000))
    };
    assert_eq!(race(&failover, &ahead), takes_over());
    assert_eq!(race(&switchover, &ahead), [], "a switchover promises to lose nothing");
    let outside = with_sync(cluster(), "n1", &["n3"]);
    assert_eq!(race(&failover, &outside), []);
    assert_eq!(race(&switchover, &outside), []);
}

#[test]
fn a_living_primary_is_never_raced() {
    let alive = PeerAnswer { role: Role::Primary, ..answer(1) };
    assert_eq!(race("n2", 1000, &[("n1", Some(alive)), ("n3", None)]), []);
}

#[test]
fn a_node_that_may_not_lead_says_which_rule_forbids_it() {
    let mut brain = brain("n2");
    brain.set_tags(Tags { nofailover: true, ..Tags::default() });
    let step = brain.step(&sees("n2", 100, cluster(), standby(1000)));
    let Verdict::MayNot(refusal) = step.verdict else { panic!("{:?}", step.verdict) };
    assert_eq!((refusal.rule.as_str(), refusal.value.as_str()), ("tags", "nofailover: true"));
}

#[test]
fn lag_beyond_the_limit_forbids_leading() {
    let mut snapshot = cluster();
    snapshot.status.as_mut().unwrap().value.optime = Some(Lsn(1000 + (1 << 20) + 1));
    let step = brain("n2").step(&sees("n2", 100, snapshot, standby(1000)));
    assert!(matches!(step.verdict, Verdict::MayNot(refusal) if refusal.rule == "lag"));
}

#[test]
fn outside_the_published_synchronous_set_nobody_is_promoted() {
    let mut snapshot = with_sync(cluster(), "n1", &["n3"]);
    let released = Some(lease("n1", 9, LeaseState::Released));
    snapshot.leader = None;
    snapshot = with_lease(snapshot, released);
    let mut seen = sees("n2", 100, snapshot, standby(5000));
    peers(&mut seen, &[("n1", None), ("n3", None)]);
    let mut brain = brain("n2");
    assert_eq!(commands(&mut brain, &seen), []);
    seen.now = at(100_000);
    peers(&mut seen, &[("n1", None), ("n3", None)]);
    assert_eq!(commands(&mut brain, &seen), [], "not even after a long time");
}

fn with_sync(mut snapshot: Snapshot, leader: &str, standbys: &[&str]) -> Snapshot {
    let raw = serde_json::json!({"ttl": 4, "loop_wait": 1, "synchronous_mode": true});
    let config = DynamicConfig::from_raw(raw.as_object().unwrap().clone()).unwrap();
    snapshot.config = Some(versioned(config, None));
    snapshot.sync = Some(versioned(SyncState::new(leader, &names(standbys)), None));
    snapshot
}

#[test]
fn a_primary_without_a_lease_is_fenced() {
    let mut brain = brain("n1");
    let snapshot = with_lease(cluster(), Some(lease("n2", 10, LeaseState::Held)));
    let seen = sees("n1", 100, snapshot, primary(1000));
    assert_eq!(commands(&mut brain, &seen), [Command::Fence]);
}

#[test]
fn a_restarted_agent_takes_its_lease_back_under_an_armed_guard() {
    let mut seen = sees("n1", 100, cluster(), primary(1000));
    seen.local.armed = Some(Hold { term: 5, deadline: at(900) });
    let plan = AcquirePlan { at: 7, unlock: Some("s-n1".into()), term: 5, beat: 9, released: None };
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Acquire(plan)]);
    seen.now = at(900);
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Fence], "but not after its deadline");
}

#[test]
fn a_lease_is_not_taken_back_for_less_time_than_the_guard_keeps() {
    let mut seen = sees("n1", 100, cluster(), primary(1000));
    seen.local.armed = Some(Hold { term: 5, deadline: at(20_000) });
    assert_eq!(commands(&mut brain("n1"), &seen), []);
    seen.now = at(20_000 - (TTL_MS - 400) - 1);
    assert_eq!(commands(&mut brain("n1"), &seen), []);
    seen.now = at(20_000 - (TTL_MS - 400));
    let commands = commands(&mut brain("n1"), &seen);
    assert!(matches!(commands[..], [Command::Acquire(_)]), "{commands:?}");
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
        let mut snapshot = cluster();
        snapshot.members.get_mut("n1").unwrap().value.timeline = Some(2);
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
fn only_what_our_own_initdb_made_is_thrown_away_when_another_node_was_first() {
    let mut seen = down(sees("n2", 100, cluster(), primary(0)), true, true);
    seen.local.data = Data::Cluster { system_id: "77".into() };
    (seen.local.memory.bootstrapping, seen.local.memory.made) = (true, Some("77".into()));
    let clone = Command::Begin(Job::Clone(upstream("n1")));
    assert_eq!(commands(&mut brain("n2"), &seen), [Command::GiveWay, clone]);
    for made in [None, Some("78".to_owned())] {
        seen.local.memory.made = made;
        let commands = commands(&mut brain("n2"), &seen);
        assert!(matches!(commands[..], [Command::Exit(Exit::Refused(_))]), "{commands:?}");
    }
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

#[test]
fn promotion_waits_for_the_guard() {
    let mut brain = brain("n1");
    let seen = holding(sees("n1", 100, cluster(), standby(1000)), false);
    assert_eq!(commands(&mut brain, &seen), []);
    let seen = holding(seen, true);
    assert_eq!(commands(&mut brain, &seen), [Command::Promote]);
    assert_eq!(commands(&mut brain, &seen), [], "once is enough");
}

#[test]
fn a_new_term_is_noted_before_anything_else() {
    let mut seen = holding(sees("n1", 100, cluster(), standby(1000)), true);
    seen.local.memory.term = 4;
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Remember { term: 5 }]);
}

#[test]
fn in_synchronous_mode_the_winner_enters_itself_before_its_promotion() {
    let snapshot = with_sync(cluster(), "n3", &["n1"]);
    let seen = holding(sees("n1", 100, snapshot, standby(1000)), true);
    let write = Write::Sync { standbys: names(&[]), at: 7 };
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Write(write)]);
}

/// PostgreSQL has been a standby since, and waits for nobody when it is promoted.
#[test]
fn what_was_published_in_an_earlier_reign_is_withdrawn_before_the_promotion() {
    let mut brain = brain("n1");
    let snapshot = with_sync(cluster(), "n1", &["n2"]);
    let seen = holding(sees("n1", 100, snapshot, standby(1000)), true);
    let write = Write::Sync { standbys: names(&[]), at: 7 };
    assert_eq!(commands(&mut brain, &seen), [Command::Write(write)]);
    let seen = holding(sees("n1", 100, with_sync(cluster(), "n1", &[]), standby(1000)), true);
    assert_eq!(commands(&mut brain, &seen), [Command::Promote]);
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
    let silent = Observation { now: at(600_000), ..past(100) };
    assert_eq!(commands(&mut brain, &silent), [], "Consul has been silent since");
    assert_eq!(commands(&mut brain, &past(15_099)), []);
    let clone = Command::Begin(Job::Clone(upstream("n1")));
    assert_eq!(
        commands(&mut brain, &past(15_100)),
        [clone],
        "it has been the present all the time"
    );
}

#[test]
fn who_stopped_before_its_bootstrap_was_noted_as_complete_leads_again() {
    let released = Some(lease("n1", 9, LeaseState::Released));
    let snapshot = Snapshot { leader: None, ..with_lease(cluster(), released) };
    let mut seen = down(sees("n1", 100, snapshot, primary(0)), true, true);
    (seen.local.memory.bootstrapping, seen.local.memory.made) = (true, Some("42".into()));
    let start = Command::Begin(Job::StartStandby(Some(upstream("n1"))));
    assert_eq!(commands(&mut brain("n1"), &seen), [start]);
}

#[test]
fn a_crashed_primary_is_started_again_and_waits_for_the_published_standbys() {
    let snapshot = with_sync(cluster(), "n1", &["n2"]);
    let seen = down(holding(sees("n1", 100, snapshot, primary(0)), false), true, false);
    let hold = seen.lease.hold.unwrap();
    let job = Job::StartPrimary { hold, sync: names(&["n2"]) };
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Begin(job)]);
}

/// A start is a success only when the server answers; one that ends before is tried ever more
/// slowly, and then another node is the faster way.
#[test]
fn a_primary_that_never_answers_gives_way_to_another_node() {
    let mut brain = brain("n1");
    let snapshot = cluster();
    let mut begun = 0;
    for ms in (100..10_000).step_by(50) {
        let mut seen = down(sees("n1", 100, snapshot.clone(), primary(0)), true, false);
        seen.now = at(ms);
        let hold = Hold { term: 5, deadline: at(ms + 3000) };
        seen = holding(seen, false);
        seen.lease.hold = Some(hold);
        let job = Job::StartPrimary { hold, sync: names(&[]) };
        match commands(&mut brain, &seen).as_slice() {
            [Command::Begin(begin)] => {
                assert_eq!(*begin, job);
                begun += 1;
                seen.finished = vec![FinishedJob { job, result: Ok(JobDone::Done) }];
                seen.local.process = Process::Running { since: at(ms) };
                assert_eq!(commands(&mut brain, &seen), [], "it is starting");
            }
            [] => {}
            other => {
                assert_eq!(other, [Command::Release]);
                assert_eq!(begun, 3);
                return;
            }
        }
    }
    panic!("it tries for ever");
}

#[test]
fn switchover_checkpoints_stops_waits_for_the_wal_and_hands_over() {
    let mut snapshot = cluster();
    let request = FailoverRequest {
        leader: Some("n1".into()),
        member: Some("n3".into()),
        scheduled_at: None,
    };
    snapshot.failover = Some(versioned(request, None));
    let mut brain = brain("n1");
    let mut seen = holding(sees("n1", 100, snapshot, primary(2000)), true);
    stream(&mut seen, &["n2", "n3"]);
    assert_eq!(commands(&mut brain, &seen), [Command::Probe(addresses(&["n2", "n3"]))]);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(1990)))]);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Checkpoint)]);
    seen.now = at(110);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(1990)))]);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Stop)]);
    let mut seen = down(seen, true, true);
    seen.now = at(120);
    assert_eq!(commands(&mut brain, &seen), [Command::Probe(addresses(&["n2", "n3"]))]);
    seen.now = at(130);
    peers(&mut seen, &[("n2", Some(answer(2100))), ("n3", Some(answer(2000)))]);
    assert_eq!(commands(&mut brain, &seen), [], "n3 lacks the shutdown checkpoint");
    seen.now = at(160);
    peers(&mut seen, &[("n2", Some(answer(2100))), ("n3", Some(answer(2100)))]);
    let heir = Heir { name: "n3".into(), instance: "i-n3".into(), session: "s-n3".into() };
    assert_eq!(commands(&mut brain, &seen), [Command::HandOver(heir)]);
}

/// These stream from this primary.
fn stream(seen: &mut Observation, names: &[&str]) {
    let row =
        |name: &&str| Standby { name: (*name).to_owned(), streaming: true, ..Standby::default() };
    seen.local.sql.as_mut().unwrap().standbys = names.iter().map(row).collect();
}

/// Its numbers are right, and yet its WAL may be another's.
#[test]
fn a_candidate_that_does_not_stream_is_refused() {
    let mut snapshot = cluster();
    let request = FailoverRequest { member: Some("n3".into()), ..FailoverRequest::default() };
    snapshot.failover = Some(versioned(request, None));
    let mut brain = brain("n1");
    let mut seen = holding(sees("n1", 100, snapshot, primary(2000)), true);
    stream(&mut seen, &["n2"]);
    brain.step(&seen);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(2000)))]);
    let step = brain.step(&seen);
    let clear =
        step.decisions.iter().find(|d| d.command == Command::Write(Write::ClearFailover(7)));
    assert_eq!(clear.unwrap().reason, "n3 does not stream from this node");
}

#[test]
fn a_candidate_that_does_not_answer_is_refused_and_nothing_is_stopped() {
    let mut snapshot = cluster();
    let request = FailoverRequest { member: Some("n3".into()), ..FailoverRequest::default() };
    snapshot.failover = Some(versioned(request, None));
    let mut brain = brain("n1");
    let mut seen = holding(sees("n1", 100, snapshot, primary(2000)), true);
    brain.step(&seen);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", None)]);
    let step = brain.step(&seen);
    let clear =
        step.decisions.iter().find(|d| d.command == Command::Write(Write::ClearFailover(7)));
    assert_eq!(clear.unwrap().reason, "candidate n3 does not answer");
    assert!(!step.decisions.iter().any(|d| matches!(d.command, Command::Begin(_))));
}

#[test]
fn a_stopping_leader_alone_releases_after_postgresql_is_gone() {
    let mut snapshot = cluster();
    snapshot.members.retain(|name, _| name == "n1");
    let mut brain = brain("n1");
    let mut seen = holding(sees("n1", 100, snapshot, primary(2000)), true);
    seen.shutdown = true;
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Stop)]);
    let mut seen = down(seen, true, true);
    assert_eq!(commands(&mut brain, &seen), [Command::Release]);
    seen.lease.hold = None;
    assert_eq!(commands(&mut brain, &seen), [Command::Exit(Exit::Stopped)]);
}

#[test]
fn a_stopping_leader_does_not_wait_for_nodes_that_stop_as_well() {
    let mut brain = brain("n1");
    let mut seen = holding(sees("n1", 100, cluster(), primary(2000)), true);
    seen.shutdown = true;
    brain.step(&seen);
    let stopping = PeerAnswer { may_lead: Some(false), ..answer(2000) };
    peers(&mut seen, &[("n2", Some(stopping.clone())), ("n3", None)]);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Stop)]);
    let mut seen = down(seen, true, true);
    seen.now = at(200);
    assert_eq!(commands(&mut brain, &seen), [Command::Probe(addresses(&["n2", "n3"]))]);
    peers(&mut seen, &[("n2", Some(stopping)), ("n3", None)]);
    assert_eq!(commands(&mut brain, &seen), [Command::Release]);
}

#[test]
fn the_first_node_claims_initdbs_and_leads() {
    let mut brain = brain("n1");
    let mut seen = sees("n1", 100, Snapshot::default(), Sql::default());
    (seen.local.data, seen.local.process, seen.local.sql) = (Data::Empty, Process::Down, None);
    assert_eq!(commands(&mut brain, &seen), [], "it was a member once: the store was wiped");
    seen.local.memory.term = 0;
    assert_eq!(commands(&mut brain, &seen), [Command::Write(Write::Claim)]);
    let claimed = Snapshot {
        initialize: Some(versioned(String::new(), Some("s-n1"))),
        ..Snapshot::default()
    };
    seen.store.snapshot = Some(claimed.into());
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Initdb)]);
    seen.local.data = Data::Cluster { system_id: "42".into() };
    (seen.local.memory.bootstrapping, seen.local.memory.term) = (true, 0);
    let plan = AcquirePlan { at: 0, unlock: None, term: 1, beat: 0, released: None };
    assert_eq!(commands(&mut brain, &seen), [Command::Acquire(plan)]);
}

/// It has never been a member, and the keys were lost.
#[test]
fn an_empty_node_begins_no_cluster_beside_one_that_lost_its_keys() {
    let mut seen = sees("n3", 100, Snapshot::default(), Sql::default());
    (seen.local.data, seen.local.process, seen.local.sql) = (Data::Empty, Process::Down, None);
    seen.local.memory.term = 0;
    let mut ask = |snapshot: Snapshot| {
        seen.store.snapshot = Some(snapshot.into());
        commands(&mut brain("n3"), &seen)
    };
    let claim = [Command::Write(Write::Claim)];
    assert_eq!(ask(Snapshot::default()), claim);
    let mark = Some(versioned(Status::default(), None));
    assert_eq!(ask(Snapshot { status: mark, ..Snapshot::default() }), []);
    let mut members: BTreeMap<_, _> = [("n2".to_owned(), member("n2", Role::Replica))].into();
    assert_eq!(ask(Snapshot { members: members.clone(), ..Snapshot::default() }), []);
    members.get_mut("n2").unwrap().value.timeline = None;
    assert_eq!(ask(Snapshot { members, ..Snapshot::default() }), claim, "it does not run");
}

#[test]
fn a_late_node_waits_for_the_bootstrap_of_another() {
    let mut seen = sees("n2", 100, Snapshot::default(), Sql::default());
    (seen.local.data, seen.local.process, seen.local.sql) = (Data::Empty, Process::Down, None);
    let claimed = Snapshot {
        initialize: Some(versioned(String::new(), Some("s-n1"))),
        ..Snapshot::default()
    };
    seen.store.snapshot = Some(claimed.into());
    assert_eq!(commands(&mut brain("n2"), &seen), []);
    let mut snapshot = cluster();
    seen.store.snapshot = Some(snapshot.clone().into());
    let clone = Command::Begin(Job::Clone(upstream("n1")));
    assert_eq!(commands(&mut brain("n2"), &seen), [clone]);
    snapshot.members.get_mut("n1").unwrap().value.state = State::Starting;
    seen.store.snapshot = Some(snapshot.into());
    assert_eq!(commands(&mut brain("n2"), &seen), [], "not before the leader is ready");
}

#[test]
fn data_of_another_cluster_is_refused_and_not_touched() {
    let mut seen = sees("n2", 100, cluster(), standby(1000));
    seen.local.data = Data::Cluster { system_id: "77".into() };
    let commands = commands(&mut brain("n2"), &seen);
    let [Command::Exit(Exit::Refused(text))] = &commands[..] else { panic!("{commands:?}") };
    assert!(text.contains("77") && text.contains("42"), "{text}");
}

#[test]
fn a_wiped_store_never_makes_a_new_cluster_over_old_data() {
    let mut brain = brain("n2");
    brain.step(&sees("n2", 100, cluster(), standby(1000)));
    let mut seen = sees("n2", 150, Snapshot::default(), standby(1000));
    let mark = Command::Write(Write::Status);
    assert_eq!(commands(&mut brain, &seen), [mark], "a lease written meanwhile must be noticed");
    let status = Some(versioned(Status::default(), None));
    let snapshot = Snapshot { status, ..Snapshot::default() };
    seen.store = sees("n2", 200, snapshot, standby(1000)).store;
    assert_eq!(commands(&mut brain, &seen), [], "the holder still believes in its lease");
    seen.now = at(200 + FREE_MS);
    peers(&mut seen, &[("n1", None), ("n3", None)]);
    assert_eq!(commands(&mut brain, &seen), [], "and may have been given a longer one since");
    seen.now = at(200 + LONGEST_MS - 1);
    peers(&mut seen, &[("n1", None), ("n3", None)]);
    assert_eq!(commands(&mut brain, &seen), []);
    seen.now = at(200 + LONGEST_MS);
    peers(&mut seen, &[("n1", None), ("n3", Some(PeerAnswer { term: 8, ..answer(1000) }))]);
    let plan = AcquirePlan { at: 7, unlock: None, term: 9, beat: 9, released: None };
    assert_eq!(commands(&mut brain, &seen), [Command::Acquire(plan)]);
}

#[test]
fn an_old_primary_compares_then_rewinds_then_follows() {
    let mut snapshot = cluster();
    snapshot.members.get_mut("n1").unwrap().value.timeline = Some(2);
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
    let mut snapshot = cluster();
    snapshot.members.get_mut("n1").unwrap().value.timeline = Some(2);
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
    let mut seen = holding(sees("n1", 100, cluster(), primary(2000)), true);
    assert_eq!(origins("n1", &seen), [], "who knows when it began");
    seen.local.memory.origins = [(0, 4)].into();
    assert_eq!(origins("n1", &seen), [Command::Origins([(0, 4), (1, 5)].into())]);
    let mut snapshot = cluster();
    snapshot.members.get_mut("n1").unwrap().value.timeline_terms = [(1, 3)].into();
    let mut seen = sees("n2", 100, snapshot, standby(1000));
    assert_eq!(origins("n2", &seen), [Command::Origins([(1, 3)].into())]);
    seen.local.memory.origins = [(1, 3)].into();
    assert_eq!(origins("n2", &seen), []);
}

#[test]
fn a_higher_term_is_noted_by_everybody() {
    let mut seen = sees("n2", 100, cluster(), standby(1000));
    seen.local.memory.term = 2;
    assert_eq!(commands(&mut brain("n2"), &seen), [Command::Remember { term: 5 }]);
}

#[test]
fn a_winner_that_left_the_synchronous_set_meanwhile_gives_the_lease_back() {
    let snapshot = with_sync(cluster(), "n3", &[]);
    let seen = holding(sees("n1", 100, snapshot, standby(1000)), true);
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Release]);
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

fn sync_leader(published: &[&str], row: Standby, proof: Option<SyncProof>) -> Vec<Command> {
    let snapshot = with_sync(cluster(), "n1", published);
    let sql = Sql { standbys: vec![row], ..primary(2000) };
    let mut seen = holding(sees("n1", 100, snapshot, sql), true);
    seen.local.waits_for = proof;
    commands(&mut brain("n1"), &seen)
}

#[test]
fn a_standby_is_published_only_after_commits_wait_and_it_has_caught_up() {
    let row = |flushed, sync| Standby {
        name: "n2".into(),
        streaming: true,
        sync,
        flush_lsn: Lsn(flushed),
    };
    let proof = Some(SyncProof { names: names(&["n2"]), since: Lsn(1500) });
    let wait = Command::Begin(Job::Sync(names(&["n2"])));
    assert_eq!(sync_leader(&[], row(2000, false), None), [wait]);
    assert_eq!(sync_leader(&[], row(1400, true), proof.clone()), []);
    assert_eq!(sync_leader(&[], row(1500, false), proof.clone()), []);
    let publish = Command::Write(Write::Sync { standbys: names(&["n2"]), at: 7 });
    assert_eq!(sync_leader(&[], row(1500, true), proof.clone()), [publish]);
    assert_eq!(sync_leader(&["n2"], row(1500, true), proof), []);
}

#[test]
fn a_write_of_the_set_that_may_still_come_true_is_ruled_out_first() {
    let row =
        |streaming| Standby { name: "n2".into(), streaming, sync: true, flush_lsn: Lsn(1500) };
    let see = |row: Standby, at: u64, replaces: u64| {
        let mut snapshot = with_sync(cluster(), "n1", &[]);
        let sync = snapshot.sync.as_mut().unwrap();
        (sync.index, sync.value.replaces) = (at, replaces);
        let sql = Sql { standbys: vec![row], ..primary(2000) };
        let mut seen = holding(sees("n1", 100, snapshot, sql), true);
        seen.local.waits_for = Some(SyncProof { names: names(&["n2"]), since: Lsn(1500) });
        seen
    };
    let mut brain = brain("n1");
    let publish = |names, at| Command::Write(Write::Sync { standbys: names, at });
    assert_eq!(commands(&mut brain, &see(row(true), 7, 0)), [publish(names(&["n2"]), 7)]);
    let gone = see(row(false), 7, 0);
    assert_eq!(commands(&mut brain, &gone), [publish(names(&[]), 7)], "n2 may yet be published");
    assert_eq!(commands(&mut brain, &gone), [publish(names(&[]), 7)], "until the version moves");
    let moved = see(row(false), 8, 7);
    assert_eq!(commands(&mut brain, &moved), [Command::Begin(Job::Sync(names(&[])))]);
}

#[test]
fn commits_that_hang_for_a_lost_standby_are_let_go_when_the_next_one_cannot_be_proved() {
    let row = Standby { name: "n3".into(), streaming: true, sync: false, flush_lsn: Lsn(1) };
    let snapshot = with_sync(cluster(), "n1", &[]);
    let sql = Sql { standbys: vec![row], waits: true, ..primary(2000) };
    let mut seen = holding(sees("n1", 100, snapshot, sql), true);
    let mut brain = brain("n1");
    let job = Job::Sync(names(&["n3"]));
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(job.clone())]);
    seen.finished = vec![FinishedJob { job, result: Err("no connection is left".into()) }];
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Sync(names(&[])))]);
}

#[test]
fn commits_wait_on_for_a_standby_that_is_published() {
    let row = Standby { name: "n2".into(), streaming: true, sync: true, flush_lsn: Lsn(1) };
    let snapshot = with_sync(cluster(), "n1", &["n2"]);
    let sql = Sql { standbys: vec![row], waits: true, ..primary(2000) };
    let mut seen = holding(sees("n1", 100, snapshot, sql), true);
    let job = Job::Sync(names(&["n2"]));
    seen.finished = vec![FinishedJob { job, result: Err("no connection is left".into()) }];
    assert_eq!(commands(&mut brain("n1"), &seen), [], "and are not let go");
}

#[test]
fn a_reign_that_was_given_up_is_never_led_again() {
    let mut snapshot = cluster();
    snapshot.members.retain(|name, _| name == "n1");
    let mut brain = brain("n1");
    let mut seen = holding(sees("n1", 100, snapshot, primary(2000)), true);
    seen.shutdown = true;
    brain.step(&seen);
    let mut seen = down(seen, true, true);
    assert_eq!(commands(&mut brain, &seen), [Command::Release]);
    seen.shutdown = false;
    assert_eq!(commands(&mut brain, &seen), [Command::Release], "the keeper may have been busy");
}

#[test]
fn an_unknown_data_directory_and_an_expired_lease_decide_nothing() {
    let mut seen = holding(sees("n1", 100, cluster(), standby(1000)), true);
    seen.local.data = Data::Unknown;
    assert_eq!(commands(&mut brain("n1"), &seen), []);
    let mut seen = holding(sees("n1", 100, cluster(), standby(1000)), true);
    seen.now = at(100_000);
    let promotes = commands(&mut brain("n1"), &seen).contains(&Command::Promote);
    assert!(!promotes);
}

#[test]
fn a_guard_that_does_not_acknowledge_is_noticed() {
    let mut seen = holding(sees("n1", 100_000, cluster(), primary(1000)), true);
    seen.local.armed = Some(Hold { term: 5, deadline: at(99_000) });
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Fence]);
}

#[test]
fn a_lost_standby_leaves_the_published_set_before_commits_stop_waiting() {
    let proof = Some(SyncProof { names: names(&["n2"]), since: Lsn(1500) });
    let gone = Standby { name: "other".into(), ..Standby::default() };
    let out = Command::Write(Write::Sync { standbys: names(&[]), at: 7 });
    assert_eq!(sync_leader(&["n2"], gone.clone(), proof.clone()), [out]);
    let nobody = Command::Begin(Job::Sync(names(&[])));
    assert_eq!(sync_leader(&[], gone, proof), [nobody]);
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

#[test]
fn a_holder_that_cannot_read_its_control_file_gives_the_lease_up_after_a_ttl() {
    let mut brain = brain("n1");
    let at_loss = |now, alone: bool| {
        let mut snapshot = cluster();
        if alone {
            snapshot.members.retain(|name, _| name == "n1");
        }
        let mut seen = holding(down(sees("n1", now, snapshot, primary(1000)), true, false), true);
        seen.local.control = None;
        seen
    };
    assert_eq!(commands(&mut brain, &at_loss(1000, false)), []);
    assert_eq!(commands(&mut brain, &at_loss(1000 + TTL_MS - 1, false)), []);
    assert_eq!(commands(&mut brain, &at_loss(1000 + TTL_MS, true)), [], "nobody else could");
    assert_eq!(commands(&mut brain, &at_loss(1000 + TTL_MS, false)), [Command::Release]);
}

#[test]
fn a_promotion_under_way_is_fenced_when_the_lease_is_over() {
    let mut brain = brain("n2");
    let snapshot = with_lease(cluster(), Some(lease("n2", 9, LeaseState::Held)));
    let seen = holding(sees("n2", 1000, snapshot.clone(), standby(1000)), true);
    assert!(commands(&mut brain, &seen).contains(&Command::Promote));
    let mut over = sees("n2", 9000, snapshot, standby(1000));
    over.local.armed = seen.local.armed;
    assert_eq!(commands(&mut brain, &over), [Command::Fence]);
}

#[test]
fn a_candidate_that_streams_since_a_moment_is_not_refused_on_an_older_look() {
    let mut snapshot = cluster();
    let request = FailoverRequest { member: Some("n3".into()), ..FailoverRequest::default() };
    snapshot.failover = Some(versioned(request, None));
    let mut brain = brain("n1");
    let mut seen = holding(sees("n1", 100, snapshot, primary(2000)), true);
    stream(&mut seen, &["n2"]);
    seen.local.sql.as_mut().unwrap().at = at(50);
    brain.step(&seen);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(2000)))]);
    assert_eq!(commands(&mut brain, &seen), [], "the look is older than the request");
    stream(&mut seen, &["n2", "n3"]);
    seen.local.sql.as_mut().unwrap().at = at(120);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Checkpoint)]);
}

/// What n1 sees, which holds the lease under an armed guard.
fn leads(snapshot: Snapshot, sql: Sql) -> Observation {
    holding(sees("n1", 100, snapshot, sql), true)
}

/// There is no cluster yet, and this node has the right to begin one.
fn claimed_by(name: &str) -> Snapshot {
    let initialize = versioned(String::new(), Some(&format!("s-{name}")));
    Snapshot { initialize: Some(initialize), ..Snapshot::default() }
}

/// What our own initdb made, of a cluster that is not complete.
fn unfinished(mut seen: Observation, gave_way: bool) -> Observation {
    seen.local.data = Data::Cluster { system_id: "77".into() };
    (seen.local.memory.bootstrapping, seen.local.memory.made) = (!gave_way, Some("77".into()));
    seen
}

#[test]
fn an_unfinished_cluster_gives_way_for_good_to_one_that_is_complete() {
    let mut snapshot = Snapshot { initialize: None, ..cluster() };
    let mut see = |snapshot: &Snapshot, gave_way: bool| {
        let seen = down(sees("n2", 100, snapshot.clone(), primary(0)), true, true);
        commands(&mut brain("n2"), &unfinished(seen, gave_way))
    };
    assert_eq!(see(&snapshot, false)[0], Command::GiveWay);
    let clone = Command::Begin(Job::Clone(upstream("n1")));
    assert_eq!(see(&snapshot, true), [clone]);
    assert_eq!(see(&Snapshot::default(), true), [], "and not only as long as that one is seen");
    assert_eq!(see(&claimed_by("n2"), true), [Command::Write(Write::Unclaim)]);
    for member in snapshot.members.values_mut() {
        member.value.state = State::Starting;
    }
    assert!(
        !see(&snapshot, false).contains(&Command::GiveWay),
        "that one may come to nothing, too"
    );
    snapshot.initialize = Some(versioned("42".into(), None));
    assert!(see(&snapshot, false).contains(&Command::GiveWay));
    snapshot.initialize = Some(versioned("77".into(), None));
    assert!(!see(&snapshot, false).contains(&Command::GiveWay), "it is ours");
}

#[test]
fn who_has_known_of_a_lease_that_vanished_waits_before_it_begins_a_cluster() {
    let mut brain = brain("n2");
    let seen = |ms, snapshot: Snapshot| {
        unfinished(down(sees("n2", ms, snapshot, primary(0)), true, true), false)
    };
    assert_eq!(commands(&mut brain, &seen(100, Snapshot::default())), []);
    assert_eq!(commands(&mut brain, &seen(100 + LONGEST_MS - 1, Snapshot::default())), []);
    let claimed = seen(100 + LONGEST_MS - 1, claimed_by("n2"));
    assert_eq!(commands(&mut brain, &claimed), [], "nor is the first lease taken");
    let claim = commands(&mut brain, &seen(100 + LONGEST_MS, Snapshot::default()));
    assert_eq!(claim, [Command::Write(Write::Claim)]);
    let lease = commands(&mut brain, &seen(100 + LONGEST_MS, claimed_by("n2")));
    assert!(matches!(lease[..], [Command::Acquire(_)]), "{lease:?}");
}

#[test]
fn a_holder_gives_the_lease_up_when_its_unfinished_cluster_came_to_nothing() {
    let seen = unfinished(leads(cluster(), primary(1000)), true);
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Fence]);
    let seen = down(seen, true, true);
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Release]);
}
