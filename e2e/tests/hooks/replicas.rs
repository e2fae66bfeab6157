//! `postgresql.create_replica_methods` and `postgresql.recovery_conf`.

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, line_after};
use hart_testkit::eventually;

use crate::{as_postgres, backup, lines, script, told, with};

#[tokio::test]
async fn methods_are_tried_in_order_back_to_basebackup() -> Result<()> {
    let mut local = Local::primary_and_spare().await?;
    let n2 = local.node("n2")?;
    let data = n2.data_dir();
    let broken =
        format!("mkdir -p {0}; echo x > {0}/PG_VERSION; echo no backup; exit 1", data.display());
    let broken = script(n2, "broken.sh", &broken)?;
    let nothing =
        script(n2, "nothing.sh", &format!("mkdir -p {0}; echo x > {0}/left", data.display()))?;
    let lines = format!(
        "  create_replica_methods: [broken, nothing, basebackup]\n  \
         broken: {{command: {broken}}}\n  nothing: {{command: {nothing}, keep_data: true}}\n"
    );
    let yaml = with(n2, &lines);
    local.node_mut("n2")?.start_with(&yaml)?;
    assert_eq!(local.wait_healthy(2).await?, "n1");
    let n2 = local.node("n2")?;
    let first = "create_replica_methods: broken: /bin/sh ended after";
    let second =
        "create_replica_methods: nothing: the command succeeded, and there is no PostgreSQL";
    for line in [first, "with exit status: 1: no backup; trying the next", second] {
        assert!(n2.log_contains(line), "{line}\n{}", n2.log());
    }
    assert!(!data.join("left").exists(), "a base backup begins with nothing");
    assert_eq!(n2.unexpected_lines(&["create_replica_methods"]), [""; 0]);
    Ok(())
}

/// A restore as WAL-G does it, by a script of its form: `backup-fetch DIR LATEST`, `wal-fetch %f %p`.
#[tokio::test]
async fn a_replica_is_restored_and_another_clusters_backup_is_refused() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    let n1 = local.node_mut("n1")?;
    let (archive, saved) = (n1.home().join("archive"), n1.home().join("saved"));
    let command = format!("mkdir -p {0} && cp %p {0}/%f", archive.display());
    n1.config_mut().parameters.extend([
        ("archive_mode".to_owned(), "on".to_owned()),
        ("archive_command".to_owned(), command),
    ]);
    n1.start()?;
    local.wait_healthy(1).await?;
    let n1 = local.node("n1")?;
    backup(n1, &saved, "none")?;
    let foreign = n1.home().join("foreign");
    let initdb = n1.config().bin_dir.join("initdb").display().to_string();
    as_postgres(n1, &initdb, &["-D", &foreign.display().to_string(), "-U", "postgres"])?;
    local.sql("n1", "create table t as select 1 as n; select pg_switch_wal()").await?;

    let n2 = local.node("n2")?;
    let fake = format!(
        "case $1 in\nbackup-fetch) test \"$3\" = LATEST && cp -a {} \"$2\";;\n\
         wal-fetch) cp {}/\"$2\" \"$3\";;\n*) exit 2;;\nesac\n",
        saved.display(),
        archive.display()
    );
    let wal_g = script(n2, "wal-g", &fake)?;
    let restore = format!(
        "echo \"$@\" >> {}; echo \"$PGPASSFILE\" >> {0}\n\
         for a in \"$@\"; do case $a in --datadir=*) dir=${{a#*=}};; esac; done\n\
         exec {wal_g} backup-fetch \"$dir\" LATEST\n",
        n2.home().join("called").display()
    );
    let restore = script(n2, "wal_g_restore.sh", &restore)?;
    let wrong = script(
        n2,
        "wrong.sh",
        &format!("cp -a {} {}", foreign.display(), n2.data_dir().display()),
    )?;
    let entries = format!(
        "  create_replica_methods: [wrong, wal_g]\n  wrong: {{command: {wrong}}}\n  \
         wal_g: {{command: {restore}, envdir: /etc/wal-g, no_leader: 1}}\n  \
         recovery_conf: {{restore_command: '{wal_g} wal-fetch %f %p'}}\n"
    );
    let yaml = with(n2, &entries);
    local.node_mut("n2")?.start_with(&yaml)?;
    assert_eq!(local.wait_healthy(2).await?, "n1");
    let n2 = local.node("n2")?;
    line_after(n2, 0, "it is another cluster's backup; trying the next").await?;
    let called = lines(n2, "called");
    let (data, port) = (n2.data_dir(), local.node("n1")?.config().postgres_port);
    let wanted = format!(
        "--envdir=/etc/wal-g --no_leader=1 --scope=ha --role=replica --datadir={} \
         --connstring=dbname=postgres user=replicator host=127.0.0.1 port={port}",
        data.display()
    );
    assert_eq!(called, [wanted, n2.home().join("pgpass").display().to_string()]);
    assert!(told(n2).await?.iter().any(|text| text.contains("wal_g: /bin/sh ended after")));
    eventually("the row", DEADLINE, async || {
        let rows = local.sql("n2", "select count(*) from t").await?;
        ensure!(rows.as_deref() == Some("1"), "{rows:?}");
        Ok(())
    })
    .await
    .with_context(|| local.logs())?;
    let log = std::fs::read_to_string(data.with_extension("hart").join("postgresql.log"))?;
    assert!(log.contains("from archive"), "the archive was read: {log}");
    assert!(!n2.log_contains("pg_basebackup"), "{}", n2.log());
    Ok(())
}
