//! Taking over and taking back, and who may not.

use super::*;
use crate::kv::{COUNT_MAX, HistoryEntry, TERM_LEAP, TERM_LEAP_OF_PEERS};
use crate::observation::RunningJob;

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
    let plan = AcquirePlan {
        at: 7,
        unlock: Some("s-n1".into()),
        term: 6,
        beat: 9,
        released: None,
        open: false,
        found: found(),
        sync: None,
        former: None,
    };
    assert_eq!(commands(&mut brain, &seen), [Command::Acquire(plan)]);
}

/// PostgreSQL ends at its promotion where there is no room for the first segment of its timeline.
#[test]
fn who_has_no_room_to_be_promoted_leaves_the_lease_to_others() {
    let mut brain = brain("n2");
    let mut seen = sees("n2", 100, cluster(), standby(1000));
    let what =
        "/data/pg_wal has 9 kB free, and a promotion needs a new WAL segment of 16384 kB there";
    seen.local.cramped = Some(what.into());
    brain.step(&seen);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(1000)))]);
    seen.now = at(100 + FREE_MS);
    assert_eq!(commands(&mut brain, &seen), []);
    let Verdict::MayNot(refusal) = brain.step(&seen).verdict else { panic!("it may not") };
    assert_eq!((refusal.rule.as_str(), refusal.value.as_str()), ("room", what));
}

/// Positions stand still only in the last of the lease that is there, however long the next one is to be.
#[test]
fn a_longer_ttl_makes_no_comparison_of_positions_older() {
    let mut brain = brain("n2");
    let longer = with_setting(cluster(), "ttl", 30.into());
    let mut seen = sees("n2", 100, longer, standby(1000));
    brain.step(&seen);
    // The holder's guard ends it 400 ms before its lease is over.
    seen.now = at(100 + FREE_MS - 401);
    let step = brain.step(&seen);
    assert_eq!((commands(&mut brain, &seen), &*step.phase), (vec![], "following n1"));
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(900)))]);
    seen.now = at(100 + FREE_MS);
    let again = Command::Probe(addresses(&["n1", "n3"]));
    assert_eq!(commands(&mut brain, &seen), [again], "n3 may have got more since");
}

/// Somebody wrote it by hand: answers are never as fresh as no time at all.
#[test]
fn a_record_with_no_time_in_it_stops_nobody() {
    let mut brain = brain("n2");
    let none = Lease { ttl_ms: 0, ..lease("n1", 9, LeaseState::Held) };
    let mut seen = sees("n2", 100, with_lease(cluster(), Some(none)), standby(1000));
    brain.step(&seen);
    seen.now = at(1000);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(900)))]);
    seen.now = at(1100);
    let got = commands(&mut brain, &seen);
    assert!(got.iter().any(|command| matches!(command, Command::Acquire(_))), "{got:?}");
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

/// A comparison with a leader that is silent waits for its answer far longer than the lease lasts.
#[test]
fn a_comparison_of_timelines_does_not_bar_the_race() {
    let mut brain = brain("n2");
    let mut seen = sees("n2", 100, cluster(), standby(1000));
    brain.step(&seen);
    let job = Job::CheckHistory(upstream("n1"));
    seen.job = Some(RunningJob { job, since: at(3000) });
    seen.now = at(100 + FREE_MS - 400);
    let asked = Command::Probe(addresses(&["n1", "n3"]));
    assert_eq!(commands(&mut brain, &seen), [Command::Abort, asked]);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(1000)))]);
    seen.now = at(100 + FREE_MS);
    let decided = commands(&mut brain, &seen);
    assert!(matches!(decided[..], [Command::Abort, Command::Acquire(_)]), "{decided:?}");
    // What makes or moves data does: this node cannot lead meanwhile.
    let job = Job::Rewind(upstream("n1"));
    seen.job = Some(RunningJob { job, since: at(3000) });
    assert_eq!(commands(&mut brain, &seen), []);
}

fn race(name: &str, position: u64, rivals: &[(&str, Option<PeerAnswer>)]) -> Vec<Command> {
    let mut brain = brain(name);
    let mut seen = sees(name, 100, released(cluster()), standby(position));
    brain.step(&seen);
    peers(&mut seen, rivals);
    commands(&mut brain, &seen)
}

