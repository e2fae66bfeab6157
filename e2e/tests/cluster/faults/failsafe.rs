//! Consul is gone. The primary goes on while every member promises not to take the lease.

use std::time::Duration;

use anyhow::{Result, ensure};
use hart_e2e::{DEADLINE, line_after};

use super::{AWAY, FENCED, longer_than_a_lease};
use crate::Drill;
use crate::drill::Loss;

/// What the agents may say meanwhile.
const ANNOUNCED: [&str; 4] = [AWAY, "Consul", "lease", "failsafe"];

/// As long as several leases, and longer than Consul's least session.
const WHILE: Duration = Duration::from_secs(25);

#[tokio::test]
async fn consul_is_down_altogether() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let before = drill.postmasters()?;
    drill.cluster.kill_consul();
    tokio::time::sleep(WHILE).await;
    drill.written().await?;
    drill.cluster.start_consul().await?;
    longer_than_a_lease().await;
    drill.written().await?;
    drill.undisturbed()?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    ensure!(drill.postmasters()? == before, "PostgreSQL was restarted\n{}", drill.logs());
    Ok(())
}

/// Who cannot be asked may have taken the lease.
#[tokio::test]
async fn a_replica_is_lost_while_consul_is_down() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    drill.cluster.kill_consul();
    longer_than_a_lease().await;
    drill.written().await?;
    let from = drill.cluster.node(&primary)?.log().len();
    drill.cluster.kill_node(&replica)?;
    longer_than_a_lease().await;
    let node = drill.cluster.node(&primary)?;
    line_after(node, from, &replica).await?;
    ensure!(drill.cluster.primary().await.is_err(), "it leads\n{}", drill.logs());
    drill.cluster.mend().await?;
    drill.written().await?;
    drill.finish(Loss::Some, &[FENCED, AWAY, "Consul", "lease", "failsafe"]).await?;
    Ok(())
}

/// The peers agree, and they are all that could lead.
#[tokio::test]
async fn the_primary_is_cut_off_from_consul_alone() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    drill.cluster.part_from_consul(&primary)?;
    tokio::time::sleep(WHILE).await;
    drill.written().await?;
    drill.cluster.mend().await?;
    longer_than_a_lease().await;
    drill.written().await?;
    drill.undisturbed()?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    Ok(())
}

/// The cable is pulled: clients on its host can still reach it, and it reaches nobody.
async fn cut_off(synchronous: bool) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    let primary = drill.write().await?;
    let host = drill.cluster.host(&primary)?;
    drill.cluster.lab().cut(&host)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    ensure!(drill.ledger()?.current_node().as_deref() != Some(&*primary), "it goes on writing");
    drill.cluster.mend().await?;
    let loss = if synchronous { Loss::None } else { Loss::Some };
    let last = drill.finish(loss, &[FENCED, AWAY, "failsafe", "lease"]).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    let copies = drill.cluster.node(&primary)?.log().matches("begin: base backup").count();
    ensure!(copies <= 1, "it was copied anew\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn the_primary_is_cut_off_from_everybody() -> Result<()> {
    cut_off(false).await
}

#[tokio::test]
async fn the_primary_is_cut_off_from_everybody_synchronous() -> Result<()> {
    cut_off(true).await
}

/// Consul reaches everybody, so nothing has happened as far as the lease is concerned.
#[tokio::test]
async fn the_primary_is_cut_off_from_its_peers_alone() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    drill.cluster.part_from_peers(&primary)?;
    longer_than_a_lease().await;
    drill.written().await?;
    drill.cluster.mend().await?;
    drill.undisturbed()?;
    let announced = ["gets no WAL from the leader", "streaming"];
    let last = drill.finish(Loss::None, &announced).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    Ok(())
}
