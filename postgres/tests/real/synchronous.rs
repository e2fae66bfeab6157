//! Commits that wait.

use std::time::Duration;

use hart_postgres::{Error, LinkError};

use crate::node::{LONG, Node, eventually};

/// Commits on a session that waits for standbys, unlike the crate's own.
async fn commit(node: &Node, within: Duration) -> Result<(), LinkError> {
    let sql = "SET synchronous_commit TO on; SELECT pg_logical_emit_message(true, 't', 'x')";
    let other = hart_postgres::Postgres::new((*node.postgres.settings()).clone());
    other.query(sql, within).await.map(drop)
}

#[tokio::test]
async fn commits_wait_for_the_named_standby_and_only_then() {
    let primary = Node::primary("n1").await;
    let replica = Node::replica("n2", &primary).await;
    primary.postgres.enable_sync("1 (\"n2\")", LONG).await.unwrap();
    let probe = primary.postgres.probe(LONG).await.unwrap();
    assert_eq!(probe.synchronous_standby_names, "1 (\"n2\")");
    assert_eq!(probe.standbys[0].sync_state.as_deref(), Some("sync"));
    commit(&primary, LONG).await.unwrap();

    let postmaster = replica.postgres.postmaster(LONG).await.unwrap().unwrap();
    assert!(postmaster.pid > 1);
    // Without its receiver nothing confirms, so a commit hangs.
    replica.postgres.follow(None, None, LONG).await.unwrap();
    primary.until("nobody streams", |p| p.standbys.is_empty().then_some(())).await;
    let hangs = commit(&primary, Duration::from_millis(300)).await;
    assert!(matches!(hangs, Err(LinkError::Timeout { .. })), "{hangs:?}");
    // Our own statements never wait.
    primary.sql("CREATE TABLE public.t (i int)").await;
    primary.postgres.set_synchronous_standby_names("", LONG).await.unwrap();
    commit(&primary, LONG).await.unwrap();
}

#[tokio::test]
async fn names_nobody_carries_are_not_kept() {
    let primary = Node::primary("n1").await;
    let _replica = Node::replica("n2", &primary).await;
    primary.postgres.enable_sync("n2", LONG).await.unwrap();
    let error = primary.postgres.enable_sync("n9", Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, Error::Sync { .. }), "{error:?}");
    assert!(error.to_string().contains("n9"), "{error}");
    eventually("the former value is back", || async {
        (primary.sql("SHOW synchronous_standby_names").await == "n2").then_some(())
    })
    .await;
    commit(&primary, LONG).await.unwrap();
}

