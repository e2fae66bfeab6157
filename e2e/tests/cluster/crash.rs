//! Programs die on a host that goes on.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Node, until};
use hart_workload::Failure;

use crate::Drill;
use crate::drill::Loss;

const ENDED: &str = "PostgreSQL has ended";
const FENCED: &str = "PostgreSQL was fenced";

#[tokio::test]
async fn a_killed_postmaster_is_started_again_where_it_was() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    let postmaster = |drill: &Drill, name: &str| drill.cluster.node(name).map(Node::postmaster);
    let before = [postmaster(&drill, &replica)?, postmaster(&drill, &primary)?];
    drill.cluster.node(&replica)?.kill_postmaster()?;
    drill.cluster.node(&primary)?.kill_postmaster()?;
    drill.written().await?;
    let last = drill.finish(Loss::None, &[ENDED]).await?;
    for (name, before) in [&replica, &primary].into_iter().zip(before) {
        let after = postmaster(&drill, name)?;
        ensure!(before.is_some() && after.is_some() && after != before, "{name}: {after:?}");
        ensure!(drill.cluster.node(name)?.log_contains(ENDED), "nothing noticed\n{}", drill.logs());
    }
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    ensure!(drill.timeline(&last).await? == 1, "promoted\n{}", drill.logs());
    Ok(())
}

/// An agent is killed and started again, first a replica's, then the primary's: PostgreSQL notices
/// nothing.
#[tokio::test]
async fn an_agent_that_comes_back_in_time_adopts_its_postgresql() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    for name in [&replica, &primary] {
        let node = drill.cluster.node_mut(name)?;
        let before = node.postmaster().context("it runs")?;
        node.kill_agent();
        node.start()?;
        until("the agent's return", DEADLINE, async || {
            let answer = drill.cluster.rest(name, "GET", "/health", None).await;
            answer.is_ok_and(|answer| answer.ok()).then_some(())
        })
        .await?;
        drill.written().await?;
        let node = drill.cluster.node(name)?;
        ensure!(node.postmaster() == Some(before), "restarted\n{}", node.log());
        ensure!(node.log_contains("found PostgreSQL under its guard"), "\n{}", node.log());
    }
    // For longer than a lease lasts.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    drill.written().await?;
    let counts = drill.ledger()?.counts();
    let failed: Vec<_> =
        counts.failures.keys().filter(|failure| **failure != Failure::ReadOnly).collect();
    // Before the first row the table is not there; the writer makes it.
    let undefined_table = Failure::Sql("42P01".into());
    ensure!(
        counts.unknown == 0 && failed.iter().all(|failure| **failure == undefined_table),
        "writing was disturbed: {counts:?}\n{}",
        drill.logs()
    );
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{}", drill.logs());
    Ok(())
}

/// No agent renews the lease: the guard fences, another node leads, and the agent's return makes a
/// replica of it.
async fn abandoned(synchronous: bool) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    let primary = drill.write().await?;
    drill.cluster.node_mut(&primary)?.kill_agent();
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    let node = drill.cluster.node_mut(&primary)?;
    ensure!(node.processes().is_empty(), "{:?} are left of it", node.processes());
    node.start()?;
    let loss = if synchronous { Loss::None } else { Loss::Some };
    let last = drill.finish(loss, &[FENCED]).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn a_primary_without_agent_is_fenced() -> Result<()> {
    abandoned(false).await
}

#[tokio::test]
async fn so_is_one_in_synchronous_mode_and_nothing_is_lost() -> Result<()> {
    abandoned(true).await
}
