//! Handing over and giving up.

use super::*;

#[test]
fn switchover_checkpoints_stops_waits_for_the_wal_and_hands_over() {
    let request = FailoverRequest { leader: Some("n1".into()), ..failover_to("n3") };
    let snapshot = asked_for(request);
    let mut brain = brain("n1");
    let mut seen = leads(snapshot, primary(2000));
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

/// With a slow Consul the lease rests on promises for a moment before each renewal is answered.
#[test]
fn a_request_is_looked_into_across_moments_of_promises() {
    for (moment, goes_on) in [(600, true), (30_000, false)] {
        let mut brain = brain("n1");
        let mut seen = leads(asked_for(failover_to("n3")), primary(2000));
        stream(&mut seen, &["n2", "n3"]);
        assert_eq!(commands(&mut brain, &seen), [Command::Probe(addresses(&["n2", "n3"]))]);
        seen.now = at(300);
        peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(2000)))]);
        seen.lease.by_promises = true;
        for ms in [300, moment] {
            seen.now = at(ms);
            commands(&mut brain, &seen);
        }
        seen.lease.by_promises = false;
        seen.now = at(moment + 10);
        seen.lease.hold = Some(Hold { term: 5, deadline: at(60_000) });
        let got = commands(&mut brain, &seen);
        assert_eq!(got.contains(&Command::Begin(Job::Checkpoint)), goes_on, "{moment}: {got:?}");
    }
}

/// These stream from this primary.
pub(super) fn stream(seen: &mut Observation, names: &[&str]) {
    let row =
        |name: &&str| Standby { name: (*name).to_owned(), streaming: true, ..Standby::default() };
    seen.local.sql.as_mut().unwrap().standbys = names.iter().map(row).collect();
}

/// Its numbers are right, and yet its WAL may be another's.
#[test]
fn a_candidate_that_does_not_stream_is_refused() {
    let snapshot = asked_for(failover_to("n3"));
    let mut brain = brain("n1");
    let mut seen = leads(snapshot, primary(2000));
    stream(&mut seen, &["n2"]);
    brain.step(&seen);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(2000)))]);
    let step = brain.step(&seen);
    let clear =
        step.decisions.iter().find(|d| d.command == Command::Write(Write::ClearFailover(7)));
    assert_eq!(clear.unwrap().reason, "n3 does not stream from this node");
}

#[test]
fn a_switchover_to_anybody_is_refused_with_what_is_in_the_way_of_each() {
    let snapshot = asked_for(FailoverRequest { leader: Some("n1".into()), ..Default::default() });
    let mut brain = brain("n1");
    let mut seen = leads(snapshot, primary(200_000_000));
    stream(&mut seen, &["n2"]);
    brain.step(&seen);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(200_000_000)))]);
    let step = brain.step(&seen);
    let refused = step.refused.expect("it is refused");
    let wanted =
        "no other node may lead: n2 is 199998000 bytes behind; n3 does not stream from this node";
    assert_eq!(refused, wanted);
}

#[test]
fn a_candidate_that_does_not_answer_is_refused_and_nothing_is_stopped() {
    let snapshot = asked_for(failover_to("n3"));
    let mut brain = brain("n1");
    let mut seen = leads(snapshot, primary(2000));
    brain.step(&seen);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", None)]);
    let step = brain.step(&seen);
    let clear =
        step.decisions.iter().find(|d| d.command == Command::Write(Write::ClearFailover(7)));
    assert_eq!(clear.unwrap().reason, "candidate n3 does not answer");
    assert!(!step.decisions.iter().any(|d| matches!(d.command, Command::Begin(_))));
}

#[test]
fn a_request_that_was_refused_is_not_taken_up_again_while_it_is_still_seen() {
    let mut brain = brain("n1");
    let mut seen = leads(asked_for(failover_to("n3")), primary(2000));
    stream(&mut seen, &["n2"]);
    brain.step(&seen);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", None)]);
    let refusal = commands(&mut brain, &seen);
    assert!(matches!(refusal[..], [Command::Write(Write::ClearFailover(_))]), "{refusal:?}");
    stream(&mut seen, &["n2", "n3"]);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(2000)))]);
    assert_eq!(commands(&mut brain, &seen), refusal, "whoever asked was told so");
    assert!(brain.step(&seen).refused.is_some());
    let mut again = (**seen.store.snapshot.as_ref().unwrap()).clone();
    again.failover.as_mut().unwrap().index += 1;
    seen.store.snapshot = Some(again.into());
    let step = brain.step(&seen);
    let begins = |decision: &Decision| decision.command == Command::Begin(Job::Checkpoint);
    assert!(step.decisions.iter().any(begins), "a new request is taken up");
    assert_eq!(step.refused, None, "that was another one");
}

#[test]
fn a_stopping_leader_alone_releases_after_postgresql_is_gone() {
    let snapshot = alone();
    let mut brain = brain("n1");
    let mut seen = leads(snapshot, primary(2000));
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
    let mut seen = leads(cluster(), primary(2000));
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
fn a_reign_that_was_given_up_is_never_led_again() {
    let snapshot = alone();
    let mut brain = brain("n1");
    let mut seen = leads(snapshot, primary(2000));
    seen.shutdown = true;
    brain.step(&seen);
    let mut seen = down(seen, true, true);
    assert_eq!(commands(&mut brain, &seen), [Command::Release]);
    seen.shutdown = false;
    assert_eq!(commands(&mut brain, &seen), [Command::Release], "the keeper may have been busy");
}

#[test]
fn a_candidate_that_streams_since_a_moment_is_not_refused_on_an_older_look() {
    let snapshot = asked_for(failover_to("n3"));
    let mut brain = brain("n1");
    let mut seen = leads(snapshot, primary(2000));
    stream(&mut seen, &["n2"]);
    seen.local.sql.as_mut().unwrap().at = at(50);
    brain.step(&seen);
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(2000)))]);
    assert_eq!(commands(&mut brain, &seen), [], "the look is older than the request");
    stream(&mut seen, &["n2", "n3"]);
    seen.local.sql.as_mut().unwrap().at = at(120);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Checkpoint)]);
}

#[test]
fn in_a_pause_an_agent_that_stops_leaves_its_replica_alone() {
    let see = |pause: bool| {
        let snapshot = with_setting(cluster(), "pause", pause.into());
        let mut seen = sees("n2", 100, snapshot, standby(1000));
        seen.shutdown = true;
        seen
    };
    assert_eq!(commands(&mut brain("n2"), &see(false)), [Command::Begin(Job::Stop)]);
    assert_eq!(commands(&mut brain("n2"), &see(true)), [Command::Exit(Exit::Stopped)]);
}
