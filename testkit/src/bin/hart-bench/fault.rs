//! The faults of the scenarios, each from its beginning until its consequences are over.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use hart_testkit::{Cluster, Writers, freeze_all, until};

use crate::scenario::Scenario;

/// For the writers to be acknowledged again after a fault.
const RESUMED: Duration = Duration::from_secs(90);

/// Rows after it, three seconds of them, so that an old primary that goes on is seen.
const AFTER: u64 = 300;

/// Rows of longer than a lease.
const LONG: u64 = 600;

/// How long Consul is away, and how long agent and guard are frozen.
const AWAY: Duration = Duration::from_secs(60);
const FROZEN: Duration = Duration::from_secs(30);

/// Does it, and waits until it is certain what came of it. What can be mended from outside may be left
/// to the caller.
pub(crate) async fn happen(
    scenario: Scenario,
    cluster: &mut Cluster,
    primary: &str,
    writers: &Writers,
) -> Result<()> {
    match scenario {
        Scenario::Switchover | Scenario::SyncSwitchover => cluster.switchover(None).await?,
        Scenario::Crash => cluster.node(primary)?.kill_postmaster()?,
        Scenario::AgentStopped => {
            cluster.node_mut(primary)?.stop()?;
        }
        Scenario::NodeLost
        | Scenario::SyncNodeLost
        | Scenario::RevokeNodeLost
        | Scenario::RevokeNodeLostTtl15 => {
            cluster.kill_node(primary)?;
            replaced(cluster, primary).await?;
        }
        Scenario::ResolverLost => {
            cluster.dns()?.freeze()?;
            cluster.kill_node(primary)?;
            replaced(cluster, primary).await?;
        }
        Scenario::Partition | Scenario::RevokePartition => {
            cluster.lab().cut(&cluster.host(primary)?)?;
            replaced(cluster, primary).await?;
        }
        Scenario::AgentKilled => {
            cluster.node_mut(primary)?.kill_agent();
            replaced(cluster, primary).await?;
        }
        Scenario::AgentRestarted => {
            let node = cluster.node_mut(primary)?;
            node.kill_agent();
            node.start()?;
            acknowledged(writers, LONG).await?;
        }
        Scenario::KeepersFrozen | Scenario::SyncKeepersFrozen => {
            freeze_all(|| keepers(cluster, primary))?;
            replaced(cluster, primary).await?;
            tokio::time::sleep(FROZEN).await;
            hart_testkit::thaw(&keepers(cluster, primary));
        }
        Scenario::NodeFrozen | Scenario::NodeFrozenTtl10 | Scenario::NodeFrozenTtl20 => {
            cluster.freeze_node(primary)?;
            replaced(cluster, primary).await?;
            acknowledged(writers, AFTER).await?;
            cluster.thaw_node(primary)?;
        }
        Scenario::ConsulDown => {
            cluster.kill_consul();
            tokio::time::sleep(AWAY).await;
            cluster.start_consul().await?;
            acknowledged(writers, LONG).await?;
        }
        Scenario::ConsulLeader => {
            let leader = cluster.consul_leader(RESUMED).await?;
            cluster.servers()[leader].kill();
            acknowledged(writers, LONG).await?;
        }
        Scenario::SyncHang => {
            freeze_all(|| cluster.node(primary).map(|node| node.postgres()).unwrap_or_default())?;
            replaced(cluster, primary).await?;
        }
        Scenario::Up | Scenario::Memory | Scenario::Rest => {
            bail!("{} makes no outage", scenario.name())
        }
    }
    acknowledged(writers, AFTER).await
}

async fn replaced(cluster: &Cluster, primary: &str) -> Result<()> {
    cluster.wait_new_primary(primary, RESUMED).await.map(drop)
}

/// Agent and guard of a node.
fn keepers(cluster: &Cluster, name: &str) -> Vec<u32> {
    let Ok(node) = cluster.node(name) else { return Vec::new() };
    let postgres = node.postgres();
    node.processes().into_iter().filter(|pid| !postgres.contains(pid)).collect()
}

/// Waits for `more` acknowledged rows.
pub(crate) async fn acknowledged(writers: &Writers, more: u64) -> Result<()> {
    let enough = writers.ledger().counts().acknowledged + more;
    until("acknowledged rows", RESUMED, async || {
        (writers.ledger().counts().acknowledged >= enough).then_some(())
    })
    .await
    .with_context(|| format!("the writers met {:?}", writers.ledger().counts().failures))
}
