//! The WAL archive: slow, behind, or with files of another cluster in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, owner_of};
use hart_testkit::{Options, TempDir, bin_dir, until};

use super::{AWAY, ENDED, FENCED};
use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;

/// Each call of `restore_command` takes 4 s, and a promotion makes five of them: longer than
/// `unhealthy_timeout`, which is 10 s here.
#[tokio::test]
async fn a_promotion_waits_for_a_slow_archive() -> Result<()> {
    let dir = TempDir::new()?;
    let slow = dir.path().join("slow");
    let command = format!("test ! -e {} || sleep 4; false", slow.display());
    let options = Options::default().parameter("restore_command", &command);
    let mut drill = Drill::with(&options).await?;
    let primary = drill.write().await?;
    fs::write(&slow, "")?;
    drill.cluster.kill_node(&primary)?;
    let leads = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    fs::remove_file(&slow)?;
    let timeline = drill.timeline(&leads).await?;
    ensure!(timeline == 2, "promoted {} times\n{}", timeline - 1, drill.logs());
    let log = drill.cluster.node(&leads)?;
    let told = "the promotion waits for its archive: call 2 of restore_command";
    ensure!(log.log_contains(told), "nothing told\n{}", drill.logs());
    drill.cluster.revive_node(&primary).await?;
    // Nobody was fenced.
    drill.finish(Loss::Some, &[]).await?;
    Ok(())
}

/// An archive in a directory, as in PostgreSQL's documentation, and a base backup to be restored with it.
struct Archive {
    dir: TempDir,
    files: PathBuf,
}

impl Archive {
    fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        let files = dir.make("archive", "postgres")?;
        Ok(Self { dir, files })
    }

    fn options(&self) -> Options {
        let (files, away) = (self.files.display(), self.away().display().to_string());
        // A file of its final name is whole.
        let archive = format!(
            "test ! -e {away} && test ! -f {files}/%f && cp %p {files}/%f.part && \
             mv {files}/%f.part {files}/%f"
        );
        Options::default()
            .parameter("archive_mode", "on")
            .parameter("archive_command", &archive)
            .parameter("restore_command", &self.restore())
    }

    fn restore(&self) -> String {
        format!("cp {}/%f %p", self.files.display())
    }

    /// While this file is there nothing can be archived.
    fn away(&self) -> PathBuf {
        self.dir.path().join("away")
    }

    fn has(&self, name: &str) -> bool {
        self.files.join(name).is_file()
    }

    fn list(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.files).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Runs a program of PostgreSQL as its user on a node's host.
    fn run(&self, drill: &Drill, node: &str, program: &str, args: &[&str]) -> Result<String> {
        let (uid, gid) = owner_of(&self.files)?;
        let mut command = Command::new(bin_dir()?.join(program));
        command.args(args).env("PGPASSWORD", "rep").env("LC_ALL", "C");
        command.current_dir("/").uid(uid).gid(gid).stdin(Stdio::null());
        let output = drill.cluster.host(node)?.output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program}: {said}\n{}", drill.logs());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Restores the backup to the end of the archive's newest timeline, and asks it.
    async fn restored(&self, drill: &Drill, node: &str, sql: &str) -> Result<String> {
        let (data, dir) = (self.backup(), self.dir.path().join("archive"));
        fs::write(data.join("recovery.signal"), "")?;
        let (restore, dir) = (self.restore(), dir.display().to_string());
        let set = |name: &str, value: &str| format!("-c {name}='{value}' ");
        let options: String = [
            ("restore_command", restore.as_str()),
            ("listen_addresses", ""),
            ("unix_socket_directories", &dir),
            ("archive_mode", "off"),
            ("primary_conninfo", ""),
            ("synchronous_standby_names", ""),
            ("max_connections", "200"),
            ("max_wal_senders", "50"),
            ("max_worker_processes", "50"),
            ("max_locks_per_transaction", "500"),
        ]
        .into_iter()
        .map(|(name, value)| set(name, value))
        .collect();
        let (data, log) = (data.display().to_string(), format!("{dir}/log"));
        self.run(drill, node, "pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "start"])?;
        let psql = |sql: &str| {
            self.run(drill, node, "psql", &["-h", &dir, "-U", "postgres", "-AXtqc", sql])
        };
        let ended = until("the end of its recovery", DEADLINE, async || {
            psql("select pg_is_in_recovery()").ok().filter(|answer| answer.trim() == "f")
        });
        let found = match ended.await {
            Ok(_) => psql(sql),
            Err(error) => Err(error.context(fs::read_to_string(&log).unwrap_or_default())),
        };
        self.run(drill, node, "pg_ctl", &["-D", &data, "-m", "immediate", "stop"])?;
        Ok(found?.trim().to_owned())
    }

    fn backup(&self) -> PathBuf {
        self.files.join("backup")
    }
}

