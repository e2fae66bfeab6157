//! Processes whose guard is dead.

use std::time::Duration;

use hart_guard::{ClientError, guard_lives, kill_tree};
use nix::sys::signal::Signal as Number;

use crate::rig::{PATIENCE, Rig, STUBBORN, alive, eventually, proc_status, send};

#[tokio::test]
async fn a_tree_without_a_guard_is_killed_whole() {
    let rig = Rig::new();
    // No orphans in it: they would belong to nobody once the guard is dead.
    let tree = "trap '' QUIT; sh -c 'sleep 3600; true' & sleep 3600 & touch ready
        while :; do sleep 3600; done";
    let (started, _client) = rig.start(&rig.spec(tree)).await;
    eventually("the tree", || rig.processes().len() >= 5).await;
    send(started.guard_pid, Number::SIGKILL);
    eventually("the guard's end", || !guard_lives(&rig.path("lock")).unwrap()).await;
    assert!(alive(started.postmaster_pid));
    let deadline = hart_clock::now() + PATIENCE;
    let killed = kill_tree(Some(started.postmaster_pid), &rig.dir, deadline, || ()).await.unwrap();
    assert!(killed >= 5, "{killed}");
    eventually("their end", || rig.processes().is_empty()).await;
    assert_eq!(
        kill_tree(Some(started.postmaster_pid), &rig.dir, deadline, || ()).await.unwrap(),
        0
    );
}

#[tokio::test]
async fn a_number_used_again_by_a_stranger_does_no_harm() {
    let (rig, stranger) = (Rig::new(), Rig::new());
    let (started, mut client) = stranger.start(&stranger.spec(STUBBORN)).await;
    let deadline = hart_clock::now() + PATIENCE;
    assert_eq!(
        kill_tree(Some(started.postmaster_pid), &rig.dir, deadline, || ()).await.unwrap(),
        0
    );
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client.status(PATIENCE).await.unwrap().exit, None);
    let gone = kill_tree(None, &rig.path("no-such-directory"), deadline, || ()).await;
    assert!(gone.is_err());
}

/// A guard that is frozen together with its PostgreSQL: the agent kills past it.
#[tokio::test]
async fn past_a_frozen_guard_everything_dies_and_the_guard_last() {
    let rig = Rig::new();
    let (started, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    let deadline = hart_clock::now() + PATIENCE;
    client.arm(1, hart_clock::now() + Duration::from_secs(3600), PATIENCE).await.unwrap();
    send(started.guard_pid, Number::SIGSTOP);
    let frozen = || proc_status(started.guard_pid, "State").starts_with('T');
    eventually("the guard's stop", frozen).await;
    let asked = client.fence(Duration::from_millis(50)).await;
    assert!(matches!(asked, Err(ClientError::Timeout { .. })), "{asked:?}");
    assert!(alive(started.postmaster_pid), "a frozen guard fences nobody");
    let when_dead = || {
        assert!(frozen(), "its children are dead, and it has not taken note");
        assert!(proc_status(started.postmaster_pid, "State").starts_with('Z'));
        send(started.guard_pid, Number::SIGKILL);
    };
    let killed = kill_tree(Some(started.postmaster_pid), &rig.dir, deadline, when_dead).await;
    assert!(killed.unwrap() >= 3);
    assert!(!alive(started.postmaster_pid), "its number may be used again");
    eventually("the guard's end", || !guard_lives(&rig.path("lock")).unwrap()).await;
}
