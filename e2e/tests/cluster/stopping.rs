//! Agents are stopped in good order, one and all; and all lose their power.

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Node, eventually};

use crate::Drill;
use crate::drill::Loss;
use crate::keys::members_in_service;

/// A stopped agent leaves nothing behind.
async fn gone(drill: &mut Drill, name: &str) -> Result<()> {
    let node = drill.cluster.node(name)?;
    ensure!(node.processes().is_empty(), "{:?} are left of {name}", node.processes());
    eventually("the end of its registration", DEADLINE, async || {
        let members = members_in_service(drill.cluster.consul()).await?;
        ensure!(!members.contains_key(name), "{members:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stopped_agent_stops_its_postgresql_and_hands_over_first() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    let status = drill.cluster.node_mut(&replica)?.stop()?;
    ensure!(status.success(), "{status}");
    drill.written().await?;
    gone(&mut drill, &replica).await?;
    drill.cluster.node_mut(&replica)?.start()?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;

    let status = drill.cluster.node_mut(&primary)?.stop()?;
    ensure!(status.success(), "{status}");
    drill.written().await?;
    let node = drill.cluster.node(&primary)?;
    ensure!(node.log_contains("handing the lease over to"), "no hand-over\n{}", node.log());
    gone(&mut drill, &primary).await?;
    drill.cluster.node_mut(&primary)?.start()?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    let node = drill.cluster.node(&primary)?;
    ensure!(!node.log_contains("begin: rewind"), "rewound\n{}", node.log());
    Ok(())
}

/// All agents stop at the same time, and start at the same time.
#[tokio::test]
async fn a_whole_cluster_stops_and_starts() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    drill.write().await?;
    drill.pause()?;
    for name in ["n1", "n2", "n3"] {
        drill.cluster.node_mut(name)?.agent()?.signal(rustix::process::Signal::TERM)?;
    }
    for name in ["n1", "n2", "n3"] {
        let node = drill.cluster.node_mut(name)?;
        let status = node.stop()?;
        ensure!(status.success() && node.processes().is_empty(), "{status}\n{}", node.log());
    }
    drill.cluster.start_nodes()?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    drill.write().await?;
    drill.finish(Loss::None, &[]).await?;
    Ok(())
}

/// Every process of every node is killed at the same time.
async fn power_failure(synchronous: bool) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    drill.write().await?;
    for name in ["n1", "n2", "n3"] {
        drill.cluster.node_mut(name)?.kill_all()?;
    }
    let silent = drill.cluster.nodes().iter().all(|node: &Node| node.postmaster().is_none());
    ensure!(silent, "somebody lives");
    drill.cluster.start_nodes()?;
    drill.written().await?;
    drill.finish(Loss::None, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_whole_cluster_survives_a_power_failure() -> Result<()> {
    power_failure(false).await
}

#[tokio::test]
async fn so_does_a_synchronous_one() -> Result<()> {
    power_failure(true).await
}
