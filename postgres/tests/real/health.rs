//! Servers that run and are of no use.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hart_postgres::{BaseBackup, LinkError, Postgres, Role, Settings};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::node::{LONG, Node, Stopped, eventually, standby_of};

/// Long enough to be sure of a silence.
const SHORT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_stopped_postmaster_is_noticed_though_old_connections_work() {
    let primary = Node::primary("n1").await;
    primary.postgres.ping(LONG).await.unwrap();
    primary.postgres.wal_ends(LONG).await.unwrap().unwrap();
    let postmaster = primary.postgres.postmaster(LONG).await.unwrap().unwrap();
    let stopped = Stopped::new([postmaster.pid]);
    let silent = primary.postgres.ping(SHORT).await;
    assert!(matches!(silent, Err(LinkError::Timeout { .. })), "{silent:?}");
    primary.postgres.probe(LONG).await.unwrap();
    primary.postgres.wal_ends(LONG).await.unwrap();
    drop(stopped);
    primary.postgres.ping(LONG).await.unwrap();
}

#[tokio::test]
async fn taken_connection_slots_are_no_silence() {
    let mut primary = Node::primary("n1").await;
    primary.stop(Signal::SIGINT).await;
    primary.change(|settings| {
        settings.parameters.insert("max_connections".into(), "25".into());
        settings.parameters.insert("log_connections".into(), "off".into());
    });
    primary.start(&Role::Primary).await;
    primary.postgres.wal_ends(LONG).await.unwrap();
    // Each handle keeps a connection, as a superuser too the reserved ones.
    let mut handles = Vec::new();
    let refused = loop {
        let other = Postgres::new((*primary.postgres.settings()).clone());
        match other.query("SELECT 1", LONG).await {
            Ok(_) => handles.push(other),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LinkError::TooManyConnections { .. }), "{refused:?}");
    assert!(handles.len() >= 20);
    let log = primary.log();
    for _ in 0..10 {
        primary.postgres.ping(LONG).await.unwrap();
    }
    primary.postgres.probe(LONG).await.unwrap();
    primary.postgres.wal_ends(LONG).await.unwrap();
    assert_eq!(primary.log(), log, "and nothing is logged");
}

#[tokio::test]
async fn nobody_listening_is_told_from_silence() {
    let mut primary = Node::primary("n1").await;
    primary.stop(Signal::SIGINT).await;
    let absent = primary.postgres.ping(LONG).await;
    assert!(matches!(absent, Err(LinkError::NotListening { .. })), "{absent:?}");
}

