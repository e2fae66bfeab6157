//! Replicas: following, promotion, slots.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::lsn::Lsn;
use hart_postgres::{BaseBackup, Divergence, Follow, Probe, PromotedBy, Role, needs_rewind};
use nix::sys::signal::Signal;

use crate::node::{LONG, Node, Stopped, eventually, standby_of};

#[tokio::test]
async fn replicas_follow_a_new_primary_by_reload() {
    let first = Node::primary("n1").await;
    let second = Node::replica("n2", &first).await;
    let third = Node::replica("n3", &first).await;
    first.sql("CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS i").await;
    second.caught_up_with(&first).await;
    third.caught_up_with(&first).await;
    assert_eq!(third.sql("SELECT count(*) FROM public.t").await, "1000");
    let rows = first.postgres.probe(LONG).await.unwrap().standbys;
    let names: Vec<_> = rows.iter().filter_map(|row| row.application_name.as_deref()).collect();
    assert_eq!(names, ["n2", "n3"]);

    // A server writes WAL by itself as well. Nothing more is sent, and the foremost is promoted.
    let stopped = Stopped::new(rows.iter().map(|row| row.pid));
    let (mut positions, mut before) = ([Lsn(0); 2], [Lsn(1); 2]);
    while positions != before {
        before = positions;
        tokio::time::sleep(Duration::from_millis(200)).await;
        positions = [
            second.postgres.probe(LONG).await.unwrap().position(),
            third.postgres.probe(LONG).await.unwrap().position(),
        ];
    }
    let (second, third) =
        if positions[0] < positions[1] { (third, second) } else { (second, third) };

    assert_eq!(second.postgres.promote(LONG).await.unwrap(), PromotedBy::Sql);
    let promoted = second.until("it is promoted", |p| (!p.in_recovery).then(|| p.clone())).await;
    assert_eq!(promoted.timeline, 2);
    assert_eq!(second.postgres.promote(LONG).await.unwrap(), PromotedBy::Already);

    let follow = || third.postgres.follow(Some(second.address()), None, LONG);
    assert_eq!(follow().await.unwrap(), Follow::Reloaded);
    let port = second.postgres.settings().port;
    third
        .until("it streams from the new primary", |p| {
            let receiver = p.receiver.as_ref()?;
            (receiver.streaming() && receiver.sender_port == Some(port) && p.timeline == 2)
                .then_some(())
        })
        .await;
    drop(stopped);
    eventually("nothing is left to do", || async {
        (follow().await.unwrap() == Follow::Unchanged).then_some(())
    })
    .await;
    second.sql("INSERT INTO public.t VALUES (0)").await;
    third.caught_up_with(&second).await;
    assert_eq!(third.sql("SELECT count(*) FROM public.t").await, "1001");

    let old = first.postgres.follow(Some(second.address()), None, LONG).await.unwrap();
    assert!(matches!(old, Follow::RestartNeeded { .. }), "{old:?}");
    let again = first.postgres.follow(Some(second.address()), None, LONG).await.unwrap();
    assert!(matches!(again, Follow::RestartNeeded { .. }), "{again:?}");
}

#[tokio::test]
async fn a_proper_switchover_needs_no_rewind() {
    let mut first = Node::primary("n1").await;
    let second = Node::replica("n2", &first).await;
    first.stop(Signal::SIGINT).await;
    let at = first.postgres.control_data(LONG).await.unwrap().shutdown_position().unwrap();
    second.until("it has the shutdown checkpoint", |p| (p.position() > at).then_some(())).await;
    second.postgres.promote(LONG).await.unwrap();
    second.until("it is promoted", |p| (!p.in_recovery).then_some(())).await;

    let upstream = first.postgres.upstream_state(&second.address(), LONG).await.unwrap();
    assert!(!upstream.in_recovery && upstream.timeline == 2);
    let end = first.postgres.local_end(LONG).await.unwrap().unwrap();
    let decided = needs_rewind(&end, None, upstream.timeline, upstream.history.as_ref());
    assert!(matches!(decided, Divergence::Behind { .. }), "{decided:?}");
    let local = second.postgres.history(2, LONG).await.unwrap();
    assert_eq!(local, upstream.history);
    assert_eq!(second.postgres.history(1, LONG).await.unwrap(), None);

    let probe = first.start(&standby_of(&second)).await;
    assert!(probe.in_recovery);
    first.until("it is on the new timeline", |p| (p.timeline == 2).then_some(())).await;
    first.streaming().await;
}

