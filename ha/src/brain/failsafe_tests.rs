//! Exact commands for exact pictures of failsafe mode.

use crate::brain::Verdict;
use crate::brain::tests::*;
use crate::command::{Command, Write};
use crate::keeper::{Addressee, Pact, Promise};
use crate::kv::{FailoverRequest, Failsafe};
use crate::observation::{Observation, PeerAnswer};
use crate::store::{Snapshot, Versioned};
use crate::time::Time;

fn list(names: &[&str]) -> Failsafe {
    names.iter().map(|name| ((*name).to_owned(), format!("http://{name}:8008/patroni"))).collect()
}

/// The cluster with this list, stored at version `index`; `status` has version 7.
fn listed(names: &[&str], index: u64) -> Snapshot {
    let failsafe = Versioned { value: list(names), index, session: None };
    Snapshot { failsafe: Some(failsafe), ..cluster() }
}

fn leading(now: u64, snapshot: Snapshot, pact: u64) -> Observation {
    let mut seen = holding(sees("n1", now, snapshot, primary(1000)), true);
    seen.lease.pact = pact;
    seen
}

/// What a step says of failsafe mode.
fn about(brain: &mut crate::brain::Brain, seen: &Observation) -> Vec<Command> {
    let of = |command: &Command| {
        matches!(command, Command::Pact(_) | Command::Write(Write::Failsafe { .. }))
    };
    let decisions = brain.step(seen).decisions.into_iter();
    decisions.map(|decision| decision.command).filter(of).collect()
}

fn pact(number: u64, names: &[&str]) -> Command {
    pact_at(number, names, 7)
}

fn pact_at(number: u64, names: &[&str], at: u64) -> Command {
    let addressee = |(name, url): (String, String)| {
        let instance = Some(format!("i-{name}"));
        (name, Addressee { url, instance })
    };
    let members = list(names).into_iter().map(addressee).collect();
    Command::Pact(Some(Pact { number, term: 5, at, members }))
}

fn write(names: &[&str], at: u64) -> Command {
    Command::Write(Write::Failsafe { list: list(names), at })
}

#[test]
fn the_first_list_is_written_before_anybody_is_asked() {
    let mut brain = brain("n1");
    let all = ["n1", "n2", "n3"];
    assert_eq!(about(&mut brain, &leading(0, cluster(), 0)), [write(&all, 0)]);
    // Stored later than the lease was renewed: a challenger may not have seen it yet.
    assert_eq!(about(&mut brain, &leading(10, listed(&all, 9), 0)), []);
    assert_eq!(about(&mut brain, &leading(20, listed(&all, 6), 0)), [pact(1, &["n2", "n3"])]);
    assert_eq!(about(&mut brain, &leading(30, listed(&all, 6), 1)), []);
}

/// Consul may be gone before a renewal is due.
#[test]
fn a_renewal_is_hurried_once_for_each_list() {
    let mut brain = brain("n1");
    let hurries = |brain: &mut crate::brain::Brain, snapshot: Snapshot| {
        let step = brain.step(&leading(0, snapshot, 0));
        step.decisions.iter().filter(|d| d.command == Command::Renew).count()
    };
    let all = ["n1", "n2", "n3"];
    assert_eq!(hurries(&mut brain, cluster()), 0, "there is no list");
    assert_eq!(hurries(&mut brain, listed(&all, 9)), 1);
    assert_eq!(hurries(&mut brain, listed(&all, 9)), 0);
    assert_eq!(hurries(&mut brain, listed(&all, 6)), 0, "a renewal was stored later");
    assert_eq!(hurries(&mut brain, listed(&all, 10)), 1);
}

#[test]
fn who_joins_is_asked_before_the_list_names_it() {
    let mut brain = brain("n1");
    let old = listed(&["n1", "n2"], 6);
    assert_eq!(about(&mut brain, &leading(0, old.clone(), 0)), [pact(1, &["n2", "n3"])]);
    assert_eq!(about(&mut brain, &leading(10, old.clone(), 0)), [pact(1, &["n2", "n3"])]);
    let agreed = leading(20, old, 1);
    assert_eq!(about(&mut brain, &agreed), [write(&["n1", "n2", "n3"], 6)]);
}

#[test]
fn nothing_is_written_before_the_guard_has_the_cut() {
    let mut brain = brain("n1");
    let old = listed(&["n1", "n2"], 6);
    about(&mut brain, &leading(0, old.clone(), 0));
    let mut seen = leading(20, old, 1);
    let hold = seen.lease.hold.unwrap();
    let deadline = hold.deadline + std::time::Duration::from_millis(1);
    seen.local.armed = Some(crate::keeper::Hold { deadline, ..hold });
    assert_eq!(about(&mut brain, &seen), []);
}