/// It could not note the term of its reign.
#[test]
fn whoever_cannot_write_beside_the_data_does_not_lead() {
    let mut brain = brain("n2");
    let mut seen = sees("n2", 100, released(cluster()), standby(1000));
    seen.local.forgetful = Some("no space left on device".into());
    brain.step(&seen);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(1000)))]);
    assert_eq!(commands(&mut brain, &seen), []);
    let why = format!("{:?}", brain.step(&seen).verdict);
    assert!(why.contains("state directory") && why.contains("no space left"), "{why}");
    seen.local.forgetful = None;
    assert_eq!(commands(&mut brain, &seen), takes_over());
}

fn takes_over() -> Vec<Command> {
    let released = Some(("n1".to_owned(), 5));
    vec![Command::Acquire(AcquirePlan {
        at: 7,
        unlock: None,
        term: 6,
        beat: 9,
        released,
        open: false,
        found: found(),
        sync: None,
        former: None,
    })]
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

/// n2 has made a timeline 2 in term 4, of a cluster whose timeline 3 of term 3 it never got.
#[test]
fn the_timeline_that_began_last_wins_whatever_its_number() {
    let race = |rival: PeerAnswer| {
        let mut seen = sees("n2", 100, released(cluster()), Sql { timeline: 2, ..standby(1000) });
        seen.local.memory.origins = [(1, 1), (2, 4)].into();
        peers(&mut seen, &[("n1", None), ("n3", Some(rival))]);
        commands(&mut brain("n2"), &seen)
    };
    let rival = |timeline, timeline_term| PeerAnswer { timeline, timeline_term, ..answer(1500) };
    assert!(acquires(&race(rival(3, Some(3)))[0]), "an earlier reign's");
    assert_eq!(race(rival(1, Some(5))), [], "a later one's");
    assert_eq!(race(rival(3, None)), [], "where it is not known the numbers count");
    assert!(acquires(&race(rival(1, None))[0]));
}

fn race_with_request(request: FailoverRequest, snapshot: Snapshot, sql: Sql) -> Vec<Command> {
    let failover = Some(versioned(request, None));
    let mut seen = sees("n2", 100, Snapshot { failover, ..released(snapshot) }, sql);
    let mut brain = brain("n2");
    brain.step(&seen);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(9000)))]);
    commands(&mut brain, &seen)
}

#[test]
fn a_failover_request_overrides_lag_and_rank_but_never_the_synchronous_set() {
    let failover = failover_to("n2");
    let switchover = FailoverRequest { leader: Some("n1".into()), ..failover.clone() };
    let mut ahead = cluster();
    ahead.status.as_mut().unwrap().value.optime = Some(Lsn(1 << 30));
    let race = |request: &FailoverRequest, snapshot: &Snapshot| {
        race_with_request(request.clone(), snapshot.clone(), standby(1000))
    };
    let taken = race(&failover, &ahead);
    assert!(matches!(&taken[..], [Command::Acquire(plan)] if plan.term == 6), "{taken:?}");
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

/// It may have been the one that was cut off, from everybody.
#[test]
fn silence_from_before_consul_answered_again_is_asked_about_once_more() {
    let mut brain = brain("n2");
    let mut seen = sees("n2", 100, cluster(), standby(1000));
    brain.step(&seen);
    seen.now = at(100 + FREE_MS - 400);
    brain.step(&seen);
    peers(&mut seen, &[("n1", None), ("n3", None)]);
    seen.store.reachable = false;
    seen.now = at(100 + FREE_MS);
    assert_eq!(commands(&mut brain, &seen), [], "nothing is taken without Consul");
    seen.store.reachable = true;
    seen.now = at(100 + FREE_MS + 100);
    let asks = [Command::Probe(addresses(&["n1", "n3"]))];
    assert_eq!(commands(&mut brain, &seen), asks);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(2000)))]);
    assert_eq!(commands(&mut brain, &seen), [], "n3 has more");
}

