//! The deadline.

use std::time::Duration;

use hart_guard::{
    Armed, Client, ClientError, Exit, ExitRecord, Phase, Refusal, Signal, SpawnError, spawn,
};
use hart_ha::time::Time;
use nix::sys::signal::Signal as Number;

use crate::rig::{PATIENCE, POLITE, Rig, STUBBORN, patiently, send};

const HOUR: Duration = Duration::from_secs(3600);

fn from_now(ms: u64) -> Time {
    hart_clock::now() + Duration::from_millis(ms)
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Refusal {
    match result {
        Err(ClientError::Refused { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn fenced(client: &mut Client, rig: &Rig) -> ExitRecord {
    let record = patiently("the fence", client.exited()).await.unwrap();
    assert_eq!(rig.processes(), Vec::<i32>::new(), "reported only when all are gone");
    assert!(record.fenced);
    record
}

#[tokio::test]
async fn at_the_deadline_the_whole_tree_dies_whatever_it_ignores() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    let deadline = from_now(500);
    let status = client.arm(3, deadline, PATIENCE).await.unwrap();
    assert_eq!(status.armed, Some(Armed { term: 3, deadline }));
    let record = fenced(&mut client, &rig).await;
    assert_eq!((record.exit, record.term), (Exit::Signal(9), Some(3)));
    assert!(record.at >= deadline, "not before the deadline");
}

#[tokio::test]
async fn a_polite_postmaster_is_asked_first() {
    let rig = Rig::new();
    let mut spec = rig.spec(POLITE);
    spec.grace = PATIENCE;
    let (_, mut client) = rig.start(&spec).await;
    assert!(client.fence(PATIENCE).await.unwrap().phase >= Phase::Stopping);
    assert_eq!(fenced(&mut client, &rig).await.exit, Exit::Code(2));
    assert!(rig.path("got-quit").exists());
}

#[tokio::test]
async fn stopped_processes_die_too() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    rig.processes().into_iter().for_each(|pid| send(pid, Number::SIGSTOP));
    client.arm(1, from_now(200), PATIENCE).await.unwrap();
    fenced(&mut client, &rig).await;
}

#[tokio::test]
async fn a_tree_that_grows_while_it_is_killed_dies() {
    let rig = Rig::new();
    let grows = "trap '' QUIT; grow() { while :; do (setsid sleep 1 &) ; setsid sleep 0.2; done; }
        grow & (grow &) ; touch ready; grow";
    let (_, mut client) = rig.start(&rig.spec(grows)).await;
    client.fence(PATIENCE).await.unwrap();
    fenced(&mut client, &rig).await;
}

#[tokio::test]
async fn lower_terms_are_refused() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(POLITE)).await;
    let deadline = hart_clock::now() + HOUR;
    client.arm(5, deadline, PATIENCE).await.unwrap();
    assert_eq!(refusal(client.arm(4, deadline + HOUR, PATIENCE).await), Refusal::LowerTerm);
    assert_eq!(refusal(client.disarm(4, PATIENCE).await), Refusal::LowerTerm);
    let armed = client.status(PATIENCE).await.unwrap().armed;
    assert_eq!(armed, Some(Armed { term: 5, deadline }));
    client.arm(6, deadline - Duration::from_secs(60), PATIENCE).await.unwrap();
    assert_eq!(client.disarm(6, PATIENCE).await.unwrap().armed, None);
}

#[tokio::test]
async fn a_disarmed_deadline_passes_without_harm() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(POLITE)).await;
    let deadline = from_now(2000);
    client.arm(1, deadline, PATIENCE).await.unwrap();
    client.disarm(1, PATIENCE).await.unwrap();
    tokio::time::sleep(deadline.since(hart_clock::now()) + Duration::from_millis(300)).await;
    let status = client.status(PATIENCE).await.unwrap();
    assert_eq!((status.phase, status.fenced), (Phase::Running, false));
}

#[tokio::test]
async fn a_deadline_can_be_moved_later_and_earlier() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    let first = from_now(3000);
    client.arm(1, first, PATIENCE).await.unwrap();
    client.arm(1, first + HOUR, PATIENCE).await.unwrap();
    tokio::time::sleep(first.since(hart_clock::now()) + Duration::from_millis(300)).await;
    assert_eq!(client.status(PATIENCE).await.unwrap().phase, Phase::Running);
    client.arm(1, from_now(100), PATIENCE).await.unwrap();
    fenced(&mut client, &rig).await;
}

#[tokio::test]
async fn a_renewal_seen_too_late_does_not_rescue() {
    let rig = Rig::new();
    let (started, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    let mut second = rig.client().await;
    let deadline = from_now(3000);
    client.arm(1, deadline, PATIENCE).await.unwrap();
    send(started.guard_pid, Number::SIGSTOP);
    // One renewal waits in the queue before the deadline passes, and so is the first thing that
    // the guard hears of when it wakes up; the other comes after.
    let (later, moment) = (deadline + HOUR, Duration::from_millis(50));
    let early = client.arm(1, later, moment).await;
    tokio::time::sleep(deadline.since(hart_clock::now()) + Duration::from_millis(300)).await;
    let late = second.arm(1, later, moment).await;
    assert!(early.is_err() && late.is_err(), "{early:?} {late:?}");
    send(started.guard_pid, Number::SIGCONT);
    let record = fenced(&mut client, &rig).await;
    assert_eq!(record.term, Some(1));
    assert_eq!(second.exited().await.unwrap(), record);
}

#[tokio::test]
async fn a_deadline_already_passed_fences_at_once() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    assert_eq!(refusal(client.arm(1, hart_clock::now(), PATIENCE).await), Refusal::Fenced);
    let later = client.arm(2, hart_clock::now() + HOUR, PATIENCE).await;
    let lost = matches!(
        later,
        Err(ClientError::Ended(_)
            | ClientError::Refused { refusal: Refusal::Fenced | Refusal::Ending, .. })
    );
    assert!(lost, "{later:?}");
    fenced(&mut client, &rig).await;
}

#[tokio::test]
async fn a_stop_that_takes_too_long_is_fenced() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    client.arm(1, from_now(1500), PATIENCE).await.unwrap();
    let status = client.signal(Signal::Fast, PATIENCE).await.unwrap();
    assert_eq!(status.phase, Phase::Stopping);
    fenced(&mut client, &rig).await;
}

#[tokio::test]
async fn a_lease_can_hold_from_the_first_moment() {
    let rig = Rig::new();
    let mut spec = rig.spec(STUBBORN);
    spec.arm = Some(Armed { term: 9, deadline: from_now(4000) });
    let (_, mut client) = rig.start(&spec).await;
    assert_eq!(fenced(&mut client, &rig).await.term, Some(9));

    spec.arm = Some(Armed { term: 9, deadline: hart_clock::now() });
    spec.postgres = ["touch", "started"].map(Into::into).to_vec();
    let error = spawn(&spec, PATIENCE).await.unwrap_err();
    assert!(matches!(&error, SpawnError::Failed(text) if text.contains("deadline")), "{error}");
    assert!(!rig.path("started").exists());
}

#[tokio::test]
async fn without_grace_nobody_is_asked() {
    let rig = Rig::new();
    let mut spec = rig.spec(STUBBORN);
    spec.grace = Duration::ZERO;
    let (_, mut client) = rig.start(&spec).await;
    client.fence(PATIENCE).await.unwrap();
    assert_eq!(fenced(&mut client, &rig).await.exit, Exit::Signal(9));
}