#[test]
fn who_leaves_is_asked_until_a_renewal_was_stored_after_the_list() {
    let mut brain = brain("n1");
    let all = ["n1", "n2", "n3"];
    about(&mut brain, &leading(0, listed(&all, 6), 0));
    let mut without = listed(&all, 6);
    without.members.remove("n3");
    assert_eq!(about(&mut brain, &leading(10, without.clone(), 1)), [write(&["n1", "n2"], 6)]);
    without.failsafe = Some(Versioned { value: list(&["n1", "n2"]), index: 8, session: None });
    assert_eq!(about(&mut brain, &leading(20, without.clone(), 1)), [], "n3 is still asked");
    without.status.as_mut().unwrap().index = 9;
    assert_eq!(about(&mut brain, &leading(30, without, 1)), [pact_at(2, &["n2"], 9)]);
}

/// A configuration that was copied with its connect_address.
#[test]
fn two_members_with_one_address_make_no_pact_and_are_named() {
    let all = ["n1", "n2", "n3"];
    let copied = |url: &str| {
        let mut snapshot = listed(&all, 6);
        snapshot.members.get_mut("n3").unwrap().value.api_url = url.into();
        snapshot.failsafe.as_mut().unwrap().value.insert("n3".into(), url.into());
        leading(0, snapshot, 0)
    };
    for url in ["http://n2:8008/patroni", "http://N2.:8008", "http://n1:8008/patroni"] {
        let mut brain = brain("n1");
        assert_eq!(about(&mut brain, &copied(url)), [], "{url}");
        let step = brain.step(&copied(url));
        let warning = step.warning.unwrap();
        assert!(warning.contains("n3 have one REST address"), "{warning}");
        assert_eq!(step.member.problem.as_ref(), Some(&warning));
        assert!(step.phase.contains(&warning), "{}", step.phase);
    }
    let mut brain = brain("n1");
    assert_eq!(about(&mut brain, &leading(0, listed(&all, 6), 0)), [pact(1, &["n2", "n3"])]);
    let joined = Observation { lease: leading(0, cluster(), 1).lease, ..copied("http://n2:8008") };
    assert_eq!(about(&mut brain, &joined), [Command::Pact(None)], "who comes later is seen, too");
    let off = |seen: &mut Observation| {
        let snapshot = std::sync::Arc::make_mut(seen.store.snapshot.as_mut().unwrap());
        snapshot.config.as_mut().unwrap().value.failsafe_mode = false;
    };
    let mut seen = copied("http://n2:8008");
    off(&mut seen);
    assert_eq!(crate::brain::tests::brain("n1").step(&seen).warning, None, "not asked for");
}

#[test]
fn the_identity_of_an_entry_that_has_gone_is_remembered() {
    let mut brain = brain("n1");
    let mut snapshot = listed(&["n1", "n2", "n3"], 6);
    assert_eq!(about(&mut brain, &leading(0, snapshot.clone(), 0)), [pact(1, &["n2", "n3"])]);
    snapshot.members.remove("n3");
    let mut seen = leading(10, snapshot.clone(), 1);
    let row = crate::observation::Standby { name: "n3".into(), streaming: true, ..<_>::default() };
    seen.local.sql.as_mut().unwrap().standbys = vec![row];
    assert_eq!(about(&mut brain, &seen), [], "the same pact");
    let mut other = member("n3", crate::kv::Role::Replica);
    other.value.instance = "i-new".into();
    snapshot.members.insert("n3".into(), other);
    let commands = about(&mut brain, &leading(20, snapshot, 1));
    let [Command::Pact(Some(pact))] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(pact.members["n3"].instance.as_deref(), Some("i-new"));
}

#[test]
fn switched_off_the_pact_ends_before_the_list_does() {
    let mut brain = brain("n1");
    let mut snapshot = listed(&["n1", "n2", "n3"], 6);
    about(&mut brain, &leading(0, snapshot.clone(), 0));
    snapshot.config.as_mut().unwrap().value.failsafe_mode = false;
    assert_eq!(about(&mut brain, &leading(10, snapshot.clone(), 1)), [Command::Pact(None)]);
    assert_eq!(about(&mut brain, &leading(20, snapshot, 0)), [write(&[], 6)]);
}