/// Every break would put the takeover off.
#[test]
fn a_consul_that_comes_and_goes_does_not_hinder_a_takeover_for_ever() {
    let mut brain = brain("n2");
    let mut seen = sees("n2", 100, cluster(), standby(1000));
    let ttl = millis(brain.step(&seen).config.ttl);
    seen.now = at(100 + FREE_MS);
    brain.step(&seen);
    let mut end = |millis: u64| {
        seen.now = at(100 + FREE_MS + millis);
        peers(&mut seen, &[("n1", None), ("n3", None)]);
        seen.store.reachable = false;
        assert_eq!(commands(&mut brain, &seen), [], "nothing is taken without Consul");
        seen.store.reachable = true;
        seen.now = at(100 + FREE_MS + millis + 10);
        commands(&mut brain, &seen)
    };
    assert!(!end(ttl - 100).iter().any(acquires));
    assert!(end(ttl + 20).iter().any(acquires));
}

/// While a node waits for Consul it does not wait for another one.
#[test]
fn a_better_placed_node_has_its_time_without_outages() {
    let mut brain = brain("n2");
    let mut seen = sees("n2", 100, cluster(), standby(1000));
    let ttl = millis(brain.step(&seen).config.ttl);
    let mut takes = |reachable: bool, from: u64, to: u64| {
        seen.store.reachable = reachable;
        (from..=to).step_by(50).any(|now| {
            seen.now = at(now);
            let first = commands(&mut brain, &seen);
            peers(&mut seen, &[("n1", None), ("n3", Some(answer(2000)))]);
            first.iter().chain(&commands(&mut brain, &seen)).any(acquires)
        })
    };
    // The lease runs out meanwhile.
    assert!(!takes(false, 200, 300) && !takes(true, 60_000, 60_250), "n3 has more");
    assert!(!takes(false, 60_300, 60_300), "n3 has had 0.3 s");
    assert!(!takes(true, 120_000, 120_000 + ttl - 350), "n3 has more");
    assert!(takes(true, 120_000 + ttl - 300, 120_000 + ttl - 300), "n3 does not take it");
}

