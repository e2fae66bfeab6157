//! Base backups, whole and broken.

use std::cell::RefCell;
use std::fs;
use std::time::Duration;

use hart_postgres::{BaseBackup, DataDir, Error, Role, ToolOption, Work};

use crate::node::{LONG, Node, eventually, standby_of};

fn slowly(node: &Node) {
    // 32 kB/s is the least that pg_basebackup accepts; the whole would take a quarter of an hour.
    let rate = ToolOption { name: "max-rate".into(), value: Some("32".into()) };
    node.change(|s| s.basebackup = vec![rate]);
}

fn tools_in(node: &Node) -> usize {
    let data = node.data();
    let mark = data.as_os_str().as_encoded_bytes();
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mentions = |path: std::path::PathBuf| {
        fs::read(path.join("cmdline"))
            .is_ok_and(|line| line.windows(mark.len()).any(|w| w == mark) && line.starts_with(b"/"))
            && fs::read_to_string(path.join("comm"))
                .is_ok_and(|comm| comm.trim() == "pg_basebackup")
    };
    entries.filter(|entry| mentions(entry.path())).count()
}

#[tokio::test]
async fn progress_is_reported_and_the_copy_never_comes_up_as_primary() {
    let primary = Node::primary("n1").await;
    primary.postgres.enable_sync("n9", Duration::from_millis(500)).await.unwrap_err();
    let replica = Node::new("n2");
    let seen = RefCell::new(Vec::new());
    let (source, options) = (primary.address(), BaseBackup::default());
    let note = |p| seen.borrow_mut().push(p);
    replica.postgres.base_backup(&source, &options, note).await.unwrap();
    let last = *seen.borrow().last().unwrap();
    assert!(last.total_bytes > 1024 * 1024 && last.done_bytes >= last.total_bytes, "{last:?}");
    assert!(replica.data().join("standby.signal").exists());
    assert!(!replica.data().join("hart.sync.conf").exists());
    assert!(!replica.dir.join("data.hart/creating").exists());
}

#[tokio::test]
async fn a_cancelled_backup_is_known_as_incomplete_and_made_again() {
    let primary = Node::primary("n1").await;
    let mut replica = Node::new("n2");
    slowly(&replica);
    {
        let copy = replica.copy(&primary, BaseBackup::default());
        let mut copy = std::pin::pin!(copy);
        let begun = eventually("the copy has begun", || async {
            replica.data().join("backup_label").exists().then_some(())
        });
        tokio::select! {
            done = &mut copy => panic!("too fast to cancel: {done:?}"),
            () = begun => {}
        }
    }
    eventually("no program is left", || async { (tools_in(&replica) == 0).then_some(()) }).await;
    let state = replica.postgres.inspect(LONG).await.unwrap();
    assert_eq!(state, DataDir::Incomplete { work: Work::BaseBackup });
    let error = replica.postgres.launch(&standby_of(&primary), LONG).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
    let error = replica.postgres.write_config(&Role::Primary, LONG).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");

    replica.change(|s| s.basebackup.clear());
    replica.copy(&primary, BaseBackup::default()).await.unwrap();
    replica.start(&standby_of(&primary)).await;
    replica.streaming().await;
}

/// The program outlives the agent that started it; the next agent ends it first.
#[tokio::test]
async fn a_backup_left_behind_by_a_dead_agent_is_ended() {
    let primary = Node::primary("n1").await;
    let replica = Node::new("n2");
    slowly(&replica);
    let (postgres, source) = (replica.postgres.clone(), primary.address());
    let hung = tokio::spawn(async move {
        let options = BaseBackup::default();
        postgres.base_backup(&source, &options, |_| {}).await
    });
    eventually("the copy has begun", || async {
        replica.data().join("backup_label").exists().then_some(())
    })
    .await;
    assert!(tools_in(&replica) > 0);
    let next = hart_postgres::Postgres::new((*replica.postgres.settings()).clone());
    next.discard().await.unwrap();
    assert_eq!(tools_in(&replica), 0, "a program of the former agent still writes");
    assert_eq!(next.inspect(LONG).await.unwrap(), DataDir::Empty);
    let failed = hung.await.unwrap().unwrap_err();
    assert!(matches!(failed, Error::Tool { .. }), "{failed:?}");
}

#[tokio::test]
async fn a_stalled_backup_is_given_up() {
    let primary = Node::primary("n1").await;
    let replica = Node::new("n2");
    slowly(&replica);
    let options = BaseBackup { stall: Duration::from_millis(1), ..BaseBackup::default() };
    let error = replica.copy(&primary, options).await.unwrap_err();
    assert!(matches!(error, Error::ToolStuck { .. }), "{error:?}");
    eventually("no program is left", || async { (tools_in(&replica) == 0).then_some(()) }).await;
}

/// Work of a caller that has gone must not reach into later work.
#[tokio::test]
async fn attempts_dropped_at_any_moment_do_not_harm_the_next() {
    let primary = Node::primary("n1").await;
    let mut replica = Node::new("n2");
    for millis in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233] {
        let attempt = replica.copy(&primary, BaseBackup { replace: true, ..Default::default() });
        let _ = tokio::time::timeout(Duration::from_millis(millis), attempt).await;
    }
    replica.copy(&primary, BaseBackup { replace: true, ..Default::default() }).await.unwrap();
    assert!(matches!(replica.postgres.inspect(LONG).await.unwrap(), DataDir::Cluster { .. }));
    replica.start(&standby_of(&primary)).await;
    replica.streaming().await;
}

/// A disk with the data directory was replaced, the one with the WAL was not.
#[tokio::test]
async fn a_wal_directory_left_full_is_emptied_where_it_is_this_clusters() {
    let primary = Node::primary("n1").await;
    let other = Node::primary("other").await;
    let replica = Node::new("n2");
    let wal = replica.dir.join("wal");
    let option = ToolOption { name: "waldir".into(), value: Some(wal.display().to_string()) };
    replica.change(|s| s.basebackup = vec![option]);
    let whole = || async { replica.postgres.inspect(LONG).await.unwrap() };
    let lose = || {
        for entry in fs::read_dir(replica.data()).unwrap() {
            let path = entry.unwrap().path();
            let is_dir = path.is_dir() && !path.is_symlink();
            if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
    };
    replica.copy(&primary, BaseBackup::default()).await.unwrap();
    lose();
    assert!(fs::read_dir(&wal).unwrap().count() > 1);

    // WAL of another cluster, which nothing was replaced for, is somebody's.
    let error = replica.copy(&other, BaseBackup::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::WalDirectory { .. }) && text.contains("identifier"), "{text}");
    assert!(fs::read_dir(&wal).unwrap().count() > 1, "it was touched");

    replica.copy(&primary, BaseBackup::default()).await.unwrap();
    assert!(matches!(whole().await, DataDir::Cluster { .. }));
}