#[test]
fn nothing_changes_while_the_lease_rests_on_promises() {
    let mut brain = brain("n1");
    about(&mut brain, &leading(0, listed(&["n1", "n2"], 6), 0));
    let mut seen = leading(10, listed(&["n1", "n2"], 6), 1);
    seen.lease.by_promises = true;
    let step = brain.step(&seen);
    assert!(step.phase.contains("failsafe"), "{}", step.phase);
    let writes =
        |d: &crate::brain::Decision| matches!(d.command, Command::Write(Write::Failsafe { .. }));
    assert!(!step.decisions.iter().any(writes));
}

#[test]
fn a_stranger_to_the_list_never_leads_whatever_the_settings_say() {
    let mut snapshot = listed(&["n1", "n3"], 6);
    snapshot.config.as_mut().unwrap().value.failsafe_mode = false;
    let mut brain = brain("n2");
    let step = brain.step(&sees("n2", 1_000_000, snapshot, standby(1000)));
    let Verdict::MayNot(refusal) = step.verdict else { panic!("{:?}", step.verdict) };
    assert_eq!(refusal.rule, "failsafe");
    assert!(refusal.value.contains("n1, n3"), "{refusal:?}");
}

#[test]
fn who_has_promised_waits_without_asking_anybody() {
    let mut brain = brain("n2");
    let snapshot = listed(&["n1", "n2", "n3"], 6);
    brain.step(&sees("n2", 0, snapshot.clone(), standby(1000)));
    let mut seen = sees("n2", 6000, snapshot.clone(), standby(1000));
    seen.store.arrived = at(0);
    let until = at(7000);
    seen.lease.promised = Some(Promise { holder: "n1".into(), term: 5, until });
    let step = brain.step(&seen);
    assert!(step.phase.starts_with("has promised n1"), "{}", step.phase);
    assert!(!step.decisions.iter().any(|d| matches!(d.command, Command::Probe(_))));
    assert!(step.wake <= until);
    seen.now = until;
    let step = brain.step(&seen);
    assert!(step.decisions.iter().any(|d| matches!(d.command, Command::Probe(_))));
}

/// Just after an outage of Consul the heir is still bound by what it promised to the leader.
#[test]
fn a_hand_over_ends_the_heirs_promise_and_a_late_takeover_of_its_own_does_not() {
    let take = |from: Option<&str>| {
        let mut snapshot = listed(&["n1", "n2", "n3"], 6);
        let lease = snapshot.status.as_mut().unwrap().value.lease.as_mut().unwrap();
        (lease.holder, lease.instance) = ("n2".into(), "i-n2".into());
        (lease.term, lease.from) = (6, from.map(Into::into));
        let mut seen = sees("n2", 100, snapshot, standby(1000));
        let until = at(3000);
        seen.lease.promised = Some(Promise { holder: "n1".into(), term: 5, until });
        let step = brain("n2").step(&seen);
        step.decisions.into_iter().find_map(|d| match d.command {
            Command::Acquire(plan) => Some(plan.released),
            _ => None,
        })
    };
    assert_eq!(take(Some("n1")), Some(Some(("n1".to_owned(), 5))));
    assert_eq!(take(None), Some(None), "the keeper refuses that");
}

#[test]
fn nothing_is_stopped_for_a_switchover_that_consul_cannot_take() {
    let mut snapshot = listed(&["n1", "n2", "n3"], 6);
    let request = FailoverRequest { leader: Some("n1".into()), ..FailoverRequest::default() };
    snapshot.failover = Some(versioned(request, None));
    let mut brain = brain("n1");
    let mut seen = leading(0, snapshot, 1);
    seen.lease.by_promises = true;
    seen.store.reachable = false;
    let stops = |step: crate::brain::Step| {
        let probes = |d: &crate::brain::Decision| matches!(d.command, Command::Probe(_));
        step.decisions.iter().any(probes)
    };
    assert!(!stops(brain.step(&seen)));
    (seen.lease.by_promises, seen.store.reachable) = (false, true);
    assert!(stops(brain.step(&seen)), "with Consul back it is dealt with");
}

#[test]
fn a_pact_that_is_not_taken_is_made_anew_from_a_newer_picture() {
    let mut brain = brain("n1");
    let mut snapshot = listed(&["n1", "n2", "n3"], 6);
    let names = ["n2", "n3"];
    assert_eq!(about(&mut brain, &leading(0, snapshot.clone(), 0)), [pact(1, &names)]);
    assert_eq!(about(&mut brain, &leading(10, snapshot.clone(), 0)), [pact(1, &names)]);
    snapshot.status.as_mut().unwrap().index = 9;
    assert_eq!(about(&mut brain, &leading(20, snapshot.clone(), 0)), [pact_at(2, &names, 9)]);
    assert_eq!(about(&mut brain, &leading(30, snapshot.clone(), 2)), []);
    snapshot.failsafe = None;
    assert_eq!(about(&mut brain, &leading(40, snapshot, 2)), [Command::Pact(None)]);
}

