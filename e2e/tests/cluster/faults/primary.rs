//! What fails on the primary while its host goes on.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Options, until};
use rustix::process::Signal;

use super::{AWAY, ENDED, FENCED, longer_than_a_lease, signal};
use crate::Drill;
use crate::drill::Loss;

#[tokio::test]
async fn postgresql_dies_on_the_primary() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let before = drill.postmaster(&primary)?;
    drill.cluster.node(&primary)?.kill_postmaster()?;
    drill.written().await?;
    let last = drill.finish(Loss::None, &[ENDED]).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{}", drill.logs());
    ensure!(drill.postmaster(&primary)? != before, "not started again\n{}", drill.logs());
    Ok(())
}

/// It dies and does not come up again: another one leads, though agent and host are well.
#[tokio::test]
async fn postgresql_dies_on_the_primary_and_cannot_start_again() -> Result<()> {
    let options = Options::default().dcs("primary_start_timeout", 2);
    let mut drill = Drill::with(&options).await?;
    let primary = drill.write().await?;
    let wal = drill.cluster.node(&primary)?.data_dir().join("pg_wal");
    let mode = |mode| std::fs::set_permissions(&wal, PermissionsExt::from_mode(mode));
    mode(0o000)?;
    drill.cluster.node(&primary)?.kill_postmaster()?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    mode(0o700)?;
    let announced = [ENDED, "start as", "PostgreSQL", "pg_wal"];
    let last = drill.finish(Loss::Some, &announced).await?;
    ensure!(last != primary, "{last} leads\n{}", drill.logs());
    Ok(())
}

/// The lease is handed over: the next one does not wait for its end.
#[tokio::test]
async fn the_agent_of_the_primary_is_stopped() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    drill.stop(&primary).await?;
    drill.written().await?;
    let node = drill.cluster.node(&primary)?;
    ensure!(node.log_contains("handing the lease over to"), "no hand-over\n{}", node.log());
    drill.cluster.node_mut(&primary)?.start()?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    let node = drill.cluster.node(&primary)?;
    ensure!(!node.log_contains("begin: rewind"), "rewound\n{}", node.log());
    Ok(())
}

/// Nobody who writes notices.
#[tokio::test]
async fn the_agent_of_the_primary_crashes_and_is_back_in_time() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let before = drill.postmaster(&primary)?;
    let node = drill.cluster.node_mut(&primary)?;
    node.kill_agent();
    node.start()?;
    until("the agent's return", DEADLINE, async || {
        let answer = drill.cluster.rest(&primary, "GET", "/health", None).await;
        answer.is_ok_and(|answer| answer.ok()).then_some(())
    })
    .await?;
    longer_than_a_lease().await;
    drill.written().await?;
    drill.undisturbed()?;
    ensure!(drill.postmaster(&primary)? == before, "restarted\n{}", drill.logs());
    let node = drill.cluster.node(&primary)?;
    ensure!(node.log_contains("found PostgreSQL under its guard"), "\n{}", node.log());
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{}", drill.logs());
    Ok(())
}

/// How the agent ceases to renew the lease.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Silence {
    Killed,
    Hanging,
}

/// No agent renews the lease: the guard fences, another node leads, and the agent's return makes a
/// replica of it.
async fn silent(silence: Silence, synchronous: bool) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    let primary = drill.write().await?;
    match silence {
        Silence::Killed => drill.cluster.node_mut(&primary)?.kill_agent(),
        Silence::Hanging => drill.cluster.node_mut(&primary)?.agent()?.freeze()?,
    }
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    let node = drill.cluster.node_mut(&primary)?;
    ensure!(node.postgres().is_empty(), "{:?} are left of it", node.postgres());
    match silence {
        Silence::Killed => node.start()?,
        Silence::Hanging => node.agent()?.thaw()?,
    }
    let loss = if synchronous { Loss::None } else { Loss::Some };
    let announced = [FENCED, AWAY, "the lease"];
    let last = drill.finish(loss, &announced).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn the_agent_of_the_primary_crashes_and_stays_away() -> Result<()> {
    silent(Silence::Killed, false).await
}

#[tokio::test]
async fn the_agent_of_the_primary_crashes_and_stays_away_synchronous() -> Result<()> {
    silent(Silence::Killed, true).await
}

#[tokio::test]
async fn the_agent_of_the_primary_hangs() -> Result<()> {
    silent(Silence::Hanging, false).await
}

/// The guard's death is PostgreSQL's, and no failover.
#[tokio::test]
async fn the_guard_of_the_primary_is_killed() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let guard = drill.cluster.node(&primary)?.guard();
    let Some(guard) = guard else { anyhow::bail!("no guard\n{}", drill.logs()) };
    signal(guard, Signal::KILL)?;
    drill.written().await?;
    let last = drill.finish(Loss::None, &[ENDED, "guard"]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    Ok(())
}