#[tokio::test]
async fn wal_of_an_open_transaction_is_pending_until_a_commit_takes_it_to_disk() {
    let primary = Node::primary("n1").await;
    primary.sql("CREATE TABLE public.t (i int)").await;
    primary.sql("ALTER SYSTEM SET wal_writer_delay = '10s'").await;
    primary.postgres.reload(LONG).await.unwrap();
    primary.sql("BEGIN; INSERT INTO public.t SELECT generate_series(1, 100)").await;
    let before = primary.postgres.wal_ends(LONG).await.unwrap().unwrap();
    primary.postgres.write_wal(LONG).await.unwrap();
    let after = primary.postgres.wal_ends(LONG).await.unwrap().unwrap();
    assert!(after.flush >= before.insert, "{before:?} {after:?}");
    assert!(!after.pending(), "{after:?}");
    primary.sql("COMMIT").await;
    let replica = Node::replica("n2", &primary).await;
    assert_eq!(replica.postgres.wal_ends(LONG).await.unwrap(), None);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_standby_that_is_gone() {
    let mut primary = Node::primary("n1").await;
    // Without this the server would notice by itself after some time.
    primary.sql("ALTER SYSTEM SET wal_sender_timeout = 0").await;
    primary.postgres.reload(LONG).await.unwrap();
    let gone = Node::replica("n2", &primary).await;
    let alive = Node::replica("n3", &primary).await;
    assert_eq!(primary.postgres.end_silent_senders(LONG).await.unwrap(), Vec::<String>::new());
    let _stopped = Stopped::new(gone.postgres.processes(LONG).await.unwrap());
    assert_eq!(primary.postgres.end_silent_senders(SHORT * 4).await.unwrap(), ["n2"]);
    primary
        .until("only n3 streams", |p| {
            let names: Vec<_> = p.standbys.iter().map(|s| s.application_name.clone()).collect();
            (names == [Some("n3".to_owned())]).then_some(())
        })
        .await;
    let end = tokio::time::timeout(LONG, primary.stop(Signal::SIGINT)).await;
    end.expect("a fast shutdown ends");
    let control = primary.postgres.control_data(LONG).await.unwrap();
    let has = |p: &hart_postgres::Probe| (p.receive_lsn > Some(control.checkpoint)).then_some(());
    alive.until("n3 has the shutdown checkpoint", has).await;
}

/// The checkpointer waits for the sender whose slot it gives up, and that one for its standby to read its farewell.
#[tokio::test]
async fn a_frozen_standby_does_not_hold_checkpoints_up() {
    let mut primary = Node::primary("n1").await;
    primary.change(|settings| {
        for (name, value) in [
            ("max_slot_wal_keep_size", "64MB"),
            ("max_wal_size", "32MB"),
            ("min_wal_size", "32MB"),
            ("wal_keep_size", "0"),
            ("checkpoint_timeout", "1h"),
        ] {
            settings.parameters.insert(name.into(), value.into());
        }
    });
    primary.stop(Signal::SIGINT).await;
    primary.start(&Role::Primary).await;
    primary.sql("SELECT pg_create_physical_replication_slot('n2', true)").await;
    // Else the sender would perhaps end by that before the checkpoint begins.
    primary.sql("ALTER SYSTEM SET wal_sender_timeout = '10min'").await;
    primary.postgres.reload(LONG).await.unwrap();
    let mut replica = Node::new("n2");
    replica.copy(&primary, BaseBackup::default()).await.unwrap();
    let role = Role::Standby { upstream: Some(primary.address()), slot: Some("n2".into()) };
    replica.start(&role).await;
    replica.streaming().await;
    let _stopped = Stopped::new(replica.postgres.processes(LONG).await.unwrap());
    for _ in 0..10 {
        let message = "pg_logical_emit_message(false, 't', repeat('x', 1000))";
        primary.sql(&format!("SELECT count({message}) FROM generate_series(1, 12000)")).await;
    }
    primary.postgres.checkpoint(LONG).await.unwrap();
    assert_eq!(primary.sql("SELECT wal_status FROM pg_replication_slots").await, "lost");
    let end = tokio::time::timeout(LONG, primary.stop(Signal::SIGINT)).await;
    end.expect("a fast shutdown ends");
}

#[tokio::test]
async fn a_standby_says_that_its_wal_is_gone() {
    let mut primary = Node::primary("n1").await;
    primary.change(|settings| {
        settings.parameters.insert("wal_keep_size".into(), "0".into());
        settings.parameters.insert("max_wal_size".into(), "32MB".into());
        settings.parameters.insert("min_wal_size".into(), "32MB".into());
    });
    primary.stop(Signal::SIGINT).await;
    primary.start(&Role::Primary).await;
    let mut replica = Node::replica("n2", &primary).await;
    replica.stop(Signal::SIGINT).await;
    for _ in 0..6 {
        primary.sql("SELECT pg_logical_emit_message(true, 't', 'x'); SELECT pg_switch_wal()").await;
        primary.postgres.checkpoint(LONG).await.unwrap();
    }
    let log = replica.dir.join("log");
    let since = fs::metadata(&log).unwrap().len();
    assert_eq!(replica.postgres.missing_wal(log.clone(), since, LONG).await.unwrap(), None);
    replica.start(&standby_of(&primary)).await;
    let first = eventually("it complains", || async {
        replica.postgres.missing_wal(log.clone(), since, LONG).await.unwrap()
    })
    .await;
    assert!(first.word.starts_with("requested WAL segment"), "{first:?}");
    let again = eventually("and again", || async {
        let found = replica.postgres.missing_wal(log.clone(), since, LONG).await.unwrap();
        found.filter(|found| found.at > first.at)
    })
    .await;
    assert_eq!(again.word, first.word);
}

/// A file system of its own, with room for a little more than nothing.
struct Tiny(PathBuf);

impl Tiny {
    fn new(at: &Path) -> Self {
        Self::of(at, 1)
    }

    fn of(at: &Path, megabytes: u32) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={megabytes}m");
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_full_and_a_read_only_disk_under_pg_wal_are_named() {
    if !geteuid().is_root() {
        eprintln!("not root: no file system can be mounted, nothing is tested");
        return;
    }
    let dir = std::env::temp_dir().join(format!("hart-disk-{}", std::process::id()));
    let postgres = Postgres::new(Settings::new("test", "n1", &dir));
    let wal = Tiny::new(&dir.join("pg_wal"));
    assert_eq!(postgres.storage_problem(LONG).await.unwrap(), None);
    fs::write(wal.0.join("filler"), vec![0_u8; 1024 * 1024]).unwrap();
    let full = postgres.storage_problem(LONG).await.unwrap().unwrap();
    assert!(full.contains("pg_wal is full"), "{full}");
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &wal.0, None::<&str>, flags, None::<&str>).unwrap();
    let read_only = postgres.storage_problem(LONG).await.unwrap().unwrap();
    assert!(read_only.contains("pg_wal is read-only"), "{read_only}");
    drop(wal);
    fs::remove_dir_all(&dir).unwrap();
}

/// The segment of the new timeline needs as much room as any other.
#[tokio::test]
async fn a_standby_without_room_for_a_segment_cannot_be_promoted() {
    if !geteuid().is_root() {
        eprintln!("not root: no file system can be mounted, nothing is tested");
        return;
    }
    let mut node = Node::primary("n1").await;
    node.stop(Signal::SIGINT).await;
    let mut settings = (*node.postgres.settings()).clone();
    let wal = settings.data_dir.join("pg_wal");
    let tiny = Tiny::of(&wal, 20);
    assert_eq!(node.postgres.promotion_lacks(LONG).await.unwrap(), None);
    fs::write(tiny.0.join("filler"), vec![0_u8; 5 << 20]).unwrap();
    let lacks = node.postgres.promotion_lacks(LONG).await.unwrap().unwrap();
    let wanted = "kB free, and a promotion needs a new WAL segment of 16384 kB there";
    assert!(lacks.contains(wanted) && lacks.starts_with(&*wal.to_string_lossy()), "{lacks}");
    assert_eq!(node.postgres.storage_problem(LONG).await.unwrap(), None, "and yet it is well");
    drop(tiny);
    settings.data_dir = settings.data_dir.join("nowhere");
    assert!(Postgres::new(settings).promotion_lacks(LONG).await.is_err());
}
