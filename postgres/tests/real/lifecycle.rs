//! A server from nothing to a proper stop.

use std::fs;
use std::time::Duration;

use hart_postgres::{ClusterState, Credentials, DataDir, Effect, Error, LinkError, Postgres, Role};
use nix::sys::signal::Signal;

use crate::node::{LONG, Node, eventually, sql_error, standby_of};

#[tokio::test]
async fn from_initdb_to_a_proper_stop() {
    let mut node = Node::new("n1");
    assert_eq!(node.postgres.inspect(LONG).await.unwrap(), DataDir::Missing);
    let control = node.postgres.initdb(LONG).await.unwrap();
    assert!(control.checksums && control.clean());
    let major = node.postgres.check_version(LONG).await.unwrap().major;
    assert_eq!(node.postgres.inspect(LONG).await.unwrap(), DataDir::Cluster { major });
    let left: Vec<_> = fs::read_dir(node.dir.join("data.hart")).unwrap().collect();
    assert!(left.is_empty(), "marker or password file left: {left:?}");

    node.change(|s| drop(s.parameters.insert("log_statement".into(), "all".into())));
    let probe = node.start(&Role::Primary).await;
    assert!(!probe.in_recovery && probe.timeline == 1 && probe.receiver.is_none());
    assert_eq!(probe.system_identifier, control.system_identifier);
    assert_eq!(probe.server_version / 10000, major);
    assert!(probe.flush_lsn > Some(control.checkpoint));
    let running = node.postgres.postmaster(LONG).await.unwrap().unwrap();
    assert_eq!(running.pid, i32::try_from(node.child.as_ref().unwrap().id()).unwrap());
    assert_eq!(running.port, Some(node.postgres.settings().port));

    // Twice: the roles may be there already.
    node.postgres.ensure_roles(LONG).await.unwrap();
    node.postgres.ensure_roles(LONG).await.unwrap();
    let roles = "SELECT string_agg(rolname || rolreplication::text, ' ' ORDER BY rolname) \
                 FROM pg_roles WHERE rolname IN ('replicator', 'rewinder')";
    assert_eq!(node.sql(roles).await, "replicatortrue rewinderfalse");
    for secret in ["super'", "repl:", "rewind-secret", "SCRAM-SHA-256$"] {
        assert!(!node.log().contains(secret), "{secret} is in the server's log");
    }
    node.postgres.checkpoint(LONG).await.unwrap();
    assert_eq!(node.sql("SHOW cluster_name").await, "test");
    assert_eq!(node.sql("SHOW wal_log_hints").await, "on");
    assert_eq!(node.sql("SHOW shared_buffers").await, "16MB");

    node.stop(Signal::SIGINT).await;
    let control = node.postgres.control_data(LONG).await.unwrap();
    assert_eq!(control.state, ClusterState::Shutdown);
    assert_eq!(control.shutdown_position(), Some(control.checkpoint));
    assert_eq!(node.postgres.postmaster(LONG).await.unwrap(), None);
    let error = node.postgres.probe(LONG).await.unwrap_err();
    assert!(matches!(error, LinkError::NotListening { .. }), "{error:?}");
}

#[tokio::test]
async fn a_restart_is_survived_by_the_kept_connection() {
    let mut node = Node::primary("n1").await;
    node.stop(Signal::SIGQUIT).await;
    // The pid file of a dead postmaster, whose ID is another program's by now.
    let pid_file = node.data().join("postmaster.pid");
    fs::write(&pid_file, format!("{}\n{}\n", std::process::id(), node.data().display())).unwrap();
    let probe = node.start(&Role::Primary).await;
    assert!(!probe.in_recovery);
    let refused = node.postgres.launch(&Role::Primary, LONG).await.unwrap_err();
    assert!(matches!(refused, Error::Running { .. }), "{refused}");
}

#[tokio::test]
async fn files_are_written_only_when_they_differ_and_reload_takes_effect() {
    let mut node = Node::primary("n1").await;
    // Unlike the value in the original file, which is included first.
    node.change(|s| drop(s.parameters.insert("max_connections".into(), "50".into())));
    node.stop(Signal::SIGINT).await;
    node.start(&Role::Primary).await;
    let again = node.postgres.write_config(&Role::Primary, LONG).await.unwrap();
    assert!(!again.any() && !again.role_changed, "{again:?}");
    let odd = "it's a \\ back\nslash";
    node.change(|s| drop(s.parameters.insert("hart.test".into(), odd.into())));
    node.change(|s| drop(s.parameters.insert("shared_buffers".into(), "17MB".into())));
    let change = node.postgres.write_config(&Role::Primary, LONG).await.unwrap();
    assert_eq!(change.files, [node.data().join("postgresql.conf")]);
    node.postgres.reload(LONG).await.unwrap();
    let pending = node.until("a restart is pending", |p| {
        (!p.pending_restart.is_empty()).then(|| p.pending_restart.clone())
    });
    assert_eq!(pending.await, ["shared_buffers"]);
    node.change(|s| drop(s.parameters.insert("max_connections".into(), "60".into())));
    node.postgres.write_config(&Role::Primary, LONG).await.unwrap();
    node.postgres.reload(LONG).await.unwrap();
    let both = ["max_connections", "shared_buffers"];
    node.until("both need a restart", |p| (p.pending_restart == both).then_some(())).await;
    eventually("the odd value is loaded", || async {
        (node.sql("SELECT current_setting('hart.test', true)").await == odd).then_some(())
    })
    .await;
}

