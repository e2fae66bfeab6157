//! `synchronous_mode: quorum`: whose word is needed, and when it counts.

use super::*;

/// n1 has led; commits were confirmed by any one of n2 and n3.
fn voted(snapshot: Snapshot) -> Snapshot {
    let mut snapshot = with_sync(snapshot, "n1", &[]);
    let state = SyncState::with_quorum("n1", &names(&["n2", "n3"]), 1);
    snapshot.sync = Some(versioned(state, None));
    let raw = serde_json::json!({"ttl": 4, "loop_wait": 1, "synchronous_mode": "quorum"});
    let config = DynamicConfig::from_raw(raw.as_object().unwrap().clone()).unwrap();
    snapshot.config = Some(versioned(config, None));
    snapshot
}

/// n2 holds the lease of term 5 and is not promoted yet.
fn elected(position: u64) -> Observation {
    let mut snapshot = voted(with_lease(cluster(), Some(lease("n2", 1, LeaseState::Held))));
    snapshot.leader = Some(versioned("n2".into(), Some("s-n2")));
    holding(sees("n2", 100, snapshot, standby(position)), true)
}

fn follows(term: u64, position: u64) -> Option<PeerAnswer> {
    Some(PeerAnswer { follows: Some(term), ..answer(position) })
}

fn claims() -> Command {
    Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 })
}

#[test]
fn a_candidate_takes_no_lease_that_it_could_not_lead_with() {
    let free = |n3: Option<PeerAnswer>| {
        let mut seen = sees("n2", 100, voted(released(cluster())), standby(1000));
        peers(&mut seen, &[("n1", None), ("n3", n3)]);
        let mut brain = brain("n2");
        let step = brain.step(&seen);
        let takes = step.decisions.iter().any(|d| matches!(d.command, Command::Acquire(_)));
        (takes, step.phase)
    };
    assert!(free(Some(answer(1000))).0);
    assert!(free(Some(answer(900))).0, "it has no more than this node");
    let (takes, phase) = free(None);
    assert!(!takes && phase.contains("1 are needed"), "{phase}");
    assert!(!free(Some(answer(1001))).0, "it has more");
}

#[test]
fn nobody_is_promoted_before_enough_voters_follow() {
    let said = |n3: Option<PeerAnswer>| {
        let mut seen = elected(1000);
        peers(&mut seen, &[("n1", None), ("n3", n3)]);
        commands(&mut brain("n2"), &seen)
    };
    assert_eq!(said(follows(5, 1000)), [claims()]);
    assert_eq!(said(None), [], "silence");
    assert_eq!(said(Some(answer(1000))), [], "it may still get WAL from the old primary");
    assert_eq!(said(follows(4, 1000)), [], "it follows the old primary");
    assert_eq!(said(follows(5, 1001)), [], "it has more");
}

#[test]
fn the_old_primary_and_nodes_outside_the_set_have_no_vote() {
    let mut seen = elected(1000);
    peers(&mut seen, &[("n1", follows(5, 1000)), ("n4", follows(5, 1000)), ("n3", None)]);
    let got = commands(&mut brain("n2"), &seen);
    assert_eq!(got, []);
}

#[test]
fn without_the_word_the_lease_goes_back_for_others_to_try() {
    let mut brain = brain("n2");
    let mut seen = elected(1000);
    peers(&mut seen, &[("n1", None), ("n3", follows(5, 1001))]);
    assert_eq!(commands(&mut brain, &seen), []);
    seen.now = at(100 + TTL_MS + 1001);
    seen.lease.hold = Some(Hold { term: 5, deadline: seen.now + Duration::from_secs(3) });
    let got = commands(&mut brain, &seen);
    assert!(got.contains(&Command::Release), "{got:?}");
}

/// n2, which has just given the lease of term 5 back for want of voters.
fn unheard() -> Brain {
    let mut brain = brain("n2");
    let mut seen = elected(1000);
    peers(&mut seen, &[("n1", None), ("n3", follows(5, 1001))]);
    commands(&mut brain, &seen);
    seen.now = at(100 + TTL_MS + 1001);
    seen.lease.hold = Some(Hold { term: 5, deadline: seen.now + Duration::from_secs(3) });
    assert!(commands(&mut brain, &seen).contains(&Command::Release));
    brain
}