fn acquires(command: &Command) -> bool {
    matches!(command, Command::Acquire(_))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// It is cut off from Consul, leads by promises, and does not ask whoever has its own name.
#[test]
fn a_node_of_the_same_name_that_leads_by_promises_is_never_raced() {
    let theirs = Lease { instance: "another".into(), ..lease("n2", 9, LeaseState::Held) };
    let mut snapshot = with_lease(cluster(), Some(theirs));
    snapshot.leader = None;
    let race = |promised: Option<&str>| {
        let mut brain = brain("n2");
        brain.step(&sees("n2", 100, snapshot.clone(), standby(1000)));
        let mut seen = sees("n2", 10_000, snapshot.clone(), standby(1000));
        let peer = PeerAnswer { promised: promised.map(str::to_owned), ..answer(1000) };
        peers(&mut seen, &[("n1", None), ("n3", Some(peer))]);
        commands(&mut brain, &seen).iter().any(acquires)
    };
    assert!(!race(Some("n2")), "it lives");
    assert!(race(None) && race(Some("n1")), "it is gone, or its machine has been started anew");
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

/// The history in Consul may be of a former reign, with a timeline of the same number.
#[test]
fn the_timeline_of_the_node_that_led_last_has_not_ended() {
    let end = HistoryEntry(1, Lsn(900), String::new(), String::new(), "n2".into());
    let refused = |lease: Option<Lease>, origins: &[(u32, u64)]| {
        let mut snapshot = with_lease(cluster(), lease);
        snapshot.history = Some(versioned(vec![end.clone()], None));
        let mut seen = sees("n1", 100, snapshot, standby(1000));
        seen.local.memory.origins = origins.iter().copied().collect();
        let verdict = brain("n1").step(&seen).verdict;
        matches!(verdict, Verdict::MayNot(refusal) if refusal.rule == "timeline")
    };
    let by = |holder| Some(lease(holder, 9, LeaseState::Released));
    assert!(!refused(by("n1"), &[]), "it led last, and was gone before it could note anything");
    assert!(refused(by("n2"), &[]));
    assert!(refused(by("n2"), &[(1, 4)]), "somebody has led since");
    assert!(!refused(by("n2"), &[(1, 5)]), "the store was restored from before");
    assert!(refused(None, &[(1, 5)]), "without a lease nothing is known");
    let another = Lease { instance: "i-of-another".into(), ..lease("n1", 9, LeaseState::Released) };
    assert!(refused(Some(another), &[]), "another installation of this name");
}

#[test]
fn outside_the_published_synchronous_set_nobody_is_promoted() {
    let snapshot = released(with_sync(cluster(), "n1", &["n3"]));
    let mut seen = sees("n2", 100, snapshot, standby(5000));
    peers(&mut seen, &[("n1", None), ("n3", None)]);
    let mut brain = brain("n2");
    assert_eq!(commands(&mut brain, &seen), []);
    seen.now = at(100_000);
    peers(&mut seen, &[("n1", None), ("n3", None)]);
    assert_eq!(commands(&mut brain, &seen), [], "not even after a long time");
}

#[test]
fn a_restarted_agent_takes_its_lease_back_under_an_armed_guard() {
    let mut seen = sees("n1", 100, cluster(), primary(1000));
    seen.local.armed = Some(Hold { term: 5, deadline: at(900) });
    let plan = AcquirePlan {
        at: 7,
        unlock: Some("s-n1".into()),
        term: 5,
        beat: 9,
        released: None,
        open: false,
        found: found(),
        sync: None,
        former: None,
    };
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
    let plan = AcquirePlan {
        at: 7,
        unlock: None,
        term: 9,
        beat: 9,
        released: None,
        open: false,
        found: Some(Payload::default()),
        sync: None,
        former: None,
    };
    assert_eq!(commands(&mut brain, &seen), [Command::Acquire(plan)]);
}

#[test]
fn a_higher_term_is_noted_by_everybody() {
    let mut seen = sees("n2", 100, cluster(), standby(1000));
    seen.local.memory.term = 2;
    assert_eq!(commands(&mut brain("n2"), &seen), [Command::Remember { term: 5 }]);
}

#[test]
fn in_a_pause_only_the_node_that_gave_the_lease_up_takes_it_again() {
    let takes = |name: &str| {
        let snapshot = with_setting(released(cluster()), "pause", true.into());
        let mut brain = brain(name);
        let mut seen = sees(name, 100, snapshot, standby(1000));
        brain.step(&seen);
        let rivals = ["n1", "n2", "n3"].into_iter().filter(|rival| *rival != name);
        peers(&mut seen, &rivals.map(|rival| (rival, Some(answer(900)))).collect::<Vec<_>>());
        commands(&mut brain, &seen)
    };
    assert_eq!(takes("n2"), []);
    assert_eq!(takes("n1"), takes_over());
}

/// A peer, or somebody in its place, names a term near the end of all counting.
#[test]
fn a_term_that_a_peer_cannot_know_is_not_believed() {
    let term = |theirs| {
        let rival = PeerAnswer { term: theirs, ..answer(900) };
        let commands = race("n2", 1000, &[("n1", None), ("n3", Some(rival))]);
        let [Command::Acquire(plan)] = &commands[..] else { panic!("{commands:?}") };
        plan.term
    };
    assert_eq!(term(41), 42);
    assert_eq!(term(5 + TERM_LEAP_OF_PEERS), 6 + TERM_LEAP_OF_PEERS);
    assert_eq!(term(6 + TERM_LEAP_OF_PEERS), 6);
    assert_eq!(term(u64::MAX), 6);
}

#[test]
fn a_record_of_a_term_that_cannot_be_stops_nobody_for_good() {
    let forged = |term| {
        let lease = Lease { term, ..lease("ghost", 9, LeaseState::Held) };
        // Its holder has gone.
        Snapshot { leader: None, ..with_lease(cluster(), Some(lease)) }
    };
    let mut believer = brain("n2");
    let mut brain = brain("n2");
    brain.step(&sees("n2", 0, cluster(), standby(1000)));
    let mut seen = sees("n2", 100, forged(6 + TERM_LEAP), standby(1000));
    let step = brain.step(&seen);
    assert_eq!(step.term, 5, "nothing is noted");
    assert!(step.warning.unwrap().contains(&(6 + TERM_LEAP).to_string()));
    peers(&mut seen, &[("n1", None), ("n3", None)]);
    let mut look = |ms| {
        seen.now = at(ms);
        seen.peers.values_mut().for_each(|probe| probe.asked = seen.now);
        commands(&mut brain, &seen)
    };
    for ms in (100..100 + LONGEST_MS).step_by(3000) {
        look(ms);
    }
    let commands = look(100 + LONGEST_MS);
    let takes = commands.iter().find_map(|command| match command {
        Command::Acquire(plan) => Some((plan.term, plan.at)),
        _ => None,
    });
    assert_eq!(takes, Some((6, 7)), "as after a record that has vanished: {commands:?}");

    believer.step(&sees("n2", 0, cluster(), standby(1000)));
    let step = believer.step(&sees("n2", 100, forged(5 + TERM_LEAP), standby(1000)));
    assert_eq!((step.term, step.warning), (5 + TERM_LEAP, None));
}

#[test]
fn nothing_counts_beyond_its_end() {
    let last = Lease { term: COUNT_MAX, beat: COUNT_MAX, ..lease("n1", 9, LeaseState::Released) };
    let mut seen = sees("n2", 100, with_lease(released(cluster()), Some(last)), standby(1000));
    seen.local.memory.term = COUNT_MAX;
    let mut brain = brain("n2");
    brain.step(&seen);
    peers(&mut seen, &[("n1", None), ("n3", None)]);
    let step = brain.step(&seen);
    assert!(!step.decisions.iter().any(|d| matches!(d.command, Command::Acquire(_))));
    assert!(step.warning.unwrap().contains("no reign has a higher number"));
}

/// The holder is gone, and so is its record; its session, and so its lock, lasts up to 20 s longer.
#[test]
fn a_lock_without_a_record_keeps_nobody_waiting_longer_than_the_longest_lease() {
    let mut brain = brain("n2");
    brain.step(&sees("n2", 100, cluster(), standby(1000)));
    let mut keys = cluster();
    keys.status = None;
    let seen = sees("n2", 200, keys.clone(), standby(1000));
    assert_eq!(commands(&mut brain, &seen), [Command::Write(Write::Status)]);
    keys.status = Some(versioned(Status::default(), None));
    let mut seen = sees("n2", 250, keys, standby(1000));
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(1000)))]);
    seen.now = at(250 + LONGEST_MS - 1);
    brain.step(&seen);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(1000)))]);
    seen.now = at(250 + LONGEST_MS);
    assert!(acquires(&commands(&mut brain, &seen)[0]));
}