/// All commits wait during an attempt: it ends when it cannot succeed any more, not at its deadline.
#[tokio::test]
async fn a_standby_that_goes_meanwhile_ends_the_attempt() {
    let primary = Node::primary("n1").await;
    let replica = Node::replica("n2", &primary).await;
    primary.postgres.enable_sync("1 (\"n2\")", LONG).await.unwrap();
    replica.postgres.follow(None, None, LONG).await.unwrap();
    primary.until("nobody streams", |p| p.standbys.is_empty().then_some(())).await;
    let error = primary.postgres.enable_sync("1 (\"N2\")", LONG).await.unwrap_err();
    assert!(error.to_string().contains("too few of the named standbys"), "{error}");
    let former = "1 (\"n2\")";
    eventually("the former value is back", || async {
        (primary.sql("SHOW synchronous_standby_names").await == former).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dropped_attempt_leaves_nothing_waiting() {
    let primary = Node::primary("n1").await;
    {
        let attempt = primary.postgres.enable_sync("n9", LONG);
        let mut attempt = std::pin::pin!(attempt);
        let waiting = eventually("a commit waits", || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            (primary.sql(sql).await == "1").then_some(())
        });
        tokio::select! {
            done = &mut attempt => panic!("it cannot end: {done:?}"),
            () = waiting => {}
        }
    }
    eventually("the former value is back", || async {
        (primary.sql("SHOW synchronous_standby_names").await.is_empty()).then_some(())
    })
    .await;
    commit(&primary, LONG).await.unwrap();
    eventually("no commit waits", || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        (primary.sql(sql).await == "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_standby_is_changed_without_a_gap() {
    let primary = Node::primary("n1").await;
    let second = Node::replica("n2", &primary).await;
    let _third = Node::replica("n3", &primary).await;
    primary.postgres.enable_sync("n2", LONG).await.unwrap();
    primary.postgres.enable_sync("ANY 1 (n2, n3)", LONG).await.unwrap();
    primary.postgres.enable_sync("n3", LONG).await.unwrap();
    // The former one is not waited for any more.
    second.postgres.follow(None, None, LONG).await.unwrap();
    primary.until("it is gone", |p| (p.standbys.len() == 1).then_some(())).await;
    commit(&primary, LONG).await.unwrap();
}

#[tokio::test]
async fn a_file_that_overrides_the_names_is_named_as_the_cause() {
    let primary = Node::primary("n1").await;
    let mut conf =
        std::fs::OpenOptions::new().append(true).open(primary.data().join("postgresql.conf"));
    let line = b"synchronous_standby_names = 'x'\n";
    std::io::Write::write_all(conf.as_mut().unwrap(), line).unwrap();
    let wait = Duration::from_secs(3);
    let error = primary.postgres.set_synchronous_standby_names("n2", wait).await.unwrap_err();
    assert!(error.to_string().contains("postgresql.conf"), "{error}");
}

#[tokio::test]
async fn attempts_dropped_at_any_moment_leave_the_former_value() {
    let primary = Node::primary("n1").await;
    let file = primary.data().join("hart.sync.conf");
    for millis in 0..40 {
        let attempt = primary.postgres.enable_sync("n9", LONG);
        let ended = tokio::time::timeout(Duration::from_millis(millis), attempt).await;
        assert!(ended.is_err(), "{ended:?}");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("n9") && !text.contains("nobody"), "after {millis} ms: {text}");
    }
    eventually("the former value is in force", || async {
        primary.sql("SHOW synchronous_standby_names").await.is_empty().then_some(())
    })
    .await;
    commit(&primary, LONG).await.unwrap();
}

/// Commits wait for the stranger then, as ours does, and would until the time is up.
#[tokio::test]
async fn a_proof_ends_when_somebody_alters_the_names_meanwhile() {
    let primary = Node::primary("n1").await;
    let _replica = Node::replica("n2", &primary).await;
    let hour = Duration::from_secs(3600);
    // Nobody bears this name, and one that is to be there is, so that the attempt goes on.
    let attempt = primary.postgres.enable_sync("2 (\"n2\", \"N2\")", hour);
    let alters = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        eventually("it waits", || async { (primary.sql(waits).await != "0").then_some(()) }).await;
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'stranger'").await;
        primary.postgres.reload(LONG).await.unwrap();
    };
    let both = async { tokio::join!(attempt, alters).0 };
    let ended = tokio::time::timeout(LONG, both).await.expect("it ends before its time is up");
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("changed meanwhile, to \"stranger\""), "{error}");
}

#[tokio::test]
async fn how_far_a_standby_is_goes_by_what_commits_wait_for() {
    let primary = Node::primary("n1").await;
    let replica = Node::replica("n2", &primary).await;
    replica.sql("SELECT pg_wal_replay_pause()").await;
    let set = "ALTER SYSTEM SET synchronous_commit = 'remote_apply'";
    primary.sql(set).await;
    primary.postgres.reload(LONG).await.unwrap();
    primary.sql("CREATE TABLE public.t (i int)").await;
    let stuck = |p: &hart_postgres::Probe| {
        let row = p.standbys.first()?;
        let received = row.flush_lsn == p.flush_lsn && p.synchronous_commit == "remote_apply";
        (received && p.confirmed(row) < row.flush_lsn?).then_some(p.confirmed(row))
    };
    primary.until("it has flushed all, and replayed less", stuck).await;
    primary.sql("ALTER SYSTEM RESET synchronous_commit").await;
    primary.postgres.reload(LONG).await.unwrap();
    let all = |p: &hart_postgres::Probe| {
        let row = p.standbys.first()?;
        (p.synchronous_commit == "on" && Some(p.confirmed(row)) == row.flush_lsn).then_some(())
    };
    primary.until("what is flushed counts again", all).await;
}

#[tokio::test]
async fn names_that_somebody_altered_are_seen_and_give_way_to_the_proof() {
    let primary = Node::primary("n1").await;
    let _replica = Node::replica("n2", &primary).await;
    primary.postgres.enable_sync("1 (\"n2\")", LONG).await.unwrap();
    let seen = primary.postgres.probe(LONG).await.unwrap();
    assert!(seen.overridden.is_empty() && seen.lax_commits.is_empty(), "{seen:?}");
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = ''").await;
    primary.sql("ALTER SYSTEM SET synchronous_commit = 'local'").await;
    primary.sql("ALTER DATABASE postgres SET synchronous_commit = 'off'").await;
    primary.postgres.reload(LONG).await.unwrap();
    let names = ["synchronous_standby_names"];
    let seen = primary.until("it is seen", |p| (p.overridden == names).then(|| p.clone())).await;
    assert_eq!(seen.synchronous_standby_names, "");
    let file = primary.data().join("postgresql.auto.conf");
    assert_eq!(seen.lax_commits, [format!("local in {}", file.display())]);
    assert_eq!(seen.lax_databases, ["off for database postgres"]);
    primary.postgres.enable_sync("1 (\"n2\")", LONG).await.unwrap();
    let shown = |p: &hart_postgres::Probe| p.synchronous_standby_names == "1 (\"n2\")";
    primary.until("hart's names", |p| (shown(p) && p.overridden.is_empty()).then_some(())).await;
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    primary.postgres.set_synchronous_standby_names("", LONG).await.unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains("synchronous_standby_names") && text.contains("local"), "{text}");
}