async fn connect_as_replicator(node: &Node) -> Option<tokio_postgres::Client> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(&node.dir).port(node.postgres.settings().port);
    config.user("replicator").password("repl:\\secret").dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

#[tokio::test]
async fn full_connections_and_wrong_passwords_are_told_apart() {
    let mut node = Node::primary("n1").await;
    node.change(|s| drop(s.parameters.insert("max_connections".into(), "25".into())));
    node.stop(Signal::SIGINT).await;
    node.start(&Role::Primary).await;
    // Users take what they can get, ...
    let mut users = Vec::new();
    while let Some(user) = connect_as_replicator(&node).await {
        users.push(user);
        assert!(users.len() < 40, "no limit was met");
    }
    node.postgres.probe(LONG).await.expect("the reserved connections are ours");
    // ... and then superusers the rest.
    let mut crowd = Vec::new();
    let error = loop {
        let one = Postgres::new((*node.postgres.settings()).clone());
        match one.probe(LONG).await {
            Ok(_) => crowd.push(one),
            Err(error) => break error,
        }
        assert!(crowd.len() < 40, "no limit was met");
    };
    assert!(matches!(error, LinkError::TooManyConnections { .. }), "{error:?}");
    assert!(error.proves_alive());
    node.postgres.probe(LONG).await.expect("the kept connection serves on");
    drop((crowd, users));

    let mut settings = (*node.postgres.settings()).clone();
    settings.superuser = Credentials::new("postgres").with_password("wrong-one");
    let error = Postgres::new(settings.clone()).probe(LONG).await.unwrap_err();
    assert!(matches!(error, LinkError::AuthFailed { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("wrong-one"));
    settings.superuser = Credentials::new("postgres");
    let error = Postgres::new(settings).probe(LONG).await.unwrap_err();
    assert!(matches!(error, LinkError::AuthFailed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_socket_that_pg_hba_refuses_is_replaced_by_tcp() {
    let mut node = Node::new("n1");
    node.change(|s| s.pg_hba = vec!["host all all 127.0.0.1/32 md5".into()]);
    node.postgres.initdb(LONG).await.unwrap();
    let probe = node.start(&Role::Primary).await;
    assert!(!probe.in_recovery);
    assert_eq!(node.sql("SELECT host(inet_client_addr())").await, "127.0.0.1");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_does_not_block_the_next() {
    let node = Node::primary("n1").await;
    let error = node.postgres.query("SELECT pg_sleep(600)", Duration::from_millis(100)).await;
    assert!(matches!(error, Err(LinkError::Timeout { .. })), "{error:?}");
    assert_eq!(node.sql("SELECT 1").await, "1");
    let still = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    eventually("it is cancelled", || async { (node.sql(still).await == "0").then_some(()) }).await;
}

#[tokio::test]
async fn a_hung_server_is_a_timeout_and_not_an_answer() {
    let node = Node::primary("n1").await;
    let mut settings = (*node.postgres.settings()).clone();
    settings.name = "other".into();
    node.signal(Signal::SIGSTOP);
    let result = Postgres::new(settings).probe(Duration::from_millis(300)).await;
    node.signal(Signal::SIGCONT);
    let error = result.unwrap_err();
    assert!(matches!(error, LinkError::Timeout { .. }) && !error.proves_alive(), "{error:?}");
}

#[tokio::test]
async fn roles_cannot_be_made_on_a_standby() {
    let primary = Node::primary("n1").await;
    let replica = Node::replica("n2", &primary).await;
    let error = sql_error(replica.postgres.ensure_roles(LONG).await.unwrap_err());
    assert_eq!(error.code(), Some("25006"), "{error:?}");
    let role = standby_of(&primary);
    assert!(!replica.postgres.write_config(&role, LONG).await.unwrap().any());
}

/// Whoever eats the memory is a backend; with the postmaster all of them would end.
#[tokio::test]
async fn the_oom_killer_spares_the_postmaster_and_not_its_backends() {
    let mut node = Node::new("n1");
    node.postgres.initdb(LONG).await.unwrap();
    node.start(&Role::Primary).await;
    let score = |pid: &str| format!("/proc/{pid}/oom_score_adj");
    let postmaster = node.child.as_ref().unwrap().id().to_string();
    fs::write(score(&postmaster), "150").unwrap();
    // It forks those that come from now on.
    let fresh = Postgres::new((*node.postgres.settings()).clone());
    let rows = fresh.query("SELECT pg_backend_pid()", LONG).await.unwrap();
    let backend = rows[0][0].clone().unwrap();
    let read = |pid: &str| fs::read_to_string(score(pid)).unwrap().trim().to_owned();
    assert_eq!((read(&postmaster).as_str(), read(&backend).as_str()), ("150", "0"));
    node.stop(Signal::SIGINT).await;
}

/// PostgreSQL is asked before there is a data directory.
#[tokio::test]
async fn parameters_that_would_keep_the_server_from_starting_are_found() {
    let node = Node::new("n1");
    let parameters = [
        ("work_mem", "8MB"),
        ("wrok_mem", "8MB"),
        ("max_wal_size", "abc"),
        ("wal_keep_size", "1.5GB"),
        ("statement_timeout", "-7"),
        ("log_min_messages", "loud"),
        ("timezone", "Mars"),
        ("server_version", "9"),
        ("zero_damaged_pages", "on"),
        ("lc_messages", "C"),
        ("my.own", "x"),
        ("archive_command", "cp '%p' \\x"),
    ];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let refused = node.postgres.vet(&parameters.into(), LONG).await.unwrap();
    let names: Vec<&str> = refused.keys().map(String::as_str).collect();
    let expected = [
        "log_min_messages",
        "max_wal_size",
        "server_version",
        "statement_timeout",
        "timezone",
        "wrok_mem",
    ];
    assert_eq!(names, expected, "{refused:?}");
    assert!(refused["wrok_mem"].contains("unrecognized"), "{refused:?}");
    assert_eq!(node.postgres.vet(&Default::default(), LONG).await.unwrap(), Default::default());
    assert!(!node.dir.join("data").exists(), "nothing was made");
}

/// Each kind of line that the server does not take, and none that only waits for a restart.
#[tokio::test]
async fn what_the_server_does_not_take_of_its_files_is_found() {
    let mut node = Node::primary("n1").await;
    let base = node.data().join("postgresql.base.conf");
    let (hba, map) = (node.data().join("pg_hba.conf"), node.data().join("pg_ident.conf"));
    let kept = [&base, &hba, &map].map(|path| fs::read_to_string(path).unwrap());
    let found = async |node: &Node| node.postgres.file_faults(LONG).await.unwrap();
    assert_eq!(found(&node).await, []);
    for (path, before, line, words, effect) in [
        (&base, &kept[0], "wrok_mem = 1", "unrecognized", Effect::Void),
        (&base, &kept[0], "work_mem = 1kB", "outside the valid range", Effect::NoStart),
        (&base, &kept[0], "work_mem", "syntax error", Effect::Void),
        (&base, &kept[0], "include 'none.conf'", "could not open file", Effect::Void),
        (&hba, &kept[1], "hostt all all all trust", "invalid connection type", Effect::OldRules),
        (&map, &kept[2], "only two", "missing entry", Effect::OldMaps),
    ] {
        fs::write(path, format!("{before}{line}\n")).unwrap();
        let faults = found(&node).await;
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        let fault = &faults[0];
        assert_eq!(fault.line as usize, before.lines().count() + 1, "{line}");
        assert!(fault.words.contains(words) && fault.effect == effect, "{line}: {fault:?}");
        assert!(path.ends_with(fault.file.rsplit('/').next().unwrap()), "{fault:?}");
        fs::write(path, before).unwrap();
    }
    let before = "min_dynamic_shared_memory = 3\nmax_pred_locks_per_transaction = 70\n";
    fs::write(&base, format!("{}{before}", kept[0])).unwrap();
    node.stop(Signal::SIGINT).await;
    node.start(&Role::Primary).await;
    let after = "track_activity_query_size = 2048\nmax_files_per_process = 99\nwal_buffers = 128\n";
    fs::write(&base, format!("{}{after}max_wal_senders = 7\n", kept[0])).unwrap();
    node.postgres.reload(LONG).await.unwrap();
    let probe = node
        .until("it waits for a restart", |probe| {
            let waits = probe.pending_restart.contains(&"max_files_per_process".to_owned());
            waits.then(|| probe.clone())
        })
        .await;
    // In the file without a unit, and shown with one.
    let change = |name: &str| {
        let change = &probe.pending_changes[name];
        (change.old_value.clone(), change.new_value.clone())
    };
    // Gone from the files, with and without a unit.
    assert_eq!(change("min_dynamic_shared_memory"), ("3MB".to_owned(), "0".to_owned()));
    assert_eq!(change("max_pred_locks_per_transaction"), ("70".to_owned(), "64".to_owned()));
    assert_eq!(change("track_activity_query_size"), ("1kB".to_owned(), "2048B".to_owned()));
    assert_eq!(change("max_files_per_process"), ("1000".to_owned(), "99".to_owned()));
    assert_eq!(change("wal_buffers"), ("512kB".to_owned(), "1024kB".to_owned()));
    assert_eq!(found(&node).await, []);
}