/// Patroni on n1 has taken the lock that hart's session had lost.
fn locked_by_patroni() -> Snapshot {
    let mut keys = cluster();
    keys.members.get_mut("n1").unwrap().value.instance.clear();
    keys
}

#[test]
fn a_living_member_of_another_program_leads_by_the_lock_and_keeps_all_from_leading() {
    let mut brain = brain("n2");
    let seen = sees("n2", 100, locked_by_patroni(), standby(1000));
    let step = brain.step(&seen);
    let Verdict::MayNot(refusal) = step.verdict else { panic!("{:?}", step.verdict) };
    assert_eq!(refusal.rule, "beside");
    assert!(refusal.value.contains("n1 is not run by hart"), "{refusal:?}");
    // Its lock counts as long as it is there, whatever the record says.
    let late = Observation { now: at(100 + 2 * LONGEST_MS), ..seen };
    assert!(!commands(&mut brain, &late).iter().any(acquires));
    // Gone, with its session: the lease is waited for as ever.
    let mut keys = locked_by_patroni();
    keys.members.remove("n1");
    keys.leader = None;
    let mut seen = sees("n2", 100 + 3 * LONGEST_MS, keys, standby(1000));
    brain.step(&seen);
    peers(&mut seen, &[("n1", None), ("n3", Some(answer(1000)))]);
    let done = commands(&mut brain, &seen);
    assert!(done.iter().any(acquires), "{done:?}");
}

#[test]
fn a_lease_is_not_taken_back_from_under_a_foreign_lock() {
    let mut keys = with_lease(cluster(), Some(lease("n2", 9, LeaseState::Held)));
    keys.leader = Some(versioned("elsewhere".into(), Some("s-x")));
    let seen = sees("n2", 100, keys, standby(1000));
    assert!(!commands(&mut brain("n2"), &seen).iter().any(acquires));
}