/// The others wait for whoever is better placed, as long as it could take the lease: with the voters
/// promoted by hand it would take it again and again, and nobody would ever lead.
#[test]
fn who_gave_the_lease_back_for_want_of_voters_leaves_it_to_the_others_for_a_while() {
    let mut brain = unheard();
    let mut takes = |after: u64, other: Option<PeerAnswer>| {
        let now = 100 + TTL_MS + 1001 + after;
        let mut given_back = lease("n2", 2, LeaseState::Released);
        given_back.term = 5;
        let keys = with_lease(cluster(), Some(given_back));
        let mut seen = sees("n2", now, voted(keys), standby(1000));
        let n3 = PeerAnswer { may_lead: Some(false), ..answer(1000) };
        peers(&mut seen, &[("n1", other), ("n3", Some(n3))]);
        let got = commands(&mut brain, &seen);
        got.iter().any(|command| matches!(command, Command::Acquire(_)))
    };
    assert!(!takes(100, Some(answer(900))));
    let turn = "n3 could lead when it was asked: it has its turn, too, though it says no just now";
    assert!(!takes(2 * TTL_MS + 1001, Some(answer(900))), "{turn}");
    assert!(takes(3 * TTL_MS + 2001, Some(answer(900))));
}

/// Two that find no voters would take turns for ever, and the published primary, which needs nobody's word, would
/// never come before either of them.
#[test]
fn whoever_found_no_voters_is_waited_for_by_nobody_and_lets_each_other_node_try() {
    let mut brain = unheard();
    let mut later = |after: u64| {
        let now = 100 + TTL_MS + 1001 + after;
        let mut given_back = lease("n2", 2, LeaseState::Released);
        given_back.term = 5;
        let keys = with_lease(cluster(), Some(given_back));
        let mut seen = sees("n2", now, voted(keys), standby(1000));
        peers(&mut seen, &[("n1", Some(answer(900))), ("n3", Some(answer(1000)))]);
        let step = brain.step(&seen);
        let takes = step.decisions.iter().any(|d| matches!(d.command, Command::Acquire(_)));
        (step.verdict.may_lead(), takes)
    };
    assert_eq!(later(100), (false, false));
    assert_eq!(later(2 * TTL_MS + 1001), (true, false), "two others have their turn");
    assert_eq!(later(3 * TTL_MS + 2001), (true, true));
}

#[test]
fn who_published_the_voters_needs_nobodys_word() {
    let seen = leads(voted(cluster()), standby(1000));
    assert_eq!(commands(&mut brain("n1"), &seen), [claims()]);
}

#[test]
fn a_replica_gives_its_word_only_when_its_wal_comes_from_the_holder() {
    let word = |from: Option<&str>, term: u64| {
        let sql = Sql { receives_from: from.map(|host| (host.into(), 5432)), ..standby(1000) };
        let mut seen = sees("n3", 100, voted(cluster()), sql);
        seen.local.memory.term = term;
        brain("n3").step(&seen).follows
    };
    assert_eq!(word(Some("n1"), 5), Some(5));
    assert_eq!(word(Some("n2"), 5), None, "from another");
    assert_eq!(word(None, 5), None, "from nobody");
    assert_eq!(word(Some("n1"), 4), None, "the term is not noted yet");
}

/// n1 hands over to n3, has stopped, and names it alone: the brain, what it saw, and its command. The
/// voters are published by version `index`, which it sees only after it has stopped.
fn handing_over(index: Index) -> (Brain, Observation, Vec<Command>) {
    let mut snapshot = voted(cluster());
    snapshot.failover =
        Some(versioned(FailoverRequest { leader: Some("n1".into()), ..failover_to("n3") }, None));
    let mut brain = brain("n1");
    let mut seen = leads(snapshot, primary(2000));
    let row = |name: &str| Standby { name: name.into(), streaming: true, ..Standby::default() };
    seen.local.sql.as_mut().unwrap().standbys = vec![row("n2"), row("n3")];
    brain.step(&seen);
    for now in [105, 110] {
        seen.now = at(now);
        peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(2000)))]);
        brain.step(&seen);
    }
    let mut seen = down(seen, true, true);
    seen.now = at(120);
    brain.step(&seen);
    seen.now = at(130);
    edit(&mut seen, |keys| keys.sync.as_mut().unwrap().index = index);
    peers(&mut seen, &[("n2", Some(answer(2100))), ("n3", Some(answer(2100)))]);
    let got = commands(&mut brain, &seen);
    (brain, seen, got)
}

