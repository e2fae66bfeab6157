//! Situations in which nothing may be touched.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use hart_postgres::{BaseBackup, Credentials, DataDir, Error, Role, ToolOption, Upstream};

use crate::node::{LONG, Node};

#[tokio::test]
async fn a_foreign_directory_is_refused_untouched() {
    let node = Node::new("n1");
    fs::create_dir(node.data()).unwrap();
    fs::write(node.data().join("thesis.txt"), "years of work").unwrap();
    let upstream = Upstream { host: "127.0.0.1".into(), port: 1 };
    let replace = BaseBackup { replace: true, ..BaseBackup::default() };
    let errors = [
        node.postgres.initdb(LONG).await.unwrap_err(),
        node.postgres.base_backup(&upstream, &replace, |_| {}).await.unwrap_err(),
        node.postgres.discard().await.unwrap_err(),
        node.postgres.rewind(&upstream, |_| {}, LONG).await.unwrap_err(),
        node.postgres.write_config(&Role::Primary, LONG).await.unwrap_err(),
        node.postgres.launch(&Role::Primary, LONG).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::DataDir { .. }), "{error:?}");
        assert!(error.to_string().contains("thesis.txt"), "{error}");
    }
    let kept = fs::read_to_string(node.data().join("thesis.txt")).unwrap();
    assert_eq!(kept, "years of work");
    assert_eq!(fs::read_dir(node.data()).unwrap().count(), 1);
    assert!(!node.dir.join("data.hart/creating").exists());
}

#[tokio::test]
async fn a_whole_cluster_is_not_initialised_again() {
    let node = Node::new("n1");
    let first = node.postgres.initdb(LONG).await.unwrap();
    let error = node.postgres.initdb(LONG).await.unwrap_err();
    assert!(error.to_string().contains("holds a PostgreSQL"), "{error}");
    let still = node.postgres.control_data(LONG).await.unwrap();
    assert_eq!(first.system_identifier, still.system_identifier);
    node.postgres.discard().await.unwrap();
    assert_eq!(node.postgres.inspect(LONG).await.unwrap(), DataDir::Empty);
}

#[tokio::test]
async fn wrong_versions_modes_and_programs_are_named() {
    let node = Node::new("n1");
    node.postgres.initdb(LONG).await.unwrap();
    fs::write(node.data().join("PG_VERSION"), "12\n").unwrap();
    let error = node.postgres.check_version(LONG).await.unwrap_err();
    assert!(matches!(error, Error::VersionMismatch { data_major: 12, .. }), "{error:?}");
    assert!(error.to_string().contains("bin_dir"), "{error}");

    fs::set_permissions(node.data(), fs::Permissions::from_mode(0o755)).unwrap();
    let state = node.postgres.inspect(LONG).await.unwrap();
    assert_eq!(state, DataDir::WrongMode { mode: 0o755 });

    node.change(|s| s.bin_dir = Some(node.dir.clone()));
    let error = node.postgres.control_data(LONG).await.unwrap_err();
    assert!(matches!(error, Error::MissingBinary { name: "pg_controldata", .. }), "{error:?}");
    assert!(error.to_string().contains(&*node.dir.to_string_lossy()), "{error}");
}

#[tokio::test]
async fn a_failed_initdb_says_why_and_can_be_tried_again() {
    let node = Node::new("n1");
    let bad = ToolOption { name: "encoding".into(), value: Some("KLINGON".into()) };
    node.change(|s| s.initdb = vec![bad]);
    let error = node.postgres.initdb(LONG).await.unwrap_err();
    assert!(error.to_string().contains("KLINGON"), "{error}");
    assert!(matches!(node.postgres.inspect(LONG).await.unwrap(), DataDir::Incomplete { .. }));
    let error = node.postgres.launch(&Role::Primary, LONG).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
    node.change(|s| s.initdb.clear());
    node.postgres.initdb(LONG).await.unwrap();
}

#[tokio::test]
async fn a_running_server_is_not_worked_on() {
    let node = Node::primary("n1").await;
    let replace = BaseBackup { replace: true, ..BaseBackup::default() };
    let errors = [
        node.postgres.initdb(LONG).await.unwrap_err(),
        node.postgres.discard().await.unwrap_err(),
        node.postgres.base_backup(&node.address(), &replace, |_| {}).await.unwrap_err(),
        node.postgres.rewind(&node.address(), |_| {}, LONG).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Running { .. }), "{error:?}");
    }
    assert_eq!(node.sql("SELECT 1").await, "1");
}

#[tokio::test]
async fn a_wrong_password_at_the_source_is_named_with_the_remedy() {
    let primary = Node::primary("n1").await;
    let node = Node::new("n2");
    node.change(|s| s.replication = Credentials::new("replicator").with_password("wrong-one"));
    let error = node.copy(&primary, BaseBackup::default()).await.unwrap_err();
    assert!(matches!(error, Error::SourceAuth { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("replicator") && text.contains("postgresql.authentication"), "{text}");
    assert!(!text.contains("wrong-one"), "{text}");
}
