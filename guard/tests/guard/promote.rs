//! Nothing becomes writable but under an armed lease of its term, and what is writable cannot be
//! disarmed.

use std::time::Duration;

use hart_guard::{Armed, ClientError, Refusal, Signal};

use crate::rig::{PATIENCE, Rig, patiently};
use crate::watchdog::ANSWERS;

const HOUR: Duration = Duration::from_secs(3600);

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Refusal {
    match result {
        Err(ClientError::Refused { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_promotion_needs_the_armed_lease_of_its_term() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(ANSWERS)).await;
    assert_eq!(refusal(client.promote(5, PATIENCE).await), Refusal::Unarmed);
    client.arm(5, hart_clock::now() + HOUR, PATIENCE).await.unwrap();
    assert_eq!(refusal(client.promote(4, PATIENCE).await), Refusal::LowerTerm);
    assert_eq!(refusal(client.promote(6, PATIENCE).await), Refusal::OtherTerm);
    client.disarm(5, PATIENCE).await.unwrap();
    assert_eq!(refusal(client.promote(5, PATIENCE).await), Refusal::Unarmed);
    // Signals are taken in order: with this one seen, an earlier one would have been seen, too.
    client.signal(Signal::Reload, PATIENCE).await.unwrap();
    rig.appears("got-hup").await;
    assert!(!rig.path("got-usr1").exists(), "none of them was signalled");
    assert!(!client.status(PATIENCE).await.unwrap().writable);

    client.arm(5, hart_clock::now() + HOUR, PATIENCE).await.unwrap();
    assert!(client.promote(5, PATIENCE).await.unwrap().writable);
    rig.appears("got-usr1").await;
}

#[tokio::test]
async fn a_promotion_after_the_deadline_is_a_fence() {
    let rig = Rig::new();
    let (started, mut client) = rig.start(&rig.spec(ANSWERS)).await;
    let deadline = hart_clock::now() + Duration::from_secs(2);
    client.arm(1, deadline, PATIENCE).await.unwrap();
    crate::rig::send(started.guard_pid, nix::sys::signal::Signal::SIGSTOP);
    let asked = client.promote(1, Duration::from_millis(50)).await;
    assert!(matches!(asked, Err(ClientError::Timeout { .. })), "{asked:?}");
    tokio::time::sleep(deadline.since(hart_clock::now()) + Duration::from_millis(300)).await;
    crate::rig::send(started.guard_pid, nix::sys::signal::Signal::SIGCONT);
    assert!(patiently("the fence", client.exited()).await.unwrap().fenced);
    assert!(!rig.path("got-usr1").exists(), "the promotion waited in the queue, and stayed there");
}

#[tokio::test]
async fn what_may_write_keeps_its_deadline() {
    let rig = Rig::new();
    let mut spec = rig.spec(ANSWERS);
    spec.arm = Some(Armed { term: 3, deadline: hart_clock::now() + HOUR });
    let (_, mut client) = rig.start(&spec).await;
    assert!(client.status(PATIENCE).await.unwrap().writable, "started as primary");
    assert_eq!(refusal(client.disarm(3, PATIENCE).await), Refusal::Writable);
    assert_eq!(refusal(client.disarm(4, PATIENCE).await), Refusal::Writable);
    assert!(client.status(PATIENCE).await.unwrap().armed.is_some());

    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(ANSWERS)).await;
    client.arm(3, hart_clock::now() + HOUR, PATIENCE).await.unwrap();
    client.promote(3, PATIENCE).await.unwrap();
    assert_eq!(refusal(client.disarm(3, PATIENCE).await), Refusal::Writable);
    // The deadline of a later term may still be an earlier one: it is the lease's, not the guard's.
    client.arm(4, hart_clock::now() + Duration::from_millis(200), PATIENCE).await.unwrap();
    assert!(patiently("the fence", client.exited()).await.unwrap().fenced);
}