/// The archive cannot be reached when the primary is cut off, and comes back later. What the primary had
/// not archived is archived by it when it is a replica, and a restore goes across the failover.
#[tokio::test]
async fn what_a_lost_primary_had_not_archived_is_archived() -> Result<()> {
    let archive = Archive::new()?;
    let mut drill = Drill::with(&archive.options()).await?;
    let primary = drill.write().await?;
    let (host, backup) = (drill.cluster.host(&primary)?, archive.backup().display().to_string());
    let address = host.address().to_string();
    let args = ["-h", &address, "-U", "replicator", "-c", "fast", "-X", "none", "-D", &backup];
    archive.run(&drill, &primary, "pg_basebackup", &args)?;
    fs::write(archive.away(), "")?;
    let sql = drill.cluster.sql(&primary).await?;
    sql.value("create table marks as select 0 as i").await?;
    let mut waiting = Vec::new();
    for i in 1..=4 {
        let switch =
            format!("insert into marks values ({i}); select pg_walfile_name(pg_switch_wal())");
        waiting.extend(sql.rows(&switch).await?.into_iter().flatten().flatten());
        drill.written().await?;
    }
    let at = sql.value("select pg_current_wal_lsn()").await?.context("a position")?;
    for node in drill.cluster.nodes().iter().filter(|node| node.name() != primary) {
        let behind = format!("select (pg_last_wal_replay_lsn() >= '{at}')::text");
        until("a replica with all of it", DEADLINE, async || {
            let sql = drill.cluster.sql(node.name()).await.ok()?;
            sql.value(&behind).await.ok().flatten().filter(|answer| answer == "true")
        })
        .await?;
    }
    ensure!(waiting.len() == 4 && !waiting.iter().any(|name| archive.has(name)), "{waiting:?}");

    drill.cluster.lab().cut(&host)?;
    let leads = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.mend().await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let node = drill.cluster.node(&primary)?;
    ensure!(node.log_contains("begin: rewind"), "not rewound\n{}", node.log());
    until("a word in its entry", DEADLINE, async || {
        let text = hart(&drill.cluster, &leads, &["list"]).ok()?;
        text.contains("cannot be archived").then_some(())
    })
    .await?;
    let metrics = drill.cluster.rest(&primary, "GET", "/metrics", None).await?.text;
    let gauge = metrics.lines().find(|line| line.starts_with("hart_unarchived_wal_files{"));
    let count = gauge.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    ensure!(count.is_some_and(|count| count >= 4.0), "{gauge:?}\n{}", node.log());

    fs::remove_file(archive.away())?;
    until("the end of the hole", DEADLINE, async || {
        waiting.iter().all(|name| archive.has(name)).then_some(())
    })
    .await
    .with_context(|| format!("{waiting:?}, {:?}\n{}", archive.list(), node.log()))?;
    let sql = drill.cluster.sql(&leads).await?;
    sql.value("insert into marks values (5)").await?;
    // Behind the commit.
    let last = sql.value("select pg_walfile_name(pg_switch_wal())").await?.context("a segment")?;
    until("the new primary's segment", DEADLINE, async || archive.has(&last).then_some(())).await?;
    let events = hart(&drill.cluster, &leads, &["events", "ha", "-n", "100000"])?;
    for words in ["wal_kept", "wal_not_archived", "wal_archived"] {
        ensure!(events.contains(words), "{words}\n{events}");
    }
    let announced = [FENCED, AWAY, "failsafe", "lease", "cannot be archived"];
    drill.finish(Loss::Some, &announced).await?;
    let marks = "select string_agg(i::text, ' ' order by i) from marks";
    let found = archive.restored(&drill, &leads, marks).await?;
    ensure!(found == "0 1 2 3 4 5", "restored: {found}, of {:?}", archive.list());
    Ok(())
}

/// The primary was lost while its archiver copied: the end of recovery reads the last record again, takes
/// the archive's copy of its segment, and the server ends. That is not repeated for ever, it is said, and
/// nobody leads with less.
#[tokio::test]
async fn a_promotion_that_half_a_segment_in_the_archive_ends_is_given_up() -> Result<()> {
    let archive = Archive::new()?;
    let mut drill = Drill::with(&archive.options().dcs("synchronous_mode", true)).await?;
    let primary = drill.write().await?;
    drill.pause()?;
    let standby = drill.synchronous_standby().await?;
    let sql = drill.cluster.sql(&primary).await?;
    let there = drill.cluster.sql(&standby).await?;
    // The last record has to end its segment, and the server writes some of its own accord.
    let segment = until("a segment's end", DEADLINE, async || {
        sql.value("select pg_logical_emit_message(true, 'e2e', 'x')::text").await.ok();
        let switch = "select pg_walfile_name(pg_switch_wal() - 1)";
        let name = sql.value(switch).await.ok().flatten()?;
        let whole = async || archive.has(&name).then_some(());
        until("its copy in the archive", DEADLINE, whole).await.ok()?;
        let end =
            "select (pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') % (16 * 1048576) = 0)::text";
        let ends = there.value(end).await.ok().flatten();
        ends.filter(|ends| ends == "true").map(|_| name)
    })
    .await?;
    let copy = archive.files.join(&segment);
    fs::File::options().write(true).open(&copy)?.set_len(8 << 20)?;
    drill.cluster.kill_node(&primary)?;
    let told = "PostgreSQL ended in 3 promotions";
    let node = drill.cluster.node(&standby)?;
    until("the end of the promotions", DEADLINE, async || node.log_contains(told).then_some(()))
        .await
        .with_context(|| drill.logs())?;
    ensure!(node.log_contains("wrong size"), "PostgreSQL's words are missing\n{}", node.log());
    fs::remove_file(&copy)?;
    let leads = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    ensure!(leads == standby, "{leads} leads, and {standby} was published");
    drill.cluster.revive_node(&primary).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    drill.finish(Loss::None, &[told, ENDED, "lease"]).await?;
    Ok(())
}

