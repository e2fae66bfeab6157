//! Clusters that parted.

use hart_postgres::{
    BaseBackup, ClusterState, DataDir, Error, LocalEnd, Rewound, Role, needs_rewind,
};
use nix::sys::signal::Signal;

use crate::node::{LONG, Node, standby_of};

/// Idle clusters are like that: the primary switches to the next file for the archive, and nothing of that
/// one has come yet.
#[tokio::test]
async fn the_end_of_a_standby_whose_wal_ends_with_a_file() {
    let first = Node::primary("n1").await;
    let mut second = Node::replica("n2", &first).await;
    first.sql("CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS i").await;
    let switched = first.sql("SELECT pg_walfile_name(pg_switch_wal())").await;
    second.caught_up_with(&first).await;
    second.stop(Signal::SIGQUIT).await;
    // What has come of the next file meanwhile.
    for entry in std::fs::read_dir(second.data().join("pg_wal")).unwrap() {
        let (path, name) = entry.map(|it| (it.path(), it.file_name())).unwrap();
        if path.is_file() && *name > *switched {
            std::fs::remove_file(path).unwrap();
        }
    }
    let size = second.postgres.control_data(LONG).await.unwrap().wal_segment_size;
    let end = second.postgres.local_end(LONG).await.unwrap().expect("it can be told");
    assert_eq!((end.at.0 % size, end.is_start), (0, false), "{end:?}");
    let last = format!("{:08X}", end.at.0 / size - 1);
    assert!(switched.ends_with(&last), "{end:?} is behind {switched}");
    assert!(!diverged(&second, &first).await);
    let behind = second.postgres.wal_behind(end.timeline, end.at, LONG).await.unwrap();
    assert_eq!(behind.commits, 0);
}

/// `n2` promoted while `n1` went on alone, so `n1` has rows that `n2` has not.
async fn parted() -> (Node, Node) {
    let first = Node::primary("n1").await;
    let second = Node::replica("n2", &first).await;
    first.sql("CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS i").await;
    second.caught_up_with(&first).await;
    second.postgres.promote(LONG).await.unwrap();
    second.until("it is promoted", |p| (!p.in_recovery).then_some(())).await;
    first.sql("INSERT INTO public.t VALUES (-1)").await;
    second.sql("INSERT INTO public.t VALUES (-2)").await;
    (first, second)
}

async fn diverged(stopped: &Node, upstream: &Node) -> bool {
    let state = stopped.postgres.upstream_state(&upstream.address(), LONG).await.unwrap();
    let end = stopped.postgres.local_end(LONG).await.unwrap().unwrap();
    let own = stopped.postgres.history(end.timeline, LONG).await.unwrap();
    needs_rewind(&end, own.as_ref(), state.timeline, state.history.as_ref()).needs_rewind()
}

async fn rejoin(node: &mut Node, upstream: &Node) {
    // Nobody asked the new primary for a checkpoint here, so do it.
    upstream.postgres.checkpoint(LONG).await.unwrap();
    let done = node.postgres.rewind(&upstream.address(), |_| {}, LONG).await.unwrap();
    assert_eq!(done, Rewound::Done);
    let probe = node.start(&standby_of(upstream)).await;
    assert!(probe.in_recovery);
    node.streaming().await;
    node.caught_up_with(upstream).await;
    assert_eq!(node.sql("SELECT min(i) FROM public.t").await, "-2");
    assert_eq!(node.sql("SELECT count(*) FROM public.t").await, "1001");
    assert_eq!(node.sql("SHOW cluster_name").await, "test");
}

#[tokio::test]
async fn after_a_proper_stop() {
    let (mut first, second) = parted().await;
    first.stop(Signal::SIGINT).await;
    assert!(diverged(&first, &second).await);
    rejoin(&mut first, &second).await;
}

#[tokio::test]
async fn after_a_crash() {
    let (mut first, second) = parted().await;
    first.stop(Signal::SIGQUIT).await;
    let control = first.postgres.control_data(LONG).await.unwrap();
    assert_eq!(control.state, ClusterState::InProduction);
    assert!(diverged(&first, &second).await);
    rejoin(&mut first, &second).await;
}

#[tokio::test]
async fn a_crashed_primary_that_lost_nothing_follows_without_a_rewind() {
    let mut first = Node::primary("n1").await;
    let second = Node::replica("n2", &first).await;
    first.sql("CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS i").await;
    second.caught_up_with(&first).await;
    first.stop(Signal::SIGQUIT).await;
    let LocalEnd { at, .. } = first.postgres.local_end(LONG).await.unwrap().unwrap();
    second.until("it has everything", |p| (p.position() > at).then_some(())).await;
    second.postgres.promote(LONG).await.unwrap();
    second.until("it is promoted", |p| (!p.in_recovery).then_some(())).await;
    assert!(!diverged(&first, &second).await);
    second.sql("INSERT INTO public.t VALUES (-2)").await;
    first.start(&standby_of(&second)).await;
    first.streaming().await;
    first.caught_up_with(&second).await;
    assert_eq!(first.sql("SELECT count(*) FROM public.t").await, "1001");
}

#[tokio::test]
async fn a_failed_rewind_that_changed_nothing_leaves_the_cluster_whole() {
    let (mut first, second) = parted().await;
    first.stop(Signal::SIGINT).await;
    second.sql("ALTER ROLE rewinder PASSWORD 'another'").await;
    let error = first.postgres.rewind(&second.address(), |_| {}, LONG).await.unwrap_err();
    assert!(matches!(error, Error::SourceAuth { .. }), "{error:?}");
    assert!(error.to_string().contains("rewinder"), "{error}");
    assert!(matches!(first.postgres.inspect(LONG).await.unwrap(), DataDir::Cluster { .. }));
    first.start(&Role::Primary).await;
    assert_eq!(first.sql("SELECT min(i) FROM public.t").await, "-1");
}

#[tokio::test]
async fn a_new_base_backup_replaces_a_diverged_cluster() {
    let (mut first, second) = parted().await;
    first.stop(Signal::SIGQUIT).await;
    let replace = BaseBackup { replace: true, ..BaseBackup::default() };
    let refused = first.copy(&second, BaseBackup::default()).await.unwrap_err();
    assert!(matches!(refused, Error::DataDir { .. }), "{refused:?}");
    first.postgres.base_backup(&second.address(), &replace, |_| {}).await.unwrap();
    first.start(&standby_of(&second)).await;
    first.streaming().await;
    first.caught_up_with(&second).await;
    assert_eq!(first.sql("SELECT min(i) FROM public.t").await, "-2");
}
