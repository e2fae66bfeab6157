//! A copy from a backup while nobody leads.

use super::*;

fn restores() -> Brain {
    let settings = Settings { restores_alone: true, ..brain("n2").settings };
    Brain::new(settings)
}

/// n2 has no data, and n1 has given its lease up.
fn bare(now: u64, snapshot: Snapshot) -> Observation {
    let mut seen = down(sees("n2", now, released(snapshot), standby(0)), false, true);
    (seen.local.data, seen.local.control) = (Data::Empty, None);
    seen
}

fn restore() -> [Command; 1] {
    [Command::Begin(Job::Restore)]
}

/// n2 runs on what was restored.
fn restored(mut seen: Observation) -> Observation {
    seen.local.memory.restored = true;
    seen
}

#[test]
fn data_is_restored_when_nobody_leads_and_nobody_comes() {
    let mut brain = restores();
    assert_eq!(commands(&mut brain, &bare(100, cluster())), []);
    assert_eq!(commands(&mut brain, &bare(2099, cluster())), [], "somebody may take it");
    assert_eq!(commands(&mut brain, &bare(2100, cluster())), restore());
    // A broken-off attempt has left something.
    let half = Observation {
        local: crate::observation::Local { data: Data::HalfMade, ..bare(2100, cluster()).local },
        ..bare(2100, cluster())
    };
    assert_eq!(commands(&mut brain, &half), restore());
}

#[test]
fn nothing_is_restored_where_it_was_not_asked_for_or_is_not_known_to_be_wanted() {
    let never = |mut brain: Brain, change: fn(&mut Observation)| {
        for now in [100, 5_000, 60_000] {
            let mut seen = bare(now, cluster());
            change(&mut seen);
            let all = commands(&mut brain, &seen);
            assert!(!all.contains(&restore()[0]), "{all:?}");
        }
    };
    never(brain("n2"), |_| {});
    never(restores(), |seen| seen.store.reachable = false);
    never(restores(), |seen| seen.local.data = Data::Unknown);
    never(restores(), |seen| {
        let snapshot = seen.store.snapshot.as_mut().unwrap();
        Arc::make_mut(snapshot).initialize = None;
    });
    // Consul has lost the lease, and perhaps more.
    never(restores(), |seen| {
        let snapshot = seen.store.snapshot.as_mut().unwrap();
        Arc::make_mut(snapshot).status.as_mut().unwrap().value.lease = None;
    });
    // It has not noted the lease: one that has vanished would not be waited for.
    never(restores(), |seen| seen.local.memory.term = 0);
    never(restores(), |seen| seen.local.memory.term = 4);
}

/// What it was published for is gone with its data.
#[test]
fn who_is_named_in_the_synchronous_set_restores_nothing() {
    let mut brain = restores();
    let see = |now, standbys: &[&str]| bare(now, with_sync(cluster(), "n1", standbys));
    commands(&mut brain, &see(100, &["n2"]));
    assert_eq!(commands(&mut brain, &see(60_000, &["n2"])), []);
    let problem = brain.step(&see(60_000, &["n2"])).member.problem.unwrap();
    assert!(problem.contains("key sync names this node"), "{problem}");
    assert_eq!(commands(&mut brain, &see(60_000, &["n3"])), restore());
}

#[test]
fn what_was_restored_leads_by_the_same_rules_and_not_in_synchronous_mode() {
    let free = |snapshot: Snapshot| restored(sees("n2", 5000, released(snapshot), standby(1000)));
    let rule = |seen: &Observation| match restores().step(seen).verdict {
        Verdict::MayNot(refusal) => refusal.rule,
        _ => String::new(),
    };
    assert_eq!(rule(&free(cluster())), "", "it lacks nothing that the cluster has published");
    let mut listed = cluster();
    let list = BTreeMap::from([("n1".to_owned(), "http://n1:8008/patroni".to_owned())]);
    listed.failsafe = Some(versioned(list, None));
    assert_eq!(rule(&free(listed)), "failsafe");
    // A picture of the past may not have shown that it is named.
    assert_eq!(rule(&free(with_sync(cluster(), "n1", &["n2"]))), "restored");
    let whole = sees("n2", 5000, released(with_sync(cluster(), "n1", &["n2"])), standby(1000));
    assert_eq!(rule(&whole), "");
}