/// Somebody's history file in the archive: a restart and a new copy fail at once, in words that name the
/// file and what to do; when it is taken away the replica comes up by itself.
#[tokio::test]
async fn a_stray_history_file_in_the_archive_is_named() -> Result<()> {
    let archive = Archive::new()?;
    let mut drill = Drill::with(&archive.options()).await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    let stray = archive.files.join("00000002.history");
    fs::write(&stray, "1\t0/2000000\tno recovery target specified\n")?;
    fs::set_permissions(&stray, fs::Permissions::from_mode(0o644))?;
    let remedy = "00000002.history in the archive that restore_command reads";
    for command in ["restart", "reinit"] {
        let args = [command, "ha", &replica, "--force"];
        let args =
            if command == "reinit" { [&args[..], &["--wait"]].concat() } else { args.to_vec() };
        let said = format!("{:#}", hart(&drill.cluster, &primary, &args).expect_err("it fails"));
        let named = said.contains("requested timeline 2 is not a child") && said.contains(remedy);
        ensure!(named, "{command}: {said}\n{}", drill.logs());
    }
    until("its word in the list", DEADLINE, async || {
        hart(&drill.cluster, &primary, &["list"])
            .ok()
            .filter(|text| text.contains("00000002.history"))
    })
    .await
    .with_context(|| drill.logs())?;
    fs::remove_file(&stray)?;
    // PostgreSQL has kept a copy, which is named, too.
    fs::remove_file(drill.cluster.node(&replica)?.data_dir().join("pg_wal/00000002.history"))?;
    let last = drill.finish(Loss::None, &[ENDED, "start as standby", "thrown away"]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    Ok(())
}

/// The archive is slow, then it does not answer at all. PostgreSQL would archive everything before its end;
/// the next primary leads long before that, and the former one archives it as a replica.
#[tokio::test]
async fn a_switchover_does_not_wait_for_the_archive() -> Result<()> {
    let archive = Archive::new()?;
    let (files, away) = (archive.files.display(), archive.away().display().to_string());
    let slow = archive.dir.path().join("slow");
    let command = format!(
        "test ! -e {} || sleep 3; while test -e {away}; do sleep 0.1; done; \
         test ! -f {files}/%f && cp %p {files}/%f || cmp -s %p {files}/%f",
        slow.display()
    );
    let options = Options::default()
        .parameter("archive_mode", "on")
        .parameter("archive_command", &command)
        .parameter("restore_command", &archive.restore())
        .dcs("primary_stop_timeout", 3600);
    let mut drill = Drill::with(&options).await?;
    let mut waiting = Vec::new();
    for obstacle in [&slow, &archive.away()] {
        let primary = drill.write().await?;
        fs::write(obstacle, "")?;
        let sql = drill.cluster.sql(&primary).await?;
        for i in 0..20 {
            let switch = format!(
                "select pg_logical_emit_message(true, 'e2e', '{i}'); \
                 select pg_walfile_name(pg_switch_wal())"
            );
            waiting.extend(sql.rows(&switch).await?.into_iter().flatten().flatten().last());
        }
        // Who is far behind does not lead next.
        let at = sql.value("select pg_current_wal_lsn()").await?.context("a position")?;
        let level =
            format!("select count(*)::text from pg_stat_replication where flush_lsn >= '{at}'");
        until("both replicas to have it", DEADLINE, async || {
            sql.value(&level).await.ok().flatten().filter(|count| count == "2")
        })
        .await?;
        drill.cluster.switchover(None).await?;
        let leads = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
        let there = waiting.iter().filter(|name| archive.has(name)).count();
        ensure!(there + 10 < waiting.len(), "{leads} led when {there} were archived");
        drill.written().await?;
        fs::remove_file(obstacle)?;
        drill.pause()?;
        drill.cluster.wait_healthy(3, DEADLINE).await?;
        ensure!(!drill.cluster.node(&primary)?.log_contains("begin: rewind"), "{}", drill.logs());
        until("what waited", DEADLINE, async || {
            waiting.iter().all(|name| archive.has(name)).then_some(())
        })
        .await
        .with_context(|| format!("{waiting:?}, {:?}\n{}", archive.list(), drill.logs()))?;
    }
    drill.finish(Loss::None, &["is killed", "cannot be archived"]).await?;
    Ok(())
}