#[tokio::test]
async fn promotion_works_when_sql_does_not() {
    let primary = Node::primary("n1").await;
    let replica = Node::replica("n2", &primary).await;
    let mut settings = (*replica.postgres.settings()).clone();
    settings.socket_dir = Some("/nonexistent".into());
    settings.listen_addresses = String::new();
    let cut_off = hart_postgres::Postgres::new(settings);
    assert_eq!(cut_off.promote(LONG).await.unwrap(), PromotedBy::Signal);
    replica.until("it is promoted", |p| (!p.in_recovery).then_some(())).await;
}

/// A promotion that waits for its archive is told from one that stands still.
#[tokio::test]
async fn a_restore_command_that_recovery_waits_for_is_seen() {
    let primary = Node::primary("n1").await;
    let mut replica = Node::replica("n2", &primary).await;
    assert_eq!(replica.postgres.probe(LONG).await.unwrap().recovery_command, None, "it streams");
    replica.stop(Signal::SIGINT).await;
    let (calls, go_on) = (replica.dir.join("calls"), replica.dir.join("go-on"));
    std::fs::write(&go_on, "").unwrap();
    let [calls, flag] = [&calls, &go_on].map(|path| path.display().to_string());
    let command = format!("echo %f >>{calls}; until test -e {flag}; do sleep 0.05; done; false");
    replica.change(|s| drop(s.recovery.insert("restore_command".into(), command)));
    replica.start(&standby_of(&primary)).await;
    replica.streaming().await;
    std::fs::remove_file(&go_on).unwrap();
    let before = hart_clock::now();
    replica.postgres.promote(LONG).await.unwrap();
    let waits = replica.until("it waits", |probe| probe.recovery_command.clone()).await;
    // To a hundredth of a second.
    assert!(waits.began + Duration::from_millis(20) > before, "{waits:?}, {before:?}");
    assert!(
        waits.began <= hart_clock::now() && waits.name.contains("restore_command"),
        "{waits:?}"
    );
    let same = replica.postgres.probe(LONG).await.unwrap();
    let began = same.recovery_command.as_ref().map(|command| command.began);
    assert!(same.in_recovery && began == Some(waits.began), "{same:?}");
    std::fs::write(&go_on, "").unwrap();
    let promoted = replica.until("it is promoted", |p| (!p.in_recovery).then(|| p.clone())).await;
    assert_eq!(promoted.recovery_command, None);
}

#[tokio::test]
async fn a_standby_starts_with_the_primarys_larger_limits() {
    let mut primary = Node::primary("n1").await;
    primary.stop(Signal::SIGINT).await;
    primary.change(|s| drop(s.parameters.insert("max_connections".into(), "150".into())));
    primary.start(&Role::Primary).await;
    // The replica's own configuration still says 100; PostgreSQL would refuse to start with that.
    let replica = Node::replica("n2", &primary).await;
    assert_eq!(replica.sql("SHOW max_connections").await, "150");
}

/// What `pg_basebackup -R`, or a person, has left in `postgresql.auto.conf` wins over all other files.
#[tokio::test]
async fn leftovers_in_auto_conf_neither_redirect_nor_promote_a_standby() {
    let primary = Node::primary("n1").await;
    let mut replica = Node::replica("n2", &primary).await;
    replica.stop(Signal::SIGINT).await;
    let path = replica.data().join("postgresql.auto.conf");
    let before = std::fs::read_to_string(&path).unwrap();
    let kept = format!("{before}work_mem = '7MB'\n");
    let left = "primary_conninfo = 'host=127.0.0.1 port=1 user=replicator'\n\
                primary_slot_name = 'gone'\n\
                recovery_target = 'immediate'\n\
                recovery_target_action = 'promote'\n\
                synchronous_standby_names = '*'\n";
    std::fs::write(&path, format!("{kept}{left}")).unwrap();
    replica.start(&standby_of(&primary)).await;
    replica.streaming().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&kept), "{text}");
    assert_eq!(text.matches("# taken out by hart: ").count(), 5, "{text}");
    assert_eq!(replica.sql("SHOW work_mem").await, "7MB");
    assert_eq!(replica.sql("SHOW synchronous_standby_names").await, "");
    assert_eq!(replica.sql("SELECT pg_is_in_recovery()").await, "t");
}

