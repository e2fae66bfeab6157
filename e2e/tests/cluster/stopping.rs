//! Agents are stopped in good order, one and all; and all lose their power.

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::Node;

use crate::Drill;
use crate::drill::Loss;

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
