//! PostgreSQL is sick, not dead: it has not ended, and is of no use.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Options, Sql, freeze_all, title, until};
use serde_json::json;

use super::{ENDED, FENCED, longer_than_a_lease};
use crate::Drill;
use crate::drill::Loss;

/// What the agent of a sick server may say, and those of replicas that lost their stream and ask it
/// for its history: the connection ends when it is fenced.
const ANNOUNCED: [&str; 3] = [FENCED, "PostgreSQL did not answer within", "compare timelines"];

/// A sick primary is replaced by a healthy node, and comes back as a replica of it.
async fn replaced(mut drill: Drill, primary: &str, announced: &[&str]) -> Result<()> {
    drill.cluster.wait_new_primary(primary, DEADLINE).await?;
    drill.written().await?;
    let last = drill.finish(Loss::Some, announced).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn postgresql_of_the_primary_hangs() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    freeze_all(|| drill.cluster.node(&primary).map(|n| n.postgres()).unwrap_or_default())?;
    replaced(drill, &primary, &ANNOUNCED).await
}

/// Connections that are there go on; new ones are not answered.
#[tokio::test]
async fn the_postmaster_of_the_primary_hangs() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let postmaster = drill.postmaster(&primary)?;
    freeze_all(|| vec![postmaster])?;
    replaced(drill, &primary, &ANNOUNCED).await
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
    replaced(drill, &primary, &[&ANNOUNCED[..], &[ENDED]].concat()).await
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

/// The replica that takes over does not get through its promotion: the process that replays WAL
/// hangs. Another one leads instead.
#[tokio::test]
async fn the_promotion_of_a_replica_hangs() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let stuck = drill.other_than(&primary)?;
    let replays = |pid: &u32| title(*pid).is_some_and(|title| title.contains(" startup "));
    freeze_all(|| {
        let postgres = drill.cluster.node(&stuck).map(|node| node.postgres()).unwrap_or_default();
        postgres.into_iter().filter(replays).collect()
    })?;
    // It has all the WAL, so nobody can tell before.
    let wish = json!({ "leader": primary, "candidate": stuck });
    let (cluster, from) = (&drill.cluster, primary.clone());
    let asked = cluster.rest(&from, "POST", "/switchover", Some(&wish));
    let noticed = until("a word of the trouble", DEADLINE, async || {
        let node = cluster.node(&stuck).ok()?;
        node.log_contains("the promotion does not get on").then_some(())
    });
    let (answer, noticed) = tokio::join!(asked, noticed);
    noticed.with_context(|| format!("{answer:?}\n{}", drill.logs()))?;
    let leads = drill.cluster.wait_primary(DEADLINE).await.with_context(|| drill.logs())?;
    ensure!(leads != stuck, "{stuck} leads\n{}", drill.logs());
    drill.written().await?;
    drill.finish(Loss::None, &[FENCED]).await?;
    Ok(())
}