#[tokio::test]
async fn a_standby_whose_upstream_was_altered_is_led_back() {
    let primary = Node::primary("n1").await;
    let replica = Node::replica("n2", &primary).await;
    let elsewhere = "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1 user=replicator'";
    replica.sql(elsewhere).await;
    replica.sql("ALTER SYSTEM SET work_mem = '7MB'").await;
    replica.postgres.reload(LONG).await.unwrap();
    replica.until("it streams no more", |p| p.receiver.is_none().then_some(())).await;
    let follow = || replica.postgres.follow(Some(primary.address()), None, LONG);
    assert_eq!(follow().await.unwrap(), Follow::Reloaded);
    replica.streaming().await;
    let text = std::fs::read_to_string(replica.data().join("postgresql.auto.conf")).unwrap();
    assert!(text.contains("work_mem") && !text.contains("primary_conninfo"), "{text}");
    assert_eq!(follow().await.unwrap(), Follow::Unchanged);
}

/// A standby that stands still by somebody's will says by which one.
#[tokio::test]
async fn replay_that_is_paused_or_delayed_is_told_from_one_that_waits_for_wal() {
    let primary = Node::primary("n1").await;
    let mut replica = Node::replica("n2", &primary).await;
    replica.caught_up_with(&primary).await;
    let told = |probe: &Probe| (probe.replay_paused, probe.startup.as_ref().map(|s| s.delayed));
    assert_eq!(told(&replica.postgres.probe(LONG).await.unwrap()), (false, Some(false)));
    replica.sql("SELECT pg_wal_replay_pause()").await;
    assert_eq!(told(&replica.postgres.probe(LONG).await.unwrap()), (true, Some(false)));
    replica.stop(Signal::SIGINT).await;
    replica.change(|s| drop(s.parameters.insert("recovery_min_apply_delay".into(), "1h".into())));
    replica.start(&standby_of(&primary)).await;
    primary.sql("CREATE TABLE public.late AS SELECT 1").await;
    let delayed = |probe: &Probe| (told(probe) == (false, Some(true))).then_some(());
    replica.until("replay is delayed", delayed).await;
}

/// Replay waits for a session: it is told which may be the one, and what is ended is not waited for.
#[tokio::test]
async fn sessions_that_replay_waits_for_are_found_and_ended() {
    let primary = Node::primary("n1").await;
    primary.sql("CREATE TABLE public.t AS SELECT generate_series(1, 100) AS i").await;
    primary.sql("ALTER TABLE public.t SET (autovacuum_enabled = off)").await;
    let mut replica = Node::replica("n2", &primary).await;
    replica.stop(Signal::SIGINT).await;
    replica
        .change(|s| drop(s.parameters.insert("max_standby_streaming_delay".into(), "-1".into())));
    replica.start(&standby_of(&primary)).await;
    replica.caught_up_with(&primary).await;
    assert_eq!(replica.postgres.probe(LONG).await.unwrap().held_up, None);

    // One that sees what is to be removed, and one that came after the removal.
    let old = reader(&replica, "SELECT count(*) FROM public.t").await;
    primary.sql("DELETE FROM public.t WHERE i < 90").await;
    replica.caught_up_with(&primary).await;
    let new = reader(&replica, "SELECT count(*) FROM public.t").await;
    primary.sql("VACUUM public.t").await;
    let held = replica.until("replay waits", |probe| probe.held_up.clone()).await;
    assert_eq!(held.event, "RecoveryConflictSnapshot");
    let ranks: Vec<_> = held.sessions.iter().map(|s| (s.pid, s.rank)).collect();
    let expected = [(old.pid, 0), (new.pid, 1)];
    assert_eq!(BTreeMap::from_iter(ranks), BTreeMap::from_iter(expected), "{held:?}");
    let first = held.sessions.iter().find(|session| session.rank == 0).unwrap();
    assert!(first.idle() && first.who().contains("idle in transaction"), "{first:?}");
    let mine = (first.pid, first.began.clone(), true);
    let another = (new.pid, first.began.clone(), true);
    let ended = replica.postgres.end_sessions(&[mine, another], LONG).await.unwrap();
    assert_eq!(ended, [old.pid], "not another one of that number");
    replica.caught_up_with(&primary).await;
    assert!(new.is_there().await && !old.is_there().await);
    assert_eq!(replica.sql("SHOW max_standby_streaming_delay").await, "0");
    replica.postgres.replay_waits_again(LONG).await.unwrap();
    eventually("it waits again", || async {
        (replica.sql("SHOW max_standby_streaming_delay").await == "-1").then_some(())
    })
    .await;

    // A lock: only who has it is told.
    primary.sql("ALTER TABLE public.t ADD COLUMN j int").await;
    let held = replica.until("replay waits", |probe| probe.held_up.clone()).await;
    assert_eq!((&*held.kind, held.sessions[0].pid, held.sessions.len()), ("Lock", new.pid, 1));
    let which: Vec<_> = held.sessions.iter().map(|s| (s.pid, s.began.clone(), true)).collect();
    assert_eq!(replica.postgres.end_sessions(&which, LONG).await.unwrap(), [new.pid]);
    replica.caught_up_with(&primary).await;
    replica.postgres.replay_waits_again(LONG).await.unwrap();

    // A page that a cursor has pinned; what is cleaned up nobody has ever seen.
    let cursor =
        reader(&replica, "DECLARE c CURSOR FOR SELECT * FROM public.t; FETCH 1 FROM c").await;
    primary.sql("BEGIN; INSERT INTO public.t SELECT generate_series(1, 50); ROLLBACK").await;
    primary.sql("VACUUM public.t").await;
    let held = replica.until("replay waits", |probe| probe.held_up.clone()).await;
    assert!(held.kind.starts_with("Buffer"), "{held:?}");
    let which: Vec<_> = held.sessions.iter().map(|s| (s.pid, s.began.clone(), true)).collect();
    assert_eq!(replica.postgres.end_sessions(&which, LONG).await.unwrap(), [cursor.pid]);
    replica.caught_up_with(&primary).await;
}

