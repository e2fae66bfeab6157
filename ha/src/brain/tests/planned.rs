//! A switchover at a time that people have set.

use super::*;
use crate::kv::FailoverRequest;
use crate::observation::{Due, DueAt};

fn planned() -> FailoverRequest {
    let at = Some("2126-01-01T00:00:00+00:00".to_owned());
    FailoverRequest {
        leader: Some("n1".into()),
        member: Some("n2".into()),
        scheduled_at: at,
        fenced: None,
    }
}

fn seen(request: FailoverRequest, at: DueAt) -> Observation {
    let mut seen = leads(asked_for(request), primary(2000));
    switchover::stream(&mut seen, &["n2", "n3"]);
    seen.due = Some(Due { index: 7, at });
    seen
}

fn ago(seconds: u64) -> DueAt {
    DueAt::Ago(Duration::from_secs(seconds))
}

#[test]
fn it_binds_nobody_before_it_is_due() {
    let seen = seen(planned(), DueAt::Then(at(5000)));
    assert_eq!(commands(&mut brain("n1"), &seen), []);
    let step = brain("n1").step(&seen);
    assert!(step.wake <= at(5000), "it is looked at in time");
}

#[test]
fn when_it_is_due_its_time_is_taken_out() {
    let mut brain = brain("n1");
    let request = FailoverRequest { scheduled_at: None, ..planned() };
    let write = Write::FailoverIsDue { request: request.clone(), at: 7 };
    assert_eq!(commands(&mut brain, &seen(planned(), ago(0))), [Command::Write(write)]);
    let mut now = seen(request, ago(0));
    now.due = None;
    assert_eq!(commands(&mut brain, &now), [Command::Probe(addresses(&["n2", "n3"]))]);
}

#[test]
fn what_could_not_be_done_in_time_or_has_no_time_is_cleared() {
    let clear = Command::Write(Write::ClearFailover(7));
    for (due, cleared) in [(ago(15), false), (ago(16), true), (DueAt::Unreadable, true)] {
        let got = commands(&mut brain("n1"), &seen(planned(), due));
        assert_eq!(got == [clear.clone()], cleared, "{due:?}: {got:?}");
    }
}

/// The leader that it names may lead again by then.
#[test]
fn another_leader_keeps_it_until_it_is_due() {
    let of_n3 = FailoverRequest { leader: Some("n3".into()), ..planned() };
    let waits = seen(of_n3.clone(), DueAt::Then(at(5000)));
    assert_eq!(commands(&mut brain("n1"), &waits), []);
    let now = FailoverRequest { scheduled_at: None, ..of_n3 };
    let got = commands(&mut brain("n1"), &seen(now, ago(0)));
    assert_eq!(got, [Command::Write(Write::ClearFailover(7))], "n3 does not lead");
}

#[test]
fn nothing_planned_happens_in_a_pause() {
    let mut seen = seen(planned(), ago(1));
    let snapshot = (**seen.store.snapshot.as_ref().unwrap()).clone();
    seen.store.snapshot = Some(with_setting(snapshot, "pause", true.into()).into());
    assert_eq!(commands(&mut brain("n1"), &seen), []);
}
