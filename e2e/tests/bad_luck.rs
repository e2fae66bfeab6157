//! A base backup that does not get through: nothing half-made is ever started, and it is tried
//! again until it succeeds.

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, Tmpfs, line_after, named, owner_of};
use hart_testkit::{Node, until};
use rustix::process::{Pid, Signal, kill_process};

const START: &str = "begin: start as standby";
const DONE: &str = "base backup: done";

/// Whole data was started, and nothing before it was whole.
fn started_only_when_whole(node: &Node) -> Result<()> {
    let log = node.log();
    let (done, start) = (log.find(DONE), log.find(START));
    ensure!(done.is_some() && done < start, "started before it was whole\n{log}");
    Ok(())
}

/// The data directory is known not to be whole, and nothing runs in it.
fn half_made(node: &Node) -> bool {
    node.data_dir().with_extension("hart").join("creating").exists() && node.postmaster().is_none()
}

#[tokio::test]
async fn a_wrong_replication_password_is_named_and_tried_again() -> Result<()> {
    let mut local = Local::primary_and_spare().await?;
    let spare = local.node_mut("n2")?;
    spare.config_mut().replication_password = "mistaken".into();
    spare.start()?;
    let refused = "refused user \"replicator\" (password authentication failed)";
    let spare = local.node("n2")?;
    until("two refusals", DEADLINE, async || {
        (spare.log().matches(refused).count() >= 2).then_some(())
    })
    .await
    .with_context(|| local.logs())?;
    assert!(half_made(spare), "{}", spare.log());
    assert!(spare.log_contains("postgresql.authentication"), "what to do\n{}", spare.log());
    assert!(!spare.log_contains("mistaken"), "a password is a secret");

    local.sql("n1", "alter role replicator password 'mistaken'").await?;
    assert_eq!(local.wait_healthy(2).await?, "n1");
    started_only_when_whole(local.node("n2")?)?;
    assert_eq!(local.node("n2")?.unexpected_lines(&[refused]), [""; 0]);

    // Later, while it runs: the password is changed, and the connection breaks.
    local.sql("n1", "alter role replicator password 'another'").await?;
    local.sql("n1", "select pg_terminate_backend(pid) from pg_stat_replication").await?;
    let silent = "PostgreSQL gets no WAL from the leader";
    line_after(local.node("n2")?, 0, silent).await?;
    let failed = "password authentication failed for user \"replicator\"";
    assert!(local.node("n2")?.log_contains(failed), "{}", local.logs());
    local.sql("n1", "alter role replicator password 'mistaken'").await?;
    assert_eq!(local.wait_healthy(2).await?, "n1");
    line_after(local.node("n2")?, 0, "gets WAL from the leader again").await?;
    assert_eq!(local.node("n2")?.unexpected_lines(&[refused, silent]), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_base_backup_that_is_broken_off_is_made_again() -> Result<()> {
    let mut local = Local::primary_and_spare().await?;
    let spare = local.node_mut("n2")?;
    // Slow enough to be caught.
    let yaml = spare.config().render();
    let yaml = yaml.replace("  pgpass:", "  basebackup: [{max-rate: 8M}]\n  pgpass:");
    spare.start_with(&yaml)?;
    let base = spare.data_dir().join("base");
    until("some of the data", DEADLINE, async || base.exists().then_some(()))
        .await
        .with_context(|| local.logs())?;

    let spare = local.node("n2")?;
    let programs = named("pg_basebackup", &spare.processes());
    ensure!(!programs.is_empty(), "no pg_basebackup\n{}", spare.log());
    for program in programs {
        let pid = Pid::from_raw(i32::try_from(program)?).context("pid")?;
        let _ = kill_process(pid, Signal::KILL);
    }
    line_after(spare, 0, "base backup: pg_basebackup failed").await?;
    assert!(half_made(spare), "{}", spare.log());

    assert_eq!(local.wait_healthy(2).await?, "n1");
    let spare = local.node("n2")?;
    started_only_when_whole(spare)?;
    assert_eq!(spare.log().matches("begin: base backup").count(), 2, "{}", spare.log());
    assert_eq!(spare.unexpected_lines(&["base backup: pg_basebackup failed"]), [""; 0]);
    Ok(())
}

/// Its reader stands still, so a write to it does, too.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    let path = local.node("n1")?.log_path();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )?;
    // Both ends, so that neither the agent nor this waits for the other to open it.
    let mut pipe = std::fs::File::options().read(true).write(true).open(&path)?;
    rustix::io::ioctl_fionbio(&pipe, true)?;
    while std::io::Write::write(&mut pipe, &[b'x'; 4096]).is_ok() {}
    while std::io::Write::write(&mut pipe, b"x").is_ok() {}
    let node = local.node_mut("n1")?;
    let owner = owner_of(node.home())?;
    std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1))?;
    node.start()?;
    until("a primary", DEADLINE, async || local.primary().await.ok()).await?;
    let beat = async || -> Result<i64> {
        let status: serde_json::Value = serde_json::from_str(&local.key("status").await?)?;
        status["lease"]["beat"].as_i64().context("no beat")
    };
    let first = beat().await?;
    until("ten renewals", DEADLINE, async || {
        beat().await.ok().filter(|beat| *beat >= first + 10).map(drop)
    })
    .await?;
    assert_eq!(local.primary().await?, "n1");
    Ok(())
}

#[tokio::test]
async fn a_full_disk_is_named_and_tried_again() -> Result<()> {
    let mut local = Local::primary_and_spare().await?;
    let data = local.node("n2")?.data_dir();
    std::fs::create_dir(&data)?;
    let disk = Tmpfs::mount(&data, 12, owner_of(local.node("n2")?.home())?)?;
    local.node_mut("n2")?.start()?;
    let full = "no space left on the device";
    let spare = local.node("n2")?;
    until("two failures", DEADLINE, async || {
        (spare.log().matches(full).count() >= 2).then_some(())
    })
    .await
    .with_context(|| local.logs())?;
    assert!(half_made(spare), "{}", spare.log());
    assert!(spare.log_contains(&data.display().to_string()), "{}", spare.log());

    disk.resize(1024)?;
    assert_eq!(local.wait_healthy(2).await?, "n1");
    let spare = local.node_mut("n2")?;
    started_only_when_whole(spare)?;
    assert_eq!(spare.unexpected_lines(&[full]), [""; 0]);
    // Before the disk is taken away.
    spare.kill_all()
}