/// Changes what the store holds, as `seen` has it.
fn edit(seen: &mut Observation, change: impl FnOnce(&mut Snapshot)) {
    let mut keys = (**seen.store.snapshot.as_ref().unwrap()).clone();
    change(&mut keys);
    seen.store.snapshot = Some(keys.into());
}

#[test]
fn an_heir_is_named_alone_before_the_lease_is_handed_over() {
    let (mut brain, mut seen, got) = handing_over(7);
    let alone = Command::Write(Write::Sync { standbys: names(&["n3"]), quorum: 0, at: 7 });
    assert_eq!(got, [alone]);
    edit(&mut seen, |keys| {
        keys.sync = Some(versioned(SyncState::new("n1", &names(&["n3"])), None));
    });
    seen.now = at(140);
    peers(&mut seen, &[("n2", Some(answer(2100))), ("n3", Some(answer(2100)))]);
    let heir = Heir { name: "n3".into(), instance: "i-n3".into(), session: "s-n3".into() };
    assert_eq!(commands(&mut brain, &seen), [Command::HandOver(heir)]);
}

/// The hand-over is given up. Pictures of the store may come out of order; one that is older than the
/// picture the heir was named on says nothing of whom the store names now.
#[test]
fn an_older_picture_after_a_hand_over_says_not_whom_to_wait_for() {
    let (mut brain, mut seen, got) = handing_over(9);
    assert!(matches!(got[..], [Command::Write(Write::Sync { at: 9, .. })]), "{got:?}");
    edit(&mut seen, |keys| {
        keys.failover = None;
        keys.sync.as_mut().unwrap().index = 7;
    });
    seen.now = at(140);
    let rewrite = Write::Sync { standbys: names(&["n2", "n3"]), quorum: 1, at: 7 };
    assert_eq!(commands(&mut brain, &seen), [Command::Write(rewrite)], "which fails");
}

/// A voter that is to be made anew has its word to give before: nobody could be copied otherwise.
#[test]
fn a_voter_is_made_anew_only_when_the_leader_is_there_to_be_copied() {
    let see = |role: Role| {
        let mut snapshot = voted(cluster());
        snapshot.members.get_mut("n1").unwrap().value.role = role;
        let sql = Sql { receives_from: Some(("n1".into(), 5432)), ..standby(1000) };
        let mut seen = sees("n3", 100, snapshot, sql);
        seen.local.upstream = Some(upstream("n1"));
        seen.asked.reinit = true;
        seen
    };
    let elected = brain("n3").step(&see(Role::Replica));
    assert_eq!(elected.follows, Some(5));
    assert_eq!(commands(&mut brain("n3"), &see(Role::Replica)), []);
    let mut brain = brain("n3");
    let mut primary = see(Role::Primary);
    assert_eq!(commands(&mut brain, &primary), [], "it says so first");
    let mut keys = (**primary.store.snapshot.as_ref().unwrap()).clone();
    keys.members.get_mut("n3").unwrap().value.to_be_copied = true;
    primary.store.snapshot = Some(keys.into());
    assert_eq!(commands(&mut brain, &primary), [], "the others see it");
    follow::later(&mut primary, 2500);
    assert_eq!(commands(&mut brain, &primary), []);
    follow::later(&mut primary, 2500);
    assert_eq!(commands(&mut brain, &primary), [Command::Begin(Job::Stop)]);
}

#[test]
fn published_voters_may_come_back_after_a_restart_of_the_primary() {
    let look = |ms| {
        let mut seen = leads(voted(cluster()), Sql { waits: true, ..primary(2000) });
        seen.now = at(ms);
        seen
    };
    let mut brain = brain("n1");
    brain.comeback = sync::Comeback::default();
    assert_eq!(commands(&mut brain, &look(100)), []);
    assert_eq!(commands(&mut brain, &look(2100)), [claims()], "half a ttl is over");
}