/// A session in a transaction.
struct Reader {
    client: tokio_postgres::Client,
    pid: i32,
}

impl Reader {
    async fn is_there(&self) -> bool {
        self.client.simple_query("SELECT 1").await.is_ok()
    }
}

async fn reader(node: &Node, sql: &str) -> Reader {
    let settings = node.postgres.settings();
    let mut config = tokio_postgres::Config::new();
    config.host_path(settings.socket_dir.clone().unwrap()).port(settings.port).dbname("postgres");
    config.user("postgres").password("super'\\ secret");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    client.simple_query(sql).await.unwrap();
    let rows = client.simple_query("SELECT pg_backend_pid()").await.unwrap();
    let pid = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    Reader { client, pid: pid.unwrap() }
}

/// PostgreSQL 17.0 to 17.9 and 18.0 to 18.3 wait for it for as long as the primary is frozen; nothing before 17 has one.
#[tokio::test]
async fn a_promotion_does_not_wait_for_the_synchronisation_of_slots() {
    let mut primary = Node::primary("n1").await;
    if primary.postgres.version(LONG).await.unwrap().major < 17 {
        return;
    }
    primary
        .change(|settings| drop(settings.parameters.insert("wal_level".into(), "logical".into())));
    primary.stop(Signal::SIGINT).await;
    primary.start(&Role::Primary).await;
    primary.sql("SELECT pg_create_physical_replication_slot('n2')").await;
    primary
        .sql("SELECT pg_create_logical_replication_slot('s', 'pgoutput', failover => true)")
        .await;
    let mut replica = Node::new("n2");
    replica.copy(&primary, BaseBackup::default()).await.unwrap();
    replica.change(|settings| {
        for name in ["sync_replication_slots", "hot_standby_feedback"] {
            settings.parameters.insert(name.into(), "on".into());
        }
        settings.parameters.insert("wal_level".into(), "logical".into());
    });
    let role = Role::Standby { upstream: Some(primary.address()), slot: Some("n2".into()) };
    replica.start(&role).await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'slotsync worker' \
                 AND wait_event = 'LibpqwalreceiverReceive'";
    eventually("slots are synchronised", || async {
        let synced = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 's' AND synced";
        (replica.sql(synced).await == "1").then_some(())
    })
    .await;
    let _frozen = Stopped::new(primary.postgres.processes(LONG).await.unwrap());
    eventually("it waits for an answer", || async {
        (replica.sql(waits).await == "1").then_some(())
    })
    .await;
    replica.postgres.promote(LONG).await.unwrap();
    eventually("it is primary", || async {
        let probe = replica.postgres.probe(LONG).await.ok()?;
        if let Some(held) = &probe.held_up {
            assert!(held.sessions.iter().all(hart_postgres::Session::idle), "{held:?}");
            let which = held.sessions.iter().map(|s| (s.pid, s.began.clone(), s.idle()));
            let _ = replica.postgres.end_sessions(&which.collect::<Vec<_>>(), LONG).await;
        }
        (!probe.in_recovery).then_some(())
    })
    .await;
}
