//! `primary_start_timeout: 0`: a crashed primary gives way at once.

use super::*;

fn impatient(snapshot: Snapshot) -> Snapshot {
    with_setting(snapshot, "primary_start_timeout", 0.into())
}

/// n1 leads, and its PostgreSQL has ended.
fn ended(now: u64, snapshot: Snapshot, clean: bool) -> Observation {
    let mut seen = holding(down(sees("n1", now, snapshot, primary(2000)), true, clean), false);
    seen.store.arrived = at(now);
    seen
}

fn asks() -> Command {
    Command::Probe(addresses(&["n2", "n3"]))
}

fn start(seen: &Observation) -> Command {
    Command::Begin(Job::StartPrimary { hold: seen.lease.hold.unwrap(), sync: all(&[]) })
}

/// The answers of the others, asked at `now`.
fn heard(mut seen: Observation, n2: Option<PeerAnswer>) -> Observation {
    peers(&mut seen, &[("n2", n2), ("n3", None)]);
    seen
}

#[test]
fn a_crashed_primary_gives_the_lease_up_for_a_node_that_may_lead() {
    let mut brain = brain("n1");
    let seen = ended(100, impatient(cluster()), false);
    assert_eq!(commands(&mut brain, &seen), [asks()]);
    assert_eq!(commands(&mut brain, &heard(seen, Some(answer(900)))), [Command::Release]);
}

#[test]
fn where_nobody_may_lead_it_is_started_again() {
    let unfit = PeerAnswer { may_lead: Some(false), ..answer(2000) };
    for n2 in [None, Some(unfit)] {
        let mut brain = brain("n1");
        let seen = ended(100, impatient(cluster()), false);
        assert_eq!(commands(&mut brain, &seen), [asks()]);
        let seen = heard(seen, n2);
        assert_eq!(commands(&mut brain, &seen), [start(&seen)]);
    }
    let mut published = impatient(with_sync(cluster(), "n1", &["n3"]));
    published.config = impatient(with_setting(published.clone(), "ttl", 4.into())).config;
    let mut brain = brain("n1");
    let seen = ended(100, published, false);
    assert_eq!(commands(&mut brain, &seen), [asks()]);
    let seen = heard(seen, Some(answer(2000)));
    let job = Job::StartPrimary { hold: seen.lease.hold.unwrap(), sync: all(&["n3"]) };
    let only_the_published = commands(&mut brain, &seen);
    assert_eq!(only_the_published, [Command::Begin(job)]);
}

#[test]
fn it_is_started_at_once_where_the_setting_does_not_speak_of_it() {
    let seen = ended(100, impatient(cluster()), true);
    assert_eq!(commands(&mut brain("n1"), &seen), [start(&seen)], "stopped in good order");
    let seen = ended(100, cluster(), false);
    assert_eq!(commands(&mut brain("n1"), &seen), [start(&seen)], "300 s");
    let mut silent = ended(100, impatient(cluster()), false);
    silent.store.reachable = false;
    assert_eq!(commands(&mut brain("n1"), &silent), [start(&silent)], "nobody could");
}

/// Of the two it has more WAL.
#[test]
fn it_leaves_the_lease_to_the_others_for_a_ttl() {
    let mut brain = brain("n1");
    let seen = ended(100, impatient(cluster()), false);
    commands(&mut brain, &seen);
    commands(&mut brain, &heard(seen, Some(answer(900))));
    let again = |now| {
        let free = released(impatient(cluster()));
        heard(sees("n1", now, free, standby(2000)), Some(answer(900)))
    };
    let step = brain.step(&again(500));
    let refused = matches!(&step.verdict, Verdict::MayNot(why) if why.rule == "crash");
    assert!(refused && step.wake <= at(100 + TTL_MS), "{:?}", step.verdict);
    assert_eq!(commands(&mut brain, &again(600)), []);
    let takes = commands(&mut brain, &again(100 + TTL_MS));
    assert!(matches!(takes.as_slice(), [Command::Acquire(_)]), "nobody else did: {takes:?}");
}

/// A start takes some time, and so does a planned restart.
#[test]
fn a_start_that_has_not_crashed_is_not_broken_off_at_once() {
    let mut brain = brain("n1");
    let starting = |now| {
        let mut seen = leads(impatient(cluster()), primary(2000));
        seen.now = at(now);
        seen.local.sql = None;
        seen.lease.hold = Some(Hold { term: 5, deadline: at(now + 3000) });
        seen.local.armed = seen.lease.hold;
        seen.local.process = Process::Running { since: at(100) };
        seen
    };
    assert_eq!(commands(&mut brain, &starting(200)), []);
    assert_eq!(commands(&mut brain, &starting(100 + TTL_MS)), []);
    assert_eq!(commands(&mut brain, &starting(101 + TTL_MS)), [Command::Fence]);
}
