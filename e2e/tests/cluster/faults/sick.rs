//! PostgreSQL is sick, not dead: it has not ended, and is of no use.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Tmpfs, owner_of, run_program};
use hart_testkit::{Options, Sql, freeze_all, until};

use super::{ENDED, FENCED, GUARD_LATE, NO_GUARD, longer_than_a_lease};
use crate::Drill;
use crate::drill::Loss;

/// What the agent of a sick server may say.
const ANNOUNCED: [&str; 7] =
    [FENCED, NO_GUARD, GUARD_LATE, ENDED, "does not answer", "connections", "PostgreSQL"];

/// A sick primary is replaced by a healthy node, and comes back as a replica of it.
async fn replaced(mut drill: Drill, primary: &str) -> Result<()> {
    drill.cluster.wait_new_primary(primary, DEADLINE).await?;
    drill.written().await?;
    let last = drill.finish(Loss::Some, &ANNOUNCED).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn postgresql_of_the_primary_hangs() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    freeze_all(|| drill.cluster.node(&primary).map(|n| n.postgres()).unwrap_or_default())?;
    replaced(drill, &primary).await
}

/// Connections that are there go on; new ones are not answered.
#[tokio::test]
async fn the_postmaster_of_the_primary_hangs() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let postmaster = drill.postmaster(&primary)?;
    freeze_all(|| vec![postmaster])?;
    replaced(drill, &primary).await
}

/// It hangs as soon as it is up again, before anybody has had time to find it well.
#[tokio::test]
async fn postgresql_of_the_primary_hangs_after_its_restart() -> Result<()> {
    let options = Options::default().dcs("primary_start_timeout", 20);
    let mut drill = Drill::with(&options).await?;
    let primary = drill.write().await?;
    drill.cluster.node(&primary)?.kill_postmaster()?;
    until("an answer of PostgreSQL", DEADLINE, async || drill.cluster.sql(&primary).await.ok())
        .await
        .with_context(|| drill.logs())?;
    freeze_all(|| drill.cluster.node(&primary).map(|n| n.postgres()).unwrap_or_default())?;
    replaced(drill, &primary).await
}

/// It hangs when it is to be stopped: the ladder of the demotion ends with a kill.
#[tokio::test]
async fn postgresql_hangs_when_the_agent_is_stopped() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    freeze_all(|| drill.cluster.node(&primary).map(|n| n.postgres()).unwrap_or_default())?;
    drill.stop(&primary).await?;
    drill.written().await?;
    drill.cluster.node_mut(&primary)?.start()?;
    drill.finish(Loss::Some, &ANNOUNCED).await?;
    Ok(())
}

/// All places for clients are taken. That is no sickness.
#[tokio::test]
async fn the_connections_of_the_primary_are_all_taken() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let config = drill.cluster.node(&primary)?.sql_config();
    let mut taken = Vec::new();
    let refused = loop {
        match Sql::connect(&config).await {
            Ok(one) => taken.push(one),
            Err(error) => break error,
        }
        ensure!(taken.len() < 1000, "there is no end of connections");
    };
    let refused = format!("{refused:#}");
    ensure!(refused.contains("too many"), "{refused}");
    for _ in 0..3 {
        longer_than_a_lease().await;
    }
    drill.written().await?;
    drill.undisturbed()?;
    drop(taken);
    let last = drill.finish(Loss::None, &["connections"]).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    Ok(())
}

/// PostgreSQL panics when it cannot make the next segment of WAL.
#[tokio::test]
async fn the_disk_of_the_primarys_wal_is_full() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let replica = {
        let primary = drill.cluster.wait_primary(DEADLINE).await?;
        drill.other_than(&primary)?
    };
    let disk = small_disk(&mut drill, &replica)?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    drill.cluster.switchover(Some(&replica)).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let primary = drill.write().await?;
    ensure!(primary == replica, "{primary} leads");

    let filler = drill.cluster.node(&primary)?.data_dir().join("pg_wal/filler");
    fill(&filler)?;
    until("another primary", DEADLINE, async || {
        // The next segment, and the next.
        if let Ok(sql) = drill.cluster.sql(&primary).await {
            let _ = sql.value("select pg_switch_wal()").await;
        }
        let found = drill.cluster.primary().await.ok()?;
        (found != primary).then_some(())
    })
    .await
    .with_context(|| drill.logs())?;
    drill.written().await?;
    std::fs::remove_file(&filler)?;
    let last = drill.finish(Loss::Some, &ANNOUNCED).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    // Before the disk is taken away.
    drill.cluster.node_mut(&primary)?.kill_all()?;
    drop(disk);
    Ok(())
}

/// Moves a stopped replica's WAL to a small disk, and starts it again.
fn small_disk(drill: &mut Drill, name: &str) -> Result<Tmpfs> {
    let node = drill.cluster.node_mut(name)?;
    node.stop()?;
    let wal = node.data_dir().join("pg_wal");
    let aside = node.home().join("aside");
    run_program(Command::new("cp").arg("-a").arg(&wal).arg(&aside))?;
    let disk = Tmpfs::mount(&wal, 256, owner_of(&wal)?)?;
    run_program(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&wal))?;
    node.start()?;
    Ok(disk)
}

/// Writes until there is no room left.
fn fill(path: &std::path::Path) -> Result<()> {
    let mut file = File::create(path)?;
    let block = vec![0; 65_536];
    for size in [block.len(), 512] {
        while file.write_all(&block[..size]).is_ok() {}
    }
    Ok(())
}
