//! PgBouncers are paused for a planned change, and for no other.

use super::switchover::stream;
use super::*;
use crate::keeper::Addressee;
use crate::observation::PoolersAnswer;

/// n1 leads, n1 and n3 have poolers, n2 is to lead; all has been done but the pause.
fn before_pause(brain: &mut Brain, request: FailoverRequest, shutdown: bool) -> Observation {
    let mut snapshot = cluster();
    for name in ["n1", "n3"] {
        let member = &mut snapshot.members.get_mut(name).unwrap().value;
        (member.pause_ms, member.instance) = (3000, format!("i-{name}"));
    }
    if !shutdown {
        snapshot.failover = Some(versioned(request, None));
    }
    let mut seen = holding(sees("n1", 100, snapshot, primary(2000)), true);
    seen.shutdown = shutdown;
    stream(&mut seen, &["n2", "n3"]);
    brain.step(&seen);
    fresh(&mut seen);
    assert_eq!(commands(brain, &seen), [Command::Begin(Job::Checkpoint)]);
    seen.now = at(200);
    fresh(&mut seen);
    seen
}

fn fresh(seen: &mut Observation) {
    peers(seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(1990)))]);
}

fn switchover() -> FailoverRequest {
    let (leader, member) = (Some("n1".into()), Some("n2".into()));
    FailoverRequest { leader, member, scheduled_at: None, fenced: None }
}

/// By name, address and installation.
fn addressees(names: &[&str]) -> BTreeMap<String, Addressee> {
    let whom = |(name, url)| {
        let instance = Some(format!("i-{name}"));
        (name, Addressee { url, instance })
    };
    addresses(names).into_iter().map(whom).collect()
}

fn pause(names: &[&str], within: u64) -> Command {
    let (attempt, within) = (at(200), Duration::from_millis(within));
    Command::PausePoolers { members: addressees(names), attempt, within }
}

fn say(seen: &mut Observation, name: &str, asked: u64, paused: Result<(), String>) {
    seen.poolers.insert(name.into(), PoolersAnswer { asked: at(asked), paused });
}

fn resume() -> Command {
    Command::ResumePoolers { members: addressees(&["n1", "n3"]), attempt: at(200) }
}

#[test]
fn a_switchover_stops_only_when_all_poolers_are_paused() {
    let mut brain = brain("n1");
    let mut seen = before_pause(&mut brain, switchover(), false);
    assert_eq!(commands(&mut brain, &seen), [pause(&["n1", "n3"], 3000)]);
    say(&mut seen, "n1", 210, Ok(()));
    say(&mut seen, "n3", 199, Ok(()));
    assert_eq!(commands(&mut brain, &seen), [pause(&["n3"], 3000)], "n3's answer is an old one");
    say(&mut seen, "n3", 210, Ok(()));
    seen.now = at(300);
    assert_eq!(commands(&mut brain, &seen), [], "the others are asked once more");
    assert_eq!(commands(&mut brain, &seen), [Command::Probe(addresses(&["n2", "n3"]))]);
    fresh(&mut seen);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Stop)]);
}

#[test]
fn one_pooler_that_is_not_paused_calls_the_switchover_off() {
    for silent in [false, true] {
        let mut brain = brain("n1");
        let mut seen = before_pause(&mut brain, switchover(), false);
        brain.step(&seen);
        if silent {
            seen.now = at(200 + 3000 + 2001);
            seen.lease.hold.as_mut().unwrap().deadline = at(9000);
            seen.local.armed = seen.lease.hold;
            fresh(&mut seen);
        } else {
            say(&mut seen, "n1", 210, Ok(()));
            say(&mut seen, "n3", 210, Err("a transaction goes on".into()));
        }
        let step = brain.step(&seen);
        let made: Vec<_> = step.decisions.iter().map(|d| d.command.clone()).collect();
        assert!(made.contains(&resume()), "{made:?}");
        assert!(made.contains(&Command::Write(Write::ClearFailover(7))), "{made:?}");
        assert!(!made.iter().any(|c| matches!(c, Command::Begin(_))), "{made:?}");
        let expected =
            if silent { "PgBouncer was not paused in time" } else { "n3: a transaction goes on" };
        assert_eq!(step.refused.as_deref(), Some(expected));
    }
}

#[test]
fn a_request_that_is_taken_back_lets_the_poolers_go_on() {
    let mut brain = brain("n1");
    let mut seen = before_pause(&mut brain, switchover(), false);
    brain.step(&seen);
    let mut snapshot = (**seen.store.snapshot.as_ref().unwrap()).clone();
    snapshot.failover = None;
    seen.store.snapshot = Some(snapshot.into());
    assert!(commands(&mut brain, &seen).contains(&resume()));
    assert!(!commands(&mut brain, &seen).contains(&resume()), "told once");
}

/// With a slow Consul the lease rests on promises for a moment before each renewal is answered.
#[test]
fn poolers_are_not_let_go_in_a_moment_of_promises() {
    for (moment, stay) in [(300, true), (30_000, false)] {
        let mut brain = brain("n1");
        let mut seen = before_pause(&mut brain, switchover(), false);
        brain.step(&seen);
        seen.lease.by_promises = true;
        seen.lease.hold.as_mut().unwrap().deadline = at(60_000);
        seen.local.armed = seen.lease.hold;
        seen.now = at(moment);
        let made = commands(&mut brain, &seen);
        assert_eq!(!made.contains(&resume()), stay, "{moment}: {made:?}");
    }
}

#[test]
fn a_failover_waits_for_no_pooler() {
    let mut brain = brain("n1");
    let request = FailoverRequest { leader: None, ..switchover() };
    let seen = before_pause(&mut brain, request, false);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Stop)]);
}

#[test]
fn an_agent_that_stops_waits_a_short_time_and_stops_all_the_same() {
    let mut brain = brain("n1");
    let mut seen = before_pause(&mut brain, switchover(), true);
    assert_eq!(commands(&mut brain, &seen), [pause(&["n1", "n3"], 2000)]);
    say(&mut seen, "n1", 210, Ok(()));
    say(&mut seen, "n3", 210, Err("a transaction goes on".into()));
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Stop)]);
}

#[test]
fn who_pauses_again_in_a_later_reign_asks_again() {
    let mut brain = brain("n1");
    let mut seen = before_pause(&mut brain, switchover(), false);
    brain.step(&seen);
    for name in ["n1", "n3"] {
        say(&mut seen, name, 210, Ok(()));
    }
    brain.step(&seen);
    let mut stopped = down(seen.clone(), true, true);
    stopped.now = at(300);
    brain.step(&stopped);
    peers(&mut stopped, &[("n2", Some(answer(2100))), ("n3", Some(answer(2100)))]);
    let handed_over = commands(&mut brain, &stopped);
    assert!(matches!(handed_over[..], [Command::HandOver(_)]), "{handed_over:?}");
    let hold = seen.lease.hold.as_mut().unwrap();
    (hold.term, seen.now) = (9, at(900));
    seen.local.memory.term = 9;
    seen.local.armed = seen.lease.hold;
    let mut asked = BTreeMap::new();
    for now in 900..920 {
        seen.now = at(now);
        fresh(&mut seen);
        for command in commands(&mut brain, &seen) {
            if let Command::PausePoolers { members, .. } = &command {
                asked.extend(members.clone());
            }
            assert_ne!(Command::Begin(Job::Stop), command, "answers of the past do not count");
        }
    }
    assert_eq!(asked, addressees(&["n1", "n3"]));
}
