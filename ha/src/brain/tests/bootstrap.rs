//! The first bootstrap, and what is left of one that another node was quicker with.

use super::*;

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
fn who_stopped_before_its_bootstrap_was_noted_as_complete_leads_again() {
    let snapshot = released(cluster());
    let mut seen = down(sees("n1", 100, snapshot, primary(0)), true, true);
    (seen.local.memory.bootstrapping, seen.local.memory.made) = (true, Some("42".into()));
    let start = Command::Begin(Job::StartStandby(Some(upstream("n1"))));
    assert_eq!(commands(&mut brain("n1"), &seen), [start]);
}

#[test]
fn the_first_node_claims_initdbs_and_leads() {
    let mut brain = brain("n1");
    let mut seen = empty("n1");
    assert_eq!(commands(&mut brain, &seen), [], "it was a member once: the store was wiped");
    seen.local.memory.term = 0;
    assert_eq!(commands(&mut brain, &seen), [Command::Write(Write::Claim)]);
    seen.store.snapshot = Some(claimed_by("n1").into());
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Initdb)]);
    seen.local.data = Data::Cluster { system_id: "42".into() };
    (seen.local.memory.bootstrapping, seen.local.memory.term) = (true, 0);
    let plan = AcquirePlan {
        at: 0,
        unlock: None,
        term: 1,
        beat: 0,
        released: None,
        open: false,
        found: None,
        sync: None,
        former: None,
    };
    assert_eq!(commands(&mut brain, &seen), [Command::Acquire(plan)]);
}

/// It costs Consul's servers a write each, and all its other users with them.
#[test]
fn where_initdb_fails_the_right_to_bootstrap_is_asked_for_as_often_as_it_is_tried() {
    let mut brain = brain("n1");
    let (mut tried, mut asked, mut given_back) = (0, 0, 0);
    let (mut snapshot, mut finished) = (Snapshot::default(), Vec::new());
    for ms in (100..60_100).step_by(10) {
        let mut seen = empty("n1");
        (seen.now, seen.local.memory.term) = (at(ms), 0);
        seen.store.arrived = at(ms);
        seen.store.snapshot = Some(snapshot.clone().into());
        seen.finished = std::mem::take(&mut finished);
        for command in commands(&mut brain, &seen) {
            match command {
                Command::Write(Write::Claim) => (asked, snapshot) = (asked + 1, claimed_by("n1")),
                Command::Write(Write::Unclaim) => {
                    (given_back, snapshot) = (given_back + 1, Snapshot::default());
                }
                Command::Begin(Job::Initdb) => {
                    tried += 1;
                    let result = Err("invalid locale name".to_owned());
                    finished = vec![FinishedJob { job: Job::Initdb, result }];
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(tried > 3 && tried < 20, "{tried}");
    assert!(asked <= tried && given_back > 0 && given_back <= asked, "{asked}, {given_back}");
}

/// It has never been a member, and the keys were lost.
#[test]
fn an_empty_node_begins_no_cluster_beside_one_that_lost_its_keys() {
    let mut seen = empty("n3");
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
    let mut seen = empty("n2");
    seen.store.snapshot = Some(claimed_by("n1").into());
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

/// What our own initdb made, of a cluster that is not complete.
fn unfinished(mut seen: Observation, gave_way: bool) -> Observation {
    seen.local.data = Data::Cluster { system_id: "77".into() };
    (seen.local.memory.bootstrapping, seen.local.memory.made) = (!gave_way, Some("77".into()));
    seen
}

#[test]
fn an_unfinished_cluster_gives_way_for_good_to_one_that_is_complete() {
    let mut snapshot = Snapshot { initialize: None, ..cluster() };
    let see = |snapshot: &Snapshot, gave_way: bool| {
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
