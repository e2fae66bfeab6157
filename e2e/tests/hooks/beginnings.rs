//! `bootstrap.method` and `bootstrap.post_bootstrap`: clones, points in time, and what fails midway.

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, line_after};
use hart_testkit::{Sql, eventually};

use crate::{backup, leads, lines, script, told, with_bootstrap};

#[tokio::test]
async fn a_clone_gets_its_own_passwords_and_post_bootstrap_before_anybody_sees_it() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    let n1 = local.node_mut("n1")?;
    // No TCP, whatever the configuration says.
    let post = "psql -w -Atc 'show listen_addresses' \"$1\" | grep -qx '' || exit 8\n\
                psql -w -c 'create table foo ()' \"$1\"";
    let post = script(n1, "post.sh", post)?;
    let yaml = with_bootstrap(n1, &format!("  post_bootstrap: {post}\n"));
    n1.start_with(&yaml)?;
    local.wait_healthy(1).await?;
    let source = local.node("n1")?;
    let copy = format!(
        "for a in \"$@\"; do case $a in --datadir=*) dir=${{a#*=}};; esac; done\n\
         echo \"$@\" >> {called}\n\
         test ! -e $dir || exit 9\n\
         PGPASSWORD=rep exec {bin}/pg_basebackup -D $dir -c fast -X stream \
         -d 'host=127.0.0.1 port={port} user=replicator'\n",
        called = local.node("n2")?.home().join("called").display(),
        bin = source.config().bin_dir.display(),
        port = source.config().postgres_port,
    );
    let n2 = local.node_mut("n2")?;
    n2.config_mut().scope = "clone".into();
    let copy = script(n2, "copy.sh", &copy)?;
    let made = n2.home().join("made");
    let post = format!(
        "set -eu; test -r $PGPASSFILE; echo \"$1\" >> {made}; psql -w -Atc 'select count(*) from foo' \"$1\"\n\
         psql -w -c 'create table by_hook ()'\n",
        made = made.display()
    );
    let post = script(n2, "post.sh", &post)?;
    let yaml = with_bootstrap(
        n2,
        &format!(
            "  method: copy\n  copy: {{command: \"{copy} --own\", test-argument: test-value}}\n  \
             post_bootstrap: {post}\n"
        ),
    );
    let yaml = yaml.replace("password: postgres}", "password: another}");
    n2.start_with(&yaml)?;
    leads(&local, "n2").await?;

    let n2 = local.node("n2")?;
    let data = n2.data_dir();
    let call =
        format!("--own --scope=clone --datadir={} --test-argument=test-value", data.display());
    assert_eq!(lines(n2, "called"), [call]);
    let socket = format!("host={}.hart", data.display());
    let made = lines(n2, "made");
    assert!(made.len() == 1 && made[0].starts_with("dbname=postgres user=postgres"), "{made:?}");
    assert!(made[0].contains(&socket), "a server without clients: {made:?}");
    let mut with_new = n2.sql_config();
    with_new.password("another");
    let sql = Sql::connect(&with_new).await?;
    for table in ["foo", "by_hook"] {
        let found = sql.value(&format!("select count(*) from {table}")).await?;
        assert_eq!(found.as_deref(), Some("0"), "{table}");
    }
    assert!(Sql::connect(&n2.sql_config()).await.is_err(), "the old password is gone");
    let told = told(n2).await?;
    assert!(told[0].starts_with("bootstrap.copy: /bin/sh ended after"), "{told:?}");
    assert!(told[1].starts_with("bootstrap.post_bootstrap: /bin/sh ended after"), "{told:?}");
    for left in ["seclusion.conf", "seclusion.hba.conf", "seclusion.pgpass", "creating"] {
        assert!(!data.with_extension("hart").join(left).exists(), "{left}");
    }
    assert_eq!(n2.unexpected_lines(&["parameter"]), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_cluster_begins_at_a_point_in_time_and_gets_a_replica() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2", "n3"]).await?;
    let n1 = local.node_mut("n1")?;
    let (archive, saved) = (n1.home().join("archive"), n1.home().join("saved"));
    let archive_command = format!("mkdir -p {0} && cp %p {0}/%f", archive.display());
    n1.config_mut().parameters.extend([
        ("archive_mode".to_owned(), "on".to_owned()),
        ("archive_command".to_owned(), archive_command),
    ]);
    n1.start()?;
    local.wait_healthy(1).await?;
    backup(local.node("n1")?, &saved, "none")?;
    local.sql("n1", "create table t as select 'before' as what").await?;
    local.sql("n1", "select pg_create_restore_point('here')").await?;
    local.sql("n1", "insert into t values ('after')").await?;
    let segment = local.sql("n1", "select pg_walfile_name(pg_switch_wal())").await?;
    let segment = archive.join(segment.context("no segment")?);
    eventually("the archive", DEADLINE, async || {
        ensure!(segment.exists(), "{}", segment.display());
        Ok(())
    })
    .await?;

    let recovery = format!(
        "{{restore_command: 'cp {}/%f %p', recovery_target_name: here, recovery_target_action: pause}}",
        archive.display()
    );
    for name in ["n2", "n3"] {
        let node = local.node_mut(name)?;
        node.config_mut().scope = "restored".into();
        let copy = format!("cp -a {} $2 && rm -f $2/postmaster.pid", saved.display());
        let copy = script(node, "restore.sh", &copy)?;
        let data = node.data_dir();
        let method = format!(
            "  method: pitr\n  pitr:\n    command: {copy} x {}\n    no_params: true\n    \
             recovery_conf: {recovery}\n",
            data.display()
        );
        let yaml = with_bootstrap(node, &method);
        if name == "n2" {
            node.start_with(&yaml)?;
            leads(&local, "n2").await?;
        } else {
            // Its cluster is there: it is copied, and its own method of no interest.
            node.start_with(&yaml)?;
        }
    }
    let rows = local.sql("n2", "select string_agg(what, ' ') from t").await?;
    assert_eq!(rows.as_deref(), Some("before"), "{}", local.logs());
    let timeline = "select timeline_id from pg_control_checkpoint()";
    assert_eq!(local.sql("n2", timeline).await?.as_deref(), Some("2"));
    let target =
        "select string_agg(setting, '') from pg_settings where name like 'recovery_target_n%'";
    assert_eq!(local.sql("n2", target).await?.as_deref(), Some(""), "no target is left");
    eventually("a replica", DEADLINE, async || {
        let streams = local.sql("n2", "select count(*) from pg_stat_replication").await?;
        ensure!(streams.as_deref() == Some("1"), "{streams:?}");
        let rows = local.sql("n3", "select string_agg(what, ' ') from t").await?;
        ensure!(rows.as_deref() == Some("before"), "{rows:?}");
        Ok(())
    })
    .await
    .with_context(|| local.logs())?;
    assert!(!local.node("n3")?.log_contains("restore.sh"), "{}", local.node("n3")?.log());
    Ok(())
}

