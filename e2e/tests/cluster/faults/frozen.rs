//! Nobody is awake on the primary who could fence it. Synchronous replication keeps the promise then:
//! what the sleeper writes has nobody to confirm it.

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, freeze_all, thaw};

use super::{AWAY, ENDED, FENCED, GUARD_LATE};
use crate::Drill;
use crate::drill::Loss;

/// What a node that wakes up may say.
const ANNOUNCED: [&str; 6] = [FENCED, GUARD_LATE, ENDED, AWAY, "the lease", "guard"];

/// Agent and guard.
fn keepers(cluster: &Cluster, name: &str) -> Vec<u32> {
    let Ok(node) = cluster.node(name) else { return Vec::new() };
    let postgres = node.postgres();
    node.processes().into_iter().filter(|pid| !postgres.contains(pid)).collect()
}

#[tokio::test]
async fn agent_and_guard_of_the_primary_hang() -> Result<()> {
    keepers_hang(Drill::synchronous().await?).await
}

/// Enough standbys have turned away from the sleeper before another one leads.
#[tokio::test]
async fn agent_and_guard_of_the_primary_of_a_quorum_hang() -> Result<()> {
    keepers_hang(Drill::quorum().await?).await
}

async fn keepers_hang(mut drill: Drill) -> Result<()> {
    let primary = drill.write().await?;
    freeze_all(|| keepers(&drill.cluster, &primary))?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    let node = drill.cluster.node(&primary)?;
    ensure!(node.postmaster().is_some(), "nobody was there to fence it\n{}", node.log());
    thaw(&keepers(&drill.cluster, &primary));
    drill.written().await?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    Ok(())
}

/// As a virtual machine that is paused and goes on.
#[tokio::test]
async fn the_node_of_the_primary_is_frozen_and_resumed() -> Result<()> {
    let mut drill = Drill::synchronous().await?;
    let primary = drill.write().await?;
    drill.cluster.freeze_node(&primary)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.thaw_node(&primary)?;
    drill.written().await?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    Ok(())
}
