//! With pgBackRest itself: a cluster from its backup to a point in time, a replica from its repository,
//! WAL from its archive.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, owner_of};
use hart_testkit::{LocalNode, eventually};

use crate::{as_postgres, leads, told, with, with_bootstrap};

/// pgBackRest's configuration of this node, around one repository; what comes before its commands.
fn configure(node: &LocalNode, repository: &Path) -> Result<String> {
    let (home, data) = (node.home(), node.data_dir());
    let mut text = String::from("[global]\n");
    for (key, value) in [
        ("repo1-path", repository.to_owned()),
        ("log-path", home.to_owned()),
        ("lock-path", home.join("lock")),
        ("spool-path", home.join("spool")),
    ] {
        writeln!(text, "{key}={}", value.display())?;
    }
    text.push_str(
        "start-fast=y\nlog-level-console=info\nlog-level-file=off\ncompress-type=gz\n[demo]\n",
    );
    writeln!(text, "pg1-path={}", data.display())?;
    writeln!(text, "pg1-socket-path={}\npg1-port={}", home.display(), node.config().postgres_port)?;
    let file = node.dir().write(&format!("{}/pgbackrest.conf", node.name()), "postgres", &text)?;
    Ok(format!("pgbackrest --config={} --stanza=demo", file.display()))
}

fn run(node: &LocalNode, command: &str) -> Result<String> {
    as_postgres(node, "/bin/sh", &["-c", command])
}

/// pgBackRest insists on a directory to restore to.
fn empty_data_dir(node: &LocalNode) -> Result<()> {
    let (data, (uid, gid)) = (node.data_dir(), owner_of(node.home())?);
    std::fs::create_dir(&data)?;
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(std::os::unix::fs::chown(&data, Some(uid), Some(gid))?)
}

/// A primary whose WAL goes into the repository, with a backup in it.
async fn primary_with_backup(local: &mut Local) -> Result<PathBuf> {
    let n1 = local.node_mut("n1")?;
    let repository = n1.home().join("repository");
    let pgbackrest = configure(n1, &repository)?;
    n1.config_mut().parameters.extend([
        ("archive_mode".to_owned(), "on".to_owned()),
        ("archive_command".to_owned(), format!("{pgbackrest} archive-push %p")),
    ]);
    // The archive is there before the first segment is.
    n1.start()?;
    local.wait_healthy(1).await?;
    run(local.node("n1")?, &format!("{pgbackrest} stanza-create"))?;
    run(local.node("n1")?, &format!("{pgbackrest} --type=full backup"))?;
    Ok(repository)
}

#[tokio::test]
async fn a_backup_becomes_a_cluster_at_a_point_in_time_and_a_replica() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2", "n3"]).await?;
    let repository = primary_with_backup(&mut local).await?;
    local.sql("n1", "create table t as select 'before' as what").await?;
    // pgBackRest takes whole seconds: the target's must not be that of the backup.
    local.sql("n1", "select pg_sleep(1.1)").await?;
    let then = local.sql("n1", "select clock_timestamp()").await?.context("no time")?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    local.sql("n1", "insert into t values ('after')").await?;
    local.sql("n1", "select pg_switch_wal()").await?;
    let archived = "select archived_count > 0 and last_archived_wal >= pg_walfile_name(\
                    pg_current_wal_lsn() - 16777216) from pg_stat_archiver";
    eventually("the archive", DEADLINE, async || {
        let archived = local.sql("n1", archived).await?;
        ensure!(archived.as_deref() == Some("t"), "{archived:?}");
        Ok(())
    })
    .await
    .with_context(|| local.logs())?;

    // A new cluster; pgBackRest writes recovery's settings itself.
    let n2 = local.node_mut("n2")?;
    n2.config_mut().scope = "pitr".into();
    empty_data_dir(n2)?;
    let pgbackrest = configure(n2, &repository)?;
    let method = format!(
        "  method: pgbackrest\n  pgbackrest:\n    \
         command: {pgbackrest} --type=time '--target={then}' restore\n    \
         keep_existing_recovery_conf: true\n    no_params: true\n"
    );
    let yaml = with_bootstrap(n2, &method);
    n2.start_with(&yaml)?;
    leads(&local, "n2").await?;
    let rows = local.sql("n2", "select string_agg(what, ' ') from t").await?;
    assert_eq!(rows.as_deref(), Some("before"), "{}", local.logs());
    let hooks = told(local.node("n2")?).await?;
    assert!(hooks[0].starts_with("bootstrap.pgbackrest: pgbackrest ended after"), "{hooks:?}");
    assert!(hooks[0].contains("restore command end: completed successfully"), "{hooks:?}");

    // A replica of the first one, from the repository and with WAL from the archive.
    let n3 = local.node("n3")?;
    empty_data_dir(n3)?;
    let pgbackrest = configure(n3, &repository)?;
    let method = format!(
        "  create_replica_methods: [pgbackrest, basebackup]\n  pgbackrest:\n    \
         command: {pgbackrest} --delta restore\n    keep_data: True\n    no_params: True\n  \
         recovery_conf: {{restore_command: '{pgbackrest} archive-get %f \"%p\"'}}\n"
    );
    let yaml = with(n3, &method);
    local.node_mut("n3")?.start_with(&yaml)?;
    let both = "select string_agg(what, ' ' order by what) from t";
    eventually("a replica", DEADLINE, async || {
        let rows = local.sql("n3", both).await?;
        ensure!(rows.as_deref() == Some("after before"), "{rows:?}");
        let streams = "select count(*) from pg_stat_replication where application_name = 'n3'";
        let streams = local.sql("n1", streams).await?;
        ensure!(streams.as_deref() == Some("1"), "{streams:?}");
        Ok(())
    })
    .await
    .with_context(|| local.logs())?;
    let n3 = local.node("n3")?;
    assert!(!n3.log_contains("pg_basebackup") && !n3.log_contains("the next of"), "{}", n3.log());
    let log = n3.data_dir().with_extension("hart").join("postgresql.log");
    let log = std::fs::read_to_string(log)?;
    assert!(log.contains("from archive"), "{log}");
    Ok(())
}