#[test]
fn what_was_restored_is_whole_when_it_has_what_the_leader_has_written() {
    let follows = |position, from: &str| {
        let receives_from = Some((from.to_owned(), 5432));
        restored(sees("n2", 100, cluster(), Sql { receives_from, ..standby(position) }))
    };
    let mut brain = restores();
    let step = brain.step(&follows(999, "n1"));
    let says = |step: &Step| step.decisions.iter().any(|d| d.command == Command::Whole);
    assert!(!says(&step) && step.follows.is_none(), "its word is none of a voter's");
    assert!(!says(&brain.step(&follows(1000, "n3"))), "not from the leader");
    assert!(says(&brain.step(&follows(1000, "n1"))));
    let mut promoting = cluster();
    promoting.members.get_mut("n1").unwrap().value.role = Role::Replica;
    let mut seen = follows(1000, "n1");
    seen.store.snapshot = Some(promoting.into());
    assert!(!says(&brain.step(&seen)), "it does not write yet: it asks the voters");
}

/// A restart would find a lease of its own that it may not take back, in a pause for ever.
#[test]
fn what_was_restored_and_leads_is_the_clusters_data() {
    let says = |snapshot: Snapshot| {
        let seen = restored(leads(snapshot, primary(2000)));
        let step = brain("n1").step(&seen);
        step.decisions.iter().any(|decision| decision.command == Command::Whole)
    };
    assert!(says(cluster()));
    let mut stale = restored(holding(sees("n1", 100, cluster(), standby(2000)), true));
    stale.local.armed = None;
    let step = brain("n1").step(&stale);
    let early = step.decisions.iter().any(|decision| decision.command == Command::Whole);
    assert!(!early, "it has not been promoted yet");
}

/// n2 led last, lost its data and has an old backup; its lease is still in the store.
#[test]
fn what_was_restored_takes_no_lease_back_that_was_led_with_other_data() {
    let held = with_lease(cluster(), Some(lease("n2", 9, LeaseState::Held)));
    let held = Snapshot { leader: Some(versioned("n2".into(), Some("s-n2"))), ..held };
    let own = sees("n2", 100, held.clone(), standby(10));
    let takes = |seen: &Observation| {
        let all = commands(&mut restores(), seen);
        all.iter().any(|command| matches!(command, Command::Acquire(_)))
    };
    assert!(takes(&own), "with its own data it does");
    assert!(!takes(&restored(own)));
    // An end of its timeline that the cluster knows counts for it.
    let mut ended = with_lease(held, Some(lease("n2", 9, LeaseState::Released)));
    let end = crate::kv::HistoryEntry(1, Lsn(900), String::new(), String::new(), String::new());
    ended.history = Some(versioned(vec![end], None));
    let verdict = restores().step(&restored(sees("n2", 100, ended, standby(1000)))).verdict;
    assert!(matches!(&verdict, Verdict::MayNot(why) if why.rule == "timeline"), "{verdict:?}");
}

/// What was proved of the data that was here before says nothing of what was restored.
#[test]
fn what_was_restored_is_not_what_was_to_be_copied() {
    let mut brain = restores();
    brain.settings.clone_after_failed_rewind = true;
    let mut seen = down(sees("n2", 100, on_timeline(2), primary(0)), true, false);
    let result = Ok(JobDone::Hopeless("no common ancestor".into()));
    seen.finished = vec![FinishedJob { job: Job::Rewind(upstream("n1")), result }];
    brain.step(&seen);
    assert!(brain.must_clone.is_some());
    let mut seen = restored(down(sees("n2", 9000, released(cluster()), standby(0)), false, true));
    seen.finished = vec![FinishedJob { job: Job::Restore, result: Ok(JobDone::Done) }];
    brain.step(&seen);
    let runs = restored(sees("n2", 9100, released(cluster()), standby(1000)));
    assert!(brain.step(&runs).verdict.may_lead(), "{:?}", brain.step(&runs).verdict);
    assert!(!brain.step(&sees("n2", 9200, cluster(), standby(1000))).member.to_be_copied);
}