/// What a command, or `post_bootstrap`, has left when it fails is never started, and the next attempt
/// begins with nothing.
#[tokio::test]
async fn what_fails_midway_is_never_started() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    let saved = local.node("n1")?.home().join("saved");
    backup(local.node("n1")?, &saved, "fetch")?;
    let n2 = local.node_mut("n2")?;
    n2.config_mut().scope = "other".into();
    let (whole, good) = (n2.home().join("whole"), n2.home().join("good"));
    // Looks like a cluster, and is none.
    let copy = format!(
        "test ! -e $1 || exit 9; cp -a {} $1; rm -f $1/postmaster.pid; echo half; test -e {} || exit 3",
        saved.display(),
        whole.display()
    );
    let copy = script(n2, "restore.sh", &copy)?;
    let post = script(n2, "post.sh", &format!("echo no; test -e {} || exit 4", good.display()))?;
    let yaml = with_bootstrap(
        n2,
        &format!(
            "  method: copy\n  copy: {{command: \"{copy} {}\", no_params: on}}\n  post_init: {post}\n",
            n2.data_dir().display()
        ),
    );
    n2.start_with(&yaml)?;
    let n2 = local.node("n2")?;
    let begun = "begin: start as primary";
    for _ in 0..2 {
        line_after(n2, n2.log().len(), "with exit status: 3: half").await?;
    }
    assert!(n2.data_dir().with_extension("hart").join("creating").exists());
    assert!(!n2.log_contains(begun), "{}", n2.log());
    std::fs::write(&whole, "")?;
    for _ in 0..2 {
        line_after(n2, n2.log().len(), "with exit status: 4: no").await?;
    }
    assert!(!n2.log_contains(begun), "{}", n2.log());
    assert!(n2.data_dir().with_extension("hart").join("creating").exists());
    std::fs::write(&good, "")?;
    leads(&local, "n2").await?;
    let n2 = local.node("n2")?;
    assert!(!n2.log_contains("exit status: 9"), "the directory was not there: {}", n2.log());
    assert_eq!(n2.unexpected_lines(&["exit status", "parameter"]), [""; 0]);
    Ok(())
}
