//! What fails on a replica: nobody who writes notices.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::until;

use super::{AWAY, ENDED, longer_than_a_lease};
use crate::Drill;
use crate::drill::Loss;

#[tokio::test]
async fn postgresql_dies_on_a_replica() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let replica = drill.other_than(&primary)?;
    let before = drill.postmaster(&replica)?;
    drill.cluster.node(&replica)?.kill_postmaster()?;
    drill.written().await?;
    drill.undisturbed()?;
    let last = drill.finish(Loss::None, &[ENDED]).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{}", drill.logs());
    ensure!(drill.postmaster(&replica)? != before, "not started again\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn the_agent_of_a_replica_is_stopped() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let replica = drill.other_than(&primary)?;
    drill.stop(&replica).await?;
    drill.written().await?;
    drill.undisturbed()?;
    drill.cluster.node_mut(&replica)?.start()?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{}", drill.logs());
    let node = drill.cluster.node(&replica)?;
    ensure!(node.log().matches("begin: base backup").count() == 1, "copied\n{}", node.log());
    Ok(())
}

/// PostgreSQL stays up, and the agent adopts it when it is back.
#[tokio::test]
async fn the_agent_of_a_replica_crashes() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let replica = drill.other_than(&primary)?;
    let before = drill.postmaster(&replica)?;
    drill.cluster.node_mut(&replica)?.kill_agent();
    longer_than_a_lease().await;
    drill.written().await?;
    let sql = drill.cluster.sql(&replica).await?;
    let status = sql.value("select status from pg_stat_wal_receiver").await?;
    ensure!(status.as_deref() == Some("streaming"), "{status:?}\n{}", drill.logs());
    drill.undisturbed()?;
    drill.cluster.node_mut(&replica)?.start()?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{}", drill.logs());
    ensure!(drill.postmaster(&replica)? == before, "restarted\n{}", drill.logs());
    let node = drill.cluster.node(&replica)?;
    ensure!(node.log_contains("found PostgreSQL under its guard"), "\n{}", node.log());
    Ok(())
}

/// It goes on streaming and answering reads.
#[tokio::test]
async fn a_replica_is_cut_off_from_consul() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let replica = drill.other_than(&primary)?;
    let before = drill.postmaster(&replica)?;
    drill.cluster.part_from_consul(&replica)?;
    longer_than_a_lease().await;
    drill.written().await?;
    let sql = drill.cluster.sql(&replica).await?;
    let status = sql.value("select status from pg_stat_wal_receiver").await?;
    ensure!(status.as_deref() == Some("streaming"), "{status:?}\n{}", drill.logs());
    drill.undisturbed()?;
    drill.cluster.mend().await?;
    let last = drill.finish(Loss::None, &[AWAY]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    ensure!(drill.postmaster(&replica)? == before, "restarted\n{}", drill.logs());
    Ok(())
}

/// The old primary, and the replica that was not chosen, follow the new one. The latter as it is.
#[tokio::test]
async fn a_promotion_is_followed_without_a_restart() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let candidate = drill.other_than(&primary)?;
    let third = ["n1", "n2", "n3"].into_iter().find(|name| *name != primary && *name != candidate);
    let third = third.context("three nodes")?;
    let before = drill.postmaster(third)?;
    drill.cluster.switchover(Some(&candidate)).await?;
    drill.written().await?;
    let streams = async || {
        let streaming = drill.cluster.streaming(&candidate).await.ok()?;
        (streaming.len() == 2).then_some(())
    };
    until("both follow the new primary", DEADLINE, streams).await.with_context(|| drill.logs())?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == candidate, "{last} leads\n{}", drill.logs());
    ensure!(drill.postmaster(third)? == before, "restarted\n{}", drill.logs());
    Ok(())
}