#[test]
fn a_list_that_vanished_still_keeps_strangers_from_leading() {
    let mut brain = brain("n2");
    brain.step(&sees("n2", 0, listed(&["n1", "n3"], 6), standby(1000)));
    let step = brain.step(&sees("n2", 1_000_000, cluster(), standby(1000)));
    assert!(!step.verdict.may_lead(), "{:?}", step.verdict);
    let mut member = crate::brain::tests::brain("n3");
    member.step(&sees("n3", 0, listed(&["n1", "n3"], 6), standby(1000)));
    let step = member.step(&sees("n3", 1_000_000, cluster(), standby(1000)));
    assert!(step.verdict.may_lead(), "{:?}", step.verdict);
}

#[test]
fn the_leader_is_on_its_own_list_even_while_its_entry_is_missing() {
    let mut brain = brain("n1");
    let mut snapshot = cluster();
    snapshot.members.remove("n1");
    assert_eq!(about(&mut brain, &leading(0, snapshot, 0)), [write(&["n1", "n2", "n3"], 0)]);
}

#[test]
fn the_list_is_kept_beside_the_data_directory() {
    let notes = |known: &[&str]| {
        let mut seen = sees("n2", 0, listed(&["n1", "n2"], 6), standby(1000));
        seen.local.memory.failsafe = list(known);
        let decisions = brain("n2").step(&seen).decisions.into_iter();
        decisions.map(|d| d.command).filter(|c| matches!(c, Command::NoteList(_))).count()
    };
    assert_eq!((notes(&["n1", "n2", "n3"]), notes(&["n1", "n2"])), (1, 0));
}

/// n3 was away, n1 took it off the list, was cut off and leads by itself; then Consul lost everything.
#[test]
fn who_was_out_of_touch_before_the_list_vanished_takes_no_lease_without_the_others_word() {
    const LATE: u64 = 40_000;
    let all = ["n1", "n2", "n3"];
    let lost = || {
        let mut snapshot = Snapshot { failsafe: None, leader: None, ..listed(&all, 6) };
        snapshot.status.as_mut().unwrap().value.lease = None;
        let mut seen = sees("n3", 100, snapshot, standby(1000));
        seen.local.memory.failsafe = list(&all);
        seen
    };
    let takes = |brain: &mut crate::brain::Brain, first: Option<PeerAnswer>| {
        let mut seen = lost();
        for ms in (100..LATE).step_by(3000) {
            seen.now = Time::from_millis(ms);
            brain.step(&seen);
        }
        seen.now = Time::from_millis(LATE);
        peers(&mut seen, &[("n1", first), ("n2", Some(answer(900)))]);
        for probe in seen.peers.values_mut() {
            probe.asked = seen.now;
        }
        commands(brain, &seen).iter().any(|command| matches!(command, Command::Acquire(_)))
    };
    let other = |change: &dyn Fn(&mut PeerAnswer)| {
        let mut peer = answer(900);
        change(&mut peer);
        takes(&mut brain("n3"), Some(peer))
    };
    assert!(!takes(&mut brain("n3"), None), "it has just been started");
    assert!(other(&|_| {}));
    assert!(!other(&|peer| peer.holds = true), "its PostgreSQL may just be starting");
    assert!(!other(&|peer| peer.promised = Some("n4".into())));
    assert!(other(&|peer| peer.promised = Some("n3".into())), "that is this node");
    assert!(!other(&|peer| peer.failsafe = list(&["n1", "n4"])), "n4 has joined meanwhile");

    let mut in_touch = brain("n3");
    in_touch.step(&sees("n3", 0, listed(&all, 6), standby(1000)));
    assert!(takes(&mut in_touch, None), "n1 needs its promise");

    let mut cut_off = brain("n3");
    let mut before = sees("n3", 0, listed(&all, 6), standby(1000));
    cut_off.step(&before);
    before.store.reachable = false;
    cut_off.step(&before);
    assert!(!takes(&mut cut_off, None));
}

#[test]
fn a_list_that_vanished_binds_strangers_to_it_after_a_restart_too() {
    let snapshot = Snapshot { failsafe: None, ..listed(&["n1"], 6) };
    let mut seen = sees("n2", 0, snapshot, standby(1000));
    seen.local.memory.failsafe = list(&["n1", "n3"]);
    let Verdict::MayNot(refusal) = brain("n2").step(&seen).verdict else { panic!("it may") };
    assert_eq!(refusal.rule, "failsafe");
}
