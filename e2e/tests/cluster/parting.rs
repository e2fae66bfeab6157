//! The primary's cable is pulled. Clients on its host can still reach it.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;

use crate::Drill;
use crate::drill::Loss;

/// What the agent on the far side says.
const ANNOUNCED: [&str; 2] = ["PostgreSQL was fenced", "Consul cannot be read"];

async fn cut_off(synchronous: bool) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    let primary = drill.write().await?;
    let host = drill.cluster.node(&primary)?.host().context("it has a host")?.clone();
    drill.cluster.lab().cut(&host)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    ensure!(drill.ledger()?.current_node().as_deref() != Some(&*primary), "it goes on writing");
    drill.cluster.lab().heal(&host)?;
    let loss = if synchronous { Loss::None } else { Loss::Some };
    let last = drill.finish(loss, &ANNOUNCED).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    let node = drill.cluster.node(&primary)?;
    ensure!(
        !node.log_contains("begin: base backup") || node.log_contains("begin: initdb") || {
            node.log().matches("begin: base backup").count() == 1
        },
        "it was copied anew\n{}",
        node.log()
    );
    Ok(())
}

#[tokio::test]
async fn a_primary_that_is_cut_off_is_fenced_before_another_leads() -> Result<()> {
    cut_off(false).await
}

#[tokio::test]
async fn so_is_one_in_synchronous_mode_and_nothing_is_lost() -> Result<()> {
    cut_off(true).await
}

/// A replica that cannot reach Consul goes on streaming and answering reads.
#[tokio::test]
async fn a_replica_without_consul_goes_on() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    let host = drill.cluster.node(&replica)?.host().context("it has a host")?.clone();
    let before = drill.cluster.node(&replica)?.postmaster();
    let consul = drill.cluster.lab().host("consul")?.clone();
    drill.cluster.lab().partition(&host, &consul)?;
    // For longer than a lease and a session last.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    drill.written().await?;
    let sql = drill.cluster.sql(&replica).await?;
    let status = sql.value("select status from pg_stat_wal_receiver").await?;
    ensure!(status.as_deref() == Some("streaming"), "{status:?}\n{}", drill.logs());
    drill.cluster.lab().unite(&host, &consul)?;
    let last = drill.finish(Loss::None, &["Consul cannot be read"]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    ensure!(drill.cluster.node(&replica)?.postmaster() == before, "restarted\n{}", drill.logs());
    Ok(())
}
